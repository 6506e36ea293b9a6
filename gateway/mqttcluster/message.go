package mqttcluster

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/protocol/mqtt"
)

// A message begins with its length. Then come, if flagShares is set, the filters of the shared subscriptions whose turn it is at the
// receiving node, after their number; if flagExpires is, how many milliseconds it has to live: clocks of two machines are never
// compared; if flagAnswer is, whom it answers; its time in microseconds since 1970; its texts; its properties, and its payload.
const (
	flagQoS     = 3
	flagRetain  = 1 << 2
	flagShares  = 1 << 3
	flagExpires = 1 << 4
	flagAnswer  = 1 << 5
	flagsEnd    = 1 << 6
)

const (
	maxShares       = 1024    // of one message
	maxMilliseconds = 1 << 43 // more than 250 years
)

// appendMessage appends a message that encode has encoded, for a node.
func appendMessage(dst []byte, shares []string, message []byte) []byte {
	if len(shares) == 0 {
		return appendText(dst, message)
	}
	head := binary.AppendUvarint(make([]byte, 0, 64), uint64(len(shares)))
	for _, share := range shares {
		head = appendText(head, share)
	}
	dst = binary.AppendUvarint(dst, uint64(len(message)+len(head)))
	dst = append(append(dst, message[0]|flagShares), head...)
	return append(dst, message[1:]...)
}

// encode appends what all nodes get of a message.
func encode(dst []byte, m *broker.Message, now time.Time) []byte {
	flags := m.QoS & flagQoS
	if m.Retain {
		flags |= flagRetain
	}
	if !m.Expires.IsZero() {
		flags |= flagExpires
	}
	if m.Answers != (broker.Caller{}) {
		flags |= flagAnswer
	}
	dst = append(dst, flags)
	if flags&flagExpires != 0 {
		dst = binary.AppendUvarint(dst, uint64(max(m.Expires.Sub(now).Milliseconds(), 0)))
	}
	if flags&flagAnswer != 0 {
		dst = appendText(appendText(dst, string(m.Answers.Kind)), m.Answers.ID)
	}
	dst = binary.AppendUvarint(dst, uint64(max(m.Time.UnixMicro(), 0)))
	dst = appendText(dst, m.Topic)
	dst = appendText(dst, m.ContentType)
	dst = appendText(dst, string(m.Publisher.Kind))
	dst = appendText(dst, m.Publisher.ID)
	dst = appendText(dst, m.Client)
	dst = appendText(dst, m.Properties)
	return append(dst, m.Payload...)
}

// decode reads a message. Its payload and properties are views of what was read if it is of QoS 0, and copies otherwise: who keeps a
// message for long must not keep those that came with it.
func decode(m *broker.Message, encoded []byte, now time.Time) error {
	r := reader{rest: encoded}
	flags := byte(r.below(flagsEnd))
	*m = broker.Message{QoS: flags & flagQoS, Retain: flags&flagRetain != 0, Relayed: true}
	if flags&flagShares != 0 {
		shares := r.below(maxShares)
		for range shares {
			m.Shares = append(m.Shares, string(r.text()))
		}
	}
	if flags&flagExpires != 0 {
		m.Expires = now.Add(time.Duration(r.below(maxMilliseconds)) * time.Millisecond)
	}
	if flags&flagAnswer != 0 {
		m.Answers = broker.Caller{Kind: fieldgate.PrincipalKind(r.text()), ID: string(r.text())}
	}
	if micro := r.below(1 << 62); micro > 0 {
		m.Time = time.UnixMicro(int64(micro))
	}
	// One string for all texts costs one allocation.
	before := r.rest
	var ends, sizes [5]int
	for i := range sizes {
		sizes[i] = len(r.text())
		ends[i] = len(before) - len(r.rest)
	}
	whole := string(before[:len(before)-len(r.rest)])
	m.Properties = r.text()
	m.Payload = r.rest
	if r.broken || m.QoS > 2 {
		return errPacket
	}
	var texts [5]string
	for i := range texts {
		texts[i] = whole[ends[i]-sizes[i] : ends[i]]
		if !utf8.ValidString(texts[i]) || strings.IndexByte(texts[i], 0) >= 0 {
			return errPacket
		}
	}
	m.Topic, m.ContentType, m.Publisher.Kind, m.Publisher.ID, m.Client = texts[0], texts[1], fieldgate.PrincipalKind(texts[2]), texts[3], texts[4]
	if !mqtt.ValidTopic([]byte(m.Topic)) || !sound(m.Properties) {
		return errPacket
	}
	if m.Fleeting = m.QoS == 0; !m.Fleeting {
		m.Properties, m.Payload = bytes.Clone(m.Properties), bytes.Clone(m.Payload)
	}
	return nil
}

// sound says whether properties may be sent to subscribers as they are.
func sound(properties []byte) bool {
	if len(properties) == 0 {
		return true
	}
	var p mqtt.Properties
	message := mqtt.Message{Forward: properties}
	return message.Properties(&p) == nil && !p.Has(mqtt.TopicAlias) && !p.Has(mqtt.MessageExpiryInterval) && len(p.SubscriptionIDs) == 0
}
