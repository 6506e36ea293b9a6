package broker

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
)

// ear keeps what it hears.
type ear struct {
	mu    sync.Mutex
	heard []string
}

func (e *ear) Deliver(m *Message, qos byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, fmt.Sprint(m.Topic, " ", string(m.Payload), " ", qos))
}

func (e *ear) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	heard := e.heard
	e.heard = nil
	return heard
}

func publish(t *testing.T, b *Broker, m *Message) error {
	t.Helper()
	answer := make(chan error, 1)
	b.Publish(m, func(err error) { answer <- err })
	return <-answer
}

// Streams hear what their filters match (MQTT 5 section 4.7), at the lower of both qualities of service, until they end.
func TestStreams(t *testing.T) {
	b := New()
	var all, one ear
	stopAll := b.Subscribe("d/+/t", 1, &all)
	b.Subscribe("d/1/t", 0, &one)
	for _, topic := range []string{"d/1/t", "d/2/t", "d/1/t/x", "$SYS/1/t"} {
		if err := publish(t, b, &Message{Topic: topic, Payload: []byte("x"), QoS: 2}); err != nil {
			t.Fatal(err)
		}
	}
	if got := all.take(); !slices.Equal(got, []string{"d/1/t x 1", "d/2/t x 1"}) {
		t.Errorf("heard %v", got)
	}
	if got := one.take(); !slices.Equal(got, []string{"d/1/t x 0"}) {
		t.Errorf("heard %v", got)
	}
	stopAll()
	stopAll()
	b.Publish(&Message{Topic: "d/1/t"}, nil)
	if got := all.take(); got != nil {
		t.Errorf("heard after the end: %v", got)
	}
}

// What sessions say about durability is what the publisher hears.
func TestSessions(t *testing.T) {
	b := New()
	refusal := errors.New("disk")
	b.Attach(sessions{refusal}, nil)
	if err := publish(t, b, &Message{Topic: "x"}); err != refusal {
		t.Error(err)
	}
}

type sessions struct{ err error }

func (s sessions) Publish(_ *Message, acknowledged func(error)) { acknowledged(s.err) }
