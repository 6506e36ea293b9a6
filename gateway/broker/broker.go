// Package broker routes messages between publishers and subscribers of a gateway, whatever protocol they speak: MQTT sessions,
// WebSocket and server-sent-events streams and CoAP observers are subscribers alike.
//
// It owns subscriptions, retained messages and what is stored for persistent sessions. It promises that a publisher is told
// "acknowledged" only once a kill of the process cannot lose the message for any persistent subscriber or as retained
// message, and that a slow subscriber never slows others. Whether somebody may publish or subscribe has been decided before.
package broker

import (
	"sync"
	"time"

	"fieldgate"
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

// Broker is safe for concurrent use.
type Broker struct {
	sessions Sessions

	mu            sync.RWMutex
	subscriptions map[*subscription]struct{}
	retained      map[string]*Message
}

type subscription struct {
	filter     string
	qos        byte
	subscriber Subscriber
}

// New makes a broker without subscriptions.
func New() *Broker {
	return &Broker{subscriptions: make(map[*subscription]struct{}), retained: make(map[string]*Message)}
}

// Attach names who takes messages for sessions. To be called before messages come.
func (b *Broker) Attach(sessions Sessions) { b.sessions = sessions }

// Publish routes a message to the subscribers whose filters match its topic, and keeps it if it is to be retained (an empty
// payload removes the retained message). acknowledged, unless nil, is called once with nil when the message is durable
// where it has to be, or with the reason why it is not; it may be called before Publish returns and must not block.
func (b *Broker) Publish(message *Message, acknowledged func(error)) {
	if message.Retain {
		b.mu.Lock()
		if len(message.Payload) == 0 {
			delete(b.retained, message.Topic)
		} else {
			b.retained[message.Topic] = message
		}
		b.mu.Unlock()
	}
	b.mu.RLock()
	for s := range b.subscriptions {
		if MatchFilter(s.filter, message.Topic) {
			s.subscriber.Deliver(message, min(message.QoS, s.qos))
		}
	}
	b.mu.RUnlock()
	switch {
	case b.sessions != nil:
		b.sessions.Publish(message, acknowledged)
	case acknowledged != nil:
		acknowledged(nil)
	}
}

// Subscribe adds a subscription for a stream subscriber (WebSocket, SSE, CoAP observe); the returned function ends it and may
// be called more than once. Retained messages are not delivered: see Retained.
func (b *Broker) Subscribe(filter string, qos byte, subscriber Subscriber) (unsubscribe func()) {
	s := &subscription{filter, qos, subscriber}
	b.mu.Lock()
	b.subscriptions[s] = struct{}{}
	b.mu.Unlock()
	return func() {
		b.mu.Lock()
		delete(b.subscriptions, s)
		b.mu.Unlock()
	}
}

// Retained calls visit with each retained message whose topic the filter matches, until visit returns false.
func (b *Broker) Retained(filter string, visit func(*Message) bool) {
	b.mu.RLock()
	var found []*Message
	for topic, m := range b.retained {
		if MatchFilter(filter, topic) {
			found = append(found, m)
		}
	}
	b.mu.RUnlock()
	for _, m := range found {
		if !visit(m) {
			return
		}
	}
}
