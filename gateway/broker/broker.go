// Package broker routes messages between publishers and subscribers of a gateway, whatever protocol they speak: MQTT sessions,
// WebSocket and server-sent-events streams and CoAP observers hear the same messages.
//
// It owns the subscriptions of streams; MQTT sessions, retained messages, the store that makes messages durable, and the other nodes belong
// to whoever is attached. It promises that a slow subscriber never slows others. Whether somebody may publish or
// subscribe has been decided before.
package broker

import (
	"bytes"
	"context"
	"sync"
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
	// Answers says whom the message answers; zero: nobody, it is no answer. Only that caller's sessions hear it.
	Answers Caller
	// Relayed says that another node sent the message, which has it retained where it has to be.
	Relayed bool
	// Shares are the filters of the shared subscriptions whose turn it is at this node, of a relayed message; otherwise those whose
	// turn it is at another node.
	Shares []string
	// Fleeting says that the message, its payload and properties only last until Publish returns, so that publishing takes no memory:
	// whoever keeps it keeps Lasting. Subscribers of a Broker get lasting ones only.
	Fleeting bool

	views []view // of receivers who do not see all of it; of who publishes it
}

// Projection makes of a message what some receivers see of it; nil if that cannot be told. What it makes shares all but the payload.
type Projection interface {
	Project(message *Message) *Message
}

type view struct {
	projection Projection
	message    *Message
}

// Projected is the message as a projection leaves it, made once for all receivers that have the same one; nil: they do not get it. To be
// called while the message is being handed out, by whoever does that.
func (m *Message) Projected(projection Projection) *Message {
	for i := range m.views {
		if m.views[i].projection == projection {
			return m.views[i].message
		}
	}
	projected := projection.Project(m)
	if projected != nil && projected != m {
		projected.views = nil
	}
	m.views = append(m.views, view{projection, projected})
	return projected
}

// Caller names a principal.
type Caller struct {
	Kind fieldgate.PrincipalKind
	ID   string
}

// Lasting is the message, or its copy if it is fleeting.
func (m *Message) Lasting() *Message {
	if !m.Fleeting {
		return m
	}
	lasting := *m
	lasting.Payload, lasting.Properties, lasting.Fleeting = bytes.Clone(m.Payload), bytes.Clone(m.Properties), false
	return &lasting
}

// Inbound is a message of another broker on its way to sessions. One that is fleeting lasts as long as the call that hands it over.
type Inbound struct {
	Message *Message
	Filters []string // that it came by: those who subscribed to them hear it
	// To are the only subscribers that hear it, as the retained message of its topic; nil: all of the filters, as a message like any other.
	To           []any
	Acknowledged func(error) // unless nil, to be called once, when the message is where it cannot be lost, or cannot get there
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

// Peers are the other nodes that have subscribers.
type Peers interface {
	// Publish hands a message to the nodes that want it, and gives what is to be called in the place of acknowledged when this node
	// has taken it. Where it is their turn, it notes shared subscriptions in the message. It must not block.
	Publish(message *Message, acknowledged func(error)) func(error)
	// Subscribed and Unsubscribed are told of each stream that hears a filter.
	Subscribed(filter string)
	Unsubscribed(filter string)
}

// Retained reads the retained messages that Sessions keeps.
type Retained interface {
	// Retained calls visit with each retained message whose topic the filter matches and that has not expired, in the order of
	// topics, until it gives false. It reads from the disk, a few messages at a time, and waits for visit.
	Retained(filter string, visit func(*Message) bool) error
	// ReadRetained begins to read them. Those that are published from then on are left out: who had subscribed before hears them as they come.
	ReadRetained(filter string) RetainedReader
}

// RetainedReader reads retained messages a few at a time, in the order of topics. One goroutine uses it at a time.
type RetainedReader interface {
	// Next reads up to most messages, of about maxBytes together; fewer, or none, do not mean the end. It waits for the disk.
	Next(ctx context.Context, most, maxBytes int) ([]*Message, error)
	Ended() bool
}

// Broker is safe for concurrent use.
type Broker struct {
	sessions Sessions
	retained Retained
	peers    Peers // nil: there are no other nodes
	streams  *mqtt.Tree[Subscriber]
	matches  sync.Pool // of *mqtt.Matches[Subscriber]
}

// New makes a broker without subscriptions.
func New() *Broker {
	b := &Broker{streams: mqtt.NewTree[Subscriber]()}
	b.matches.New = func() any { return new(mqtt.Matches[Subscriber]) }
	return b
}

// Attach names who takes messages for sessions and keeps the retained ones. To be called before messages come.
func (b *Broker) Attach(sessions Sessions, retained Retained) {
	b.sessions, b.retained = sessions, retained
}

// Join has other nodes take part. To be called before messages and subscribers come.
func (b *Broker) Join(peers Peers) { b.peers = peers }

// Publish routes a message to the subscribers whose filters match its topic, and has it kept if it is to be retained (an empty
// payload removes the retained message). acknowledged, unless nil, is called once with nil when the message is durable
// where it has to be, or with the reason why it is not; it may be called before Publish returns and must not block.
func (b *Broker) Publish(message *Message, acknowledged func(error)) {
	b.PublishBy(b.sessions, message, acknowledged)
}

// PublishBy is Publish for a publisher that reaches the sessions its own way, to hand them many messages at once.
func (b *Broker) PublishBy(sessions Sessions, message *Message, acknowledged func(error)) {
	if b.peers != nil {
		acknowledged = b.peers.Publish(message, acknowledged)
	}
	b.PublishHere(sessions, message, acknowledged)
}

// PublishHere is PublishBy for what only the subscribers of this node are to hear: it concerns this node, or another one sent it.
func (b *Broker) PublishHere(sessions Sessions, message *Message, acknowledged func(error)) {
	if message.Retain {
		message = message.Lasting()
	}
	if b.streams.Len() != 0 && message.Answers == (Caller{}) {
		message = b.stream([]byte(message.Topic), message)
	}
	switch {
	case sessions != nil:
		sessions.Publish(message, acknowledged)
	case acknowledged != nil:
		acknowledged(nil)
	}
}

// PublishAt makes a message heard by those at this node, at once and no longer than until then: each node has such messages of its own.
func (b *Broker) PublishAt(message *Message) { b.PublishHere(b.sessions, message, nil) }

// stream hands a message to the streams that hear its topic. If there are any it is a lasting one from then on.
func (b *Broker) stream(topic []byte, message *Message) *Message {
	found := b.matches.Get().(*mqtt.Matches[Subscriber])
	b.streams.Match(topic, found)
	if len(found.Subscriptions) > 0 {
		message = message.Lasting()
	}
	for _, s := range found.Subscriptions {
		s.Subscriber.Deliver(message, min(message.QoS, s.QoS))
	}
	b.matches.Put(found)
	return message
}

// Subscribe adds a subscription of a stream (WebSocket, SSE, CoAP observe), which has one at a time for a filter; the returned
// function ends it and may be called more than once. Retained messages are not delivered: see Retained.
func (b *Broker) Subscribe(filter string, qos byte, subscriber Subscriber) (unsubscribe func()) {
	replaced := b.streams.Subscribe(&mqtt.Subscription[Subscriber]{Filter: filter, Subscriber: subscriber, QoS: qos})
	if b.peers != nil && !replaced {
		b.peers.Subscribed(filter)
	}
	return func() {
		if b.streams.Unsubscribe(filter, subscriber) && b.peers != nil {
			b.peers.Unsubscribed(filter)
		}
	}
}

// Overhear adds a subscription of somebody who hears what is published at this node, and nothing that others relay to it, so that
// asking all nodes gives each message once. It is at QoS 0.
func (b *Broker) Overhear(filter string, subscriber Subscriber) (unsubscribe func()) {
	o := overhearer{subscriber}
	b.streams.Subscribe(&mqtt.Subscription[Subscriber]{Filter: filter, Subscriber: o})
	return func() { b.streams.Unsubscribe(filter, o) }
}

type overhearer struct{ Subscriber }

// Deliver implements Subscriber.
func (o overhearer) Deliver(message *Message, qos byte) {
	if !message.Relayed {
		o.Subscriber.Deliver(message, qos)
	}
}

// Retained calls visit with each retained message whose topic the filter matches and that has not expired (MQTT 5 section
// 3.3.2.3.3), until it gives false. It reads from the disk. Before Attach there is none.
func (b *Broker) Retained(filter string, visit func(*Message) bool) error {
	if b.retained == nil {
		return nil
	}
	return b.retained.Retained(filter, visit)
}

// Apart is the message for those to whom another goroutine hands it out.
func (m *Message) Apart() *Message {
	apart := *m
	apart.views = nil
	return &apart
}

// ReadRetained begins to read the retained messages that a filter matches; nil: there are none.
func (b *Broker) ReadRetained(filter string) RetainedReader {
	if b.retained == nil {
		return nil
	}
	return b.retained.ReadRetained(filter)
}
