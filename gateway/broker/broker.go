// Package broker routes messages between publishers and subscribers of a gateway, whatever protocol they speak: MQTT sessions,
// WebSocket and server-sent-events streams and CoAP observers hear the same messages.
//
// It owns the subscriptions of streams and the retained messages; MQTT sessions, and the journal that makes messages durable,
// belong to whoever is attached. It promises that a slow subscriber never slows others. Whether somebody may publish or
// subscribe has been decided before.
package broker

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/protocol/mqtt"
)

// Message is one published message. It is shared by all its receivers: none may change it.
type Message struct {
	Topic       string
	Payload     []byte
	ContentType string
	QoS         byte // as published, 0 to 2
	Retain      bool
	Expires     time.Time           // zero: never
	Publisher   fieldgate.Principal // who published; zero for Fieldgate itself
	Client      string              // MQTT client id of the publisher, for No Local
	Properties  []byte              // MQTT 5 properties to pass on unchanged, encoded: user properties, response topic, correlation data, payload format
	Time        time.Time
}

// Subscriber receives messages. Deliver must not block; a subscriber that cannot take a message counts it as dropped.
type Subscriber interface {
	Deliver(message *Message, qos byte)
}

// Sessions takes every message for the subscribers that have sessions (MQTT), and makes it durable where it has to be before
// it calls acknowledged, which may be nil. It must not block.
type Sessions interface {
	Publish(message *Message, acknowledged func(error))
}

// Bounds of what is retained; a message beyond them is refused.
const (
	MaxRetained      = 1 << 20
	MaxRetainedBytes = 512 << 20 // payloads and topics
)

// ErrRetainedFull refuses a message that would have to be retained beyond the bounds.
var ErrRetainedFull = errors.New("too many retained messages")

// Broker is safe for concurrent use.
type Broker struct {
	sessions      Sessions
	streams       *mqtt.Tree[Subscriber]
	matches       sync.Pool // of *mqtt.Matches[Subscriber]
	retained      mqtt.Retained[*Message]
	retainedBytes atomic.Int64
}

// New makes a broker without subscriptions.
func New() *Broker {
	b := &Broker{streams: mqtt.NewTree[Subscriber]()}
	b.matches.New = func() any { return new(mqtt.Matches[Subscriber]) }
	return b
}

// Attach names who takes messages for sessions. To be called before messages come.
func (b *Broker) Attach(sessions Sessions) { b.sessions = sessions }

// Publish routes a message to the subscribers whose filters match its topic, and keeps it if it is to be retained (an empty
// payload removes the retained message). acknowledged, unless nil, is called once with nil when the message is durable
// where it has to be, or with the reason why it is not; it may be called before Publish returns and must not block.
func (b *Broker) Publish(message *Message, acknowledged func(error)) {
	topic := []byte(message.Topic)
	if message.Retain && !b.retain(topic, message) {
		if acknowledged != nil {
			acknowledged(ErrRetainedFull)
		}
		return
	}
	if b.streams.Len() != 0 {
		b.stream(topic, message)
	}
	switch {
	case b.sessions != nil:
		b.sessions.Publish(message, acknowledged)
	case acknowledged != nil:
		acknowledged(nil)
	}
}

// retain says whether there was room. Publishers that race may exceed the bounds by one message each.
func (b *Broker) retain(topic []byte, message *Message) bool {
	var before *Message
	if len(message.Payload) == 0 {
		before, _ = b.retained.Delete(topic)
	} else {
		if b.retained.Len() >= MaxRetained || b.retainedBytes.Load() >= MaxRetainedBytes {
			return false
		}
		before, _ = b.retained.Set(topic, message)
		b.retainedBytes.Add(message.size())
	}
	if before != nil {
		b.retainedBytes.Add(-before.size())
	}
	return true
}

func (m *Message) size() int64 { return int64(len(m.Topic) + len(m.Payload) + len(m.Properties)) }

func (b *Broker) stream(topic []byte, message *Message) {
	found := b.matches.Get().(*mqtt.Matches[Subscriber])
	b.streams.Match(topic, found)
	for _, s := range found.Subscriptions {
		s.Subscriber.Deliver(message, min(message.QoS, s.QoS))
	}
	b.matches.Put(found)
}

// Subscribe adds a subscription of a stream (WebSocket, SSE, CoAP observe), which has one at a time for a filter; the returned
// function ends it and may be called more than once. Retained messages are not delivered: see Retained.
func (b *Broker) Subscribe(filter string, qos byte, subscriber Subscriber) (unsubscribe func()) {
	b.streams.Subscribe([]byte(filter), &mqtt.Subscription[Subscriber]{Subscriber: subscriber, QoS: qos})
	return func() { b.streams.Unsubscribe([]byte(filter), subscriber) }
}

// Retained calls visit with each retained message whose topic the filter matches and that has not expired (MQTT 5 section
// 3.3.2.3.3). visit must not publish.
func (b *Broker) Retained(filter string, visit func(*Message)) {
	now := time.Now()
	b.retained.Match([]byte(filter), func(m *Message) {
		if m.Expires.IsZero() || now.Before(m.Expires) {
			visit(m)
		}
	})
}
