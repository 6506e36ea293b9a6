package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
)

// address is one host and port with its connections.
type address struct {
	endpoint
	tls            *clientTLS      // nil: in the clear
	http2          *http.Transport // nil: calls go over HTTP/1.1, or CoAP as the scheme says
	connectTimeout time.Duration
	maxOpen        int
	maxWaiting     int

	shared   *shared
	upstream atomic.Pointer[Upstream] // that it belongs to now

	inFlight     atomic.Int64  // calls under way
	weightBits   atomic.Uint64 // its weight now, as float64; 0: not to be used
	latency      latency
	window       window
	consecutive  atomic.Int32 // failures
	calls        atomic.Uint64
	failures     atomic.Uint64
	ejectedUntil atomic.Int64 // in nanoseconds on the clock as all times here; 0: not ejected

	// With shared.mu held:
	target      fieldgate.Target
	since       int64         // it is healthy, or is not
	freshSince  int64         // slow start counts from here
	returnedAt  int64         // the last ejection ended
	ejection    time.Duration // the last one lasted
	refused     bool          // it is ejected because no connection came about
	why         string        // it was ejected
	checks      int           // in a row that contradict checkFailed
	checkFailed string        // why the checks call it unhealthy; empty: they do not

	cookieValue, cookie string // of Upstream.Config.Sticky

	mu      sync.Mutex
	open    int     // connections that exist or are being dialled
	idle    []*conn // the last one was used last
	waiting []chan *conn
	ended   bool // connections are not kept any more

	// Of CoAP, with mu held:
	links   []*coapLink // that are open; calls go over the last one
	dialing *coapDial   // of the next one; nil: none is being opened
}

// weight is what the address counts for now; 0: it is not to be used.
func (a *address) weight() float64 { return math.Float64frombits(a.weightBits.Load()) }

// healthy needs shared.mu.
func (a *address) healthy() bool { return a.checkFailed == "" && a.ejectedUntil.Load() == 0 }

var errNoConnectionFree = errors.New("all connections to the upstream are in use")

// connection returns an idle connection that still lives, or a new one, or waits for one when maxOpen are in use.
func (a *address) connection(ctx context.Context, now, deadline time.Time, fresh bool) (*conn, error) {
	for {
		a.mu.Lock()
		if n := len(a.idle); n > 0 && !fresh {
			c := a.idle[n-1]
			a.idle = a.idle[:n-1]
			a.mu.Unlock()
			if c.usable(now) {
				c.reused = true
				return c, nil
			}
			a.discard(c)
			continue
		}
		if a.open >= a.maxOpen && len(a.idle) > 0 { // a fresh one is wanted: it takes the place of an idle one
			c := a.idle[0]
			a.idle = slices.Delete(a.idle, 0, 1)
			a.mu.Unlock()
			a.discard(c)
			continue
		}
		if a.open < a.maxOpen {
			a.open++
			a.mu.Unlock()
			return a.connect(ctx, deadline)
		}
		if len(a.waiting) >= a.maxWaiting {
			a.mu.Unlock()
			return nil, errNoConnectionFree
		}
		c, err := a.wait(ctx, deadline)
		switch {
		case err != nil:
			return nil, err
		case c == nil:
			return a.connect(ctx, deadline)
		}
		if now = time.Now(); c.usable(now) {
			c.reused = true
			return c, nil
		}
		a.discard(c)
		fresh = false
	}
}

// wait takes over a connection that another call gives back, or the place of one (nil), no longer than it waits for a connection. It is
// called with mu held, and releases it.
func (a *address) wait(ctx context.Context, deadline time.Time) (*conn, error) {
	turn := make(chan *conn, 1)
	a.waiting = append(a.waiting, turn)
	a.mu.Unlock()
	timer := time.NewTimer(min(a.connectTimeout, time.Until(deadline)))
	defer timer.Stop()
	select {
	case c := <-turn:
		return c, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	a.mu.Lock()
	i := slices.Index(a.waiting, turn)
	if i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
	}
	a.mu.Unlock()
	if i < 0 { // the turn came at the last moment
		if c := <-turn; c != nil {
			a.giveBack(c, time.Now())
		} else {
			a.giveUpPlace()
		}
	}
	return nil, errNoConnectionFree
}

// dialForCheck opens a connection that is no part of the pool.
func (a *address) dialForCheck(ctx context.Context, network, to string) (net.Conn, error) {
	if a.tls == nil {
		return new(net.Dialer).DialContext(ctx, network, to)
	}
	return (&tls.Dialer{Config: a.tls.config(time.Now(), a.name, "http/1.1")}).DialContext(ctx, network, to)
}

// giveBack returns a connection that can carry another exchange.
func (a *address) giveBack(c *conn, now time.Time) {
	c.idleSince = now
	a.mu.Lock()
	if len(a.waiting) > 0 {
		turn := a.waiting[0]
		a.waiting = slices.Delete(a.waiting, 0, 1)
		a.mu.Unlock()
		turn <- c
		return
	}
	ended := a.ended
	if !ended {
		a.idle = append(a.idle, c)
	}
	a.mu.Unlock()
	if ended {
		a.discard(c)
	}
}

// discard closes a connection and frees its place.
func (a *address) discard(c *conn) {
	c.Close()
	a.giveUpPlace()
}

func (a *address) giveUpPlace() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) > 0 {
		turn := a.waiting[0]
		a.waiting = slices.Delete(a.waiting, 0, 1)
		turn <- nil // the place goes over, still counted
		return
	}
	a.open--
}

// closeIdle closes connections that were not used since; ended says that none is to be kept from now on.
func (a *address) closeIdle(before time.Time, ended bool) {
	a.mu.Lock()
	a.ended = a.ended || ended
	var old []*conn
	a.idle = slices.DeleteFunc(a.idle, func(c *conn) bool {
		if c.idleSince.After(before) {
			return false
		}
		old = append(old, c)
		return true
	})
	a.mu.Unlock()
	for _, c := range old {
		a.discard(c)
	}
	if ended && a.http2 != nil {
		a.http2.CloseIdleConnections()
	}
	a.closeIdleLinks(before)
}
