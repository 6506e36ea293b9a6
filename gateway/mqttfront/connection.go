package mqttfront

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// connection is one client's connection. Its goroutine reads and handles packets; whoever has something to send and
// finds nobody writing writes it in a goroutine of its own, so that an idle connection costs one goroutine.
type connection struct {
	front  *Front
	net    net.Conn
	source netip.AddrPort
	caller *pipeline.Caller
	client string

	// mu guards mqtt and what follows. It is the session's lock as soon as there is a session.
	mu       *sync.Mutex
	own      sync.Mutex
	mqtt     *mqtt.Conn
	session  *session
	writing  bool
	handling bool   // the reading goroutine will write when it is done
	spare    []byte // buffer for Out

	written chan struct{} // closed when the writing ends, for the reading goroutine that waits for it
	left    bool          // its goroutine has ended: nothing can be written any more

	acknowledged chan struct{}    // for a reader that waits until messages are acknowledged
	calls        chan *publishing // waiting for an upstream, one after the other
	calling      atomic.Bool      // somebody works on calls
	requests     chan struct{}    // one for each request under way
	resumed      time.Time        // when reading went on after a pause
}

// callsPerConnection bounds the upstream calls of one connection that wait or run, so that one client cannot take all
// workers.
const callsPerConnection = 16

func newConnection(f *Front, conn net.Conn) *connection {
	c := &connection{front: f, net: conn, mqtt: mqtt.NewConn(f.config.Limits), acknowledged: make(chan struct{}, 1),
		calls: make(chan *publishing, callsPerConnection), requests: make(chan struct{}, callsPerConnection)}
	c.mu = &c.own
	if address, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		c.source = address
	}
	return c
}

var packetPool = sync.Pool{New: func() any { return new(mqtt.Packets) }}

const readSize = 4 << 10

func (c *connection) serve() {
	c.net.SetReadDeadline(time.Now().Add(c.front.config.ConnectTimeout))
	err := c.read()
	c.close(err)
}

// read handles what the client sends until the connection ends.
func (c *connection) read() error {
	buffer := make([]byte, readSize)
	for {
		n, err := c.net.Read(buffer)
		if n > 0 {
			if err := c.received(buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case c.isClosed():
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded) && c.session != nil:
			if err := c.silent(); err != nil {
				return err
			}
		case err != nil:
			return err
		}
		c.setReadDeadline()
	}
}

func (c *connection) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mqtt.Closed()
}

// silent ends the connection if the keep-alive time is really over: reading may have been paused meanwhile.
func (c *connection) silent() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readDeadline().After(time.Now()) {
		return nil
	}
	err := c.mqtt.Tick(time.Now())
	c.flushLater()
	return err
}

func (c *connection) setReadDeadline() {
	if c.session == nil {
		return // the CONNECT deadline stands
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mqtt.Closed() { // otherwise the deadline of end stands
		c.net.SetReadDeadline(c.readDeadline())
	}
}

// readDeadline is the keep-alive deadline; after a pause of ours the client gets the whole time again.
func (c *connection) readDeadline() time.Time {
	deadline := c.mqtt.Deadline()
	if deadline.IsZero() || c.resumed.IsZero() {
		return deadline
	}
	if again := c.resumed.Add(c.mqtt.KeepAlive()); again.After(deadline) {
		return again
	}
	return deadline
}

// received handles the packets in b.
func (c *connection) received(b []byte) error {
	in := packetPool.Get().(*mqtt.Packets)
	defer packetPool.Put(in)
	now := time.Now()
	c.mu.Lock()
	c.handling = true
	c.mqtt.Feed(b)
	for {
		event, err := c.mqtt.Next(now, in)
		if err != nil || event == mqtt.NeedMore {
			c.deliverRetained(now)
			c.handling = false
			c.flushNow()
			c.mu.Unlock()
			return err
		}
		c.mu.Unlock()
		c.handle(event, in, now)
		c.mu.Lock() // the session's lock, if there is one now
		c.handling = true
	}
}

func (c *connection) handle(event mqtt.Event, in *mqtt.Packets, now time.Time) {
	switch event {
	case mqtt.ConnectReceived:
		c.connect(&in.Connect, now)
	case mqtt.PublishReceived:
		c.publish(&in.Publish, now)
	case mqtt.SubscribeReceived:
		c.subscribe(&in.Subscribe, now)
	case mqtt.UnsubscribeReceived:
		c.unsubscribe(&in.Unsubscribe)
	case mqtt.DisconnectReceived:
		c.disconnected(&in.Disconnect)
	case mqtt.Blocked:
		c.pause(func() {
			select {
			case <-c.acknowledged:
			case <-c.front.ctx.Done():
			}
		})
	}
}

// pause waits on the reading goroutine, which holds up the client and nobody else: what there is to send is sent meanwhile.
func (c *connection) pause(wait func()) {
	c.mu.Lock()
	c.handling = false
	c.flushNow()
	c.mu.Unlock()
	wait()
	c.mu.Lock()
	c.handling = true
	c.resumed = time.Now()
	c.mu.Unlock()
}

// acknowledge answers a PUBLISH, from whatever goroutine knows its outcome.
func (c *connection) acknowledge(id uint16, reason mqtt.Reason, text string) {
	c.mu.Lock()
	c.mqtt.Acknowledge(id, reason, text)
	c.flushLater()
	c.mu.Unlock()
	select {
	case c.acknowledged <- struct{}{}:
	default:
	}
}

// end closes the connection from our side once what is to be said is written. c is locked.
func (c *connection) end(reason mqtt.Reason) {
	c.mqtt.Close(reason)
	soon := time.Now().Add(lastWords)
	c.net.SetReadDeadline(soon)
	c.net.SetWriteDeadline(soon)
	c.flushLater()
}

// lastWords is how long a connection that ends has to take what it is told.
const lastWords = time.Second

// flushLater sees to it that what there is to send is written without making the caller wait. c is locked.
func (c *connection) flushLater() {
	if c.writing || c.handling || c.left || !c.mqtt.HasOut() && !c.mqtt.Closed() {
		return
	}
	c.writing = true
	c.front.running.Go(c.write)
}

// flushNow writes on the reading goroutine: a client that does not take its acknowledgements is not read. c is locked, and
// unlocked while it writes.
func (c *connection) flushNow() {
	if c.writing || !c.mqtt.HasOut() {
		return
	}
	c.writing = true
	c.mu.Unlock()
	c.write()
	c.mu.Lock()
}

// drain writes all there is, or waits for whoever is writing it. It is for the reading goroutine; c is locked, and unlocked
// meanwhile.
func (c *connection) drain() {
	c.flushNow()
	if c.writing {
		written := make(chan struct{})
		c.written = written
		c.mu.Unlock()
		<-written
		c.mu.Lock()
	}
}

// write writes until nothing is left. c.writing was set by the caller.
func (c *connection) write() {
	c.mu.Lock()
	for c.mqtt.HasOut() {
		out := c.mqtt.Out(c.spare, time.Now())
		c.spare = nil
		timeout := c.front.config.WriteTimeout
		if c.mqtt.Closed() {
			timeout = lastWords
		}
		c.net.SetWriteDeadline(time.Now().Add(timeout)) // under the lock: end may shorten it, never the other way round
		c.mu.Unlock()
		_, err := c.net.Write(out)
		c.mu.Lock()
		if err != nil {
			c.mqtt.Close(mqtt.UnspecifiedError)
			c.mqtt.Out(nil, time.Now())
			c.net.Close()
			break
		}
		if cap(out) <= 4*readSize {
			c.spare = out
		}
	}
	c.writing = false
	if c.written != nil {
		close(c.written)
		c.written = nil
	}
	closed := c.mqtt.Closed()
	c.mu.Unlock()
	if closed {
		finishWriting(c.net) // over TLS it writes, so nobody may wait for the lock meanwhile
	}
}

// finishWriting tells the peer that nothing follows, without destroying what it has not read yet, as closing would.
func finishWriting(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

// close ends the connection for good, with what that means for the session.
func (c *connection) close(err error) {
	c.mu.Lock()
	var broken *mqtt.Error
	if errors.As(err, &broken) {
		c.front.Counters.Malformed.Add(1)
		c.recordRefusal(&fieldgate.Problem{Code: fieldgate.ProblemBadRequest, Detail: broken.Error()})
	}
	c.mqtt.Close(mqtt.UnspecifiedError)
	c.net.SetWriteDeadline(time.Now().Add(lastWords))
	c.drain()
	c.left = true
	c.mu.Unlock()
	c.front.departed(c)
	finishWriting(c.net)
	// Bytes that arrive after our last word would make the kernel reset the connection before the client reads it.
	c.net.SetReadDeadline(time.Now().Add(time.Second))
	io.CopyN(io.Discard, c.net, 64<<10)
	c.net.Close()

	c.front.mu.Lock()
	delete(c.front.connections, c)
	c.front.mu.Unlock()
	c.front.Counters.Connections.Add(-1)
}
