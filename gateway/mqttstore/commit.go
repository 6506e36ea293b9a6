package mqttstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"fieldgate/gateway/broker"
)

// Under load a commit waits until commitInterval after the one before has begun, or until there is much to write: an fsync costs
// more processor time than dozens of messages, and what everybody has taken meanwhile need not be written at all.
const (
	commitInterval = 3 * time.Millisecond
	underLoad      = 8         // awaited writes in a commit
	muchToWrite    = 256 << 10 // bytes
	// idleInterval is how long writes that nobody waits for are put off.
	idleInterval = 100 * time.Millisecond
	// housekeeping is the interval of looking for room, measuring and expiring.
	housekeeping = time.Second
)

// Owner is what a Store tells the sessions' owner. It must not block.
type Owner interface {
	// Waiting is told soon after the start how many messages, of how many bytes about, were waiting for a session.
	Waiting(session uint64, messages, bytes int)
	// Expired is told of a queued message whose expiry has passed, and says whether to delete it: not if its session has
	// taken it from the store.
	Expired(session, number uint64, message *broker.Message) bool
}

// Run commits until the context ends, then once more, and closes the store.
func (s *Store) Run(ctx context.Context, owner Owner) {
	s.owner = owner
	defer context.AfterFunc(ctx, func() { s.disk.closing.Store(true) })()
	var running sync.WaitGroup
	batches := make(chan batch)
	running.Go(func() {
		for b := range batches {
			s.applied <- b.db.Apply(b.Batch, b.options)
		}
	})
	counting, stopCounting := context.WithCancel(context.Background())
	if snapshot := s.snapshot; snapshot != nil {
		running.Go(func() {
			defer snapshot.Close()
			if err := s.count(counting, snapshot); err != nil && counting.Err() == nil {
				s.logger.Error("what the MQTT store holds could not be counted", "error", err)
			}
		})
	}
	answering := make(chan struct{})
	running.Go(func() { s.answerTaken(answering) })

	ticker := time.NewTicker(housekeeping)
	defer ticker.Stop()
	var began time.Time
	loaded := false
	for ctx.Err() == nil {
		select {
		case <-s.wake:
		case <-ticker.C:
			if s.keepHouse(batches) {
				ticker.Reset(time.Millisecond) // commits come first
			} else {
				ticker.Reset(housekeeping)
			}
			s.retry()
			continue
		case <-ctx.Done():
			continue
		}
		s.delay(ctx, began, loaded)
		began = time.Now()
		loaded = s.commit(batches) >= underLoad
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.commit(batches)
	stopCounting()
	close(answering)
	close(batches)
	select {
	case <-s.disk.failed: // what waits for the database waits for ever
		return
	default:
	}
	running.Wait()
	if err := s.disk.close(); err != nil {
		s.logger.Error("the MQTT store was not closed cleanly", "error", err)
	}
}

// delay puts a commit off, which began last and was under load or not.
func (s *Store) delay(ctx context.Context, began time.Time, loaded bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		s.mu.Lock()
		awaited, urgent, size := s.awaited > 0, s.urgent, s.bytes
		left := idleInterval - time.Since(began)
		if awaited {
			left = commitInterval - time.Since(began)
		}
		if awaited && !loaded || urgent || size > muchToWrite || left <= 0 {
			s.delaying = false
			s.mu.Unlock()
			return
		}
		s.delaying = true
		s.mu.Unlock()
		timer.Reset(left)
		select {
		case <-s.wake: // somebody waits now, or there is much
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// answerTaken answers publishers whose messages everybody has taken before they were committed.
func (s *Store) answerTaken(end <-chan struct{}) {
	var answers []func(error)
	for {
		select {
		case <-s.answer:
		case <-end:
			return // the last commit has answered them
		}
		s.mu.Lock()
		answers, s.answers = s.answers, answers[:0]
		s.mu.Unlock()
		for _, answer := range answers {
			answer(nil)
		}
		clear(answers)
	}
}

// batch is what goes to the database in one commit.
type batch struct {
	*pebble.Batch
	db      *pebble.DB
	options *pebble.WriteOptions
}

// commit writes what is pending and tells how many writes of it were awaited.
func (s *Store) commit(batches chan<- batch) (awaited int) {
	s.mu.Lock()
	operations, position, answers, closed := s.pending, s.newest, s.answers, s.closed
	awaited = s.awaited
	size := s.bytes
	s.pending, s.spare = s.spare, nil
	s.bytes, s.awaited, s.urgent = 0, 0, false
	if closed {
		s.answers = nil
	}
	s.mu.Unlock()
	if closed {
		for _, answer := range answers {
			answer(nil)
		}
	}
	if len(operations) == 0 {
		return awaited
	}
	switch err := s.mayWrite(size); {
	case err == nil:
		operations = s.answerAll(operations, s.apply(batches, operations, position), false)
	case errors.Is(err, ErrFailed):
		operations = s.answerAll(operations, err, false)
	default: // what makes room is written even then, as long as there is some
		for i := range operations {
			if !operations[i].makesRoom() {
				operations[i].refused = err
			}
		}
		if s.disk.hasRoomToDelete() && s.apply(batches, operations, position) == nil {
			operations = s.answerAll(operations, nil, false)
		} else {
			operations = s.answerAll(operations, err, true)
		}
	}
	s.mu.Lock()
	s.committed = position
	s.spare = operations
	s.mu.Unlock()
	return awaited
}

// retry has what was put back tried again.
func (s *Store) retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) > 0 {
		signal(s.wake)
	}
}

// answerAll tells who waits. With putBack those operations that make room are put back instead, unless they have become too many. It
// gives the slice back, empty.
func (s *Store) answerAll(operations []operation, err error, putBack bool) []operation {
	var kept []operation
	s.mu.Lock()
	for i := range operations {
		o := &operations[i]
		if o.kind == opMessage && o.retain && s.retaining[o.message.Topic] == o.number {
			delete(s.retaining, o.message.Topic)
		}
		if putBack && o.makesRoom() && s.bytes < maxUncommitted {
			kept = append(kept, *o)
			s.bytes += 64
			o.done = nil
		}
	}
	if len(kept) > 0 {
		s.pending = append(kept, s.pending...)
	}
	s.mu.Unlock()
	for i := range operations {
		if done := operations[i].done; done != nil {
			done(operations[i].outcome(err))
		}
	}
	clear(operations)
	return operations[:0]
}

// outcome is the operation's own reason to be refused, or that of the whole commit.
func (o *operation) outcome(err error) error {
	if err == nil && o.refused != nil {
		return o.refused
	}
	return err
}

// apply writes the operations that are not refused.
func (s *Store) apply(batches chan<- batch, operations []operation, position uint64) error {
	s.disk.mu.RLock()
	defer s.disk.mu.RUnlock()
	db := s.disk.db
	if db == nil || s.disk.readOnly {
		return ErrDiskFull
	}
	b := batch{db.NewBatch(), db, pebble.NoSync}
	e := encoder{batch: b.Batch, db: db, room: s.config.MaxRetained - s.retained.Load()}
	var err error
	for i := range operations {
		o := &operations[i]
		if o.refused != nil {
			continue
		}
		if o.done != nil && o.kind != opNothing {
			b.options = pebble.Sync
		}
		err = errors.Join(err, e.operation(o))
	}
	err = errors.Join(err, e.countWaiting())
	if err == nil && b.Empty() {
		return b.Close()
	}
	err = errors.Join(err, b.Set([]byte{prefixNewest}, binary.BigEndian.AppendUint64(nil, position), nil))
	if err != nil {
		return errors.Join(err, b.Close())
	}
	if err = s.hand(batches, b); err == nil {
		s.retained.Add(e.retained)
		s.ended = append(s.ended, e.ended...)
	}
	return err
}

// hand gives a batch to the goroutine that applies them, which may stand still for ever when the disk fails.
func (s *Store) hand(batches chan<- batch, b batch) (err error) {
	select {
	case batches <- b:
	case <-s.disk.failed:
		return ErrFailed
	}
	select {
	case err = <-s.applied:
	case <-s.disk.failed:
		return ErrFailed
	}
	if err == nil {
		err = b.Close()
	}
	return err
}

// encoder turns operations into entries of a batch.
type encoder struct {
	batch    *pebble.Batch
	db       pebble.Reader // what there is: without this batch, or with it in a store with a log
	key      []byte
	value    []byte
	topics   map[string]retainedState // of this batch
	waiting  map[uint64]uint64        // for how many sessions messages that are stored apart still wait, as of this batch
	retained int64                    // how many retained messages there are more
	room     int64                    // for retained messages
	ended    []uint64
}

func (e *encoder) operation(o *operation) error {
	switch o.kind {
	case opMessage:
		return e.message(o)
	case opDone:
		return e.dequeue(o.session, o.number, o.expires)
	case opReceive:
		return e.receive(o.received)
	case opRelease:
		return e.batch.Delete(idKey(e.key[:0], o.received.Session, o.received.ID), nil)
	case opDelivered:
		err := e.dequeue(o.session, o.number, o.expires)
		return errors.Join(err, e.batch.Set(deliveredKey(e.key[:0], o.session, o.number), nil, nil))
	case opComplete:
		return e.batch.Delete(deliveredKey(e.key[:0], o.session, o.number), nil)
	case opEnd:
		e.ended = append(e.ended, o.session)
		return errors.Join(e.batch.Delete(appendKey(nil, prefixSession, o.session), nil), e.batch.Set(appendKey(nil, prefixDeleted, o.session), nil, nil))
	case opSet:
		return e.batch.Set(o.key, o.value, nil)
	case opDelete:
		return e.batch.Delete(o.key, nil)
	}
	return nil
}

func (e *encoder) message(o *operation) error {
	var err error
	if o.retain {
		if err = e.retain(o); err != nil || o.refused != nil {
			return err
		}
	}
	shared := o.number&sharedBit != 0 && o.left > 0
	if shared {
		e.key = appendKey(e.key[:0], prefixMessage, o.number)
		e.value = appendMessage(e.value[:0], o.message)
		err = errors.Join(e.batch.Set(e.key, e.value, nil), e.batch.Set(appendKey(e.key[:0], prefixCount, o.number), binary.AppendUvarint(nil, uint64(o.left)), nil))
	}
	for i := range o.to {
		to := &o.to[i]
		if to.Session == 0 {
			continue // it has had the message
		}
		e.key = queueKey(e.key[:0], to.Session, o.number)
		e.value = appendQueued(e.value[:0], to, shared)
		if !shared {
			e.value = appendMessage(e.value, o.message)
		}
		err = errors.Join(err, e.batch.Set(e.key, e.value, nil))
		if !o.message.Expires.IsZero() {
			err = errors.Join(err, e.batch.Set(expiryKey(nil, o.message.Expires, e.key), nil, nil))
		}
	}
	if o.received.Session != 0 {
		err = errors.Join(err, e.receive(o.received))
	}
	return err
}

func (e *encoder) receive(r Received) error {
	return e.batch.Set(idKey(e.key[:0], r.Session, r.ID), nil, nil)
}

// load reads what has to be in memory.
func (s *Store) load() error {
	err := s.read(func(db *pebble.DB) error {
		value, closer, err := db.Get([]byte{prefixNewest})
		switch {
		case errors.Is(err, pebble.ErrNotFound):
		case err != nil:
			return err
		default:
			number := bytes.Clone(value)
			closer.Close()
			if len(number) != 8 {
				return corrupt([]byte{prefixNewest})
			}
			s.mu.Lock()
			s.newest = binary.BigEndian.Uint64(number) &^ sharedBit
			s.committed = s.newest
			s.mu.Unlock()
		}
		s.used.Store(int64(db.Metrics().DiskSpaceUsage()))
		err = scan(db, []byte{prefixDeleted}, []byte{prefixDeleted + 1}, func(key, _ []byte) (bool, error) {
			if len(key) != 9 {
				return false, corrupt(key)
			}
			s.ended = append(s.ended, binary.BigEndian.Uint64(key[1:]))
			return true, nil
		})
		if err == nil {
			s.kept, err = readSessions(db)
		}
		if err == nil && s.shared != nil {
			err = s.loadShared(db)
		}
		if err == nil {
			s.snapshot = db.NewSnapshot()
		}
		return err
	})
	if errors.Is(err, ErrDiskFull) {
		return nil // there is nothing to read, and no room for anything
	}
	return err
}

// mayWrite says why messages of so many bytes cannot be stored now, and tells the log when that changes.
func (s *Store) mayWrite(size int) error {
	err := error(nil)
	free, reserve, _, statErr := room(s.disk.folder)
	select {
	case <-s.disk.failed:
		err = ErrFailed
	default:
		switch {
		case statErr != nil:
			err = statErr
		case s.disk.isReadOnly() || free < reserve+2*uint64(max(size, 0)): // they go to the log and to a table
			err = ErrDiskFull
		case s.used.Load() > s.config.MaxBytes:
			err = ErrFull
		}
	}
	before := s.Problem()
	switch {
	case err != nil && before == nil:
		s.logger.Error("MQTT messages cannot be stored: publishes at QoS 1 and 2 and retained messages are refused until there is room", "folder", s.disk.folder, "error", err)
	case err == nil && before != nil:
		s.logger.Info("MQTT messages can be stored again")
	}
	if err == nil {
		s.problem.Store(nil)
	} else {
		s.problem.Store(&problem{err})
	}
	return err
}
