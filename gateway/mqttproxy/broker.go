package mqttproxy

import (
	"fieldgate/protocol/mqtt"
)

// brokerPacket handles one packet of the broker; nil: the session goes on.
func (s *session) brokerPacket(h mqtt.Header, body, whole []byte, b *batch) *farewell {
	bye, err := s.passPacket(h, body, whole, b)
	if err != nil {
		f := s.brokerBroke(err)
		return &f
	}
	return bye
}

// passPacket fails if the packet breaks the protocol.
func (s *session) passPacket(h mqtt.Header, body, whole []byte, b *batch) (*farewell, error) {
	v := s.broker.version
	switch h.Type {
	case mqtt.PUBLISH:
		return s.deliver(h, body, whole, b)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		ack := &b.ack
		if err := ack.Decode(h.Type, body, v); err != nil {
			return nil, err
		}
		switch h.Type {
		case mqtt.PUBREL:
			if _, here := s.withheld[ack.PacketID]; here {
				delete(s.withheld, ack.PacketID)
				b.toBroker = (&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: ack.PacketID}).Append(b.toBroker, v)
				return nil, nil
			}
		case mqtt.PUBACK, mqtt.PUBREC:
			s.commandAnswered(ack.PacketID, ack.Reason)
		}
		before := len(b.toDevice)
		if b.toDevice = s.appendAck(b.toDevice, ack, whole, s.device.version); len(b.toDevice)-before > s.device.limit { // its reason string is too long [MQTT-3.4.2-2]
			b.toDevice = (&mqtt.Ack{Type: ack.Type, PacketID: ack.PacketID, Reason: ack.Reason}).Append(b.toDevice[:before], s.device.version)
		}
	case mqtt.SUBACK, mqtt.UNSUBACK:
		p := &b.subAck
		if err := p.Decode(h.Type, body, v); err != nil {
			return nil, err
		}
		return nil, s.subscribed(p, b)
	case mqtt.PINGRESP:
		if len(body) > 0 {
			return nil, mqtt.ErrTrailing
		}
	case mqtt.DISCONNECT:
		p := &b.disconnect
		if v == mqtt.V311 {
			return nil, mqtt.ErrDirection
		}
		if err := p.Decode(mqtt.DISCONNECT, body, v); err != nil {
			return nil, err
		}
		return s.dismissed(p), nil
	default:
		return nil, mqtt.ErrDirection
	}
	return nil, nil
}

// dismissed is the farewell after the broker's own. Where it points at another broker the device comes back here.
func (s *session) dismissed(p *mqtt.Disconnect) *farewell {
	f := &farewell{reason: p.Reason, text: string(p.Properties.Text(mqtt.ReasonString))}
	switch p.Reason {
	case mqtt.UseAnotherServer, mqtt.ServerMoved, mqtt.ServerShuttingDown, mqtt.ServerBusy, mqtt.Success:
		f.reason = mqtt.ServerShuttingDown
		s.at.suspect()
	}
	return f
}

// deliver passes a message on to the device, if it may hear it.
func (s *session) deliver(h mqtt.Header, body, whole []byte, b *batch) (*farewell, error) {
	p := &b.publish
	if err := p.Decode(h.Flags, body, s.broker.version); err != nil {
		return nil, err
	}
	aliased, err := s.brokerAliases.Resolve(p, s.proxy.config.Limits.TopicAliasMaximum)
	if err != nil {
		return nil, err
	}
	topic, inside := s.inward(p.Topic)
	if !inside {
		return s.withhold(p, b)
	}
	heard := s.hears(topic)
	if heard.view != nil {
		p.Payload, heard.may = heard.view.Payload(string(topic), string(p.Properties.Text(mqtt.ContentType)), p.Payload)
	}
	if !heard.may {
		return s.withhold(p, b)
	}
	before := len(b.toDevice)
	if heard.view == nil && s.same && !aliased && len(s.prefix) == 0 {
		b.toDevice = append(b.toDevice, whole...)
	} else {
		p.Topic = topic
		if response := p.Properties.Text(mqtt.ResponseTopic); response != nil {
			if response, inside = s.inward(response); inside {
				p.Properties.SetText(mqtt.ResponseTopic, response)
			} else {
				p.Properties.Delete(mqtt.ResponseTopic)
			}
		}
		b.toDevice = p.Append(b.toDevice, s.device.version)
	}
	size := len(b.toDevice) - before
	if size > s.device.limit { // it is as if the device had it [MQTT-3.1.2-25]
		b.toDevice = b.toDevice[:before]
		return s.withhold(p, b)
	}
	if s.window != nil && p.QoS > 0 {
		now, ok := s.window.pass(p.PacketID, b.toDevice[before:])
		if !ok {
			return &farewell{reason: mqtt.QuotaExceeded, text: "More messages wait for the device than the gateway holds."}, nil
		}
		if !now {
			b.toDevice = b.toDevice[:before]
		}
	}
	s.proxy.Counters.Delivered.Add(1)
	return nil, nil
}

// withhold answers the broker for the device.
func (s *session) withhold(p *mqtt.Publish, b *batch) (*farewell, error) {
	s.proxy.Counters.Withheld.Add(1)
	switch p.QoS {
	case 1:
		b.toBroker = (&mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID}).Append(b.toBroker, s.broker.version)
	case 2:
		if s.withheld == nil {
			s.withheld = make(map[uint16]struct{})
		}
		s.withheld[p.PacketID] = struct{}{} // at most 65,535 of them
		b.toBroker = (&mqtt.Ack{Type: mqtt.PUBREC, PacketID: p.PacketID}).Append(b.toBroker, s.broker.version)
	}
	return nil, nil
}

// subscribed puts the broker's answer together with ours.
func (s *session) subscribed(p *mqtt.SubAck, b *batch) error {
	s.mu.Lock()
	sub := s.subscriptions[p.PacketID]
	delete(s.subscriptions, p.PacketID)
	s.mu.Unlock()
	if sub == nil || (sub.kind == mqtt.SUBSCRIBE) != (p.Type == mqtt.SUBACK) {
		return mqtt.ErrPacketID
	}
	out := mqtt.SubAck{Type: p.Type, PacketID: p.PacketID, Reasons: sub.reasons}
	if s.same {
		out.Properties = p.Properties
	}
	if p.Type == mqtt.SUBACK || s.broker.version == mqtt.V5 {
		next := 0
		for i := range out.Reasons {
			if out.Reasons[i] != forwarded {
				continue
			}
			if next == len(p.Reasons) {
				return mqtt.ErrShort // [MQTT-3.8.4-6]
			}
			out.Reasons[i] = p.Reasons[next]
			next++
		}
		if next != len(p.Reasons) {
			return mqtt.ErrTrailing
		}
	}
	before := len(b.toDevice)
	if b.toDevice = out.Append(b.toDevice, s.device.version); len(b.toDevice)-before > s.device.limit {
		out.Properties.Reset() // [MQTT-3.9.2-1]
		b.toDevice = out.Append(b.toDevice[:before], s.device.version)
	}
	return nil
}
