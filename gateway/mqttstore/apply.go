package mqttstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"fieldgate"
	"fieldgate/engine/bus"
)

// logState is how far the log has been applied. It is written together with what was applied.
type logState struct {
	created time.Time // of the stream: one of the same name that was made later is another
	applied uint64    // sequence
	base    uint64    // numbers that the log gives are above those that the founder had given
}

// groupBits is for a change's place in its group, and the bit of messages that are stored apart; above them is the sequence.
const groupBits = 21

// number is that of a change, and orders changes as the log does.
func (l *logState) number(sequence uint64, place int) uint64 {
	return l.base + sequence<<groupBits + uint64(place)*numberStep
}

func appendLogState(b []byte, l *logState) []byte {
	b = appendTime(b, l.created)
	return binary.AppendUvarint(binary.AppendUvarint(b, l.applied), l.base)
}

func decodeLogState(b []byte) (l logState, err error) {
	r := reader{rest: b}
	l = logState{r.time(), r.uint(math.MaxUint64), r.uint(math.MaxUint64)}
	return l, r.end()
}

func appendOwner(b []byte, o *owner) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, o.claim), o.epoch)
	return appendText(b, o.node)
}

func decodeOwner(b []byte) (o owner, err error) {
	r := reader{rest: b}
	o = owner{claim: r.uint(math.MaxUint64), epoch: r.uint(math.MaxUint64), node: r.text()}
	return o, r.end()
}

// loadShared reads what a store has in memory that takes part in a log; its sessions have been read.
func (s *Store) loadShared(db *pebble.DB) error {
	h := s.shared
	h.writers = make(map[string]writer)
	h.owners.Lock()
	defer h.owners.Unlock()
	h.owners.of, h.owners.names = make(map[uint64]owner), make(map[sessionName]uint64)
	var state logState
	value, closer, err := db.Get([]byte{prefixLog})
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case err != nil:
		return err
	default:
		state, err = decodeLogState(value)
		closer.Close()
		if err != nil {
			return corrupt([]byte{prefixLog})
		}
	}
	s.mu.Lock()
	h.state = state
	s.mu.Unlock()
	err = scan(db, []byte{prefixWriter}, []byte{prefixWriter + 1}, func(key, value []byte) (bool, error) {
		r := reader{rest: value}
		h.writers[string(key[1:])] = writer{r.uint(math.MaxUint64), r.uint(math.MaxUint64)}
		if r.end() != nil {
			return false, corrupt(key)
		}
		return true, nil
	})
	owners := make(map[uint64]owner)
	err = errors.Join(err, scan(db, []byte{prefixOwner}, []byte{prefixOwner + 1}, func(key, value []byte) (bool, error) {
		o, err := decodeOwner(value)
		if err != nil || len(key) != 9 {
			return false, corrupt(key)
		}
		owners[binary.BigEndian.Uint64(key[1:])] = o
		return true, nil
	}))
	for i := range s.kept {
		k := &s.kept[i]
		o := owners[k.Number]
		o.name = k.name()
		k.Node, k.Epoch, k.Claim = o.node, o.epoch, o.claim
		h.owners.of[k.Number], h.owners.names[o.name] = o, k.Number
	}
	return err
}

// errMoved: what other nodes hold is not what this store holds any more, and has to be copied.
var errMoved = errors.New("another node has founded the log anew")

// applyEntries applies entries of the stream, each in a batch of its own.
func (s *Store) applyEntries(ctx context.Context, batches chan<- batch, entries []bus.Entry) error {
	for _, found := range entries {
		if err := s.awaitRoom(ctx); err != nil {
			return err
		}
		g, err := decodeEntry(found.Data)
		if errors.Is(err, errVersion) {
			return err
		}
		if err != nil { // every node leaves it out
			s.logger.Error("an entry of the log of MQTT changes is left out", "sequence", found.Sequence, "error", err)
			g = entry{}
		}
		if err := s.applyGroup(batches, found.Sequence, &g); err != nil {
			return err
		}
	}
	return nil
}

// awaitRoom waits until there is room on the disk: nothing of the log can be left out.
func (s *Store) awaitRoom(ctx context.Context) error {
	for {
		err := s.mayWrite(maxGroup)
		switch {
		case err == nil, errors.Is(err, ErrFull): // that bounds what this node proposes
			return nil
		case errors.Is(err, ErrFailed):
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(housekeeping):
		}
	}
}

func (s *Store) applyGroup(batches chan<- batch, sequence uint64, g *entry) error {
	h := s.shared
	h.writing.Lock()
	defer h.writing.Unlock()
	s.mu.Lock()
	state := h.state
	var mine []proposal
	if g.node == h.Node && g.epoch == h.Epoch {
		mine = h.sentWith(g.number)
	}
	s.mu.Unlock()
	state.applied = sequence

	var applied []*Change
	ignored := make(map[int]error)
	newest := uint64(0)
	var e encoder
	err := s.read(func(db *pebble.DB) error {
		b := batch{db.NewIndexedBatch(), db, pebble.NoSync} // changes of one entry may build on each other
		e = encoder{batch: b.Batch, db: b.Batch, room: math.MaxInt64}
		var err error
		last := h.writers[g.node]
		fresh := g.epoch > last.epoch || g.epoch == last.epoch && g.number > last.number
		for i := range g.changes {
			c := &g.changes[i]
			c.Number, c.Node, c.Epoch = state.number(sequence, i), g.node, g.epoch
			newest = c.Number | sharedBit
			if c.Kind == Founded && c.After == sequence-1 {
				h.moved = c
				err = errMoved
			}
			counts := false
			if err == nil && fresh {
				counts, err = s.change(&e, c)
			}
			switch {
			case counts:
				if i < len(mine) {
					c.Mine = mine[i].mine
				}
				applied = append(applied, c)
			case !fresh:
				ignored[i] = ErrNameTaken
			default:
				ignored[i] = ErrTakenOver
			}
		}
		err = errors.Join(err, e.countWaiting(), b.Set([]byte{prefixLog}, appendLogState(nil, &state), nil))
		if fresh {
			h.writers[g.node] = writer{g.epoch, g.number}
			value := binary.AppendUvarint(binary.AppendUvarint(nil, g.epoch), g.number)
			err = errors.Join(err, b.Set(append([]byte{prefixWriter}, g.node...), value, nil))
		}
		if newest > 0 {
			err = errors.Join(err, b.Set([]byte{prefixNewest}, binary.BigEndian.AppendUint64(nil, newest), nil))
		}
		if err != nil {
			return errors.Join(err, b.Close())
		}
		return s.hand(batches, b)
	})
	if err != nil {
		return fmt.Errorf("entry %d of the log: %w", sequence, err)
	}
	s.retained.Add(e.retained)
	s.ended = append(s.ended, e.ended...)
	s.mu.Lock()
	h.state = state
	s.newest = max(s.newest, newest&^sharedBit)
	if !h.joined && sequence >= h.target {
		h.joined = true
		signal(s.wake)
	}
	s.mu.Unlock()
	if len(applied) > 0 {
		h.follower.Applied(applied)
	}
	if mine != nil {
		s.answerSent(g.number, func(i int) error { return ignored[i] })
	}
	return nil
}

// change puts a change into the batch, and says whether it counts.
func (s *Store) change(e *encoder, c *Change) (counts bool, err error) {
	h := s.shared
	switch c.Kind {
	case Nothing, Founded:
		return true, nil
	case Claimed:
		return true, s.claim(e, c)
	case Published:
		if c.Received != 0 && h.owners.of[c.Session].claim != c.Claim {
			return false, nil // its client has sent it again to the node that has its session now
		}
		to := c.To[:0]
		for _, r := range c.To {
			if _, ok := h.owners.of[r.Session]; ok {
				to = append(to, r)
			}
		}
		c.To = to
		if len(to) > 1 {
			c.Number |= sharedBit
		}
		o := operation{kind: opMessage, retain: c.Message.Retain, number: c.Number, message: c.Message, to: to, left: len(to)}
		if c.Received != 0 {
			o.received = Received{c.Session, c.Received}
		}
		return true, e.operation(&o)
	}
	o, ok := h.owners.of[c.Session]
	if !ok || o.claim != c.Claim {
		return false, nil
	}
	switch c.Kind {
	case Adopted:
		o.node, o.epoch, o.claim = c.Node, c.Epoch, c.Number
		away := c.Record.Away
		if c.Record, err = e.session(c.Session); err != nil {
			return false, err
		}
		if c.Record.Away.IsZero() {
			c.Record.Away = away
		}
		err = errors.Join(e.save(c.Session, c.Record), s.own(e, c.Session, o))
	case Saved:
		err = e.save(c.Session, c.Record)
	case Subscribed:
		err = e.operations(subscribe(c.Session, c.Subscriptions))
	case Unsubscribed:
		err = e.operations(unsubscribe(c.Session, c.Filters))
	case Ended:
		err = s.disown(e, c.Session)
	case Taken:
		if c.Size, err = e.queuedSize(c.Session, c.Queued); err == nil && c.Size > 0 {
			err = e.dequeue(c.Session, c.Queued, c.Expires)
		}
	case Came:
		err = e.operation(&operation{kind: opReceive, received: Received{c.Session, c.Received}})
	case Released:
		err = e.operation(&operation{kind: opRelease, received: Received{c.Session, c.Received}})
	case Reached:
		if c.Size, err = e.queuedSize(c.Session, c.Queued); err == nil && c.Size > 0 {
			err = e.dequeue(c.Session, c.Queued, c.Expires)
		}
		err = errors.Join(err, e.batch.Set(deliveredKey(nil, c.Session, c.Queued), nil, nil))
	case Completed:
		err = e.operation(&operation{kind: opComplete, session: c.Session, number: c.Queued})
	}
	return err == nil, err
}

// claim gives the session to the node that wrote the change.
func (s *Store) claim(e *encoder, c *Change) (err error) {
	h := s.shared
	name := c.Record.name()
	session, there := h.owners.names[name]
	if there && c.CleanStart {
		c.Ended = session
		err = s.disown(e, session)
		there = false
	}
	if !there {
		if c.Record.Expiry == 0 {
			return err // it ends with its connection, and is no other node's concern
		}
		session, c.Made = c.Number, true
	}
	c.Session = session
	return errors.Join(err, e.save(session, c.Record), e.operations(subscribe(session, c.Subscriptions)),
		s.own(e, session, owner{node: c.Node, epoch: c.Epoch, claim: c.Number, name: name}))
}

func (s *Store) own(e *encoder, session uint64, o owner) error {
	h := s.shared
	h.owners.Lock()
	h.owners.of[session], h.owners.names[o.name] = o, session
	h.owners.Unlock()
	return e.batch.Set(appendKey(nil, prefixOwner, session), appendOwner(nil, &o), nil)
}

func (s *Store) disown(e *encoder, session uint64) error {
	h := s.shared
	h.owners.Lock()
	delete(h.owners.names, h.owners.of[session].name)
	delete(h.owners.of, session)
	h.owners.Unlock()
	return errors.Join(e.operation(&operation{kind: opEnd, session: session}), e.batch.Delete(appendKey(nil, prefixOwner, session), nil))
}

func (e *encoder) operations(operations []operation) (err error) {
	for i := range operations {
		err = errors.Join(err, e.operation(&operations[i]))
	}
	return err
}

func (e *encoder) save(session uint64, record *Session) error {
	return e.batch.Set(appendKey(nil, prefixSession, session), appendSession(nil, record), nil)
}

// queuedSize is the size of a message that waits for a session; 0: it does not, for it may have expired here before the session's node says
// that it was taken.
func (e *encoder) queuedSize(session, number uint64) (int, error) {
	key := queueKey(e.key[:0], session, number)
	value, closer, err := e.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	_, shared, body, err := decodeQueued(value)
	if err == nil && shared {
		apart, closer, err := e.db.Get(appendKey(nil, prefixMessage, number))
		if err != nil {
			return 0, err
		}
		defer closer.Close()
		body = apart
	}
	r := reader{rest: body}
	size := len(r.bytes()) + len(r.bytes()) // topic and payload
	r.bytes()
	size += len(r.bytes()) // properties
	if err != nil || r.bad {
		return 0, corrupt(key)
	}
	return size, nil
}

// session reads what is kept of a session.
func (e *encoder) session(number uint64) (*Session, error) {
	key := appendKey(nil, prefixSession, number)
	value, closer, err := e.db.Get(key)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	kept, err := decodeSession(value)
	if err != nil {
		return nil, fmt.Errorf("%w: the entry %x cannot be read", fieldgate.ErrCorrupt, key)
	}
	return &kept, nil
}
