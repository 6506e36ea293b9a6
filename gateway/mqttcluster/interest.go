package mqttcluster

import (
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"

	"fieldgate/protocol/mqtt"
)

// Interest is what subscribers want of the messages that a filter matches.
type Interest byte

const (
	Nothing Interest = iota
	QoS0             // what was published at QoS 0: the rest comes to them another way
	Everything

	interests // number of them
)

// own is what the subscribers of this node want. Others are told of the first one of each filter and of the last one, not of each.
type own struct {
	mu       sync.Mutex
	filters  map[string]wanted
	changed  []string // filters whose interest may be another one than the others were told
	sequence uint64   // of the last change that others were told
}

// wanted is what is wanted of one filter.
type wanted struct {
	quiet, all uint32   // subscribers whose Interest is QoS0, and Everything
	told       Interest // to the others
	changed    bool     // it is among own.changed
}

func (w wanted) interest() Interest {
	switch {
	case w.all > 0:
		return Everything
	case w.quiet > 0:
		return QoS0
	}
	return Nothing
}

// Change notes that a subscriber's interest in a filter is another one than before, from Nothing when it subscribes and to Nothing when it
// ends. The filter may be that of a shared subscription, whose subscriber counts while it can be handed a message.
func (c *Cluster) Change(filter string, from, to Interest) {
	if c == nil || from == to {
		return
	}
	c.own.mu.Lock()
	w := c.own.filters[filter]
	switch from {
	case QoS0:
		w.quiet--
	case Everything:
		w.all--
	}
	switch to {
	case QoS0:
		w.quiet++
	case Everything:
		w.all++
	}
	news := !w.changed && w.interest() != w.told
	if news {
		w.changed = true
		c.own.changed = append(c.own.changed, filter)
	}
	c.own.filters[filter] = w
	c.own.mu.Unlock()
	if news {
		signal(c.wake)
	}
}

// has says whether somebody at this node wants something of a filter.
func (o *own) has(filter string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.filters[filter].interest() != Nothing
}

// told is the sequence of the last change that others were told.
func (o *own) told() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sequence
}

// changes are the bodies of packets that tell what has changed since the last ones.
func (o *own) changes() (bodies [][]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var body []byte
	for _, filter := range o.changed {
		w := o.filters[filter]
		now := w.interest()
		if now != w.told {
			if len(body) > bodySize || body == nil {
				if body != nil {
					bodies = append(bodies, body)
				}
				o.sequence++
				body = binary.AppendUvarint(nil, o.sequence)
			}
			body = append(appendText(body, filter), byte(now))
		}
		w.told, w.changed = now, false
		if now == Nothing {
			delete(o.filters, filter)
		} else {
			o.filters[filter] = w
		}
	}
	if body != nil {
		bodies = append(bodies, body)
	}
	clear(o.changed)
	o.changed = o.changed[:0]
	return bodies
}

// listing is this node's interest on its way to one other, which asks for part after part.
type listing struct {
	filters []string // those that have not been listed yet
	part    uint64   // the next one
	pause   int      // beats until it may begin anew
}

// part is the body of a packet with the next part of the interest; nil: another part is due. What changes meanwhile is told as ever: a
// filter is listed as it is at the time, if it is there still.
func (o *own) part(l *listing, part uint64) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case part == 0 && l.pause == 0:
		*l = listing{filters: make([]string, 0, len(o.filters)), pause: listingPause}
		for filter := range o.filters {
			l.filters = append(l.filters, filter)
		}
	case part == 0 || part != l.part:
		return nil
	}
	body := binary.AppendUvarint(nil, o.sequence)
	body = binary.AppendUvarint(body, part)
	last := len(body)
	body = append(body, 0)
	for len(l.filters) > 0 && len(body) <= bodySize {
		filter := l.filters[0]
		l.filters = l.filters[1:]
		if told := o.filters[filter].told; told != Nothing {
			body = append(appendText(body, filter), byte(told))
		}
	}
	l.part++
	if len(l.filters) == 0 {
		body[last] = 1
		l.filters, l.part = nil, 0
	}
	return body
}

const (
	listingPause = 2         // beats
	askPatience  = 3         // beats until a part that does not come is asked for again, with all before it
	maxFilters   = 1_000_000 // of one other node that are kept; one that has more is sent everything
)

// view is what a node has said that its subscribers want. Its filters are in the Cluster's tree.
type view struct {
	peer       *peer
	over       atomic.Bool // it counts no more, and is being taken out of the tree
	filters    map[string]Interest
	everything bool // there were more than maxFilters
}

// target is where messages of a filter go to.
type target struct {
	view     *view
	interest Interest
}

func (c *Cluster) newView(p *peer) *view { return &view{peer: p, filters: make(map[string]Interest)} }

// apply notes what a node's subscribers want of a filter.
func (c *Cluster) apply(v *view, filter string, now Interest) {
	before := v.filters[filter]
	switch {
	case now == before:
		return
	case now == Nothing:
		delete(v.filters, filter)
	case before == Nothing && len(v.filters) >= maxFilters:
		if !v.everything {
			v.everything = true
			c.put(v, "#", Everything)
		}
		return
	default:
		v.filters[filter] = now
		c.put(v, filter, now)
	}
	if before != Nothing && !(filter == "#" && v.everything) {
		c.tree.Unsubscribe(filter, target{v, before})
	}
}

func (c *Cluster) put(v *view, filter string, interest Interest) {
	c.tree.Subscribe(&mqtt.Subscription[target]{Filter: filter, Subscriber: target{v, interest}})
}

// drop has a view count no more. It may be large: others do not wait until it is out of the tree.
func (c *Cluster) drop(v *view) {
	if v == nil {
		return
	}
	v.over.Store(true)
	c.dropping.Go(func() {
		for filter, interest := range v.filters {
			c.tree.Unsubscribe(filter, target{v, interest})
		}
		if v.everything {
			c.tree.Unsubscribe("#", target{v, Everything})
		}
	})
}

// follow is what is known of another node's interest: the view that counts, and the one that grows while it is listed, which takes the
// place of the first when it is complete.
type follow struct {
	view, growing *view
	sequence      uint64 // of the last change that was applied
	part          uint64 // of growing that comes next
	waited        int    // beats since it was asked for
}

// ask asks a node for all of its interest, unless that has been asked for just now. c is locked.
func (c *Cluster) ask(p *peer) {
	f := &p.follow
	if f.growing != nil && f.part == 0 && f.waited < askPatience {
		return
	}
	c.drop(f.growing)
	f.growing, f.part, f.waited = c.newView(p), 0, 0
	c.say(p, askInterest, []byte{0})
}

// hearInterest handles what concerns interest. c is locked, here and below.
func (c *Cluster) hearInterest(p *peer, k kind, body []byte) error {
	switch k {
	case interestChanged:
		return c.hearChanges(p, body)
	case interestIs:
		return c.hearSequence(p, body)
	case interestPart:
		return c.hearPart(p, body)
	}
	r := reader{rest: body}
	part := r.below(math.MaxUint32)
	if !r.broken {
		p.asked = part + 1
		signal(c.wake)
	}
	return r.err()
}

// hearChanges applies an interestChanged.
func (c *Cluster) hearChanges(p *peer, body []byte) error {
	r := reader{rest: body}
	sequence := r.number()
	f := &p.follow
	into := f.view
	if f.growing != nil {
		into = f.growing
	}
	if into == nil || sequence != f.sequence+1 {
		if !r.broken && !(f.growing != nil && f.part == 0) { // what comes before the first part is in it
			c.ask(p)
		}
		return r.err()
	}
	f.sequence = sequence
	return c.applyAll(into, &r)
}

// hearPart applies an interestPart.
func (c *Cluster) hearPart(p *peer, body []byte) error {
	r := reader{rest: body}
	sequence, part, last := r.number(), r.number(), r.below(2)
	f := &p.follow
	if r.broken || f.growing == nil || part != f.part {
		return r.err() // it was asked for before something was lost
	}
	if part == 0 {
		f.sequence = sequence
	} else if sequence != f.sequence {
		c.ask(p)
		return nil
	}
	if err := c.applyAll(f.growing, &r); err != nil {
		return err
	}
	f.part, f.waited = part+1, 0
	if last == 0 {
		c.say(p, askInterest, binary.AppendUvarint(nil, f.part))
		return nil
	}
	c.drop(f.view)
	f.view, f.growing = f.growing, nil
	return nil
}

// hearSequence notices that a change was lost.
func (c *Cluster) hearSequence(p *peer, body []byte) error {
	r := reader{rest: body}
	sequence := r.number()
	if !r.broken && p.follow.growing == nil && (p.follow.view == nil || sequence != p.follow.sequence) {
		c.ask(p)
	}
	return r.err()
}

func (c *Cluster) applyAll(v *view, r *reader) error {
	for r.more() {
		filter := r.text()
		interest := Interest(r.below(uint64(interests)))
		if r.broken || !mqtt.ValidFilter(filter) {
			return errPacket
		}
		c.apply(v, string(filter), interest)
	}
	return r.err()
}

// patience asks again for what does not come.
func (c *Cluster) patience(p *peer) {
	f := &p.follow
	if f.growing == nil {
		return
	}
	if f.waited++; f.waited >= askPatience {
		c.ask(p)
	}
}
