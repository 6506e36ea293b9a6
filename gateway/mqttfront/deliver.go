package mqttfront

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttstore"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// matching is the memory for finding and addressing one message's receivers.
type matching struct {
	mqtt.Matches[*session]
	receivers []receiver
	index     map[*session]int
}

type receiver struct {
	session *session
	place   place
	later   bool // not before the message is on disk
	shared  bool // by a shared subscription
	mqtt.Delivery
}

// Publish delivers a message to the sessions that subscribed to its topic. Receivers with a session in the store, and a
// retained message, make it durable first: acknowledged, unless nil, is called when that is done. It implements
// broker.Sessions.
func (f *Front) Publish(m *broker.Message, acknowledged func(error)) {
	b := f.newBatch()
	b.Publish(m, acknowledged)
	b.end()
}

// route delivers a message, as part of a batch. On the topics of answers only their caller hears anything, and nothing but answers, whatever
// contracts let others publish or subscribe to. received is what is to be remembered of it.
func (f *Front) route(m *broker.Message, received mqttstore.Received, acknowledged func(error), b *batch) {
	found := f.matches.Get().(*matching)
	b.topic = append(b.topic[:0], m.Topic...)
	f.tree.Match(b.topic, &found.Matches)
	f.address(m, found)
	f.handOut(m, found, received, acknowledged, b)
}

// handOut gives a message to those that were found for it, and found back.
func (f *Front) handOut(m *broker.Message, found *matching, received mqttstore.Received, acknowledged func(error), b *batch) {
	kept := (m.QoS > 0 || m.Retain) && f.keepMessage(m, found, received, acknowledged)
	var message *mqtt.Message
	for i := range found.receivers {
		r := &found.receivers[i]
		if r.later {
			continue
		}
		if message == nil {
			message = b.encode(m)
		}
		r.Message = message
		f.deliver(r, m, b)
	}
	if !kept && acknowledged != nil {
		acknowledged(nil)
	}
	b.encoded = mqtt.Message{}
	b.forgetProjected()
	clear(found.receivers)
	clear(found.index)
	found.receivers = found.receivers[:0]
	f.matches.Put(found)
}

// address makes one delivery for each session. Of a session's overlapping subscriptions the highest QoS counts, and all
// their identifiers go along [MQTT-3.3.4-2] [MQTT-3.3.4-4].
func (f *Front) address(m *broker.Message, found *matching) {
	answer := answers(m.Topic)
	add := func(s *mqtt.Subscription[*session]) {
		if answer && s.Subscriber.key.caller != (callerKey{m.Answers.Kind, m.Answers.ID}) {
			return
		}
		if s.NoLocal && s.Subscriber.sameClient(m) { // [MQTT-3.8.3-3]
			return
		}
		d := mqtt.Delivery{QoS: min(m.QoS, s.QoS), Retain: m.Retain && s.RetainAsPublished}
		if s.ID != 0 {
			d.SubscriptionIDs = []uint32{s.ID}
		}
		if found.Overlap {
			if i, again := found.index[s.Subscriber]; again {
				r := &found.receivers[i]
				r.QoS, r.Retain = max(r.QoS, d.QoS), r.Retain || d.Retain
				r.SubscriptionIDs = append(r.SubscriptionIDs, d.SubscriptionIDs...)
				return
			}
			if found.index == nil {
				found.index = make(map[*session]int)
			}
			found.index[s.Subscriber] = len(found.receivers)
		}
		found.receivers = append(found.receivers, receiver{session: s.Subscriber, Delivery: d})
	}
	for _, s := range found.Subscriptions {
		add(s)
	}
	// A shared subscription is one of its own: its message comes besides those of other subscriptions (§4.8.2).
	found.Overlap = false
	for _, group := range found.Groups {
		s := f.member(m, group)
		if s != nil && slices.Contains(m.Shares, s.Filter) == m.Relayed { // else it is another node's turn
			before := len(found.receivers)
			add(s)
			for i := before; i < len(found.receivers); i++ {
				found.receivers[i].shared = true
			}
		}
	}
}

// answers says whether the topic is one of those on which the gateway answers requests.
func answers(topic string) bool { return strings.HasPrefix(topic, fieldgate.ReplyPrefix) }

func (s *session) present() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil
}

// deliver hands a delivery to a session: to its client, or into its queue in memory, or it leaves it in the store.
func (f *Front) deliver(r *receiver, m *broker.Message, b *batch) {
	s, d := r.session, &r.Delivery
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.place == inMemory {
		s.waiting.transit--
	}
	if d.Message.Retain {
		s.overtaken(string(d.Message.Topic))
	}
	if s.ended || s.remote || r.place == nowhere {
		return
	}
	hears, seen := f.hears(s, d.Message.Topic, b.seen[:0])
	b.seen = seen
	ok := false
	switch {
	case !hears || r.place != inStore && len(seen) > 0 && !b.project(d, m, seen):
		f.done(s, d, mqtt.Refused)
		return
	case r.place == inStore:
		f.Counters.Delivered.Add(1)
		f.fetch(s)
		return
	case s.conn != nil:
		b.lend(s.conn)
		ok = s.conn.mqtt.Deliver(*d, b.now)
		s.conn.flushIn(b)
	case d.QoS > 0:
		ok = s.state.Enqueue(*d)
	}
	f.delivered(s, d, ok)
}

// delivered counts a delivery that a session took or, at QoS 0, did not take: of others Session.Done tells. s is locked.
func (f *Front) delivered(s *session, d *mqtt.Delivery, ok bool) {
	switch {
	case ok:
		f.Counters.Delivered.Add(1)
	case d.QoS == 0:
		f.Counters.DroppedQoS0.Add(1)
		if s.conn != nil { // who is away does not expect it
			f.recordDropped(s, d.Message.Topic)
		}
	}
}

// dropped is what a session has missed since the last Record about it.
type dropped struct {
	messages int
	recorded time.Time
}

// droppedInterval is the time between two Records about one session's dropped messages, however many they are.
const droppedInterval = 10 * time.Second

// recordDropped leaves a Record that the session's client missed messages, the first at once. s is locked.
func (f *Front) recordDropped(s *session, topic []byte) {
	d := s.more().dropped
	if d == nil {
		d = new(dropped)
		s.seldom.dropped = d
	}
	d.messages++
	now := time.Now()
	if now.Sub(d.recorded) < droppedInterval {
		return
	}
	x := &pipeline.Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodSubscribe, Path: topic, ClientID: s.key.client,
		Principal: s.key.caller.principal(), Findings: fieldgate.FindingDropped,
		Detail: strconv.Itoa(d.messages) + " messages did not fit what the client takes or its queue holds"}
	f.pipeline.Malformed(x, errDropped)
	*d = dropped{recorded: now}
}

var errDropped = fieldgate.NewProblem(fieldgate.ProblemOverloaded, "The subscriber is too slow, or takes smaller packets only.")

// encode is encodeMessage for deliveries. Those at QoS 0 keep nothing of the message.
func (b *batch) encode(m *broker.Message) *mqtt.Message {
	if m.QoS > 0 {
		return encodeMessage(m)
	}
	b.encoded = mqtt.Message{Topic: b.topic}
	fill(&b.encoded, m)
	return &b.encoded
}

// projected is a message as some receivers see it.
type projected struct {
	message *broker.Message
	encoded *mqtt.Message
}

// project has the delivery be of the message as it is seen through the projections; no: there is nothing to be seen.
func (b *batch) project(d *mqtt.Delivery, m *broker.Message, seen []*pipeline.Projection) bool {
	made := project(m, seen)
	if made == nil || made == m {
		return made != nil
	}
	i := slices.IndexFunc(b.projected, func(p projected) bool { return p.message == made })
	if i < 0 {
		i = len(b.projected)
		b.projected = append(b.projected, projected{made, encodeProjected(made, d.Message.Size())})
	}
	d.Message = b.projected[i].encoded
	return true
}

// encodeProjected is encodeMessage for a message that is seen in part, and counts for what all of it does: that is what the store keeps.
func encodeProjected(m *broker.Message, size int) *mqtt.Message {
	out := encodeMessage(m)
	out.Whole = size
	return out
}

// encodeMessage gives the message in the form that sessions share. What came over MQTT carries the properties that its
// publisher set and no other.
func encodeMessage(m *broker.Message) *mqtt.Message {
	out := &mqtt.Message{Topic: []byte(m.Topic)}
	fill(out, m)
	return out
}

func fill(out *mqtt.Message, m *broker.Message) {
	out.Payload, out.QoS, out.Retain, out.Forward, out.Expires = m.Payload, m.QoS, m.Retain, m.Properties, m.Expires
	if m.Client == "" && m.ContentType != "" {
		var p mqtt.Properties
		p.SetText(mqtt.ContentType, []byte(m.ContentType))
		out.Forward = append(p.AppendForward(nil), m.Properties...)
	}
}
