package mqtt

import (
	"bytes"
	"reflect"
	"testing"
)

func FuzzDecode(f *testing.F) {
	for _, p := range goodPackets {
		f.Add(unhex(f, p.hex), p.v == V5)
	}
	f.Fuzz(func(t *testing.T, b []byte, five bool) {
		v := V311
		if five {
			v = V5
		}
		packet, encoded, err := decodePacket(b, v)
		if err != nil {
			return
		}
		if c, ok := packet.(*Connect); ok {
			v = c.Version
		}
		again, encodedAgain, err := decodePacket(encoded, v)
		if err != nil {
			t.Fatalf("own encoding %x of %x is refused: %v", encoded, b, err)
		}
		if !bytes.Equal(encoded, encodedAgain) {
			t.Fatalf("%x encodes to %x, then to %x", b, encoded, encodedAgain)
		}
		if _, plain := packet.([]byte); !plain && packet != nil && reflect.TypeOf(packet) != reflect.TypeOf(again) {
			t.Fatalf("%T became %T", packet, again)
		}
	})
}

// FuzzConn feeds bytes in every state: before CONNECT, connected in both versions, and with messages in flight.
func FuzzConn(f *testing.F) {
	for _, script := range scripts() {
		for state := range byte(4) {
			f.Add(script, state, uint16(3))
		}
	}
	for _, p := range goodPackets {
		f.Add(unhex(f, p.hex), byte(2), uint16(1))
		f.Add(unhex(f, p.hex), byte(3), uint16(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, state byte, cut uint16) {
		limits := DefaultLimits()
		limits.PacketSize, limits.ReceiveMaximum, limits.SendWindow, limits.OutSize = 4096, 4, 4, 8192
		run := func(cut int) ([]byte, []Event, error) {
			s := newServer(limits)
			switch state % 4 {
			case 1:
				s.feed(connectPacket(V311, nil))
			case 2, 3:
				s.feed(connectPacket(V5, nil))
			}
			if state%4 == 3 {
				for qos := range byte(3) {
					s.Deliver(message("t", "x", qos), epoch)
					s.Deliver(message("u", "x", qos), epoch)
				}
			}
			var out []byte
			for rest := b; len(rest) > 0; {
				n := min(cut, len(rest))
				s.feed(bytes.Clone(rest[:n]))
				rest = rest[n:]
				out = append(out, s.sent()...)
			}
			if s.err != nil && !s.Closed() {
				t.Fatal("an error left the connection open")
			}
			if len(s.partial) > limits.ConnectSize {
				t.Fatalf("holds %d bytes of a partial packet", len(s.partial))
			}
			return out, s.events, s.err
		}
		out, events, err := run(len(b) + 1)
		outCut, eventsCut, errCut := run(1 + int(cut)%64)
		if !bytes.Equal(out, outCut) || !reflect.DeepEqual(events, eventsCut) || err != errCut {
			t.Fatalf("cut: %x %v %v, whole: %x %v %v", outCut, eventsCut, errCut, out, events, err)
		}
		version := V5
		if state%4 == 1 {
			version = V311
		}
		if state%4 != 0 {
			packets(t, version, out) // whatever came in, what goes out is well-formed
		}
	})
}

func FuzzFilter(f *testing.F) {
	f.Add("a/+/#", "a/b/c")
	f.Add("$share/g/+", "$SYS/x")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if !ValidFilter([]byte(filter)) || !ValidTopic([]byte(topic)) {
			return
		}
		tree := NewTree[int]()
		tree.Subscribe([]byte(filter), &Subscription[int]{Subscriber: 1})
		var m Matches[int]
		tree.Match([]byte(topic), &m)
		_, levels := SplitShare([]byte(filter))
		if want := FilterMatches(levels, []byte(topic)); want != (len(m.Subscriptions)+len(m.Groups) == 1) {
			t.Fatalf("%q on %q: tree and filter disagree, filter says %v", filter, topic, want)
		}
		tree.Unsubscribe([]byte(filter), 1)
		if !tree.root.empty() {
			t.Fatal("nodes left")
		}
	})
}
