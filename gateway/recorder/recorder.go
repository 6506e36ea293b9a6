// Package recorder carries Records from the pipeline to the bus in batches, by way of an outbox on the gateway's disk.
//
// It owns the outbox and the epoch, which numbers the starts of a gateway. It promises that adding a Record never blocks; that
// Records in the outbox survive a crash of the process, and a power cut but for about the last second; that they arrive in
// their order, however long the bus is away; and that what had to be dropped, because outbox and buffer were full, is counted
// and leaves a gap in the Records' numbers. A Record is in the outbox at once when the gateway was quiet, and otherwise 25
// milliseconds after its exchange at the latest; until then mapped memory keeps it from a crash of the process. Batches that were sent and not acknowledged before a crash are sent
// again with the same numbers.
//
// At high rates a Record costs more than many an exchange does. So exchanges that are alike share one while it waits (Fold).
package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
)

const (
	batchInterval = 100 * time.Millisecond // Records of so long are written together, and alike exchanges of so long share one
	bufferRecords = 64 << 10               // about 20 MB
	keepRecords   = 4 << 10                // a buffer that grew beyond this is not used again
	foldAbove     = 32                     // Records of one interval, some thousand a second: fewer have exchanges of their own each
	retryInterval = time.Second
	tidyInterval  = time.Second
	lastEffort    = 3 * time.Second // to hand over what is left at the end
)

// Sink stores an encoded batch durably, or says why not; bus.ErrRefused says that it never will. id names the batch: one that
// comes twice is to be counted once. The batch is the Sink's until it returns.
type Sink func(ctx context.Context, id string, batch []byte) error

// Config is all that a Recorder works with.
type Config struct {
	Node           string
	Folder         string // of the outbox; created if missing; one process at a time
	OutboxMaxBytes int64  // on disk; 0: 1 GiB. Beyond it the oldest Records are dropped.
	Sink           Sink
	Logger         *slog.Logger
}

const defaultOutboxMaxBytes = 1 << 30

// Stats is how a Recorder stands.
type Stats struct {
	Dropped      uint64    // Records lost since the start, because outbox or buffer was full, or the bus refused them
	OutboxBytes  uint64    // waiting
	OutboxOldest time.Time // of what is waiting; zero when nothing is
}

// Recorder is safe for concurrent use.
type Recorder struct {
	node    string
	epoch   uint64
	sink    Sink
	logger  *slog.Logger
	outbox  *outbox
	some    chan struct{} // there is a Record
	full    chan struct{} // there is a whole batch
	written chan struct{} // there is a batch in the outbox
	dropped atomic.Uint64

	mu        sync.Mutex
	buffer    []fieldgate.Record
	turn      uint64     // counts the buffers
	others    []uint32   // room for those of Records in buffer
	unwritten *unwritten // has a copy of buffer, and of records
	skipped   uint64     // Records dropped after those in buffer

	// Only the goroutine that writes touches these.
	first   uint64             // number of the next Record to write
	records []fieldgate.Record // being written
	next    int                // place in records
	gap     uint64             // Records dropped after those in records
	spare   []fieldgate.Record // the next buffer
	frame   []byte
	failing bool // the disk takes nothing, and it was said
}

// Open opens the outbox, with what an earlier run left in it, and begins a new epoch; nothing is sent before Run. Another process
// that uses the folder is ErrInUse.
func Open(config Config) (*Recorder, error) {
	if config.OutboxMaxBytes == 0 {
		config.OutboxMaxBytes = defaultOutboxMaxBytes
	}
	o, err := openOutbox(config.Folder, config.OutboxMaxBytes, config.Logger)
	if err != nil {
		return nil, fmt.Errorf("outbox %s: %w", config.Folder, err)
	}
	r := &Recorder{node: config.Node, epoch: o.epoch, sink: config.Sink, logger: config.Logger, outbox: o, first: 1, turn: 1,
		some: make(chan struct{}, 1), full: make(chan struct{}, 1), written: make(chan struct{}, 1)}
	unwritten, left, err := openUnwritten(config.Folder, config.Node)
	if err != nil {
		config.Logger.Error("a kill of this gateway would lose the records of its last moments", "error", err)
	}
	for _, batch := range left {
		r.rescue(batch)
	}
	o.finish() // segments do not mix epochs, so that those of an older one are sent, and sent again, before
	unwritten.begin(r.epoch)
	r.unwritten = unwritten
	return r, nil
}

// rescue brings Records into the outbox that an earlier run did not bring there before it was killed. It may have: then they
// are sent twice, which is counted once.
func (r *Recorder) rescue(batch fieldgate.RecordBatch) {
	all := batch.Records
	for len(all) > 0 {
		batch.Records = all[:min(len(all), fieldgate.MaxBatchRecords)]
		if err := r.outbox.append(appendBatchFrame(nil, &batch)); err != nil {
			r.dropped.Add(uint64(len(all)))
			r.logger.Error("records of the run before were lost: the outbox takes nothing", "records", len(all), "error", err)
			return
		}
		all = all[len(batch.Records):]
		batch.First += uint64(len(batch.Records))
	}
}

// Epoch tells this start of the gateway from all others; it is larger than those of all earlier ones. It is the milliseconds since
// 1970 unless the clock went back.
func (r *Recorder) Epoch() uint64 { return r.epoch }

// Close gives the outbox free. It must not be called while Run runs.
func (r *Recorder) Close() {
	r.unwritten.close()
	r.outbox.close()
}

// Add takes in a copy of the Record, which stands for one exchange, and gives a ticket for Fold; 0: none.
func (r *Recorder) Add(record *fieldgate.Record) (ticket uint64) {
	r.mu.Lock()
	if len(r.buffer) >= bufferRecords {
		r.skipped++
		r.mu.Unlock()
		r.dropped.Add(1)
		return 0
	}
	ticket = r.turn*bufferRecords + uint64(len(r.buffer))
	r.buffer = append(r.buffer, *record)
	r.unwritten.add(record)
	waiting := len(r.buffer)
	r.mu.Unlock()
	switch waiting {
	case 1:
		wake(r.some)
	case fieldgate.MaxBatchRecords:
		wake(r.full)
	}
	return ticket
}

// Fold lets the Record of a ticket stand for one more exchange, like it but for its duration and bytes. It says no when that Record does not
// wait any more, stands for many, or there are so few that each exchange may have one of its own: then the exchange is to be added.
func (r *Recorder) Fold(ticket uint64, duration time.Duration, bytesIn, bytesOut uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ticket/bufferRecords != r.turn || len(r.buffer) < foldAbove {
		return false
	}
	index := int(ticket % bufferRecords)
	record := &r.buffer[index]
	switch len(record.Others) {
	case fieldgate.MaxRecordOthers:
		return false
	case 0:
		if len(r.others) < fieldgate.MaxRecordOthers {
			r.others = make([]uint32, foldAbove*fieldgate.MaxRecordOthers)
		}
		record.Others, r.others = r.others[:0:fieldgate.MaxRecordOthers], r.others[fieldgate.MaxRecordOthers:]
	}
	fold(record, duration, bytesIn, bytesOut)
	r.unwritten.fold(index, duration, bytesIn, bytesOut)
	return true
}

func fold(record *fieldgate.Record, duration time.Duration, bytesIn, bytesOut uint64) {
	record.Others = append(record.Others, uint32(min(max(duration, 0)/time.Microsecond, math.MaxUint32)))
	record.BytesIn += bytesIn
	record.BytesOut += bytesOut
}

// wake leaves a token in a channel of one place.
func wake(channel chan<- struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// Stats is how the recorder stands now.
func (r *Recorder) Stats() Stats {
	stats := r.outbox.stats()
	stats.Dropped += r.dropped.Load()
	return stats
}

// Run writes Records to the outbox and sends them, until the context ends. Then what has come is written, and for three seconds
// more sent; the rest stays in the outbox for the next start.
func (r *Recorder) Run(ctx context.Context) {
	sending, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	allWritten := make(chan struct{})
	var parts sync.WaitGroup
	parts.Go(func() { r.send(sending, allWritten) })
	parts.Go(func() { r.tidy(allWritten) })
	r.write(ctx)
	close(allWritten)
	effort := time.AfterFunc(lastEffort, giveUp)
	defer effort.Stop()
	parts.Wait()
	if left := r.Stats().OutboxBytes; left > 0 {
		r.logger.Info("records stay in the outbox for the next start: the bus did not take them", "bytes", left)
	}
}

// write brings Records into the outbox until the context ends.
func (r *Recorder) write(ctx context.Context) {
	interval, retry := time.NewTimer(0), time.NewTimer(0)
	defer interval.Stop()
	defer retry.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-retry.C:
			if r.next < len(r.records) && !r.writeAll() {
				retry.Reset(retryInterval)
			}
		case <-r.some:
			select { // the interval since the last write has passed, or there is a whole batch
			case <-ctx.Done():
			case <-r.full:
			case <-interval.C:
			}
			if !r.writeAll() {
				retry.Reset(retryInterval)
			}
			interval.Reset(batchInterval)
		}
	}
	for effort := time.After(lastEffort); !r.writeAll(); {
		select {
		case <-r.some: // the bus took what the disk did not
		case <-effort:
			r.mu.Lock()
			lost := uint64(len(r.records) - r.next + len(r.buffer))
			r.mu.Unlock()
			r.dropped.Add(lost)
			r.logger.Error("records were lost at the end: neither disk nor bus takes them", "records", lost)
			return
		}
	}
}

// writeAll writes what has come so far, and says whether the outbox took it. Meanwhile Records come into the other of two buffers.
func (r *Recorder) writeAll() bool {
	if !r.writeRecords() { // what the outbox did not take the last time
		return false
	}
	r.mu.Lock()
	r.records, r.gap, r.next = r.buffer, r.skipped, 0
	r.buffer, r.skipped = r.spare, 0
	r.turn++
	r.unwritten.turn(r.first + uint64(len(r.records)) + r.gap)
	r.mu.Unlock()
	r.spare = nil
	return r.writeRecords()
}

func (r *Recorder) writeRecords() bool {
	for r.next < len(r.records) {
		records := r.records[r.next:min(len(r.records), r.next+fieldgate.MaxBatchRecords)]
		r.frame = appendBatchFrame(r.frame[:0], &fieldgate.RecordBatch{Node: r.node, Epoch: r.epoch, First: r.first, Records: records})
		err := r.outbox.append(r.frame)
		if wasFailing := r.failing; wasFailing != (r.outbox.failure() != nil) {
			r.failing = !wasFailing
			if r.failing {
				r.logger.Error("the outbox cannot be written; traffic goes on, and records that the bus does not take soon are lost", "error", r.outbox.failure())
			} else {
				r.logger.Info("the outbox is written again")
			}
		}
		if err != nil {
			return false
		}
		wake(r.written)
		r.first += uint64(len(records))
		r.next += len(records)
	}
	r.unwritten.written()
	r.first += r.gap // numbers that never arrive tell the control plane what was lost
	r.gap = 0
	if r.records != nil && cap(r.records) <= keepRecords {
		clear(r.records)
		r.spare = r.records[:0]
	}
	r.records, r.next = nil, 0
	return true
}

// send empties the outbox until the context ends, or everything was written and sent.
func (r *Recorder) send(ctx context.Context, allWritten <-chan struct{}) {
	failing, ending := false, false
	for {
		s, some, err := r.outbox.next()
		if err == nil && !some {
			if ending {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-r.written:
			case <-allWritten:
				ending = true // after one more look
			}
			continue
		}
		if err == nil {
			err = r.sink(ctx, s.id, s.batch)
		}
		switch {
		case err == nil:
			failing = false
			r.outbox.done(s)
		case errors.Is(err, bus.ErrRefused):
			r.dropped.Add(uint64(s.records))
			r.logger.Error("a batch of records is lost: the bus refuses it", "batch", s.id, "records", s.records, "error", err)
			r.outbox.done(s)
		case ctx.Err() != nil:
			return
		default:
			if !failing {
				r.logger.Warn("records cannot be sent; they are kept in the outbox and sent again", "error", err)
			}
			failing = true
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryInterval):
			}
		}
		if s.held != nil {
			wake(r.some) // there is room for what waits
		}
	}
}

// tidy removes what was sent, and makes the rest survive a power cut, about once a second.
func (r *Recorder) tidy(allWritten <-chan struct{}) {
	ticker := time.NewTicker(tidyInterval)
	defer ticker.Stop()
	for {
		select {
		case <-allWritten:
			return
		case <-ticker.C:
			r.outbox.tidy()
			r.outbox.sync()
		}
	}
}
