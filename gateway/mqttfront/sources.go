package mqttfront

import (
	"net/netip"
	"time"

	"fieldgate/gateway/clock"
	"fieldgate/gateway/socket"
)

// sources bound what one source may open: an IPv4 address or an IPv6 /64, of which one subscriber has all.
type sources struct {
	known map[netip.Addr]origin
	sweep int // how many may be known before those that mean nothing any more are forgotten
}

type origin struct {
	open       int
	handshakes pace
}

// pace is a rate (GCRA): the time at which all that was let through would have been due.
type pace time.Duration

// take says whether one more may pass of a number a second, of which so many may come at once.
func (p *pace) take(now time.Duration, perSecond, atOnce int) bool {
	interval := time.Second / time.Duration(perSecond)
	due := max(time.Duration(*p), now)
	if due-now > interval*time.Duration(atOnce-1) {
		return false
	}
	*p = pace(due + interval)
	return true
}

// take says whether a source may open another connection. The numbers are those of Bounds.
func (s *sources) take(address netip.Addr, now time.Duration, bounds *Bounds) bool {
	key := socket.Source(address)
	o, ok := s.known[key]
	if o.open >= bounds.MaxConnectionsSource || !o.handshakes.take(now, bounds.MaxHandshakesSource, bounds.MaxConnectionsSource) {
		return false
	}
	if !ok && len(s.known) >= s.sweep {
		for key, o := range s.known {
			if o.open == 0 && time.Duration(o.handshakes) <= now {
				delete(s.known, key)
			}
		}
		s.sweep = 2*len(s.known) + 1000
	}
	o.open++
	s.known[key] = o
	return true
}

func (s *sources) release(address netip.Addr, now time.Duration) {
	key := socket.Source(address)
	o := s.known[key]
	if o.open--; o.open <= 0 && time.Duration(o.handshakes) <= now {
		delete(s.known, key)
		return
	}
	s.known[key] = o
}

// admit says whether the connection's source may open another one, if that was not asked before; the refused are counted.
func (f *Front) admit(c *connection) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.admitLocked(c)
}

func (f *Front) admitLocked(c *connection) bool {
	if c.counted {
		return true
	}
	now := clock.Now()
	if !f.sources.take(c.source.Addr(), now, &f.config.Bounds) {
		f.Counters.RefusedSource.Add(1)
		return false
	}
	c.counted = true
	if !f.handshakes.take(now, f.config.MaxHandshakes, f.config.MaxHandshakes) {
		f.Counters.RefusedRate.Add(1)
		return false
	}
	return true
}
