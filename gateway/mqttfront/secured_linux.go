//go:build linux && (amd64 || arm64)

package mqttfront

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"fieldgate/gateway/clock"
	"fieldgate/gateway/socket"
)

// secured is what is below TLS: the connection while a stream shakes hands, then a loop's socket, which never waits. All that is asked of
// TLS then is asked with the connection locked: reading may make it write (RFC 8446 §4.6.3).
type secured struct {
	net.Conn
	tls   *tls.Conn
	owner *connection // that a loop serves; nil: a stream does
	ready bool        // there may be something to read in the socket
}

// gone is a connection of which every use fails.
var gone net.Conn = new(net.TCPConn)

// newSecured is the server's side of TLS over a connection.
func newSecured(conn net.Conn, config *tls.Config) net.Conn {
	s := &secured{Conn: conn}
	s.tls = tls.Server(s, config)
	return s.tls
}

// below gives what is below TLS.
func below(conn *tls.Conn) *secured { return conn.NetConn().(*secured) }

// Read gives TLS what the socket has. Package tls takes os.ErrDeadlineExceeded for a pause.
func (s *secured) Read(p []byte) (int, error) {
	if s.owner == nil {
		return s.Conn.Read(p)
	}
	if !s.ready {
		return 0, os.ErrDeadlineExceeded
	}
	polled := &s.owner.polled
	n, errno := socket.Receive(polled.fd, p)
	switch {
	case errno == syscall.EAGAIN:
		s.ready = false
		return 0, os.ErrDeadlineExceeded
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	}
	s.ready = n == len(p) || polled.hungUp // less than asked for is all there is (epoll(7))
	return n, nil
}

// Write puts what TLS has made behind what is pending.
func (s *secured) Write(p []byte) (int, error) {
	if s.owner == nil {
		return s.Conn.Write(p)
	}
	s.owner.pending = append(s.owner.pending, p...)
	return len(p), nil
}

// seal has TLS make records of what there is to send, which are pending then. c is locked.
func (s *secured) seal(out []byte, b *batch) {
	s.owner.pending = b.buffer()
	if _, err := s.tls.Write(out); err != nil {
		s.owner.lost = true
	}
	b.release(out)
}

// readSecured handles what TLS makes of what the socket has. It goes on until TLS has no whole record left, of which nobody would tell.
func (l *loop) readSecured(c *connection) {
	p, s := &c.polled, c.secured
	for range readSize / (16 << 10) { // RFC 8446 §5.1: the most that one Read gives
		c.mu.Lock()
		n, err := s.tls.Read(l.buf)
		if len(c.pending) > 0 {
			c.since = clock.Now()
			l.send(c, &l.batch)
		}
		c.mu.Unlock()
		if n > 0 {
			l.process(c, l.buf[:n])
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.readable = false
			return
		case err != nil:
			c.mu.Lock()
			c.lost = c.lost || errors.As(err, new(syscall.Errno))
			c.mu.Unlock()
			l.leave(c, nil)
			return
		}
		if !l.goesOn(c) {
			break
		}
	}
	l.attend(c) // TLS may have more
}

// goesOn says whether what more the client has sent can be handled now.
func (l *loop) goesOn(c *connection) bool {
	if c.polled.fd < 0 || c.polled.working.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.paused() && !c.left && !c.lost && !c.mqtt.Closed()
}

// finish has TLS say that nothing follows (RFC 8446 §6.1), once. The connection is locked.
func (s *secured) finish() {
	s.tls.CloseWrite() // what is below never fails
}
