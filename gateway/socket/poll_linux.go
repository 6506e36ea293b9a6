//go:build linux && (amd64 || arm64)

package socket

import (
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// Duplicate is the connection's socket under a number of its own: the connection may be closed without ending it.
func Duplicate(tcp *net.TCPConn) (fd int, err error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1, err
	}
	var errno syscall.Errno
	err = raw.Control(func(original uintptr) {
		var n uintptr
		n, _, errno = syscall.Syscall(syscall.SYS_FCNTL, original, syscall.F_DUPFD_CLOEXEC, 0)
		fd = int(n)
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("fcntl", errno)
	}
	return fd, err
}

// Receive reads what is there. The scheduler is not told: the call does not block.
func Receive(fd int32, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_DONTWAIT, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Send writes what the socket takes of p.
func Send(fd int32, p []byte) (sent int, errno syscall.Errno) {
	for sent < len(p) {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[sent])), uintptr(len(p)-sent), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			sent += int(n)
		case syscall.EINTR:
		default:
			return sent, errno
		}
	}
	return sent, 0
}

// Poll waits for many sockets in one goroutine. It is an epoll(7) that the Go scheduler watches like any socket, so that it
// holds no thread while nothing happens.
type Poll struct {
	file   *os.File
	raw    syscall.RawConn
	fd     int
	wait   func(fd uintptr) bool // made once, so that no call allocates
	events [128]syscall.EpollEvent
	ready  int
}

// OpenPoll makes a Poll that watches nothing yet.
func OpenPoll() (*Poll, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // so that os.NewFile hands it to the scheduler
		syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &Poll{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	p.wait = func(fd uintptr) bool {
		p.ready = p.look(fd)
		return p.ready > 0
	}
	if p.raw, err = p.file.SyscallConn(); err == nil {
		err = p.file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		p.file.Close()
		return nil, err
	}
	return p, nil
}

// look asks, without waiting, which sockets are ready.
func (p *Poll) look(fd uintptr) int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
	if errno != 0 { // EINTR; anything else would be a fault of ours
		return 0
	}
	return int(n)
}

// Wait gives what is ready once something is, valid until the next call; none, when the deadline has passed or after Wake.
func (p *Poll) Wait() ([]syscall.EpollEvent, error) {
	if err := p.raw.Read(p.wait); os.IsTimeout(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return p.events[:p.ready], nil
}

// Look is Wait without waiting.
func (p *Poll) Look() []syscall.EpollEvent { return p.events[:p.look(uintptr(p.fd))] }

// Control is epoll_ctl(2).
func (p *Poll) Control(operation int, fd int32, event *syscall.EpollEvent) error {
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(p.fd, operation, int(fd), event))
}

// SetDeadline has Wait return at that time; zero: never.
func (p *Poll) SetDeadline(t time.Time) { p.file.SetReadDeadline(t) }

// Wake has Wait return at once, now and until SetDeadline. It may be called by anybody.
func (p *Poll) Wake() { p.file.SetReadDeadline(longAgo) }

var longAgo = time.Unix(1, 0)

// Close releases the descriptor; nobody waits any more.
func (p *Poll) Close() error { return p.file.Close() }
