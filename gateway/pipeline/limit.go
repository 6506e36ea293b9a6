package pipeline

import (
	"fmt"
	"hash/maphash"
	"math"
	"sync/atomic"
	"time"

	"fieldgate"
)

// LimitState tells a caller where it stands with the tightest limit of an operation (RateLimit header fields).
type LimitState struct {
	Count     int // exchanges allowed in each Period
	Period    time.Duration
	Remaining int           // exchanges that would pass at once now
	Reset     time.Duration // until Remaining is full again
}

// limiter holds GCRA states: for each (limit, key) the theoretical arrival time of the next exchange. It is a set-associative
// table of fixed size without locks: where all ways of a set are taken, the state that has been free the longest is
// overwritten, so that memory is bounded and an attacker with many keys can at most make the limiter forget keys that are
// nearly free.
type limiter struct {
	sets []limiterSet // times are nanoseconds on the clock
}

const (
	limiterWays = 4
	limiterSets = 1 << 16
)

type limiterSet [limiterWays]struct {
	key     atomic.Uint64
	arrival atomic.Int64
}

func newLimiter() *limiter {
	return &limiter{sets: make([]limiterSet, limiterSets)}
}

// linkedLimit is a limit with the numbers that GCRA needs, in nanoseconds.
type linkedLimit struct {
	fieldgate.Limit
	salt      uint64 // tells the limit's keys from those of others
	interval  int64  // between two exchanges at the steady rate
	tolerance int64  // how far ahead of the steady rate a burst may run
	refusal   string // sentence for the caller
	rule      string // in the contract's words, for Records
}

func linkLimit(limit fieldgate.Limit, salt uint64) linkedLimit {
	interval := int64(limit.Period) / int64(limit.Count)
	return linkedLimit{Limit: limit, salt: salt, interval: interval, tolerance: interval * int64(limit.Burst-1),
		refusal: fmt.Sprintf("At most %d in %v for each %s.", limit.Count, limit.Period, limit.Key), rule: limitRule(&limit)}
}

// take counts one exchange. It says how long to wait when there is none left.
func (l *limiter) take(limit *linkedLimit, key uint64, now time.Duration) (state LimitState, wait time.Duration) {
	at := int64(now)
	slot := l.slot(key^limit.salt, at)
	for {
		old := slot.Load()
		arrival := max(old, at)
		if ahead := arrival - at; ahead > limit.tolerance {
			return limit.state(ahead), time.Duration(ahead - limit.tolerance)
		}
		if slot.CompareAndSwap(old, arrival+limit.interval) {
			return limit.state(arrival + limit.interval - at), 0
		}
	}
}

// state is where a key stands whose next arrival lies so many nanoseconds ahead.
func (limit *linkedLimit) state(ahead int64) LimitState {
	remaining := (limit.tolerance + limit.interval - ahead) / limit.interval
	return LimitState{Count: limit.Count, Period: limit.Period, Remaining: int(max(remaining, 0)), Reset: time.Duration(ahead)}
}

// slot finds or makes the place of a key. Two writers that race for a free place may share it for one exchange: a limit is
// then counted too strictly once, never too laxly for long.
func (l *limiter) slot(key uint64, now int64) *atomic.Int64 {
	key |= 1 // 0 marks a free way
	set := &l.sets[key>>1%limiterSets]
	oldest, oldestAt := 0, int64(math.MaxInt64)
	for i := range set {
		switch held := set[i].key.Load(); {
		case held == key:
			return &set[i].arrival
		case held == 0:
			if set[i].key.CompareAndSwap(0, key) {
				return &set[i].arrival
			}
			if set[i].key.Load() == key {
				return &set[i].arrival
			}
		}
		if at := set[i].arrival.Load(); at < oldestAt {
			oldest, oldestAt = i, at
		}
	}
	way := &set[oldest]
	way.key.Store(key)
	way.arrival.Store(min(oldestAt, now))
	return &way.arrival
}

var limitSeed = maphash.MakeSeed()

// limit is the stage: is there room within every rate limit?
func limit(p *Pipeline, x *Exchange) *fieldgate.Problem {
	now := clock()
	for i := range x.Operation.limits {
		linked := &x.Operation.limits[i]
		state, wait := p.limits.take(linked, x.limitKey(linked.Key), now)
		if i == 0 || state.Remaining < x.Limit.Remaining {
			x.Limit = state
		}
		if wait > 0 {
			return x.by(linked.rule, &fieldgate.Problem{Code: fieldgate.ProblemRateLimited, Detail: linked.refusal, RetryAfter: wait})
		}
	}
	return nil
}

func (x *Exchange) limitKey(by fieldgate.LimitKey) uint64 {
	switch {
	case by == fieldgate.LimitOperation:
		return 0
	case by == fieldgate.LimitPrincipal && x.caller.Ref != 0:
		return maphash.Comparable(limitSeed, x.caller.Ref)
	}
	address := x.Source.Addr().As16()
	if x.Source.Addr().Is6() && !x.Source.Addr().Is4In6() {
		return maphash.Bytes(limitSeed, address[:8]) // a /64 is one subscriber's, who may use any address of it
	}
	return maphash.Bytes(limitSeed, address[:])
}
