package pipeline

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"strconv"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/clock"
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
	linked := linkedLimit{Limit: limit, salt: salt, rule: limitRule(&limit)}
	linked.interval = int64(limit.Period) / int64(limit.Count)
	linked.tolerance = linked.interval * int64(limit.Burst-1)
	amount := strconv.Itoa(limit.Count)
	if limit.Bytes {
		linked.tolerance = linked.cost(limit.Burst) - 1
		amount = fieldgate.SizeText(int64(limit.Count))
	}
	linked.refusal = fmt.Sprintf("At most %s %s for each %s.", amount, limit.EachPeriod(), limit.Key)
	return linked
}

// cost is the time that so many bytes take at the steady rate.
func (limit *linkedLimit) cost(bytes int) int64 {
	high, low := bits.Mul64(uint64(bytes), uint64(limit.Period))
	if high >= uint64(limit.Count) {
		return math.MaxInt64 / 4
	}
	quotient, _ := bits.Div64(high, low, uint64(limit.Count))
	return int64(min(quotient, math.MaxInt64/4))
}

// take counts one exchange that takes so long at the steady rate. It says how far ahead of that rate the key is then, and how long to wait
// when nothing is left. What takes more than is left passes, and the rest is owed: so content larger than a burst gets through, too.
func (l *limiter) take(limit *linkedLimit, key uint64, cost int64, now time.Duration) (ahead int64, wait time.Duration) {
	at := int64(now)
	slot := l.slot(key^limit.salt, at)
	for {
		old := slot.Load()
		arrival := max(old, at)
		if ahead := arrival - at; ahead > limit.tolerance {
			return ahead, time.Duration(ahead - limit.tolerance)
		}
		if slot.CompareAndSwap(old, arrival+cost) {
			return arrival + cost - at, 0
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

// limit is the stage: is there room for one more exchange within every rate limit and quota?
func limit(p *Pipeline, x *Exchange) *fieldgate.Problem {
	for i := range x.Operation.limits {
		linked := &x.Operation.limits[i]
		ahead, wait := p.limits.take(linked, x.limitKey(linked.Key), linked.interval, clock.Of(x.Started))
		if state := linked.state(ahead); i == 0 || state.Remaining < x.Limit.Remaining {
			x.Limit = state
		}
		if wait > 0 {
			return x.limited(linked, wait)
		}
	}
	return p.useQuotas(x, false, 1)
}

// limitBytes is the stage, once the body is there: is there room for as many bytes?
func limitBytes(p *Pipeline, x *Exchange) *fieldgate.Problem {
	for i := range x.Operation.byteLimits {
		linked := &x.Operation.byteLimits[i]
		if _, wait := p.limits.take(linked, x.limitKey(linked.Key), linked.cost(len(x.Body)), clock.Of(x.Started)); wait > 0 {
			return x.limited(linked, wait)
		}
	}
	return p.useQuotas(x, true, int64(len(x.Body)))
}

func (x *Exchange) limited(by *linkedLimit, wait time.Duration) *fieldgate.Problem {
	return x.by(by.rule, &fieldgate.Problem{Code: fieldgate.ProblemRateLimited, Detail: by.refusal, RetryAfter: wait})
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
