package mqtt

import (
	"slices"
	"time"
)

// mustWait says that the PUBLISH at the front of the input has to wait because the client has too many messages
// unacknowledged by us: one of 3.1.1, which knows no Receive Maximum, or one of 5 that still has quota, because it got
// some back with PUBCOMPs for messages that nobody knows (MQTT 5 §4.9). Without quota it breaks the protocol.
func (c *Conn) mustWait(h Header) bool {
	return h.Flags&6 != 0 && len(c.had().unacked) >= int(c.limits.ReceiveMaximum) && (c.version == V311 || c.receiveQuota > 0)
}

func (c *Conn) publishReceived(flags byte, body []byte, p *Publish) (Event, error) {
	if err := p.Decode(flags, body, c.version); err != nil {
		return 0, err
	}
	if len(p.Properties.SubscriptionIDs) > 0 {
		return 0, ErrSubscriptionID
	}
	if err := c.resolveAlias(p); err != nil {
		return 0, err
	}
	if p.QoS == 0 {
		return PublishReceived, nil
	}
	undecided := c.undecided(p.PacketID)
	if undecided && c.version == V311 && p.Dup {
		// It may have sent the message again while we were still at it; ours to answer once. A version 5 client must not:
		// resending is for reconnection only [MQTT-4.4.0-1].
		return AckReceived, nil
	}
	if c.version == V5 {
		if c.receiveQuota == 0 {
			return 0, ErrReceiveMaximum
		}
		c.receiveQuota--
	}
	_, unreleased := c.session.held().received[p.PacketID]
	if undecided || unreleased && p.QoS == 1 { // [MQTT-2.2.1-3]
		if c.version == V311 {
			return 0, ErrPacketIDInUse
		}
		c.await(unacked{id: p.PacketID, qos: p.QoS, decided: true, reason: PacketIdentifierInUse})
		c.flushAcks()
		return AckReceived, nil
	}
	if p.QoS == 2 {
		if unreleased {
			// Received before and not released: acknowledge, never deliver again [MQTT-4.3.3-10].
			c.await(unacked{id: p.PacketID, qos: 2, decided: true})
			c.flushAcks()
			return AckReceived, nil
		}
		if slices.Contains(c.session.held().undecided, p.PacketID) { // it came on an earlier connection, and will be acknowledged on this one
			c.await(unacked{id: p.PacketID, qos: 2})
			return AckReceived, nil
		}
		if len(c.session.held().received) >= maxReceived {
			return 0, ErrReceiveMaximum
		}
	}
	c.await(unacked{id: p.PacketID, qos: p.QoS})
	return PublishReceived, nil
}

// await notes a message of the client until it is acknowledged.
func (c *Conn) await(u unacked) {
	s := c.more()
	s.unacked = append(s.unacked, u)
}

// undecided says whether the client's message of this identifier still awaits Acknowledge or an older one's.
func (c *Conn) undecided(id uint16) bool {
	unacked := c.had().unacked
	for i := range unacked {
		if unacked[i].id == id {
			return true
		}
	}
	return false
}

// refuseInUse answers a SUBSCRIBE or UNSUBSCRIBE of a version 5 client whose identifier one of its messages still has
// [MQTT-2.2.1-3]; false: it has none. 3.1.1 has no word for it, and nothing of ours mixes them up.
func (c *Conn) refuseInUse(id uint16, filters int, acknowledge func(uint16, []Reason)) bool {
	_, unreleased := c.session.held().received[id]
	if c.version != V5 || !unreleased && !c.undecided(id) {
		return false
	}
	acknowledge(id, slices.Repeat([]Reason{PacketIdentifierInUse}, filters))
	return true
}

// maxReceived bounds the QoS 2 identifiers that a 3.1.1 client leaves unreleased; version 5 has Receive Maximum for it.
const maxReceived = 4096

// Acknowledge answers a QoS 1 or 2 PUBLISH once the server has taken ownership of the message, or refuses it. text goes
// along as reason string where the client takes one. Calls may come in any order; the client sees acknowledgements in
// the order of its messages [MQTT-4.6.0-2] [MQTT-4.6.0-3]. A 3.1.1 client cannot be told of a refusal. left: it is a QoS 2 message, and the
// connection has ended since; if the session has another one, that one is to be told as well.
func (c *Conn) Acknowledge(id uint16, reason Reason, text string) (left bool) {
	unacked := c.had().unacked
	for i := range unacked {
		if u := &unacked[i]; u.id == id && !u.decided {
			u.decided, u.reason, u.text = true, reason, text
			if u.qos == 2 && c.session != nil {
				left = c.session.decide(id, !reason.Failed())
			}
			break
		}
	}
	if c.state == connected {
		c.flushAcks()
	}
	return left
}

// Unacknowledged gives the number of QoS 1 and 2 messages from the client that still await Acknowledge.
func (c *Conn) Unacknowledged() int { return len(c.had().unacked) }

func (c *Conn) flushAcks() {
	unacked, n := c.had().unacked, 0
	for ; n < len(unacked) && unacked[n].decided; n++ {
		u := &unacked[n]
		ack := Ack{Type: PUBACK, PacketID: u.id, Reason: u.reason}
		if u.qos == 2 {
			ack.Type = PUBREC
		}
		if u.qos == 1 || u.reason.Failed() {
			c.returnQuota()
		}
		c.appendAck(&ack, u.text)
	}
	if n > 0 {
		c.seldom.unacked = unacked[:copy(unacked, unacked[n:])]
	}
}

func (c *Conn) returnQuota() {
	if c.receiveQuota < c.limits.ReceiveMaximum {
		c.receiveQuota++
	}
}

func (c *Conn) appendAck(ack *Ack, text string) {
	if text != "" && c.version == V5 && !c.noProblemInfo {
		ack.Properties.SetText(ReasonString, []byte(text))
		if 10+ack.Properties.size() > int(c.maxSize) { // [MQTT-3.4.2-2]
			ack.Properties.Reset()
		}
	}
	c.out = ack.Append(c.out, c.version) // who takes our CONNACK takes these few bytes, too
}

func (c *Conn) ackReceived(in *Packets, now time.Time) (Event, error) {
	ack := &in.ack
	id, reason := ack.PacketID, ack.Reason
	if ack.Type == PUBREL {
		if _, known := c.session.held().received[id]; known && c.session.Stored {
			in.PacketID = id
			return ReleaseReceived, nil
		}
		c.Complete(id)
		return AckReceived, nil
	}

	i := c.session.find(id)
	if i < 0 {
		// Of a session that is gone. Only PUBREC wants an answer (§4.3.3).
		if ack.Type == PUBREC && !reason.Failed() {
			c.appendAck(&Ack{Type: PUBREL, PacketID: id, Reason: PacketIdentifierNotFound}, "")
		}
		return AckReceived, nil
	}
	m := &c.session.deliveries.inflight[i]
	counted := m.sent
	if (m.QoS == 1) != (ack.Type == PUBACK) || ack.Type == PUBCOMP && !m.released {
		return 0, ErrAckQoS
	}
	switch {
	case ack.Type == PUBREC && m.received: // again
		if m.released {
			c.appendAck(&Ack{Type: PUBREL, PacketID: id}, "")
		}
		return AckReceived, nil
	case reason.Failed() && ack.Type != PUBCOMP:
		c.session.remove(i, Refused) // [MQTT-4.4.0-2]
	case ack.Type == PUBREC:
		m.received = true
		if m.stored() {
			in.Token, in.Expires = m.Token, m.Message.Expires
			return DeliveryReceived, nil
		}
		m.released = true
		c.appendAck(&Ack{Type: PUBREL, PacketID: id}, "") // [MQTT-4.3.3-4]
		return AckReceived, nil
	default:
		c.session.remove(i, Delivered)
	}
	if counted {
		c.sending--
	}
	c.pump(now)
	return AckReceived, nil
}

// Complete answers a PUBREL, of ReleaseReceived once the store has forgotten the identifier [MQTT-4.3.3-11]. The connection may have ended.
func (c *Conn) Complete(id uint16) {
	reply := Ack{Type: PUBCOMP, PacketID: id, Reason: PacketIdentifierNotFound}
	if _, known := c.session.held().received[id]; known {
		delete(c.session.handshakes.received, id)
		reply.Reason = Success
	}
	if c.state == connected {
		c.returnQuota()
		c.appendAck(&reply, "")
	}
}

// Release sends PUBREL for a delivery of DeliveryReceived once the store knows that the client has it [MQTT-4.3.3-4]. Without a connection
// the next one does.
func (c *Conn) Release(token uint64) {
	i := c.session.find(storedID(token))
	if i < 0 {
		return
	}
	m := &c.session.deliveries.inflight[i]
	if m.Token != token || !m.received {
		return
	}
	m.released = true
	if c.state == connected {
		c.appendAck(&Ack{Type: PUBREL, PacketID: m.id}, "")
	}
}

// Forgotten is that of the session, and goes on sending.
func (c *Conn) Forgotten(token uint64, now time.Time) {
	c.session.Forgotten(token)
	c.pump(now)
}

// Deliver sends d, or lets it wait in the session if it is QoS 1 or 2 and the client's window or the unsent bytes do not
// allow it yet. It reports false if d was dropped: QoS 0 with too much unsent or too large for the client, QoS 1 or 2
// with a full queue.
func (c *Conn) Deliver(d Delivery, now time.Time) bool {
	if d.QoS == 0 {
		if c.state != connected || len(c.out) >= c.limits.OutSize {
			return false
		}
		return c.appendPublish(&d, 0, false, now)
	}
	if !c.session.Enqueue(d) {
		return false
	}
	c.pump(now)
	return true
}

// appendPublish appends d to what is sent, under a topic alias where that saves bytes; false: it is too large for the client.
func (c *Conn) appendPublish(d *Delivery, id uint16, dup bool, now time.Time) bool {
	topic := d.Message.Topic
	alias, known := c.outAlias(topic)
	if known {
		topic = nil
	}
	out, ok := d.append(c.out, c.version, id, dup, int(c.maxSize), now, topic, alias)
	switch {
	case ok && alias != 0 && !known:
		c.aliasSent(alias, topic)
	case !ok && alias != 0 && !known: // without it, it may fit
		out, ok = d.append(c.out, c.version, id, dup, int(c.maxSize), now, topic, 0)
	}
	c.out = out
	return ok
}

// pump sends what the session holds as far as the client's Receive Maximum allows: the rest waits, nothing is lost
// [MQTT-4.9.0-2].
func (c *Conn) pump(now time.Time) {
	if c.state != connected {
		return
	}
	s := c.session
	u := s.deliveries
	if u == nil {
		return
	}
	for i := 0; i < len(u.inflight); {
		m := &u.inflight[i]
		switch {
		case m.sent:
			i++
			continue
		case m.released:
			c.appendAck(&Ack{Type: PUBREL, PacketID: m.id}, "")
		case m.received: // PUBREL follows with Release
		case c.sending >= c.window || len(c.out) >= c.limits.OutSize:
			return // in the original order [MQTT-4.6.0-1]: nothing may overtake
		case !c.appendPublish(&m.Delivery, m.id, true, now):
			s.remove(i, TooLarge)
			continue
		}
		m.sent = true
		c.sending++
		i++
	}
	for s.Waiting() > 0 && c.sending < c.window && len(c.out) < c.limits.OutSize && len(u.inflight) < min(c.limits.SendWindow, maxInFlight) {
		if u.next().Message.Expired(now) {
			s.Owner.Done(u.dequeue(), Expired)
			continue
		}
		id, free := s.newID(u.next())
		if !free {
			return
		}
		d := u.dequeue()
		if !c.appendPublish(&d, id, false, now) {
			s.Owner.Done(d, TooLarge)
			continue
		}
		u.inflight = append(u.inflight, inflight{Delivery: d, id: id, sent: true})
		c.sending++
	}
}

// AcknowledgeSubscribe answers a SUBSCRIBE, AcknowledgeUnsubscribe an UNSUBSCRIBE: one reason for each filter, in order
// [MQTT-3.9.3-1].
func (c *Conn) AcknowledgeSubscribe(id uint16, reasons []Reason) {
	before := len(c.out)
	c.out = (&SubAck{Type: SUBACK, PacketID: id, Reasons: reasons}).Append(c.out, c.version)
	c.bound(before)
}

// AcknowledgeUnsubscribe answers an UNSUBSCRIBE.
func (c *Conn) AcknowledgeUnsubscribe(id uint16, reasons []Reason) {
	before := len(c.out)
	c.out = (&SubAck{Type: UNSUBACK, PacketID: id, Reasons: reasons}).Append(c.out, c.version)
	c.bound(before)
}
