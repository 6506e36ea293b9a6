package mqtt

import (
	"fmt"
	"math"
	"testing"
)

func benchmarkPublish() (packet []byte, p Publish) {
	p = Publish{QoS: 1, PacketID: 7, Topic: []byte("fleet/device-123/telemetry"), Payload: make([]byte, 64)}
	p.Properties.SetText(ContentType, []byte("application/json"))
	p.Properties.AddUser("trace", "0123456789abcdef")
	return p.Append(nil, V5), p
}

func BenchmarkDecodePublish(b *testing.B) {
	packet, _ := benchmarkPublish()
	h, size, _ := ReadHeader(packet)
	var p Publish
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Decode(h.Flags, packet[size:], V5); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodePublish(b *testing.B) {
	packet, p := benchmarkPublish()
	b.ReportAllocs()
	for b.Loop() {
		packet = p.Append(packet[:0], V5)
	}
}

// One QoS 1 message in, acknowledged, and one out, acknowledged: the whole of a connection's work on a message.
func BenchmarkConn(b *testing.B) {
	s := newServer(DefaultLimits())
	s.session.Owner = unbounded{}
	s.feed(connectPacket(V5, nil))
	in, p := benchmarkPublish()
	d := Delivery{Message: NewMessage(&p, epoch), QoS: 1}
	out := s.sent()
	var ack Ack
	b.ReportAllocs()
	for b.Loop() {
		s.Feed(in)
		for {
			event, err := s.Next(epoch, &s.in)
			if err != nil {
				b.Fatal(err)
			}
			if event == NeedMore {
				break
			}
			s.Acknowledge(s.in.Publish.PacketID, Success, "")
		}
		s.Deliver(d, epoch)
		out = s.Out(out, epoch)
		ack = Ack{Type: PUBACK, PacketID: s.session.lastID}
		var buffer [8]byte
		s.Feed(ack.Append(buffer[:0], V5))
		s.Next(epoch, &s.in)
		s.Next(epoch, &s.in)
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, devices := range []int{100, 100_000} {
		b.Run(fmt.Sprint(devices), func(b *testing.B) {
			tree := NewTree[int]()
			for i := range devices {
				tree.Subscribe(&Subscription[int]{Filter: fmt.Sprintf("fleet/device-%d/commands", i), Subscriber: i})
			}
			tree.Subscribe(&Subscription[int]{Filter: "fleet/+/telemetry", Subscriber: -1})
			topic := []byte("fleet/device-77/telemetry")
			var m Matches[int]
			b.ReportAllocs()
			for b.Loop() {
				tree.Match(topic, &m)
			}
			if len(m.Subscriptions) != 1 {
				b.Fatal(m)
			}
		})
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	packet, p := benchmarkPublish()
	h, size, _ := ReadHeader(packet)
	tree := NewTree[int]()
	tree.Subscribe(&Subscription[int]{Filter: "fleet/+/telemetry", Subscriber: 1})
	var decoded Publish
	var m Matches[int]
	s := newServer(DefaultLimits())
	s.session.Owner = unbounded{}
	s.feed(connectPacket(V5, nil))
	d := Delivery{Message: NewMessage(&p, epoch), QoS: 1}
	out, ack := s.sent(), make([]byte, 0, 8)
	exchange := func() {
		s.Deliver(d, epoch)
		out = s.Out(out, epoch)
		s.Feed((&Ack{Type: PUBACK, PacketID: s.session.lastID}).Append(ack, V5))
		for event := AckReceived; event != NeedMore; {
			var err error
			if event, err = s.Next(epoch, &s.in); err != nil {
				t.Fatal(err)
			}
		}
	}
	exchange()
	exchange()
	if n := testing.AllocsPerRun(100, exchange); n > 0 {
		t.Fatalf("delivering: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if err := decoded.Decode(h.Flags, packet[size:], V5); err != nil {
			t.Fatal(err)
		}
		tree.Match(decoded.Topic, &m)
		packet = p.Append(packet[:0], V5)
	}); n > 0 {
		t.Fatalf("%v allocations", n)
	}
}

// unbounded is an owner that lets anything wait and hears of nothing.
type unbounded struct{}

func (unbounded) QueueLimits() (messages, bytes int) { return math.MaxInt, math.MaxInt }
func (unbounded) Done(Delivery, Fate)                {}
