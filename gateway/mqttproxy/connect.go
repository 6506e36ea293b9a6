package mqttproxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"fieldgate"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/socket"
	"fieldgate/protocol/mqtt"
)

const (
	maxClientID = 256 // bytes, as the broker sees it
	// mostKeepAlive is the longest silence towards the broker, in seconds, so that a dead connection is noticed.
	mostKeepAlive = 300
)

var errService = fieldgate.NewProblem(fieldgate.ProblemMethodNotAllowed, "A service carries this operation out, not the broker behind this listener: publish it at the gateway's own MQTT listener.")

// arrival is a device's connection before it has a session.
type arrival struct {
	proxy   *Proxy
	brokers *brokers // as the settings were when it came
	conn    net.Conn
	source  netip.AddrPort
	in      packets
	mqtt    *mqtt.Conn // writes refusals
	caller  *pipeline.Caller
	client  string
	proof   []byte // that ends an enhanced authentication; nil: there was none
}

// serve is a device's goroutine.
func (p *Proxy) serve(conn net.Conn, source netip.AddrPort, proxies []netip.Prefix) {
	a := &arrival{proxy: p, brokers: p.brokers.Load(), conn: conn, source: source, mqtt: mqtt.NewConn(&p.config.Limits)}
	a.in = packets{conn: conn, limit: p.config.Limits.ConnectSize}
	conn.SetReadDeadline(time.Now().Add(p.config.ConnectTimeout))
	var s *session
	if a.enter(proxies) {
		s = a.connect()
	}
	p.mu.Lock()
	delete(p.open, conn)
	p.mu.Unlock()
	if s != nil {
		s.run()
	} else {
		p.Counters.Refused.Add(1)
		conn.SetWriteDeadline(time.Now().Add(lastWords))
		conn.Write(a.mqtt.Out(nil, time.Now())) // the refusal, if there is one
		finish(conn)
	}
	p.Counters.Connections.Add(-1)
}

// enter does what comes before MQTT, in the time that there is for the CONNECT, and says whether the connection goes on.
func (a *arrival) enter(proxies []netip.Prefix) bool {
	if len(proxies) > 0 {
		var err error
		if a.source, err = socket.ReadProxyHeader(a.conn, a.source, proxies); err != nil {
			var problem *fieldgate.Problem
			if errors.As(err, &problem) { // otherwise it said nothing
				a.record(problem)
			}
			return false
		}
	}
	secured, ok := a.conn.(*tls.Conn)
	return !ok || secured.Handshake() == nil
}

// connect reads the CONNECT and decides about it; nil: it was refused.
func (a *arrival) connect() *session {
	p := a.proxy
	in := a.next(mqtt.ConnectReceived)
	if in == nil {
		return nil
	}
	connect := &in.Connect
	if connect.Properties.Has(mqtt.AuthenticationMethod) {
		if connect, a.caller, a.proof = a.authenticate(connect); connect == nil {
			return nil
		}
	} else {
		var problem *fieldgate.Problem
		if a.caller, problem = p.pipeline.Identify(connect.Username, connect.Password); problem != nil {
			a.record(problem)
			return a.refuse(problem)
		}
	}
	assigned := len(connect.ClientID) == 0
	if a.client = string(connect.ClientID); assigned {
		a.client = newClientID()
	}
	mapped := a.brokers.settings.mapClient(a.client, a.caller)
	if len(mapped) > maxClientID || !a.ownsClientID() {
		a.mqtt.Refuse(mqtt.ClientIdentifierNotValid, "")
		return nil
	}
	if connect.HasWill {
		if problem := a.checkWill(connect); problem != nil {
			p.Counters.Denied.Add(problem.Code)
			return a.refuse(problem)
		}
	}
	s := newSession(a, mapped, connect)
	if reason := p.enter(s); reason != mqtt.Success {
		a.mqtt.Refuse(reason, "")
		return nil
	}
	if !s.open(a, connect, assigned) {
		p.leave(s)
		return nil
	}
	return s
}

// next waits for a packet of this kind, CONNECT or AUTH; nil: it was none, or the connection has ended. What it holds are views of the
// connection's buffer.
func (a *arrival) next(want mqtt.Event) *mqtt.Packets {
	for {
		h, _, whole, err := a.in.next()
		switch {
		case whole == nil && err == nil && (h.Type == 0 || h.Type == mqtt.CONNECT || want == mqtt.AuthReceived):
			if a.in.receive() != nil {
				return nil
			}
			continue
		case whole == nil: // the state machine says what is wrong with it
			whole = a.in.buffer[a.in.start:a.in.end]
		}
		in := new(mqtt.Packets)
		a.mqtt.Feed(whole)
		if event, err := a.mqtt.Next(time.Now(), in); err != nil || event != want {
			a.malformed(err)
			return nil
		}
		return in
	}
}

func (a *arrival) malformed(err error) {
	var broken *mqtt.Error
	if errors.As(err, &broken) {
		a.proxy.Counters.Malformed.Add(1)
		a.record(&fieldgate.Problem{Code: fieldgate.ProblemBadRequest, Detail: broken.Error()})
	}
}

func (a *arrival) refuse(problem *fieldgate.Problem) *session {
	a.mqtt.Refuse(mqttexchange.ConnectReason(problem.Code), problem.Detail)
	return nil
}

// record leaves a Record of what was refused before an exchange could begin.
func (a *arrival) record(problem *fieldgate.Problem) {
	a.proxy.pipeline.Malformed(&pipeline.Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodConnect, Source: a.source, Caller: a.caller, ClientID: a.client}, problem)
}

// ownsClientID says whether the client may call itself so: by the id of another device it would get at that one's session. Where the broker
// sees the caller, too, it may.
func (a *arrival) ownsClientID() bool {
	if a.brokers.settings.tellsApart() {
		return true
	}
	device := a.proxy.pipeline.Directory.Find(fieldgate.PrincipalDevice, a.client)
	return device == 0 || device == a.caller.Ref
}

// checkWill asks whether the will may be published. The broker publishes it: there is nobody to ask later.
func (a *arrival) checkWill(connect *mqtt.Connect) *fieldgate.Problem {
	p := a.proxy
	x := &pipeline.Exchange{
		Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodPublish, Source: a.source, Caller: a.caller, ClientID: a.client,
		Path: connect.WillTopic, ContentType: connect.WillProperties.Text(mqtt.ContentType), QoS: connect.WillQoS, Retain: connect.WillRetain,
	}
	problem := p.pipeline.Begin(x)
	if problem == nil {
		x.Body = connect.WillPayload
		if problem = p.pipeline.Check(x); problem == nil {
			problem = mqttexchange.CheckMessage(x, connect.WillProperties.Number(mqtt.PayloadFormatIndicator) == 1)
		}
	}
	if problem == nil && x.Operation.Calls() {
		problem = errService
		x.Fail(problem)
	}
	if problem == nil && connect.Version == mqtt.V5 && x.Operation.MaxExpiry > 0 {
		boundExpiry(&connect.WillProperties, x.Operation.MaxExpiry)
	}
	if problem != nil { // consent leaves no Record: nothing has been published
		p.pipeline.Finish(x)
	}
	return problem
}

// open connects the session to a broker and answers the CONNECT; no: it was refused.
func (s *session) open(a *arrival, connect *mqtt.Connect, assigned bool) bool {
	p := s.proxy
	upstream := s.translateConnect(connect)
	one, conn, in, ack, version, err := s.brokers.open(p.ctx, s.mapped, upstream)
	if err != nil {
		a.mqtt.Refuse(mqtt.ServerUnavailable, "")
		return false
	}
	s.at, s.broker.conn, s.broker.version, s.fromBroker = one, conn, version, *in
	s.same = s.device.version == version
	if ack.Reason != mqtt.Success {
		a.mqtt.Refuse(s.reasonOfRefusal(ack.Reason), "")
		s.abandon()
		return false
	}
	if ack.Properties.Has(mqtt.MaximumPacketSize) {
		s.broker.limit = int(ack.Properties.Number(mqtt.MaximumPacketSize))
	}
	answer := s.translateConnack(connect, ack, assigned)
	s.keepAlive = time.Duration(connect.KeepAlive) * time.Second
	s.pingEvery = time.Duration(upstream.KeepAlive) * time.Second
	if ack.Properties.Has(mqtt.ServerKeepAlive) { // [MQTT-3.1.2-21]
		keepAlive := time.Duration(ack.Properties.Number(mqtt.ServerKeepAlive)) * time.Second
		s.pingEvery = keepAlive
		if version == s.device.version {
			s.keepAlive = keepAlive
		}
	}
	if version == mqtt.V311 && s.device.version == mqtt.V5 && connect.Properties.Has(mqtt.ReceiveMaximum) {
		s.window = newWindow(int(connect.Properties.Number(mqtt.ReceiveMaximum)), p.config.Limits.OutSize)
	}
	s.fromDevice = a.in
	s.fromDevice.limit = p.config.Limits.PacketSize
	s.broker.wrote.Store(time.Now().UnixNano())
	if s.device.write(answer.Append(nil, s.device.version), p.config.WriteTimeout) != nil {
		s.abandon()
		return false
	}
	if problem := p.pipeline.Valid(s.who()); problem != nil { // what changed between Identify and enter found no session to end
		s.end(farewell{reason: mqtt.NotAuthorized, goodbye: true})
	}
	if s.concerned(p.brokers.Load()) { // nor other settings
		s.end(farewell{reason: mqtt.ServerShuttingDown})
	}
	s.begin()
	return true
}

// abandon gives up the broker before the session runs.
func (s *session) abandon() {
	s.broker.conn.Close()
	s.at.closed()
}

// reasonOfRefusal is what a device is told when the broker refuses it. Of credentials that are not its own it knows nothing.
func (s *session) reasonOfRefusal(reason mqtt.Reason) mqtt.Reason {
	switch reason {
	case mqtt.BadUserNameOrPassword, mqtt.NotAuthorized, mqtt.BadAuthenticationMethod:
		if !s.brokers.settings.PassThrough {
			s.proxy.logger.Warn("an MQTT broker refuses a client", "address", s.at.name, "client", s.mapped, "reason", reason.String())
			return mqtt.ServerUnavailable
		}
	case mqtt.UnsupportedProtocolVersion: // of what the device speaks nothing is wrong
		return mqtt.ServerUnavailable
	}
	return reason
}

// translateConnect is the CONNECT that the broker gets, in the device's version.
func (s *session) translateConnect(connect *mqtt.Connect) *mqtt.Connect {
	p := s.proxy
	upstream := *connect
	upstream.ClientID = []byte(s.mapped)
	upstream.KeepAlive = min(connect.KeepAlive, mostKeepAlive)
	if upstream.KeepAlive == 0 {
		upstream.KeepAlive = mostKeepAlive
	}
	upstream.Username, upstream.Password = nil, nil
	upstream.Properties.Delete(mqtt.AuthenticationMethod)
	upstream.Properties.Delete(mqtt.AuthenticationData)
	s.brokers.addCredentials(&upstream, connect, s.who().ID)
	if connect.HasWill {
		upstream.WillTopic = s.outward(nil, connect.WillTopic)
		if topic := connect.WillProperties.Text(mqtt.ResponseTopic); topic != nil {
			upstream.WillProperties.SetText(mqtt.ResponseTopic, s.outward(nil, topic))
		}
	}
	if connect.Version == mqtt.V5 {
		size := uint32(p.config.Limits.PacketSize)
		if connect.Properties.Has(mqtt.MaximumPacketSize) {
			size = min(size, connect.Properties.Number(mqtt.MaximumPacketSize))
		}
		upstream.Properties.SetNumber(mqtt.MaximumPacketSize, size)
		upstream.Properties.SetNumber(mqtt.TopicAliasMaximum, uint32(p.config.Limits.TopicAliasMaximum))
	}
	return &upstream
}

// translateConnack is the CONNACK that the device gets.
func (s *session) translateConnack(connect *mqtt.Connect, ack *mqtt.Connack, assigned bool) *mqtt.Connack {
	limits := &s.proxy.config.Limits
	answer := &mqtt.Connack{SessionPresent: ack.SessionPresent}
	if s.device.version == mqtt.V311 {
		return answer
	}
	properties := &answer.Properties
	receive := uint32(limits.ReceiveMaximum)
	if s.same {
		*properties = ack.Properties
		if ack.Properties.Has(mqtt.ReceiveMaximum) {
			receive = min(receive, ack.Properties.Number(mqtt.ReceiveMaximum))
		}
		properties.Delete(mqtt.ServerReference) // around the gateway
		properties.Delete(mqtt.AssignedClientIdentifier)
		if information := ack.Properties.Text(mqtt.ResponseInformation); information != nil {
			properties.Delete(mqtt.ResponseInformation)
			if inner, ok := bytes.CutPrefix(information, s.prefix); ok && len(inner) > 0 {
				properties.SetText(mqtt.ResponseInformation, inner)
			}
		}
	} else { // what the broker cannot do is said (§3.2.2.3)
		properties.SetNumber(mqtt.SubscriptionIdentifierAvailable, 0)
		properties.SetNumber(mqtt.SharedSubscriptionAvailable, 0)
		if connect.Properties.Number(mqtt.SessionExpiryInterval) > 0 {
			properties.SetNumber(mqtt.SessionExpiryInterval, neverExpires)
		}
		if !connect.Properties.Empty() || !connect.WillProperties.Empty() {
			s.proxy.Counters.PropertiesDropped.Add(1)
		}
	}
	properties.SetNumber(mqtt.ReceiveMaximum, receive)
	properties.SetNumber(mqtt.TopicAliasMaximum, uint32(limits.TopicAliasMaximum))
	properties.SetNumber(mqtt.MaximumPacketSize, uint32(min(limits.PacketSize, s.broker.limit)))
	if s.enhanced { // [MQTT-4.12.0-5]
		properties.SetText(mqtt.AuthenticationMethod, []byte(mqttexchange.ScramMethod))
		properties.SetText(mqtt.AuthenticationData, s.proof)
	}
	if assigned {
		properties.SetText(mqtt.AssignedClientIdentifier, []byte(s.client))
	}
	return answer
}

// neverExpires is how long a 3.1.1 broker keeps a session, as far as it says (MQTT 5 §3.1.2.11.2).
const neverExpires = 0xFFFFFFFF
