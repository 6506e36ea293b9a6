package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
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
	out      []byte      // the request head is put together here
	heard    atomic.Bool // the answer has begun

	moving    sync.Mutex // of the deadline, where content goes both ways at once
	deadline  time.Time  // in force
	created   time.Time
	idleSince time.Time
	reused    bool // carried an exchange before
}

// connect dials; the caller has counted the connection as open.
func (a *address) connect(ctx context.Context, deadline time.Time) (*conn, error) {
	now := time.Now()
	ctx, cancel := context.WithDeadline(ctx, earlier(deadline, now.Add(a.connectTimeout)))
	defer cancel()
	tcp, err := dial(ctx, a.dial)
	if err != nil {
		a.giveUpPlace()
		return nil, err
	}
	c := &conn{tcp: tcp, address: a, created: now, plain: a.tls == nil}
	c.socket = socket.New(tcp)
	c.Conn = c.socket
	if a.tls != nil {
		if c.Conn, err = a.secure(ctx, c.socket, "http/1.1"); err != nil {
			a.giveUpPlace()
			return nil, err
		}
	}
	c.reader = h1.NewReader(c.Conn, h1.DefaultBuffer)
	return c, nil
}

func dial(ctx context.Context, address string) (*net.TCPConn, error) {
	var dialer net.Dialer
	link, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, &connectError{err}
	}
	return link.(*net.TCPConn), nil
}

// secure does the TLS handshake, or closes the connection.
func (a *address) secure(ctx context.Context, link net.Conn, protocol string) (*tls.Conn, error) {
	secured := tls.Client(link, a.tls.config(time.Now(), a.name, protocol))
	if err := secured.HandshakeContext(ctx); err != nil {
		link.Close()
		return nil, &connectError{err}
	}
	return secured, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// connectError says that nothing was sent: no connection came about.
type connectError struct{ cause error }

func (e *connectError) Error() string { return "connect: " + e.cause.Error() }
func (e *connectError) Unwrap() error { return e.cause }

func notConnected(err error) bool {
	_, is := errors.AsType[*connectError](err)
	return is
}

// deadlineSlack is how much later than at its time-out a call may end, so that a busy connection need not set a deadline for each.
// Of short time-outs it is an eighth.
const deadlineSlack = 100 * time.Millisecond

// endBy sees to it that reading and writing end at the deadline. One goroutine may call it while another does.
func (c *conn) endBy(now, deadline time.Time) error {
	c.moving.Lock()
	defer c.moving.Unlock()
	slack := min(deadlineSlack, deadline.Sub(now)/8)
	if !c.deadline.Before(deadline) && !c.deadline.After(deadline.Add(slack)) {
		return nil
	}
	c.deadline = deadline.Add(slack)
	return c.SetDeadline(c.deadline)
}

// noEnd lifts the deadline.
func (c *conn) noEnd() error {
	c.moving.Lock()
	defer c.moving.Unlock()
	c.deadline = time.Time{}
	return c.SetDeadline(time.Time{})
}

// usable reports whether the connection may be used again. One that the upstream has closed, or on which it has said
// something unasked, may not: that would become the answer to the next request. Whether one without TLS is, ask sees.
func (c *conn) usable(now time.Time) bool {
	return now.Sub(c.created) <= maxLifetime && now.Sub(c.idleSince) < idleTimeout && (c.plain || c.quiet())
}

var errNotQuiet = errors.New("the connection was closed, or said something unasked, while it was idle")

// ask writes a request, unless the connection is none to be used again: errNotQuiet. With wait it waits until the answer begins,
// or whatever else the next read is going to tell.
func (c *conn) ask(request []byte, wait bool) (n int, err error) {
	if !c.reused || !c.plain {
		return c.Write(request)
	}
	link, ok := c.socket.(*socket.Conn)
	if !ok || !wait {
		if !c.quiet() {
			return 0, errNotQuiet
		}
		return c.Write(request)
	}
	n, quiet, err := link.Ask(request)
	if !quiet {
		return 0, errNotQuiet
	}
	return n, err
}

// answering looks, without waiting, whether the answer has begun. Under TLS only what was read already tells.
func (c *conn) answering() bool { return c.heard.Load() || c.plain && !c.quiet() }

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
	c.SetReadDeadline(pastDeadline)
	return errors.Is(c.reader.Fill(), os.ErrDeadlineExceeded)
}
