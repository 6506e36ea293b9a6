package test

import (
	"bufio"
	endian "encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Fieldgate is killed while messages of QoS 1 and 2 are under way between persistent sessions that are connected. Clients that keep their own side of
// the session, as MQTT 3.1.1 §4.1 and §4.4 ask of them, number what they publish: what was acknowledged arrives, and at QoS 2 once.
func TestKillMQTT(t *testing.T) {
	t.Parallel() // it mostly waits
	rounds := soakRounds(t, 6, 2)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	n := newNode(t, nil)
	n.start()
	n.run("api", "publish", writeDocument(t, "clients.yaml", clientsContract))
	app := n.run("app", "add", "ear", "--quiet")
	var flows []*numberedFlow
	for qos := byte(1); qos <= 2; qos++ {
		device := fmt.Sprint("k", qos)
		flows = append(flows, &numberedFlow{qos: qos, unacknowledged: map[uint16]*numbered{}, held: map[uint16]bool{}, heard: map[int]int{}, topic: "c/" + device + "/up",
			publisher:  sessionClient{n: n, id: device, user: device, secret: n.run("device", "add", device, "--quiet")},
			subscriber: sessionClient{n: n, id: "ear-" + device, user: "ear", secret: app}})
	}
	var running sync.WaitGroup
	open := func(first bool) {
		for _, f := range flows {
			f.open(t, first)
			running.Go(f.hear)
			running.Go(f.acknowledged)
			running.Go(f.send)
		}
	}
	open(true)
	for round := range rounds {
		for _, f := range flows {
			f.sending.Store(true)
		}
		time.Sleep(time.Duration(200+random.IntN(600)) * time.Millisecond)
		n.kill()
		for _, f := range flows {
			f.sending.Store(false)
		}
		running.Wait()
		n.start()
		open(false)
		for _, f := range flows {
			f.check(t, round)
		}
		if t.Failed() {
			break
		}
	}
	for _, f := range flows {
		t.Logf("QoS %d, %d kills: %d messages acknowledged, %d came again", f.qos, rounds, len(f.done), f.again)
		if len(f.done) < 10*rounds {
			t.Error("there was hardly any load")
		}
		f.publisher.close()
		f.subscriber.close()
	}
	running.Wait()
}

const killWindow = 50 // messages of a publisher that are under way

// numbered is a message that the publisher keeps until the broker has it.
type numbered struct {
	number   int
	released bool // PUBREC has come
}

// numberedFlow is a publisher and a subscriber with their sides of two sessions.
type numberedFlow struct {
	qos                   byte
	topic                 string
	publisher, subscriber sessionClient
	sending               atomic.Bool

	mu             sync.Mutex
	sent           int
	identifier     uint16
	unacknowledged map[uint16]*numbered
	done           []int           // numbers that the broker has acknowledged
	held           map[uint16]bool // identifiers that the subscriber has got at QoS 2, and that are not released
	heard          map[int]int
	again          int
}

// open connects both, and sends again what is not acknowledged.
func (f *numberedFlow) open(t *testing.T, first bool) {
	t.Helper()
	for _, c := range []*sessionClient{&f.subscriber, &f.publisher} {
		present, err := c.connect()
		if err != nil {
			t.Fatal(err)
		}
		if present == first {
			t.Errorf("%s: the session is there: %v", c.id, present)
		}
	}
	if first {
		body := append(appendText([]byte{0, 1}, f.topic), f.qos)
		f.subscriber.write(0x82, body)
		if kind, body, err := f.subscriber.read(); err != nil || kind != 0x90 || body[2] != f.qos {
			t.Fatalf("SUBACK: %x %x %v", kind, body, err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	identifiers := make([]uint16, 0, len(f.unacknowledged))
	for identifier := range f.unacknowledged {
		identifiers = append(identifiers, identifier)
	}
	slices.SortFunc(identifiers, func(a, b uint16) int { return f.unacknowledged[a].number - f.unacknowledged[b].number })
	for _, identifier := range identifiers {
		if m := f.unacknowledged[identifier]; m.released {
			f.publisher.write(0x62, endian.BigEndian.AppendUint16(nil, identifier))
		} else {
			f.publish(identifier, m.number, 8)
		}
	}
}

// reach waits until what the subscriber has subscribed to counts where the publisher is, which may be another gateway. What it tries that
// with, under numbers below zero, may get lost.
func (f *numberedFlow) reach(t *testing.T) {
	t.Helper()
	tried := 0
	wait(t, "the subscription at one gateway to count at another", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for number := range f.heard {
			if number < 0 {
				return len(f.unacknowledged) == 0
			}
		}
		tried++
		f.identifier++
		f.unacknowledged[f.identifier] = &numbered{number: -tried}
		f.publish(f.identifier, -tried, 0)
		return false
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = slices.DeleteFunc(f.done, func(number int) bool { return number < 0 })
}

func (f *numberedFlow) publish(identifier uint16, number int, duplicate byte) error {
	body := endian.BigEndian.AppendUint16(appendText(nil, f.topic), identifier)
	return f.publisher.write(0x30|f.qos<<1|duplicate, strconv.AppendInt(body, int64(number), 10))
}

// send publishes until the connection ends.
func (f *numberedFlow) send() {
	for {
		select {
		case <-f.publisher.ended:
			return
		default:
		}
		f.mu.Lock()
		wait := !f.sending.Load() || len(f.unacknowledged) >= killWindow
		if !wait {
			for f.identifier++; f.identifier == 0 || f.unacknowledged[f.identifier] != nil; f.identifier++ {
			}
			f.sent++
			f.unacknowledged[f.identifier] = &numbered{number: f.sent}
			f.publish(f.identifier, f.sent, 0)
		}
		f.mu.Unlock()
		if wait {
			time.Sleep(time.Millisecond)
		}
	}
}

// acknowledged is the publisher's side of MQTT 3.1.1 §4.3.
func (f *numberedFlow) acknowledged() {
	defer close(f.publisher.ended)
	for {
		kind, body, err := f.publisher.read()
		if err != nil || len(body) < 2 {
			return
		}
		identifier := endian.BigEndian.Uint16(body)
		f.mu.Lock()
		if m := f.unacknowledged[identifier]; m != nil {
			switch kind >> 4 {
			case 4: // PUBACK
				f.done = append(f.done, m.number)
				delete(f.unacknowledged, identifier)
			case 5: // PUBREC: from now on the message is the broker's
				if !m.released {
					f.done = append(f.done, m.number)
				}
				m.released = true
				f.publisher.write(0x62, body[:2])
			case 7: // PUBCOMP
				delete(f.unacknowledged, identifier)
			}
		}
		f.mu.Unlock()
	}
}

// hear is the subscriber's side.
func (f *numberedFlow) hear() {
	for {
		kind, body, err := f.subscriber.read()
		if err != nil || len(body) < 2 {
			return
		}
		f.mu.Lock()
		switch kind >> 4 {
		case 3: // PUBLISH
			at := 2 + int(endian.BigEndian.Uint16(body))
			identifier := endian.BigEndian.Uint16(body[at:])
			if f.qos == 1 || !f.held[identifier] {
				number, _ := strconv.Atoi(string(body[at+2:]))
				if f.heard[number]++; f.heard[number] > 1 {
					f.again++
				}
			}
			if f.qos == 2 {
				f.held[identifier] = true
				f.subscriber.write(0x50, body[at:at+2])
			} else {
				f.subscriber.write(0x40, body[at:at+2])
			}
		case 6: // PUBREL
			delete(f.held, endian.BigEndian.Uint16(body))
			f.subscriber.write(0x70, body[:2])
		}
		f.mu.Unlock()
	}
}

// check waits until everything that was acknowledged has been heard.
func (f *numberedFlow) check(t *testing.T, round int) {
	t.Helper()
	missing := func() (list []int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, number := range f.done {
			if f.heard[number] == 0 {
				list = append(list, number)
			}
		}
		return list
	}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		f.mu.Lock()
		left := len(f.unacknowledged)
		f.mu.Unlock()
		lost := missing()
		if left == 0 && len(lost) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Errorf("QoS %d, kill %d: %d messages were not acknowledged again, %d that were are lost: %v", f.qos, round+1, left, len(lost), lost)
			break
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.qos == 2 && f.again > 0 {
		t.Errorf("QoS 2, kill %d: %d messages came twice", round+1, f.again)
	}
}

// sessionClient is a connection of raw packets with a persistent session.
type sessionClient struct {
	n                *node
	id, user, secret string
	link             net.Conn
	in               *bufio.Reader
	ended            chan struct{} // closed when nothing more is read
}

// connect says whether the broker had the session.
func (c *sessionClient) connect() (present bool, err error) {
	if c.link, err = net.Dial("tcp", c.n.mqtt); err != nil {
		return false, err
	}
	c.in, c.ended = bufio.NewReader(c.link), make(chan struct{})
	body := append(appendText(nil, "MQTT"), 4, 0xc0, 0, 60)
	if err := c.write(0x10, appendText(appendText(appendText(body, c.id), c.user), c.secret)); err != nil {
		return false, err
	}
	kind, body, err := c.read()
	if err == nil && (kind != 0x20 || body[1] != 0) {
		err = fmt.Errorf("%s: CONNACK %x %x", c.id, kind, body)
	}
	return err == nil && body[0] == 1, err
}

func (c *sessionClient) close() { c.link.Close() }

func (c *sessionClient) write(kind byte, body []byte) error {
	_, err := c.link.Write(append(endian.AppendUvarint([]byte{kind}, uint64(len(body))), body...))
	return err
}

// read gives the first byte of a packet, and what follows its length.
func (c *sessionClient) read() (kind byte, body []byte, err error) {
	if kind, err = c.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	length, err := endian.ReadUvarint(c.in)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, length)
	_, err = io.ReadFull(c.in, body)
	return kind, body, err
}

// appendText appends a string with its length (MQTT 3.1.1 §1.5.3).
func appendText(to []byte, text string) []byte {
	return append(endian.BigEndian.AppendUint16(to, uint16(len(text))), text...)
}
