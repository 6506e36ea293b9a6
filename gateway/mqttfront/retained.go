package mqttfront

import (
	"slices"
	"time"

	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttstore"
	"fieldgate/protocol/mqtt"
)

// backlog is the retained messages that one new subscription has still to get. They are read from the store a few at a time, as the
// client takes them, so that a filter may match millions.
type backlog struct {
	filter   string
	options  subscriptionOptions
	reader   *mqttstore.RetainedReader
	messages []*broker.Message // read and not handed out
	newer    []string          // topics of those that came while older ones were being read
}

const (
	retainedStep      = 64        // retained messages that are read at a time
	retainedStepBytes = 256 << 10 // of these
)

// collectRetained begins to read the retained messages of a new subscription, in the place of what an older one still waited for.
func (c *connection) collectRetained(filter string, options subscriptionOptions) {
	s := c.session
	reader := c.front().store.Retained(filter)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetRetained(filter)
	n := s.more()
	n.retained = append(n.retained, &backlog{filter: filter, options: options, reader: reader})
}

// forgetRetained ends the backlog of a subscription. s is locked.
func (s *session) forgetRetained(filter string) {
	s.setRetained(slices.DeleteFunc(s.had().retained, func(b *backlog) bool { return b.filter == filter }))
}

// setRetained keeps the backlogs that are left. s is locked.
func (s *session) setRetained(left []*backlog) {
	switch n := s.seldom; {
	case n == nil:
	case len(left) == 0 && n.views == nil && n.dropped == nil && n.willTimer == nil && n.expiryTimer == nil:
		s.seldom = nil
	default:
		n.retained = left
	}
}

// overtaken notes that a message to be retained goes to the session as it comes: an older one of its topic must not come behind it.
// s is locked.
func (s *session) overtaken(topic string) {
	for _, b := range s.had().retained {
		b.messages = slices.DeleteFunc(b.messages, func(m *broker.Message) bool { return m.Topic == topic })
		if s.fetching && mqtt.FilterMatches([]byte(b.filter), []byte(topic)) {
			b.newer = append(b.newer, topic)
		}
	}
}

// wantsRetained: the next retained messages have to be read. The session is locked.
func (s *session) wantsRetained() bool {
	retained := s.had().retained
	return len(retained) > 0 && len(retained[0].messages) == 0 && !(retained[0].options.QoS == 2 && s.waiting.behind())
}

// fetchRetained reads some of the retained messages that the session's first backlog is about.
func (f *Front) fetchRetained(s *session) {
	s.mu.Lock()
	wants := s.conn != nil && s.wantsRetained()
	var b *backlog
	if wants {
		b = s.seldom.retained[0]
		b.newer = nil
	}
	s.mu.Unlock()
	if !wants {
		return
	}
	messages, err := b.reader.Next(f.ctx, retainedStep, retainedStepBytes)
	if err != nil && f.ctx.Err() == nil {
		f.logger.Error("retained messages cannot be read", "filter", b.filter, "error", err)
	}
	if b.options.QoS == 2 { // they may get numbers
		f.order.Lock()
		defer f.order.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	messages = slices.DeleteFunc(messages, func(m *broker.Message) bool {
		return slices.Contains(b.newer, m.Topic) || answers(m.Topic) || b.options.NoLocal && s.sameClient(m)
	})
	b.newer = nil
	if b.options.QoS == 2 && s.number != 0 && !s.ended {
		messages = f.queueRetained(s, b, messages)
	}
	b.messages = messages
	if err != nil || b.reader.Ended() && len(messages) == 0 {
		s.setRetained(slices.DeleteFunc(s.had().retained, func(other *backlog) bool { return other == b }))
	}
}

// deliverRetained hands out retained messages, with RETAIN set [MQTT-3.3.1-8]. At QoS 0 it stops when too much is unsent, which it
// reports, and goes on when that is sent; above, where the client's window is full, and goes on with its next acknowledgement.
// What has to be read from the store before, queued messages too, a reader is asked for. c is locked.
func (c *connection) deliverRetained(now time.Time) (full bool) {
	s := c.session
	if s == nil || c.mqtt.Closed() {
		return false
	}
	for {
		retained := s.had().retained
		if len(retained) == 0 || len(retained[0].messages) == 0 {
			break
		}
		b := retained[0]
		m := b.messages[0]
		d := mqtt.Delivery{QoS: min(m.QoS, b.options.QoS), Retain: true}
		if b.options.ID != 0 {
			d.SubscriptionIDs = []uint32{b.options.ID}
		}
		if d.QoS > 0 && s.state.Waiting() > 0 {
			break
		}
		if d.QoS == 0 && c.mqtt.Full() {
			if c.stream == nil { // a stream goes on by itself when it has written
				c.loop.attend(c)
			}
			return true
		}
		b.messages[0] = nil
		if b.messages = b.messages[1:]; len(b.messages) == 0 && b.reader.Ended() {
			s.setRetained(slices.Delete(retained, 0, 1))
		}
		hears, seen := c.front().hears(s, []byte(m.Topic), nil)
		if m = project(m, seen); !hears || m == nil || expired(m, now) {
			continue
		}
		d.Message = encodeMessage(m)
		ok := c.mqtt.Deliver(d, now)
		c.front().delivered(s, &d, ok)
	}
	c.front().fetch(s)
	return false
}

// Retained implements broker.Retained.
func (f *Front) Retained(filter string, visit func(*broker.Message) bool) error {
	return f.RetainedAfter(filter, "", visit)
}

// RetainedAfter is Retained from behind a topic on.
func (f *Front) RetainedAfter(filter, after string, visit func(*broker.Message) bool) error {
	return f.store.EachRetained(f.ctx, filter, after, visit)
}

// ReadRetained implements broker.Retained.
func (f *Front) ReadRetained(filter string) broker.RetainedReader { return f.store.Retained(filter) }
