package mqttfront

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate/protocol/mqtt"
)

// A packet may come in any number of pieces, and many packets in one.
func TestPacketsComeInPieces(t *testing.T) {
	g := newGateway(t, nil)
	ear := g.connect("dash", mqtt.ClientOptions{})
	ear.hear("d/+/raw", 0)
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	connect := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("pieces"), Password: []byte(g.tokens["d1"])}
	small, large := publish("d/d1/raw", "small", 0), publish("d/d1/raw", strings.Repeat("x", 3*readSize), 0)
	for _, b := range small.Append(connect.Append(nil), mqtt.V5) {
		if _, err := conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if r := ear.next(); r.payload != "small" {
		t.Fatalf("%q", r.payload)
	}
	if _, err := conn.Write(small.Append(large.Append(small.Append(nil, mqtt.V5), mqtt.V5), mqtt.V5)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{5, 3 * readSize, 5} {
		if r := ear.next(); len(r.payload) != want {
			t.Fatalf("%d bytes, want %d", len(r.payload), want)
		}
	}
}

// One receiver never reads; the other gets every message, and no publisher waits. What is kept for the first is bounded.
func TestReceiverThatNeverReads(t *testing.T) {
	g := newGateway(t, nil)
	subscribe := (&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/+/raw")}}}).Append(nil, mqtt.V5)
	deaf, ear := rawDial(t, g, "dash", "deaf"), rawDial(t, g, "dash", "ear")
	for _, c := range []*raw{deaf, ear} {
		c.write(subscribe)
		c.packet(mqtt.SUBACK)
	}
	device := rawDial(t, g, "d1", "device")
	p := publish("d/d1/raw", strings.Repeat("x", 32<<10), 0)
	packet := p.Append(nil, mqtt.V5)
	for range 1000 { // more than the sockets' buffers and OutSize hold
		device.write(packet)
		ear.packet(mqtt.PUBLISH)
	}
	if g.Counters.DroppedQoS0.Load() == 0 {
		t.Error("nothing was dropped")
	}
}

// All identifiers can be used, and each message is acknowledged under its own, in order [MQTT-4.6.0-2].
func TestAllPacketIdentifiers(t *testing.T) {
	g := newGateway(t, nil)
	device := rawDial(t, g, "d1", "device")
	const batch = 50 // below Receive Maximum
	p := publish("d/d1/raw", "x", 1)
	var packets, want []byte
	answers := make([]byte, batch*4)
	for id := 1; id <= 65535; {
		packets, want = packets[:0], want[:0]
		for len(want) < 4*batch && id <= 65535 {
			p.PacketID = uint16(id)
			packets = p.Append(packets, mqtt.V5)
			want = (&mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID}).Append(want, mqtt.V5)
			id++
		}
		device.write(packets)
		if _, err := io.ReadFull(device.r, answers[:len(want)]); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(answers[:len(want)], want) {
			t.Fatalf("%x, want %x", answers[:len(want)], want)
		}
	}
}

// Receivers and publishers vanish while messages are on their way; those that stay get all.
func TestConnectionsCloseInTheMiddleOfABatch(t *testing.T) {
	g := newGateway(t, nil)
	ear := g.connect("dash", mqtt.ClientOptions{ClientID: "steady"})
	ear.hear("d/+/raw", 1)
	p := publish("d/d1/raw", "x", 0)
	packets := bytes.Repeat(p.Append(nil, mqtt.V5), 100)
	for i := range 50 {
		going := rawDial(t, g, "dash", fmt.Sprint("going", i))
		going.write((&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/+/raw")}}}).Append(nil, mqtt.V5))
		going.packet(mqtt.SUBACK)
		device := rawDial(t, g, "d1", "device")
		device.write(packets)
		if i%2 == 0 {
			going.conn.(*net.TCPConn).SetLinger(0) // a reset
		}
		going.conn.Close()
		last := publish("d/d1/raw", "last", 1)
		last.PacketID = 1
		device.write(last.Append(nil, mqtt.V5))
		device.packet(mqtt.PUBACK)
		device.conn.Close()
		heard := 0
		for ear.next().payload != "last" {
			heard++
		}
		if heard != 100 {
			t.Fatalf("%d of 100 messages", heard)
		}
	}
}

// A client that comes back while it is still connected takes its session over, whichever loops serve it [MQTT-3.1.4-3].
func TestTakeOverAcrossLoops(t *testing.T) {
	g := newGateway(t, nil)
	var coming sync.WaitGroup
	for range 8 {
		coming.Go(func() {
			for range 10 {
				if c, err := g.dial("dash", mqtt.ClientOptions{ClientID: "same"}); err == nil { // otherwise it was taken over at once
					defer c.Close()
				}
			}
		})
	}
	coming.Wait()
	last := g.connect("dash", mqtt.ClientOptions{ClientID: "same"})
	last.hear("d/+/raw", 0)
	g.connect("d1", mqtt.ClientOptions{}).send(publish("d/d1/raw", "hello", 1))
	if r := last.next(); r.payload != "hello" {
		t.Fatal(r.payload)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := g.sessions.countOf(callerKey{"app", "dash"}); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// The end of the gateway ends all connections, those that have said nothing too.
func TestShutdownWithMany(t *testing.T) {
	g := newGateway(t, nil)
	const many = 2000
	conns := make([]net.Conn, many)
	for i := range conns {
		conn, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if conns[i] = conn; i%3 == 0 {
			continue
		}
		connect := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: fmt.Append(nil, i), Password: []byte(g.tokens["dash"])}
		if _, err := conn.Write(connect.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	for g.Counters.Connections.Load() < many-500 { // a caller may not have as many sessions as ask here
		time.Sleep(time.Millisecond)
	}
	g.stopRun()
	for _, conn := range conns {
		conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatal(err)
		}
	}
	if n := g.Counters.Connections.Load(); n != 0 {
		t.Errorf("%d connections are open", n)
	}
}

// One source has only so many connections, and opens only so many a second; others are not touched.
func TestSources(t *testing.T) {
	s := sources{known: make(map[netip.Addr]origin)}
	bounds := &Bounds{MaxConnectionsSource: 3, MaxHandshakesSource: 1}
	one, neighbour, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("192.0.2.1")
	for i, want := range []bool{true, true, true, false} {
		if got := s.take([]netip.Addr{one, neighbour}[i%2], 0, bounds); got != want {
			t.Fatalf("connection %d: %v", i, got)
		}
	}
	if !s.take(other, 0, bounds) {
		t.Error("another source is refused")
	}
	s.release(one, 0)
	if s.take(one, 0, bounds) {
		t.Error("it opens more than allowed at once")
	}
	if !s.take(one, time.Second, bounds) {
		t.Error("it may open one a second")
	}
	for i := range 3000 { // those that are gone are forgotten
		passing := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		at := time.Duration(2+2*i) * time.Second
		s.take(passing, at, bounds)
		s.release(passing, at)
	}
	if len(s.known) > 1100 {
		t.Errorf("%d sources are remembered", len(s.known))
	}
}

// Connections beyond a source's bound are closed at once, and counted.
func TestTooManyConnectionsOfASource(t *testing.T) {
	g := newGateway(t, func(c *Config) { c.MaxConnectionsSource = 2 })
	g.connect("d1", mqtt.ClientOptions{})
	g.connect("dash", mqtt.ClientOptions{})
	if _, err := g.dial("d2", mqtt.ClientOptions{}); err == nil {
		t.Fatal("a third connection was let in")
	}
	if n := g.Counters.RefusedSource.Load(); n != 1 {
		t.Errorf("%d refused", n)
	}
}
