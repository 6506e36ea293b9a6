package mqttfront

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/clock"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// readSize is how much is read from a connection before the next one's turn.
const readSize = 64 << 10

// connection is one client's connection. What carries its bytes, a loop or a stream, calls process with what was read,
// never two at once. Whoever else has something to say to the client appends it to what mqtt has to send and sees by flushLater to
// it that it is sent; nobody ever waits for a client.
type connection struct {
	listener *Listener // by which it came
	source   netip.AddrPort
	caller   *pipeline.Caller
	client   string

	// Of whoever handles its packets.
	batch *batch
	needs *needs // nil: it has needed none of that

	// mu guards mqtt and what follows. It is the session's lock as soon as there is a session.
	mu       *sync.Mutex
	own      sync.Mutex
	mqtt     mqtt.Conn
	session  *session
	handling bool          // packets are being handled: what there is to send is sent when that is done
	dirty    bool          // it is among the receivers of a batch, at whose end it is written
	blocked  bool          // reading waits until messages are acknowledged
	crowded  bool          // reading waits until fewer calls to upstreams wait
	stalled  bool          // reading waited, and has to be taken up again
	lost     bool          // the transport has failed
	counted  bool          // among its source\'s; guarded by Front.mu
	left     bool          // it is over but for its last words
	pending  []byte        // handed out by mqtt, and not taken by the transport yet
	since    time.Duration // when it was opened, its transport took something while bytes were pending, or it left

	loop    *loop // that serves it; nil: the stream does
	polled  polled
	stream  *stream
	secured *secured // TLS, of a connection that a loop serves; nil: it is plain
}

// needs are what most connections never have.
type needs struct {
	publisher *publisher      // nil: it has published nothing
	scram     *authentication // an enhanced authentication under way; nil: none
	calls     *calls          // nil: none yet
	throttle  *throttle       // nil: the client may send as much as it likes
	failed    error           // why its packets, handled by a goroutine that may wait, ended it
}

var nothingNeeded needs

// had gives what there is of that, to look at; need also to change it. Who shares it with others has it made before.
func (c *connection) had() *needs {
	if c.needs == nil {
		return &nothingNeeded
	}
	return c.needs
}

func (c *connection) need() *needs {
	if c.needs == nil {
		c.needs = new(needs)
	}
	return c.needs
}

func (c *connection) front() *Front { return c.listener.front }

// publisher is what one who publishes needs besides.
type publisher struct {
	place  pipeline.Place // where QoS 0 messages leave their Records
	grants pipeline.Grants
}

var packetPool = sync.Pool{New: func() any { return new(mqtt.Packets) }}

func newConnection(l *Listener, source netip.AddrPort) *connection {
	c := &connection{listener: l, source: source, mqtt: *mqtt.NewConn(&l.Terms.Limits), since: clock.Now()}
	c.mu = &c.own
	if t := newThrottle(l.Terms); t != nil {
		c.need().throttle = t
	}
	return c
}

// process handles the packets of what was received, up to one for which the client has to wait: the rest is kept. An error
// ends the connection. In a loop it stops before a packet that may take long to answer: such wait is true, and process is to
// be called again from a goroutine that may wait.
func (c *connection) process(received []byte, b *batch, inLoop bool) (wait bool, err error) {
	in := packetPool.Get().(*mqtt.Packets)
	defer packetPool.Put(in)
	c.batch = b
	c.mu.Lock()
	c.handling = true
	c.mqtt.Feed(received)
	if len(received) > 0 {
		c.sentBytes(len(received), clock.Of(b.now))
	}
	b.lend(c)
	for {
		if c.stalled = c.paused(); c.stalled {
			break
		}
		if wait = inLoop && mayWait(c.mqtt.Upcoming()); wait {
			break
		}
		var event mqtt.Event
		event, err = c.mqtt.Next(b.now, in)
		if err != nil || event == mqtt.NeedMore {
			break
		}
		switch event {
		case mqtt.AckReceived, mqtt.PingReceived:
		case mqtt.Blocked:
			c.blocked = true
		default:
			if event == mqtt.PublishReceived {
				c.sentMessage(clock.Of(b.now))
			}
			c.mu.Unlock()
			c.handle(event, in, b.now)
			c.mu.Lock() // the session's lock, if there is one now
			c.handling = true
		}
	}
	c.mqtt.Keep()
	c.deliverRetained(b.now)
	c.handling = false
	c.flushIn(b)
	if err == nil && c.mqtt.Closed() {
		err = errOver
	}
	c.mu.Unlock()
	return wait, err
}

// errOver ends a connection in good order.
var errOver = errors.New("the connection is over")

// mayWait says whether answering a packet may take long: for the disk, or a password's hash.
func mayWait(t mqtt.PacketType) bool {
	switch t {
	case mqtt.CONNECT, mqtt.SUBSCRIBE, mqtt.UNSUBSCRIBE, mqtt.AUTH:
		return true
	}
	return false
}

func (c *connection) handle(event mqtt.Event, in *mqtt.Packets, now time.Time) {
	switch event {
	case mqtt.ConnectReceived:
		c.connect(&in.Connect, now)
	case mqtt.PublishReceived:
		c.publish(&in.Publish, now)
	case mqtt.DeliveryReceived:
		c.deliveryReceived(in.Token, in.Expires)
	case mqtt.ReleaseReceived:
		c.receiveReleased(in.PacketID)
	case mqtt.SubscribeReceived:
		c.subscribe(&in.Subscribe, now)
	case mqtt.UnsubscribeReceived:
		c.unsubscribe(&in.Unsubscribe)
	case mqtt.AuthReceived:
		c.authReceived(&in.Auth, now)
	case mqtt.DisconnectReceived:
		c.disconnected(&in.Disconnect)
	}
}

// paused says whether the client is not to be read: it has to wait for its acknowledgements or answers, does not take what it
// is sent, or has sent more than it may. It holds up the client and nobody else. c is locked.
func (c *connection) paused() bool {
	t := c.had().throttle
	return c.blocked || c.crowded || len(c.pending) > 0 || t != nil && t.paused
}

// resume has the reading go on that has waited. c is locked.
func (c *connection) resume() {
	if !c.stalled || c.paused() {
		return
	}
	c.mqtt.Restart(clock.Time(clock.Now())) // after a pause of ours the client gets the whole time again
	c.wake()
}

// wake has whoever serves the connection look after it.
func (c *connection) wake() {
	if c.stream != nil {
		c.stream.wake()
	} else {
		c.loop.attend(c)
	}
}

// acknowledge answers a PUBLISH, from whatever goroutine knows its outcome.
func (c *connection) acknowledge(id uint16, reason mqtt.Reason, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := c.mqtt.Acknowledge(id, reason, text)
	c.acknowledged()
	if next := c.session.conn; left && next != nil {
		next.mqtt.Acknowledge(id, reason, text)
		next.acknowledged()
	}
}

// acknowledged goes on after an acknowledgement. c is locked.
func (c *connection) acknowledged() {
	c.blocked = false
	c.resume()
	c.flushLater()
}

// drop ends the connection instead of acknowledging a PUBLISH.
func (c *connection) drop(id uint16, reason mqtt.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(reason)
	left := c.mqtt.Acknowledge(id, reason, "")
	if next := c.session.conn; left && next != nil && next != c {
		next.end(reason) // the client may have sent it again
	}
}

// end closes the connection from our side once what is to be said is written. c is locked.
func (c *connection) end(reason mqtt.Reason) {
	c.mqtt.Close(reason)
	if c.stream != nil {
		c.stream.hurry()
	}
	c.flushLater()
}

// lastWords is how long a connection that ends has to take what it is told.
const lastWords = time.Second

// flushLater sees to it that what there is to send is sent, by those who serve the connection. c is locked.
func (c *connection) flushLater() {
	switch {
	case c.handling || c.left || !c.mqtt.HasOut() && !c.mqtt.Closed():
	case c.stream != nil:
		c.stream.flush(c)
	default:
		c.loop.attend(c)
	}
}

// flushIn sees to it that what there is to send is sent at the end of the batch. c is locked.
func (c *connection) flushIn(b *batch) {
	if c.dirty || c.handling || c.left {
		return
	}
	if !c.mqtt.HasOut() {
		b.takeBack(c)
		return
	}
	c.dirty = true
	b.dirty = append(b.dirty, c)
}

// deadline is when the connection ends unless something happens before; 0: never. c is locked.
func (c *connection) deadline() time.Duration {
	switch config := &c.front().config; {
	case c.left:
		return c.since + lastWords
	case c.session == nil:
		return c.since + config.ConnectTimeout
	case len(c.pending) > 0:
		return c.since + config.WriteTimeout
	case c.paused():
		return 0
	}
	silent := c.mqtt.Deadline()
	if silent.IsZero() {
		return 0
	}
	return clock.Of(silent)
}

// leave notes that the connection is over but for its last words, with what that means for its session.
func (c *connection) leave(reason error) {
	c.mu.Lock()
	var broken *mqtt.Error
	if errors.As(reason, &broken) {
		c.front().Counters.Malformed.Add(1)
		c.recordRefusal(&fieldgate.Problem{Code: fieldgate.ProblemBadRequest, Detail: broken.Error()})
	}
	c.mqtt.Close(mqtt.UnspecifiedError)
	c.left = true
	c.since = clock.Now()
	c.mu.Unlock()
	c.front().departed(c)
}
