package upstream

import (
	"errors"
	"net"
	"os"
	"time"

	"fieldgate/gateway/socket"
	"fieldgate/protocol/h1"
)

// conn is one connection to an upstream, used by one call at a time.
type conn struct {
	net.Conn
	tcp     *net.TCPConn // below TLS, if there is TLS
	socket  net.Conn     // of tcp
	plain   bool
	address *address

	reader   *h1.Reader
	response h1.Response
	body     h1.Body
	out      []byte // the request head is put together here

	deadline  time.Time // in force
	created   time.Time
	idleSince time.Time
	reused    bool // carried an exchange before
}

// deadlineSlack is how much later than at its time-out a call may end, so that a busy connection need not set a deadline for each.
// Of short time-outs it is an eighth.
const deadlineSlack = 100 * time.Millisecond

// endBy sees to it that reading and writing end at the deadline.
func (c *conn) endBy(now, deadline time.Time) error {
	slack := min(deadlineSlack, deadline.Sub(now)/8)
	if !c.deadline.Before(deadline) && !c.deadline.After(deadline.Add(slack)) {
		return nil
	}
	c.deadline = deadline.Add(slack)
	return c.SetDeadline(c.deadline)
}

// usable reports whether the connection may be used again. One that the upstream has closed, or on which it has said
// something unasked, may not: that would become the answer to the next request.
func (c *conn) usable(now time.Time) bool {
	return now.Sub(c.created) <= maxLifetime && now.Sub(c.idleSince) < idleTimeout && c.quiet()
}

// quiet looks, without waiting, whether the connection is open and has nothing to read.
func (c *conn) quiet() bool {
	if socket, ok := c.socket.(*socket.Conn); !ok || !socket.Quiet() {
		return false
	}
	if c.plain {
		return true
	}
	// TLS may hold records that it has read together with the last answer. The deadline keeps it from waiting for more.
	c.deadline = time.Time{}
	c.SetReadDeadline(time.Unix(1, 0))
	return errors.Is(c.reader.Fill(), os.ErrDeadlineExceeded)
}
