package upstream

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"fieldgate/gateway/clock"
)

// outcome is how a call of an address ended.
type outcome uint8

const (
	answered    outcome = iota // with a status below 500
	failed                     // with a status of 500 or more; whether that counts as a failure is a setting
	unreachable                // no connection came about
	broken                     // the connection ended without an answer, or what came was no clean message
	timedOut
	cancelled // by the caller or the gateway: says nothing about the address
)

// sinceStart and timeOf keep times as numbers on the clock: an address must not stay out for an hour because the machine's was set.
func sinceStart(now time.Time) int64 { return int64(clock.Of(now)) }

func timeOf(t int64) time.Time { return clock.Time(time.Duration(t)) }

// begin notes that a call is under way on the address.
func (a *address) begin() {
	a.inFlight.Add(1)
	a.shared.inFlight.Add(1)
}

// end notes how the call ended, and the time it took until the head of its answer.
func (a *address) end(now time.Time, took time.Duration, o outcome, why cause) {
	a.inFlight.Add(-1)
	a.shared.inFlight.Add(-1)
	if o == cancelled {
		return
	}
	t, u := sinceStart(now), a.upstream.Load()
	a.calls.Add(1)
	if o != answered {
		a.failures.Add(1)
	}
	if o != unreachable {
		a.latency.observe(t, took, o != answered)
	}
	bad := o > failed || o == failed && u.Config.CountServerErrors
	if u.circuit.percent > 0 {
		if turned := u.circuit.record(t, bad); turned != "" {
			u.shared.tell(Transition{Upstream: u.Config.Name, Circuit: turned})
		}
	}
	outlier := &u.Config.Outlier
	calls, failures := 0, 0
	if outlier.FailurePercent > 0 {
		calls, failures = a.window.add(t/int64(outlier.Window), bad)
	}
	switch {
	case o == unreachable:
		u.eject(a, t, why.behind("no connection came about", ": "), true)
	case !bad:
		if a.consecutive.Load() != 0 {
			a.consecutive.Store(0)
		}
		if a.ejectedUntil.Load() != 0 {
			u.reached(a, t)
		}
	default:
		if n := a.consecutive.Add(1); outlier.Consecutive > 0 && int(n) >= outlier.Consecutive {
			u.eject(a, t, why.behind(fmt.Sprintf("%d calls in a row failed", n), ", the last: "), false)
		} else if outlier.FailurePercent > 0 && calls >= outlier.MinimumCalls && failures*100 >= outlier.FailurePercent*calls {
			u.eject(a, t, why.behind(fmt.Sprintf("%d of %d calls failed", failures, calls), ", the last: "), false)
		}
	}
}

// eject leaves an address out for a while: for one that was in for a shorter time than it had been out before, a while longer
// than that. For failures no more than a part of the addresses is left out; refused says that no connection came about.
func (u *Upstream) eject(a *address, t int64, why string, refused bool) {
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	u = u.latest() // a change of the configuration may have come in between
	outlier := &u.Config.Outlier
	a.consecutive.Store(0)
	if a.ejectedUntil.Load() > t || !refused && u.ejected(t)+1 > len(u.members)*outlier.MaxEjected/100 {
		return
	}
	if ends := a.ejectedUntil.Load(); ends != 0 { // its time is over and nobody has looked since
		a.returned(ends)
	}
	if t-a.returnedAt < int64(a.ejection) {
		a.ejection += outlier.Ejection
	} else {
		a.ejection = outlier.Ejection
	}
	a.ejection = min(a.ejection, outlier.MaxEjection)
	was := a.healthy()
	a.refused, a.why = refused, why
	a.ejectedUntil.Store(t + int64(a.ejection))
	if was {
		a.since = t
		u.turned(a)
	}
	u.rebuild(t)
}

// ejected counts the addresses that are left out.
func (u *Upstream) ejected(t int64) int {
	n := 0
	for _, a := range u.members {
		if a.ejectedUntil.Load() > t {
			n++
		}
	}
	return n
}

// reached takes an address back to which there was no connection, since there is one. One that was left out for its failures has
// to wait, because calls that began before may still end well.
func (u *Upstream) reached(a *address, t int64) {
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	if a.refused && a.ejectedUntil.Load() > t {
		a.returned(t)
		u.latest().rebuild(t)
	}
}

// returned ends the ejection of an address; the caller holds the lock.
func (a *address) returned(t int64) {
	a.ejectedUntil.Store(0)
	a.returnedAt, a.refused = t, false
	if a.checkFailed == "" {
		a.since, a.freshSince, a.why = t, t, ""
		a.upstream.Load().turned(a)
	}
}

// window counts the calls and failures of a stretch of time, and begins anew with each.
type window struct {
	packed atomic.Uint64 // number of the stretch (16 bits), calls (24), failures (24)
}

const windowCounts = 1<<24 - 1

// add counts a call and returns the counts of the stretch that t belongs to. Beyond 16 million calls they stay as they are.
func (w *window) add(stretch int64, failed bool) (calls, failures int) {
	for {
		old := w.packed.Load()
		calls, failures = int(old>>24&windowCounts), int(old&windowCounts)
		if old>>48 != uint64(stretch)&0xFFFF {
			calls, failures = 0, 0
		}
		if calls < windowCounts {
			calls++
			if failed {
				failures++
			}
		}
		if w.packed.CompareAndSwap(old, uint64(stretch)&0xFFFF<<48|uint64(calls)<<24|uint64(failures)) {
			return calls, failures
		}
	}
}

// latency is a mean of answer times that forgets, after "peak EWMA" of Twitter's Finagle: a slower answer counts at once and
// whole, a faster one as much as time has passed. The mean also falls while nobody calls, so that a slow address is tried again.
type latency struct {
	packed atomic.Uint64 // microseconds as float32, and the time of the last answer in milliseconds
}

const latencyDecay = 10_000 // milliseconds in which the weight of what was falls to 1/e

// mean is in microseconds, 0 when nothing is known.
func (l *latency) mean(t int64) float64 {
	mean, _ := l.decayed(l.packed.Load(), t)
	return mean
}

// latencyKnown is how long after an answer a mean still says how fast an address is: what it fell to since would read as very fast.
const latencyKnown = 60_000 // milliseconds

// known is the mean for those who read it, in microseconds; 0 when nothing was answered of late. It does not fall between answers.
func (l *latency) known(t int64) float64 {
	packed := l.packed.Load()
	passed := int32(uint32(t/int64(time.Millisecond)) - uint32(packed))
	if passed > latencyKnown || passed < -latencyKnown { // the 32 bits have turned
		return 0
	}
	return float64(math.Float32frombits(uint32(packed >> 32)))
}

// decayed is the mean and how much of it is left.
func (l *latency) decayed(packed uint64, t int64) (mean, left float64) {
	mean = float64(math.Float32frombits(uint32(packed >> 32)))
	if passed := uint32(t/int64(time.Millisecond)) - uint32(packed); passed > 0 && int32(passed) > 0 {
		left = math.Exp(-float64(passed) / latencyDecay)
		return mean * left, left
	}
	return mean, 1
}

// observe counts the time of a call. A failure that was quick is no sign of speed.
func (l *latency) observe(t int64, took time.Duration, failed bool) {
	seen := float64(took) / float64(time.Microsecond)
	for {
		old := l.packed.Load()
		mean, left := l.decayed(old, t)
		switch {
		case seen >= mean:
			mean = seen
		case failed:
			return
		default:
			mean += seen * (1 - left) // the mean has decayed already
		}
		if l.packed.CompareAndSwap(old, uint64(math.Float32bits(float32(mean)))<<32|uint64(uint32(t/int64(time.Millisecond)))) {
			return
		}
	}
}

// unknownCost is that of an address which has calls but has not answered yet: dearer than any that has.
const unknownCost = 1e12

// cost is what another call of the address is likely to take, in microseconds.
func (a *address) cost(t int64) float64 {
	load := a.load(t)
	mean := a.latency.mean(t)
	if mean == 0 && load > 0 {
		return unknownCost * load
	}
	return mean * (load + 1)
}
