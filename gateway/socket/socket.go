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
	quiet   bool
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
	c.in.step, c.out.step, c.look = c.readStep, c.writeStep, c.lookStep
	return c
}

// Read is net.Conn's.
func (c *Conn) Read(p []byte) (int, error) {
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
