package mqttfront

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"fieldgate/gateway/broker"
)

// entry is one line of the journal: a change of what must survive a crash. Which fields count depends on its kind.
type entry struct {
	kind    entryKind
	session uint64

	// entrySession
	key    sessionKey
	expiry uint32    // seconds, as in the Session Expiry Interval
	away   time.Time // since when its client is; zero: connected

	// entrySubscribe, entryUnsubscribe
	filter  string
	options subscriptionOptions

	// entryMessage, entryRetain; entryDone names a message by its number
	number     uint64
	message    *broker.Message
	recipients []recipient
}

type entryKind byte

const (
	entrySession     entryKind = iota + 1 // a session exists, with this expiry, its client away since then
	entryEnd                              // it is gone, with all that it had
	entrySubscribe                        //
	entryUnsubscribe                      //
	entryMessage                          // a message waits for its recipients; with Retain it is also the topic's retained one
	entryDone                             // one recipient needs it no more
)

// recipient is one persistent session that a message waits for.
type recipient struct {
	session         uint64
	qos             byte
	retain          bool
	subscriptionIDs []uint32
}

// subscriptionOptions are what a session asked for with a filter.
type subscriptionOptions struct {
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	ID                uint32
}

var errEntry = errors.New("an entry does not hold what its kind says")

func (e *entry) append(b []byte) []byte {
	b = append(b, byte(e.kind))
	b = binary.AppendUvarint(b, e.session)
	switch e.kind {
	case entrySession:
		b = appendText(b, e.key.kind)
		b = appendText(b, e.key.principal)
		b = appendText(b, e.key.client)
		b = binary.AppendUvarint(b, uint64(e.expiry))
		b = appendTime(b, e.away)
	case entrySubscribe:
		b = appendText(b, e.filter)
		b = append(b, e.options.QoS, bits(e.options.NoLocal, e.options.RetainAsPublished))
		b = binary.AppendUvarint(b, uint64(e.options.ID))
	case entryUnsubscribe:
		b = appendText(b, e.filter)
	case entryDone:
		b = binary.AppendUvarint(b, e.number)
	case entryMessage:
		m := e.message
		b = binary.AppendUvarint(b, e.number)
		b = appendText(b, m.Topic)
		b = appendText(b, m.Payload)
		b = appendText(b, m.ContentType)
		b = appendText(b, m.Properties)
		b = append(b, m.QoS, bits(m.Retain, m.Client != ""))
		b = appendTime(b, m.Expires)
		b = appendTime(b, m.Time)
		b = binary.AppendUvarint(b, uint64(len(e.recipients)))
		for i := range e.recipients {
			r := &e.recipients[i]
			b = binary.AppendUvarint(b, r.session)
			b = append(b, r.qos, bits(r.retain))
			b = binary.AppendUvarint(b, uint64(len(r.subscriptionIDs)))
			for _, id := range r.subscriptionIDs {
				b = binary.AppendUvarint(b, uint64(id))
			}
		}
	}
	return b
}

func (e *entry) decode(b []byte) error {
	r := entryReader{rest: b}
	*e = entry{kind: entryKind(r.byte())}
	e.session = r.uint(math.MaxUint64)
	switch e.kind {
	case entrySession:
		e.key = sessionKey{kind: r.text(), principal: r.text(), client: r.text()}
		e.expiry = uint32(r.uint(math.MaxUint32))
		e.away = r.time()
	case entryEnd:
	case entrySubscribe:
		e.filter = r.text()
		e.options.QoS = r.byte()
		flags := r.byte()
		e.options.NoLocal, e.options.RetainAsPublished = flags&1 != 0, flags&2 != 0
		e.options.ID = uint32(r.uint(math.MaxUint32))
	case entryUnsubscribe:
		e.filter = r.text()
	case entryDone:
		e.number = r.uint(math.MaxUint64)
	case entryMessage:
		e.number = r.uint(math.MaxUint64)
		m := &broker.Message{Topic: r.text(), Payload: []byte(r.text()), ContentType: r.text(), Properties: []byte(r.text())}
		m.QoS = r.byte()
		flags := r.byte()
		m.Retain = flags&1 != 0
		if flags&2 != 0 {
			m.Client = formerClient
		}
		m.Expires, m.Time = r.time(), r.time()
		e.message = m
		for range r.uint(uint64(len(r.rest))) {
			to := recipient{session: r.uint(math.MaxUint64), qos: r.byte(), retain: r.byte()&1 != 0}
			for range r.uint(uint64(len(r.rest))) {
				to.subscriptionIDs = append(to.subscriptionIDs, uint32(r.uint(math.MaxUint32)))
			}
			e.recipients = append(e.recipients, to)
		}
	default:
		return errEntry
	}
	if r.bad || len(r.rest) > 0 {
		return errEntry
	}
	return nil
}

// formerClient stands for the publisher of a message that was read back: it was an MQTT client, no matter which.
const formerClient = "\x00"

func bits(flags ...bool) (b byte) {
	for i, set := range flags {
		if set {
			b |= 1 << i
		}
	}
	return b
}

func appendText[T string | []byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// appendTime writes a time as nanoseconds since 1970; 0 is the zero time.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, 0)
	}
	return binary.AppendVarint(b, t.UnixNano())
}

type entryReader struct {
	rest []byte
	bad  bool
}

func (r *entryReader) fail() {
	r.bad, r.rest = true, nil
}

func (r *entryReader) byte() byte {
	if len(r.rest) == 0 {
		r.fail()
		return 0
	}
	v := r.rest[0]
	r.rest = r.rest[1:]
	return v
}

func (r *entryReader) uint(most uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > most {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *entryReader) text() string {
	n := r.uint(uint64(len(r.rest)))
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	v := string(r.rest[:n])
	r.rest = r.rest[n:]
	return v
}

func (r *entryReader) time() time.Time {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail()
		return time.Time{}
	}
	r.rest = r.rest[n:]
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, v)
}
