package mqtt

import "time"

// Limits bound one server-side connection. All must be set; DefaultLimits gives the usual ones.
type Limits struct {
	ConnectSize       int    // bytes of a packet before Accept
	PacketSize        int    // bytes of a packet afterwards, announced as Maximum Packet Size
	ReceiveMaximum    uint16 // unacknowledged QoS 1 and 2 messages from the client
	SendWindow        int    // unacknowledged QoS 1 and 2 messages to the client, at most; its own Receive Maximum may lower it
	TopicAliasMaximum uint16 // aliases the client may set
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
	PingReceived                     // answered already
	DisconnectReceived               // Packets.Disconnect is valid: the client is gone
	Blocked                          // too many messages unacknowledged; call Next again after an Acknowledge
)

type state byte

const (
	awaitingConnect state = iota
	deciding
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
	Disconnect  Disconnect
	ack         Ack
}

// Conn is the server side of one connection: Feed it what arrives, ask Next for events, send what Out gives. It is
// plain data without lock, clock or I/O.
type Conn struct {
	limits  Limits
	state   state
	version Version
	level   byte // the protocol level that CONNECT named, 0 before
	session *Session

	input   []byte // fed and not consumed
	partial []byte // own copy of an incomplete packet; input may be a view of it
	out     []byte

	keepAlive      time.Duration // 0: none
	lastPacket     time.Time
	noProblemInfo  bool // the client wants no reason strings [MQTT-3.1.2-29]
	sessionExpiry0 bool // CONNECT asked for session expiry 0

	// Receiving: our quota for the client, and its messages in order of arrival until acknowledged.
	receiveQuota uint16
	unacked      []unacked
	aliases      [][]byte

	// Sending: what the client allows.
	window  int // its Receive Maximum, lowered to our SendWindow
	sending int // messages of the window in use on this connection
	maxSize int
}

type unacked struct {
	id      uint16
	qos     byte
	decided bool
	reason  Reason
	text    string
}

// NewConn prepares a connection that waits for CONNECT.
func NewConn(limits Limits) *Conn {
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
	if len(c.partial) == 0 {
		c.input = b
		return
	}
	c.partial = append(c.partial, b...)
	c.input = c.partial
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
		// Judged by the header alone, before the body is waited for.
		limit := c.limits.PacketSize
		if c.state == awaitingConnect {
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
	c.lastPacket = now
	event, err := c.packet(header, body, now, in)
	if err != nil {
		return NeedMore, c.fail(err)
	}
	return event, nil
}

// keepPartial saves the unconsumed bytes, because the caller may reuse what it fed.
func (c *Conn) keepPartial() {
	if len(c.input) == 0 || len(c.partial) != len(c.input) || &c.partial[0] != &c.input[0] { // a long packet does not move with each read
		c.partial = append(c.partial[:0], c.input...) // overlapping moves within partial are safe
	}
	c.input = nil
	const keep = 4 << 10
	if len(c.partial) == 0 && cap(c.partial) > keep {
		c.partial = nil
	}
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
		return AckReceived, c.ackReceived(&in.ack, now)
	case SUBSCRIBE:
		return SubscribeReceived, in.Subscribe.Decode(body, c.version, c.limits.FiltersPerPacket)
	case UNSUBSCRIBE:
		return UnsubscribeReceived, in.Unsubscribe.Decode(body, c.version, c.limits.FiltersPerPacket)
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
		if c.version == V311 {
			return 0, ErrPacketType
		}
		return 0, ErrAuthNotExpected
	}
	return 0, ErrDirection
}

// fail ends the connection and tells the client why, where the protocol allows it.
func (c *Conn) fail(err error) error {
	reason := MalformedPacket
	if e, ok := err.(*Error); ok {
		reason = e.Reason
	}
	if c.state == awaitingConnect {
		c.refuseInvalid(err, reason)
	}
	c.Close(reason)
	return err
}

// Close ends the connection from our side. A version 5 client that was accepted gets DISCONNECT with the reason
// [MQTT-3.14.0-1]; a 3.1.1 client only sees the transport close.
func (c *Conn) Close(reason Reason) {
	if c.state == connected && c.version == V5 {
		c.out = (&Disconnect{Type: DISCONNECT, Reason: reason}).Append(c.out, V5)
	}
	c.state = closed
	c.input = nil
}

// Deadline gives when the client's silence has lasted one and a half keep-alive periods [MQTT-3.1.2-22], or the zero
// time if it may stay silent.
func (c *Conn) Deadline() time.Time {
	if c.keepAlive == 0 {
		return time.Time{}
	}
	return c.lastPacket.Add(c.keepAlive + c.keepAlive/2)
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

// HasOut reports whether Out would give anything.
func (c *Conn) HasOut() bool { return len(c.out) > 0 }

// KeepAlive gives the longest silence that is allowed, one and a half keep-alive periods; 0: any.
func (c *Conn) KeepAlive() time.Duration { return c.keepAlive + c.keepAlive/2 }
