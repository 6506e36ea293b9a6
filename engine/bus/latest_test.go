package bus

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func testLatest(t *testing.T, b *Bus) {
	stream := ownStream(t)
	stream.Latest, stream.MaxAge = true, 0
	keep(t, b, stream)
	keep(t, b, stream) // as the next node does
	ctx, subject := t.Context(), stream.subject()
	latest := func(want string) Value {
		t.Helper()
		value, err := b.Latest(ctx, stream.Name, subject)
		if err != nil || string(value.Data) != want || value.Age < 0 {
			t.Fatalf("%q %v %v", value.Data, value.Age, err)
		}
		return value
	}
	if _, err := b.Latest(ctx, stream.Name, subject); !errors.Is(err, ErrNone) {
		t.Fatal(err)
	}
	first, err := b.Put(ctx, subject, []byte("a"), 0, time.Hour)
	if err != nil || latest("a").Sequence != first {
		t.Fatal(err)
	}
	if _, err := b.Put(ctx, subject, []byte("x"), 0, time.Hour); !errors.Is(err, ErrChanged) {
		t.Fatal(err)
	}
	second, err := b.Put(ctx, subject, []byte("b"), first, time.Hour)
	if err != nil || latest("b").Sequence != second {
		t.Fatal(err)
	}
	if _, err := b.Put(ctx, subject, []byte("x"), first, time.Hour); !errors.Is(err, ErrChanged) {
		t.Fatal(err)
	}
	if err := b.PutSoon(subject, []byte("x"), first, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := b.PutSoon(subject, []byte("c"), second, time.Second); err != nil {
		t.Fatal(err)
	}
	wait(t, "the message is stored, and gone after its time", func() bool { _, err := b.Latest(ctx, stream.Name, subject); return errors.Is(err, ErrNone) })

	// Of many that begin the same at once one does.
	var begun atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			switch _, err := b.Put(ctx, subject, nil, 0, time.Hour); {
			case err == nil:
				begun.Add(1)
			case !errors.Is(err, ErrChanged):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if begun.Load() != 1 {
		t.Errorf("%d have begun", begun.Load())
	}
}

// What is remembered is never forgotten to make room; what is there can be replaced all the same.
func testLatestFull(t *testing.T, b *Bus) {
	stream := ownStream(t)
	stream.Latest, stream.MaxBytes = true, 64<<10
	keep(t, b, stream)
	sequences := []uint64{}
	var err error
	for i := range 1000 {
		var sequence uint64
		if sequence, err = b.Put(t.Context(), fmt.Sprint(stream.subject(), i), make([]byte, 1000), 0, time.Hour); err != nil {
			break
		}
		sequences = append(sequences, sequence)
	}
	if !errors.Is(err, ErrFull) || len(sequences) < 40 {
		t.Fatalf("after %d: %v", len(sequences), err)
	}
	if _, err := b.Latest(t.Context(), stream.Name, stream.subject()+"0"); err != nil {
		t.Error(err)
	}
	if _, err := b.Put(t.Context(), stream.subject()+"0", []byte("less"), sequences[0], time.Hour); err != nil {
		t.Error("replacing one:", err)
	}
}
