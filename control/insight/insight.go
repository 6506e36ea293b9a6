// Package insight turns the stream of Records into what operators see: rollups by minute and hour in the store, the newest
// exchanges and live rates in memory, and Prometheus metrics.
//
// It counts every Record exactly once: how far the stream has been counted, and how far each node's numbered Records,
// stands in the same transaction as the rollups. What was read and not yet stored when the process dies is read again.
package insight

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

const (
	flushInterval     = 5 * time.Second
	flushRetry        = time.Second
	maxPendingRecords = 1 << 20 // read but not stored; then reading waits for the store
	readBatch         = 64      // messages of the stream at once
	replayed          = 16      // messages before the place to go on from, read again for the newest exchanges

	maxRecordNumber = 1 << 60 // a column is a signed BIGINT

	minuteRetention = 3 * time.Hour
	hourRetention   = 30 * 24 * time.Hour
)

// Insight consumes the Records of all nodes.
type Insight struct {
	store *store.Store
	bus   *bus.Bus
	log   *slog.Logger
	live  *live
	count *counters

	mu      sync.Mutex
	pending *pending              // read but not stored
	nodes   map[nodeKey]*progress // how far each run of a node has been counted, stored or pending
	routes  *listing
	stream  streamProgress
	pruned  time.Time
}

type streamProgress struct {
	created  int64 // nanoseconds
	sequence uint64
}

type nodeKey struct {
	node  string
	epoch uint64
}

type progress struct {
	next  uint64 // number of the first record that is not counted yet
	lost  uint64 // records that never arrived
	dirty bool   // differs from what is stored
}

// New makes an Insight on its store and bus. Its metrics are registered with metrics.
func New(db *store.Store, b *bus.Bus, metrics prometheus.Registerer, log *slog.Logger) *Insight {
	return &Insight{store: db, bus: b, log: log, live: newLive(), count: newCounters(metrics), pending: newPending(),
		nodes: make(map[nodeKey]*progress), routes: newListing()}
}

// Run consumes Records until the context ends; then it stores what it has read.
func (i *Insight) Run(ctx context.Context) error {
	err := i.run(ctx)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func (i *Insight) run(ctx context.Context) error {
	if err := i.load(ctx); err != nil {
		return fmt.Errorf("insight: %w", err)
	}
	state, err := i.bus.State(ctx, fieldgate.StreamRecords)
	if err != nil {
		return fmt.Errorf("insight: %w", err)
	}
	counted := i.resume(state)

	reading, stop := context.WithCancel(ctx)
	defer stop()
	var flusher sync.WaitGroup
	flusher.Go(func() { i.flushRegularly(reading) })
	err = i.bus.Read(reading, fieldgate.StreamRecords, counted+1-min(counted, replayed), readBatch, func(entries []bus.Entry) error {
		i.consume(entries, counted)
		return i.waitForStore(reading)
	})
	stop()
	flusher.Wait()

	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushInterval)
	defer cancel()
	if flushErr := i.flush(last); flushErr != nil {
		i.log.Warn("rollups were not stored; their records will be read again", "error", flushErr)
	}
	return err
}

// resume says up to which sequence the stream has been counted.
func (i *Insight) resume(state bus.StreamState) uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if created := state.Created.UnixNano(); i.stream.created != created || i.stream.sequence > state.Last {
		// Another stream of that name, or one that lost its end in a power cut. The nodes' own numbers tell what is counted.
		i.stream = streamProgress{created: created}
	}
	return i.stream.sequence
}

// consume counts the Records of messages of the stream; those up to the sequence counted are only shown.
func (i *Insight) consume(entries []bus.Entry, counted uint64) {
	now := time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, entry := range entries {
		batch, err := fieldgate.DecodeRecords(entry.Data)
		if err == nil && batch.First-1 > maxRecordNumber { // also 0
			err = fmt.Errorf("record number %d", batch.First)
		}
		if err != nil {
			i.log.Error("a batch of records was dropped", "sequence", entry.Sequence, "error", err)
			i.count.malformed.Inc()
			i.stream.sequence = max(i.stream.sequence, entry.Sequence)
			continue
		}
		if entry.Sequence <= counted {
			i.live.remember(batch, batch.Records)
			continue
		}
		records := i.advance(batch)
		for r := range records {
			clean(&records[r], now)
			i.pending.add(&records[r], i.routes)
			i.count.add(&records[r])
		}
		i.live.add(batch, records, now)
		i.stream.sequence = entry.Sequence
	}
}

// clean makes sure of what the database, metrics and JSON demand of texts and numbers, whatever a node sends.
func clean(r *fieldgate.Record, now time.Time) {
	for _, text := range []*string{&r.API, &r.Version, &r.Operation, &r.Route, &r.Detail, &r.Principal, &r.Model, &r.Firmware} {
		*text = strings.ToValidUTF8(*text, "\ufffd")
	}
	if r.Time.After(now) { // a clock that is wrong would make rollups that are kept until then
		r.Time = now
	}
	r.Status = min(max(r.Status, 0), 999)
	r.Duration = min(max(r.Duration, 0), maxLatency)
}

// advance is the part of a batch that is not counted yet, and marks it as counted.
func (i *Insight) advance(batch *fieldgate.RecordBatch) []fieldgate.Record {
	key := nodeKey{batch.Node, batch.Epoch}
	node := i.nodes[key]
	if node == nil {
		node = &progress{next: 1}
		i.nodes[key] = node
	}
	records := batch.Records
	if batch.First < node.next {
		records = records[min(node.next-batch.First, uint64(len(records))):]
	} else if batch.First > node.next {
		missing := batch.First - node.next
		node.lost += missing
		i.count.lost.Add(float64(missing))
		i.log.Warn("records of a node never arrived", "node", batch.Node, "missing", missing)
	}
	if end := batch.First + uint64(len(batch.Records)); end > node.next {
		node.next, node.dirty = end, true
	}
	return records
}

// waitForStore holds up reading while the store takes nothing and too much is pending.
func (i *Insight) waitForStore(ctx context.Context) error {
	for {
		i.mu.Lock()
		waiting := i.pending.records
		i.mu.Unlock()
		if waiting < maxPendingRecords {
			return nil
		}
		if err := i.flush(ctx); err != nil {
			i.log.Error("rollups cannot be stored; reading waits", "error", err)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(flushRetry):
			}
		}
	}
}

func (i *Insight) flushRegularly(ctx context.Context) {
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := i.flush(ctx); err != nil && ctx.Err() == nil {
				i.log.Error("rollups cannot be stored; they are tried again", "error", err)
			}
		}
	}
}

// flush stores what is pending in one transaction, or leaves everything as it is.
func (i *Insight) flush(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pending.records == 0 {
		return nil
	}
	prune := time.Since(i.pruned) > time.Minute
	var gone []routeKey
	err := i.store.Update(ctx, func(tx *store.Tx) error {
		if err := i.pending.store(ctx, tx); err != nil {
			return err
		}
		if err := i.storeProgress(ctx, tx); err != nil {
			return err
		}
		if !prune {
			return nil
		}
		if err := pruneRollups(ctx, tx); err != nil {
			return err
		}
		var err error
		gone, err = i.routes.prune(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	for _, node := range i.nodes {
		node.dirty = false
	}
	i.routes.remove(gone)
	if prune {
		i.pruned = time.Now()
	}
	i.pending = newPending()
	return nil
}
