package mqttfront

import (
	"time"

	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttstore"
	"fieldgate/protocol/mqtt"
)

// Backbone is another broker, which carries the messages of a front's clients: all that they publish goes there, and what they hear comes from
// there, by Receive. The front keeps the sessions, with what waits for them. Retained messages are the other broker's.
type Backbone interface {
	// Ready says whether clients may come.
	Ready() bool
	// Publish sends a message with the next Flush. acknowledged, unless nil, is called once, with nil when the broker has the message.
	Publish(m *broker.Message, acknowledged func(error))
	Flush()
	// Subscribe has a subscriber hear what a filter matches, and first the retained messages if it wants them. answered is called once.
	Subscribe(filter string, subscriber any, qos byte, retained bool, answered func(mqtt.Reason))
	// Unsubscribe ends a subscription. It calls nobody: the front is locked.
	Unsubscribe(filter string, subscriber any)
}

// Receive delivers messages of the backbone.
func (f *Front) Receive(all []broker.Inbound) {
	b := f.newBatch()
	for i := range all {
		in := &all[i]
		found := f.matches.Get().(*matching)
		found.Reset()
		for _, filter := range in.Filters {
			f.tree.Find(filter, &found.Matches)
		}
		b.topic = append(b.topic[:0], in.Message.Topic...)
		f.address(in.Message, found)
		if in.To != nil {
			found.retained(in.To)
		}
		f.handOut(in.Message, found, mqttstore.Received{}, in.Acknowledged, b)
	}
	b.end()
}

// retained leaves those receivers for whom a retained message is.
func (m *matching) retained(to []any) {
	kept := m.receivers[:0]
	for _, r := range m.receivers {
		for _, one := range to {
			if one == any(r.session) {
				r.Retain = true
				kept = append(kept, r)
				break
			}
		}
	}
	clear(m.receivers[len(kept):])
	m.receivers = kept
}

// publishTo makes a message heard: by the sessions here and whoever else listens, or at the backbone. received is what is to be remembered of it.
func (f *Front) publishTo(b *batch, m *broker.Message, received mqttstore.Received, acknowledged func(error)) {
	backbone := f.config.Backbone
	switch {
	case backbone == nil && received.Session == 0:
		f.pipeline.Broker.PublishBy(b, m, acknowledged)
	case backbone == nil:
		f.pipeline.Broker.PublishBy(reception{b, received}, m, acknowledged)
	case received.Session == 0:
		backbone.Publish(m, acknowledged)
	default:
		backbone.Publish(m, func(err error) {
			if err != nil {
				acknowledged(err)
				return
			}
			f.store.Receive(received, acknowledged)
		})
	}
}

// carry has the backbone subscribe to a filter, and gives the function that waits for its answer. Answers of the gateway itself are not its affair.
func (c *connection) carry(filter string, qos byte, retained bool) (wait func() mqtt.Reason) {
	backbone := c.front().config.Backbone
	if backbone == nil || answers(filter) {
		return func() mqtt.Reason { return mqtt.Reason(qos) }
	}
	answered := make(chan mqtt.Reason, 1)
	backbone.Subscribe(filter, c.session, qos, retained, func(reason mqtt.Reason) { answered <- reason })
	return func() mqtt.Reason {
		select {
		case reason := <-answered:
			return reason
		case <-time.After(c.front().config.WriteTimeout):
			return mqtt.UnspecifiedError
		}
	}
}

// drop ends a session's subscription in the tree, and at the backbone.
func (f *Front) drop(filter string, s *session) {
	f.tree.Unsubscribe(filter, s)
	f.pipeline.LeaveFilter(filter)
	if f.config.Backbone != nil {
		f.config.Backbone.Unsubscribe(filter, s)
	}
}

// carryRestored has the backbone subscribe to what sessions that were read back hear.
func (f *Front) carryRestored() {
	if f.config.Backbone == nil {
		return
	}
	f.eachSession(func(s *session) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for p := range s.subscriptions.all() {
			if filter := p.Filter; !answers(filter) {
				f.config.Backbone.Subscribe(filter, s, p.QoS, false, func(reason mqtt.Reason) {
					if reason.Failed() {
						f.logger.Error("the broker behind the gateway refuses a subscription of a session", "filter", filter, "client", s.key.client, "reason", reason.String())
					}
				})
			}
		}
	})
}
