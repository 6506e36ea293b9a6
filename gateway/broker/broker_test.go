package broker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
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

// The newest retained message of a topic waits; an empty payload removes it (MQTT 5 section 3.3.1.3).
func TestRetained(t *testing.T) {
	b := New()
	for _, payload := range []string{"old", "new"} {
		if err := publish(t, b, &Message{Topic: "s/1", Payload: []byte(payload), Retain: true}); err != nil {
			t.Fatal(err)
		}
	}
	retained := func(filter string) (found []string) {
		b.Retained(filter, func(m *Message) { found = append(found, string(m.Payload)) })
		return found
	}
	if got := retained("s/+"); !slices.Equal(got, []string{"new"}) {
		t.Errorf("retained %v", got)
	}
	if err := publish(t, b, &Message{Topic: "s/2", Payload: []byte("stale"), Retain: true, Expires: time.Now().Add(-time.Second)}); err != nil {
		t.Fatal(err)
	}
	if got := retained("s/+"); !slices.Equal(got, []string{"new"}) {
		t.Errorf("retained %v", got)
	}
	b.Publish(&Message{Topic: "s/2", Retain: true}, nil)
	if err := publish(t, b, &Message{Topic: "s/1", Retain: true}); err != nil || retained("#") != nil || b.retainedBytes.Load() != 0 {
		t.Errorf("%v: retained %v, %d bytes", err, retained("#"), b.retainedBytes.Load())
	}
}

// Beyond the bound a message is refused and nobody hears it; what takes the place of another of its topic and what removes one is let through.
func TestRetainedBound(t *testing.T) {
	b := New()
	var listener ear
	b.Subscribe("#", 0, &listener)
	big := []byte(strings.Repeat("x", MaxRetainedBytes/4))
	for i := range 4 {
		if err := publish(t, b, &Message{Topic: fmt.Sprint(i), Payload: big, Retain: true}); err != nil {
			t.Fatal(err)
		}
	}
	listener.take()
	if err := publish(t, b, &Message{Topic: "more", Payload: []byte("x"), Retain: true}); !errors.Is(err, ErrRetainedFull) || listener.take() != nil {
		t.Errorf("beyond the bound: %v", err)
	}
	if err := publish(t, b, &Message{Topic: "1", Retain: true}); err != nil {
		t.Error(err)
	}
	if err := publish(t, b, &Message{Topic: "more", Payload: []byte("x"), Retain: true}); err != nil {
		t.Error(err)
	}
}

// What sessions say about durability is what the publisher hears.
func TestSessions(t *testing.T) {
	b := New()
	refusal := errors.New("disk")
	b.Attach(sessions{refusal})
	if err := publish(t, b, &Message{Topic: "x"}); err != refusal {
		t.Error(err)
	}
}

type sessions struct{ err error }

func (s sessions) Publish(_ *Message, acknowledged func(error)) { acknowledged(s.err) }
