package upstream

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
)

const (
	defaultConcurrencyMin = 10
	defaultConcurrencyMax = 1000
	firstConcurrency      = 100 // until something was measured, within the bounds

	concurrencyWindow  = 250 * time.Millisecond // the limit changes once in it at the most,
	concurrencySamples = 10                     // and after that many calls at the least
	latencyTolerance   = 2                      // latency may be this many times the usual one
	shrink             = 0.8                    // besides the gradient, to see what latency is below the usual one, if it still is
	forget             = 1.005                  // what the usual latency grows by in a window, so that a better past is forgotten,
	forgetAtLeast      = 1.05                   // and when the limit cannot shrink any more: what does not help is no queue
)

// load counts the calls of an upstream that are under way, and refuses those that it should not be asked to carry.
type load struct {
	underWay atomic.Int64
	max      int64                                           // 0: no bound
	adaptive *adaptive                                       // nil: no limit that adjusts itself
	shed     [fieldgate.PriorityBackground + 1]atomic.Uint64 // refused calls, by Priority
}

// newLoad returns nil when the upstream has no such limit.
func newLoad(config *fieldgate.Upstream) *load {
	if config.MaxRequests == 0 && config.Adaptive == nil {
		return nil
	}
	l := &load{max: int64(config.MaxRequests)}
	if config.Adaptive != nil {
		l.adaptive = newAdaptive(config.Adaptive.Min, config.Adaptive.Max)
	}
	return l
}

var errShed = &fieldgate.Problem{Code: fieldgate.ProblemOverloaded, Detail: "The service behind this API has as many requests as it can carry.", RetryAfter: time.Second}

// begin lets a call in, or says that it is not carried. One that is not is never counted: a crowd of them would take the places of those
// that are.
func (l *load) begin(priority fieldgate.Priority) *fieldgate.Problem {
	most := int64(math.MaxInt64)
	if l.max > 0 {
		most = l.max
	}
	if l.adaptive != nil {
		most = min(most, l.adaptive.bound(priority))
	}
	for n := l.underWay.Load(); n < most; n = l.underWay.Load() {
		if l.underWay.CompareAndSwap(n, n+1) {
			return nil
		}
	}
	if int(priority) < len(l.shed) {
		l.shed[priority].Add(1)
	}
	return errShed
}

func (l *load) end() { l.underWay.Add(-1) }

// answered notes how long the upstream took until the head of an answer, or until a try timed out.
func (l *load) answered(now time.Time, took time.Duration) {
	if l.adaptive != nil {
		l.adaptive.sample(now, took, l.underWay.Load())
	}
}

// adaptive is a limit of calls under way that follows the upstream's latency, after the gradient algorithm of Netflix'
// concurrency-limits (Vegas, for calls): the gradient is the usual latency, the least that was seen of late, divided by that of now.
// As long as it is high enough the limit grows by its square root, room for a short queue; else calls wait at the upstream, and the
// limit shrinks by the gradient, which empties the queue and so shows again what latency is without one. Unlike the original it
// works on windows, so that a call costs two additions.
type adaptive struct {
	min, max float64
	limit    atomic.Int64

	count, sum, peak atomic.Int64 // of the window: calls, nanoseconds, most under way
	windowEnd        atomic.Int64 // nanoseconds on the clock

	mu    sync.Mutex // of the step
	exact float64    // the limit before rounding
	usual float64    // latency, nanoseconds; 0: not known yet
}

func newAdaptive(least, most int) *adaptive {
	if least == 0 {
		least = defaultConcurrencyMin
	}
	if most == 0 {
		most = max(defaultConcurrencyMax, least)
	}
	a := &adaptive{min: float64(least), max: float64(most)}
	a.exact = min(max(firstConcurrency, a.min), a.max)
	a.limit.Store(int64(a.exact))
	return a
}

// bound is how many calls may be under way for one of that priority to be let in.
func (a *adaptive) bound(priority fieldgate.Priority) int64 {
	limit := a.limit.Load()
	switch priority {
	case fieldgate.PriorityCritical:
		return limit
	case fieldgate.PriorityBackground:
		return max(limit*70/100, 1)
	}
	return max(limit*90/100, 1)
}

func (a *adaptive) sample(now time.Time, took time.Duration, underWay int64) {
	a.sum.Add(int64(took))
	count := a.count.Add(1)
	for peak := a.peak.Load(); underWay > peak && !a.peak.CompareAndSwap(peak, underWay); peak = a.peak.Load() {
	}
	at := sinceStart(now)
	if count < concurrencySamples || at < a.windowEnd.Load() || !a.mu.TryLock() {
		return
	}
	defer a.mu.Unlock()
	if at < a.windowEnd.Load() { // somebody else was faster
		return
	}
	a.windowEnd.Store(at + int64(concurrencyWindow))
	if count, sum := a.count.Swap(0), a.sum.Swap(0); count > 0 {
		a.step(float64(sum)/float64(count), float64(a.peak.Swap(0)))
	}
}

// step sets the limit by the mean latency of a window and the most calls that were under way in it.
func (a *adaptive) step(latency, peak float64) {
	switch {
	case a.usual == 0 || latency < a.usual:
		a.usual = latency
	case a.exact == a.min:
		a.usual *= forgetAtLeast
	default:
		a.usual *= forget
	}
	next := a.exact
	switch gradient := a.usual / latency; {
	case gradient*latencyTolerance < 1:
		next *= shrink * max(gradient, 0.5)
	case peak >= a.exact/2: // a limit that nobody comes near proves nothing
		next += math.Sqrt(a.exact)
	}
	a.exact = min(max(next, a.min), a.max)
	a.limit.Store(int64(a.exact))
}
