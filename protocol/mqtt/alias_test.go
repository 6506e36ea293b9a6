package mqtt

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// hear decodes what a server sent as a client with its own table of aliases would, and gives the topics.
type hearer struct{ topics map[uint32]string }

func (h *hearer) hear(t *testing.T, out []byte) (topics []string) {
	t.Helper()
	for len(out) > 0 {
		header, size, err := ReadHeader(out)
		if err != nil || size == 0 {
			t.Fatalf("broken packet %x", out)
		}
		body := out[size : size+header.Length]
		out = out[size+header.Length:]
		if header.Type != PUBLISH {
			continue
		}
		var p Publish
		if err := p.Decode(header.Flags, body, V5); err != nil {
			t.Fatal(err)
		}
		topic := string(p.Topic)
		if p.Properties.Has(TopicAlias) {
			alias := p.Properties.Number(TopicAlias)
			if topic == "" {
				if topic = h.topics[alias]; topic == "" {
					t.Fatalf("alias %d stands for nothing that was sent", alias)
				}
			}
			h.topics[alias] = topic
		}
		topics = append(topics, topic)
	}
	return topics
}

func aliasing(t *testing.T, maximum, size uint32) *server {
	return connected5(t, func(c *Connect) {
		c.Properties.SetNumber(TopicAliasMaximum, maximum)
		if size > 0 {
			c.Properties.SetNumber(MaximumPacketSize, size)
		}
	})
}

// A topic that comes again gets an alias, and the third message goes without it.
func TestOutboundAliasSavesBytes(t *testing.T) {
	s := aliasing(t, 1, 0)
	for i, want := range []string{
		"30 0b 0007 662f312f742f78 00 78", // too short to be worth one
		"30 0b 0007 662f312f742f78 00 78",
		"30 0b 0007 662f312f742f78 00 78",
	} {
		s.Deliver(message("f/1/t/x", "x", 0), epoch)
		if out := s.sent(); !bytes.Equal(out, unhex(t, want)) {
			t.Fatalf("message %d: %x", i, out)
		}
	}
	for i, want := range []string{
		"30 0c 0008 662f31322f742f78 00 78",
		"30 0f 0008 662f31322f742f78 03 23 0001 78",
		"30 07 0000 03 23 0001 78",
		"30 07 0000 03 23 0001 78",
	} {
		s.Deliver(message("f/12/t/x", "x", 0), epoch)
		if out := s.sent(); !bytes.Equal(out, unhex(t, want)) {
			t.Fatalf("message %d: %x", i, out)
		}
	}
	for range 4 { // two topics that take turns do not take the alias from each other
		s.Deliver(message("f/99/t/x", "x", 0), epoch)
		s.Deliver(message("f/12/t/x", "x", 0), epoch)
		if out := s.sent(); !bytes.Equal(out, unhex(t, "30 0c 0008 662f39392f742f78 00 78 30 07 0000 03 23 0001 78")) {
			t.Fatalf("taking turns: %x", out)
		}
	}
}

// [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]: never above the client's maximum, and none for who announces none.
func TestOutboundAliasStaysWithinTheMaximum(t *testing.T) {
	for _, maximum := range []uint32{0, 1, 3, 65535} {
		s := aliasing(t, maximum, 0)
		h := hearer{map[uint32]string{}}
		for i := range 400 {
			topic := fmt.Sprintf("sensors/%d/temperature", i*i%23)
			s.Deliver(message(topic, "x", byte(i%3)), epoch)
			if got := h.hear(t, s.sent()); len(got) == 1 && got[0] != topic {
				t.Fatalf("maximum %d: sent %q as %q", maximum, topic, got[0])
			}
			s.feed(ackPacket(PUBACK, s.session.lastID))
			s.err = nil
			if i%3 == 2 {
				s.feed(ackPacket(PUBREC, s.session.lastID))
				s.feed(ackPacket(PUBCOMP, s.session.lastID))
			}
			if s.Closed() {
				s = aliasing(t, maximum, 0)
				h = hearer{map[uint32]string{}}
			}
		}
		if maximum == 0 && len(h.topics) > 0 || len(h.topics) > int(min(maximum, 16)) {
			t.Fatalf("maximum %d: %d aliases", maximum, len(h.topics))
		}
	}
}

// An alias is never known to us and not to the client: not after a PUBLISH that was dropped, nor after a new connection.
func TestOutboundAliasOfADroppedPublish(t *testing.T) {
	s := aliasing(t, 1, 40)
	h := hearer{map[uint32]string{}}
	topic := "sensors/7/temperature" // 21 bytes
	payloads := []string{"1", strings.Repeat("x", 100), "3", strings.Repeat("x", 13), "5", "6", strings.Repeat("x", 31), "7"}
	var sent []int
	for i, payload := range payloads {
		if s.Deliver(message(topic, payload, 0), epoch) {
			sent = append(sent, i)
			if got := h.hear(t, s.sent()); len(got) != 1 || got[0] != topic {
				t.Fatalf("message %d heard as %q", i, got)
			}
		}
	}
	if fmt.Sprint(sent) != "[0 2 3 4 5 6 7]" { // the second never fits, the fourth not with an alias, the seventh only under one
		t.Fatalf("sent %v", sent)
	}
	// [MQTT-3.3.2-7]
	s.Deliver(message(topic, "held", 1), epoch)
	again := &server{Conn: NewConn(new(DefaultLimits())), session: s.session, accepted: true}
	again.feed(connectPacket(V5, func(c *Connect) { c.Properties.SetNumber(TopicAliasMaximum, 5) }))
	again.Deliver(message(topic, "x", 0), epoch)
	h = hearer{map[uint32]string{}}
	if got := h.hear(t, again.sent()); len(got) != 2 || got[0] != topic || got[1] != topic {
		t.Fatalf("heard %q", got)
	}
}
