package mqttcluster

import (
	"encoding/binary"
	"slices"
	"time"

	"fieldgate/gateway/broker"
	"fieldgate/protocol/mqtt"
)

// matching is the memory for finding one message's receivers.
type matching struct {
	mqtt.Matches[target]
	topic     []byte
	encoded   []byte
	receivers []receiver
}

// receiver is a node that gets a message.
type receiver struct {
	peer   *peer
	shares []string // filters of the shared subscriptions whose turn it is there
}

// Publish implements broker.Peers.
func (c *Cluster) Publish(m *broker.Message, acknowledged func(error)) func(error) {
	if c.tree.Len() == 0 {
		return acknowledged
	}
	found := c.matches.Get().(*matching)
	found.topic = append(found.topic[:0], m.Topic...)
	c.tree.Match(found.topic, &found.Matches)
	if len(found.Subscriptions) != 0 || len(found.Groups) != 0 {
		c.address(m, found)
	}
	if len(found.receivers) != 0 {
		if m.QoS == 2 && acknowledged != nil {
			acknowledged = c.handLater(m, slices.Clone(found.receivers), acknowledged)
		} else {
			acknowledged = c.hand(m, found, acknowledged)
		}
		clear(found.receivers)
		found.receivers = found.receivers[:0]
	}
	c.matches.Put(found)
	return acknowledged
}

// address finds the nodes that get a message: those where somebody wants it, and of those that have a member of a shared subscription the
// next one, unless this node has one.
func (c *Cluster) address(m *broker.Message, found *matching) {
	for _, s := range found.Subscriptions {
		if t := &s.Subscriber; t.wants(m) {
			found.add(t.view.peer)
		}
	}
	for _, group := range found.Groups {
		// A group has members as long as it is found, or had when it was.
		s := group.Pick(func(t target) bool { return t.wants(m) })
		if s == nil || !s.Subscriber.wants(m) || c.own.has(s.Filter) {
			continue
		}
		m.Shares = append(m.Shares, s.Filter)
		r := found.add(s.Subscriber.view.peer)
		r.shares = append(r.shares, s.Filter)
	}
}

func (t *target) wants(m *broker.Message) bool {
	return !t.view.over.Load() && (m.QoS == 0 || t.interest == Everything)
}

func (found *matching) add(p *peer) *receiver {
	for i := range found.receivers {
		if found.receivers[i].peer == p {
			return &found.receivers[i]
		}
	}
	found.receivers = append(found.receivers, receiver{peer: p})
	return &found.receivers[len(found.receivers)-1]
}

// handLater hands a message to its receivers when this node has taken it. It has its publisher's identifier on disk by then: otherwise a
// message of QoS 2 could be published again after a kill, and heard twice (MQTT 5 section 4.3.3).
func (c *Cluster) handLater(m *broker.Message, receivers []receiver, acknowledged func(error)) func(error) {
	return func(err error) {
		if err == nil {
			acknowledged = c.hand(m, &matching{receivers: receivers}, acknowledged)
		}
		acknowledged(err)
	}
}

// hand gives a message to the links of its receivers.
func (c *Cluster) hand(m *broker.Message, found *matching, acknowledged func(error)) func(error) {
	found.encoded = encode(found.encoded[:0], m, time.Now())
	message := found.encoded
	if cap(found.encoded) > maxSpareSize {
		found.encoded = nil
	}
	var s *settlement
	if acknowledged != nil && m.QoS > 0 {
		s = &settlement{done: acknowledged}
		s.left.Store(int32(len(found.receivers) + 1)) // and this node
		acknowledged = s.settle
	}
	for i := range found.receivers {
		r := &found.receivers[i]
		var err error
		switch {
		case len(message) > maxMessage:
			err = errLarge
		case m.QoS > 0 || len(message) > bodySize:
			err = r.peer.link.putSure(r.shares, message, s)
		default:
			if !r.peer.link.putLoose(r.shares, message) {
				err = errBehind
			}
		}
		if err == nil {
			c.Counters.Sent.Add(1)
			continue
		}
		c.Counters.Lost.Add(1)
		if s != nil {
			s.settle(err)
		}
	}
	signal(c.wake)
	return acknowledged
}

// deliver hands the messages of a packet to the subscribers of this node.
func (c *Cluster) deliver(body []byte) error {
	r := reader{rest: body}
	now := time.Now()
	var m broker.Message
	c.local.Relay(func() *broker.Message {
		for r.more() {
			encoded := r.text()
			if len(encoded) == 0 {
				r.fail()
				return nil
			}
			message := &m
			if encoded[0]&flagQoS != 0 { // others keep it
				message = new(broker.Message)
			}
			if decode(message, encoded, now) == nil {
				c.Counters.Received.Add(1)
				return message
			}
			r.fail()
		}
		return nil
	})
	return r.err()
}

// hearNumbered handles a numbered packet. It takes them in the order of their numbers: what comes too early is sent again.
func (c *Cluster) hearNumbered(p *peer, body []byte) error {
	r := reader{rest: body}
	number, oldest, goesOn := r.number(), r.number(), r.below(2) == 1
	if r.broken || oldest > number {
		return errPacket
	}
	if oldest > p.delivered+1 { // what is missing was given up
		p.delivered, p.partial = oldest-1, nil
	}
	var err error
	if number == p.delivered+1 {
		p.delivered = number
		switch {
		case goesOn && len(p.partial)+len(r.rest) > maxMessage+maxSpareSize:
			p.partial, err = nil, errPacket
		case goesOn:
			p.partial = append(p.partial, r.rest...)
		case p.partial != nil:
			err = c.deliver(append(p.partial, r.rest...))
			p.partial = nil
		default:
			err = c.deliver(r.rest)
		}
	}
	c.send(p, acknowledgement, appendNumber(nil, p.delivered))
	return err
}

func appendNumber(dst []byte, number uint64) []byte { return binary.AppendUvarint(dst, number) }

// countMessages is how many messages a body of ours has.
func countMessages(body []byte) (n int) {
	r := reader{rest: body}
	for r.more() {
		r.text()
		n++
	}
	return n
}

// Subscribed implements broker.Peers.
func (c *Cluster) Subscribed(filter string) { c.Change(filter, Nothing, Everything) }

// Unsubscribed implements broker.Peers.
func (c *Cluster) Unsubscribed(filter string) { c.Change(filter, Everything, Nothing) }

var _ broker.Peers = (*Cluster)(nil)
