//go:build linux && (amd64 || arm64)

package coap

import (
	"net/netip"
	"sync"
	"syscall"
	"unsafe"
)

// localAddresses has what is sent leave from the address that the peer has sent to (RFC 7252 §5.2, §5.3.2: a response comes from where the
// request went). A socket that is bound to no address leaves that to the kernel otherwise, which takes the interface's first.
//
// Most hosts have one address that everybody asks, which is noted once for peers of a kind; only others are remembered. Of those that were
// silent the longest while very many came, the address is forgotten, and is the common one then.
type localAddresses struct {
	mu           sync.Mutex
	common       [4]netip.Addr // by kindOf; zero: not known yet
	newer, older map[netip.AddrPort]netip.Addr
}

// maxLocal bounds newer and older.
const maxLocal = 1 << 16

// kindOf tells peers apart that cannot ask the same address.
func kindOf(peer netip.Addr) int {
	kind := 0
	if peer.Is4() {
		kind = 1
	}
	if peer.IsLoopback() {
		kind += 2
	}
	return kind
}

// heard notes at which address of ours a peer was heard.
func (l *localAddresses) heard(peer netip.AddrPort, at netip.Addr) {
	if !at.IsValid() || at.IsMulticast() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	common := &l.common[kindOf(peer.Addr())]
	switch {
	case !common.IsValid():
		*common = at
	case *common != at:
		l.note(peer, at)
	case len(l.newer)+len(l.older) > 0:
		delete(l.newer, peer)
		delete(l.older, peer)
	}
}

func (l *localAddresses) note(peer netip.AddrPort, at netip.Addr) {
	if len(l.newer) >= maxLocal || l.newer == nil {
		l.older, l.newer = l.newer, make(map[netip.AddrPort]netip.Addr)
	}
	l.newer[peer] = at
}

// of is the address from which a peer is to be sent something; not valid: the kernel may choose.
func (l *localAddresses) of(peer netip.AddrPort) netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.newer[peer]; ok {
		return at
	}
	if at, ok := l.older[peer]; ok {
		l.note(peer, at)
		return at
	}
	return l.common[kindOf(peer.Addr())]
}

// gone forgets an address that is ours no more.
func (l *localAddresses) gone(peer netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, newer := l.newer[peer]
	_, older := l.older[peer]
	if !newer && !older {
		l.common[kindOf(peer.Addr())] = netip.Addr{}
	}
	delete(l.newer, peer)
	delete(l.older, peer)
}

// packetInfo is a control message with a local address (ip(7), IP_PKTINFO; RFC 3542 §6.1).
type packetInfo struct {
	syscall.Cmsghdr
	data [24]byte // of IPv4 an interface, the address to send from, and the one sent to; of IPv6 the address, and an interface
}

const (
	packetInfo4 = syscall.SizeofCmsghdr + syscall.SizeofInet4Pktinfo
	packetInfo6 = syscall.SizeofCmsghdr + syscall.SizeofInet6Pktinfo
)

// receivePacketInfo has the kernel say where datagrams were sent to.
func receivePacketInfo(fd int, v6 bool) error {
	if v6 {
		return syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
	}
	return syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
}

// address reads what the kernel has written.
func (p *packetInfo) address() netip.Addr {
	switch {
	case p.Level == syscall.IPPROTO_IP && p.Type == syscall.IP_PKTINFO && p.Len == packetInfo4:
		return netip.AddrFrom4([4]byte(p.data[4:8]))
	case p.Level == syscall.IPPROTO_IPV6 && p.Type == syscall.IPV6_PKTINFO && p.Len == packetInfo6:
		return netip.AddrFrom16([16]byte(p.data[:16])).Unmap()
	}
	return netip.Addr{}
}

// set has a datagram leave from an address.
func (p *packetInfo) set(from netip.Addr, v6 bool) {
	*p = packetInfo{}
	if v6 {
		p.Level, p.Type, p.Len = syscall.IPPROTO_IPV6, syscall.IPV6_PKTINFO, packetInfo6
		*(*[16]byte)(p.data[:]) = from.As16()
		return
	}
	p.Level, p.Type, p.Len = syscall.IPPROTO_IP, syscall.IP_PKTINFO, packetInfo4
	*(*[4]byte)(p.data[4:]) = from.As4()
}

// from sets where a datagram to a peer leaves from; info is to live as long as head.
func (s *socket) from(head *syscall.Msghdr, info *packetInfo, to netip.AddrPort) {
	head.Control, head.Controllen = nil, 0
	if s.local == nil {
		return
	}
	if from := s.local.of(to); from.IsValid() && (s.v6 || from.Is4()) {
		info.set(from, s.v6)
		head.Control, head.Controllen = (*byte)(unsafe.Pointer(info)), uint64(unsafe.Sizeof(*info))
	}
}

// lost tells whether a datagram could not be sent because the address that it was to leave from is ours no more. It may then be sent again from
// another.
func (s *socket) lost(head *syscall.Msghdr, errno syscall.Errno) bool {
	if errno != syscall.EINVAL && errno != syscall.ENETUNREACH || head.Controllen == 0 { // of IPv6 and IPv4
		return false
	}
	s.local.gone(addrPort((*syscall.RawSockaddrInet6)(unsafe.Pointer(head.Name))))
	head.Control, head.Controllen = nil, 0
	return true
}
