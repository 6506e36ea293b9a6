package mqtt

import (
	"bytes"
	"time"
)

func (c *Conn) connectReceived(body []byte, connect *Connect) (Event, error) {
	err := connect.Decode(body)
	c.level = byte(connect.Version)
	if connect.Version == V5 {
		c.version = V5
	}
	if err != nil {
		return 0, err
	}
	p := &connect.Properties
	if p.Has(AuthenticationMethod) {
		c.more().auth = &authentication{method: bytes.Clone(p.Text(AuthenticationMethod))}
	}
	c.keepAlive = connect.KeepAlive
	c.noProblemInfo = p.Has(RequestProblemInformation) && p.Number(RequestProblemInformation) == 0
	c.sessionExpiry0 = p.Number(SessionExpiryInterval) == 0
	c.window = uint16(min(c.limits.SendWindow, maxInFlight))
	if p.Has(ReceiveMaximum) {
		c.window = uint16(min(uint32(c.window), p.Number(ReceiveMaximum)))
	}
	if p.Has(MaximumPacketSize) {
		c.maxSize = int32(min(p.Number(MaximumPacketSize), maxRemaining+5))
	}
	c.aliasMaximum = uint16(min(p.Number(TopicAliasMaximum), uint32(c.limits.SendAliases))) // [MQTT-3.1.2-26] [MQTT-3.1.2-27]
	c.state = deciding
	return ConnectReceived, nil
}

// Acceptance is what a server decides about a CONNECT. Zero values announce nothing.
type Acceptance struct {
	Session             *Session
	SessionPresent      bool
	AssignedClientID    []byte  // for a client that sent none [MQTT-3.1.3-7]
	ServerKeepAlive     uint16  // seconds; replaces a version 5 client's keep alive [MQTT-3.2.2-21]
	SessionExpiry       *uint32 // if it differs from the client's wish, seconds
	ResponseInformation []byte  // for a client that asked [MQTT-3.1.2-28]
	AuthenticationData  []byte  // the end of an enhanced authentication
	User                []Pair
}

// Accept answers the CONNECT, takes the session over and sends again what it holds in flight [MQTT-4.4.0-1].
func (c *Conn) Accept(a Acceptance, now time.Time) {
	ack := Connack{SessionPresent: a.SessionPresent}
	p := &ack.Properties
	if c.version == V5 {
		p.SetNumber(ReceiveMaximum, uint32(c.limits.ReceiveMaximum))
		p.SetNumber(MaximumPacketSize, uint32(c.limits.PacketSize))
		if c.limits.TopicAliasMaximum > 0 {
			p.SetNumber(TopicAliasMaximum, uint32(c.limits.TopicAliasMaximum))
		}
		setText(p, AssignedClientIdentifier, a.AssignedClientID)
		setText(p, ResponseInformation, a.ResponseInformation)
		if auth := c.had().auth; auth != nil { // [MQTT-4.12.0-5] [MQTT-4.12.0-6]
			p.SetText(AuthenticationMethod, auth.method)
			setText(p, AuthenticationData, a.AuthenticationData)
		}
		if a.SessionExpiry != nil {
			p.SetNumber(SessionExpiryInterval, *a.SessionExpiry)
		}
		if a.ServerKeepAlive > 0 {
			p.SetNumber(ServerKeepAlive, uint32(a.ServerKeepAlive))
			c.keepAlive = a.ServerKeepAlive
		}
		p.User = a.User
	}
	before := len(c.out)
	c.out = ack.Append(c.out, c.version)
	if len(c.out)-before > int(c.maxSize) && len(p.User) > 0 { // [MQTT-3.2.2-20]
		p.User = nil
		c.out = ack.Append(c.out[:before], c.version)
	}
	c.session = a.Session
	if len(c.out)-before > int(c.maxSize) { // not even what must be said: nothing is
		c.out = c.out[:before]
		c.Close(PacketTooLarge)
		return
	}
	c.state = connected
	c.lastPacket = now.Sub(started)
	c.receiveQuota = c.limits.ReceiveMaximum
	inflight := c.session.unfinished().inflight
	for i := range inflight {
		inflight[i].sent = false
	}
	c.pump(now)
}

func setText(p *Properties, id PropertyID, text []byte) {
	if text != nil {
		p.SetText(id, text)
	}
}

// Refuse answers the CONNECT with a failure and ends the connection [MQTT-3.2.2-7].
func (c *Conn) Refuse(reason Reason, text string) {
	ack := Connack{Reason: reason}
	if text != "" {
		ack.Properties.SetText(ReasonString, []byte(text))
	}
	c.refuse(&ack)
}

func (c *Conn) refuse(ack *Connack) {
	before := len(c.out)
	c.out = ack.Append(c.out, c.version)
	if len(c.out)-before > int(c.maxSize) { // [MQTT-3.2.2-19]
		c.out = (&Connack{Reason: ack.Reason}).Append(c.out[:before], c.version)
	}
	c.state = closed
	c.input = nil
	c.bound(before)
}

// refuseInvalid answers a first packet that is no valid CONNECT. Only an MQTT client is told anything: one that named a
// protocol level, in the form of the level it named [MQTT-3.1.2-2], and a 3.1.1 client only what its codes can say.
func (c *Conn) refuseInvalid(err error, reason Reason) {
	switch {
	case c.level == 0 || err == ErrNotConnect || err == ErrProtocolName:
	case c.level >= byte(V5):
		c.out = (&Connack{Reason: reason}).Append(c.out, V5)
	case reason == UnsupportedProtocolVersion || reason == ClientIdentifierNotValid:
		c.out = (&Connack{Reason: reason}).Append(c.out, V311)
	}
}
