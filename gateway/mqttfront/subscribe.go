package mqttfront

import (
	"slices"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttcluster"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/gateway/mqttstore"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// subscribe answers a SUBSCRIBE filter by filter, as if each had come alone [MQTT-3.8.4-5]. Where the session is kept,
// the answer waits for the disk; only this connection waits with it.
func (c *connection) subscribe(p *mqtt.Subscribe, now time.Time) {
	reasons := make([]mqtt.Reason, len(p.Filters))
	id := uint32(0)
	if len(p.Properties.SubscriptionIDs) > 0 {
		id = p.Properties.SubscriptionIDs[0]
	}
	var made []mqttstore.Subscription
	var fresh []int // filters whose retained messages are to be sent
	carried := make(map[int]func() mqtt.Reason)
	for i := range p.Filters {
		f := &p.Filters[i]
		granted, loose, view, reason := c.admit(f)
		if reasons[i] = reason; reason.Failed() {
			continue
		}
		options := subscriptionOptions{QoS: granted, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished, ID: id}
		existed, ok := c.addSubscription(string(f.Filter), options, loose, view)
		if !ok {
			reasons[i] = mqtt.QuotaExceeded
			continue
		}
		made = append(made, mqttstore.Subscription{Filter: string(f.Filter), Options: options})
		group, _ := mqtt.SplitShare(f.Filter)
		retained := group == nil && (f.RetainHandling == 0 || f.RetainHandling == 1 && !existed) // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]
		if c.front().config.Backbone != nil {
			carried[i] = c.carry(string(f.Filter), granted, retained)
		} else if retained {
			fresh = append(fresh, i)
		}
	}
	for i, wait := range carried {
		if reasons[i] = wait(); reasons[i].Failed() {
			made = slices.DeleteFunc(made, func(one mqttstore.Subscription) bool { return one.Filter == string(p.Filters[i].Filter) })
			c.removeSubscription(string(p.Filters[i].Filter))
		}
	}
	if !c.remember(len(made), func(session uint64, done func(error)) { c.front().store.Subscribe(session, made, done) }) {
		for i := range reasons {
			if !reasons[i].Failed() {
				reasons[i] = mqtt.QuotaExceeded
			}
		}
		fresh = nil
	}
	c.mu.Lock()
	c.mqtt.AcknowledgeSubscribe(p.PacketID, reasons)
	c.mu.Unlock()
	for _, i := range fresh {
		filter := string(p.Filters[i].Filter)
		c.collectRetained(filter, subscriptionOptions{QoS: byte(reasons[i]), NoLocal: p.Filters[i].NoLocal, ID: id})
	}
}

// admit asks the pipeline about one filter; loose: a pass-through API lets it in; view: what is seen by it, nil is all.
func (c *connection) admit(f *mqtt.Filter) (granted byte, loose bool, view *pipeline.Projection, reason mqtt.Reason) {
	if !mqtt.ValidFilter(f.Filter) || len(f.Filter) > fieldgate.MaxPathBytes {
		return 0, false, nil, mqtt.TopicFilterInvalid
	}
	if c.front().config.Backbone != nil && (f.NoLocal || f.RetainAsPublished) { // it does not say who published, nor what was to be retained
		return 0, false, nil, mqtt.ImplementationSpecificError
	}
	_, levels := mqtt.SplitShare(f.Filter)
	x := c.subscription(levels)
	highest, problem := c.front().pipeline.Subscribe(x)
	c.front().pipeline.Finish(x)
	if problem != nil {
		c.front().Counters.Denied.Add(problem.Code)
		return 0, false, nil, mqttexchange.SubscribeReason(problem.Code)
	}
	granted = min(f.QoS, highest)
	return granted, x.Operation != nil && x.Operation.PassThrough, c.front().pipeline.Projection(x), mqtt.Reason(granted)
}

func (c *connection) subscription(filter []byte) *pipeline.Exchange {
	return mqttexchange.Subscription(c.source, c.caller, c.client, filter)
}

// readmit asks about the subscriptions again when contracts or the caller have changed. One that is not allowed any more is
// mute until it is again. The session is locked.
func (c *connection) readmit() {
	s := c.session
	program := c.front().pipeline.Program()
	if s.admitted == uint32(program.Serial) || c.mqtt.Closed() {
		return
	}
	before := s.had().views
	s.admitted, s.marked = uint32(program.Serial), false
	if s.seldom != nil {
		s.seldom.views = nil
	}
	for p := range s.subscriptions.all() {
		_, levels := mqtt.SplitShare([]byte(p.Filter))
		x := c.subscription(levels)
		_, problem := c.front().pipeline.Subscribe(x)
		view := c.front().pipeline.Projection(x)
		if p.mute = problem != nil && problem.Code != fieldgate.ProblemRateLimited; p.mute {
			c.front().pipeline.Finish(x)
			if view == nil { // messages that were for it when they came are seen as they were then
				view = before[p.Filter]
			}
		}
		p.loose = !p.mute && x.Operation != nil && x.Operation.PassThrough
		s.setView(p.Filter, view)
		s.marked = s.marked || p.mute || p.loose || view != nil
	}
}

// hears says whether the session may hear the topic by one of its subscriptions, and adds to seen what it sees of its messages, if not all:
// where it may not, of those that have come before. It is locked.
func (f *Front) hears(s *session, topic []byte, seen []*pipeline.Projection) (bool, []*pipeline.Projection) {
	if s.conn != nil {
		s.conn.readmit()
	}
	if s.listener.Terms.OnRamp.Hides(topic) {
		return false, seen
	}
	if !s.marked {
		return true, seen
	}
	owned := f.owned.Has(f.pipeline.Program(), topic)
	heard, loosely := false, false
	for p := range s.subscriptions.all() {
		_, levels := mqtt.SplitShare([]byte(p.Filter))
		if (heard || p.mute) && s.had().views == nil || !mqtt.FilterMatches(levels, topic) {
			continue
		}
		switch view := s.had().views[p.Filter]; {
		case owned && p.loose:
			loosely = true
			continue
		case heard && p.mute:
			continue
		case !heard && !p.mute: // what was seen by those that are mute does not count
			heard, seen = true, seen[:0]
			fallthrough
		default:
			if view != nil && !slices.Contains(seen, view) {
				seen = append(seen, view)
			}
		}
	}
	if heard || !loosely || s.conn == nil {
		return heard, seen
	}
	x := s.conn.subscription(topic)
	_, problem := f.pipeline.Subscribe(x)
	if x.Operation == nil || x.Operation.PassThrough {
		return false, seen
	}
	if view := f.pipeline.Projection(x); view != nil {
		seen = append(seen, view)
	}
	return problem == nil, seen
}

// Subscribed implements pipeline.Sessions.
func (f *Front) Subscribed(filter string) bool {
	var found mqtt.Matches[*session]
	f.tree.Find(filter, &found)
	return len(found.Subscriptions)+len(found.Groups) > 0
}

// Filters implements pipeline.Sessions.
func (f *Front) Filters(wanted func(filter string) bool, visit func(filter string)) {
	var heard []string
	f.eachSession(func(s *session) {
		heard = heard[:0]
		s.mu.Lock()
		for p := range s.subscriptions.all() {
			if !wanted(p.Filter) {
				continue
			}
			if s.conn != nil {
				s.conn.readmit()
			}
			if current := s.subscriptions.find(p.Filter); !current.mute && !current.loose {
				heard = append(heard, p.Filter)
			}
		}
		s.mu.Unlock()
		for _, filter := range heard {
			visit(filter)
		}
	})
}

// views are what a session sees of the messages that it hears by a filter.
type views map[string]*pipeline.Projection

func (s *session) setView(filter string, view *pipeline.Projection) {
	if view == nil {
		delete(s.had().views, filter)
		return
	}
	if s.more().views == nil {
		s.seldom.views = make(views)
	}
	s.seldom.views[filter] = view
}

// project is the message as it is seen through all of the projections; nil: not at all.
func project(m *broker.Message, seen []*pipeline.Projection) *broker.Message {
	for _, view := range seen {
		if m = m.Projected(view); m == nil {
			return nil
		}
	}
	return m
}

// addSubscription notes a subscription, which replaces one to the same filter [MQTT-3.8.4-3].
func (c *connection) addSubscription(filter string, options subscriptionOptions, loose bool, view *pipeline.Projection) (existed, ok bool) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	existed = s.subscriptions.find(filter) != nil
	if s.ended || !existed && s.subscriptions.len() >= c.listener.Terms.MaxSubscriptions {
		return existed, false
	}
	c.front().addSubscription(s, filter, options, loose)
	s.setView(filter, view)
	s.marked = s.marked || view != nil
	return existed, true
}

// removeSubscription forgets one.
func (c *connection) removeSubscription(filter string) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	c.removeLocked(filter)
}

// removeLocked is removeSubscription with the session locked.
func (c *connection) removeLocked(filter string) {
	s := c.session
	s.subscriptions.remove(filter)
	delete(s.had().views, filter)
	c.front().cluster.Change(filter, s.told.of(filter), mqttcluster.Nothing)
	s.forgetRetained(filter)
	c.front().drop(filter, s)
}

// remember has the store keep so many changes of a kept session's subscriptions and says whether they are on disk.
func (c *connection) remember(changes int, write func(session uint64, done func(error))) bool {
	s := c.session
	s.mu.Lock()
	number := s.number
	s.mu.Unlock()
	if number == 0 || changes == 0 {
		return true
	}
	done := make(chan error, 1)
	write(number, func(err error) { done <- err })
	return <-done == nil
}

// unsubscribe ends subscriptions [MQTT-3.10.4-1].
func (c *connection) unsubscribe(p *mqtt.Unsubscribe) {
	s := c.session
	reasons := make([]mqtt.Reason, len(p.Filters))
	var ended []string
	s.mu.Lock()
	for i, filter := range p.Filters {
		if s.subscriptions.find(string(filter)) == nil {
			reasons[i] = mqtt.NoSubscriptionExisted
			continue
		}
		c.removeLocked(string(filter))
		ended = append(ended, string(filter))
	}
	s.mu.Unlock()
	if !c.remember(len(ended), func(session uint64, done func(error)) { c.front().store.Unsubscribe(session, ended, done) }) {
		for i := range reasons {
			reasons[i] = mqtt.UnspecifiedError
		}
	}
	c.mu.Lock()
	c.mqtt.AcknowledgeUnsubscribe(p.PacketID, reasons)
	c.mu.Unlock()
}
