//go:build linux && (amd64 || arm64)

package tunnel

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"syscall"

	"fieldgate/gateway/socket"
)

// secured is TLS above a side's socket. It never waits: what is read of a record that is not whole yet stays with TLS, and what the
// socket does not take is pending as with a side that has no TLS.
type secured struct {
	link    *tls.Conn
	side    *side
	left    int  // of what may be read in this turn
	reading bool // TLS was asked for what came
	owed    int  // bytes that TLS answered by itself and the side has not taken
}

// maxOwed bounds what TLS answers by itself (RFC 8446 §4.6.3) to a side that does not read.
const maxOwed = 4 << 10

var errOwed = errors.New("tunnel: a side that does not read asks for new keys")

// divertible says whether the relay can serve what is below TLS.
func divertible(link *tls.Conn) bool {
	_, ok := link.NetConn().(*socket.Conn)
	return ok
}

// divert leads TLS over the relay's socket.
func (s *secured) divert() { s.link.NetConn().(*socket.Conn).Divert(s) }

// Read gives TLS what the socket has. Package tls takes os.ErrDeadlineExceeded for a pause.
func (s *secured) Read(p []byte) (int, error) {
	if s.left == 0 { // others are served before the rest
		return 0, os.ErrDeadlineExceeded
	}
	n, errno := socket.Receive(s.side.fd, p[:min(len(p), s.left)])
	switch {
	case errno == 0 && n == 0:
		return 0, io.EOF
	case errno == 0:
		s.left -= n
		return n, nil
	case errno == syscall.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	}
	return 0, errno
}

// Write sends what TLS has made.
func (s *secured) Write(p []byte) (int, error) {
	if err := s.side.send(p); err != nil {
		return 0, err
	}
	if s.reading && len(s.side.pending) > 0 {
		if s.owed += len(p); s.owed > maxOwed {
			return 0, errOwed
		}
	}
	return len(p), nil
}

// readSecured passes on what TLS makes of what the socket has. It goes on until TLS has no whole record left, of which nobody would tell.
func (l *loop) readSecured(t *Tunnel, i int) {
	s := &t.sides[i]
	s.secured.left = readSize
	for !s.eof && !s.checking && !t.over {
		s.secured.reading = true
		n, err := s.secured.link.Read(l.buf)
		s.secured.reading = false
		if n > 0 {
			t.moved()
			l.move(t, i, l.buf[:n])
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err == io.EOF:
			l.heardAll(t, i)
		default:
			l.lost(t, i)
			return
		}
	}
}
