package coapfront

import (
	"context"
	"log/slog"
	"testing"

	"fieldgate"
)

// RFC 8613 §7.2.1: no number comes twice, over many starts and two gateways, and within one they rise.
func TestNumbersNeverRepeat(t *testing.T) {
	issued := uint64(0) // by the control plane
	reserve := func(_ context.Context, after uint64) (uint64, error) {
		issued = max(issued, after) + 1
		return issued, nil
	}
	given := make(map[uint64]bool)
	start := func() (take func(slot int)) {
		n := newNumbers(reserve, slog.New(slog.DiscardHandler))
		return func(slot int) {
			t.Helper()
			for !n.ready(slot) { // what run does
				block, _ := reserve(t.Context(), n.newest.Load())
				n.newest.Store(block)
			}
			before := n.slots[slot].next
			number, err := n.take(slot)
			if err != nil || given[number] || number < before || number > fieldgate.MaxOSCOREBlock*blockNumbers {
				t.Fatalf("number %d after %d, %v; given before: %v", number, before, err, given[number])
			}
			given[number] = true
		}
	}
	for range 5 {
		one, two := start(), start()
		for i := range 3*blockNumbers + 7 {
			one(5)
			if i%3 == 0 {
				two(5)
			}
		}
	} // both are killed in the middle of a block
	n := newNumbers(reserve, slog.New(slog.DiscardHandler))
	if _, err := n.take(1); err == nil {
		t.Error("a number was given that nobody has reserved")
	}
	select {
	case <-n.wanted:
	default:
		t.Error("no block was asked for")
	}
}
