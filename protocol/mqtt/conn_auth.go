package mqtt

import "bytes"

// authentication is the enhanced authentication of a connection (§4.12).
type authentication struct {
	method  []byte // of the CONNECT; all AUTH packets name the same [MQTT-4.12.0-5] [MQTT-4.12.1-1]
	running bool   // a re-authentication has begun
}

// authReceived checks whether an AUTH is due: an answer to a challenge, or the start of a re-authentication.
func (c *Conn) authReceived(p *Disconnect) error {
	switch {
	case c.had().auth == nil:
		return ErrAuthNotExpected
	case !bytes.Equal(p.Properties.Text(AuthenticationMethod), c.seldom.auth.method):
		return ErrAuthOtherMethod
	case c.state == authenticating && p.Reason == ContinueAuthentication:
		c.state = deciding
		return nil
	case c.state == connected && p.Reason == Reauthenticate && !c.seldom.auth.running:
		c.seldom.auth.running = true
		return nil
	case c.state == connected && p.Reason == ContinueAuthentication && c.seldom.auth.running:
		return nil
	}
	return ErrAuthReason
}

// Challenge sends the client data of its authentication method, to be answered with AUTH [MQTT-4.12.0-2]: instead of
// Accept, or after AuthReceived.
func (c *Conn) Challenge(data []byte) {
	c.appendAuth(ContinueAuthentication, data)
	if c.state == deciding {
		c.state = authenticating
	}
}

// Reauthenticated ends a re-authentication that the client has passed; data may be nil. One that failed ends with Close.
func (c *Conn) Reauthenticated(data []byte) {
	c.seldom.auth.running = false
	c.appendAuth(Success, data)
}

func (c *Conn) appendAuth(reason Reason, data []byte) {
	p := Disconnect{Type: AUTH, Reason: reason}
	p.Properties.SetText(AuthenticationMethod, c.seldom.auth.method)
	setText(&p.Properties, AuthenticationData, data)
	before := len(c.out)
	c.out = p.Append(c.out, V5)
	c.bound(before)
}
