package mqttproxy

import (
	"bytes"
	"slices"
	"time"

	"fieldgate"
	messages "fieldgate/gateway/broker"
	"fieldgate/protocol/mqtt"
)

// publications are the messages above QoS 0 on their way to a broker.
type publications struct {
	sent         map[uint16]*publication // that are under way, by packet identifier
	order        []*publication          // those as they were sent; some are done
	waiting      []*publication
	waitingBytes int
}

type publication struct {
	message      *messages.Message
	acknowledged func(error)
	id           uint16
	released     bool // the broker has it (PUBREC), and acknowledged was called
	done         bool
}

const (
	// mostSent bounds the messages that a broker has not acknowledged; its own Receive Maximum may be lower.
	mostSent = 1000
	// mostWaiting bounds those that wait for it, in bytes. Further ones are refused.
	mostWaiting = 64 << 20
)

var (
	errNoUplink   = fieldgate.NewProblem(fieldgate.ProblemUpstreamUnreachable, "No broker behind the gateway answers.")
	errCrowded    = fieldgate.NewProblem(fieldgate.ProblemOverloaded, "Too many messages wait for the broker behind the gateway.")
	errHighQoS    = fieldgate.NewProblem(fieldgate.ProblemQoS, "The broker behind the gateway does not take this quality of service.")
	errNoRetained = fieldgate.NewProblem(fieldgate.ProblemRetain, "The broker behind the gateway retains no messages.")
)

// publish takes a message; what is returned keeps it from being sent.
func (u *uplink) publish(m *messages.Message, acknowledged func(error)) *fieldgate.Problem {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.live()
	if !m.Expires.IsZero() && !time.Now().Before(m.Expires) { // brokers differ in what they make of an expiry of 0
		u.pool.Counters.Dropped.Add(1)
		if acknowledged != nil && m.QoS > 0 {
			u.callbacks = append(u.callbacks, func() { acknowledged(nil) })
			u.running.Go(u.callBack)
		}
		return nil
	}
	if m.QoS == 0 {
		if l == nil || len(l.out) >= uplinkUnsent {
			u.pool.Counters.Dropped.Add(1)
			return nil
		}
		return u.appendPublish(l, m, 0, false)
	}
	p := &publication{message: m, acknowledged: acknowledged}
	if l != nil && len(u.waiting) == 0 && u.mayBeSent(l) {
		return u.send(l, p)
	}
	if u.waitingBytes+size(m) > mostWaiting {
		return errCrowded
	}
	u.waiting = append(u.waiting, p)
	u.waitingBytes += size(m)
	return nil
}

func size(m *messages.Message) int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

// mayBeSent says whether the broker takes another message now. u is locked, here and below.
func (u *uplink) mayBeSent(l *link) bool { return len(u.sent) < l.window && len(l.out) < uplinkUnsent }

func (u *uplink) send(l *link, p *publication) *fieldgate.Problem {
	p.id = u.newID()
	if problem := u.appendPublish(l, p.message, p.id, false); problem != nil {
		return problem
	}
	u.sent[p.id] = p
	u.order = append(u.order, p)
	return nil
}

// sendWaiting sends what waits, as far as the broker takes it.
func (u *uplink) sendWaiting(l *link) {
	n := 0
	for ; n < len(u.waiting) && u.mayBeSent(l); n++ {
		p := u.waiting[n]
		u.waitingBytes -= size(p.message)
		if problem := u.send(l, p); problem != nil {
			u.answer(p, problem)
		}
	}
	u.waiting = slices.Delete(u.waiting, 0, n)
}

// answer has the publisher told the outcome when the lock is free.
func (u *uplink) answer(p *publication, err error) {
	if p.acknowledged != nil {
		u.callbacks = append(u.callbacks, func() { p.acknowledged(err) })
	}
}

// appendPublish appends a message as the broker gets it.
func (u *uplink) appendPublish(l *link, m *messages.Message, id uint16, dup bool) *fieldgate.Problem {
	switch {
	case m.QoS > l.qos:
		return errHighQoS
	case m.Retain && !l.retains:
		return errNoRetained
	}
	u.topic = append(append(u.topic[:0], u.pool.prefix()...), m.Topic...)
	out := mqtt.Publish{Dup: dup, QoS: m.QoS, Retain: m.Retain, Topic: u.topic, PacketID: id, Payload: m.Payload}
	switch {
	case l.version == mqtt.V311:
		if len(m.Properties) > 0 || !m.Expires.IsZero() {
			u.pool.Counters.PropertiesDropped.Add(1)
		}
	default:
		if len(m.Properties) > 0 {
			if err := (&mqtt.Message{Forward: m.Properties}).Properties(&out.Properties); err != nil { // they were encoded by us
				return fieldgate.NewProblem(fieldgate.ProblemInternal, err.Error())
			}
			if topic := out.Properties.Text(mqtt.ResponseTopic); topic != nil {
				out.Properties.SetText(mqtt.ResponseTopic, append([]byte(u.pool.prefix()), topic...))
			}
		}
		if !m.Expires.IsZero() {
			left := (time.Until(m.Expires) + time.Second - 1) / time.Second
			out.Properties.SetNumber(mqtt.MessageExpiryInterval, uint32(max(left, 0)))
		}
	}
	before := len(l.out)
	if l.out = out.Append(l.out, l.version); len(l.out)-before > l.limit {
		l.out = l.out[:before]
		return errTooLarge
	}
	u.dirty.Store(true)
	return nil
}

// acknowledged moves a publication on.
func (u *uplink) acknowledged(l *link, ack *mqtt.Ack) error {
	p := u.sent[ack.PacketID]
	switch {
	case p == nil:
		if ack.Type == mqtt.PUBREC && !ack.Reason.Failed() { // of a message that was given up; the broker wants to be done with it (MQTT 5 §4.3.3)
			l.out = (&mqtt.Ack{Type: mqtt.PUBREL, PacketID: ack.PacketID}).Append(l.out, l.version)
		}
		return nil
	case (ack.Type == mqtt.PUBACK) != (p.message.QoS == 1) || ack.Type == mqtt.PUBCOMP && !p.released:
		return mqtt.ErrAckQoS
	case ack.Reason.Failed() && ack.Type != mqtt.PUBCOMP:
		u.answer(p, refusal(ack.Reason))
	case ack.Type == mqtt.PUBREC:
		if !p.released {
			p.released = true
			u.answer(p, nil)
		}
		l.out = (&mqtt.Ack{Type: mqtt.PUBREL, PacketID: p.id}).Append(l.out, l.version)
		return nil
	case ack.Type == mqtt.PUBACK:
		u.answer(p, nil)
	}
	u.forget(p)
	u.sendWaiting(l)
	return nil
}

func (u *uplink) forget(p *publication) {
	p.done = true
	delete(u.sent, p.id)
	if len(u.order) > 2*len(u.sent)+64 {
		u.order = slices.DeleteFunc(u.order, func(p *publication) bool { return p.done })
	}
}

// refusal is the problem that a broker's reason stands for.
func refusal(reason mqtt.Reason) *fieldgate.Problem {
	code := fieldgate.ProblemUpstreamInvalid
	switch reason {
	case mqtt.NotAuthorized:
		code = fieldgate.ProblemForbidden
	case mqtt.TopicNameInvalid:
		code = fieldgate.ProblemNotFound
	case mqtt.QuotaExceeded:
		code = fieldgate.ProblemOverloaded
	case mqtt.PayloadFormatInvalid:
		code = fieldgate.ProblemInvalidPayload
	}
	return fieldgate.NewProblem(code, "The broker behind the gateway refuses the message: "+reason.String()+".")
}

// resend goes on with what was under way on another connection. Where the broker knows nothing of it what it did not confirm is sent as if it had
// not been: it may come twice then, at QoS 2, too.
func (u *uplink) resend(present bool) {
	l := u.link
	under := slices.DeleteFunc(u.order, func(p *publication) bool { return p.done })
	if present {
		u.order = under
		for _, p := range under {
			if p.released {
				l.out = (&mqtt.Ack{Type: mqtt.PUBREL, PacketID: p.id}).Append(l.out, l.version)
			} else if problem := u.appendPublish(l, p.message, p.id, true); problem != nil {
				u.answer(p, problem)
				u.forget(p)
			}
		}
	} else {
		unconfirmed := slices.DeleteFunc(slices.Clone(under), func(p *publication) bool { return p.released })
		u.waiting, u.order = append(unconfirmed, u.waiting...), nil
		for _, p := range unconfirmed {
			u.waitingBytes += size(p.message)
		}
		clear(u.sent)
	}
	u.sendWaiting(l)
}

// failPublications gives up all messages, and gives what tells their publishers.
func (u *uplink) failPublications() (answers []func()) {
	for _, p := range append(u.order, u.waiting...) {
		if !p.done && !p.released && p.acknowledged != nil {
			answers = append(answers, func() { p.acknowledged(errNoUplink) })
		}
	}
	clear(u.sent)
	u.order, u.waiting, u.waitingBytes = nil, nil, 0
	return answers
}

// unreleased are the QoS 2 messages of a broker that it has not released.
type unreleased map[uint16]*receivedMessage

type receivedMessage struct {
	safe bool // PUBREC was due
}

// publishReceived takes a message of the broker to those who hear it.
func (u *uplink) publishReceived(l *link, h mqtt.Header, body []byte) error {
	p := &u.publishIn
	if err := p.Decode(h.Flags, body, l.version); err != nil {
		return err
	}
	if _, err := u.aliases.Resolve(p, mqtt.DefaultLimits().TopicAliasMaximum); err != nil {
		return err
	}
	var second *receivedMessage
	if p.QoS == 2 {
		if known := u.unreleased[p.PacketID]; known != nil {
			if known.safe {
				l.out = (&mqtt.Ack{Type: mqtt.PUBREC, PacketID: p.PacketID}).Append(l.out, l.version)
			}
			return nil
		}
		second = new(receivedMessage)
		u.unreleased[p.PacketID] = second
	}
	if p.QoS > 0 {
		l.owed++
	}
	acknowledge := u.acknowledgement(l, p.QoS, p.PacketID, second)
	topic, inside := u.pool.inward(p.Topic)
	in := messages.Inbound{Acknowledged: acknowledge}
	if inside {
		in.Filters, in.To = u.addressees(l, []byte(topic), p)
	}
	if len(in.Filters) == 0 {
		if !p.Retain { // those that come again with a subscription may be for nobody
			u.pool.Counters.Dropped.Add(1)
		}
		if acknowledge != nil {
			u.callbacks = append(u.callbacks, func() { acknowledge(nil) })
		}
		return nil
	}
	now := time.Now()
	m := &messages.Message{Topic: topic, Payload: p.Payload, QoS: p.QoS, Time: now, Fleeting: p.QoS == 0}
	if p.QoS > 0 {
		m.Payload = bytes.Clone(p.Payload)
	}
	if p.Properties.Has(mqtt.MessageExpiryInterval) {
		m.Expires = now.Add(time.Duration(p.Properties.Number(mqtt.MessageExpiryInterval)) * time.Second)
	}
	if response := p.Properties.Text(mqtt.ResponseTopic); response != nil {
		if inner, ok := u.pool.inward(response); ok {
			p.Properties.SetText(mqtt.ResponseTopic, []byte(inner))
		} else {
			p.Properties.Delete(mqtt.ResponseTopic)
		}
	}
	if !p.Properties.Empty() {
		m.Properties = p.Properties.AppendForward(nil)
	}
	in.Message = m
	u.inbound = append(u.inbound, in)
	return nil
}

// acknowledgement is the answer to a message of the broker, to be given by anybody when it is safe.
func (u *uplink) acknowledgement(l *link, qos byte, id uint16, second *receivedMessage) func(error) {
	if qos == 0 {
		return nil
	}
	return func(err error) {
		u.mu.Lock()
		defer u.mu.Unlock()
		l.owed--
		ack := mqtt.Ack{Type: mqtt.PUBACK, PacketID: id}
		if err != nil {
			u.pool.Counters.Dropped.Add(1)
			ack.Reason = mqtt.QuotaExceeded // 3.1.1 has no word for it
		}
		if qos == 2 {
			if u.unreleased[id] != second {
				return // of a session that is over
			}
			ack.Type, second.safe = mqtt.PUBREC, true
			if err != nil && l.version == mqtt.V5 {
				delete(u.unreleased, id)
			}
		} else if u.link != l {
			return // the broker sends it again
		}
		if u.link != nil {
			u.link.out = ack.Append(u.link.out, u.link.version)
			u.flushLocked()
		}
	}
}
