package mqttfront

import (
	"strconv"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
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
	mqtt.Delivery
}

// Publish delivers a message to the sessions that subscribed to its topic. Receivers with a session in the journal, and a
// retained message, make it durable first: acknowledged, unless nil, is called when that is done. It implements
// broker.Sessions.
func (f *Front) Publish(m *broker.Message, acknowledged func(error)) { f.route(m, nil, acknowledged) }

// route delivers a message; caller is whom it answers, nil if it is no answer. On the topics of answers only their caller
// hears anything, and nothing but answers, whatever contracts let others publish or subscribe to.
func (f *Front) route(m *broker.Message, caller *callerKey, acknowledged func(error)) {
	found := f.matches.Get().(*matching)
	f.tree.Match([]byte(m.Topic), &found.Matches)
	f.address(m, caller, found)

	number := uint64(0)
	var recipients []recipient
	if m.QoS > 0 {
		for i := range found.receivers {
			r := &found.receivers[i]
			if r.QoS == 0 {
				continue
			}
			r.session.mu.Lock()
			kept := r.session.number
			r.session.mu.Unlock()
			if kept != 0 {
				if number == 0 {
					number = f.number.Add(1)
				}
				r.Token = number
				recipients = append(recipients, recipient{kept, r.QoS, r.Retain, r.SubscriptionIDs})
			}
		}
	}
	if recipients != nil || m.Retain {
		f.journal.append(acknowledged, entry{kind: entryMessage, number: number, message: m, recipients: recipients})
	}
	if len(found.receivers) > 0 {
		now := time.Now()
		message := encodeMessage(m)
		for i := range found.receivers {
			r := &found.receivers[i]
			r.Message = message
			f.deliver(r.session, r.Delivery, now)
		}
	}
	if recipients == nil && !m.Retain && acknowledged != nil {
		acknowledged(nil)
	}
	clear(found.receivers)
	clear(found.index)
	found.receivers = found.receivers[:0]
	f.matches.Put(found)
}

// address makes one delivery for each session. Of a session's overlapping subscriptions the highest QoS counts, and all
// their identifiers go along [MQTT-3.3.4-2] [MQTT-3.3.4-4].
func (f *Front) address(m *broker.Message, caller *callerKey, found *matching) {
	answer := answers(m.Topic)
	add := func(s *mqtt.Subscription[*session]) {
		if answer && (caller == nil || s.Subscriber.caller != *caller) {
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
		found.receivers = append(found.receivers, receiver{s.Subscriber, d})
	}
	for _, s := range found.Subscriptions {
		add(s)
	}
	// A shared subscription is one of its own: its message comes besides those of other subscriptions (§4.8.2).
	found.Overlap = false
	for _, group := range found.Groups {
		if s := group.Pick((*session).present); s != nil {
			add(s)
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

// deliver hands a delivery to a session: to its client, or into its queue.
func (f *Front) deliver(s *session, d mqtt.Delivery, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok := false
	switch {
	case s.ended:
		return
	case !f.hears(s, d.Message.Topic):
		if d.Token != 0 && s.number != 0 {
			f.journal.append(nil, entry{kind: entryDone, session: s.number, number: d.Token})
		}
		return
	case s.conn != nil:
		ok = s.conn.mqtt.Deliver(d, now)
		s.conn.flushLater()
	case d.QoS > 0:
		ok = s.state.Enqueue(d)
	}
	f.delivered(s, &d, ok)
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
	s.dropped.messages++
	now := time.Now()
	if now.Sub(s.dropped.recorded) < droppedInterval {
		return
	}
	x := &pipeline.Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodSubscribe, Path: topic, ClientID: s.key.client,
		Principal: fieldgate.Principal{Kind: s.caller.kind, ID: s.caller.id}, Findings: fieldgate.FindingDropped,
		Detail: strconv.Itoa(s.dropped.messages) + " messages did not fit what the client takes or its queue holds"}
	f.pipeline.Malformed(x, errDropped)
	s.dropped = dropped{recorded: now}
}

var errDropped = fieldgate.NewProblem(fieldgate.ProblemOverloaded, "The subscriber is too slow, or takes smaller packets only.")

// encodeMessage gives the message in the form that sessions share. What came over MQTT carries the properties that its
// publisher set and no other.
func encodeMessage(m *broker.Message) *mqtt.Message {
	out := &mqtt.Message{Topic: []byte(m.Topic), Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Forward: m.Properties, Expires: m.Expires}
	if m.Client == "" && m.ContentType != "" {
		var p mqtt.Properties
		p.SetText(mqtt.ContentType, []byte(m.ContentType))
		out.Forward = append(p.AppendForward(nil), m.Properties...)
	}
	return out
}
