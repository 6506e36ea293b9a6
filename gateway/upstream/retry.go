package upstream

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"fieldgate"
)

// Waits before a retry: they double, and a random half is left out, so that callers who failed together do not come back together.
const (
	firstBackoff = 25 * time.Millisecond
	maxBackoff   = 250 * time.Millisecond
)

// again reports whether a call whose try failed (err is nil: it brought an answer that is as good as a failure) is to be sent once
// more. It has given up that try then, and waited as long as is due.
func (c *Call) again(err error) bool {
	why := c.failure(err)
	if why == 0 || c.outOfTime() {
		return false
	}
	if why == fieldgate.RetryReset && !c.fresh && c.reused() && c.repeatable() {
		// A connection that was idle broke without a byte of an answer. That it ends some time is no failure of the address, and
		// no retry in the contract's sense (RFC 9112 §9.3.1). Once only: the next connection is new, or carries many calls (HTTP/2)
		// and may reset each of them.
		c.outcome = cancelled
		c.abandon()
		c.fresh, c.tried = true, tried{}
		return true
	}
	r := c.Retry
	if r == nil || r.On&why == 0 || c.retries == r.Attempts || why != fieldgate.RetryConnect && !c.repeatable() {
		return false
	}
	now := time.Now()
	wait := min(firstBackoff<<c.retries, maxBackoff)
	wait -= rand.N(wait / 2)
	if err == nil {
		wait = max(wait, c.retryAfter(now))
	}
	if !now.Add(wait).Before(c.deadline) || !c.upstream.budget.take(now) || !c.pause(wait) {
		return false
	}
	c.abandon()
	c.retries++
	c.upstream.budget.retries.Add(1)
	return true
}

// failure is the kind of failure that ended a try, 0 for none that could be tried again.
func (c *Call) failure(err error) fieldgate.RetryOn {
	switch {
	case err == nil:
		switch c.Response.Status {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return fieldgate.RetryStatus
		}
	case c.Handle.isCut():
	case notConnected(err):
		return fieldgate.RetryConnect
	case errors.Is(err, errNoAnswer):
		return fieldgate.RetryReset
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fieldgate.RetryTimeout
	}
	return 0
}

// repeatable reports whether the request may be sent again after some of it may have arrived: it can be, and doing so is harmless.
func (c *Call) repeatable() bool { return c.inMemory() && (c.Idempotent || !c.sent) }

// retryAfter is how long the upstream asks to be left alone (RFC 9110 §10.2.3).
func (c *Call) retryAfter(now time.Time) time.Duration {
	value := string(c.Response.Fields.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return at.Sub(now)
	}
	return 0
}

// pause waits, and reports whether nobody ended the call meanwhile.
func (c *Call) pause(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !c.Handle.isCut()
	case <-c.context().Done():
		return false
	}
}

const (
	budgetWindow = 10 // seconds

	defaultBudgetShare = 20 // percent of calls
	defaultBudgetLeast = 3  // each second
)

// retryBudget bounds what is sent besides the calls that were asked for (retries and hedges), so that they never multiply an
// outage: a share of the calls of the last ten seconds, and a few in any case. Only calls that may be tried again are
// counted, so that others pay nothing.
type retryBudget struct {
	share int64 // percent of calls
	least int64 // in each window

	seconds [budgetWindow]budgetSecond
	refused atomic.Uint64 // retries and hedges that were not made

	retries, hedges, hedgesWon atomic.Uint64 // that were made, and of the hedges those whose answer came first
}

// budgetSecond counts what happened in one second; it is used again when the window has passed.
type budgetSecond struct {
	second       atomic.Int64 // on the clock
	calls, extra atomic.Int64
}

func newRetryBudget(config fieldgate.RetryBudget) *retryBudget {
	if config.Percent == 0 {
		config.Percent = defaultBudgetShare
	}
	if config.PerSecond == 0 {
		config.PerSecond = defaultBudgetLeast
	}
	return &retryBudget{share: int64(config.Percent), least: int64(config.PerSecond) * budgetWindow}
}

// at is the second that now lies in. Those that begin one at once may lose each other's count: a budget can stand that.
func (b *retryBudget) at(now time.Time) (*budgetSecond, int64) {
	second := sinceStart(now) / int64(time.Second)
	s := &b.seconds[second%budgetWindow]
	if old := s.second.Load(); old != second && s.second.CompareAndSwap(old, second) {
		s.calls.Store(0)
		s.extra.Store(0)
	}
	return s, second
}

// call counts a call that may be tried again.
func (b *retryBudget) call(now time.Time) {
	s, _ := b.at(now)
	s.calls.Add(1)
}

// take reports whether one more retry or hedge may be made, and counts it.
func (b *retryBudget) take(now time.Time) bool {
	s, second := b.at(now)
	s.extra.Add(1) // first, so that many at once do not all see the same room
	var calls, extra int64
	for i := range b.seconds {
		if s := &b.seconds[i]; second-s.second.Load() < budgetWindow {
			calls += s.calls.Load()
			extra += s.extra.Load()
		}
	}
	if extra > max(calls*b.share/100, b.least) {
		s.extra.Add(-1)
		b.refused.Add(1)
		return false
	}
	return true
}
