package mqttfront

import "sync"

// calls are a connection's calls to upstreams.
type calls struct {
	mu       sync.Mutex
	waiting  []*publishing // those that want no reply, one after the other; the first is under way
	requests int           // under way, side by side
}

// callsPerConnection bounds the upstream calls of one connection that wait or run, so that one client cannot take all
// workers.
const callsPerConnection = 16

// call lets an upstream answer, without holding up the connection's reading: a PUBLISH that wants no reply waits for the
// one before it, so that messages keep their order [MQTT-4.6.0-5]; requests run side by side. When too many run, the
// connection is not read.
func (c *connection) call(x *publishing) {
	n := c.need()
	if n.calls == nil {
		n.calls = new(calls)
	}
	k := n.calls
	k.mu.Lock()
	defer k.mu.Unlock()
	if x.responseTopic != "" {
		k.requests++
		c.front().running.Go(func() {
			x.forward()
			k.mu.Lock()
			k.requests--
			k.mu.Unlock()
			c.uncrowd()
		})
	} else {
		k.waiting = append(k.waiting, x)
		if len(k.waiting) == 1 {
			c.front().running.Go(c.runCalls)
		}
	}
	if k.full() {
		c.mu.Lock()
		c.crowded = true
		c.mu.Unlock()
	}
}

func (k *calls) full() bool {
	return len(k.waiting) >= callsPerConnection || k.requests >= callsPerConnection
}

func (c *connection) runCalls() {
	k := c.had().calls
	for more := true; more; {
		k.mu.Lock()
		x := k.waiting[0]
		k.mu.Unlock()
		x.forward()
		k.mu.Lock()
		if k.waiting = k.waiting[1:]; len(k.waiting) == 0 {
			k.waiting, more = nil, false
		}
		k.mu.Unlock()
		c.uncrowd()
	}
}

// uncrowd has the reading go on if fewer calls wait now.
func (c *connection) uncrowd() {
	c.needs.calls.mu.Lock()
	defer c.needs.calls.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.crowded && !c.needs.calls.full() {
		c.crowded = false
		c.resume()
	}
}
