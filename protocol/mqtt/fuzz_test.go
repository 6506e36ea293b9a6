package mqtt

import (
	"bytes"
	"fmt"
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
		// Nothing is lost or invented on the way, and the encoding is never longer than what came: it is the shortest.
		if !reflect.DeepEqual(meaning(packet), meaning(again)) || len(encoded) > len(b) {
			t.Fatalf("%x means %+v, its encoding %x means %+v", b, packet, encoded, again)
		}
	})
}

// meaning makes packets comparable: which texts and lists are empty and which are nil, and what absent properties left in
// memory, means nothing.
func meaning(packet any) string { return fmt.Sprintf("%T %+v", packet, packet) }

// FuzzConn feeds bytes in every state: before CONNECT, connected in both versions, with messages in flight, and in the
// middle of an authentication and after it.
func FuzzConn(f *testing.F) {
	for _, script := range scripts() {
		for state := range byte(6) {
			f.Add(script, state, uint16(3))
		}
	}
	for _, p := range goodPackets {
		f.Add(unhex(f, p.hex), byte(2), uint16(1))
		f.Add(unhex(f, p.hex), byte(3), uint16(1))
	}
	for _, data := range []string{"right", "wrong"} {
		f.Add(authPacket(ContinueAuthentication, "M", data), byte(4), uint16(3))
		f.Add(append(authPacket(Reauthenticate, "M", ""), authPacket(ContinueAuthentication, "M", data)...), byte(5), uint16(2))
	}
	f.Fuzz(func(t *testing.T, b []byte, state byte, cut uint16) {
		limits := DefaultLimits()
		limits.PacketSize, limits.ReceiveMaximum, limits.SendWindow, limits.OutSize = 4096, 4, 4, 8192
		run := func(cut int) ([]byte, []Event, error) {
			s := newServer(limits)
			s.auth = func(*Connect) { s.Challenge([]byte("who?")) }
			switch state % 6 {
			case 1:
				s.feed(connectPacket(V311, nil))
			case 2:
				s.feed(connectPacket(V5, nil))
			case 3:
				s.feed(connectPacket(V5, func(c *Connect) { c.Properties.SetNumber(TopicAliasMaximum, 2) }))
			case 4, 5:
				s.feed(connectPacket(V5, withMethod("M")))
			}
			if state%6 == 5 {
				s.feed(authPacket(ContinueAuthentication, "M", "right"))
			}
			if state%6 == 3 {
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
			if len(s.had().partial) > limits.ConnectSize {
				t.Fatalf("holds %d bytes of a partial packet", len(s.had().partial))
			}
			return out, s.events, s.err
		}
		out, events, err := run(len(b) + 1)
		outCut, eventsCut, errCut := run(1 + int(cut)%64)
		if !bytes.Equal(out, outCut) || !reflect.DeepEqual(events, eventsCut) || err != errCut {
			t.Fatalf("cut: %x %v %v, whole: %x %v %v", outCut, eventsCut, errCut, out, events, err)
		}
		version := V5
		if state%6 == 1 {
			version = V311
		}
		if state%6 != 0 {
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
		tree.Subscribe(&Subscription[int]{Filter: filter, Subscriber: 1})
		var m Matches[int]
		tree.Match([]byte(topic), &m)
		_, levels := SplitShare([]byte(filter))
		if want := FilterMatches(levels, []byte(topic)); want != (len(m.Subscriptions)+len(m.Groups) == 1) {
			t.Fatalf("%q on %q: tree and filter disagree, filter says %v", filter, topic, want)
		}
		tree.Unsubscribe(filter, 1)
		if !tree.root.empty() {
			t.Fatal("nodes left")
		}
	})
}
