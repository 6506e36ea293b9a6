package recorder

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"fieldgate"
)

// What the sink refuses is sent again with the same numbers; what waits is sent at the end.
func TestRecorderSendsAgain(t *testing.T) {
	var got []uint64
	failures := 2
	sink := func(_ context.Context, id string, encoded []byte) error {
		if failures > 0 {
			failures--
			return errors.New("not now")
		}
		batch, err := fieldgate.DecodeRecords(encoded)
		if err != nil || batch.Node != "n1" || batch.Epoch != 7 {
			t.Errorf("%+v %v", batch, err)
		}
		if want := string(fieldgate.AppendInstance(nil, "n1", 7, batch.First)); id != want {
			t.Errorf("id %s, want %s", id, want)
		}
		for i := range batch.Records {
			if want := batch.First + uint64(i); batch.Records[i].Exchange != want {
				t.Errorf("record %d has number %d", batch.Records[i].Exchange, want)
			}
			got = append(got, batch.Records[i].Exchange)
		}
		return nil
	}
	r := New("n1", 7, sink, slog.New(slog.DiscardHandler))
	const records = 10_000
	for i := range records {
		r.Add(&fieldgate.Record{Time: time.Now(), Exchange: uint64(i + 1)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	time.Sleep(3 * batchInterval)
	r.Add(&fieldgate.Record{Time: time.Now(), Exchange: records + 1})
	time.Sleep(2*retryInterval + 2*batchInterval)
	cancel()
	<-done
	if len(got) != records+1 || r.Dropped() != 0 {
		t.Fatalf("%d records arrived, %d dropped", len(got), r.Dropped())
	}
}

// A full buffer drops and counts; it never blocks.
func TestRecorderBounded(t *testing.T) {
	r := New("n1", 1, nil, slog.New(slog.DiscardHandler))
	for range bufferRecords + 5 {
		r.Add(&fieldgate.Record{})
	}
	if r.Dropped() != 5 {
		t.Fatalf("%d dropped", r.Dropped())
	}
}
