package mqttstore

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A QoS 2 message is delivered once although either side may fail at any point, because both remember how far they are (MQTT 5
// sections 4.1 and 4.3.3). What the broker remembers is here. Of each step the peer may only be told when it is on disk.

// Received names a QoS 2 message by the session of its publisher and its packet identifier; zero: none.
type Received struct {
	Session uint64
	ID      uint16
}

// Receive remembers a message from a client that is not stored itself: for one that is, Publish does. done is as in Release.
func (s *Store) Receive(received Received, done func(error)) {
	if s.shared != nil {
		s.proposeOwned(&Change{Kind: Came, Session: received.Session, Received: received.ID}, done)
		return
	}
	s.note(operation{kind: opReceive, received: received, done: done})
}

// Release forgets a message from a client, after PUBREL. Only when done was called may the client use the identifier again. done is
// called once, when that is on disk or with the reason why it is not. It must not block.
func (s *Store) Release(received Received, done func(error)) {
	if s.shared != nil {
		s.proposeOwned(&Change{Kind: Released, Session: received.Session, Received: received.ID}, done)
		return
	}
	s.note(operation{kind: opRelease, received: received, done: done})
}

// Delivered forgets a message that a session's client has received, and remembers that this was so, until Complete; expires is the
// message's. done is as in Release.
func (s *Store) Delivered(session, number uint64, expires time.Time, done func(error)) {
	if s.shared != nil {
		s.proposeOwned(&Change{Kind: Reached, Session: session, Queued: number, Expires: expires}, done)
		return
	}
	s.note(operation{kind: opDelivered, session: session, number: number, expires: expires, done: done})
}

// Complete forgets a delivered message. done is as in Release, but is not called soon.
func (s *Store) Complete(session, number uint64, done func(error)) {
	if s.shared != nil {
		s.proposeOwned(&Change{Kind: Completed, Session: session, Queued: number}, done)
		return
	}
	s.note(operation{kind: opComplete, session: session, number: number, done: done})
}

// Discard forgets a message that was stored for a session and is not to be delivered. done is as in Complete.
func (s *Store) Discard(session, number uint64, expires time.Time, done func(error)) {
	if s.shared != nil {
		s.proposeOwned(&Change{Kind: Taken, Session: session, Queued: number, Expires: expires}, done)
		return
	}
	s.note(operation{kind: opDone, session: session, number: number, expires: expires, done: done})
}

// Handshakes gives the packet identifiers of messages that a session's client has sent and not released, and the numbers of those that it
// has received and not completed.
func (s *Store) Handshakes(session uint64) (received []uint16, delivered []uint64, err error) {
	err = s.read(func(db *pebble.DB) error {
		err := scan(db, appendKey(nil, prefixID, session), appendKey(nil, prefixID, session+1), func(key, _ []byte) (bool, error) {
			if len(key) != 11 {
				return false, corrupt(key)
			}
			received = append(received, binary.BigEndian.Uint16(key[9:]))
			return true, nil
		})
		return errors.Join(err, scan(db, appendKey(nil, prefixDelivered, session), appendKey(nil, prefixDelivered, session+1), func(key, _ []byte) (bool, error) {
			if len(key) != 17 {
				return false, corrupt(key)
			}
			delivered = append(delivered, binary.BigEndian.Uint64(key[9:]))
			return true, nil
		}))
	})
	return received, delivered, err
}

// note adds a step. It is not refused however much is waiting: there are only as many as messages under way, and these would stay so
// for ever without it.
func (s *Store) note(o operation) {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.add(o, 64)
	}
	s.mu.Unlock()
	if closed {
		o.done(ErrClosed)
	}
}
