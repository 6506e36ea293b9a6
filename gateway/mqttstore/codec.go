package mqttstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
)

var errValue = errors.New("a value does not hold what its key says")

func appendSession(b []byte, s *Session) []byte {
	b = appendText(b, s.Kind)
	b = appendText(b, s.Principal)
	b = appendText(b, s.Client)
	b = binary.AppendUvarint(b, uint64(s.Expiry))
	b = appendTime(b, s.Away)
	w := s.Will
	b = append(b, bits(w != nil))
	if w != nil {
		b = binary.AppendUvarint(b, uint64(w.Delay))
		b = binary.AppendUvarint(b, uint64(w.Expiry/time.Second))
		b = append(b, bits(w.IsText))
		b = append(b, w.Credential[:]...)
		b = appendMessage(b, &w.Message)
	}
	return b
}

func decodeSession(b []byte) (s Session, err error) {
	r := reader{rest: b}
	s = Session{Kind: r.text(), Principal: r.text(), Client: r.text(), Expiry: uint32(r.uint(math.MaxUint32)), Away: r.time()}
	if r.byte()&1 != 0 {
		w := &Will{Delay: uint32(r.uint(math.MaxUint32)), Expiry: time.Duration(r.uint(math.MaxUint32)) * time.Second, IsText: r.byte()&1 != 0}
		copy(w.Credential[:], r.take(len(w.Credential)))
		w.Message = *r.message()
		s.Will = w
	}
	return s, r.end()
}

func appendOptions(b []byte, o Options) []byte {
	b = append(b, o.QoS, bits(o.NoLocal, o.RetainAsPublished))
	return binary.AppendUvarint(b, uint64(o.ID))
}

func decodeOptions(b []byte) (o Options, err error) {
	r := reader{rest: b}
	o = r.options()
	return o, r.end()
}

// A queued message's value says how its recipient gets it, and then the message, or nothing if it is stored apart.
func appendQueued(b []byte, to *Recipient, shared bool) []byte {
	b = append(b, to.QoS, bits(to.Retain, shared))
	return appendIDs(b, to.SubscriptionIDs)
}

func appendIDs(b []byte, ids []uint32) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return b
}

func decodeQueued(b []byte) (to Recipient, shared bool, message []byte, err error) {
	r := reader{rest: b}
	to = Recipient{QoS: r.byte()}
	flags := r.byte()
	to.Retain = flags&1 != 0
	to.SubscriptionIDs = r.ids()
	if r.bad {
		return to, false, nil, errValue
	}
	return to, flags&2 != 0, r.rest, nil
}

func appendMessage(b []byte, m *broker.Message) []byte {
	b = appendText(b, m.Topic)
	b = appendText(b, m.Payload)
	b = appendText(b, m.ContentType)
	b = appendText(b, m.Properties)
	b = append(b, m.QoS, bits(m.Retain))
	b = appendTime(b, m.Expires)
	b = appendTime(b, m.Time)
	b = appendText(b, m.Client)
	b = appendText(b, string(m.Publisher.Kind))
	return appendText(b, m.Publisher.ID)
}

func decodeMessage(b []byte) (*broker.Message, error) {
	r := reader{rest: b}
	m := r.message()
	return m, r.end()
}

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

// reader reads what the functions above wrote. What it gives is copied, once: texts of a message share its memory.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) fail() {
	r.bad, r.rest = true, nil
}

func (r *reader) end() error {
	if r.bad || len(r.rest) > 0 {
		return errValue
	}
	return nil
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.fail()
		return 0
	}
	v := r.rest[0]
	r.rest = r.rest[1:]
	return v
}

func (r *reader) uint(most uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > most {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) bytes() []byte { return r.take(int(r.uint(uint64(len(r.rest))))) }

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.fail()
		return nil
	}
	v := r.rest[:n:n]
	r.rest = r.rest[n:]
	return v
}

func (r *reader) text() string { return string(r.bytes()) }

func (r *reader) time() time.Time {
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

func (r *reader) ids() (ids []uint32) {
	for range r.uint(uint64(len(r.rest))) {
		ids = append(ids, uint32(r.uint(math.MaxUint32)))
	}
	return ids
}

func (r *reader) options() Options {
	o := Options{QoS: r.byte()}
	flags := r.byte()
	o.NoLocal, o.RetainAsPublished = flags&1 != 0, flags&2 != 0
	o.ID = uint32(r.uint(math.MaxUint32))
	return o
}

func (r *reader) message() *broker.Message {
	m := &broker.Message{Topic: r.text(), Payload: bytes.Clone(r.bytes()), ContentType: r.text(), Properties: bytes.Clone(r.bytes())}
	m.QoS = r.byte()
	m.Retain = r.byte()&1 != 0
	m.Expires, m.Time = r.time(), r.time()
	m.Client = r.text()
	m.Publisher.Kind, m.Publisher.ID = fieldgate.PrincipalKind(r.text()), r.text()
	return m
}
