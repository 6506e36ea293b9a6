package mqttproxy

import (
	"slices"

	"fieldgate/protocol/mqtt"
)

// filters are the topic filters that sessions hear by an uplink: the broker has one subscription for each, of the highest quality of service
// that any of them wants.
//
// Retained messages are for who subscribed last, and a broker sends them once for each SUBSCRIBE. So a further subscriber is a SUBSCRIBE, too,
// with another subscription identifier, by which its retained messages are known; without Retain As Published nothing else has RETAIN set.
// A broker without identifiers, one of 3.1.1 above all, is asked for the next subscriber when it has sent all for the last: that is when it
// answers a PINGREQ and none has come since the one before.
type filters struct {
	byName  map[string]*filter
	byIndex []*filter // by the upper bits of the identifier; the first is nobody's
	free    []uint32  // indexes that are nobody's any more
	tree    *mqtt.Tree[*filter]
	asked   map[uint16]*filter // SUBSCRIBE under way; unsubscribing: UNSUBSCRIBE
	pings   []*filter          // whose retained messages end with the answer to a PINGREQ; nil: it is only to keep the connection alive
	toAsk   []*filter
	orphans []string // that nobody hears any more; the broker is to be told
}

type filter struct {
	name        string
	levels      []byte // without the share
	index       uint32
	generation  byte // the lower bits of the identifier: which SUBSCRIBE it was
	subscribers map[any]byte
	qos         byte           // asked for
	granted     byte           // by the broker, once it stands
	stands      bool           // on this connection
	underWay    bool           // a SUBSCRIBE is
	queued      bool           // among toAsk
	answer      mqtt.Reason    // to the SUBSCRIBE under way
	replayed    bool           // a retained message has come since the last PINGREQ
	asking      []subscription // that the SUBSCRIBE under way is for
	waiting     []subscription // that the next one is for
	replays     []replay       // the last ones
}

// subscription is what a subscriber wants.
type subscription struct {
	subscriber any
	qos        byte
	retained   bool
	answered   func(mqtt.Reason)
}

// replay is to whom the retained messages go that the broker sends for one SUBSCRIBE.
type replay struct {
	generation byte
	to         []any
}

const (
	generationBits = 8
	mostIndex      = 268_435_455 >> generationBits // of identifiers (MQTT 5 §3.8.2.1.2)
	mostReplays    = 8                             // of a filter that are remembered
	mostAsked      = 1000                          // SUBSCRIBE and UNSUBSCRIBE under way
)

// unsubscribing stands for an UNSUBSCRIBE among those that are asked.
var unsubscribing = new(filter)

func newFilters() filters {
	return filters{byName: make(map[string]*filter), byIndex: make([]*filter, 1), tree: mqtt.NewTree[*filter](), asked: make(map[uint16]*filter)}
}

// find gives the filter of a name, a new one if there is none; nil: there are too many.
func (fs *filters) find(name string) *filter {
	if f := fs.byName[name]; f != nil {
		return f
	}
	_, levels := mqtt.SplitShare([]byte(name))
	f := &filter{name: name, levels: levels, subscribers: make(map[any]byte)}
	switch n := len(fs.free); {
	case n > 0:
		f.index = fs.free[n-1]
		fs.free = fs.free[:n-1]
		fs.byIndex[f.index] = f
	case len(fs.byIndex) > mostIndex:
		return nil
	default:
		f.index = uint32(len(fs.byIndex))
		fs.byIndex = append(fs.byIndex, f)
	}
	fs.byName[name] = f
	fs.tree.Subscribe(&mqtt.Subscription[*filter]{Subscriber: f, Filter: string(levels)})
	return f
}

func (fs *filters) forget(f *filter) {
	delete(fs.byName, f.name)
	fs.byIndex[f.index] = nil
	fs.free = append(fs.free, f.index)
	fs.tree.Unsubscribe(string(f.levels), f)
}

func (f *filter) shared() bool { return len(f.levels) < len(f.name) }

func (u *uplink) subscribe(name string, s subscription) {
	u.mu.Lock()
	f := u.filters.find(name)
	switch l := u.live(); {
	case f == nil:
		u.mu.Unlock()
		s.answered(mqtt.QuotaExceeded)
		return
	case f.shared() && l != nil && !(l.named && l.shares): // without identifiers nobody can tell whose the message is
		if len(f.subscribers) == 0 {
			u.filters.forget(f)
		}
		u.mu.Unlock()
		s.answered(mqtt.SharedSubsNotSupported)
		return
	}
	f.subscribers[s.subscriber] = s.qos
	if f.stands && !s.retained && s.qos <= f.qos {
		granted := min(s.qos, f.granted)
		u.mu.Unlock()
		s.answered(mqtt.Reason(granted))
		return
	}
	f.waiting = append(f.waiting, s)
	u.ask(f)
	u.flushLocked()
	u.mu.Unlock()
}

// ask subscribes at the broker, if nothing under way forbids it. u is locked, here and below.
func (u *uplink) ask(f *filter) {
	l := u.live()
	if l == nil || f.underWay || f.queued {
		return // it is done with the next connection, or the answer
	}
	if len(u.filters.asked) >= mostAsked {
		f.queued = true
		u.filters.toAsk = append(u.filters.toAsk, f)
		return
	}
	f.underWay, f.asking, f.waiting = true, append(f.asking, f.waiting...), nil
	f.generation++
	f.qos = 0
	for _, qos := range f.subscribers {
		f.qos = max(f.qos, qos)
	}
	r := replay{generation: f.generation}
	for _, s := range f.asking {
		if s.retained {
			r.to = append(r.to, s.subscriber)
		}
	}
	wanted := mqtt.Filter{Filter: u.pool.outwardFilter(f.name), QoS: f.qos, RetainHandling: 2}
	if len(r.to) > 0 {
		if len(f.replays) == mostReplays {
			f.replays = slices.Delete(f.replays, 0, 1)
		}
		f.replays = append(f.replays, r)
		wanted.RetainHandling = 0
	}
	p := mqtt.Subscribe{PacketID: u.newID(), Filters: []mqtt.Filter{wanted}}
	if l.named {
		p.Properties.SubscriptionIDs = []uint32{f.index<<generationBits | uint32(f.generation)}
	}
	if l.version == mqtt.V311 {
		p.Filters[0].RetainHandling = 0
	}
	u.filters.asked[p.PacketID] = f
	l.out = p.Append(l.out, l.version)
}

// subscribed takes a broker's SUBACK or UNSUBACK.
func (u *uplink) subscribed(l *link, p *mqtt.SubAck) error {
	f := u.filters.asked[p.PacketID]
	if f == nil || (f == unsubscribing) != (p.Type == mqtt.UNSUBACK) {
		return mqtt.ErrPacketID
	}
	delete(u.filters.asked, p.PacketID)
	if f != unsubscribing {
		if len(p.Reasons) != 1 {
			return mqtt.ErrShort // [MQTT-3.8.4-6]
		}
		if f.answer = p.Reasons[0]; !l.named && len(f.replays) > 0 && !f.answer.Failed() {
			u.ping(l, f)
		} else {
			u.stand(f)
		}
	}
	u.askNext(l)
	return nil
}

// ping asks a broker for a sign of life, for a filter or for itself.
func (u *uplink) ping(l *link, f *filter) {
	u.filters.pings = append(u.filters.pings, f)
	l.out = append(l.out, byte(mqtt.PINGREQ)<<4, 0)
}

// ponged takes the answer.
func (u *uplink) ponged(l *link) error {
	fs := &u.filters
	if len(fs.pings) == 0 {
		return mqtt.ErrDirection
	}
	f := fs.pings[0]
	fs.pings = fs.pings[1:]
	switch {
	case f == nil:
	case f.replayed || l.owed > 0: // its window may have been full
		f.replayed = false
		u.ping(l, f)
	default:
		f.replays = nil
		u.stand(f)
	}
	return nil
}

// stand notes what the broker said to a SUBSCRIBE.
func (u *uplink) stand(f *filter) {
	asking, reason := f.asking, f.answer
	f.underWay, f.asking = false, nil
	f.stands = !reason.Failed()
	if u.filters.byName[f.name] != f {
		return // nobody wants it any more
	}
	if f.stands {
		f.granted = byte(reason)
	} else {
		u.pool.logger.Warn("an MQTT broker refuses a subscription", "address", u.link.at.name, "filter", f.name, "reason", reason.String())
	}
	for _, s := range asking {
		answer := reason
		if f.stands {
			answer = mqtt.Reason(min(s.qos, f.granted))
		}
		u.callbacks = append(u.callbacks, func() { s.answered(answer) })
	}
	if len(f.waiting) > 0 {
		u.ask(f)
	}
}

// askNext goes on with what waited as too much was under way.
func (u *uplink) askNext(l *link) {
	fs := &u.filters
	for len(fs.orphans) > 0 && len(fs.asked) < mostAsked {
		name := fs.orphans[0]
		if fs.orphans = fs.orphans[1:]; fs.byName[name] == nil {
			u.askNoMore(l, name)
		}
	}
	for len(fs.toAsk) > 0 && len(fs.asked) < mostAsked {
		f := fs.toAsk[0]
		fs.toAsk = fs.toAsk[1:]
		if f.queued = false; fs.byName[f.name] == f {
			u.ask(f)
		}
	}
}

func (u *uplink) askNoMore(l *link, name string) {
	p := mqtt.Unsubscribe{PacketID: u.newID(), Filters: [][]byte{u.pool.outwardFilter(name)}}
	u.filters.asked[p.PacketID] = unsubscribing
	l.out = p.Append(l.out, l.version)
	u.dirty.Store(true)
}

func (u *uplink) unsubscribe(name string, subscriber any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fs := &u.filters
	f := fs.byName[name]
	if f == nil {
		return
	}
	delete(f.subscribers, subscriber)
	mine := func(s subscription) bool {
		if s.subscriber == subscriber {
			go s.answered(mqtt.UnspecifiedError) // here nobody is called
		}
		return s.subscriber == subscriber
	}
	f.asking, f.waiting = slices.DeleteFunc(f.asking, mine), slices.DeleteFunc(f.waiting, mine)
	for i := range f.replays {
		f.replays[i].to = slices.DeleteFunc(f.replays[i].to, func(one any) bool { return one == subscriber })
	}
	if len(f.subscribers) > 0 {
		return
	}
	fs.forget(f)
	if l := u.live(); f.stands || f.underWay || l == nil {
		fs.orphans = append(fs.orphans, name)
		if l != nil {
			u.askNext(l)
			u.flushLocked()
		}
	}
}

// resubscribe has the broker know all filters on a new connection. Where it knows them from the last one it learns their new identifiers.
func (u *uplink) resubscribe() {
	fs := &u.filters
	clear(fs.asked)
	fs.toAsk, fs.pings = nil, nil
	for _, f := range fs.byName {
		f.stands, f.underWay, f.queued, f.replays = false, false, false, nil
		u.ask(f)
	}
	u.askNext(u.link)
}

// failSubscriptions answers those that wait for a broker; answers is added to.
func (u *uplink) failSubscriptions(answers []func()) []func() {
	for _, f := range u.filters.byName {
		for _, s := range append(f.asking, f.waiting...) {
			answers = append(answers, func() { s.answered(mqtt.UnspecifiedError) })
		}
		f.asking, f.waiting = nil, nil
	}
	u.filters.orphans = nil // there is no session that could be resumed
	return answers
}

// addressees are those whom a message is for: the filters by which it came, and of a retained one the subscribers for whom it was sent.
func (u *uplink) addressees(l *link, topic []byte, p *mqtt.Publish) (names []string, to []any) {
	add := func(f *filter, generation byte) {
		if !p.Retain {
			names = append(names, f.name)
			return
		}
		f.replayed = true
		for _, r := range f.replays {
			if (r.generation == generation || !l.named) && len(r.to) > 0 {
				names, to = append(names, f.name), append(to, r.to...)
			}
		}
	}
	if l.named {
		for _, id := range p.Properties.SubscriptionIDs {
			if i := id >> generationBits; int(i) < len(u.filters.byIndex) {
				if f := u.filters.byIndex[i]; f != nil && mqtt.FilterMatches(f.levels, topic) {
					add(f, byte(id))
				}
			}
		}
		return names, to
	}
	u.filters.tree.Match(topic, &u.matches)
	for _, s := range u.matches.Subscriptions {
		add(s.Subscriber, 0)
	}
	return names, to
}
