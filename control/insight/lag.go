package insight

import (
	"context"
	"sync"
	"time"

	"fieldgate"
)

// Lag says how far what operators see is behind, and since when.
type Lag struct {
	Counting      bool      // this control node counts into the rollups, not another
	Newest        time.Time // of the newest Record in the rollups; zero when there is none
	Behind        uint64    // messages of the stream that are not counted, where this node counts
	StoreFailing  time.Time // since when this node cannot write or read rollups; zero while it can
	NotesFailing  time.Time // since when this node cannot store who was there; zero while it can
	StreamFailing time.Time // since when the stream of Records does not answer; zero while it does
	Shown         time.Time // when this node last received Records; zero before the first
}

type lag struct {
	mu       sync.Mutex
	state    Lag
	sequence uint64 // counted
	last     uint64 // of the stream
	seen     uint64 // shown
}

// Lag says how far behind this node is. It asks nobody and never waits.
func (i *Insight) Lag() Lag {
	i.lag.mu.Lock()
	defer i.lag.mu.Unlock()
	state := i.lag.state
	if state.Counting && i.lag.last > i.lag.sequence {
		state.Behind = i.lag.last - i.lag.sequence
	}
	return state
}

func (l *lag) change(do func(*Lag)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do(&l.state)
}

func (l *lag) shown(sequence uint64, now time.Time) {
	l.change(func(s *Lag) { s.Shown, l.seen = now, sequence })
}

func (l *lag) storeWorks() { l.change(func(s *Lag) { s.StoreFailing = time.Time{} }) }

func (l *lag) storeFails(since time.Time) {
	l.change(func(s *Lag) {
		if s.StoreFailing.IsZero() {
			s.StoreFailing = since
		}
	})
}

// notes says whether who was there could be stored.
func (l *lag) notes(err error, began time.Time) {
	l.change(func(s *Lag) {
		switch {
		case err == nil:
			s.NotesFailing = time.Time{}
		case s.NotesFailing.IsZero():
			s.NotesFailing = began
		}
	})
}

// waits says that another node counts, up to a Record as new as that.
func (l *lag) waits(newest time.Time) {
	l.change(func(s *Lag) {
		s.Counting = false
		if newest.After(s.Newest) {
			s.Newest = newest
		}
		if !newest.IsZero() {
			s.StoreFailing = time.Time{}
		}
	})
}

func (l *lag) counts(sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Counting, l.state.StoreFailing, l.sequence = true, time.Time{}, sequence
}

func (l *lag) counted(f *flushing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sequence = f.progress.sequence
	if f.pending.newest.After(l.state.Newest) {
		l.state.Newest = f.pending.newest
	}
}

// watchStream asks how long the stream is, to know whether it answers and how far behind counting is.
func (i *Insight) watchStream(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		asking, cancel := context.WithTimeout(ctx, lastEffort)
		state, err := i.bus.State(asking, fieldgate.StreamRecords)
		cancel()
		i.lag.mu.Lock()
		switch {
		case err == nil:
			i.lag.state.StreamFailing, i.lag.last = time.Time{}, state.Last
		case ctx.Err() == nil && i.lag.state.StreamFailing.IsZero():
			i.lag.state.StreamFailing = began
		}
		i.lag.mu.Unlock()
		pause(ctx, i.pace.renew)
	}
}
