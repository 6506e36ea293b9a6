package upstream

import (
	"time"

	"fieldgate"
)

// CallStats is safe for concurrent use.
func (u *Upstream) CallStats() fieldgate.CallStats {
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	return u.callStats(sinceStart(time.Now()))
}

// callStats needs shared.mu.
func (u *Upstream) callStats(t int64) fieldgate.CallStats {
	b := u.budget
	s := fieldgate.CallStats{Calls: u.left.calls, Failures: u.left.failures, InFlight: u.shared.inFlight.Load(),
		Retries: b.retries.Load(), RetriesRefused: b.refused.Load(), Hedges: b.hedges.Load(), HedgesWon: b.hedgesWon.Load(),
		Mirroring: int(u.mirroring.Load()), MirrorsDropped: u.mirrorDropped.Load()}
	latencies, weight := 0.0, 0.0
	for _, a := range u.members {
		calls := a.calls.Load()
		s.Calls, s.Failures = s.Calls+calls, s.Failures+a.failures.Load()
		if mean := a.latency.known(t); mean > 0 {
			latencies, weight = latencies+mean*float64(calls), weight+float64(calls)
		}
	}
	if weight > 0 {
		s.Latency = latencies / weight / 1000
	}
	if u.load != nil {
		s.UnderWay = int(u.load.underWay.Load())
		for i := range s.Shed {
			s.Shed[i] = u.load.shed[i].Load()
		}
		if u.load.adaptive != nil {
			s.Limit = int(u.load.adaptive.limit.Load())
		}
	} else {
		s.Shed = u.left.shed
	}
	return s
}

// left are the counts of what is not there any more, so that sums never fall. It needs shared.mu.
type left struct {
	calls, failures uint64                                   // of addresses
	shed            [fieldgate.PriorityBackground + 1]uint64 // of a limit
}

// add counts in an address that is left for good; what calls under way on it come to is not counted.
func (l *left) add(a *address) {
	l.calls += a.calls.Load()
	l.failures += a.failures.Load()
}

// keepCounting continues the counts of the upstream in whose place u comes. What calls under way add to those of old is not counted.
func (u *Upstream) keepCounting(old *Upstream) {
	before := old.callStats(0)
	u.left.calls, u.left.failures, u.left.shed = old.left.calls, old.left.failures, before.Shed
	if u.load != nil {
		for i := range before.Shed {
			u.load.shed[i].Store(before.Shed[i])
		}
	}
	u.budget.retries.Store(before.Retries)
	u.budget.refused.Store(before.RetriesRefused)
	u.budget.hedges.Store(before.Hedges)
	u.budget.hedgesWon.Store(before.HedgesWon)
	u.mirrorDropped.Store(before.MirrorsDropped)
}
