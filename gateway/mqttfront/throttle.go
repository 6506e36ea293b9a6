package mqttfront

import (
	"sync/atomic"
	"time"

	"fieldgate/gateway/clock"
)

// throttle bounds what one client sends, by not reading it until what it has sent more is worked off (back-pressure): its own network stack
// holds it up, nothing of it is lost, and nobody else is slowed. nil where the listener's terms bound neither messages nor bytes.
type throttle struct {
	messages, bytes pace
	until           time.Duration // reading waits
	paused          bool          // guarded by the connection's lock, as all
}

const (
	// throttleBurst is how much may come at once: the allowance of so long.
	throttleBurst = time.Second
	// throttleStep is how much of it is there again before reading goes on, so that not each message costs a pause of its own.
	throttleStep = 100 * time.Millisecond
)

func newThrottle(t *Terms) *throttle {
	if t.MaxMessageRate == 0 && t.MaxByteRate == 0 {
		return nil
	}
	return new(throttle)
}

// spend takes n of so many a second and says how long the client has to wait for some of its allowance. What is more than is left passes,
// and is owed.
func (p *pace) spend(n, perSecond int, now time.Duration) time.Duration {
	*p = pace(max(time.Duration(*p), now) + time.Duration(n)*time.Second/time.Duration(perSecond))
	if owed := time.Duration(*p) - now - throttleBurst; owed > 0 {
		return owed + throttleStep
	}
	return 0
}

// sent counts a number of bytes that were read, or of messages, and has reading wait where that is more than may be. c is locked.
func (c *connection) sent(n int, p *pace, perSecond int, now time.Duration, counter *atomic.Uint64) {
	wait := p.spend(n, perSecond, now)
	if wait == 0 {
		return
	}
	counter.Add(1)
	t := c.had().throttle
	if t.until = max(t.until, now+wait); t.paused {
		return
	}
	t.paused = true
	c.front().Counters.Throttled.Add(1)
	c.resumeLater(now)
}

func (c *connection) sentBytes(n int, now time.Duration) {
	if most := c.listener.Terms.MaxByteRate; most > 0 && c.session != nil { // before that there is little that may be sent
		c.sent(n, &c.needs.throttle.bytes, most, now, &c.front().Counters.ThrottledBytes)
	}
}

func (c *connection) sentMessage(now time.Duration) {
	if most := c.listener.Terms.MaxMessageRate; most > 0 {
		c.sent(1, &c.needs.throttle.messages, most, now, &c.front().Counters.ThrottledMessages)
	}
}

func (c *connection) resumeLater(now time.Duration) {
	time.AfterFunc(c.needs.throttle.until-now, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if now := clock.Now(); now < c.needs.throttle.until {
			c.resumeLater(now)
			return
		}
		c.needs.throttle.paused = false
		c.front().Counters.Throttled.Add(-1)
		c.resume()
	})
}
