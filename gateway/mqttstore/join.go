package mqttstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"fieldgate"
	"fieldgate/engine/bus"
)

// follow applies the log until the context ends. Where store and stream do not fit each other, it sees to it that they do.
func (s *Store) follow(ctx context.Context, batches chan<- batch) {
	h := s.shared
	for ctx.Err() == nil {
		err := s.join(ctx, batches)
		if err == nil {
			s.tell(nil)
			err = h.Bus.Read(ctx, fieldgate.StreamMQTT, h.state.applied+1, readEntries, func(entries []bus.Entry) error {
				return s.applyEntries(ctx, batches, entries)
			})
		}
		if ctx.Err() != nil {
			return
		}
		s.tell(err)
		if errors.Is(err, ErrFailed) {
			s.refuseProposals(ErrFailed)
		}
		select {
		case <-ctx.Done():
		case <-time.After(joinPause):
		}
	}
}

// tell notes why the log cannot be followed, and logs it when that changes.
func (s *Store) tell(err error) {
	h := s.shared
	s.mu.Lock()
	before := h.trouble
	h.trouble = err
	if err != nil {
		h.joined = false
	}
	s.mu.Unlock()
	grave := errors.Is(err, errNoCopy) || errors.Is(err, errVersion) || errors.Is(err, ErrFailed) // and no matter of the bus
	switch {
	case err != nil && (before == nil || grave && before.Error() != err.Error()):
		s.logger.Warn("persistent MQTT sessions are not served here until their log can be read", "error", err)
	case err == nil && before != nil:
		s.logger.Info("the log of MQTT sessions is read again")
	}
}

// shortPatience is how often a stream may be shorter than what was applied of it, as it is while a new leader catches up.
const shortPatience = 10

var errShort = errors.New("the stream ends before what was applied of it")

// join makes the store one that the rest of the stream may be applied to. If nobody has founded the log, this node does: what it
// holds is what all hold.
func (s *Store) join(ctx context.Context, batches chan<- batch) error {
	h := s.shared
	stream, err := h.Bus.State(ctx, fieldgate.StreamMQTT)
	if err != nil {
		return err
	}
	same := stream.Created.Equal(h.state.created)
	switch {
	case h.moved != nil:
		err = s.joinFounder(ctx, h.moved, stream)
	case same && h.state.applied > stream.Last:
		if h.short++; h.short < shortPatience {
			return errShort
		}
		err = s.found(ctx, batches, stream)
	case same && h.state.applied+1 >= stream.First:
	case same || stream.First > 1:
		err = s.copyStore(ctx, stream)
	case stream.Last == 0:
		err = s.found(ctx, batches, stream)
	default:
		var founded *Change
		if founded, err = s.foundedAt(ctx, 1); err == nil && founded != nil {
			err = s.joinFounder(ctx, founded, stream)
		} else if err == nil {
			err = s.copyStore(ctx, stream)
		}
	}
	if err != nil {
		return err
	}
	h.moved, h.short = nil, 0
	s.mu.Lock()
	h.target = stream.Last
	h.joined = h.state.applied >= h.target
	s.mu.Unlock()
	signal(s.wake)
	return nil
}

// found has the log begin with what this store holds, unless another node was quicker.
func (s *Store) found(ctx context.Context, batches chan<- batch, stream bus.StreamState) error {
	h := s.shared
	empty, err := s.isEmpty()
	if err != nil {
		return err
	}
	s.mu.Lock()
	h.groups++
	number := h.groups
	s.mu.Unlock()
	data := appendEntry(nil, h.Node, h.Epoch, number, 1)
	data = appendChange(data, &Change{Kind: Founded, Empty: empty, After: stream.Last})
	if err := h.Bus.Append(ctx, fieldgate.SubjectMQTTLog+h.Node, fmt.Sprintf("%s-%d-%d", h.Node, h.Epoch, number), data); err != nil {
		return err
	}
	founded, err := s.foundedAt(ctx, stream.Last+1)
	switch {
	case err != nil:
		return err
	case founded == nil:
		return errShort // something else came first
	case founded.Node != h.Node || founded.Epoch != h.Epoch:
		return s.joinFounder(ctx, founded, stream)
	}
	s.mu.Lock()
	state := logState{created: stream.Created, applied: stream.Last + 1}
	if !empty {
		state.base = (s.newest>>groupBits + 1) << groupBits
	}
	s.mu.Unlock()
	if err := s.setLogState(batches, state); err != nil {
		return err
	}
	s.logger.Info("this node has founded the log of MQTT changes: what its store holds is what all nodes hold", "sequence", state.applied)
	return nil
}

// joinFounder makes the store equal to the founder's as it was then: empty, or a copy.
func (s *Store) joinFounder(ctx context.Context, founded *Change, stream bus.StreamState) error {
	if !founded.Empty {
		return s.copyStore(ctx, stream)
	}
	return s.replace(ctx, func(db *pebble.DB) error {
		state := logState{created: stream.Created, applied: founded.After + 1}
		return db.Set([]byte{prefixLog}, appendLogState(nil, &state), nil)
	})
}

var errEnough = errors.New("enough")

// foundedAt reads the entry at a sequence; nil: it does not found the log.
func (s *Store) foundedAt(ctx context.Context, sequence uint64) (founded *Change, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout*10)
	defer cancel()
	err = s.shared.Bus.Read(ctx, fieldgate.StreamMQTT, sequence, 1, func(entries []bus.Entry) error {
		found := entries[0]
		g, err := decodeEntry(found.Data)
		if err == nil && len(g.changes) == 1 && g.changes[0].Kind == Founded && found.Sequence == sequence && g.changes[0].After == sequence-1 {
			founded = &g.changes[0]
			founded.Node, founded.Epoch = g.node, g.epoch
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		return nil, err
	}
	return founded, nil
}

// isEmpty: there are no sessions and no retained messages.
func (s *Store) isEmpty() (empty bool, err error) {
	empty = true
	err = s.read(func(db *pebble.DB) (err error) {
		for _, prefix := range []byte{prefixSession, prefixRetain, prefixDeleted} {
			err = errors.Join(err, scan(db, []byte{prefix}, []byte{prefix + 1}, func([]byte, []byte) (bool, error) {
				empty = false
				return false, nil
			}))
		}
		return err
	})
	return empty, err
}

func (s *Store) setLogState(batches chan<- batch, state logState) error {
	h := s.shared
	h.writing.Lock()
	defer h.writing.Unlock()
	err := s.read(func(db *pebble.DB) error {
		b := batch{db.NewBatch(), db, pebble.Sync}
		if err := b.Set([]byte{prefixLog}, appendLogState(nil, &state), nil); err != nil {
			return errors.Join(err, b.Close())
		}
		return s.hand(batches, b)
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	h.state = state
	s.newest = max(s.newest, state.base)
	s.mu.Unlock()
	return nil
}

// counter counts in the background what was there at the start.
type counter struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// recount begins to count what the store holds.
func (s *Store) recount(ctx context.Context) {
	snapshot := s.snapshot
	s.snapshot = nil
	if snapshot == nil {
		return
	}
	counting, cancel := context.WithCancel(ctx)
	s.shared.counting.cancel = cancel
	s.shared.counting.running.Go(func() {
		defer snapshot.Close()
		if err := s.count(counting, snapshot); err != nil && counting.Err() == nil {
			s.logger.Error("what the MQTT store holds could not be counted", "error", err)
		}
	})
}

func (s *Store) stopCounting() {
	c := &s.shared.counting
	if c.cancel != nil {
		c.cancel()
	}
	c.running.Wait()
}
