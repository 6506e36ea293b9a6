package mqtt

import (
	"encoding/binary"
	"time"
)

// Message is an application message on its way to its receivers. It is shared by all of them and never changed.
type Message struct {
	Topic   []byte
	Payload []byte
	QoS     byte
	Retain  bool // as published

	// Forward holds the encoded properties that receivers get unaltered and in the publisher's order [MQTT-3.3.2-17]
	// [MQTT-3.3.2-18]: all but topic alias, subscription identifiers and message expiry.
	Forward []byte
	Expires time.Time // zero: never

	Whole int // what it counts for against limits in bytes, where that is not its own size: of one that is part of another
}

// NewMessage copies what receivers need of p. received is when it arrived.
func NewMessage(p *Publish, received time.Time) *Message {
	forward := p.Properties.forwarded()
	block := make([]byte, 0, len(p.Topic)+len(p.Payload)+forward.size())
	block = append(append(block, p.Topic...), p.Payload...)
	block = forward.appendValues(block)
	topic, body := len(p.Topic), len(p.Topic)+len(p.Payload)
	m := &Message{
		Topic:   block[:topic:topic],
		Payload: block[topic:body:body],
		Forward: block[body:],
		QoS:     p.QoS,
		Retain:  p.Retain,
	}
	if p.Properties.Has(MessageExpiryInterval) {
		m.Expires = received.Add(time.Duration(p.Properties.Number(MessageExpiryInterval)) * time.Second)
	}
	return m
}

// forwarded is p without what concerns one hop only.
func (p *Properties) forwarded() Properties {
	forward := *p
	forward.SubscriptionIDs = nil
	forward.Delete(TopicAlias)
	forward.Delete(MessageExpiryInterval)
	forward.Delete(WillDelayInterval)
	return forward
}

// AppendForward appends the properties in the form of Message.Forward.
func (p *Properties) AppendForward(dst []byte) []byte {
	forward := p.forwarded()
	return forward.appendValues(dst)
}

// Will gives the will message of a CONNECT as the PUBLISH it stands for; it shares the CONNECT's bytes.
func (p *Connect) Will() Publish {
	return Publish{Topic: p.WillTopic, Payload: p.WillPayload, QoS: p.WillQoS, Retain: p.WillRetain, Properties: p.WillProperties}
}

// Properties decodes the forwarded properties into p; the values are views of the message.
func (m *Message) Properties(p *Properties) error {
	framed := appendVarint(make([]byte, 0, 4+len(m.Forward)), uint32(len(m.Forward)))
	return p.decode(&reader{append(framed, m.Forward...)}, PUBLISH)
}

// Size is what the message counts for against limits in bytes.
func (m *Message) Size() int {
	if m.Whole > 0 {
		return m.Whole
	}
	return len(m.Topic) + len(m.Payload) + len(m.Forward)
}

// Expired reports whether the message's expiry has passed [MQTT-3.3.2-5].
func (m *Message) Expired(now time.Time) bool { return !m.Expires.IsZero() && !now.Before(m.Expires) }

// Delivery is a Message addressed to one session.
type Delivery struct {
	Message         *Message
	QoS             byte // the lower of the message's and the subscription's [MQTT-3.8.4-8]
	Retain          bool // the RETAIN flag to send [MQTT-3.3.1-12] [MQTT-3.3.1-13]
	SubscriptionIDs []uint32
	Token           uint64 // the owner's own, in whose store it is; 0 if it is in none
}

// append writes d as a PUBLISH of at most limit bytes, with the topic or an alias for it (0: none); ok is false, and nothing
// written, when it does not fit.
func (d *Delivery) append(dst []byte, v Version, id uint16, dup bool, limit int, now time.Time, topic []byte, alias uint16) (_ []byte, ok bool) {
	remaining, properties := stringSize(topic)+len(d.Message.Payload), 0
	if d.QoS > 0 {
		remaining += 2
	}
	if v == V5 {
		properties = len(d.Message.Forward)
		if alias != 0 {
			properties += 3
		}
		if !d.Message.Expires.IsZero() {
			properties += 5
		}
		for _, id := range d.SubscriptionIDs {
			properties += 1 + varintSize(id)
		}
		remaining += varintSize(uint32(properties)) + properties
	}
	if remaining > maxRemaining || 1+varintSize(uint32(remaining))+remaining > limit {
		return dst, false
	}
	dst = appendHeader(dst, PUBLISH, publishFlags(dup, d.QoS, d.Retain), remaining)
	dst = appendString(dst, topic)
	if d.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, id)
	}
	if v == V5 {
		dst = appendVarint(dst, uint32(properties))
		if alias != 0 {
			dst = binary.BigEndian.AppendUint16(append(dst, byte(TopicAlias)), alias)
		}
		if !d.Message.Expires.IsZero() {
			// The received value minus the time spent here [MQTT-3.3.2-6], rounded up: 0 would be a lie while it lives.
			left := (d.Message.Expires.Sub(now) + time.Second - 1) / time.Second
			dst = append(dst, byte(MessageExpiryInterval))
			dst = binary.BigEndian.AppendUint32(dst, uint32(max(left, 0)))
		}
		for _, id := range d.SubscriptionIDs {
			dst = appendVarint(append(dst, byte(SubscriptionIdentifier)), id)
		}
		dst = append(dst, d.Message.Forward...)
	}
	return append(dst, d.Message.Payload...), true
}

// maxRemaining is the largest remaining length that a fixed header can say (§1.5.5).
const maxRemaining = 268_435_455
