package coap

// reception remembers a message until its sender can no longer repeat it, so that it is executed once and
// answered alike each time (RFC 7252 §4.5).
type reception struct {
	sameHash *reception // the next in its bucket of Endpoint.receptions
	byAge    links[reception]
	next     *reception // the same peer's next younger one
	peer     *peer
	expires  instant
	reply    []byte // sent again to a repeated Confirmable message; empty while there is none, and for NON
	id       uint16
	live     bool
	trusted  bool // the reply went whatever its length
	settled  bool // no Request points here any more
}

const (
	receptionSize      = 96 // bookkeeping of one reception with its place in the table, in bytes
	maxFreeReceptions  = 4096
	maxKeptReplyBuffer = 256
)

// hashOfMessage makes one hash of what identifies a message (RFC 7252 §4.4). IDs only tell messages of one peer apart.
func hashOfMessage(p *peer, id uint16) uint64 { return p.hash + uint64(id) }

// reception finds what is remembered of a message; nil: it was not heard before. The peer may be nil.
func (e *Endpoint) reception(p *peer, id uint16) *reception {
	if p == nil {
		return nil
	}
	r := *e.receptions.bucket(hashOfMessage(p, id))
	for r != nil && (r.peer != p || r.id != id) {
		r = r.sameHash
	}
	return r
}

// remember notes a message that is about to be processed.
func (e *Endpoint) remember(p *peer, id uint16, now instant) *reception {
	if e.reliable() { // a connection repeats nothing
		return &e.unremembered
	}
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
	*r = reception{id: id, peer: p, expires: now + e.config.ExchangeLifetime, reply: r.reply[:0], live: true}
	e.receptions.insert(r)
	e.receptionBytes += r.bytes()
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
	e.receptionBytes -= r.bytes()
	r.reply = append(r.reply[:0], datagram...)
	e.receptionBytes += r.bytes()
}

// bytes is the memory that it takes.
func (r *reception) bytes() int { return receptionSize + cap(r.reply) }

// forgetReception drops a reception, which must be its peer's oldest. The oldest of all always is.
func (e *Endpoint) forgetReception(r *reception) {
	p := r.peer
	p.oldest = r.next
	if p.oldest == nil {
		p.newest = nil
	}
	p.receptions--
	e.receptions.remove(r)
	e.byAge.remove(r)
	e.receptionBytes -= r.bytes()
	r.live, r.next, r.peer = false, nil, nil
	// While a Request points to it, it must not become another message's.
	if r.settled && len(e.freeReceptions) < maxFreeReceptions && cap(r.reply) <= maxKeptReplyBuffer {
		e.freeReceptions = append(e.freeReceptions, r)
	}
}
