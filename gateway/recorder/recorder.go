// Package recorder carries Records from the pipeline to the bus in batches.
//
// It owns a bounded buffer. It promises that adding a Record never blocks and that what had to be dropped, because the bus did
// not take batches for longer than the buffer lasts, is counted.
package recorder

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
)

const (
	batchInterval = 25 * time.Millisecond // a Record waits no longer than this for its batch
	bufferRecords = 64 << 10              // about 20 MB
	keepRecords   = 4 << 10               // a buffer that grew beyond this is not used again
	retryInterval = time.Second
	lastEffort    = 3 * time.Second // to hand over what is left at the end
)

// Sink stores an encoded batch durably, or says why not. id names the batch: one that comes twice is to be stored once. The batch is
// the Sink's until it returns.
type Sink func(ctx context.Context, id string, batch []byte) error

// Recorder is safe for concurrent use.
type Recorder struct {
	node    string
	epoch   uint64
	sink    Sink
	logger  *slog.Logger
	some    chan struct{} // there is a Record
	full    chan struct{} // there is a whole batch
	dropped atomic.Uint64

	mu     sync.Mutex
	buffer []fieldgate.Record

	// Only Run's goroutine touches these.
	first uint64             // number of the next Record to send
	spare []fieldgate.Record // the next buffer
	batch []byte             // encoded
}

// New makes a recorder; nothing is sent before Run.
func New(node string, epoch uint64, sink Sink, logger *slog.Logger) *Recorder {
	return &Recorder{node: node, epoch: epoch, sink: sink, logger: logger, some: make(chan struct{}, 1), full: make(chan struct{}, 1), first: 1}
}

// Add takes in a copy of the Record.
func (r *Recorder) Add(record *fieldgate.Record) {
	r.mu.Lock()
	if len(r.buffer) >= bufferRecords {
		r.mu.Unlock()
		r.dropped.Add(1)
		return
	}
	r.buffer = append(r.buffer, *record)
	waiting := len(r.buffer)
	r.mu.Unlock()
	switch waiting {
	case 1:
		wake(r.some)
	case fieldgate.MaxBatchRecords:
		wake(r.full)
	}
}

// wake leaves a token in a channel of one place.
func wake(channel chan<- struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// Dropped is how many Records were lost because the buffer was full.
func (r *Recorder) Dropped() uint64 { return r.dropped.Load() }

// Run sends batches until the context ends, and then what is left.
func (r *Recorder) Run(ctx context.Context) {
	// What is under way when the context ends is not cut off, but given a last effort.
	sending, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(lastEffort, giveUp) })
	defer stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.some:
			// More come soon: send them together.
			select {
			case <-ctx.Done():
			case <-r.full:
			case <-time.After(batchInterval):
			}
			r.sendAll(sending)
		}
	}
	r.sendAll(sending)
}

// sendAll sends what has come so far. Meanwhile Records come into the other of two buffers.
func (r *Recorder) sendAll(ctx context.Context) {
	r.mu.Lock()
	records := r.buffer
	r.buffer = r.spare
	r.mu.Unlock()
	r.send(ctx, records)
	r.spare = nil
	if cap(records) <= keepRecords {
		clear(records)
		r.spare = records[:0]
	}
}

// send hands Records over in order. A batch that the bus does not take is sent again, with the same numbers, until it does.
func (r *Recorder) send(ctx context.Context, records []fieldgate.Record) {
	for len(records) > 0 {
		n := min(len(records), fieldgate.MaxBatchRecords)
		batch := fieldgate.EncodeRecords(r.batch[:0], &fieldgate.RecordBatch{Node: r.node, Epoch: r.epoch, First: r.first, Records: records[:n]})
		r.batch = batch
		id := string(fieldgate.AppendInstance(nil, r.node, r.epoch, r.first))
		for {
			err := r.sink(ctx, id, batch)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				r.dropped.Add(uint64(len(records)))
				r.logger.Error("records were lost at the end: the bus did not take them", "records", len(records), "error", err)
				return
			}
			r.logger.Warn("the bus does not take records; they are kept and sent again", "records", len(records), "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryInterval):
			}
		}
		r.first += uint64(n)
		records = records[n:]
	}
}
