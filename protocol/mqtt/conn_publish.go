package mqtt

import "time"

// mustWait says that the PUBLISH at the front of the input has to wait because the client has too many messages
// unacknowledged by us: one of 3.1.1, which knows no Receive Maximum, or one of 5 that still has quota, because it got
// some back with PUBCOMPs for messages that nobody knows (MQTT 5 §4.9). Without quota it breaks the protocol.
func (c *Conn) mustWait(h Header) bool {
	return h.Flags&6 != 0 && len(c.unacked) >= int(c.limits.ReceiveMaximum) && (c.version == V311 || c.receiveQuota > 0)
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
	for i := range c.unacked {
		if c.unacked[i].id == p.PacketID {
			// A 3.1.1 client may have sent it again while we were still at it; ours to answer once. A version 5 client
			// must not: resending is for reconnection only [MQTT-4.4.0-1].
			if c.version == V311 && p.Dup {
				return AckReceived, nil
			}
			return 0, ErrPacketIDInUse
		}
	}
	if c.version == V5 {
		if c.receiveQuota == 0 {
			return 0, ErrReceiveMaximum
		}
		c.receiveQuota--
	}
	if p.QoS == 2 {
		if _, known := c.session.received[p.PacketID]; known {
			// Received before and not released: acknowledge, never deliver again [MQTT-4.3.3-10].
			c.unacked = append(c.unacked, unacked{id: p.PacketID, qos: 2, decided: true})
			c.flushAcks()
			return AckReceived, nil
		}
		if len(c.session.received) >= maxReceived {
			return 0, ErrReceiveMaximum
		}
	}
	c.unacked = append(c.unacked, unacked{id: p.PacketID, qos: p.QoS})
	return PublishReceived, nil
}

// maxReceived bounds the QoS 2 identifiers that a 3.1.1 client leaves unreleased; version 5 has Receive Maximum for it.
const maxReceived = 4096

// resolveAlias replaces a topic alias by its topic, so that nobody behind sees one.
func (c *Conn) resolveAlias(p *Publish) error {
	if !p.Properties.Has(TopicAlias) {
		return nil
	}
	alias := int(p.Properties.Number(TopicAlias))
	p.Properties.Delete(TopicAlias)
	if alias > int(c.limits.TopicAliasMaximum) {
		return ErrTopicAlias
	}
	if c.aliases == nil {
		c.aliases = make([][]byte, c.limits.TopicAliasMaximum)
	}
	slot := &c.aliases[alias-1]
	if len(p.Topic) > 0 {
		*slot = append((*slot)[:0], p.Topic...)
		return nil
	}
	if len(*slot) == 0 {
		return ErrTopicAliasUnknown
	}
	p.Topic = *slot
	return nil
}

// Acknowledge answers a QoS 1 or 2 PUBLISH once the server has taken ownership of the message, or refuses it. text goes
// along as reason string where the client takes one. Calls may come in any order; the client sees acknowledgements in
// the order of its messages [MQTT-4.6.0-2] [MQTT-4.6.0-3]. A 3.1.1 client cannot be told of a refusal.
func (c *Conn) Acknowledge(id uint16, reason Reason, text string) {
	for i := range c.unacked {
		if u := &c.unacked[i]; u.id == id && !u.decided {
			u.decided, u.reason, u.text = true, reason, text
			if u.qos == 2 && !reason.Failed() && c.session != nil {
				if c.session.received == nil {
					c.session.received = make(map[uint16]struct{})
				}
				c.session.received[id] = struct{}{}
			}
			break
		}
	}
	if c.state == connected {
		c.flushAcks()
	}
}

// Unacknowledged gives the number of QoS 1 and 2 messages from the client that still await Acknowledge.
func (c *Conn) Unacknowledged() int { return len(c.unacked) }

func (c *Conn) flushAcks() {
	n := 0
	for ; n < len(c.unacked) && c.unacked[n].decided; n++ {
		u := &c.unacked[n]
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
		c.unacked = c.unacked[:copy(c.unacked, c.unacked[n:])]
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
		if 10+ack.Properties.size() > c.maxSize { // [MQTT-3.4.2-2]
			ack.Properties.Reset()
		}
	}
	c.out = ack.Append(c.out, c.version)
}

func (c *Conn) ackReceived(ack *Ack, now time.Time) error {
	id, reason := ack.PacketID, ack.Reason
	if ack.Type == PUBREL {
		reply := Ack{Type: PUBCOMP, PacketID: id, Reason: PacketIdentifierNotFound}
		if _, known := c.session.received[id]; known {
			delete(c.session.received, id)
			reply.Reason = Success
		}
		c.returnQuota()
		c.appendAck(&reply, "") // [MQTT-4.3.3-11]
		return nil
	}

	i := c.session.find(id)
	if i < 0 {
		// Of a session that is gone. Only PUBREC wants an answer (§4.3.3).
		if ack.Type == PUBREC && !reason.Failed() {
			c.appendAck(&Ack{Type: PUBREL, PacketID: id, Reason: PacketIdentifierNotFound}, "")
		}
		return nil
	}
	m := &c.session.inflight[i]
	counted := m.sent
	if (m.QoS == 1) != (ack.Type == PUBACK) || ack.Type == PUBCOMP && !m.released {
		return ErrAckQoS
	}
	switch {
	case reason.Failed() && ack.Type != PUBCOMP:
		c.session.remove(i, Refused) // [MQTT-4.4.0-2]
	case ack.Type == PUBREC:
		m.released = true
		c.appendAck(&Ack{Type: PUBREL, PacketID: id}, "") // [MQTT-4.3.3-4]
		return nil
	default:
		c.session.remove(i, Delivered)
	}
	if counted {
		c.sending--
	}
	c.pump(now)
	return nil
}

// Deliver sends d, or lets it wait in the session if it is QoS 1 or 2 and the client's window or the unsent bytes do not
// allow it yet. It reports false if d was dropped: QoS 0 with too much unsent or too large for the client, QoS 1 or 2
// with a full queue.
func (c *Conn) Deliver(d Delivery, now time.Time) bool {
	if d.QoS == 0 {
		if c.state != connected || len(c.out) >= c.limits.OutSize {
			return false
		}
		var ok bool
		c.out, ok = d.append(c.out, c.version, 0, false, c.maxSize, now)
		return ok
	}
	if !c.session.Enqueue(d) {
		return false
	}
	c.pump(now)
	return true
}

// pump sends what the session holds as far as the client's Receive Maximum allows: the rest waits, nothing is lost
// [MQTT-4.9.0-2].
func (c *Conn) pump(now time.Time) {
	if c.state != connected {
		return
	}
	s := c.session
	for i := 0; i < len(s.inflight); {
		m := &s.inflight[i]
		switch {
		case m.sent:
			i++
			continue
		case m.released:
			c.appendAck(&Ack{Type: PUBREL, PacketID: m.id}, "")
		case c.sending >= c.window || len(c.out) >= c.limits.OutSize:
			return // in the original order [MQTT-4.6.0-1]: nothing may overtake
		default:
			out, ok := m.append(c.out, c.version, m.id, true, c.maxSize, now)
			if !ok {
				s.remove(i, TooLarge)
				continue
			}
			c.out = out
		}
		m.sent = true
		c.sending++
		i++
	}
	for s.Waiting() > 0 && c.sending < c.window && len(c.out) < c.limits.OutSize && len(s.inflight) < c.limits.SendWindow {
		d := s.dequeue()
		if d.Message.Expired(now) {
			s.done(d, Expired)
			continue
		}
		id := s.newID()
		out, ok := d.append(c.out, c.version, id, false, c.maxSize, now)
		if !ok {
			s.done(d, TooLarge)
			continue
		}
		c.out = out
		s.inflight = append(s.inflight, inflight{Delivery: d, id: id, sent: true})
		c.sending++
	}
}

// AcknowledgeSubscribe answers a SUBSCRIBE, AcknowledgeUnsubscribe an UNSUBSCRIBE: one reason for each filter, in order
// [MQTT-3.9.3-1].
func (c *Conn) AcknowledgeSubscribe(id uint16, reasons []Reason) {
	c.out = (&SubAck{Type: SUBACK, PacketID: id, Reasons: reasons}).Append(c.out, c.version)
}

// AcknowledgeUnsubscribe answers an UNSUBSCRIBE.
func (c *Conn) AcknowledgeUnsubscribe(id uint16, reasons []Reason) {
	c.out = (&SubAck{Type: UNSUBACK, PacketID: id, Reasons: reasons}).Append(c.out, c.version)
}
