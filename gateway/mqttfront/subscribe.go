package mqttfront

import (
	"time"

	"fieldgate"
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
	var entries []entry
	var fresh []int // filters whose retained messages are to be sent
	for i := range p.Filters {
		f := &p.Filters[i]
		granted, loose, reason := c.admit(f)
		if reasons[i] = reason; reason.Failed() {
			continue
		}
		options := subscriptionOptions{QoS: granted, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished, ID: id}
		existed, ok := c.addSubscription(string(f.Filter), options, loose)
		if !ok {
			reasons[i] = mqtt.QuotaExceeded
			continue
		}
		entries = append(entries, entry{kind: entrySubscribe, filter: string(f.Filter), options: options})
		group, _ := mqtt.SplitShare(f.Filter)
		if group == nil && (f.RetainHandling == 0 || f.RetainHandling == 1 && !existed) { // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]
			fresh = append(fresh, i)
		}
	}
	if !c.remember(entries) {
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
		c.collectRetained(filter, subscriptionOptions{QoS: byte(reasons[i]), NoLocal: p.Filters[i].NoLocal, ID: id}, now)
	}
}

// admit asks the pipeline about one filter; loose: a pass-through API lets it in.
func (c *connection) admit(f *mqtt.Filter) (granted byte, loose bool, reason mqtt.Reason) {
	if !mqtt.ValidFilter(f.Filter) || len(f.Filter) > fieldgate.MaxPathBytes {
		return 0, false, mqtt.TopicFilterInvalid
	}
	_, levels := mqtt.SplitShare(f.Filter)
	x := c.subscription(levels)
	highest, problem := c.front.pipeline.Subscribe(x)
	c.front.pipeline.Finish(x)
	if problem != nil {
		reason = reasonOf(problem.Code)
		switch reason { // table 3-8 has fewer words than table 3-4
		case mqtt.TopicNameInvalid, mqtt.PayloadFormatInvalid:
			reason = mqtt.NotAuthorized
		}
		return 0, false, reason
	}
	granted = min(f.QoS, highest)
	return granted, x.Operation != nil && x.Operation.PassThrough, mqtt.Reason(granted)
}

func (c *connection) subscription(filter []byte) *pipeline.Exchange {
	return &pipeline.Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodSubscribe, Source: c.source,
		Caller: c.caller, ClientID: c.client, Path: filter}
}

// readmit asks about the subscriptions again when contracts or the caller have changed. One that is not allowed any more is
// mute until it is again. The session is locked.
func (c *connection) readmit() {
	s := c.session
	program := c.front.pipeline.Program()
	if s.admitted == program || c.mqtt.Closed() {
		return
	}
	s.admitted, s.mute, s.loose = program, nil, nil
	for filter := range s.subscriptions {
		_, levels := mqtt.SplitShare([]byte(filter))
		x := c.subscription(levels)
		if _, problem := c.front.pipeline.Subscribe(x); problem != nil && problem.Code != fieldgate.ProblemRateLimited {
			c.front.pipeline.Finish(x)
			mark(&s.mute, filter)
		} else if x.Operation != nil && x.Operation.PassThrough {
			mark(&s.loose, filter)
		}
	}
}

func mark(set *map[string]bool, filter string) {
	if *set == nil {
		*set = make(map[string]bool)
	}
	(*set)[filter] = true
}

// hears says whether the session may hear the topic by one of its subscriptions. It is locked.
func (f *Front) hears(s *session, topic []byte) bool {
	if s.conn != nil {
		s.conn.readmit()
	}
	if len(s.mute) == 0 && len(s.loose) == 0 {
		return true
	}
	owned := len(s.loose) != 0 && f.isOwned(topic)
	loosely := false
	for filter := range s.subscriptions {
		if _, levels := mqtt.SplitShare([]byte(filter)); s.mute[filter] || !mqtt.FilterMatches(levels, topic) {
			continue
		}
		if !owned || !s.loose[filter] {
			return true
		}
		loosely = true
	}
	if !loosely || s.conn == nil {
		return false
	}
	x := s.conn.subscription(topic)
	_, problem := f.pipeline.Subscribe(x)
	return problem == nil && x.Operation != nil && !x.Operation.PassThrough
}

// addSubscription notes a subscription, which replaces one to the same filter [MQTT-3.8.4-3].
func (c *connection) addSubscription(filter string, options subscriptionOptions, loose bool) (existed, ok bool) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	_, existed = s.subscriptions[filter]
	if s.ended || !existed && len(s.subscriptions) >= c.front.config.MaxSubscriptions {
		return existed, false
	}
	s.subscriptions[filter] = options
	delete(s.mute, filter)
	delete(s.loose, filter)
	if loose {
		mark(&s.loose, filter)
	}
	c.front.tree.Subscribe([]byte(filter), options.subscription(s))
	return existed, true
}

// remember puts changes of a kept session's subscriptions into the journal and says whether they are on disk.
func (c *connection) remember(entries []entry) bool {
	s := c.session
	s.mu.Lock()
	number := s.number
	s.mu.Unlock()
	if number == 0 || len(entries) == 0 {
		return true
	}
	for i := range entries {
		entries[i].session = number
	}
	return c.front.journal.wait(entries...) == nil
}

// unsubscribe ends subscriptions [MQTT-3.10.4-1].
func (c *connection) unsubscribe(p *mqtt.Unsubscribe) {
	s := c.session
	reasons := make([]mqtt.Reason, len(p.Filters))
	var entries []entry
	s.mu.Lock()
	for i, filter := range p.Filters {
		if _, existed := s.subscriptions[string(filter)]; !existed {
			reasons[i] = mqtt.NoSubscriptionExisted
			continue
		}
		delete(s.subscriptions, string(filter))
		delete(s.mute, string(filter))
		delete(s.loose, string(filter))
		s.forgetRetained(string(filter))
		c.front.tree.Unsubscribe(filter, s)
		entries = append(entries, entry{kind: entryUnsubscribe, filter: string(filter)})
	}
	s.mu.Unlock()
	if !c.remember(entries) {
		for i := range reasons {
			reasons[i] = mqtt.UnspecifiedError
		}
	}
	c.mu.Lock()
	c.mqtt.AcknowledgeUnsubscribe(p.PacketID, reasons)
	c.mu.Unlock()
}
