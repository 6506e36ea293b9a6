package upstream

import "time"

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

const ejection = 5 * time.Second // an address that refused a connection is left out for this long

// clockStart makes times numbers that a clock which is set does not move: an address must not stay out for an hour because of it.
var clockStart = time.Now()

// begin notes that a call is under way on the address.
func (a *address) begin() { a.inFlight.Add(1) }

// end notes how the call ended, and the time it took until the head of its answer.
func (a *address) end(now time.Time, took time.Duration, o outcome) {
	a.inFlight.Add(-1)
	switch {
	case o == unreachable:
		a.ejectedUntil.Store(int64(now.Add(ejection).Sub(clockStart)))
	case o == answered && a.ejectedUntil.Load() != 0:
		a.ejectedUntil.Store(0)
	}
}

func (a *address) ejected(now time.Time) bool {
	return a.ejectedUntil.Load() > int64(now.Sub(clockStart))
}
