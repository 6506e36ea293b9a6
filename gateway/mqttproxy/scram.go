package mqttproxy

import (
	"bytes"
	"errors"
	"time"

	"fieldgate"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// authenticate holds the enhanced authentication that a CONNECT asks for (MQTT 5 §4.12), and gives the CONNECT, whose buffer is used again
// meanwhile, who sends it and the gateway's proof; nil: it was refused.
func (a *arrival) authenticate(connect *mqtt.Connect) (again *mqtt.Connect, caller *pipeline.Caller, proof []byte) {
	if string(connect.Properties.Text(mqtt.AuthenticationMethod)) != mqttexchange.ScramMethod || a.brokers.settings.PassThrough { // a proof is nothing to pass on
		a.mqtt.Refuse(mqtt.BadAuthenticationMethod, "") // [MQTT-4.12.0-1]
		return nil, nil, nil
	}
	message := connect.Properties.Text(mqtt.AuthenticationData)
	packet := connect.Append(nil)
	_, head, err := mqtt.ReadHeader(packet)
	again = new(mqtt.Connect)
	if err != nil || again.Decode(packet[head:]) != nil {
		a.mqtt.Refuse(mqtt.MalformedPacket, "")
		return nil, nil, nil
	}
	var e mqttexchange.Scram
	for {
		step, err := scramStep(&e, a.proxy.pipeline, message)
		switch {
		case errors.Is(err, mqttexchange.ErrNoVerifier):
			a.mqtt.Refuse(mqtt.BadAuthenticationMethod, "")
			return nil, nil, nil
		case err == nil && step.caller != nil && again.Username != nil && !bytes.Equal(again.Username, []byte(step.caller.ID)):
			err = mqttexchange.ErrScram
		}
		var problem *fieldgate.Problem
		if errors.As(err, &problem) {
			a.record(problem)
			a.refuse(problem)
			return nil, nil, nil
		}
		if step.caller != nil {
			return again, step.caller, step.answer
		}
		a.mqtt.Challenge(step.answer)
		a.conn.SetWriteDeadline(time.Now().Add(a.proxy.config.ConnectTimeout))
		if _, err := a.conn.Write(a.mqtt.Out(nil, time.Now())); err != nil {
			return nil, nil, nil
		}
		in := a.next(mqtt.AuthReceived)
		if in == nil {
			return nil, nil, nil
		}
		message = in.Auth.Properties.Text(mqtt.AuthenticationData)
	}
}

// scramAnswer is the gateway's to a message of a client: another challenge or, with a caller, the proof that ends it.
type scramAnswer struct {
	caller *pipeline.Caller
	answer []byte
}

// scramStep takes a message of a client's. An error is ErrNoVerifier or a *fieldgate.Problem.
func scramStep(e *mqttexchange.Scram, p *pipeline.Pipeline, message []byte) (scramAnswer, error) {
	switch {
	case message == nil && !e.Began(): // it wants to be asked for its first message
		return scramAnswer{}, nil
	case !e.Began():
		answer, err := e.First(p.Directory, string(message))
		if err != nil && !errors.Is(err, mqttexchange.ErrNoVerifier) {
			err = mqttexchange.ErrScram
		}
		return scramAnswer{answer: []byte(answer)}, err
	}
	caller, proof := e.Final(p, string(message))
	if caller == nil {
		return scramAnswer{}, mqttexchange.ErrScram
	}
	if problem := p.Valid(caller); problem != nil {
		return scramAnswer{}, problem
	}
	return scramAnswer{caller, []byte(proof)}, nil
}

// authReceived lets a device that came with an enhanced authentication show itself again (MQTT 5 §4.12.1). The broker has no part in it.
func (s *session) authReceived(p *mqtt.Disconnect, b *batch) (*farewell, error) {
	switch {
	case !s.enhanced:
		return nil, mqtt.ErrAuthNotExpected
	case string(p.Properties.Text(mqtt.AuthenticationMethod)) != mqttexchange.ScramMethod:
		return nil, mqtt.ErrAuthOtherMethod // [MQTT-4.12.1-1]
	case p.Reason == mqtt.Reauthenticate && s.scram == nil:
		s.scram = new(mqttexchange.Scram)
	case p.Reason != mqtt.ContinueAuthentication || s.scram == nil:
		return nil, mqtt.ErrAuthReason
	}
	step, err := scramStep(s.scram, s.proxy.pipeline, p.Properties.Text(mqtt.AuthenticationData))
	if owner := s.who(); err != nil || step.caller != nil && (step.caller.Kind != owner.Kind || step.caller.ID != owner.ID) { // a session changes its credential, never its owner
		var problem *fieldgate.Problem
		if errors.As(err, &problem) {
			s.proxy.pipeline.Malformed(&pipeline.Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodOther, Source: s.source, Caller: owner, ClientID: s.client}, problem)
		}
		return &farewell{reason: mqtt.NotAuthorized}, nil // [MQTT-4.12.1-2]
	}
	answer := mqtt.Disconnect{Type: mqtt.AUTH, Reason: mqtt.ContinueAuthentication}
	if step.caller != nil {
		s.caller.Store(step.caller)
		s.scram, answer.Reason = nil, mqtt.Success
	}
	answer.Properties.SetText(mqtt.AuthenticationMethod, []byte(mqttexchange.ScramMethod))
	if step.answer != nil {
		answer.Properties.SetText(mqtt.AuthenticationData, step.answer)
	}
	b.toDevice = answer.Append(b.toDevice, mqtt.V5)
	return nil, nil
}
