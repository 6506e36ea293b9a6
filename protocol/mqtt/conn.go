package mqtt

import "time"

// Limits bound one server-side connection. All must be set; DefaultLimits gives the usual ones.
type Limits struct {
	ConnectSize       int    // bytes of a packet before Accept
	PacketSize        int    // bytes of a packet afterwards, announced as Maximum Packet Size
	ReceiveMaximum    uint16 // unacknowledged QoS 1 and 2 messages from the client
	SendWindow        int    // unacknowledged QoS 1 and 2 messages to the client, at most; its own Receive Maximum may lower it
	TopicAliasMaximum uint16 // aliases the client may set
	SendAliases       uint16 // aliases for the client, at most; its own Topic Alias Maximum may lower it
	FiltersPerPacket  int    // topic filters in one SUBSCRIBE or UNSUBSCRIBE
	OutSize           int    // unsent bytes above which QoS 0 messages are dropped and others wait
}

// DefaultLimits are meant for devices: small packets, small windows.
func DefaultLimits() Limits {
	return Limits{
		ConnectSize:       64 << 10,
		PacketSize:        1 << 20,
		ReceiveMaximum:    64,
		SendWindow:        64,
		TopicAliasMaximum: 16,
		SendAliases:       16,
		FiltersPerPacket:  64,
		OutSize:           256 << 10,
	}
}

// Event is what Next found.
type Event byte

const (
	NeedMore            Event = iota // everything fed is consumed; Feed more
	ConnectReceived                  // Packets.Connect is valid: call Accept or Refuse
	PublishReceived                  // Packets.Publish is valid, its alias resolved: call Acknowledge if its QoS is not 0
	SubscribeReceived                // Packets.Subscribe is valid: call AcknowledgeSubscribe
	UnsubscribeReceived              // Packets.Unsubscribe is valid: call AcknowledgeUnsubscribe
	AckReceived                      // a delivery moved on; nothing to do
	DeliveryReceived                 // PUBREC came for the delivery of Packets.Token: call Release once that is stored
	ReleaseReceived                  // PUBREL came for Packets.PacketID, of a stored session: call Complete once that is stored
	PingReceived                     // answered already
	AuthReceived                     // Packets.Auth is valid: call Challenge; or Accept or Refuse, and after that Reauthenticated or Close
	DisconnectReceived               // Packets.Disconnect is valid: the client is gone
	Blocked                          // too many messages unacknowledged; call Next again after an Acknowledge
)

type state byte

const (
	awaitingConnect state = iota
	deciding
	authenticating // a Challenge is with the client
	connected
	closed
)

// Packets is the memory that Next decodes into. Connections that are never served at the same time share one: it is the
// larger part of what an idle connection would hold.
type Packets struct {
	Connect     Connect
	Publish     Publish
	Subscribe   Subscribe
	Unsubscribe Unsubscribe
	Auth        Disconnect
	Disconnect  Disconnect
	Token       uint64    // of the delivery
	Expires     time.Time // of its message
	PacketID    uint16
	ack         Ack
}

// Conn is the server side of one connection: Feed it what arrives, ask Next for events, send what Out gives. It is
// plain data without lock, clock or I/O. Idle ones are most of what a server holds: what not every client uses is made
// when it is used.
type Conn struct {
	limits  *Limits
	session *Session
	seldom  *seldom // nil: nothing of that yet

	input []byte // fed and not consumed
	out   []byte

	lastPacket time.Duration // when it came, since started
	keepAlive  uint16        // seconds; 0: none

	state          state
	version        Version
	level          byte // the protocol level that CONNECT named, 0 before
	noProblemInfo  bool // the client wants no reason strings [MQTT-3.1.2-29]
	sessionExpiry0 bool // CONNECT asked for session expiry 0

	receiveQuota uint16 // of ours for the client

	// What the client allows.
	aliasMaximum uint16 // its Topic Alias Maximum, lowered to our SendAliases
	window       uint16 // its Receive Maximum, lowered to our SendWindow
	sending      uint16 // messages of the window in use on this connection
	maxSize      int32
}

// started is what times are kept in relation to: time.Time is three times as long.
var started = time.Now()

// seldom is what most connections never need: most idle, or hear only.
type seldom struct {
	aliases aliases
	auth    *authentication // of a client that named a method
	partial []byte          // own copy of an incomplete packet; input may be a view of it
	unacked []unacked       // its messages in order of arrival until acknowledged
}

var nothing seldom

// had gives what there is of that, to look at; more also to change it.
func (c *Conn) had() *seldom {
	if c.seldom == nil {
		return &nothing
	}
	return c.seldom
}

func (c *Conn) more() *seldom {
	if c.seldom == nil {
		c.seldom = new(seldom)
	}
	return c.seldom
}

type unacked struct {
	id      uint16
	qos     byte
	decided bool
	reason  Reason
	text    string
}

// NewConn prepares a connection that waits for CONNECT. The limits are kept and must not change.
func NewConn(limits *Limits) *Conn {
	return &Conn{limits: limits, version: V311, maxSize: maxRemaining + 5}
}

// Version is the client's, known from ConnectReceived on.
func (c *Conn) Version() Version { return c.version }

// Closed reports that the protocol has ended: send what Out still holds and close the transport.
func (c *Conn) Closed() bool { return c.state == closed }

// Feed hands over received bytes. They are not copied while whole packets can be taken from them: b must stay
// untouched until Next has returned NeedMore or an error.
func (c *Conn) Feed(b []byte) {
	if len(c.input) > 0 {
		c.keepPartial()
	}
	if len(c.had().partial) == 0 {
		c.input = b
		return
	}
	c.seldom.partial = append(c.seldom.partial, b...)
	c.input = c.seldom.partial
}

// Next consumes one packet and decodes it into in, whose slices are views of the fed bytes and valid until Next or Feed
// is called again. After an error the connection is Closed and Out holds what the client is told.
func (c *Conn) Next(now time.Time, in *Packets) (Event, error) {
	if c.state == closed || c.state == deciding {
		c.keepPartial()
		return NeedMore, nil
	}
	header, size, err := ReadHeader(c.input)
	if err != nil {
		return NeedMore, c.fail(err)
	}
	if size > 0 {
		if c.state == awaitingConnect && header.Type != CONNECT {
			return NeedMore, c.fail(ErrNotConnect)
		}
		if c.state == authenticating && header.Type != AUTH && header.Type != DISCONNECT {
			return NeedMore, c.fail(ErrNotAuth)
		}
		// Judged by the header alone, before the body is waited for.
		limit := c.limits.PacketSize
		if c.state != connected {
			limit = c.limits.ConnectSize
		}
		if size+header.Length > limit {
			return NeedMore, c.fail(ErrTooLarge)
		}
	}
	if size == 0 || len(c.input) < size+header.Length {
		c.keepPartial()
		return NeedMore, nil
	}
	if header.Type == PUBLISH && c.mustWait(header) {
		return Blocked, nil
	}
	body := c.input[size : size+header.Length]
	c.input = c.input[size+header.Length:]
	c.lastPacket = now.Sub(started)
	event, err := c.packet(header, body, now, in)
	if err != nil {
		return NeedMore, c.fail(err)
	}
	return event, nil
}

// keepPartial saves the unconsumed bytes, because the caller may reuse what it fed.
func (c *Conn) keepPartial() {
	if len(c.input) == 0 {
		c.input = nil
		if s := c.seldom; s != nil {
			if s.partial = nil; s.auth == nil && s.unacked == nil && s.aliases.in == nil && s.aliases.out == nil {
				c.seldom = nil // as of a CONNECT that came in pieces
			}
		}
		return
	}
	if s := c.more(); len(s.partial) != len(c.input) || &s.partial[0] != &c.input[0] { // a long packet does not move with each read
		s.partial = append(s.partial[:0], c.input...) // overlapping moves within partial are safe
	}
	c.input = nil
}

// Keep copies what was fed and not consumed, because the caller will reuse it before Next has returned NeedMore.
func (c *Conn) Keep() {
	if c.input != nil {
		c.keepPartial()
		c.input = c.had().partial
	}
}

// Upcoming is the type of the packet that Next will take, 0 if none is whole.
func (c *Conn) Upcoming() PacketType {
	header, size, err := ReadHeader(c.input)
	if err != nil || size == 0 || len(c.input) < size+header.Length {
		return 0
	}
	return header.Type
}

func (c *Conn) packet(h Header, body []byte, now time.Time, in *Packets) (Event, error) {
	switch h.Type {
	case CONNECT:
		if c.state != awaitingConnect {
			return 0, ErrSecondConnect
		}
		return c.connectReceived(body, &in.Connect)
	case PUBLISH:
		return c.publishReceived(h.Flags, body, &in.Publish)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		if err := in.ack.Decode(h.Type, body, c.version); err != nil {
			return 0, err
		}
		return c.ackReceived(in, now)
	case SUBSCRIBE:
		p := &in.Subscribe
		if err := p.Decode(body, c.version, c.limits.FiltersPerPacket); err != nil {
			return 0, err
		}
		if c.refuseInUse(p.PacketID, len(p.Filters), c.AcknowledgeSubscribe) {
			return AckReceived, nil
		}
		return SubscribeReceived, nil
	case UNSUBSCRIBE:
		p := &in.Unsubscribe
		if err := p.Decode(body, c.version, c.limits.FiltersPerPacket); err != nil {
			return 0, err
		}
		if c.refuseInUse(p.PacketID, len(p.Filters), c.AcknowledgeUnsubscribe) {
			return AckReceived, nil
		}
		return UnsubscribeReceived, nil
	case PINGREQ:
		if len(body) > 0 {
			return 0, ErrTrailing
		}
		c.out = append(c.out, byte(PINGRESP)<<4, 0) // [MQTT-3.12.4-1]
		return PingReceived, nil
	case DISCONNECT:
		if err := in.Disconnect.Decode(DISCONNECT, body, c.version); err != nil {
			return 0, err
		}
		if c.sessionExpiry0 && in.Disconnect.Properties.Number(SessionExpiryInterval) > 0 { // §3.14.2.2.2
			return 0, ErrSessionExpiry
		}
		c.state = closed
		return DisconnectReceived, nil
	case AUTH:
		if err := in.Auth.Decode(AUTH, body, c.version); err != nil {
			return 0, err
		}
		return AuthReceived, c.authReceived(&in.Auth)
	}
	return 0, ErrDirection
}

// fail ends the connection and tells the client why, where the protocol allows it.
func (c *Conn) fail(err error) error {
	reason, text := MalformedPacket, ""
	if e, ok := err.(*Error); ok {
		reason, text = e.Reason, e.Text
	}
	switch c.state {
	case awaitingConnect:
		c.refuseInvalid(err, reason)
	case authenticating:
		c.Refuse(reason, text) // [MQTT-3.14.0-1] no DISCONNECT before the CONNACK
	}
	c.disconnect(&Disconnect{Type: DISCONNECT, Reason: reason}, text)
	return err
}

// Close ends the connection from our side. A version 5 client that was accepted gets DISCONNECT with the reason; a 3.1.1
// client only sees the transport close.
func (c *Conn) Close(reason Reason) {
	c.disconnect(&Disconnect{Type: DISCONNECT, Reason: reason}, "")
}

// Redirect ends the connection, or refuses the CONNECT, with UseAnotherServer or ServerMoved and names the other server
// (§4.11), where the client can be told.
func (c *Conn) Redirect(reason Reason, server string) {
	if c.state == deciding {
		ack := Connack{Reason: reason}
		ack.Properties.SetText(ServerReference, []byte(server))
		c.refuse(&ack)
		return
	}
	p := Disconnect{Type: DISCONNECT, Reason: reason}
	p.Properties.SetText(ServerReference, []byte(server))
	c.disconnect(&p, "")
}

func (c *Conn) disconnect(p *Disconnect, text string) {
	if c.state == connected && c.version == V5 { // [MQTT-3.14.0-1]
		if text != "" && !c.noProblemInfo {
			p.Properties.SetText(ReasonString, []byte(text))
		}
		before := len(c.out)
		if c.out = p.Append(c.out, V5); len(c.out)-before > int(c.maxSize) { // [MQTT-3.14.2-3]
			c.out = (&Disconnect{Type: DISCONNECT, Reason: p.Reason}).Append(c.out[:before], V5)
		}
		c.state = closed
		c.bound(before)
	}
	c.state = closed
	c.input = nil
	if c.session != nil {
		c.session.left(c.had().unacked)
	}
}

// bound takes back a packet that begins at before if it is larger than the client allows [MQTT-3.1.2-24]; without it the
// connection cannot go on.
func (c *Conn) bound(before int) {
	if len(c.out)-before > int(c.maxSize) {
		c.out = c.out[:before]
		c.Close(PacketTooLarge)
	}
}

// Deadline gives when the client's silence has lasted one and a half keep-alive periods [MQTT-3.1.2-22], or the zero
// time if it may stay silent.
func (c *Conn) Deadline() time.Time {
	if c.keepAlive == 0 {
		return time.Time{}
	}
	return started.Add(c.lastPacket + c.KeepAlive())
}

// Tick ends the connection if its Deadline has passed.
func (c *Conn) Tick(now time.Time) error {
	if deadline := c.Deadline(); c.state == connected && !deadline.IsZero() && now.After(deadline) {
		return c.fail(ErrKeepAlive)
	}
	return nil
}

// Out gives the bytes to send and appends nothing more to them; buffer becomes the store for what follows (it may be
// nil, or a slice from an earlier Out that has been sent).
func (c *Conn) Out(buffer []byte, now time.Time) []byte {
	out := c.out
	c.out = buffer[:0]
	c.pump(now) // what waited only for room
	return out
}

// HasBuffer reports whether there is a store for what is to be sent. SetBuffer lends one to a connection that has none, TakeBuffer
// takes back that of one that has nothing to send, so that idle connections hold none.
func (c *Conn) HasBuffer() bool { return c.out != nil }

// SetBuffer lends a store for what is to be sent.
func (c *Conn) SetBuffer(buffer []byte) { c.out = buffer[:0] }

// TakeBuffer gives the store back, with what it holds.
func (c *Conn) TakeBuffer() (buffer []byte) {
	buffer, c.out = c.out, nil
	return buffer
}

// Full reports that so much is unsent that Deliver would drop a QoS 0 message.
func (c *Conn) Full() bool { return len(c.out) >= c.limits.OutSize }

// HasOut reports whether Out would give anything.
func (c *Conn) HasOut() bool { return len(c.out) > 0 }

// KeepAlive gives the longest silence that is allowed, one and a half keep-alive periods; 0: any.
func (c *Conn) KeepAlive() time.Duration { return time.Duration(c.keepAlive) * 3 * time.Second / 2 }

// Restart has the client's silence begin now, after a pause in which it was not read.
func (c *Conn) Restart(now time.Time) { c.lastPacket = now.Sub(started) }
