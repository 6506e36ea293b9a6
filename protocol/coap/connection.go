package coap

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// streamOut gathers the connections that one goroutine has something to say to.
type streamOut struct {
	stream *Stream
	own    *connection // that the goroutine reads, and writes to itself; nil: none
	silent []*connection
}

func (o *streamOut) Add(to netip.AddrPort, datagram []byte) {
	if c := o.stream.find(to); c != nil && c.append(datagram) {
		o.silent = append(o.silent, c)
	}
}

func (o *streamOut) Flush() {
	own := false
	for _, c := range o.silent {
		if c == o.own {
			own = true
			continue
		}
		o.stream.serving.Add(1)
		go func() {
			defer o.stream.serving.Done()
			c.write()
		}()
	}
	clear(o.silent)
	o.silent = o.silent[:0]
	if own {
		o.own.write()
	}
}

// connection is one of a Stream.
type connection struct {
	stream *Stream
	shard  *shard
	conn   net.Conn
	name   netip.AddrPort
	origin any
	opened time.Time

	// Of the goroutine that reads.
	frames  frames
	greeted bool
	pinged  bool      // since something came last
	heard   time.Time // when that was
	began   time.Time // when the message did that is cut
	counted int       // bytes of it, in Stream.cut
	short   [shortRead]byte
	// greeting is told once whether the peer has greeted or the connection ended before; nil: nobody wants to know.
	greeting func(bool)

	// mu is taken within a shard's lock, never around it.
	mu      sync.Mutex
	out     []byte        // that nobody has begun to write
	writing bool          // somebody writes, or is about to
	held    bool          // notifications wait until something was taken
	full    bool          // as many requests are in hand as may be
	over    bool          // it ends when all is written
	lost    bool          // nothing more can be written
	resumed chan struct{} // is closed when the peer may be read again; nil: it is read
	written chan struct{} // is closed when the writing ends; nil: nobody waits for that
}

var (
	longBuffers = sync.Pool{New: func() any { return new([longRead]byte) }}
	outBuffers  = sync.Pool{New: func() any { return new([]byte) }}
)

// locked has the Endpoint of the connection do something about it.
func (c *connection) locked(do func(*Endpoint, netip.AddrPort)) {
	r := c.stream.lock(c.shard)
	do(c.shard.endpoint, c.name)
	c.stream.unlock(c.shard, r)
}

// serve reads until the connection ends.
func (c *connection) serve() {
	defer c.stream.serving.Done()
	buffer := c.short[:]
	for {
		n, err := c.conn.Read(buffer)
		if n > 0 && !c.received(buffer[:n]) {
			break
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if !c.silent() {
				break
			}
		} else if err != nil {
			break
		}
		long := len(buffer) > shortRead
		switch {
		case !long && n == len(buffer):
			buffer = longBuffers.Get().(*[longRead]byte)[:]
		case long && n < shortRead:
			longBuffers.Put((*[longRead]byte)(buffer))
			buffer = c.short[:]
		}
	}
	c.end()
}

// due is when the connection ends, or is pinged, unless something comes before.
func (c *connection) due() time.Time {
	switch config := &c.stream.config; {
	case !c.greeted:
		return c.opened.Add(config.GreetTimeout)
	case c.frames.cut():
		return c.began.Add(config.MessageTimeout)
	case c.pinged:
		return c.heard.Add(config.IdleTimeout + config.PongTimeout)
	default:
		return c.heard.Add(config.IdleTimeout)
	}
}

// extend has the reading return when the connection is due, and says whether it goes on: when it is over, it has to end now.
func (c *connection) extend() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.conn.SetReadDeadline(c.due())
	}
	return !c.over
}

// silent says whether a connection goes on that was to be looked after at this time, or at an earlier one.
func (c *connection) silent() bool {
	switch {
	case c.due().After(time.Now()):
	case c.pinged || !c.greeted || c.frames.cut():
		return false
	default:
		c.pinged = true
		c.locked((*Endpoint).Ping)
	}
	return c.extend()
}

// received takes what was read, and says whether the connection goes on.
func (c *connection) received(bytes []byte) bool {
	s := c.stream
	wasCut, wasGreeted := c.frames.cut(), c.greeted
	r := s.receivers.Get().(*Receiver)
	out := r.out.(*streamOut)
	out.own = c
	on := true
	for on && len(bytes) > 0 {
		var datagram []byte
		var err error
		if datagram, bytes, err = c.frames.next(bytes); err != nil {
			s.broken.Add(1)
			c.locked(func(e *Endpoint, peer netip.AddrPort) { e.Abort(peer, err.Error()) })
			on = false
		} else if datagram != nil {
			wasCut = false
			r.Feed(c.name, datagram, time.Now())
			if !c.greeted {
				c.locked(func(e *Endpoint, peer netip.AddrPort) { c.greeted = e.Greeted(peer) })
				if c.greeted && c.greeting != nil {
					c.greeting(true)
				}
			}
			on = c.mayGoOn(out)
		}
	}
	out.Flush()
	out.own = nil
	s.receivers.Put(r)

	c.heard, c.pinged = time.Now(), false
	isCut := c.frames.cut()
	if isCut && !wasCut {
		c.began = c.heard
	}
	if isCut && !wasCut || c.greeted != wasGreeted {
		on = c.extend() && on
	}
	c.frames.rest()
	return on && c.count()
}

// mayGoOn waits while the peer has as many requests in hand as it may, or takes no answers, and says whether the connection goes on.
func (c *connection) mayGoOn(out *streamOut) bool {
	for c.mustWait() {
		out.Flush()
		c.mu.Lock()
		resumed := make(chan struct{})
		c.resumed = resumed
		c.mu.Unlock()
		if c.mustWait() { // still: what it waits for may have come before resumed was there
			<-resumed
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.over
}

func (c *connection) mustWait() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.over && (c.full || len(c.out) > paused)
}

// resume has the peer read that was not, perhaps. c is locked.
func (c *connection) resume() {
	if c.resumed != nil {
		close(c.resumed)
		c.resumed = nil
	}
}

// count counts what of a message has come. When that is too much of all connections, this one ends.
func (c *connection) count() bool {
	held := 0
	if c.frames.cut() {
		held = len(c.frames.datagram)
	}
	if held == c.counted {
		return true
	}
	s := c.stream
	all := s.cut.Add(int64(held - c.counted))
	grown := held > c.counted
	c.counted = held
	if grown && all > int64(s.config.TransferBytes) {
		s.refused.Add(1)
		c.locked(func(e *Endpoint, peer netip.AddrPort) { e.Abort(peer, "too much is under way: try again later") })
		return false
	}
	return true
}

// append adds to what is to be written, and says whether the caller has to see to that.
func (c *connection) append(datagram []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stream
	if c.lost {
		return false
	}
	if len(c.out) > 0 && c.writing && s.unsent.Load() > int64(s.config.UnsentBytes) {
		s.refused.Add(1)
		c.lose()
		c.conn.SetWriteDeadline(longAgo)
		return false
	}
	if c.out == nil {
		c.out = (*outBuffers.Get().(*[]byte))[:0]
	}
	before := len(c.out)
	c.out = appendFrame(c.out, datagram)
	s.unsent.Add(int64(len(c.out) - before))
	first := !c.writing
	c.writing = true
	return first
}

// lose ends a connection that takes nothing. c is locked.
func (c *connection) lose() {
	c.stream.unsent.Add(int64(-len(c.out)))
	c.out, c.lost, c.over = nil, true, true
	c.resume()
	c.conn.SetReadDeadline(longAgo)
}

var longAgo = time.Unix(1, 0)

// hangUp ends the connection once what was sent is written, for which there is so much time.
func (c *connection) hangUp(timeout time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.resume()
	c.conn.SetReadDeadline(longAgo)
	c.conn.SetWriteDeadline(time.Now().Add(timeout))
}

// write writes until nothing is left. c.writing was set by who calls it.
func (c *connection) write() {
	s := c.stream
	c.mu.Lock()
	for len(c.out) > 0 {
		out := c.out
		c.out = nil
		for rest := out; len(rest) > 0; {
			n := wholeFrames(rest)
			if !c.over { // otherwise the deadline of hangUp stands
				c.conn.SetWriteDeadline(time.Now().Add(s.config.WriteTimeout))
			}
			c.mu.Unlock()
			_, err := c.conn.Write(rest[:n])
			c.mu.Lock()
			if err != nil {
				n = len(rest)
				c.lose()
			}
			s.unsent.Add(int64(-n))
			rest = rest[n:]
		}
		if cap(out) <= keptOut {
			outBuffers.Put(&out)
		}
		c.resume()
		if c.held {
			c.held = false
			c.mu.Unlock()
			c.locked(func(e *Endpoint, peer netip.AddrPort) { e.Relieved(peer, time.Now()) })
			c.mu.Lock()
		}
	}
	c.writing = false
	if c.written != nil {
		close(c.written)
		c.written = nil
	}
	c.mu.Unlock()
}

// wholeFrames is how many bytes of messages are written at once: no message is cut, which WebSockets could not carry (RFC 8323 §4.2).
func wholeFrames(b []byte) (n int) {
	for n < len(b) {
		_, size := MeasureFrame(b[n:])
		if n > 0 && n+int(size) > writeSize {
			break
		}
		n += int(size)
	}
	return n
}

// end takes the connection out, which is read no more, and closes it when what its peer was told is written.
func (c *connection) end() {
	s := c.stream
	s.cut.Add(int64(-c.counted))
	if !c.greeted && c.greeting != nil {
		c.greeting(false)
	}
	c.locked(func(e *Endpoint, peer netip.AddrPort) { e.Close(peer, time.Now()) })
	s.taking.Lock()
	delete(s.connections, c.name)
	s.taking.Unlock()

	c.hangUp(lastWords)
	c.mu.Lock()
	var written chan struct{}
	if c.writing {
		written = make(chan struct{})
		c.written = written
	}
	c.mu.Unlock()
	if written != nil {
		<-written
	}
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		// Bytes that arrive after our last word would make the kernel reset the connection before the peer reads it.
		half.CloseWrite()
		c.conn.SetReadDeadline(time.Now().Add(lastWords))
		io.CopyN(io.Discard, c.conn, longRead)
	}
	c.conn.Close()
}
