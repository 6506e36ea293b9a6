package coapfront

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
)

const (
	numberSlots  = 1 << 12
	blockNumbers = 1 << fieldgate.OSCOREBlockBits
	reserveEach  = time.Second // after a failure
)

var errNoNumbers = errors.New("no sender sequence numbers are reserved")

// numbers gives the sender sequence numbers of this gateway's OSCORE responses. None is ever used twice with a key, by whichever gateway and
// whatever is killed: they come in blocks of which the control plane gives each out once, and what one start of a gateway has not used of a
// block is lost. All contexts share few counters, and one key always has the same: so a context that is set again, or two with one
// master secret, go on counting.
type numbers struct {
	reserve func(ctx context.Context, after uint64) (block uint64, err error)
	logger  *slog.Logger
	newest  atomic.Uint64 // block of this start; 0: none yet
	wanted  chan struct{}
	slots   [numberSlots]numberSlot
}

type numberSlot struct {
	mu   sync.Mutex
	next uint64 // at the beginning of a block: the one before is used up, or there was none
}

func newNumbers(reserve func(context.Context, uint64) (uint64, error), logger *slog.Logger) *numbers {
	return &numbers{reserve: reserve, logger: logger, wanted: make(chan struct{}, 1)}
}

// first is where the slot goes on, with the lock held; false: a block is needed that is not there.
func (n *numbers) first(s *numberSlot) (uint64, bool) {
	if s.next%blockNumbers != 0 {
		return s.next, true
	}
	newest := n.newest.Load()
	if newest == 0 || newest*blockNumbers < s.next {
		n.want()
		return 0, false
	}
	return newest * blockNumbers, true
}

// ready says whether a slot can give a number.
func (n *numbers) ready(slot int) bool {
	s := &n.slots[slot]
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := n.first(s)
	return ok
}

// take gives the next number of a slot; each is larger than those before it.
func (n *numbers) take(slot int) (uint64, error) {
	s := &n.slots[slot]
	s.mu.Lock()
	defer s.mu.Unlock()
	number, ok := n.first(s)
	if !ok {
		return 0, errNoNumbers
	}
	s.next = number + 1
	if s.next%blockNumbers == blockNumbers/2 && n.newest.Load() == number/blockNumbers {
		n.want() // the next, before it is needed
	}
	return number, nil
}

func (n *numbers) want() {
	select {
	case n.wanted <- struct{}{}:
	default:
	}
}

// run reserves a block whenever one is wanted.
func (n *numbers) run(ctx context.Context) {
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wanted:
		}
		block, err := n.reserve(ctx, n.newest.Load())
		if err == nil && (block <= n.newest.Load() || block > fieldgate.MaxOSCOREBlock) {
			err = errors.New("the control plane gives out numbers that are used up")
		}
		if err == nil {
			n.newest.Store(block)
			failed = false
			continue
		}
		if !failed && ctx.Err() == nil {
			n.logger.Warn("no sender sequence numbers for OSCORE can be reserved; it is tried again", "error", err)
		}
		failed = true
		select {
		case <-ctx.Done():
			return
		case <-time.After(reserveEach):
			n.want()
		}
	}
}
