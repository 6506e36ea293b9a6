//go:build linux && (amd64 || arm64)

package socket

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// Conn is a TCP connection. As with any net.Conn one goroutine may read while another one writes, but unlike others it must not
// be read, nor written, by two at once.
type Conn struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out transfer
	look    func(fd uintptr)
	try     func(fd uintptr)
	ask     func(fd uintptr) bool
	quiet   bool
	asked   bool          // what Ask had to write
	way     io.ReadWriter // instead of the socket; nil: none
}

// transfer is the read or write under way.
type transfer struct {
	buf  []byte
	n    int
	fail syscall.Errno
	step func(fd uintptr) bool // made once, so that no call allocates
}

// New makes a Conn of a connection. One that has no socket, of which every use fails, comes back as it is.
func New(tcp *net.TCPConn) net.Conn {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return tcp
	}
	c := &Conn{TCPConn: tcp, raw: raw}
	c.in.step, c.out.step, c.look, c.ask = c.readStep, c.writeStep, c.lookStep, c.askStep
	c.try = func(fd uintptr) { c.writeStep(fd) }
	return c
}

// Read is net.Conn's.
func (c *Conn) Read(p []byte) (int, error) {
	if c.way != nil {
		return c.way.Read(p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	t := &c.in
	t.buf, t.n, t.fail = p, 0, 0
	err := c.raw.Read(t.step)
	t.buf = nil
	switch {
	case err != nil:
		return 0, err
	case t.fail != 0:
		return 0, failure("recv", t.fail)
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// Write is net.Conn's.
func (c *Conn) Write(p []byte) (int, error) {
	if c.way != nil {
		return c.way.Write(p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	t := &c.out
	t.buf, t.n, t.fail = p, 0, 0
	err := c.raw.Write(t.step)
	t.buf = nil
	if err == nil && t.fail != 0 {
		err = failure("send", t.fail)
	}
	return t.n, err
}

// TryWrite writes what the socket takes of p without waiting. To be called while nobody writes.
func (c *Conn) TryWrite(p []byte) (int, error) {
	t := &c.out
	t.buf, t.n, t.fail = p, 0, 0
	err := c.raw.Control(c.try) // not Write: a deadline may have passed
	t.buf = nil
	if err == nil && t.fail != 0 {
		err = failure("send", t.fail)
	}
	return t.n, err
}

// Divert has all that Read and Write are asked for from now on go another way: so TLS above the connection can be led over a socket that
// somebody else serves. To be called while nobody reads or writes.
func (c *Conn) Divert(way io.ReadWriter) { c.way = way }

// Quiet looks, without waiting, whether the connection is open and has nothing to read. To be called by the one that reads.
func (c *Conn) Quiet() bool {
	c.quiet = false
	err := c.raw.Control(c.look) // not Read: a deadline may have passed
	return err == nil && c.quiet
}

func (c *Conn) lookStep(fd uintptr) {
	var peeked [1]byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&peeked[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	c.quiet = errno == syscall.EAGAIN
}

// Ask writes p if the connection is open and has nothing to read, and then waits until it has. Otherwise nothing is written, and quiet is
// false. What ended the waiting, the next Read tells. To be called by the one that reads, while nobody writes.
//
// It looks before it writes and not again after: since the poller was made ready before the look, whatever comes later ends the
// waiting. A Read behind a Write has to look first, which costs a system call.
func (c *Conn) Ask(p []byte) (n int, quiet bool, err error) {
	t := &c.out
	t.buf, t.n, t.fail = p, 0, 0
	c.quiet, c.asked = false, false
	err = c.raw.Read(c.ask)
	t.buf = nil
	switch {
	case !c.asked: // the deadline had passed, or the connection was closed
		return 0, true, err
	case !c.quiet:
		return 0, false, nil
	case t.fail != 0:
		return t.n, true, failure("send", t.fail)
	case t.n < len(p):
		n = t.n
		more, err := c.Write(p[n:])
		return n + more, true, err
	}
	return t.n, true, nil
}

// askStep looks and writes; once that was done something has come. False: wait until it does.
func (c *Conn) askStep(fd uintptr) bool {
	if c.asked {
		return true
	}
	c.asked = true
	c.lookStep(fd)
	return !c.quiet || !c.writeStep(fd) || c.out.fail != 0
}

// readStep reads what is there; false: wait until something is.
func (c *Conn) readStep(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&c.in.buf[0])), uintptr(len(c.in.buf)), syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			c.in.n = int(n)
			return true
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			c.in.fail = errno
			return true
		}
	}
}

// writeStep writes what the socket takes; false: wait until it takes more.
func (c *Conn) writeStep(fd uintptr) bool {
	for c.out.n < len(c.out.buf) {
		rest := c.out.buf[c.out.n:]
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&rest[0])), uintptr(len(rest)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			c.out.n += int(n)
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			c.out.fail = errno
			return true
		}
	}
	return true
}

func failure(call string, errno syscall.Errno) error {
	return &net.OpError{Op: call, Net: "tcp", Err: os.NewSyscallError(call, errno)}
}
