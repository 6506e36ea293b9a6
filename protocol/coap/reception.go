package coap

import "net/netip"

// messageKey identifies a message that a peer sent us (RFC 7252 §4.4).
type messageKey struct {
	from netip.AddrPort
	id   uint16
}

// reception remembers a message until its sender can no longer repeat it, so that it is executed once and
// answered alike each time (RFC 7252 §4.5).
type reception struct {
	key     messageKey
	byAge   links[reception]
	next    *reception // the same peer's next younger one
	peer    *peer
	expires instant
	bytes   int    // as counted in Endpoint.receptionBytes
	reply   []byte // sent again to a repeated Confirmable message; empty while there is none, and for NON
	live    bool
	settled bool // no Request points here any more
}

const (
	receptionSize      = 192 // bookkeeping of one reception with its map entry, in bytes
	maxFreeReceptions  = 4096
	maxKeptReplyBuffer = 256
)

// remember notes a message that is about to be processed.
func (e *Endpoint) remember(p *peer, id uint16, now instant) *reception {
	for p.oldest != nil && int(p.receptions) >= e.config.MaxReceptionsOfPeer {
		e.forgetReception(p.oldest)
	}
	for e.byAge.first != nil && e.receptionBytes >= e.config.ReceptionBytes {
		e.forgetReception(e.byAge.first)
	}
	var r *reception
	if n := len(e.freeReceptions); n > 0 {
		r = e.freeReceptions[n-1]
		e.freeReceptions = e.freeReceptions[:n-1]
	} else {
		r = &reception{}
	}
	*r = reception{
		key: messageKey{p.addr, id}, peer: p, expires: now + e.config.ExchangeLifetime,
		bytes: receptionSize, reply: r.reply[:0], live: true,
	}
	e.receptions[r.key] = r
	e.receptionBytes += r.bytes
	e.byAge.pushBack(r)
	if p.newest == nil {
		p.oldest = r
	} else {
		p.newest.next = r
	}
	p.newest = r
	p.receptions++
	return r
}

// setReply keeps what is sent when the message is repeated. The reception may have been forgotten meanwhile.
func (e *Endpoint) setReply(r *reception, datagram []byte) {
	if !r.live {
		return
	}
	r.reply = append(r.reply[:0], datagram...)
	e.receptionBytes += len(datagram) + receptionSize - r.bytes
	r.bytes = receptionSize + len(datagram)
}

// forgetReception drops a reception, which must be its peer's oldest. The oldest of all always is.
func (e *Endpoint) forgetReception(r *reception) {
	p := r.peer
	p.oldest = r.next
	if p.oldest == nil {
		p.newest = nil
	}
	p.receptions--
	delete(e.receptions, r.key)
	e.byAge.remove(r)
	e.receptionBytes -= r.bytes
	r.live, r.next, r.peer = false, nil, nil
	// While a Request points to it, it must not become another message's.
	if r.settled && len(e.freeReceptions) < maxFreeReceptions && cap(r.reply) <= maxKeptReplyBuffer {
		e.freeReceptions = append(e.freeReceptions, r)
	}
}
