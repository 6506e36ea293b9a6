//go:build linux && (amd64 || arm64)

package coap

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// socket is a UDP socket that is read and written many datagrams at a time: recvmmsg(2), sendmmsg(2). Its readers are threads that
// wait in the kernel, which wakes one for a datagram; by way of the Go scheduler's poller a request costs a fifth more. They leave a
// processor to others: the scheduler polls where all wait in the kernel, which costs as much.
type socket struct {
	file   *os.File
	raw    syscall.RawConn
	fd     int // as long as there are readers; others go by raw
	v6     bool
	ended  atomic.Bool
	logger *slog.Logger

	security Security        // nil: none
	local    *localAddresses // nil: the socket is bound to an address
}

const (
	batchSize     = 32
	outgoingBytes = 64 << 10 // more than any datagram
	maxReaders    = 8

	waitForOne = 0x10000 // MSG_WAITFORONE
)

// mmsghdr is that of recvmmsg(2).
type mmsghdr struct {
	syscall.Msghdr
	length uint32
	_      [4]byte
}

func newSocket(conn *net.UDPConn, logger *slog.Logger) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{logger: logger}
	if conn.LocalAddr().(*net.UDPAddr).IP.IsUnspecified() {
		s.local = &localAddresses{}
	}
	var errs [4]error
	err = raw.Control(func(fd uintptr) {
		var domain int
		domain, errs[0] = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_DOMAIN)
		s.v6 = domain == syscall.AF_INET6
		duplicate, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
		if errno != 0 {
			errs[1] = errno
			return
		}
		s.fd = int(duplicate)
		errs[2] = syscall.SetNonblock(s.fd, false)
		if s.local != nil {
			errs[3] = receivePacketInfo(s.fd, s.v6)
		}
		s.file = os.NewFile(duplicate, "udp")
	})
	if err = errors.Join(append(errs[:], err)...); err == nil {
		s.raw, err = s.file.SyscallConn()
	}
	if err != nil {
		if s.file != nil {
			s.file.Close()
		}
		return nil, err
	}
	conn.Close()
	return s, nil
}

func (s *socket) close() { s.file.Close() }

// end ends the readers.
func (s *socket) end() {
	s.ended.Store(true)
	s.raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_RD) }) // fails, but does that
}

// receive reads and answers until end is called.
func (u *UDP) receive(context.Context) error {
	readers := 1
	if u.workers > 0 {
		readers = max(1, min(runtime.GOMAXPROCS(0)-1, maxReaders))
	}
	var all sync.WaitGroup
	failed := make([]error, readers)
	for i := range failed {
		all.Go(func() {
			failed[i] = u.socket.read(u.Server)
			u.socket.end()
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// read is one reader. The answers to what it reads at a time leave together.
func (s *socket) read(server *Server) error {
	in := newArrivals(s.local)
	out := s.outgoing()
	receiver := server.Receiver(out)
	var now time.Time
	feed := func(from netip.AddrPort, datagram []byte) { receiver.Feed(from, datagram, now) }
	for {
		n, err := in.read(s.fd)
		switch {
		case s.ended.Load():
			return nil
		case err == syscall.EBADF || err == syscall.ENOTSOCK || err == syscall.EFAULT:
			return os.NewSyscallError("recvmmsg", err)
		case err != nil && err != syscall.EINTR:
			// An ICMP message about something sent earlier, or a lack of memory; the socket lives on.
			s.logger.Debug("coap: read", "error", err)
			continue
		}
		now = time.Now()
		for i := range n {
			switch from, datagram := in.at(i); {
			case datagram == nil:
			case s.security != nil:
				s.security.Open(from, datagram, feed)
			default:
				feed(from, datagram)
			}
		}
		out.Flush()
	}
}

// arrivals are datagrams that were read at a time.
type arrivals struct {
	local   *localAddresses
	infos   []packetInfo
	heads   [batchSize]mmsghdr
	vectors [batchSize]syscall.Iovec
	names   [batchSize]syscall.RawSockaddrInet6 // in which those of IPv4 have room
	buffer  []byte
}

func newArrivals(local *localAddresses) *arrivals {
	a := &arrivals{local: local, buffer: make([]byte, batchSize*(maxDatagram+1))}
	for i := range a.heads {
		a.vectors[i].Base = &a.buffer[i*(maxDatagram+1)]
		a.vectors[i].SetLen(maxDatagram + 1)
		a.heads[i].Name = (*byte)(unsafe.Pointer(&a.names[i]))
		a.heads[i].Namelen = syscall.SizeofSockaddrInet6
		a.heads[i].Iov, a.heads[i].Iovlen = &a.vectors[i], 1
	}
	if local != nil {
		a.infos = make([]packetInfo, batchSize)
		for i := range a.infos {
			a.heads[i].Control, a.heads[i].Controllen = (*byte)(unsafe.Pointer(&a.infos[i])), uint64(unsafe.Sizeof(a.infos[i]))
		}
	}
	return a
}

// read waits for one datagram and takes those that have come besides.
func (a *arrivals) read(fd int) (n int, err error) {
	count, _, errno := syscall.Syscall6(syscall.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&a.heads)), batchSize, waitForOne, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(count), nil
}

// at is a datagram with its sender; nil if it was longer than maxDatagram.
func (a *arrivals) at(i int) (from netip.AddrPort, datagram []byte) {
	head := &a.heads[i]
	from = addrPort(&a.names[i])
	head.Namelen = syscall.SizeofSockaddrInet6
	if a.local != nil {
		if head.Controllen > 0 {
			a.local.heard(from, a.infos[i].address())
		}
		head.Controllen = uint64(unsafe.Sizeof(a.infos[i]))
	}
	if head.length > maxDatagram || !from.IsValid() {
		return from, nil
	}
	at := i * (maxDatagram + 1)
	return from, a.buffer[at : at+int(head.length) : at+int(head.length)]
}

// departures are datagrams that leave at a time. It implements Outgoing.
type departures struct {
	socket  *socket
	heads   [batchSize]mmsghdr
	vectors [batchSize]syscall.Iovec
	names   [batchSize]syscall.RawSockaddrInet6
	infos   [batchSize]packetInfo
	count   int
	buffer  []byte
	first   int // of those that have not left
	send    func(fd uintptr)
}

func (s *socket) outgoing() Outgoing {
	d := &departures{socket: s, buffer: make([]byte, 0, outgoingBytes)}
	for i := range d.heads {
		d.heads[i].Name = (*byte)(unsafe.Pointer(&d.names[i]))
		d.heads[i].Iov, d.heads[i].Iovlen = &d.vectors[i], 1
	}
	d.send = d.sendAll // made once, so that no call allocates
	return d
}

// Add implements Outgoing.
func (d *departures) Add(to netip.AddrPort, datagram []byte) {
	if len(datagram)+sealRoom > outgoingBytes {
		return
	}
	if d.count == batchSize || len(d.buffer)+len(datagram)+sealRoom > outgoingBytes {
		d.Flush()
	}
	at := len(d.buffer)
	if d.socket.security == nil {
		d.buffer = append(d.buffer, datagram...)
	} else {
		var ok bool
		if to, d.buffer, ok = d.socket.security.Seal(d.buffer, to, datagram); !ok {
			return
		}
	}
	d.vectors[d.count].Base = &d.buffer[at]
	d.vectors[d.count].SetLen(len(d.buffer) - at)
	d.heads[d.count].Namelen = setSockaddr(&d.names[d.count], to, d.socket.v6)
	d.socket.from(&d.heads[d.count].Msghdr, &d.infos[d.count], to)
	d.count++
}

// Flush implements Outgoing. Errors are ignored: a datagram may be lost anyway, and retransmission is the remedy for that.
func (d *departures) Flush() {
	if d.count > 0 {
		d.first = 0
		d.socket.raw.Control(d.send)
		d.count, d.buffer = 0, d.buffer[:0]
	}
}

func (d *departures) sendAll(fd uintptr) {
	for d.first < d.count {
		sent, _, errno := syscall.Syscall6(sysSendmmsg, fd, uintptr(unsafe.Pointer(&d.heads[d.first])), uintptr(d.count-d.first), 0, 0, 0)
		switch errno {
		case 0:
			d.first += int(sent)
		case syscall.EINTR:
		default:
			if d.socket.lost(&d.heads[d.first].Msghdr, errno) {
				continue
			}
			d.socket.logger.Debug("coap: write", "error", errno)
			d.first++ // which is the one that could not be sent
		}
	}
}

// send puts one datagram on the network.
func (s *socket) send(to netip.AddrPort, datagram []byte) {
	if len(datagram) == 0 {
		return
	}
	var name syscall.RawSockaddrInet6
	var info packetInfo
	vector := syscall.Iovec{Base: &datagram[0]}
	vector.SetLen(len(datagram))
	head := syscall.Msghdr{Name: (*byte)(unsafe.Pointer(&name)), Namelen: setSockaddr(&name, to, s.v6), Iov: &vector, Iovlen: 1}
	s.from(&head, &info, to)
	s.raw.Control(func(fd uintptr) {
		_, _, errno := syscall.Syscall(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&head)), 0)
		if errno != 0 && s.lost(&head, errno) {
			_, _, errno = syscall.Syscall(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&head)), 0)
		}
		if errno != 0 {
			s.logger.Debug("coap: write", "error", errno)
		}
	})
}

// sysSendmmsg is missing in package syscall.
var sysSendmmsg = map[string]uintptr{"amd64": 307, "arm64": 269}[runtime.GOARCH]

// addrPort reads what the kernel has written; it is not valid when that is no address of the Internet.
func addrPort(a *syscall.RawSockaddrInet6) netip.AddrPort {
	switch a.Family {
	case syscall.AF_INET:
		v4 := (*syscall.RawSockaddrInet4)(unsafe.Pointer(a))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), swapped(v4.Port))
	case syscall.AF_INET6:
		addr := netip.AddrFrom16(a.Addr).Unmap()
		if a.Scope_id != 0 {
			addr = addr.WithZone(strconv.FormatUint(uint64(a.Scope_id), 10))
		}
		return netip.AddrPortFrom(addr, swapped(a.Port))
	}
	return netip.AddrPort{}
}

// setSockaddr writes an address for a socket of IPv4 or IPv6, and gives its length.
func setSockaddr(a *syscall.RawSockaddrInet6, to netip.AddrPort, v6 bool) uint32 {
	if !v6 {
		v4 := (*syscall.RawSockaddrInet4)(unsafe.Pointer(a))
		*v4 = syscall.RawSockaddrInet4{Family: syscall.AF_INET, Port: swapped(to.Port())}
		if to.Addr().Is4() {
			v4.Addr = to.Addr().As4()
		}
		return syscall.SizeofSockaddrInet4
	}
	*a = syscall.RawSockaddrInet6{Family: syscall.AF_INET6, Port: swapped(to.Port()), Addr: to.Addr().As16()}
	if zone := to.Addr().Zone(); zone != "" {
		scope, _ := strconv.ParseUint(zone, 10, 32)
		a.Scope_id = uint32(scope)
	}
	return syscall.SizeofSockaddrInet6
}

// canonical is the one form that an address has here: one of IPv4 is none of IPv6, and a zone is the number of its interface.
func canonical(a netip.AddrPort) netip.AddrPort {
	addr := a.Addr().Unmap()
	if addr.Zone() != "" {
		if i, err := net.InterfaceByName(addr.Zone()); err == nil {
			addr = addr.WithZone(strconv.Itoa(i.Index))
		}
	}
	return netip.AddrPortFrom(addr, a.Port())
}

// swapped is a port in network byte order; amd64 and arm64 have the other.
func swapped(port uint16) uint16 { return port<<8 | port>>8 }
