//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"syscall"
	"time"
	"unsafe"
)

// The load generator is one goroutine with an epoll loop and an encoder of its own: it must cost less than the brokers that it measures.

const (
	mqttWindow    = 100 // messages of a publisher that are under way at most
	mqttBatch     = 10  // messages of one write
	mqttPatience  = 10 * time.Second
	edgeTriggered = 1 << 31       // EPOLLET: what is not read is told once only
	firstSequence = 1_000_000_000 // so that each number has the same length
)

// mqttPayload is what is published: 64 bytes of JSON. Number and time of sending are written into their places.
const mqttPayload = `{"seq":1000000000,"at":1000000000000000000,"temp":1.5,"u":"Cel"}`

const (
	sequenceAt = len(`{"seq":`)
	sequenceTo = sequenceAt + 10
	sentAt     = sequenceTo + len(`,"at":`)
	sentTo     = sentAt + 19
)

// mqttClient is one connection of the generator.
type mqttClient struct {
	fd   int
	in   []byte // the start of a packet whose end has not come
	out  []byte // what is to be sent
	full bool   // the socket takes nothing at present
	// Of a publisher:
	packet       []byte // one PUBLISH, to be copied
	identifierAt int    // where its packet identifier is, or 0
	payloadAt    int
	identifier   uint16
	sent, acked  int
	receivers    []*mqttClient
	// Of a subscriber:
	received, lost, twice int
	next                  int // the number that is expected
}

// mqttLoad sends messages from publishers to subscribers, and counts.
type mqttLoad struct {
	clients    []*mqttClient
	publishers []*mqttClient
	identities []mqttIdentity // of the clients
	qos        byte
	epoll      int
	events     []syscall.EpollEvent
	buffer     []byte
	latencies  histogram
}

// mqttFigures is what one run of the generator found.
type mqttFigures struct {
	delivered, lost, twice int
	took                   time.Duration
	p50, p99               time.Duration
}

// mqttIdentity is how a client introduces itself.
type mqttIdentity struct {
	client, user, password string
	persistent             bool
}

func newMQTTLoad(qos byte) (*mqttLoad, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	return &mqttLoad{qos: qos, epoll: epoll, events: make([]syscall.EpollEvent, 256), buffer: make([]byte, 256<<10)}, err
}

func (l *mqttLoad) close() {
	for _, c := range l.clients {
		syscall.SetNonblock(c.fd, false)
		syscall.Write(c.fd, []byte{0xe0, 0}) // DISCONNECT, MQTT 3.1.1 §3.14
		syscall.Close(c.fd)
	}
	syscall.Close(l.epoll)
}

// subscribe connects a client and subscribes it.
func (l *mqttLoad) subscribe(address string, id mqttIdentity, filter string) (*mqttClient, error) {
	c, err := l.connect(address, id)
	if err != nil {
		return nil, err
	}
	return c, askMQTT(descriptor(c.fd), subscribePacket(filter, l.qos), 0x90, l.qos)
}

// publish connects a client that will publish to a topic on which receivers listen.
func (l *mqttLoad) publish(address string, id mqttIdentity, topic string, receivers []*mqttClient) error {
	c, err := l.connect(address, id)
	if err != nil {
		return err
	}
	c.receivers, c.packet = receivers, []byte{0x30 | l.qos<<1}
	length := 2 + len(topic) + len(mqttPayload)
	if l.qos > 0 {
		length += 2
	}
	c.packet = binary.AppendUvarint(c.packet, uint64(length)) // the same form, MQTT 3.1.1 §2.2.3
	c.packet = appendMQTT(c.packet, topic)
	if l.qos > 0 {
		c.identifierAt = len(c.packet)
		c.packet = append(c.packet, 0, 0)
	}
	c.payloadAt = len(c.packet)
	c.packet = append(c.packet, mqttPayload...)
	l.publishers = append(l.publishers, c)
	return nil
}

func (l *mqttLoad) connect(address string, id mqttIdentity) (*mqttClient, error) {
	fd, err := dialMQTT(address, nil)
	if err != nil {
		return nil, err
	}
	c := &mqttClient{fd: fd, next: firstSequence}
	l.clients, l.identities = append(l.clients, c), append(l.identities, id)
	if err := askMQTT(descriptor(fd), connectPacket(id), 0x20, 0); err != nil {
		return nil, fmt.Errorf("client %s: %w", id.client, err)
	}
	return c, nil
}

// dialMQTT opens a connection that blocks, but not for ever.
func dialMQTT(address string, local net.IP) (int, error) {
	to, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return 0, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	limit := syscall.NsecToTimeval(int64(mqttPatience))
	errs := []error{syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit), syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)}
	if local != nil {
		errs = append(errs, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte(local.To4())}))
	}
	_, err = again(func() (int, error) {
		return 0, syscall.Connect(fd, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())})
	})
	if err == syscall.EISCONN { // the interrupted one was made
		err = nil
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		syscall.Close(fd)
		return 0, err
	}
	return fd, nil
}

// appendMQTT appends a string with its length (MQTT 3.1.1 §1.5.3).
func appendMQTT(to []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint16(to, uint16(len(text))), text...)
}

// connectPacket is a CONNECT (MQTT 3.1.1 §3.1).
func connectPacket(id mqttIdentity) []byte {
	body := append(appendMQTT(nil, "MQTT"), 4, 0, 0x0e, 0x10) // an hour of keep-alive
	if !id.persistent {
		body[7] |= 2
	}
	body = appendMQTT(body, id.client)
	if id.user != "" {
		body[7] |= 0xc0
		body = appendMQTT(appendMQTT(body, id.user), id.password)
	}
	return append(binary.AppendUvarint([]byte{0x10}, uint64(len(body))), body...)
}

func subscribePacket(filter string, qos byte) []byte {
	body := append(appendMQTT([]byte{0, 1}, filter), qos)
	return append(binary.AppendUvarint([]byte{0x82}, uint64(len(body))), body...)
}

// run sends for a time, and waits until all has arrived. With rate 0 each publisher has as much under way as its window lets it, several
// messages to a write; otherwise so many messages a second are sent by all in turn, each by a write of its own.
func (l *mqttLoad) run(duration time.Duration, rate int) (figures mqttFigures, err error) {
	ticks := -1
	for _, c := range l.clients {
		if err := errors.Join(syscall.SetNonblock(c.fd, true), l.await(c.fd, syscall.EPOLLIN, syscall.EPOLL_CTL_ADD)); err != nil {
			return figures, err
		}
		defer l.await(c.fd, 0, syscall.EPOLL_CTL_DEL)
	}
	if rate > 0 {
		if ticks, err = ticker(time.Second / time.Duration(rate)); err != nil {
			return figures, err
		}
		defer syscall.Close(ticks)
		if err := l.await(ticks, syscall.EPOLLIN|edgeTriggered, syscall.EPOLL_CTL_ADD); err != nil {
			return figures, err
		}
	}
	clients := map[int32]*mqttClient{}
	for _, c := range l.clients {
		clients[int32(c.fd)] = c
	}
	l.latencies = histogram{}
	before := l.received()
	began := time.Now()
	end, last, turn, owed := began.Add(duration), began, 0, 0
	for {
		now := time.Now()
		sending := now.Before(end)
		switch {
		case sending && rate == 0:
			for _, p := range l.publishers {
				for p.underWay() <= mqttWindow-mqttBatch && len(p.out) == 0 {
					if err := l.send(p, mqttBatch, now); err != nil {
						return figures, err
					}
				}
			}
		case sending:
			for owed = int(now.Sub(began).Seconds()*float64(rate)) - turn; owed > 0; owed-- {
				p := l.publishers[turn%len(l.publishers)]
				turn++
				if err := l.send(p, 1, now); err != nil {
					return figures, err
				}
			}
		case l.arrived(), now.Sub(last) > mqttPatience: // or nothing comes any more
			figures.took, figures.delivered = last.Sub(began), l.received()-before
			for _, p := range l.publishers {
				for _, s := range p.receivers {
					figures.lost += s.lost + firstSequence + p.sent - s.next
					figures.twice += s.twice
				}
			}
			figures.p50, figures.p99 = l.latencies.share(.5), l.latencies.share(.99)
			return figures, nil
		}
		n, err := l.wait()
		if err != nil {
			return figures, err
		}
		for _, event := range l.events[:n] {
			if int(event.Fd) == ticks {
				continue
			}
			c := clients[event.Fd]
			if event.Events&syscall.EPOLLOUT != 0 {
				if err := l.flush(c); err != nil {
					return figures, err
				}
			}
			if event.Events&^syscall.EPOLLOUT != 0 {
				last = time.Now()
				if err := l.read(c, last); err != nil {
					return figures, err
				}
			}
		}
	}
}

func (l *mqttLoad) await(fd int, events uint32, operation int) error {
	return syscall.EpollCtl(l.epoll, operation, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})
}

// wait is epoll_wait for a tenth of a second at most, and read and write are those of the kernel, without a word to Go's scheduler: to tell
// it that a goroutine may block costs more than they do, and nothing else runs here.
func (l *mqttLoad) wait() (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 100, 0, 0)
	if errno == syscall.EINTR {
		return 0, nil
	}
	return int(n), failure(errno)
}

func read(fd int, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), failure(errno)
}

func write(fd int, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), failure(errno)
}

func failure(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// ticker is a descriptor that can be read each interval: epoll_wait counts in milliseconds only.
func ticker(interval time.Duration) (int, error) {
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, 1, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0) // CLOCK_MONOTONIC
	if errno != 0 {
		return 0, errno
	}
	times := [2]syscall.Timespec{syscall.NsecToTimespec(int64(interval)), syscall.NsecToTimespec(int64(interval))} // again and again, and first
	if _, _, errno := syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0); errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

// underWay is how many messages of a publisher have not arrived everywhere, or are not acknowledged.
func (c *mqttClient) underWay() int {
	arrived := 0
	for _, s := range c.receivers {
		arrived += s.received + s.lost
	}
	arrived /= len(c.receivers)
	if c.identifierAt > 0 {
		arrived = min(arrived, c.acked)
	}
	return c.sent - arrived
}

func (l *mqttLoad) received() (sum int) {
	for _, c := range l.clients {
		sum += c.received
	}
	return sum
}

// arrived says whether everything that was sent has come, and is acknowledged.
func (l *mqttLoad) arrived() bool {
	for _, p := range l.publishers {
		if p.underWay() > 0 || len(p.out) > 0 {
			return false
		}
		for _, s := range p.receivers {
			if s.next != firstSequence+p.sent {
				return false
			}
		}
	}
	return true
}

// send publishes messages by one write.
func (l *mqttLoad) send(p *mqttClient, count int, now time.Time) error {
	for range count {
		at := len(p.out)
		p.out = append(p.out, p.packet...)
		packet := p.out[at:]
		if p.identifierAt > 0 {
			if p.identifier++; p.identifier == 0 {
				p.identifier = 1
			}
			binary.BigEndian.PutUint16(packet[p.identifierAt:], p.identifier)
		}
		putDigits(packet[p.payloadAt+sequenceAt:p.payloadAt+sequenceTo], firstSequence+p.sent)
		putDigits(packet[p.payloadAt+sentAt:p.payloadAt+sentTo], int(now.UnixNano()))
		p.sent++
	}
	if p.full {
		return nil
	}
	return l.flush(p)
}

// flush writes what is to be sent, and lets epoll say when the rest can go.
func (l *mqttLoad) flush(c *mqttClient) error {
	n, err := write(c.fd, c.out)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		n, err = 0, nil
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	c.out = append(c.out[:0], c.out[n:]...)
	if full := len(c.out) > 0; full != c.full {
		c.full = full
		events := uint32(syscall.EPOLLIN)
		if full {
			events |= syscall.EPOLLOUT
		}
		return l.await(c.fd, events, syscall.EPOLL_CTL_MOD)
	}
	return nil
}

// read takes all packets that have come, and acknowledges messages at QoS 1.
func (l *mqttLoad) read(c *mqttClient, now time.Time) error {
	kept := copy(l.buffer, c.in)
	n, err := read(c.fd, l.buffer[kept:])
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return nil
	}
	if err != nil || n == 0 {
		return fmt.Errorf("the broker ended a connection: %w", errors.Join(err, errors.New("no more bytes")))
	}
	data, at := l.buffer[:kept+n], now.UnixNano()
	for {
		size, header := packetSize(data)
		if size == 0 || size > len(data) {
			break
		}
		switch data[0] >> 4 {
		case 3: // PUBLISH
			l.take(c, data[:size], header, at)
		case 4: // PUBACK
			c.acked++
		default:
			return fmt.Errorf("unexpected packet %x", data[:size])
		}
		data = data[size:]
	}
	c.in = append(c.in[:0], data...)
	if len(c.out) > 0 && !c.full {
		return l.flush(c)
	}
	return nil
}

// packetSize is the length of the first packet and of its fixed header (MQTT 3.1.1 §2.2), or 0 when too little has come.
func packetSize(data []byte) (size, header int) {
	for i := 1; i < len(data) && i < 5; i++ {
		size |= int(data[i]&0x7f) << (7 * (i - 1))
		if data[i] < 0x80 {
			return size + i + 1, i + 1
		}
	}
	return 0, 0
}

// take counts a message and acknowledges it at QoS 1.
func (l *mqttLoad) take(c *mqttClient, packet []byte, header int, now int64) {
	payload := packet[len(packet)-len(mqttPayload):]
	if packet[0]&6 != 0 {
		identifier := header + 2 + int(binary.BigEndian.Uint16(packet[header:]))
		c.out = append(c.out, 0x40, 2, packet[identifier], packet[identifier+1])
	}
	sequence := digits(payload[sequenceAt:sequenceTo])
	if sequence < c.next {
		c.twice++
		return
	}
	c.lost += sequence - c.next
	c.next = sequence + 1
	c.received++
	l.latencies.add(time.Duration(now - int64(digits(payload[sentAt:sentTo]))))
}

func putDigits(to []byte, n int) {
	for i := len(to) - 1; i >= 0; i-- {
		to[i] = '0' + byte(n%10)
		n /= 10
	}
}

func digits(text []byte) (n int) {
	for _, c := range text {
		n = n*10 + int(c-'0')
	}
	return n
}

// histogram counts durations, in steps of an eighth of their power of two.
type histogram [64 * 8]int

func (h *histogram) add(d time.Duration) {
	n := uint64(max(d, 8))
	power := bits.Len64(n) - 1
	h[power*8+int(n>>(power-3)&7)]++
}

// share is the duration that a share of all stays below.
func (h *histogram) share(of float64) time.Duration {
	all := 0
	for _, n := range h {
		all += n
	}
	limit := int(of * float64(all))
	for i, n := range h {
		if limit -= n; limit < 0 {
			return time.Duration(uint64(8+i%8+1) << max(i/8-3, 0))
		}
	}
	return 0
}
