package broker

import (
	"bytes"
	"testing"
)

// upper is a projection that counts what it makes; "secret" it cannot show.
type upper struct{ made int }

func (u *upper) Project(m *Message) *Message {
	u.made++
	if string(m.Payload) == "secret" {
		return nil
	}
	projected := *m
	projected.Payload = bytes.ToUpper(m.Payload)
	return &projected
}

// A message is projected once for all who see it the same way, streams and sessions alike, also one that only lasts until Publish returns.
func TestMessagesAreProjectedOnce(t *testing.T) {
	for _, fleeting := range []bool{false, true} {
		b, one, other := New(), &upper{}, &upper{}
		var heard []string
		hear := func(m *Message, view *upper) {
			if m = m.Projected(view); m != nil {
				heard = append(heard, string(m.Payload))
			}
		}
		b.Attach(attached(func(m *Message) {
			for range 50 {
				hear(m, one)
			}
			hear(m, other)
		}), nil)
		for range 50 {
			b.Subscribe("t/+", 0, listener(func(m *Message) { hear(m, one) }))
		}
		for _, payload := range []string{"open", "secret"} {
			one.made, other.made, heard = 0, 0, nil
			if err := publish(t, b, &Message{Topic: "t/1", Payload: []byte(payload), Fleeting: fleeting}); err != nil {
				t.Fatal(err)
			}
			if one.made != 1 || other.made != 1 {
				t.Errorf("%s was projected %d and %d times", payload, one.made, other.made)
			}
			if want := map[string]int{"open": 101, "secret": 0}[payload]; len(heard) != want {
				t.Errorf("%s was heard %d times, want %d", payload, len(heard), want)
			}
			for _, text := range heard {
				if text != "OPEN" {
					t.Fatalf("heard %q", text)
				}
			}
		}
	}
}

type attached func(*Message)

func (s attached) Publish(m *Message, acknowledged func(error)) {
	s(m)
	acknowledged(nil)
}

// listener is a subscriber; each is another one.
func listener(hear func(*Message)) Subscriber { return &listening{hear} }

type listening struct{ hear func(*Message) }

func (l *listening) Deliver(m *Message, _ byte) { l.hear(m) }
