package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
)

// collector is a control plane: it counts each Record once, by the numbers of its batch.
type collector struct {
	t  *testing.T
	mu sync.Mutex

	away     bool
	epoch    uint64
	expected uint64   // number of the next Record of the epoch
	missing  uint64   // numbers that were left out
	got      []uint64 // Record.Exchange in the order of their coming, each once
	batches  int
}

var errAway = errors.New("away")

func (c *collector) sink(_ context.Context, id string, encoded []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return errAway
	}
	batch, err := fieldgate.DecodeRecords(encoded)
	if err != nil || batch.Node != "n1" {
		c.t.Errorf("%+v %v", batch, err)
		return nil
	}
	if want := string(appendID(nil, batch)); id != want {
		c.t.Errorf("id %s, want %s", id, want)
	}
	if batch.Epoch < c.epoch {
		c.t.Errorf("epoch %d after %d", batch.Epoch, c.epoch)
	} else if batch.Epoch > c.epoch {
		c.epoch, c.expected = batch.Epoch, 1
	}
	c.batches++
	for i, record := range batch.Records {
		switch number := batch.First + uint64(i); {
		case number < c.expected: // again
		default:
			c.missing += number - c.expected
			c.expected = number + 1
			c.got = append(c.got, record.Exchange)
		}
	}
	return nil
}

func (c *collector) set(away bool) {
	c.mu.Lock()
	c.away = away
	c.mu.Unlock()
}

func (c *collector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

// inOrder fails unless the Records 1 to n came, in their order.
func (c *collector) inOrder(n int) {
	c.t.Helper()
	if len(c.got) != n || c.missing != 0 {
		c.t.Fatalf("%d records came, want %d; %d numbers are missing", len(c.got), n, c.missing)
	}
	for i, exchange := range c.got {
		if exchange != uint64(i+1) {
			c.t.Fatalf("record %d is %d", i+1, exchange)
		}
	}
}

func openTest(t *testing.T, folder string, most int64, sink Sink) *Recorder {
	t.Helper()
	r, err := Open(Config{Node: "n1", Folder: folder, OutboxMaxBytes: most, Sink: sink, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func start(r *Recorder) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	return func() { cancel(); <-done }
}

func add(r *Recorder, from, to int) {
	for i := from; i <= to; i++ {
		r.Add(&fieldgate.Record{Time: time.Now(), Exchange: uint64(i), API: fmt.Sprint("api", i%7)})
	}
}

// Records arrive once and in order while the bus is away for a while, and over restarts, with a clock that goes back.
func TestSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		c := &collector{t: t}
		n, epoch := 0, uint64(0)
		more := func(r *Recorder, records int) { add(r, n+1, n+records); n += records }
		for round := range 4 {
			r := openTest(t, folder, 0, c.sink)
			if r.Epoch() <= epoch {
				t.Fatalf("epoch %d after %d", r.Epoch(), epoch)
			}
			epoch = r.Epoch()
			if round == 2 { // the clock goes back by a day
				epoch += 86_400_000
				r.Close()
				writeEpoch(t, folder, epoch)
				r = openTest(t, folder, 0, c.sink)
			}
			epoch = r.Epoch()
			end := start(r)
			more(r, 3000)
			time.Sleep(time.Second)
			c.set(true)
			more(r, 5000)
			time.Sleep(30 * time.Second)
			more(r, 1)
			time.Sleep(time.Second)
			if stats := r.Stats(); stats.OutboxBytes == 0 || time.Since(stats.OutboxOldest) < 30*time.Second {
				t.Errorf("%+v", stats)
			}
			if round%2 == 0 {
				c.set(false)
				time.Sleep(2 * retryInterval)
				if stats := r.Stats(); stats.OutboxBytes != 0 || !stats.OutboxOldest.IsZero() || stats.Dropped != 0 {
					t.Errorf("all was sent: %+v", stats)
				}
			}
			more(r, 10)
			end()
			r.Close()
			c.set(false)
		}
		r := openTest(t, folder, 0, c.sink)
		end := start(r)
		time.Sleep(time.Second)
		end()
		c.inOrder(n)
	})
}

// A Record that comes alone is written at once; many that come together are written together.
func TestWritesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{t: t}
		r := openTest(t, t.TempDir(), 0, c.sink)
		end := start(r)
		time.Sleep(time.Second)
		add(r, 1, 1)
		synctest.Wait()
		if c.count() != 1 {
			t.Error("the first record waits")
		}
		for i := range 100 {
			add(r, i+2, i+2)
			time.Sleep(batchInterval / 50)
		}
		end()
		c.inOrder(101)
		if c.batches > 5 {
			t.Errorf("%d batches in two intervals", c.batches)
		}
	})
}

// What has waited is sent in few large batches, however small it was written: a bus may take only a few in a second.
func TestMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{t: t, away: true}
		r := openTest(t, t.TempDir(), 0, c.sink)
		end := start(r)
		for i := range 3000 {
			add(r, i+1, i+1)
			time.Sleep(2 * batchInterval)
		}
		c.set(false)
		time.Sleep(2 * retryInterval)
		end()
		c.inOrder(3000)
		if c.batches > 4 {
			t.Errorf("%d batches", c.batches)
		}
	})
}

// A batch that the bus will never take is counted as lost, and holds nothing up.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{t: t}
		refuse := true
		r := openTest(t, t.TempDir(), 0, func(ctx context.Context, id string, batch []byte) error {
			if refuse {
				refuse = false
				return fmt.Errorf("too large: %w", bus.ErrRefused)
			}
			return c.sink(ctx, id, batch)
		})
		end := start(r)
		add(r, 1, fieldgate.MaxBatchRecords+10)
		time.Sleep(time.Second)
		end()
		if r.Stats().Dropped == 0 || c.missing != r.Stats().Dropped || c.missing+uint64(len(c.got)) != fieldgate.MaxBatchRecords+10 {
			t.Errorf("%d dropped, %d missing, %d came", r.Stats().Dropped, c.missing, len(c.got))
		}
	})
}

// A full buffer drops and counts; it never blocks; the control plane sees the gap.
func TestBufferBounded(t *testing.T) {
	c := &collector{t: t}
	r := openTest(t, t.TempDir(), 0, c.sink)
	add(r, 1, bufferRecords+5)
	if r.Stats().Dropped != 5 {
		t.Fatalf("%+v", r.Stats())
	}
	end := start(r)
	for c.count() < bufferRecords {
		time.Sleep(time.Millisecond)
	}
	add(r, bufferRecords+6, bufferRecords+6)
	end()
	if c.missing != 5 || c.count() != bufferRecords+1 {
		t.Fatalf("%d came, %d are missing", c.count(), c.missing)
	}
}

func BenchmarkAdd(b *testing.B) {
	r, err := Open(Config{Node: "n1", Folder: b.TempDir(), Sink: func(context.Context, string, []byte) error { return nil }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	r.buffer = make([]fieldgate.Record, 0, bufferRecords)
	record := &fieldgate.Record{API: "thermo", Operation: "sendTelemetry", Principal: "d7"}
	b.ReportAllocs()
	for b.Loop() {
		if len(r.buffer) == bufferRecords {
			r.buffer = r.buffer[:0]
		}
		r.Add(record)
	}
}

// BenchmarkRecord is a Record's whole way: into the outbox, out of it and into the sink.
func BenchmarkRecord(b *testing.B) {
	var count int
	done := make(chan struct{})
	r, err := Open(Config{Node: "n1", Folder: b.TempDir(), Logger: slog.New(slog.DiscardHandler), Sink: func(_ context.Context, _ string, batch []byte) error {
		decoded, err := fieldgate.DecodeRecords(batch)
		if count += len(decoded.Records); count >= b.N {
			close(done)
		}
		return err
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	end := start(r)
	defer end()
	record := &fieldgate.Record{Time: time.Now(), API: "thermo", Version: "1.0.0", Operation: "sendTelemetry", Principal: "d7", Kind: "device", Model: "T2", Firmware: "1.8.3"}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		record.Exchange = uint64(i)
		r.Add(record)
		for i%1024 == 1023 && r.buffered() > bufferRecords/2 {
			time.Sleep(time.Millisecond)
		}
	}
	<-done
}

func (r *Recorder) buffered() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.buffer)
}
