package mqttstore

import (
	"encoding/binary"
	"errors"
	"slices"
	"sort"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"fieldgate/gateway/broker"
)

// Recipient is one session that a message waits for.
type Recipient struct {
	Session         uint64
	QoS             byte
	Retain          bool
	SubscriptionIDs []uint32
}

// Queued is a message that waits for one session.
type Queued struct {
	Number uint64
	Recipient
	Message *broker.Message
}

// A message with several recipients is stored once, apart from their queues, and has an odd number.
const (
	numberStep = 2
	sharedBit  = 1
)

// Publish keeps a message for its recipients and, if it is to be retained, as its topic's retained one, and notes that it was
// received. It gives the message's number; numbers rise in the order of calls. done, unless nil, is called once: when all that is on
// disk, or when all recipients have had the message before, or with the reason why it is not stored. It must not block. A store with
// a log gives no number: its Follower is told of the message in its turn.
func (s *Store) Publish(m *broker.Message, to []Recipient, received Received, done func(error)) (number uint64) {
	if s.shared != nil {
		s.publishShared(m, to, received, done)
		return 0
	}
	size := len(m.Topic) + len(m.Payload) + len(m.Properties) + len(m.ContentType)
	s.mu.Lock()
	err := s.refuses(done != nil)
	if size > maxMessage {
		err = ErrTooLarge
	}
	s.newest += numberStep
	number = s.newest
	if len(to) > 1 {
		number |= sharedBit
	}
	if err == nil {
		if m.Retain {
			s.retaining[m.Topic] = number
		}
		s.add(operation{kind: opMessage, retain: m.Retain, number: number, message: m, to: to, left: len(to), received: received, done: done}, 128+size+32*len(to))
	}
	s.mu.Unlock()
	if err != nil && done != nil {
		done(err)
	}
	return number
}

// Done says that a session needs a message no more; expires is the message's. What is not on disk yet is not written
// for the session, and if no other needs it, its publisher has its answer at once: everybody has taken the message.
func (s *Store) Done(session, number uint64, expires time.Time) {
	if s.shared != nil {
		s.proposeOwned(&Change{Kind: Taken, Session: session, Queued: number, Expires: expires}, nil)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := sort.Search(len(s.pending), func(i int) bool { return s.pending[i].position >= number&^sharedBit })
	if i < len(s.pending) && s.pending[i].kind == opMessage && s.pending[i].number == number {
		o := &s.pending[i]
		j := slices.IndexFunc(o.to, func(r Recipient) bool { return r.Session == session })
		if j < 0 {
			return
		}
		o.to[j].Session = 0
		if o.left--; o.left == 0 && !o.retain && o.received.Session == 0 {
			if o.done != nil {
				s.answers = append(s.answers, o.done)
				s.awaited--
				signal(s.answer)
			}
			s.bytes -= o.size
			*o = operation{kind: opNothing, position: o.position}
		}
		return
	}
	if s.refuses(false) == nil {
		s.add(operation{kind: opDone, session: session, number: number, expires: expires}, 64)
	}
}

// Queue reads up to most messages, of about maxBytes together, that wait for a session and whose numbers are above after, in
// their order. It sees what is on disk: see Settle. all: no further ones were there.
func (s *Store) Queue(session, after uint64, most, maxBytes int) (queued []Queued, all bool, err error) {
	all = true
	err = s.read(func(db *pebble.DB) error {
		lower, upper := queueKey(nil, session, after+1), appendKey(nil, prefixQueue, session+1)
		return scan(db, lower, upper, func(key, value []byte) (bool, error) {
			if len(queued) == most || maxBytes <= 0 {
				all = false
				return false, nil
			}
			q, err := readQueued(db, key, value)
			if errors.Is(err, pebble.ErrNotFound) {
				return true, nil // its last recipient was done with it meanwhile
			}
			if err != nil {
				return false, err
			}
			maxBytes -= size(q.Message)
			queued = append(queued, q)
			return true, nil
		})
	})
	return queued, all, err
}

func size(m *broker.Message) int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

func readQueued(db pebble.Reader, key, value []byte) (q Queued, err error) {
	if len(key) != 17 {
		return q, corrupt(key)
	}
	q.Number = binary.BigEndian.Uint64(key[9:])
	var shared bool
	var body []byte
	if q.Recipient, shared, body, err = decodeQueued(value); err != nil {
		return q, corrupt(key)
	}
	q.Session = binary.BigEndian.Uint64(key[1:])
	if shared {
		apart, closer, err := db.Get(appendKey(nil, prefixMessage, q.Number))
		if err != nil {
			return q, err
		}
		defer closer.Close()
		body = apart
	}
	if q.Message, err = decodeMessage(body); err != nil {
		return q, corrupt(key)
	}
	return q, nil
}

// dequeue deletes one session's part in a message.
func (e *encoder) dequeue(session, number uint64, expires time.Time) error {
	key := queueKey(e.key[:0], session, number)
	e.key = key
	var err error
	if !expires.IsZero() {
		err = e.batch.Delete(expiryKey(nil, expires, key), nil)
	}
	// The key is written exactly once, so that a message that was taken soon never leaves memory for a table.
	err = errors.Join(err, e.batch.SingleDelete(key, nil))
	if err != nil || number&sharedBit == 0 {
		return err
	}
	left, ok := e.waiting[number]
	if !ok {
		value, closer, err := e.db.Get(appendKey(nil, prefixCount, number))
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		var n int
		left, n = binary.Uvarint(value)
		closer.Close()
		if n <= 0 || left == 0 {
			return corrupt(appendKey(nil, prefixCount, number))
		}
	}
	if e.waiting == nil {
		e.waiting = make(map[uint64]uint64)
	}
	e.waiting[number] = left - min(left, 1)
	return nil
}

// countWaiting writes for how many sessions the messages that are stored apart still wait; for none: they are deleted.
func (e *encoder) countWaiting() (err error) {
	for number, left := range e.waiting {
		key := appendKey(e.key[:0], prefixCount, number)
		if left > 0 {
			err = errors.Join(err, e.batch.Set(key, binary.AppendUvarint(nil, left), nil))
			continue
		}
		err = errors.Join(err, e.batch.Delete(key, nil), e.batch.SingleDelete(appendKey(e.key[:0], prefixMessage, number), nil))
	}
	return err
}
