package coap

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"net/netip"
	"time"
)

// peer is what is remembered of one address. An idle peer has no queue, no receptions and no peerMore.
type peer struct {
	addr     netip.AddrPort
	hash     uint64
	sameHash *peer // the next in its bucket of Endpoint.peers
	byUse    links[peer]
	ready    links[peer] // in Endpoint.ready while isReady

	firstQueued, lastQueued *Request
	oldest, newest          *reception
	receptions              int32
	queued, running         int16
	nextID                  uint16
	isReady                 bool
	known                   bool   // the application trusts it: see Response.Trusted
	allowance               int32  // bytes that may be sent while it is not verified
	heardAt                 uint32 // when its last request came, in seconds on the Endpoint's clock
	owner                   uint32 // Response.Owner
	idKey                   uint32 // of messageID
	verified                bool   // has returned what it can only have received: an Echo value, or the token of a call of ours
	more                    *peerMore
	link                    *link // of a connection; nil: there is none
}

// peerMore is what few peers have.
type peerMore struct {
	uploads       []*transfer
	downloads     []*transfer
	observations  []*Observation
	transmissions []*transmission
	waiting       []*Call // not sent yet because of NStart
	activeCalls   int
}

func (p *peer) extra() *peerMore {
	if p.more == nil {
		p.more = &peerMore{}
	}
	return p.more
}

// busy tells whether forgetting the peer would break something in progress.
func (p *peer) busy() bool {
	return p.queued > 0 || p.running > 0 || p.more != nil &&
		(len(p.more.observations) > 0 || len(p.more.transmissions) > 0 || len(p.more.waiting) > 0 || p.more.activeCalls > 0)
}

// messageID takes the next message ID towards the peer. It repeats after 65,536 messages, and cannot be told from those before it, so
// that an acknowledgement cannot be guessed (RFC 7252 §4.4): a Feistel network of 8-bit halves puts the numbers in an order of the
// peer's own.
func (p *peer) messageID() uint16 {
	p.nextID++
	left, right, key := uint8(p.nextID>>8), uint8(p.nextID), p.idKey
	for range 4 {
		h := (uint32(right) ^ key) * 0x85ebca6b
		h = (h ^ h>>13) * 0xc2b2ae35
		left, right = right, left^uint8(h>>24)
		key = bits.RotateLeft32(key, 8)
	}
	return uint16(left)<<8 | uint16(right)
}

// hash spreads addresses so that nobody can choose ones that collide.
func (e *Endpoint) hash(addr netip.AddrPort) uint64 { return hashOf(e.hashSeed, addr) }

func hashOf(seed maphash.Seed, addr netip.AddrPort) uint64 {
	var bytes [18]byte // all but the zone, which hardly ever tells two peers apart
	*(*[16]byte)(bytes[:]) = addr.Addr().As16()
	binary.BigEndian.PutUint16(bytes[16:], addr.Port())
	return maphash.Bytes(seed, bytes[:])
}

// known finds an address; nil: it is not remembered.
func (e *Endpoint) known(addr netip.AddrPort) *peer { return e.find(addr, e.hash(addr)) }

func (e *Endpoint) find(addr netip.AddrPort, hash uint64) *peer {
	p := *e.peers.bucket(hash)
	for p != nil && p.addr != addr {
		p = p.sameHash
	}
	return p
}

// peer finds or remembers an address. With all places taken by busy peers it returns nil.
func (e *Endpoint) peer(addr netip.AddrPort) *peer {
	hash := e.hash(addr)
	p := e.find(addr, hash)
	if p != nil {
		e.peersByUse.moveToBack(p)
		return p
	}
	if e.reliable() { // it is not connected
		return nil
	}
	if e.peers.count >= e.config.MaxPeers && !e.forgetIdlePeer() {
		return nil
	}
	p = &peer{addr: addr, hash: hash, nextID: uint16(e.random.Uint64()), idKey: uint32(e.random.Uint64()), verified: e.config.Verified}
	e.peers.insert(p)
	e.peersByUse.pushBack(p)
	return p
}

// forgetIdlePeer makes room. Busy peers that it meets go to the back, so that the next search does not meet
// them again, and the search is bounded.
func (e *Endpoint) forgetIdlePeer() bool {
	for range 16 {
		p := e.peersByUse.first
		if p == nil {
			return false
		}
		if p.busy() {
			e.peersByUse.moveToBack(p)
			continue
		}
		e.forgetPeer(p)
		return true
	}
	return false
}

// forgetPeer forgets one that is not busy.
func (e *Endpoint) forgetPeer(p *peer) {
	for p.oldest != nil {
		e.forgetReception(p.oldest)
	}
	if p.more != nil {
		e.dropTransfers(p.more)
	}
	e.peersByUse.remove(p)
	e.peers.remove(p)
}

// Gone says that a peer will not be heard again, because its session with a Security has ended: its observations end and calls to
// it fail with ErrClosed. A request of it that is being answered keeps the rest until there is no room.
func (e *Endpoint) Gone(addr netip.AddrPort, now time.Time) {
	p := e.known(addr)
	if p == nil {
		return
	}
	if p.more != nil {
		for len(p.more.observations) > 0 {
			e.endObservation(p.more.observations[0])
		}
		e.failCalls(p, now.Sub(e.epoch))
		for len(p.more.transmissions) > 0 {
			e.settle(p.more.transmissions[0])
		}
	}
	if !p.busy() {
		e.forgetPeer(p)
	}
}

// failCalls fails all calls to a peer.
func (e *Endpoint) failCalls(p *peer, now instant) {
	waiting := p.more.waiting
	p.more.waiting = nil // so that none of them begins
	for _, call := range waiting {
		e.failCall(call, ErrClosed, now)
	}
	for key, call := range e.calls { // an observation that waits for news is none of the active ones
		if key.peer == p.addr {
			e.failCall(call, ErrClosed, now)
		}
	}
}
