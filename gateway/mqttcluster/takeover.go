package mqttcluster

import (
	"time"
)

// TakeOver says that a node has accepted a client: another node that holds it lets it go.
type TakeOver struct {
	Kind, Principal, Client string
	At                      time.Time
	Node                    string
}

// Counts says whether the take-over counts against a connection that this node has accepted at a time: the later one does, and of two at
// the same time that of the node whose name comes later.
func (c *Cluster) Counts(t *TakeOver, at time.Time) bool {
	if at.Equal(t.At) {
		return t.Node > c.config.Node
	}
	return t.At.After(at)
}

const (
	maxClaims = 16        // packets with take-overs that wait to be sent; more are not said
	maxAhead  = time.Hour // that another node's clock is taken to be ahead of ours
)

// Now is a time for a TakeOver: later than that of any that this node has made or heard of, whatever the clocks of the others say.
func (c *Cluster) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newest = max(c.newest+1, time.Now().UnixMicro())
	return time.UnixMicro(c.newest)
}

// hearTime notes the time of another node's take-over. c is locked.
func (c *Cluster) hearTime(micro uint64) time.Time {
	at := int64(min(micro, uint64(time.Now().Add(maxAhead).UnixMicro())))
	c.newest = max(c.newest, at)
	return time.UnixMicro(at)
}

// TakeOver tells the other nodes that this one has accepted a client at a time that Now gave.
func (c *Cluster) TakeOver(kind, principal, client string, at time.Time) {
	if c != nil && c.living.Load() > 0 {
		c.claim(kind, principal, client, at)
	}
}

// claim has a take-over said with the next turn. It says whether there was room.
func (c *Cluster) claim(kind, principal, client string, at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.claims) - 1
	if last < 0 || len(c.claims[last]) > bodySize {
		if len(c.claims) == maxClaims {
			return false
		}
		c.claims = append(c.claims, nil)
		last++
	}
	body := appendNumber(c.claims[last], uint64(at.UnixMicro()))
	c.claims[last] = appendText(appendText(appendText(body, kind), principal), client)
	signal(c.wake)
	return true
}

// sayClients tells the other nodes of all clients here, so that of a client that came to two nodes while they were cut off one
// connection stays.
func (c *Cluster) sayClients() {
	c.local.Clients(func(kind, principal, client string, at time.Time) bool {
		for !c.claim(kind, principal, client, at) && c.living.Load() > 0 {
			time.Sleep(turnInterval)
		}
		return c.living.Load() > 0
	})
}

// hearTakeOvers handles take-overs of another node.
func (c *Cluster) hearTakeOvers(p *peer, body []byte) error {
	r := reader{rest: body}
	for r.more() {
		micro := r.number()
		t := TakeOver{Kind: string(r.text()), Principal: string(r.text()), Client: string(r.text()), Node: p.Node}
		if r.broken {
			break
		}
		c.mu.Lock()
		t.At = c.hearTime(micro)
		c.mu.Unlock()
		c.local.TakenOver(t)
	}
	return r.err()
}
