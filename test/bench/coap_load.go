//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

// The load generator is one thread with one socket, which sends from as many loopback addresses as there are peers, and many datagrams at a
// time: it must cost less than the servers that it measures.

const (
	coapBatch    = 64
	coapPatience = time.Second // for an answer, before the request is sent again (once; a server that is silent for longer fails)
	coapRoom     = 2048        // bytes of an answer
)

// coapPeer is one client: an address and the request that it repeats, whose message ID counts up.
type coapPeer struct {
	address [4]byte
	request []byte       // with a token of four bytes, its number
	records *coapRecords // of its DTLS session; nil: it has none
	id      uint16
	sent    time.Time // zero: nothing is under way
	again   bool
}

// coapLoad sends requests and counts answers.
type coapLoad struct {
	fd, port  int
	to        syscall.RawSockaddrInet4
	peers     []coapPeer
	first     [4]byte // the address of the first
	want      byte    // the code of every answer
	in, out   [coapBatch]mmsghdr
	inVectors [coapBatch]syscall.Iovec
	vectors   [coapBatch]syscall.Iovec
	inControl [coapBatch][64]byte
	control   [coapBatch]packetInfo
	buffer    [coapBatch][coapRoom]byte
	waiting   int // in out
	next      int // whose turn it is
	latencies histogram
	resent    int
}

// mmsghdr is that of recvmmsg(2).
type mmsghdr struct {
	syscall.Msghdr
	length uint32
	_      [4]byte
}

// packetInfo is a control message that says from which address a datagram is to leave (ip(7), IP_PKTINFO).
type packetInfo struct {
	syscall.Cmsghdr
	syscall.Inet4Pktinfo
	_ [4]byte
}

// sysSendmmsg is missing in package syscall.
var sysSendmmsg = map[string]uintptr{"amd64": 307, "arm64": 269}[runtime.GOARCH]

// newCoapLoad makes peers from an address on that ask a server, each by a request of its own; their answers have the code want.
func newCoapLoad(server string, first [4]byte, requests [][]byte, want byte) (*coapLoad, error) {
	to, err := netip.ParseAddrPort(server)
	if err != nil {
		return nil, err
	}
	l := &coapLoad{first: first, want: want, peers: make([]coapPeer, len(requests))}
	l.to = syscall.RawSockaddrInet4{Family: syscall.AF_INET, Port: to.Port()<<8 | to.Port()>>8, Addr: to.Addr().As4()}
	for i, request := range requests {
		binary.BigEndian.PutUint32(request[4:], uint32(i))
		l.peers[i] = coapPeer{address: plus(first, i), request: request}
	}
	if l.fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0); err != nil {
		return nil, err
	}
	patience := syscall.NsecToTimeval(int64(coapPatience / 10))
	err = errors.Join(syscall.SetsockoptInt(l.fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1), syscall.Bind(l.fd, &syscall.SockaddrInet4{}), syscall.SetsockoptInt(l.fd, syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1),
		syscall.SetsockoptTimeval(l.fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &patience))
	if err != nil {
		syscall.Close(l.fd)
		return nil, err
	}
	bound, err := syscall.Getsockname(l.fd)
	if err != nil {
		syscall.Close(l.fd)
		return nil, err
	}
	l.port = bound.(*syscall.SockaddrInet4).Port
	for i := range coapBatch {
		l.inVectors[i] = syscall.Iovec{Base: &l.buffer[i][0], Len: coapRoom}
		l.in[i].Msghdr = syscall.Msghdr{Iov: &l.inVectors[i], Iovlen: 1, Control: &l.inControl[i][0]}
		l.control[i].Cmsghdr = syscall.Cmsghdr{Level: syscall.IPPROTO_IP, Type: syscall.IP_PKTINFO, Len: syscall.SizeofCmsghdr + syscall.SizeofInet4Pktinfo}
		l.out[i].Msghdr = syscall.Msghdr{Name: (*byte)(unsafe.Pointer(&l.to)), Namelen: syscall.SizeofSockaddrInet4, Iov: &l.vectors[i], Iovlen: 1,
			Control: (*byte)(unsafe.Pointer(&l.control[i])), Controllen: uint64(unsafe.Sizeof(l.control[i]))}
	}
	return l, nil
}

func (l *coapLoad) close() { syscall.Close(l.fd) }

// plus is a later address.
func plus(a [4]byte, n int) [4]byte {
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+uint32(n))
	return a
}

// send sends a peer's next request with the others of its batch.
func (l *coapLoad) send(number int, now time.Time) error {
	p := &l.peers[number]
	binary.BigEndian.PutUint16(p.request[2:], p.id)
	p.sent = now
	at, datagram := l.waiting, p.request
	if p.records != nil {
		datagram = p.records.seal(p.request)
	}
	l.vectors[at] = syscall.Iovec{Base: &datagram[0], Len: uint64(len(datagram))}
	l.control[at].Spec_dst = p.address
	l.waiting++
	if l.waiting == coapBatch {
		return l.flush()
	}
	return nil
}

func (l *coapLoad) flush() error {
	for first := 0; first < l.waiting; {
		n, _, errno := syscall.Syscall6(sysSendmmsg, uintptr(l.fd), uintptr(unsafe.Pointer(&l.out[first])), uintptr(l.waiting-first), 0, 0, 0)
		if errno != 0 && errno != syscall.EINTR {
			return os.NewSyscallError("sendmmsg", errno)
		}
		if errno == 0 {
			first += int(n)
		}
	}
	l.waiting = 0
	return nil
}

// run has window requests under way at any time, of peers in turn, until limit were answered or the duration is over. It gives how many were, and
// calls each, if not nil, after each.
func (l *coapLoad) run(window, limit int, duration time.Duration, each func(answered int)) (answered int, err error) {
	now := time.Now()
	end, under := now.Add(duration), 0
	begin := func(number int) error {
		under++
		l.peers[number].id++
		l.peers[number].again = false
		return l.send(number, now)
	}
	free := func() int { // the next peer that has nothing under way
		for !l.peers[l.next].sent.IsZero() {
			l.next = (l.next + 1) % len(l.peers)
		}
		number := l.next
		l.next = (l.next + 1) % len(l.peers)
		return number
	}
	for range min(window, len(l.peers)) {
		if err := begin(free()); err != nil {
			return 0, err
		}
	}
	for under > 0 {
		if err := l.flush(); err != nil {
			return answered, err
		}
		for i := range l.in {
			l.in[i].Controllen = uint64(len(l.inControl[i]))
		}
		const waitForOne = 0x10000 // MSG_WAITFORONE
		n, _, errno := syscall.Syscall6(syscall.SYS_RECVMMSG, uintptr(l.fd), uintptr(unsafe.Pointer(&l.in)), coapBatch, waitForOne, 0, 0)
		now = time.Now()
		switch errno {
		case 0:
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			if err := l.resend(now); err != nil {
				return answered, err
			}
			continue
		default:
			return answered, os.NewSyscallError("recvmmsg", errno)
		}
		for i := range int(n) {
			number, ok, err := l.take(i)
			if err != nil {
				return answered, err
			}
			if !ok {
				continue
			}
			l.latencies.add(now.Sub(l.peers[number].sent))
			l.peers[number].sent = time.Time{}
			under--
			answered++
			if each != nil {
				each(answered)
			}
			if answered+under < limit && now.Before(end) {
				if err := begin(free()); err != nil {
					return answered, err
				}
			}
		}
	}
	return answered, nil
}

// take looks at an answer, and says whose it is. One that nobody waits for is passed over: its request was sent again.
func (l *coapLoad) take(i int) (number int, ok bool, err error) {
	m := l.buffer[i][:l.in[i].length]
	info := (*packetInfo)(unsafe.Pointer(&l.inControl[i]))
	if at := int(binary.BigEndian.Uint32(info.Addr[:]) - binary.BigEndian.Uint32(l.first[:])); at < len(l.peers) && l.peers[at].records != nil {
		if m, err = l.peers[at].records.open(m); err != nil {
			return 0, false, err
		}
	}
	if len(m) < 8 || m[0] != 0x64 { // an acknowledgement with a token of four bytes, RFC 7252 section 3
		return 0, false, fmt.Errorf("answer %x", m)
	}
	number = int(binary.BigEndian.Uint32(m[4:]))
	if number >= len(l.peers) || info.Addr != l.peers[number].address {
		return 0, false, fmt.Errorf("an answer to %v came to %v", number, net.IP(info.Addr[:]))
	}
	if m[1] != l.want {
		return 0, false, fmt.Errorf("answered %d.%02d: %q", m[1]>>5, m[1]&31, m[8:])
	}
	p := &l.peers[number]
	return number, binary.BigEndian.Uint16(m[2:]) == p.id && !p.sent.IsZero(), nil
}

// resend sends again what was not answered in time.
func (l *coapLoad) resend(now time.Time) error {
	for i := range l.peers {
		p := &l.peers[i]
		if p.sent.IsZero() || now.Sub(p.sent) < coapPatience {
			continue
		}
		if p.again {
			return fmt.Errorf("peer %d was not answered twice", i)
		}
		p.again = true
		l.resent++
		began := p.sent
		if err := l.send(i, now); err != nil {
			return err
		}
		p.sent = began.Add(coapPatience) // which the latency then lacks; resent says so
	}
	return nil
}
