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

	created   time.Time
	idleSince time.Time
	reused    bool // carried an exchange before
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
	err = raw.Read(func(fd uintptr) bool {
		var peeked [1]byte
		_, _, err := syscall.Recvfrom(int(fd), peeked[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = err == syscall.EAGAIN
		return true
	})
	return err == nil && silent
}
