package mqttstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"fieldgate"
	"fieldgate/gateway/broker"
)

// Session is what is kept of a session beside its subscriptions and messages.
type Session struct {
	Kind, Principal, Client string
	Expiry                  uint32    // seconds, as in the Session Expiry Interval
	Away                    time.Time // since when its client is; zero: it was connected
	Will                    *Will     // nil: none
}

// Will is the message that a client leaves for the case that it goes without a word.
type Will struct {
	Message broker.Message
	Delay   uint32        // seconds
	Expiry  time.Duration // of the message, whole seconds; 0: none
	IsText  bool          // its payload format indicator says UTF-8

	Credential fieldgate.CredentialHash // that the client presented
}

// Options are what a session asked for with a topic filter.
type Options struct {
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	ID                uint32
}

// Subscription is a topic filter with options.
type Subscription struct {
	Filter string
	Options
}

// NewNumber gives a number that no session and no message has. Sessions go by such a number.
func (s *Store) NewNumber() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest += numberStep
	return s.newest
}

// Newest is the newest number that was given.
func (s *Store) Newest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest | sharedBit
}

// SaveSession keeps a session, or replaces what is kept of it, together with subscriptions that are new or changed. In a store with a
// log a session begins with Claim.
func (s *Store) SaveSession(number uint64, session *Session, subscriptions []Subscription, done func(error)) {
	if s.shared != nil {
		s.proposeOwned(&Change{Kind: Saved, Session: number, Record: session}, done)
		return
	}
	operations := []operation{{kind: opSet, key: appendKey(nil, prefixSession, number), value: appendSession(nil, session)}}
	s.write(done, append(operations, subscribe(number, subscriptions)...)...)
}

// Subscribe keeps subscriptions of a session, which replace those to the same filters.
func (s *Store) Subscribe(number uint64, subscriptions []Subscription, done func(error)) {
	if s.shared != nil {
		s.proposeOwned(&Change{Kind: Subscribed, Session: number, Subscriptions: subscriptions}, done)
		return
	}
	s.write(done, subscribe(number, subscriptions)...)
}

func subscribe(number uint64, subscriptions []Subscription) (operations []operation) {
	for i := range subscriptions {
		p := &subscriptions[i]
		operations = append(operations, operation{kind: opSet, key: append(appendKey(nil, prefixFilter, number), p.Filter...), value: appendOptions(nil, p.Options)})
	}
	return operations
}

// Unsubscribe forgets subscriptions of a session.
func (s *Store) Unsubscribe(number uint64, filters []string, done func(error)) {
	if s.shared != nil {
		s.proposeOwned(&Change{Kind: Unsubscribed, Session: number, Filters: filters}, done)
		return
	}
	s.write(done, unsubscribe(number, filters)...)
}

func unsubscribe(number uint64, filters []string) (operations []operation) {
	for _, filter := range filters {
		operations = append(operations, operation{kind: opDelete, key: append(appendKey(nil, prefixFilter, number), filter...)})
	}
	return operations
}

// EndSession forgets a session with all that it had, whichever node has it.
func (s *Store) EndSession(number uint64) {
	if h := s.shared; h != nil {
		h.owners.RLock()
		claim := h.owners.of[number].claim
		h.owners.RUnlock()
		s.propose(&Change{Kind: Ended, Session: number, Claim: claim}, nil)
		return
	}
	s.write(nil, operation{kind: opEnd, session: number})
}

// Kept is a session as it was read back.
type Kept struct {
	Number uint64
	Session
	Subscriptions []Subscription
	Received      []uint16 // packet identifiers of messages from its client: see Receive
	Delivered     []uint64 // numbers of messages to its client: see Delivered

	// In a store with a log: which node has it, by which claim.
	Node         string
	Epoch, Claim uint64
}

// Sessions gives the sessions that Open found, once.
func (s *Store) Sessions() []Kept {
	kept := s.kept
	s.kept = nil
	return kept
}

func readSessions(db *pebble.DB) (kept []Kept, err error) {
	filters, err := newGroup(db, prefixFilter)
	if err != nil {
		return nil, err
	}
	defer filters.Close()
	ids, err := newGroup(db, prefixID)
	if err != nil {
		return nil, err
	}
	defer ids.Close()
	delivered, err := newGroup(db, prefixDelivered)
	if err != nil {
		return nil, err
	}
	defer delivered.Close()
	err = scan(db, []byte{prefixSession}, []byte{prefixSession + 1}, func(key, value []byte) (bool, error) {
		if len(key) != 9 {
			return false, corrupt(key)
		}
		k := Kept{Number: binary.BigEndian.Uint64(key[1:])}
		if k.Session, err = decodeSession(value); err != nil {
			return false, corrupt(key)
		}
		err := filters.of(k.Number, func(rest, value []byte) error {
			options, err := decodeOptions(value)
			k.Subscriptions = append(k.Subscriptions, Subscription{string(rest), options})
			return err
		})
		if err == nil {
			err = ids.of(k.Number, func(rest, _ []byte) error {
				if len(rest) != 2 {
					return errValue
				}
				k.Received = append(k.Received, binary.BigEndian.Uint16(rest))
				return nil
			})
		}
		if err == nil {
			err = delivered.of(k.Number, func(rest, _ []byte) error {
				if len(rest) != 8 {
					return errValue
				}
				k.Delivered = append(k.Delivered, binary.BigEndian.Uint64(rest))
				return nil
			})
		}
		if errors.Is(err, errValue) {
			err = corrupt(key)
		}
		kept = append(kept, k)
		return true, err
	})
	return kept, err
}

// group walks through the keys that begin with a prefix and a session's number, session by session.
type group struct {
	*pebble.Iterator
	prefix byte
	valid  bool
}

func newGroup(db *pebble.DB, prefix byte) (*group, error) {
	i, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err != nil {
		return nil, err
	}
	return &group{i, prefix, i.First()}, nil
}

// of visits the session's entries. Sessions are to be asked about in the order of their numbers.
func (g *group) of(number uint64, visit func(rest, value []byte) error) error {
	wanted := appendKey(nil, g.prefix, number)
	if g.valid && bytes.Compare(g.Key(), wanted) < 0 { // of sessions that have ended
		g.valid = g.SeekGE(wanted)
	}
	for ; g.valid && bytes.HasPrefix(g.Key(), wanted); g.valid = g.Next() {
		value, err := g.ValueAndErr()
		if err == nil {
			err = visit(g.Key()[len(wanted):], value)
		}
		if err != nil {
			return err
		}
	}
	return g.Error()
}

func corrupt(key []byte) error {
	return fmt.Errorf("%w: the entry %x cannot be read", fieldgate.ErrCorrupt, key)
}
