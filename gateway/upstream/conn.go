package upstream

import (
	"net"
	"syscall"
	"time"

	"fieldgate/protocol/h1"
)

// trustedIdle is how long an idle connection is taken to live without a look at it, which costs a system call.
const trustedIdle = 100 * time.Millisecond

// conn is one connection to an upstream, used by one call at a time.
type conn struct {
	net.Conn
	tcp     *net.TCPConn // below TLS, if there is TLS
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
// something unasked, may not.
func (c *conn) usable(now time.Time) bool {
	if now.Sub(c.created) > maxLifetime {
		return false
	}
	idle := now.Sub(c.idleSince)
	if idle < trustedIdle {
		return true
	}
	return idle < idleTimeout && c.silent()
}

// silent looks, without waiting, whether the connection is open and has nothing to read.
func (c *conn) silent() bool {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Control(func(fd uintptr) { // not Read: the deadline of the last call may have passed
		var peeked [1]byte
		_, _, err := syscall.Recvfrom(int(fd), peeked[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = err == syscall.EAGAIN
	})
	return err == nil && silent
}
