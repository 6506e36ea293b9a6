package insight

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
)

// counting is one turn of this node at counting into the rollups. It ends when the context does, or when another node has taken
// over, which the next flush notices: then all that is pending is thrown away, because the other one counts it.
type counting struct {
	*Insight
	turn turn

	mu       sync.Mutex
	progress streamProgress // read, stored or pending
	nodes    numbering
	pending  *pending
	routes   *listing
	firsts   *firsts
	presence *presences
	taken    chan struct{} // a token when a flush made place

	// Only the flushing goroutine touches these.
	storing *flushing // what could not be stored yet
	stored  streamProgress
	pruned  time.Time
	marked  int64 // minute of the newest mark
}

type streamProgress struct {
	created  int64 // nanoseconds
	sequence uint64
}

// flushing is what one flush stores, and up to where that counts the stream.
type flushing struct {
	progress streamProgress
	nodes    numbering // those that changed
	absent   uint64    // of all nodes
	pending  *pending
}

// run counts until the context ends or the turn is over, and then stores what it has read and hands over.
func (c *counting) run(ctx context.Context) error {
	state, err := c.bus.State(ctx, fieldgate.StreamRecords)
	if err != nil {
		return err
	}
	c.resume(state)
	from, _, err := c.replayFrom(ctx, 2*presenceInterval)
	if err != nil {
		return err
	}
	counted := c.progress.sequence
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	group.Go(func() {
		defer stop()
		err := c.bus.Read(reading, fieldgate.StreamRecords, min(from, counted+1), readBatch, func(entries []bus.Entry) error {
			return c.consume(reading, entries, counted)
		})
		if err != nil && reading.Err() == nil {
			c.log.Error("records can no longer be read", "error", err)
		}
	})
	group.Go(func() { c.presence.storeRegularly(reading, c) })
	err = c.flushRegularly(reading)
	stop()
	group.Wait()
	if errors.Is(err, errTurnOver) {
		return err
	}

	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastEffort)
	defer cancel()
	for c.storing != nil || c.pendingRecords() > 0 {
		if err := c.flush(last); err != nil {
			return fmt.Errorf("rollups were not stored; their records will be read again: %w", err)
		}
	}
	noting, cancelNoting := context.WithTimeout(last, presenceLastStore) // what is left of the time is for handing over
	defer cancelNoting()
	c.presence.storeAll(noting, c)
	return c.release(last, c.turn)
}

// resume begins with the stream as it is now.
func (c *counting) resume(state bus.StreamState) {
	if created := state.Created.UnixNano(); c.progress.created != created || c.progress.sequence > state.Last {
		// Another stream of that name, or one that lost its end in a power cut. The nodes' own numbers tell what is counted.
		c.progress = streamProgress{created: created}
	}
}

func (c *counting) pendingRecords() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending.records
}

// consume counts the Records of messages of the stream; those up to the sequence counted only tell who was there. While the
// store takes nothing it waits.
func (c *counting) consume(ctx context.Context, entries []bus.Entry, counted uint64) error {
	for _, entry := range entries {
		c.mu.Lock()
		c.consumeEntry(entry, counted, time.Now())
		full := c.pending.full()
		c.mu.Unlock()
		for full {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case c.poke <- struct{}{}:
			case <-c.taken:
			}
			c.mu.Lock()
			full = c.pending.full()
			c.mu.Unlock()
		}
	}
	return nil
}

func (c *counting) consumeEntry(entry bus.Entry, counted uint64, now time.Time) {
	batch, err := c.batches.decode(entry, now)
	if entry.Sequence <= counted {
		if err == nil {
			c.presence.touch(batch.Node, batch.Records, false)
		}
		return
	}
	c.progress.sequence = entry.Sequence
	if err != nil {
		c.log.Error("a batch of records was dropped", "sequence", entry.Sequence, "error", err)
		c.count.malformed.Inc()
		return
	}
	records := c.nodes.take(batch)
	c.pending.add(batch, records, c.routes, c.firsts)
	c.presence.touch(batch.Node, records, true)
}

// flushRegularly stores what is pending until the context ends or the turn is over. The pause between two flushes follows from
// what the first one took, so that counting leaves the store to others most of the time.
func (c *counting) flushRegularly(ctx context.Context) error {
	for {
		began := time.Now()
		err := c.flush(ctx)
		pause := min(max(flushShare*time.Since(began), c.pace.flush), maxFlushPause)
		switch {
		case errors.Is(err, errTurnOver):
			return err
		case err != nil && ctx.Err() == nil:
			c.log.Error("rollups cannot be stored; they are tried again", "error", err)
			c.lag.storeFails(began)
			pause = max(pause, c.pace.flush)
		case err == nil:
			c.lag.storeWorks()
			if err := c.prune(ctx); err != nil && ctx.Err() == nil {
				c.log.Error("old rollups cannot be deleted", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.poke: // a reader waits for place
		case <-time.After(pause):
		}
	}
}

// flush stores what is pending, or leaves everything as it is. It also renews the turn, whether something is pending or not.
func (c *counting) flush(ctx context.Context) error {
	if c.storing == nil {
		c.mu.Lock()
		empty := c.pending.records == 0 && c.progress == c.stored
		if !empty {
			c.storing = &flushing{progress: c.progress, nodes: c.nodes.copyDirty(), pending: c.pending}
			for _, node := range c.nodes {
				c.storing.absent += node.absent()
			}
			c.pending = newPending()
		}
		c.mu.Unlock()
		if !empty {
			select {
			case c.taken <- struct{}{}:
			default:
			}
		}
	}
	if c.storing == nil {
		if c.turn.age() < c.pace.renew {
			return nil
		}
		return c.renew(ctx, &c.turn)
	}
	if err := c.write(ctx, c.storing); err != nil {
		return err
	}
	c.lag.counted(c.storing)
	c.count.setLost(c.storing.absent)
	c.stored, c.storing = c.storing.progress, nil
	return nil
}
