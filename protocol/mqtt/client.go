package mqtt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// ClientOptions say how a Client connects. The zero value connects with version 5 and a clean session.
type ClientOptions struct {
	Version    Version // 0: V5
	ClientID   string
	Username   string
	Password   string // sent if it or Username is not empty
	Resume     bool   // keep the server's session: clean start 0
	KeepAlive  uint16 // seconds; 0: none
	Properties Properties
	Will       *Publish
	// Receive gets every message, on the reading goroutine: it must not wait for this client. The message is a view and
	// dies when Receive returns. QoS 1 and 2 messages are acknowledged afterwards.
	Receive func(*Publish)
	// PacketSize bounds received packets; 0: 1 MiB. Version 5 servers are told.
	PacketSize int
}

// Client is one client connection over any net.Conn. Its methods may be called from several goroutines.
type Client struct {
	conn    net.Conn
	version Version
	options ClientOptions
	Connack Connack // the server's answer, with what it announced

	writing sync.Mutex
	buffer  []byte

	mu       sync.Mutex
	lastID   uint16
	pending  map[uint16]chan response
	received map[uint16]bool // QoS 2 identifiers not released
	replies  map[string]chan *Message
	replyTo  string
	requests uint64
	window   chan struct{} // the server's Receive Maximum
	err      error
	done     chan struct{}
}

type response struct {
	kind    PacketType
	reason  Reason
	text    string
	reasons []Reason
}

// ReasonError is a failure that the server reported.
type ReasonError struct {
	Packet PacketType
	Reason Reason
	Text   string // its reason string, if any; of a CONNACK else the server that it refers to
}

func (e *ReasonError) Error() string {
	if e.Text != "" {
		return fmt.Sprintf("mqtt: %s: %s: %s", e.Packet, e.Reason, e.Text)
	}
	return fmt.Sprintf("mqtt: %s: %s", e.Packet, e.Reason)
}

// ErrClientClosed is what calls get after Disconnect.
var ErrClientClosed = errors.New("mqtt: client is closed")

// Dial does the CONNECT handshake over conn and starts the goroutines that read and keep alive; both end with the
// connection. It closes conn if it fails. A refusal is a *ReasonError.
func Dial(ctx context.Context, conn net.Conn, options ClientOptions) (*Client, error) {
	if options.Version == 0 {
		options.Version = V5
	}
	if options.PacketSize == 0 {
		options.PacketSize = 1 << 20
	}
	c := &Client{
		conn: conn, version: options.Version, options: options,
		pending: make(map[uint16]chan response), received: make(map[uint16]bool), done: make(chan struct{}),
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	reader := bufio.NewReaderSize(conn, 4096)
	err := c.handshake(reader)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	limit := uint32(65535)
	if c.Connack.Properties.Has(ReceiveMaximum) {
		limit = c.Connack.Properties.Number(ReceiveMaximum)
	}
	c.window = make(chan struct{}, limit)
	keepAlive := options.KeepAlive
	if c.Connack.Properties.Has(ServerKeepAlive) { // [MQTT-3.1.2-21]
		keepAlive = uint16(c.Connack.Properties.Number(ServerKeepAlive))
	}
	go c.read(reader)
	if keepAlive > 0 {
		go c.keepAlive(time.Duration(keepAlive) * time.Second)
	}
	return c, nil
}

func (c *Client) handshake(r *bufio.Reader) error {
	o := &c.options
	connect := Connect{Version: c.version, CleanStart: !o.Resume, KeepAlive: o.KeepAlive, ClientID: []byte(o.ClientID), Properties: o.Properties}
	if c.version == V5 {
		connect.Properties.SetNumber(MaximumPacketSize, uint32(o.PacketSize))
	}
	if o.Username != "" {
		connect.Username = []byte(o.Username)
	}
	if o.Password != "" {
		connect.Password = []byte(o.Password)
		if c.version == V311 && connect.Username == nil {
			connect.Username = []byte{} // [MQTT-3.1.2-22 of 3.1.1]
		}
	}
	if will := o.Will; will != nil {
		connect.HasWill, connect.WillQoS, connect.WillRetain = true, will.QoS, will.Retain
		connect.WillTopic, connect.WillPayload, connect.WillProperties = will.Topic, will.Payload, will.Properties
	}
	if _, err := c.conn.Write(connect.Append(nil)); err != nil {
		return fmt.Errorf("mqtt: connect: %w", err)
	}
	header, body, err := c.readPacket(r, nil)
	if err != nil {
		return fmt.Errorf("mqtt: connect: %w", err)
	}
	if header.Type != CONNACK {
		return ErrDirection
	}
	if err := c.Connack.Decode(body, c.version); err != nil {
		return err
	}
	if c.Connack.Reason != Success {
		text := c.Connack.Properties.Text(ReasonString)
		if text == nil {
			text = c.Connack.Properties.Text(ServerReference) // §4.13: where to go instead
		}
		return &ReasonError{CONNACK, c.Connack.Reason, string(text)}
	}
	return nil
}

// readPacket reads one packet of at most PacketSize bytes into buffer, which it may replace.
func (c *Client) readPacket(r *bufio.Reader, buffer []byte) (h Header, body []byte, err error) {
	var head [5]byte
	for n := 1; ; n++ {
		if head[n-1], err = r.ReadByte(); err != nil {
			return h, nil, err
		}
		size := 0
		if h, size, err = ReadHeader(head[:n]); err != nil {
			return h, nil, err
		}
		if size > 0 {
			break
		}
	}
	if h.Length > c.options.PacketSize {
		return h, nil, ErrTooLarge
	}
	if cap(buffer) < h.Length {
		buffer = make([]byte, h.Length)
	}
	body = buffer[:h.Length]
	_, err = io.ReadFull(r, body)
	return h, body, err
}

func (c *Client) read(r *bufio.Reader) {
	buffer := make([]byte, 0, 4096)
	var publish Publish
	var ack Ack
	for {
		header, body, err := c.readPacket(r, buffer)
		if err == nil {
			if cap(body) > cap(buffer) && cap(body) <= 64<<10 {
				buffer = body
			}
			err = c.packet(header, body, &publish, &ack)
		}
		if err != nil {
			c.end(err)
			return
		}
	}
}

func (c *Client) packet(h Header, body []byte, publish *Publish, ack *Ack) error {
	switch h.Type {
	case PUBLISH:
		if err := publish.Decode(h.Flags, body, c.version); err != nil {
			return err
		}
		return c.publishReceived(publish)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		if err := ack.Decode(h.Type, body, c.version); err != nil {
			return err
		}
		switch {
		case h.Type == PUBREL:
			c.mu.Lock()
			delete(c.received, ack.PacketID)
			c.mu.Unlock()
			return c.write(func(b []byte) []byte {
				return (&Ack{Type: PUBCOMP, PacketID: ack.PacketID}).Append(b, c.version)
			})
		case h.Type == PUBREC && !ack.Reason.Failed():
			return c.write(func(b []byte) []byte {
				return (&Ack{Type: PUBREL, PacketID: ack.PacketID}).Append(b, c.version)
			})
		}
		c.answer(ack.PacketID, response{kind: h.Type, reason: ack.Reason, text: string(ack.Properties.Text(ReasonString))})
	case SUBACK, UNSUBACK:
		var sub SubAck
		if err := sub.Decode(h.Type, body, c.version); err != nil {
			return err
		}
		c.answer(sub.PacketID, response{kind: h.Type, reasons: sub.Reasons, text: string(sub.Properties.Text(ReasonString))})
	case PINGRESP:
	case DISCONNECT:
		var d Disconnect
		if err := d.Decode(DISCONNECT, body, c.version); err != nil {
			return err
		}
		return &ReasonError{DISCONNECT, d.Reason, string(d.Properties.Text(ReasonString))}
	default:
		return ErrDirection
	}
	return nil
}

func (c *Client) publishReceived(p *Publish) error {
	if p.Properties.Has(TopicAlias) { // we announced no aliases [MQTT-3.1.2-27]
		return ErrTopicAlias
	}
	fresh := true
	if p.QoS == 2 {
		c.mu.Lock()
		fresh = !c.received[p.PacketID]
		c.received[p.PacketID] = true
		c.mu.Unlock()
	}
	if fresh && !c.reply(p) && c.options.Receive != nil {
		c.options.Receive(p)
	}
	if p.QoS == 0 {
		return nil
	}
	ack := Ack{Type: PUBACK, PacketID: p.PacketID}
	if p.QoS == 2 {
		ack.Type = PUBREC
	}
	return c.write(func(b []byte) []byte { return ack.Append(b, c.version) })
}

// write sends one packet that encode appends. A failed write ends the client.
func (c *Client) write(encode func([]byte) []byte) error {
	c.writing.Lock()
	c.buffer = encode(c.buffer[:0])
	_, err := c.conn.Write(c.buffer)
	if cap(c.buffer) > 64<<10 {
		c.buffer = nil
	}
	c.writing.Unlock()
	if err != nil {
		c.end(err)
	}
	return err
}

func (c *Client) keepAlive(period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if c.write(func(b []byte) []byte { return append(b, byte(PINGREQ)<<4, 0) }) != nil {
				return
			}
		case <-c.done:
			return
		}
	}
}

// begin registers a new packet identifier that is answered on the channel.
func (c *Client) begin() (uint16, chan response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	if len(c.pending) >= 65535 {
		return 0, nil, &ReasonError{PUBLISH, QuotaExceeded, "all packet identifiers are in use"}
	}
	for {
		c.lastID++
		if _, used := c.pending[c.lastID]; c.lastID != 0 && !used {
			answer := make(chan response, 1)
			c.pending[c.lastID] = answer
			return c.lastID, answer, nil
		}
	}
}

func (c *Client) answer(id uint16, r response) {
	c.mu.Lock()
	answer, ok := c.pending[id]
	delete(c.pending, id)
	c.mu.Unlock()
	if ok {
		answer <- r
	}
}

// wait waits for the answer to id. An identifier given up on stays taken until its answer comes, as it must
// [MQTT-2.2.1-3].
func (c *Client) wait(ctx context.Context, answer chan response) (response, error) {
	select {
	case r := <-answer:
		return r, nil
	case <-c.done:
		return response{}, c.Err()
	case <-ctx.Done():
		return response{}, ctx.Err()
	}
}

// Publish sends a message and, at QoS 1 and 2, waits until the server has taken it. p.PacketID is set here. A refusal is
// a *ReasonError.
func (c *Client) Publish(ctx context.Context, p *Publish) error {
	if !ValidTopic(p.Topic) {
		return ErrTopic
	}
	if p.QoS == 0 {
		if err := c.Err(); err != nil {
			return err
		}
		return c.write(func(b []byte) []byte { return p.Append(b, c.version) })
	}
	select {
	case c.window <- struct{}{}:
	case <-c.done:
		return c.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.window }()
	id, answer, err := c.begin()
	if err != nil {
		return err
	}
	p.PacketID = id
	if err := c.write(func(b []byte) []byte { return p.Append(b, c.version) }); err != nil {
		return err
	}
	r, err := c.wait(ctx, answer)
	if err != nil {
		return err
	}
	if r.reason.Failed() {
		return &ReasonError{r.kind, r.reason, r.text}
	}
	return nil
}

// Subscribe asks for the filters and gives the server's reason for each; the error is for calls that got no answer.
func (c *Client) Subscribe(ctx context.Context, filters ...Filter) ([]Reason, error) {
	for i := range filters {
		if !ValidFilter(filters[i].Filter) {
			return nil, &Error{TopicFilterInvalid, "MQTT-4.7.1-1", "topic filter is not valid: " + strconv.Quote(string(filters[i].Filter))}
		}
	}
	id, answer, err := c.begin()
	if err != nil {
		return nil, err
	}
	if err := c.write(func(b []byte) []byte {
		return (&Subscribe{PacketID: id, Filters: filters}).Append(b, c.version)
	}); err != nil {
		return nil, err
	}
	r, err := c.wait(ctx, answer)
	return r.reasons, err
}

// Unsubscribe ends subscriptions. In 3.1.1 the reasons are nil.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) ([]Reason, error) {
	id, answer, err := c.begin()
	if err != nil {
		return nil, err
	}
	p := Unsubscribe{PacketID: id}
	for _, f := range filters {
		p.Filters = append(p.Filters, []byte(f))
	}
	if err := c.write(func(b []byte) []byte { return p.Append(b, c.version) }); err != nil {
		return nil, err
	}
	r, err := c.wait(ctx, answer)
	return r.reasons, err
}

// Request publishes p with the response topic replyTo and its own correlation data and waits for the reply (MQTT 5
// §4.10). The first Request subscribes to replyTo; all of a client must use the same. The reply is a copy.
func (c *Client) Request(ctx context.Context, p *Publish, replyTo string) (*Message, error) {
	if c.version != V5 {
		return nil, errors.New("mqtt: request/response needs version 5")
	}
	c.mu.Lock()
	first := c.replyTo == ""
	if first {
		c.replyTo, c.replies = replyTo, make(map[string]chan *Message)
	}
	other := c.replyTo != replyTo
	c.mu.Unlock()
	if other {
		return nil, errors.New("mqtt: this client waits for replies on another topic")
	}
	if first {
		reasons, err := c.Subscribe(ctx, Filter{Filter: []byte(replyTo), QoS: 1})
		if err == nil && reasons[0].Failed() {
			err = &ReasonError{SUBACK, reasons[0], ""}
		}
		if err != nil {
			c.mu.Lock()
			c.replyTo = ""
			c.mu.Unlock()
			return nil, err
		}
	}
	c.mu.Lock()
	c.requests++
	correlation := strconv.FormatUint(c.requests, 36)
	reply := make(chan *Message, 1)
	c.replies[correlation] = reply
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.replies, correlation)
		c.mu.Unlock()
	}()
	p.Properties.SetText(ResponseTopic, []byte(replyTo))
	p.Properties.SetText(CorrelationData, []byte(correlation))
	if err := c.Publish(ctx, p); err != nil {
		return nil, err
	}
	select {
	case m := <-reply:
		return m, nil
	case <-c.done:
		return nil, c.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// reply hands p to the Request that waits for it.
func (c *Client) reply(p *Publish) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.replyTo == "" || string(p.Topic) != c.replyTo {
		return false
	}
	waiting, ok := c.replies[string(p.Properties.Text(CorrelationData))]
	if ok {
		delete(c.replies, string(p.Properties.Text(CorrelationData)))
		waiting <- NewMessage(p, time.Now())
	}
	return ok
}

// Done is closed when the connection has ended; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil while the connection lives. A DISCONNECT by the server is a *ReasonError.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Client) end(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
		close(c.done)
	}
	c.mu.Unlock()
	c.conn.Close()
}

// Disconnect says goodbye, so that the server discards the will unless reason is DisconnectWithWill, and closes.
func (c *Client) Disconnect(reason Reason) error {
	c.mu.Lock()
	err := c.err
	if err == nil {
		c.err = ErrClientClosed // before the server can answer by closing
		close(c.done)
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	err = c.write(func(b []byte) []byte { return (&Disconnect{Type: DISCONNECT, Reason: reason}).Append(b, c.version) })
	c.conn.Close()
	return err
}

// Close drops the connection without a word, as a failing network does: the server publishes the will.
func (c *Client) Close() error {
	c.end(ErrClientClosed)
	return nil
}
