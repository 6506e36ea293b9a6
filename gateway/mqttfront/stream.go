package mqttfront

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"fieldgate/gateway/clock"
	"fieldgate/protocol/mqtt"
)

// stream carries a connection's bytes where no loop can: while TLS shakes hands, inside WebSockets, and on other systems. Its goroutine reads;
// who has something to send and finds nobody writing starts a goroutine for it. What it holds for reading while nothing comes
// is small.
type stream struct {
	conn    net.Conn
	resumed chan struct{} // one token: reading may go on
	writing bool          // guarded by the connection's lock, as is written
	written chan struct{} // closed when the writing ends, for who waits for it; nil: nobody does
	short   [512]byte
}

var longBuffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

func newStream(conn net.Conn) *stream {
	return &stream{conn: conn, resumed: make(chan struct{}, 1)}
}

func (s *stream) wake() {
	select {
	case s.resumed <- struct{}{}:
	default:
	}
}

// serve reads until the connection ends.
func (s *stream) serve(c *connection) {
	s.conn.SetReadDeadline(clock.Time(c.deadline()))
	if !s.enter(c) {
		s.conn.Close()
		c.front().closed(c)
		return
	}
	if s.handOver(c) {
		return
	}
	err := s.read(c)
	c.leave(err)
	c.mu.Lock()
	s.conn.SetWriteDeadline(time.Now().Add(lastWords))
	s.drain(c)
	c.mu.Unlock()
	finishWriting(s.conn)
	// Bytes that arrive after our last word would make the kernel reset the connection before the client reads it.
	s.conn.SetReadDeadline(time.Now().Add(lastWords))
	io.CopyN(io.Discard, s.conn, readSize)
	s.conn.Close()
	c.front().closed(c)
}

// handOver gives a connection to a loop that needed the stream for the beginning only.
func (s *stream) handOver(c *connection) bool {
	f := c.front()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping || len(f.loops) == 0 {
		return false
	}
	taken := false
	switch conn := s.conn.(type) {
	case *net.TCPConn:
		taken = f.loop(c, conn, nil)
	case *tls.Conn:
		secured := below(conn)
		taken = f.loop(c, secured.Conn.(*net.TCPConn), secured)
	}
	if taken {
		delete(f.streams, c)
	}
	return taken
}

// read handles what the client sends until the connection ends. A long buffer is used while much comes.
func (s *stream) read(c *connection) error {
	buffer := s.short[:]
	for {
		n, err := s.conn.Read(buffer)
		if n > 0 {
			if err := s.process(c, buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err := s.silent(c); err != nil {
				return err
			}
		case err != nil:
			return err
		}
		long := len(buffer) > len(s.short)
		switch {
		case !long && n == len(buffer):
			buffer = longBuffers.Get().(*[16 << 10]byte)[:]
		case long && n < len(s.short):
			longBuffers.Put((*[16 << 10]byte)(buffer))
			buffer = s.short[:]
		}
	}
}

// process handles what was received, waiting as long as the client has to.
func (s *stream) process(c *connection, received []byte) error {
	wasOpening := c.session == nil
	for {
		b := c.front().newBatch()
		_, err := c.process(received, b, false)
		c.mu.Lock()
		s.flushNow(c)
		stalled := c.stalled
		c.mu.Unlock()
		b.end()
		if err != nil {
			return err
		}
		if !stalled {
			break
		}
		received = nil
		<-s.resumed
	}
	if wasOpening && c.session != nil {
		c.mu.Lock()
		if !c.mqtt.Closed() { // otherwise the deadline of hurry stands
			s.awake(c.deadline())
		}
		c.mu.Unlock()
	}
	return nil
}

// silent ends the connection if its time is really over: it may have got more since the deadline was set.
func (s *stream) silent(c *connection) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch deadline, now := c.deadline(), time.Now(); {
	case c.mqtt.Closed():
		return errOver
	case deadline == 0 || deadline > clock.Of(now):
		s.awake(deadline)
		return nil
	case c.session == nil:
		return os.ErrDeadlineExceeded
	default:
		return c.mqtt.Tick(now)
	}
}

// awake has the reading return at that time; 0: never.
func (s *stream) awake(at time.Duration) {
	if at == 0 {
		s.conn.SetReadDeadline(time.Time{})
	} else {
		s.conn.SetReadDeadline(clock.Time(at))
	}
}

// hurry lets a connection that ends take what it is told, and no longer. c is locked.
func (s *stream) hurry() {
	soon := time.Now().Add(lastWords)
	s.conn.SetReadDeadline(soon)
	s.conn.SetWriteDeadline(soon)
	s.wake()
}

// flush has a goroutine write what there is to send. c is locked.
func (s *stream) flush(c *connection) {
	if !s.writing && (c.mqtt.HasOut() || c.mqtt.Closed()) {
		s.writing = true
		c.front().running.Go(func() { s.write(c) })
	}
}

// flushNow writes on the reading goroutine: a client that does not take its acknowledgements is not read. c is locked, and
// unlocked while it writes.
func (s *stream) flushNow(c *connection) {
	if s.writing || !c.mqtt.HasOut() {
		return
	}
	s.writing = true
	c.mu.Unlock()
	s.write(c)
	c.mu.Lock()
}

// drain writes all there is, or waits for whoever is writing it. c is locked, and unlocked meanwhile.
func (s *stream) drain(c *connection) {
	s.flushNow(c)
	if s.writing {
		written := make(chan struct{})
		s.written = written
		c.mu.Unlock()
		<-written
		c.mu.Lock()
	}
}

// write writes until nothing is left. s.writing was set by the caller.
func (s *stream) write(c *connection) {
	b := c.front().newBatch()
	c.mu.Lock()
	for c.mqtt.HasOut() {
		out := c.mqtt.Out(b.buffer(), time.Now())
		timeout := c.front().config.WriteTimeout
		if c.mqtt.Closed() {
			timeout = lastWords
		}
		s.conn.SetWriteDeadline(time.Now().Add(timeout)) // under the lock: hurry may shorten it, never the other way round
		c.mu.Unlock()
		_, err := s.conn.Write(out)
		c.mu.Lock()
		b.release(out)
		if err != nil {
			c.mqtt.Close(mqtt.UnspecifiedError)
			c.mqtt.TakeBuffer()
			s.conn.Close()
			break
		}
		c.deliverRetained(time.Now())
	}
	if !c.handling {
		b.takeBack(c)
	}
	s.writing = false
	if s.written != nil {
		close(s.written)
		s.written = nil
	}
	closed := c.mqtt.Closed()
	c.mu.Unlock()
	b.end()
	if closed {
		finishWriting(s.conn) // over TLS it writes, so nobody may wait for the lock meanwhile
	}
}

// finishWriting tells the peer that nothing follows, without destroying what it has not read yet, as closing would.
func finishWriting(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}
