package mqttproxy

import (
	"bytes"
	"math"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

const (
	maxRefused       = 1024 // QoS 2 messages that were answered here and wait for their PUBREL
	maxSubscriptions = 64   // SUBSCRIBE and UNSUBSCRIBE under way at the broker
	maxCommands      = 64   // messages with an idempotency key that the broker has not acknowledged
)

// devicePacket handles one packet of the device; nil: the session goes on.
func (s *session) devicePacket(h mqtt.Header, body, whole []byte, b *batch) *farewell {
	if bye, err := s.takePacket(h, body, whole, b); err != nil {
		f := s.broken(err)
		return &f
	} else {
		return bye
	}
}

// takePacket fails if the packet breaks the protocol.
func (s *session) takePacket(h mqtt.Header, body, whole []byte, b *batch) (*farewell, error) {
	v := s.device.version
	switch h.Type {
	case mqtt.PUBLISH:
		return s.publish(h, body, whole, b)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		ack := &b.ack
		if err := ack.Decode(h.Type, body, v); err != nil {
			return nil, err
		}
		if h.Type == mqtt.PUBREL {
			if _, here := s.refused[ack.PacketID]; here {
				delete(s.refused, ack.PacketID)
				b.toDevice = (&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: ack.PacketID}).Append(b.toDevice, v)
				return nil, nil
			}
		} else if s.window != nil && (h.Type != mqtt.PUBREC || ack.Reason.Failed()) {
			s.window.acknowledged(ack.PacketID)
		}
		b.toBroker = s.appendAck(b.toBroker, ack, whole, s.broker.version)
	case mqtt.SUBSCRIBE:
		p := &b.subscribe
		if err := p.Decode(body, v, s.proxy.config.Limits.FiltersPerPacket); err != nil {
			return nil, err
		}
		return nil, s.subscribe(p, whole, b)
	case mqtt.UNSUBSCRIBE:
		p := &b.unsubscribe
		if err := p.Decode(body, v, s.proxy.config.Limits.FiltersPerPacket); err != nil {
			return nil, err
		}
		return nil, s.unsubscribe(p, whole, b)
	case mqtt.PINGREQ:
		if len(body) > 0 {
			return nil, mqtt.ErrTrailing
		}
		b.toDevice = append(b.toDevice, byte(mqtt.PINGRESP)<<4, 0) // [MQTT-3.12.4-1]
	case mqtt.DISCONNECT:
		p := &b.disconnect
		if err := p.Decode(mqtt.DISCONNECT, body, v); err != nil {
			return nil, err
		}
		if s.expiryFixed && p.Properties.Number(mqtt.SessionExpiryInterval) > 0 { // §3.14.2.2.2
			return nil, mqtt.ErrSessionExpiry
		}
		s.leaving.Store(true)
		switch {
		case s.same:
			b.toBroker = append(b.toBroker, whole...)
		case p.Reason == mqtt.DisconnectWithWill: // 3.1.1 says it by saying nothing
		default:
			if !p.Properties.Empty() {
				s.proxy.Counters.PropertiesDropped.Add(1)
			}
			b.toBroker = (&mqtt.Disconnect{Type: mqtt.DISCONNECT}).Append(b.toBroker, s.broker.version)
		}
		return &farewell{}, nil
	case mqtt.AUTH:
		p := &b.disconnect
		if err := p.Decode(mqtt.AUTH, body, v); err != nil {
			return nil, err
		}
		return s.authReceived(p, b)
	case mqtt.CONNECT:
		return nil, mqtt.ErrSecondConnect
	default:
		return nil, mqtt.ErrDirection
	}
	return nil, nil
}

// appendAck appends an acknowledgement as the other side says it.
func (s *session) appendAck(dst []byte, ack *mqtt.Ack, whole []byte, v mqtt.Version) []byte {
	if s.same {
		return append(dst, whole...)
	}
	if !ack.Properties.Empty() {
		s.proxy.Counters.PropertiesDropped.Add(1)
	}
	return (&mqtt.Ack{Type: ack.Type, PacketID: ack.PacketID}).Append(dst, v)
}

// publishing is a PUBLISH on its way through the pipeline.
type publishing struct {
	pipeline.Exchange
	topic       []byte
	contentType []byte
}

var publishings = sync.Pool{New: func() any { return new(publishing) }}

// release gives the memory back; the exchange is finished and nobody looks at it any more.
func (x *publishing) release() {
	*x = publishing{topic: x.topic, contentType: x.contentType}
	publishings.Put(x)
}

var (
	errTooLarge = fieldgate.NewProblem(fieldgate.ProblemTooLarge, "The broker takes no packets of this size.")
	errCommands = fieldgate.NewProblem(fieldgate.ProblemOverloaded, "Too many commands are under way.")
	errNotTaken = fieldgate.NewProblem(fieldgate.ProblemUpstreamUnreachable, "The broker did not take the message.")
)

// publish takes a PUBLISH through the pipeline, and to the broker if it may go there.
func (s *session) publish(h mqtt.Header, body, whole []byte, b *batch) (*farewell, error) {
	p := &b.publish
	if err := p.Decode(h.Flags, body, s.device.version); err != nil {
		return nil, err
	}
	if len(p.Properties.SubscriptionIDs) > 0 {
		return nil, mqtt.ErrSubscriptionID
	}
	aliased, err := s.deviceAliases.Resolve(p, s.proxy.config.Limits.TopicAliasMaximum)
	if err != nil {
		return nil, err
	}
	if _, here := s.refused[p.PacketID]; here && p.QoS == 2 { // it was answered here, and that counts until its PUBREL
		s.acknowledge(p, mqtt.Success, "", b)
		return nil, nil
	}
	s.proxy.Counters.Published.Add(1)
	x := publishings.Get().(*publishing)
	problem := s.ask(x, p)
	before := len(b.toBroker)
	if problem == nil && !x.Answered() {
		b.toBroker = s.appendPublish(b.toBroker, p, whole, aliased, x.Operation.MaxExpiry)
		if len(b.toBroker)-before > s.broker.limit {
			b.toBroker = b.toBroker[:before]
			problem = errTooLarge
			x.Fail(problem)
		}
	}
	if problem == nil && !x.Answered() {
		x.Answer.Status = 204
		if s.keepCommand(x, p) {
			return nil, nil
		}
	}
	var bye *farewell
	switch {
	case problem != nil:
		s.proxy.Counters.Denied.Add(problem.Code)
		s.proxy.pipeline.Attribute(&x.Exchange)
		bye = s.deny(p, problem, b)
	case x.Answered(): // it was heard before
		s.acknowledge(p, mqtt.Success, "", b)
	}
	s.proxy.pipeline.Finish(&x.Exchange)
	x.release()
	return bye, s.checkRefused()
}

// ask takes a message through the stages.
func (s *session) ask(x *publishing, p *mqtt.Publish) *fieldgate.Problem {
	x.topic = append(x.topic[:0], p.Topic...) // parameters are views of it
	x.contentType = append(x.contentType[:0], p.Properties.Text(mqtt.ContentType)...)
	x.Protocol, x.Method, x.Source, x.Caller, x.ClientID = fieldgate.ProtocolMQTT, fieldgate.MethodPublish, s.source, s.who(), s.client
	x.Path, x.ContentType, x.QoS, x.Retain, x.Started, x.Grants, x.Place = x.topic, x.contentType, p.QoS, p.Retain, time.Now(), &s.grants, &s.place
	if problem := mqttexchange.Ask(s.proxy.pipeline, &x.Exchange, p); problem != nil {
		return problem
	}
	if x.Operation.Calls() {
		x.Fail(errService)
		return errService
	}
	if s.isCommand(x) && p.QoS > 0 && s.openCommands() >= maxCommands {
		x.Fail(errCommands)
		return errCommands
	}
	return nil
}

// appendPublish appends a message as the broker gets it.
func (s *session) appendPublish(dst []byte, p *mqtt.Publish, whole []byte, aliased bool, maxExpiry time.Duration) []byte {
	bounded := s.broker.version == mqtt.V5 && maxExpiry > 0
	if s.same && !aliased && len(s.prefix) == 0 && !bounded {
		return append(dst, whole...)
	}
	out := *p
	if bounded {
		boundExpiry(&out.Properties, maxExpiry)
	}
	if len(s.prefix) > 0 {
		s.outTopic = s.outward(s.outTopic[:0], p.Topic)
		out.Topic = s.outTopic
	}
	if topic := p.Properties.Text(mqtt.ResponseTopic); topic != nil {
		out.Properties.SetText(mqtt.ResponseTopic, s.outward(nil, topic))
	}
	if !s.same && !p.Properties.Empty() {
		s.proxy.Counters.PropertiesDropped.Add(1)
	}
	return out.Append(dst, s.broker.version)
}

// boundExpiry lets a message expire when its contract says, at the latest.
func boundExpiry(properties *mqtt.Properties, most time.Duration) {
	seconds := uint32(min((most+time.Second-1)/time.Second, math.MaxUint32))
	if properties.Has(mqtt.MessageExpiryInterval) {
		seconds = min(seconds, properties.Number(mqtt.MessageExpiryInterval))
	}
	properties.SetNumber(mqtt.MessageExpiryInterval, seconds)
}

// deny answers a PUBLISH that does not go to the broker. A 3.1.1 device cannot be told of a refusal: its message is acknowledged and dropped,
// unless it was not refused but failed, so that sending it again may help; then the connection ends without an acknowledgement.
func (s *session) deny(p *mqtt.Publish, problem *fieldgate.Problem, b *batch) *farewell {
	switch {
	case s.device.version == mqtt.V311 && s.proxy.config.DisconnectDenied && !mqttexchange.HasFailed(problem.Code):
		return &farewell{reason: mqttexchange.Reason(problem.Code)}
	case p.QoS == 0: // there is no answer but the Record
	case p.QoS == 2 && p.Dup && (problem.Code == fieldgate.ProblemRateLimited || mqttexchange.HasFailed(problem.Code)):
		// The broker may have this message from an earlier connection, and know its identifier. It is to be sent again, later.
		return &farewell{reason: mqtt.QuotaExceeded, text: problem.Detail}
	case s.device.version == mqtt.V5:
		s.acknowledge(p, mqttexchange.Reason(problem.Code), problem.Detail, b)
	case mqttexchange.HasFailed(problem.Code):
		return &farewell{reason: mqtt.ServerBusy}
	default:
		s.acknowledge(p, mqtt.Success, "", b)
	}
	return nil
}

// acknowledge answers a PUBLISH here.
func (s *session) acknowledge(p *mqtt.Publish, reason mqtt.Reason, text string, b *batch) {
	if p.QoS == 0 {
		return
	}
	ack := mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID, Reason: reason}
	if p.QoS == 2 {
		ack.Type = mqtt.PUBREC
		if !reason.Failed() { // a failure ends it (§4.3.3)
			if s.refused == nil {
				s.refused = make(map[uint16]struct{})
			}
			s.refused[p.PacketID] = struct{}{}
		}
	}
	before := len(b.toDevice)
	if text != "" && !s.noReasons {
		ack.Properties.SetText(mqtt.ReasonString, []byte(text))
	}
	if b.toDevice = ack.Append(b.toDevice, s.device.version); len(b.toDevice)-before > s.device.limit { // [MQTT-3.4.2-2]
		b.toDevice = (&mqtt.Ack{Type: ack.Type, PacketID: ack.PacketID, Reason: reason}).Append(b.toDevice[:before], s.device.version)
	}
}

func (s *session) checkRefused() error {
	if len(s.refused) > maxRefused {
		return mqtt.ErrReceiveMaximum
	}
	return nil
}

// isCommand says whether the message has a key by which it is carried out once. Whether it was is known when the broker has it.
func (s *session) isCommand(x *publishing) bool {
	return x.Operation.Policies != nil && x.Operation.Policies.Idempotency != nil
}

func (s *session) openCommands() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.commands)
}

// keepCommand keeps the exchange of a command until the broker has acknowledged it: a repetition is not to be taken for done before.
func (s *session) keepCommand(x *publishing, p *mqtt.Publish) bool {
	if p.QoS == 0 || !s.isCommand(x) {
		return false
	}
	x.Body, x.Place, x.Grants = nil, nil, nil // of this goroutine
	s.mu.Lock()
	if s.commands == nil {
		s.commands = make(map[uint16]*publishing)
	}
	before := s.commands[p.PacketID]
	s.commands[p.PacketID] = x
	s.mu.Unlock()
	s.finishCommand(before, errNotTaken)
	return true
}

// commandAnswered finishes the exchange of a command that the broker has answered.
func (s *session) commandAnswered(id uint16, reason mqtt.Reason) {
	s.mu.Lock()
	x := s.commands[id]
	delete(s.commands, id)
	s.mu.Unlock()
	if reason.Failed() {
		s.finishCommand(x, errNotTaken)
		return
	}
	s.finishCommand(x, nil)
}

// dropCommands finishes those that the broker has not acknowledged.
func (s *session) dropCommands() {
	for _, x := range s.commands {
		s.finishCommand(x, errNotTaken)
	}
}

func (s *session) finishCommand(x *publishing, problem *fieldgate.Problem) {
	if x == nil {
		return
	}
	if problem != nil {
		x.Fail(problem)
	}
	s.proxy.pipeline.Finish(&x.Exchange)
	x.release()
}

// subscribing is a SUBSCRIBE or UNSUBSCRIBE under way at the broker.
type subscribing struct {
	kind    mqtt.PacketType
	reasons []mqtt.Reason // by filter: those that are answered here; forwarded: the broker's
}

const forwarded = mqtt.Success

// subscribe asks about a SUBSCRIBE filter by filter. The broker gets those that may be heard, and its answer is put together with ours.
func (s *session) subscribe(p *mqtt.Subscribe, whole []byte, b *batch) error {
	reasons := make([]mqtt.Reason, len(p.Filters))
	out := mqtt.Subscribe{PacketID: p.PacketID, Properties: p.Properties}
	changed := false
	for i := range p.Filters {
		f := p.Filters[i]
		granted, reason := s.admit(&f, !p.Properties.Empty() && len(p.Properties.SubscriptionIDs) > 0)
		if reason.Failed() {
			reasons[i], changed = reason, true
			continue
		}
		changed = changed || granted != f.QoS
		f.QoS, f.Filter = granted, s.outwardFilter(f.Filter)
		out.Filters = append(out.Filters, f)
	}
	if len(out.Filters) == 0 {
		b.toDevice = (&mqtt.SubAck{Type: mqtt.SUBACK, PacketID: p.PacketID, Reasons: reasons}).Append(b.toDevice, s.device.version)
		return nil
	}
	if err := s.await(p.PacketID, &subscribing{mqtt.SUBSCRIBE, reasons}); err != nil {
		return err
	}
	if s.same && !changed && len(s.prefix) == 0 {
		b.toBroker = append(b.toBroker, whole...)
		return nil
	}
	if !s.same && !p.Properties.Empty() {
		s.proxy.Counters.PropertiesDropped.Add(1)
	}
	b.toBroker = out.Append(b.toBroker, s.broker.version)
	return nil
}

// admit asks about one filter.
func (s *session) admit(f *mqtt.Filter, identified bool) (granted byte, reason mqtt.Reason) {
	if !mqtt.ValidFilter(f.Filter) || len(f.Filter) > fieldgate.MaxPathBytes {
		return 0, mqtt.TopicFilterInvalid
	}
	group, levels := mqtt.SplitShare(f.Filter)
	if s.device.version == mqtt.V5 && s.broker.version == mqtt.V311 {
		switch { // what 3.1.1 has no word for is not promised
		case group != nil:
			return 0, mqtt.SharedSubsNotSupported
		case identified:
			return 0, mqtt.SubscriptionIDsNotSupported
		case f.NoLocal, f.RetainAsPublished, f.RetainHandling != 0:
			return 0, mqtt.ImplementationSpecificError
		}
	}
	x := s.subscription(bytes.Clone(levels))
	highest, problem := s.proxy.pipeline.Subscribe(x)
	s.proxy.pipeline.Finish(x)
	if problem != nil {
		s.proxy.Counters.Denied.Add(problem.Code)
		return 0, mqttexchange.SubscribeReason(problem.Code)
	}
	return min(f.QoS, highest), mqtt.Success
}

// await notes what goes to the broker, which answers it later.
func (s *session) await(id uint16, sub *subscribing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subscriptions[id] != nil {
		return mqtt.ErrPacketIDInUse
	}
	if len(s.subscriptions) >= maxSubscriptions {
		return mqtt.ErrReceiveMaximum
	}
	if s.subscriptions == nil {
		s.subscriptions = make(map[uint16]*subscribing)
	}
	s.subscriptions[id] = sub
	return nil
}

// unsubscribe passes an UNSUBSCRIBE on: nobody is kept from hearing less.
func (s *session) unsubscribe(p *mqtt.Unsubscribe, whole []byte, b *batch) error {
	if err := s.await(p.PacketID, &subscribing{mqtt.UNSUBSCRIBE, make([]mqtt.Reason, len(p.Filters))}); err != nil {
		return err
	}
	if s.same && len(s.prefix) == 0 {
		b.toBroker = append(b.toBroker, whole...)
		return nil
	}
	out := mqtt.Unsubscribe{PacketID: p.PacketID, Properties: p.Properties}
	for _, filter := range p.Filters {
		out.Filters = append(out.Filters, s.outwardFilter(filter))
	}
	if !s.same && !p.Properties.Empty() {
		s.proxy.Counters.PropertiesDropped.Add(1)
	}
	b.toBroker = out.Append(b.toBroker, s.broker.version)
	return nil
}
