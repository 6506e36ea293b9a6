package mqttfront

import (
	"slices"
	"time"

	"fieldgate/gateway/broker"
	"fieldgate/protocol/mqtt"
)

// backlog is the retained messages that one new subscription has still to get. They are handed out as the client takes
// them, so that a filter may match more than a queue holds.
type backlog struct {
	filter   string
	options  subscriptionOptions
	messages []*broker.Message
}

// maxBacklog bounds the messages in all backlogs of a session; those beyond it count as dropped.
const maxBacklog = 1 << 17

// collectRetained notes the retained messages of a new subscription, in the place of what an older one still waited for.
func (c *connection) collectRetained(filter string, options subscriptionOptions, now time.Time) {
	s := c.session
	var messages []*broker.Message
	c.front.pipeline.Broker.Retained(filter, func(m *broker.Message) {
		if !answers(m.Topic) && !(options.NoLocal && s.sameClient(m)) && !expired(m, now) {
			messages = append(messages, m)
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetRetained(filter)
	room := maxBacklog
	for i := range s.retained {
		room -= len(s.retained[i].messages)
	}
	if beyond := len(messages) - room; beyond > 0 {
		messages = messages[:room]
		c.front.Counters.DroppedOverflow.Add(uint64(beyond))
	}
	if len(messages) > 0 {
		s.retained = append(s.retained, backlog{filter, options, messages})
	}
}

func expired(m *broker.Message, now time.Time) bool {
	return !m.Expires.IsZero() && !now.Before(m.Expires)
}

// forgetRetained ends the backlog of a subscription. s is locked.
func (s *session) forgetRetained(filter string) {
	s.retained = slices.DeleteFunc(s.retained, func(b backlog) bool { return b.filter == filter })
}

// deliverRetained hands out retained messages, with RETAIN set [MQTT-3.3.1-8]. At QoS 0 it waits for a client that takes
// bytes slowly; above, it stops where the client's window is full and goes on with its next acknowledgement. It runs on the
// reading goroutine; c is locked.
func (c *connection) deliverRetained(now time.Time) {
	s := c.session
	for s != nil && len(s.retained) > 0 && !c.mqtt.Closed() {
		b := &s.retained[0]
		m := b.messages[0]
		d := mqtt.Delivery{QoS: min(m.QoS, b.options.QoS), Retain: true}
		if b.options.ID != 0 {
			d.SubscriptionIDs = []uint32{b.options.ID}
		}
		if d.QoS > 0 && s.state.Waiting() > 0 {
			return
		}
		if b.messages = b.messages[1:]; len(b.messages) == 0 {
			s.retained = slices.Delete(s.retained, 0, 1)
		}
		// What took its place meanwhile went to the subscription as it came: the old one must not come behind it.
		if expired(m, now) || !c.front.isRetained(m) || !c.front.hears(s, []byte(m.Topic)) {
			continue
		}
		d.Message = encodeMessage(m)
		ok := c.mqtt.Deliver(d, now)
		if !ok && d.QoS == 0 {
			c.drain()
			ok = c.mqtt.Deliver(d, now)
		}
		c.front.delivered(s, &d, ok)
	}
}

// isRetained says whether the message still is its topic's retained one.
func (f *Front) isRetained(m *broker.Message) (is bool) {
	f.pipeline.Broker.Retained(m.Topic, func(current *broker.Message) { is = current == m })
	return is
}
