// Package mqttcluster makes the gateway nodes that share a bus one MQTT broker, as far as nothing durable is concerned: they know which
// of them live, what subscribers of each want to hear, and hand each other the messages for them.
//
// It owns what this node knows of the others: who they are, their topic filters, and the messages on their way to them. It promises
// that memory is bounded whatever other nodes say or fail to say, that a malformed packet costs nobody but its sender, and that a
// node whose bus is away goes on by itself. It decides nothing about access: a message was admitted where it was published, a
// subscriber where it subscribed.
//
// A nil *Cluster is that of a node which has no others, and costs nothing.
package mqttcluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
	"fieldgate/protocol/mqtt"
)

// Config is all that a Cluster works with.
type Config struct {
	Node        string // name of this gateway
	Incarnation uint64 // of this start of it: larger than those of all earlier ones
	Bus         *bus.Bus
	Logger      *slog.Logger
}

// Counters are what a Cluster counts.
type Counters struct {
	Sent      atomic.Uint64 // messages, once for each node that they went to
	Received  atomic.Uint64
	Lost      atomic.Uint64 // messages that a node did not get: it was too slow, or away, or has died before it acknowledged them
	Repeated  atomic.Uint64 // times that packets were sent again because no acknowledgement came
	Malformed atomic.Uint64 // packets of other nodes that could not be read
}

// Cluster is safe for concurrent use.
type Cluster struct {
	Counters Counters

	config   Config
	watchers []func([]Member)
	local    Local
	turned   chan struct{} // the members have changed
	wake     chan struct{} // there is something to send

	own     own
	tree    *mqtt.Tree[target] // what the other nodes want
	matches sync.Pool          // of *matching

	living   atomic.Int32   // other nodes
	dropping sync.WaitGroup // what is done for nodes that are not heard any more

	mu     sync.Mutex
	peers  map[string]*peer // by node
	over   bool             // nobody is heard any more
	full   bool             // there were more nodes than maxMembers; it was logged
	newest int64            // time of a take-over, in microseconds since 1970
	claims [][]byte         // bodies of packets with take-overs
}

// New makes the cluster of a node that knows no other yet. Nothing is said or heard before Run.
func New(config Config) *Cluster {
	c := &Cluster{config: config, turned: make(chan struct{}, 1), wake: make(chan struct{}, 1), tree: mqtt.NewTree[target](), peers: make(map[string]*peer)}
	c.own.filters = make(map[string]wanted)
	c.matches.New = func() any { return new(matching) }
	return c
}

// Local is the subscribers of this node. It is called for one thing after the other, and must not block.
type Local interface {
	// Relay hands out the messages of another node: those that next gives, until it gives nil. One that is Fleeting is only valid until
	// the next call.
	Relay(next func() *broker.Message)
	TakenOver(TakeOver)
	// Clients gives those that are connected, each with the time of its TakeOver, until visit gives false.
	Clients(visit func(kind, principal, client string, at time.Time) bool)
}

// Attach names who hears what other nodes send. To be called before Run.
func (c *Cluster) Attach(local Local) {
	if c != nil {
		c.local = local
	}
}

// State is how the node stands with the others.
func (c *Cluster) State() fieldgate.MQTTClusterState {
	n := &c.Counters
	return fieldgate.MQTTClusterState{Nodes: int(c.living.Load()) + 1, Filters: c.tree.Len(), Sent: n.Sent.Load(), Received: n.Received.Load(),
		Lost: n.Lost.Load(), Repeated: n.Repeated.Load(), Malformed: n.Malformed.Load()}
}

// turnInterval is the time between two turns at least, so that what comes meanwhile goes in the same packets.
const turnInterval = time.Millisecond

// Run meets the other nodes until the context ends, and takes its leave from them.
func (c *Cluster) Run(ctx context.Context) error {
	stopAll, err := c.config.Bus.Subscribe(fieldgate.SubjectMQTTNodes+"*", c.hearAll)
	if err != nil {
		return fmt.Errorf("mqtt cluster: %w", err)
	}
	defer stopAll()
	stopOwn, err := c.config.Bus.Subscribe(fieldgate.SubjectMQTTNode+token(c.config.Node)+".*", c.hearOne)
	if err != nil {
		return fmt.Errorf("mqtt cluster: %w", err)
	}
	defer stopOwn()
	var running sync.WaitGroup
	running.Go(func() { c.attend(ctx) })
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-c.wake:
			c.turn()
			time.Sleep(turnInterval)
		}
	}
	running.Wait()
	c.turn()
	c.sayAll(leaving)
	c.mu.Lock()
	c.over = true
	for _, p := range c.peers {
		c.lose(p)
	}
	c.mu.Unlock()
	c.dropping.Wait()
	return nil
}

// attend says that this node lives, and notices who does not, until the context ends.
func (c *Cluster) attend(ctx context.Context) {
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	c.sayAll(alive)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.turned:
			c.sayAll(alive) // so that a new one knows us at once
			c.tellMembers()
		case <-ticker.C:
			c.sayAll(alive)
			c.examine()
		}
	}
}

// sayAll sends all nodes a packet. What is lost is said again with the next beat.
func (c *Cluster) sayAll(k kind) {
	c.mu.Lock()
	newest := c.newest
	c.mu.Unlock()
	packet := appendHead(nil, k, c.config.Incarnation, 0)
	if k == alive {
		packet = appendNumber(packet, uint64(newest))
	}
	c.config.Bus.Publish(fieldgate.SubjectMQTTNodes+token(c.config.Node), packet)
}

// send sends one node a packet, and says whether the bus took it.
func (c *Cluster) send(p *peer, k kind, body []byte) bool {
	packet := appendHead(make([]byte, 0, headSize+len(body)), k, c.config.Incarnation, p.Incarnation)
	return c.config.Bus.Publish(fieldgate.SubjectMQTTNode+token(p.Node)+"."+token(c.config.Node), append(packet, body...)) == nil
}

// turn sends what there is to send. Whoever gets a message has been told before what its publisher had subscribed to, so that an answer
// to it finds its way.
func (c *Cluster) turn() {
	type parcel struct {
		*peer
		said        []packet
		asked       uint64
		beat        bool
		loose, sure [][]byte
	}
	var parcels []parcel
	c.mu.Lock()
	for _, p := range c.peers {
		if p.dead {
			p.listing = listing{}
		} else {
			parcels = append(parcels, parcel{peer: p, said: p.said, asked: p.asked, beat: p.beat})
			p.said, p.asked, p.beat = nil, 0, false
		}
	}
	claims := c.claims
	c.claims = nil
	c.mu.Unlock()
	for i := range parcels {
		parcels[i].loose, parcels[i].sure = parcels[i].link.take()
	}
	changes := c.own.changes()
	for i := range parcels {
		p := &parcels[i]
		for _, body := range changes {
			c.send(p.peer, interestChanged, body)
		}
		if p.beat {
			p.listing.pause = max(p.listing.pause-1, 0)
			c.send(p.peer, interestIs, appendNumber(nil, c.own.told()))
		}
		for _, said := range p.said {
			c.send(p.peer, said.kind, said.body)
		}
		if p.asked > 0 {
			if body := c.own.part(&p.listing, p.asked-1); body != nil {
				c.send(p.peer, interestPart, body)
			}
		}
		for _, body := range claims {
			c.send(p.peer, takeOvers, body)
		}
		for _, body := range p.loose {
			if !c.send(p.peer, messages, body) {
				c.Counters.Lost.Add(uint64(countMessages(body)))
			}
		}
		for _, body := range p.sure {
			c.send(p.peer, numbered, body) // it is repeated until it is acknowledged
		}
		p.link.release(p.loose)
	}
}

// hearAll handles what a node says to all.
func (c *Cluster) hearAll(subject string, data []byte) {
	node := nodeOf(strings.TrimPrefix(subject, fieldgate.SubjectMQTTNodes))
	if node == c.config.Node {
		return
	}
	h, body, err := readPacket(node, data)
	if err == nil {
		r := reader{rest: body}
		c.mu.Lock()
		p := c.heard(node, h.from)
		switch {
		case p == nil:
		case h.kind == alive:
			if newest := r.number(); !r.broken {
				c.hearTime(newest)
			}
		case h.kind == leaving:
			p.left = true
			c.lose(p)
		default:
			r.fail()
		}
		c.mu.Unlock()
		err = r.err()
	}
	if err != nil {
		c.Counters.Malformed.Add(1)
	}
}

// readPacket reads the head of what a node says.
func readPacket(node string, data []byte) (h head, body []byte, err error) {
	if !fieldgate.ValidIdentifier(node) {
		return h, nil, errPacket
	}
	return readHead(data)
}

// hearOne handles what a node says to this one. It is called for one packet after the other.
func (c *Cluster) hearOne(subject string, data []byte) {
	_, from, _ := strings.Cut(strings.TrimPrefix(subject, fieldgate.SubjectMQTTNode), ".")
	node := nodeOf(from)
	if node == c.config.Node {
		return
	}
	h, body, err := readPacket(node, data)
	if err == nil {
		err = c.hear(node, h, body)
	}
	if err != nil {
		c.Counters.Malformed.Add(1)
	}
}

var errKind = errors.New("unknown kind of packet")

func (c *Cluster) hear(node string, h head, body []byte) error {
	if h.to != c.config.Incarnation {
		return nil // it was for an earlier start of this node
	}
	c.mu.Lock()
	p := c.heard(node, h.from)
	c.mu.Unlock()
	if p == nil {
		return nil
	}
	switch h.kind {
	case interestChanged, interestIs, askInterest, interestPart:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.hearInterest(p, h.kind, body)
	case takeOvers:
		return c.hearTakeOvers(p, body)
	case messages:
		return c.deliver(body)
	case numbered:
		return c.hearNumbered(p, body)
	case acknowledgement:
		r := reader{rest: body}
		if number := r.number(); !r.broken {
			settle(p.link.acknowledge(number), nil)
			signal(c.wake) // there may be room for more
		}
		return r.err()
	}
	return errKind
}

// token is a node's name as one token of a subject, and nodeOf its inverse: names may have dots in them, and never have "~".
func token(node string) string { return strings.ReplaceAll(node, ".", "~") }

func nodeOf(token string) string { return strings.ReplaceAll(token, "~", ".") }
