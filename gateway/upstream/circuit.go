package upstream

import (
	"sync/atomic"
	"time"

	"fieldgate"
)

// circuit refuses the calls of an upstream that mostly fails, so that they fail fast and it can recover (Nygard, Release It!, 2007).
//
//	closed    ── enough failures in a window ──► open
//	open      ── its time is over ──► half-open: a call each probeEvery
//	half-open ── a failure ──► open;  probesPassed answers ──► closed
//
// Calls that began before it opened and end while it is open do not count.
type circuit struct {
	percent, minimum int // 0 percent: there is no circuit
	stretch, open    int64

	window    window
	openUntil atomic.Int64 // 0: closed
	nextProbe atomic.Int64
	passed    atomic.Int32 // calls that ended well while half-open
}

const (
	probeEvery   = int64(100 * time.Millisecond)
	probesPassed = 3
)

func (c *circuit) configure(config fieldgate.Circuit) {
	c.percent, c.minimum = config.FailurePercent, config.MinimumCalls
	c.stretch, c.open = int64(config.Window), int64(config.Open)
}

// allow reports whether a call may be made. A probe that never ends holds up nothing: the next one has its own time.
func (c *circuit) allow(t int64) bool {
	until := c.openUntil.Load()
	if until == 0 {
		return true
	}
	next := c.nextProbe.Load()
	return t >= until && t >= next && c.nextProbe.CompareAndSwap(next, t+probeEvery)
}

// record counts a call that ended, and says how the circuit stands if that opened or closed it. One that opens again after a probe
// has not been closed.
func (c *circuit) record(t int64, failed bool) (turned fieldgate.CircuitState) {
	switch until := c.openUntil.Load(); {
	case until == 0:
		calls, failures := c.window.add(t/c.stretch, failed)
		if failed && calls >= c.minimum && failures*100 >= c.percent*calls {
			return c.trip(t)
		}
	case t < until:
	case failed:
		return c.trip(t)
	case c.passed.Add(1) >= probesPassed:
		c.window.packed.Store(0)
		if c.openUntil.Swap(0) != 0 {
			return fieldgate.CircuitClosed
		}
	}
	return ""
}

func (c *circuit) trip(t int64) (turned fieldgate.CircuitState) {
	c.passed.Store(0)
	if c.openUntil.Swap(t+c.open) == 0 {
		return fieldgate.CircuitOpen
	}
	return ""
}

func (c *circuit) state(t int64) fieldgate.CircuitState {
	switch until := c.openUntil.Load(); {
	case c.percent == 0:
		return ""
	case until == 0:
		return fieldgate.CircuitClosed
	case t < until:
		return fieldgate.CircuitOpen
	}
	return fieldgate.CircuitHalfOpen
}

// refusal says why choose gave no address to a call that has used none yet. Of an open circuit callers hear that the service is
// overloaded, with the time after which to come back, which every protocol can say; that it cannot be reached would not be true.
func (u *Upstream) refusal(now time.Time) error {
	u = u.latest()
	t := sinceStart(now)
	if until := u.circuit.openUntil.Load(); u.circuit.percent > 0 && until != 0 {
		return &fieldgate.Problem{Code: fieldgate.ProblemOverloaded, Detail: "The service behind this API fails at present; try again later.",
			RetryAfter: time.Duration(max(until-t, int64(time.Second)))}
	}
	return errNoAddress
}
