// Package mqttstore keeps on disk what the MQTT broker must not lose: sessions with their subscriptions, wills and received QoS 2
// identifiers, the messages that wait for them, and retained messages.
//
// It owns one folder with an embedded key-value store (Pebble). Writes wait for nothing: a goroutine commits everything that
// has come meanwhile with one fsync (group commit) and only then calls back. It promises that what was called back without an
// error survives a kill of the process, that writes take effect in the order in which they were made, and that memory is
// bounded however much is stored. When the disk is full, or the store is as large as it may be, it refuses new messages and
// goes on by itself when there is room again.
package mqttstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"fieldgate/gateway/broker"
)

// Config is all that a Store works with. Zero numbers get the default.
type Config struct {
	Folder      string // created if missing
	Logger      *slog.Logger
	MaxBytes    int64 // on disk, beyond which new messages are refused; 0: 16 GiB
	MaxRetained int64 // retained messages; 0: 20 million
	Log         *Log  // that the store shares with those of other nodes; nil: it is alone
}

const (
	defaultMaxBytes    = 16 << 30
	defaultMaxRetained = 20_000_000
	maxUncommitted     = 32 << 20 // bytes waiting for the disk, above which writes are refused
	maxMessage         = 32 << 20 // of one message
)

// Why a write was refused.
var (
	ErrBusy     = errors.New("too much is waiting for the disk")
	ErrClosed   = errors.New("the store is closed")
	ErrTooLarge = errors.New("the message is too large to be stored")
	ErrDiskFull = errors.New("the disk is full")
	ErrFull     = errors.New("the store is as large as it may be")
	ErrRetained = errors.New("there are as many retained messages as may be")
	ErrFailed   = errors.New("the disk failed, and the gateway has to be restarted")
)

// Store is safe for concurrent use.
type Store struct {
	config Config
	logger *slog.Logger
	disk   disk

	mu        sync.Mutex
	pending   []operation // that wait for the next commit, in order
	spare     []operation
	bytes     int    // of pending, about
	awaited   int    // of pending: those that somebody waits for
	urgent    bool   // the next commit is not to be put off
	delaying  bool   // it is being put off
	newest    uint64 // number given
	committed uint64 // everything written up to this number is on disk, or was refused
	retaining map[string]uint64
	answers   []func(error) // of messages that everybody has taken before they were committed
	closed    bool
	wake      chan struct{} // something is pending
	answer    chan struct{} // there are answers

	retained atomic.Int64 // messages
	used     atomic.Int64 // bytes on disk
	problem  atomic.Pointer[problem]

	kept []Kept // until Sessions takes them

	shared *shared // nil: it has no log

	// Of the committing goroutine.
	applied  chan error
	ended    []uint64 // sessions whose remains are to be deleted
	owner    Owner
	snapshot *pebble.Snapshot // of the start, until it has been counted
}

type problem struct{ error }

// operation is one write. Which fields count depends on its kind.
type operation struct {
	kind     operationKind
	retain   bool
	position uint64 // newest number when it was made: operations are sorted by it
	number   uint64 // of the message
	session  uint64
	left     int // recipients that have not had the message
	message  *broker.Message
	to       []Recipient
	received Received
	expires  time.Time
	key      []byte // of opSet and opDelete
	value    []byte
	size     int // in memory, about
	done     func(error)
	refused  error // why this one was not written with the others
}

type operationKind byte

const (
	opMessage   operationKind = iota // number, message, to, retain, received
	opDone                           // session needs the message number no more; expires is the message's
	opReceive                        // received is to be remembered
	opRelease                        // received is forgotten
	opDelivered                      // session's client has the message number; expires is the message's
	opComplete                       // the delivery of the message number to session is complete
	opEnd                            // session has ended
	opSet                            // key, value
	opDelete                         // key
	opNothing                        // somebody waits for those before it
)

// isAwaited: done is not to wait long.
func (o *operation) isAwaited() bool {
	return o.done != nil && o.kind != opDone && o.kind != opComplete
}

// makesRoom says of an operation that it must not get lost when the disk is full: what a session needs no more, that it has ended.
func (o *operation) makesRoom() bool {
	switch o.kind {
	case opDone, opRelease, opDelivered, opComplete, opEnd:
		return true
	}
	return false
}

// Open opens the store in a folder, or makes one. A journal of earlier versions beside it is taken over. Of a damaged store
// the folder is set aside, with an error in the log, and a new one is made. Nothing is written before Run.
func Open(config Config) (*Store, error) {
	if config.MaxBytes == 0 {
		config.MaxBytes = defaultMaxBytes
	}
	if config.MaxRetained == 0 {
		config.MaxRetained = defaultMaxRetained
	}
	if err := os.MkdirAll(config.Folder, 0o700); err != nil {
		return nil, fmt.Errorf("mqtt store: %w", err)
	}
	s := &Store{config: config, logger: config.Logger, retaining: make(map[string]uint64),
		wake: make(chan struct{}, 1), answer: make(chan struct{}, 1), applied: make(chan error, 1)}
	s.disk.logger = config.Logger
	if config.Log != nil {
		s.shared = &shared{Log: *config.Log}
	}
	err := s.takeOver()
	if err == nil {
		err = s.disk.openOrSetAside(config.Folder)
	}
	if err == nil {
		err = s.load()
	}
	if isDamage(err) {
		if err = errors.Join(s.disk.close(), s.disk.setAside(err)); err == nil {
			err = s.load()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("mqtt store: %w", err)
	}
	return s, nil
}

// add puts an operation among the pending ones. s is locked.
func (s *Store) add(o operation, size int) {
	o.position, o.size = s.newest, size
	s.pending = append(s.pending, o)
	s.bytes += size
	if o.isAwaited() {
		s.awaited++
	}
	if !s.delaying || s.urgent || o.isAwaited() && s.awaited == 1 || s.bytes > muchToWrite {
		signal(s.wake)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// refuses says why nothing can be added now. s is locked.
func (s *Store) refuses(told bool) error {
	room := maxUncommitted
	if !told {
		room *= 2 // who is not told should not lose: that a session has ended, or needs a message no more
	}
	switch {
	case s.closed:
		return ErrClosed
	case told && s.disk.waiting.Load():
		return ErrDiskFull
	case s.bytes > room:
		return ErrBusy
	}
	return nil
}

// write adds operations that belong together, of a few bytes. done, unless nil, is called once they are on disk, or with the
// reason why they are not; it must not block.
func (s *Store) write(done func(error), operations ...operation) {
	s.mu.Lock()
	err := s.refuses(done != nil)
	if err == nil {
		for i := range operations {
			if i == len(operations)-1 {
				operations[i].done = done
			}
			s.add(operations[i], 64+len(operations[i].key)+len(operations[i].value))
		}
	}
	s.mu.Unlock()
	if err != nil && done != nil {
		done(err)
	}
}

// Settle returns when everything that was written before is on disk or refused. It does not wait for the disk if there is
// nothing that anybody waits for.
func (s *Store) Settle(ctx context.Context) error {
	if s.shared != nil {
		return s.settleShared(ctx)
	}
	done := make(chan error, 1)
	s.mu.Lock()
	if s.settled() || s.refuses(true) != nil {
		s.mu.Unlock()
		return nil
	}
	s.urgent = true
	s.add(operation{kind: opNothing, done: func(error) { done <- nil }}, 1)
	s.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) settled() bool { return len(s.pending) == 0 && s.committed >= s.newest }

// Problem is why the store refuses messages now; nil: it takes them.
func (s *Store) Problem() error {
	if p := s.problem.Load(); p != nil {
		return p.error
	}
	if s.disk.waiting.Load() {
		return ErrDiskFull
	}
	return nil
}

// read calls read with the database, unless there is none for lack of room: then it gives ErrDiskFull.
func (s *Store) read(read func(db *pebble.DB) error) error {
	s.disk.mu.RLock()
	defer s.disk.mu.RUnlock()
	if s.disk.db == nil {
		return ErrDiskFull
	}
	return read(s.disk.db)
}

// scan visits the keys in [lower, upper) and their values, which are valid during the visit, until it gives false.
func scan(db pebble.Reader, lower, upper []byte, visit func(key, value []byte) (bool, error)) error {
	i, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for valid := i.First(); valid; valid = i.Next() {
		value, err := i.ValueAndErr()
		more := false
		if err == nil {
			more, err = visit(i.Key(), value)
		}
		if err != nil {
			return errors.Join(err, i.Close())
		}
		if !more {
			break
		}
	}
	return i.Close()
}
