package coap

import "net/netip"

// peer is what is remembered of one address. An idle peer has no queue, no receptions and no peerMore.
type peer struct {
	addr  netip.AddrPort
	byUse links[peer]
	ready links[peer] // in Endpoint.ready while isReady

	firstQueued, lastQueued *Request
	oldest, newest          *reception
	receptions              int32
	queued, running         int16
	nextID                  uint16
	isReady                 bool
	verified                bool // has returned what it can only have received: an Echo value, or the token of a call of ours
	more                    *peerMore
}

// peerMore is what few peers have.
type peerMore struct {
	assemblies    []*assembly
	snapshots     []*snapshot
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

// messageID takes the next message ID towards the peer. It starts at random, so that an acknowledgement
// cannot be guessed (RFC 7252 §4.4), and repeats after 65,536 messages.
func (p *peer) messageID() uint16 {
	p.nextID++
	return p.nextID
}

// peer finds or remembers an address. With all places taken by busy peers it returns nil.
func (e *Endpoint) peer(addr netip.AddrPort) *peer {
	p := e.peers[addr]
	if p != nil {
		e.peersByUse.moveToBack(p)
		return p
	}
	if len(e.peers) >= e.config.MaxPeers && !e.forgetIdlePeer() {
		return nil
	}
	p = &peer{addr: addr, nextID: uint16(e.random.Uint64())}
	e.peers[addr] = p
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
		for p.oldest != nil {
			e.forgetReception(p.oldest)
		}
		if p.more != nil {
			for len(p.more.assemblies) > 0 {
				e.dropAssembly(p.more.assemblies[0])
			}
			for len(p.more.snapshots) > 0 {
				e.dropSnapshot(p.more.snapshots[0])
			}
		}
		e.peersByUse.remove(p)
		delete(e.peers, p.addr)
		return true
	}
	return false
}
