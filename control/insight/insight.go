// Package insight turns the stream of Records into what operators see: rollups by minute, hour and day in the store, findings and
// who was seen when; the newest exchanges, live rates and who is online in memory; and Prometheus metrics.
//
// Every control node reads the whole stream for its live view, which needs no store once it runs. Of all control nodes one at a
// time counts into the store, every Record exactly once: how far the stream has been counted, and how far each node's numbered
// Records, stands in the same transaction as the rollups. What was read and not yet stored when a process dies is read again, by
// whichever control node takes over. Queries read only the store and say the same on every control node.
package insight

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

const (
	readBatch     = 64 // messages of the stream at once
	replayed      = 16 // messages before the place to go on from that are read again in any case
	flushShare    = 20 // of the time, one part for a flush
	maxFlushPause = 20 * time.Second
	lastEffort    = 5 * time.Second // to store what was read and to hand over when the process ends
	retryPause    = time.Second
)

// pace is how often things happen.
type pace struct {
	flush    time.Duration // at the most so often what is pending is stored
	renew    time.Duration // a turn, when there is nothing to store
	look     time.Duration // whether the turn is free
	takeover time.Duration // so long a turn was not renewed until another node takes it
	presence time.Duration
}

var defaultPace = pace{flush: 500 * time.Millisecond, renew: 2 * time.Second, look: time.Second, takeover: 8 * time.Second, presence: presenceInterval}

// Insight consumes the Records of all nodes.
type Insight struct {
	store   *store.Store
	bus     *bus.Bus
	log     *slog.Logger
	live    *live
	online  *online
	count   *counters
	lag     lag
	slots   *slots
	batches batches
	alone   bool
	holder  string // names this Insight among all that may count
	pace    pace
	poke    chan struct{} // taken by the flushing goroutine when there is no place
}

// New makes an Insight on its store and bus. Its metrics are registered with metrics.
func New(db *store.Store, b *bus.Bus, metrics prometheus.Registerer, log *slog.Logger) *Insight {
	return &Insight{store: db, bus: b, log: log, live: newLive(), online: newOnline(), count: newCounters(metrics), slots: newSlots(), holder: rand.Text(),
		pace: defaultPace, poke: make(chan struct{})}
}

// Alone says, before Run, that no other process uses the store, such as where a data folder is locked: whoever had the turn to
// count is gone, so that nobody waits for it.
func (i *Insight) Alone() { i.alone = true }

// update runs a transaction of counting, apart from decisions of operators.
func (i *Insight) update(ctx context.Context, do func(*store.Tx) error) error {
	return i.store.UpdateIn(ctx, store.Ingest, do)
}

// Run consumes Records until the context ends; then it stores what it has read. What fails meanwhile is tried again.
func (i *Insight) Run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() { i.watch(ctx) })
	group.Go(func() { i.countInTurns(ctx) })
	group.Go(func() { i.watchStream(ctx) })
	group.Go(func() { i.keepWarm(ctx) })
	group.Wait()
	return nil
}

// countInTurns counts whenever it is this node's turn.
func (i *Insight) countInTurns(ctx context.Context) {
	for ctx.Err() == nil {
		c, err := i.await(ctx)
		if err != nil {
			return // the context ended
		}
		err = c.run(ctx)
		i.lag.waits(time.Time{})
		switch {
		case errors.Is(err, errTurnOver):
			i.log.Info("another control node counts records now")
		case err != nil && ctx.Err() == nil: // at the end of the process it is no news
			i.log.Error("counting records was interrupted", "error", err)
			pause(ctx, retryPause)
		}
	}
}

// watch shows Records until the context ends, from some time in the past on. It does not wait for the store.
func (i *Insight) watch(ctx context.Context) {
	nodes := make(numbering)
	for ctx.Err() == nil {
		state, err := i.bus.State(ctx, fieldgate.StreamRecords)
		if err != nil {
			if ctx.Err() == nil {
				i.log.Error("the stream of records is out of reach", "error", err)
			}
			pause(ctx, retryPause)
			continue
		}
		asking, cancel := context.WithTimeout(ctx, lastEffort)
		from, counted, err := i.replayFrom(asking, onlineWindow)
		cancel()
		if err != nil || counted > state.Last {
			counted = state.Last
			from = state.Last + 1 - min(state.Last, replayed)
		}
		err = i.bus.Read(ctx, fieldgate.StreamRecords, from, readBatch, func(entries []bus.Entry) error {
			i.show(entries, nodes, counted)
			return nil
		})
		if err != nil && ctx.Err() == nil {
			i.log.Error("live traffic was interrupted", "error", err)
			pause(ctx, retryPause)
		}
	}
}

// maxShownNodes bounds the runs of nodes whose numbers the live view knows; beyond it an exchange may be shown twice.
const maxShownNodes = 4_096

// show makes Records visible; those of messages up to counted are in the metrics of an earlier process.
func (i *Insight) show(entries []bus.Entry, nodes numbering, counted uint64) {
	now := time.Now()
	for _, entry := range entries {
		batch, err := i.batches.decode(entry, now)
		if err != nil {
			continue // who counts says so
		}
		if len(nodes) > maxShownNodes {
			clear(nodes)
		}
		records := nodes.take(batch)
		i.online.see(records, now)
		if entry.Sequence > counted {
			for r := range records {
				i.count.add(&records[r])
			}
		}
		i.live.add(batch, records, now)
	}
	i.lag.shown(entries[len(entries)-1].Sequence, now)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Totals is what was counted since the installation was set up.
type Totals struct {
	Exchanges          uint64
	Lost               uint64    // records that have not arrived; late ones still may
	NewestUndocumented time.Time // when a route that no contract explains was last used; zero when none was
}

// Totals is what is stored.
func (i *Insight) Totals(ctx context.Context) (totals Totals, err error) {
	err = i.store.View(ctx, func(tx *store.Tx) error {
		totals = Totals{}
		if totals.Exchanges, err = tx.Counter(ctx, "exchanges"); err != nil {
			return err
		}
		var newest, lost int64
		err := tx.QueryRowContext(ctx, `SELECT COALESCE((SELECT MAX(last_seen) FROM route), 0),
			CAST(COALESCE((SELECT SUM(lost) FROM ingest_node), 0) AS BIGINT)`).Scan(&newest, &lost)
		if newest > 0 {
			totals.NewestUndocumented = time.UnixMilli(newest).UTC()
		}
		totals.Lost = uint64(lost)
		return err
	})
	if err != nil {
		return Totals{}, fmt.Errorf("totals: %w", err)
	}
	return totals, nil
}
