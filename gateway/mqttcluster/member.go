package mqttcluster

import (
	"slices"
	"strings"
	"time"
)

// Member is a living gateway node.
type Member struct {
	Node        string
	Incarnation uint64 // tells one start of the node from another; larger than those of all earlier ones
}

const (
	beatInterval = 250 * time.Millisecond
	maxMissed    = 8    // beats of ours without a word from a node, after which it is dead: 2 s
	maxForgotten = 2400 // beats after which a dead node is forgotten: 10 min
	maxMembers   = 128  // nodes that are known, dead or alive; more are not heard
)

// peer is another node. Cluster.mu guards it, but for the link and what is said to belong to a goroutine.
type peer struct {
	Member
	missed int  // our beats since it was heard
	dead   bool // it is remembered in case that it was only cut off
	left   bool // it took its leave: what still comes from it is late

	follow follow   // what its subscribers want
	said   []packet // to be sent with the next turn
	asked  uint64   // the part of our interest that it wants, and one; 0: none
	beat   bool     // there was a beat since the last turn
	link   link

	listing listing // of our interest for it; of the goroutine that sends

	// Of the goroutine that hears.
	delivered uint64 // number up to which its numbered packets were delivered
	partial   []byte // of a message that goes on in the next one
}

// packet is one without its head.
type packet struct {
	kind kind
	body []byte
}

// Members are the living nodes, this one among them, in the order of their names. Who has taken its leave knows of none.
func (c *Cluster) Members() []Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil
	}
	members := []Member{{c.config.Node, c.config.Incarnation}}
	for _, p := range c.peers {
		if !p.dead {
			members = append(members, p.Member)
		}
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Node, b.Node) })
	return members
}

// Watch has changed called with the members each time that they have changed: one after the other, on a goroutine that notices no death
// meanwhile. To be called before Run.
func (c *Cluster) Watch(changed func([]Member)) { c.watchers = append(c.watchers, changed) }

func (c *Cluster) tellMembers() {
	members := c.Members()
	for _, changed := range c.watchers {
		changed(members)
	}
}

// heard notes that an incarnation of a node lives; nil: it is to be ignored. c is locked, here and below.
func (c *Cluster) heard(node string, incarnation uint64) *peer {
	p := c.peers[node]
	switch {
	case c.over:
		return nil
	case p == nil && len(c.peers) >= maxMembers && !c.forgetOne():
		if !c.full {
			c.full = true
			c.config.Logger.Error("there are more gateway nodes than can hear each other over MQTT", "node", node, "most", maxMembers)
		}
		return nil
	case p == nil || incarnation > p.Incarnation:
		if p != nil {
			c.lose(p)
		}
		p = &peer{Member: Member{node, incarnation}, dead: true}
		c.peers[node] = p
		c.gain(p)
	case incarnation < p.Incarnation || p.left:
		return nil
	case p.dead: // it was cut off, and may have accepted clients of ours, or we of its
		c.gain(p)
		c.dropping.Go(c.sayClients)
	}
	p.missed = 0
	return p
}

// gain notes that a node lives that did not before.
func (c *Cluster) gain(p *peer) {
	p.dead = false
	c.living.Add(1)
	p.link.open()
	c.ask(p)
	c.config.Logger.Info("another gateway node is heard", "node", p.Node)
	signal(c.turned)
}

// lose notes that a node is dead.
func (c *Cluster) lose(p *peer) {
	if p.dead {
		return
	}
	p.dead = true
	c.living.Add(-1)
	c.drop(p.follow.view)
	c.drop(p.follow.growing)
	p.follow, p.said, p.asked = follow{}, nil, 0
	c.lost(p.link.close(), nil) // its subscribers are gone with it
	if !c.over {
		c.config.Logger.Info("a gateway node is not heard any more", "node", p.Node, "left", p.left)
	}
	signal(c.turned)
}

// examine finds the nodes that are dead. It counts beats of ours, not time, so that a node that was stopped for a while does not take
// the others for dead.
func (c *Cluster) examine() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for node, p := range c.peers {
		switch p.missed++; {
		case p.missed >= maxForgotten:
			delete(c.peers, node)
		case p.missed >= maxMissed:
			c.lose(p)
		default:
			p.beat = true
			c.patience(p)
			again, lost := p.link.beat()
			if again {
				c.Counters.Repeated.Add(1)
			}
			c.lost(lost, errSilent)
		}
	}
	signal(c.wake)
}

// lost tells those who wait for what was given up. It may be much, and they may need what the caller holds.
func (c *Cluster) lost(chunks []*chunk, err error) {
	if len(chunks) > 0 {
		c.dropping.Go(func() { c.Counters.Lost.Add(uint64(settle(chunks, err))) })
	}
}

const maxSaid = 16 // packets that wait for the next turn

// say has a packet sent with the next turn. What does not fit is asked for again.
func (c *Cluster) say(p *peer, k kind, body []byte) {
	if len(p.said) < maxSaid {
		p.said = append(p.said, packet{k, body})
		signal(c.wake)
	}
}

// forgetOne makes room for another node and says whether it did.
func (c *Cluster) forgetOne() bool {
	for node, p := range c.peers {
		if p.dead {
			delete(c.peers, node)
			return true
		}
	}
	return false
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
