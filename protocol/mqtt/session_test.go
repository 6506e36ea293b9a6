package mqtt

import (
	"bytes"
	"slices"
	"testing"
)

// again is the session's next connection.
func (s *server) again(t *testing.T) *server {
	t.Helper()
	s.Close(UnspecifiedError)
	next := &server{Conn: NewConn(new(DefaultLimits())), session: s.session, accepted: true}
	next.feed(connectPacket(V5, func(c *Connect) { c.CleanStart = false }))
	return next
}

func stored(topic string, token uint64) Delivery {
	d := message(topic, "x", 2)
	d.Token = token
	return d
}

// Stores rely on these: a client may hold the identifier of a message that was sent by an earlier version.
func TestStoredIdentifiersAreThese(t *testing.T) {
	for token, want := range map[uint64]uint16{1: 0xCF1B, 2: 0x9E37, 3: 0xED53, 1 << 20: 0xCDCB, 1<<63 | 5: 0xCB8A} {
		if got := storedID(token); got != want {
			t.Errorf("%d has %#x, want %#x", token, got, want)
		}
	}
	for _, step := range []uint64{2, 1 << 20} { // those of a window do not meet
		for first := range uint64(100) {
			seen := map[uint16]bool{}
			for i := range uint64(64) {
				if id := storedID((first*1000 + i) * step); seen[id] {
					t.Fatalf("steps of %d: %#x twice within 64", step, id)
				} else {
					seen[id] = true
				}
			}
		}
	}
}

// A stored delivery waits for its identifier until the one that has it is forgotten, and nothing overtakes it.
func TestStoredIdentifierIsWaitedFor(t *testing.T) {
	s := connected5(t, nil)
	s.session.Stored = true
	first, second := uint64(2), uint64(4)
	for storedID(second) != storedID(first) {
		second += 2
	}
	id := storedID(first)
	s.Deliver(stored("1", first), epoch)
	s.Deliver(stored("2", second), epoch)
	s.Deliver(message("3", "x", 1), epoch)
	wantPackets(t, s, "PUBLISH 1")
	s.feed(ackPacket(PUBREC, id))
	wantPackets(t, s)
	if event := s.events[len(s.events)-1]; event != DeliveryReceived || s.in.Token != first {
		t.Fatalf("event %v of %d", event, s.in.Token)
	}
	s.feed(ackPacket(PUBREC, id)) // again: PUBREL will follow
	s.Release(second)             // is not meant
	wantPackets(t, s)
	s.Release(first)
	wantPackets(t, s, "PUBREL")
	s.feed(ackPacket(PUBCOMP, id))
	wantPackets(t, s)
	s.Forgotten(first, epoch)
	wantPackets(t, s, "PUBLISH 2", "PUBLISH 3")
	if got := s.session.unfinished().inflight[0].id; got != id {
		t.Errorf("identifier %d, want %d", got, id)
	}
	if got := s.session.unfinished().inflight[1].id; got >= firstStored {
		t.Errorf("a message that is not stored has identifier %#x", got)
	}
	if !slices.Equal(s.fates, []Fate{Delivered}) {
		t.Errorf("fates %v", s.fates)
	}
	s.feed(ackPacket(PUBREC, id))
	s.Close(UnspecifiedError)
	s.Release(second) // too late for this connection
	wantPackets(t, s.again(t), "CONNACK", "PUBREL", "PUBLISH 3 DUP")
}

// Between PUBREC and its being stored, a new connection sends neither PUBLISH nor PUBREL.
func TestReleaseOnTheNextConnection(t *testing.T) {
	s := connected5(t, nil)
	s.Deliver(stored("1", 2), epoch)
	s.feed(ackPacket(PUBREC, storedID(2)))
	next := s.again(t)
	wantPackets(t, next, "CONNACK")
	next.Release(2)
	wantPackets(t, next, "PUBREL")
}

func TestRestore(t *testing.T) {
	s := newServer(DefaultLimits())
	s.session.Stored = true
	s.session.Restore([]uint16{7}, []uint64{2, 6})
	s.feed(connectPacket(V5, func(c *Connect) { c.CleanStart = false }))
	wantPackets(t, s, "CONNACK", "PUBREL", "PUBREL") // [MQTT-4.4.0-1]
	s.feed(publishPacket(V5, 2, 7, "a", ""))
	if len(s.topics) > 0 || s.session.Receiving() != 1 {
		t.Fatalf("delivered %q", s.topics)
	}
	wantPackets(t, s, "PUBREC")
	s.feed(ackPacket(PUBREL, 7))
	if event := s.events[len(s.events)-1]; event != ReleaseReceived || s.in.PacketID != 7 {
		t.Fatalf("event %v of %d", event, s.in.PacketID)
	}
	wantPackets(t, s)
	s.feed(publishPacket(V5, 2, 7, "a", "")) // it is not free yet
	wantPackets(t, s, "PUBREC")
	s.Complete(7)
	wantPackets(t, s, "PUBCOMP")
	s.feed(publishPacket(V5, 2, 7, "b", ""))
	if !slices.Equal(s.topics, []string{"b"}) {
		t.Errorf("delivered %q", s.topics)
	}
	for _, token := range []uint64{2, 6} {
		s.feed(ackPacket(PUBCOMP, storedID(token)))
	}
	if s.session.InFlight() != 0 || s.err != nil {
		t.Errorf("%d in flight, %v", s.session.InFlight(), s.err)
	}
}

// A message that is sent again on a new connection, while the first is still being stored, is published once and acknowledged on the new one.
func TestUndecidedMessageIsSentAgain(t *testing.T) {
	for _, reason := range []Reason{Success, QuotaExceeded} {
		s := connected5(t, nil)
		s.manual = true
		s.feed(publishPacket(V5, 2, 7, "a", ""))
		s.feed(publishPacket(V5, 1, 8, "a", ""))
		next := s.again(t)
		next.manual = true
		dup := publishPacket(V5, 2, 7, "a", "")
		dup[0] |= 8
		next.feed(dup)
		wantPackets(t, next, "CONNACK")
		if len(next.topics) > 0 {
			t.Fatalf("delivered %q", next.topics)
		}
		if left := s.Acknowledge(8, Success, ""); left {
			t.Error("QoS 1 is for the new connection as well")
		}
		if left := s.Acknowledge(7, reason, ""); !left {
			t.Fatal("the new connection is not to be told")
		}
		next.Acknowledge(7, reason, "")
		if out := next.sent(); !bytes.HasPrefix(out[2:], []byte{0, 7}) || out[0] != 0x50 {
			t.Fatalf("sent %x", out)
		}
		next.feed(publishPacket(V5, 2, 7, "b", ""))
		if published := len(next.topics) == 1; published != reason.Failed() { // [MQTT-4.3.3-9]
			t.Errorf("%v: published again: %v", reason, published)
		}
	}
}
