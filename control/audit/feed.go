package audit

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

const (
	feedInterval  = 2 * time.Second // between looks without a nudge
	feedBatch     = 500
	maxReaders    = 256
	readerEntries = 256 // that may wait for one reader
)

// ErrTooManyReaders refuses one more reader of the feed.
var ErrTooManyReaders = errors.New("too many readers of decisions: end one of them")

// Feed hands new decisions, of whatever control node, to readers on this one. Nudges over the bus make it look; what it hands out
// is read from the database, in order and without gaps.
type Feed struct {
	store *store.Store
	bus   *bus.Bus
	log   *slog.Logger

	mu      sync.Mutex
	readers map[*Reader]bool
}

// NewFeed makes a Feed. It hands out nothing until Run.
func NewFeed(db *store.Store, b *bus.Bus, log *slog.Logger) *Feed {
	return &Feed{store: db, bus: b, log: log, readers: make(map[*Reader]bool)}
}

// Reader receives the decisions that are made after it was subscribed.
type Reader struct {
	// Entries is closed when the reader was so slow that it missed entries, and when the feed ends: read the list again then.
	Entries <-chan Entry

	entries chan Entry
	feed    *Feed
}

// Subscribe adds a reader, who must Close.
func (f *Feed) Subscribe() (*Reader, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.readers) >= maxReaders {
		return nil, ErrTooManyReaders
	}
	r := &Reader{entries: make(chan Entry, readerEntries), feed: f}
	r.Entries = r.entries
	f.readers[r] = true
	return r, nil
}

// Close ends the reader.
func (r *Reader) Close() {
	r.feed.mu.Lock()
	defer r.feed.mu.Unlock()
	r.end()
}

// end needs the lock of the feed.
func (r *Reader) end() {
	if r.feed.readers[r] {
		delete(r.feed.readers, r)
		close(r.entries)
	}
}

func (f *Feed) hand(entries []Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		for _, e := range entries {
			select {
			case r.entries <- e:
				continue
			default:
				r.end()
			}
			break
		}
	}
}

// Run feeds the readers until the context ends.
func (f *Feed) Run(ctx context.Context) error {
	nudged := make(chan struct{}, 1)
	stop, err := f.bus.Subscribe(fieldgate.SubjectAuditChanged, func(string, []byte) {
		select {
		case nudged <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	defer stop()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for r := range f.readers {
			r.end()
		}
	}()
	ticker := time.NewTicker(feedInterval)
	defer ticker.Stop()
	// Where the feed begins is read before anybody can have missed something.
	newest, known, failing := uint64(0), false, false
	for {
		if !known {
			newest, err = f.newest(ctx)
			known = err == nil
		} else {
			newest, err = f.advance(ctx, newest)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			f.log.Warn("decisions cannot be read; their readers wait", "error", err)
		}
		failing = err != nil
		select {
		case <-nudged:
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *Feed) newest(ctx context.Context) (id uint64, err error) {
	err = f.store.View(ctx, func(tx *store.Tx) error {
		id, err = tx.Counter(ctx, "audit")
		return err
	})
	return id, err
}

// advance hands out what follows an id, and returns the id of the last.
func (f *Feed) advance(ctx context.Context, after uint64) (uint64, error) {
	for {
		entries, err := read(ctx, f.store, "SELECT "+columns+" FROM audit WHERE id > ? ORDER BY id LIMIT ?", int64(after), feedBatch)
		if err != nil || len(entries) == 0 {
			return after, err
		}
		f.hand(entries)
		after = entries[len(entries)-1].ID
	}
}
