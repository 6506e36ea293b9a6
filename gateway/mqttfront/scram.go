package mqttfront

import (
	"bytes"
	"errors"
	"time"

	"fieldgate"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// authentication is an enhanced authentication under way.
type authentication struct {
	mqttexchange.Scram
	connect []byte // the CONNECT's body, to be decided about at the end; nil: the client authenticates itself again
}

// authenticate begins with a CONNECT that names an authentication method, or with an AUTH that asks for it again.
func (c *connection) authenticate(p *mqtt.Connect, now time.Time) {
	if string(p.Properties.Text(mqtt.AuthenticationMethod)) != mqttexchange.ScramMethod {
		c.refuseReason(mqtt.BadAuthenticationMethod, "") // [MQTT-4.12.0-1]
		return
	}
	packet := p.Append(nil)
	_, size, err := mqtt.ReadHeader(packet)
	if err != nil {
		c.refuseReason(mqtt.MalformedPacket, "")
		return
	}
	c.need().scram = &authentication{connect: packet[size:]}
	c.scramStep(p.Properties.Text(mqtt.AuthenticationData), now)
}

// authReceived goes on with an authentication or begins another one.
func (c *connection) authReceived(p *mqtt.Disconnect, now time.Time) {
	if p.Reason == mqtt.Reauthenticate {
		c.need().scram = &authentication{}
	}
	c.scramStep(p.Properties.Text(mqtt.AuthenticationData), now)
}

// scramStep takes a message of the client's and answers it.
func (c *connection) scramStep(message []byte, now time.Time) {
	e := c.had().scram
	switch {
	case message == nil && !e.Began(): // it wants to be asked for its first message
		c.challenge(nil)
	case !e.Began():
		answer, err := e.First(c.front().pipeline.Directory, string(message))
		switch {
		case errors.Is(err, mqttexchange.ErrNoVerifier):
			c.scramFailed(mqtt.BadAuthenticationMethod, nil)
		case err != nil:
			c.scramFailed(mqtt.NotAuthorized, mqttexchange.ErrScram)
		default:
			c.challenge([]byte(answer))
		}
	default:
		caller, proof := e.Final(c.front().pipeline, string(message))
		if caller == nil {
			c.scramFailed(mqtt.NotAuthorized, mqttexchange.ErrScram)
			return
		}
		caller.OnRamp = c.listener.Terms.OnRamp
		if problem := c.front().pipeline.Valid(caller); problem != nil {
			c.scramFailed(mqtt.NotAuthorized, problem)
			return
		}
		c.scramPassed(caller, []byte(proof), now)
	}
}

func (c *connection) challenge(data []byte) {
	c.mu.Lock()
	c.mqtt.Challenge(data)
	c.mu.Unlock()
}

// scramPassed goes on with the CONNECT, or with a session whose client has shown itself again.
func (c *connection) scramPassed(caller *pipeline.Caller, proof []byte, now time.Time) {
	e := c.had().scram
	c.needs.scram = nil
	if e.connect != nil {
		var connect mqtt.Connect
		if err := connect.Decode(e.connect); err != nil {
			c.refuseReason(mqtt.MalformedPacket, "")
			return
		}
		if connect.Username != nil && !bytes.Equal(connect.Username, []byte(caller.ID)) {
			c.scramRefused(mqttexchange.ErrScram)
			return
		}
		if c.caller != nil && c.caller.Ref != caller.Ref { // the connection's certificate is of another device
			c.scramRefused(mqttexchange.ErrScram)
			return
		}
		c.caller = caller
		c.begin(&connect, proof, now)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if caller.Kind != c.caller.Kind || caller.ID != c.caller.ID { // a session changes its credential, never its owner
		c.end(mqtt.NotAuthorized)
		return
	}
	c.caller = caller
	c.mqtt.Reauthenticated(proof)
}

// scramFailed ends the connection. problem is recorded, unless it is nil.
func (c *connection) scramFailed(reason mqtt.Reason, problem *fieldgate.Problem) {
	e := c.had().scram
	c.needs.scram = nil
	if problem != nil && e.connect != nil {
		c.scramRefused(problem)
		return
	}
	if problem != nil {
		c.recordRefusal(problem)
	}
	if e.connect != nil {
		c.refuseReason(reason, "")
		return
	}
	c.mu.Lock()
	c.end(reason)
	c.mu.Unlock()
}

func (c *connection) scramRefused(problem *fieldgate.Problem) {
	c.recordRefusal(problem)
	c.refuse(problem)
}
