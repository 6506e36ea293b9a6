package mqttstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"fieldgate/gateway/broker"
)

// The value of a retained message is its number, eight bytes, and the message.
const retainedHead = 8

// retainedState is what a topic has retained.
type retainedState struct {
	exists  bool
	expires time.Time
}

// retain puts the message into the batch as its topic's retained one, or removes that if the payload is empty.
func (e *encoder) retain(o *operation) error {
	m := o.message
	e.key = retainKey(e.key[:0], m.Topic)
	before, err := e.retainedBefore(m.Topic)
	if err != nil {
		return err
	}
	exists := len(m.Payload) > 0
	if exists && !before.exists && e.retained >= e.room {
		o.refused = ErrRetained
		return nil
	}
	if before.exists && !before.expires.IsZero() {
		err = e.batch.Delete(expiryKey(nil, before.expires, e.key), nil)
	}
	if !exists {
		if before.exists {
			err = errors.Join(err, e.batch.Delete(e.key, nil))
			e.retained--
		}
		e.remember(m.Topic, retainedState{})
		return err
	}
	if !before.exists {
		e.retained++
	}
	e.value = appendMessage(binary.BigEndian.AppendUint64(e.value[:0], o.number), m)
	err = errors.Join(err, e.batch.Set(e.key, e.value, nil))
	if !m.Expires.IsZero() {
		err = errors.Join(err, e.batch.Set(expiryKey(nil, m.Expires, e.key), nil, nil))
	}
	e.remember(m.Topic, retainedState{true, m.Expires})
	return err
}

func (e *encoder) remember(topic string, state retainedState) {
	if e.topics == nil {
		e.topics = make(map[string]retainedState)
	}
	e.topics[topic] = state
}

// retainedBefore is what the topic, whose key is e.key, has retained before this operation.
func (e *encoder) retainedBefore(topic string) (state retainedState, err error) {
	if state, ok := e.topics[topic]; ok {
		return state, nil
	}
	value, closer, err := e.db.Get(e.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return state, nil
	}
	if err != nil {
		return state, err
	}
	defer closer.Close()
	if len(value) < retainedHead {
		return state, corrupt(e.key)
	}
	expires, err := messageExpiry(value[retainedHead:])
	if err != nil {
		return state, corrupt(e.key)
	}
	return retainedState{true, expires}, nil
}

// A RetainedReader reads the retained messages that a topic filter matches, in steps that are bounded whatever there is. It holds
// nothing between them. One goroutine uses it at a time.
type RetainedReader struct {
	store    *Store
	matcher  *matcher
	position []byte // the next key to look at; nil: at the end
	since    uint64
	settled  bool
}

// maxVisited bounds the keys that one step looks at.
const maxVisited = 4096

// Retained begins to read the retained messages that a filter (without a share prefix) matches. Those that are published from
// now on are left out: a subscription that was made before has heard them as they came.
func (s *Store) Retained(filter string) *RetainedReader {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := newMatcher(filter)
	if s.shared != nil { // a message of another node may be under way that nobody here has heard: better twice than never
		return &RetainedReader{store: s, matcher: m, position: m.lower, since: math.MaxUint64}
	}
	return &RetainedReader{store: s, matcher: m, position: m.lower, since: s.newest | sharedBit, settled: s.settled()}
}

// skip has the reader go on behind a topic.
func (r *RetainedReader) skip(topic string) {
	if next := append(retainKey(nil, topic), 0); bytes.Compare(next, r.position) > 0 { // the first key behind the topic's
		r.position = next
	}
}

// EachRetained calls visit with the retained messages that a filter matches, from behind a topic on (empty: all), in the order of topics, until
// it says no. It reads them in steps and waits for the disk.
func (s *Store) EachRetained(ctx context.Context, filter, after string, visit func(*broker.Message) bool) error {
	reader := s.Retained(filter)
	if after != "" {
		reader.skip(after)
	}
	for !reader.Ended() {
		messages, err := reader.Next(ctx, 64, 256<<10)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if !visit(m) {
				return nil
			}
		}
	}
	return nil
}

// Ended reports that all has been read.
func (r *RetainedReader) Ended() bool { return r.position == nil }

// Next reads up to most messages, of about maxBytes together, in the order of topics; fewer, or none, do not mean the end. It
// waits for the disk. Those that have expired are left out.
func (r *RetainedReader) Next(ctx context.Context, most, maxBytes int) (messages []*broker.Message, err error) {
	if !r.settled { // what was published before is to be seen
		if err := r.store.Settle(ctx); err != nil {
			return nil, err
		}
		r.settled = true
	}
	now := time.Now()
	err = r.store.read(func(db *pebble.DB) error {
		i, err := db.NewIter(&pebble.IterOptions{LowerBound: r.matcher.lower, UpperBound: r.matcher.upper})
		if err != nil {
			return err
		}
		defer i.Close()
		var seek []byte
		valid := i.SeekGE(r.position)
		for range maxVisited {
			if !valid {
				r.position = nil
				return i.Error()
			}
			if len(messages) == most || maxBytes <= 0 {
				break
			}
			matches := false
			if matches, seek = r.matcher.match(i.Key(), seek[:0]); !matches {
				valid = i.SeekGE(seek)
				continue
			}
			value, err := i.ValueAndErr()
			if err != nil {
				return err
			}
			if len(value) < retainedHead {
				return corrupt(i.Key())
			}
			number := binary.BigEndian.Uint64(value)
			if number <= r.since && !r.store.isRetaining(topicOf(i.Key()), r.since) {
				m, err := decodeMessage(value[retainedHead:])
				if err != nil {
					return corrupt(i.Key())
				}
				if m.Expires.IsZero() || now.Before(m.Expires) {
					messages = append(messages, m)
					maxBytes -= size(m)
				}
			}
			valid = i.Next()
		}
		if !valid {
			r.position = nil
			return i.Error()
		}
		r.position = bytes.Clone(i.Key())
		return nil
	})
	return messages, err
}

// isRetaining says whether a message newer than since is on its way to the disk for the topic.
func (s *Store) isRetaining(topic []byte, since uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	number, ok := s.retaining[string(topic)]
	return ok && number > since
}

func topicOf(key []byte) []byte { return bytes.ReplaceAll(key[1:], []byte{0}, []byte{'/'}) }

// messageExpiry reads only the expiry of an encoded message.
func messageExpiry(b []byte) (time.Time, error) {
	r := reader{rest: b}
	for range 4 {
		r.bytes()
	}
	r.byte()
	r.byte()
	expires := r.time()
	if r.bad {
		return time.Time{}, errValue
	}
	return expires, nil
}
