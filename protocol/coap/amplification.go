package coap

import "time"

// Nobody gets more from us than AmplificationFactor times what came from its address until it has shown that it
// receives there what we send: neither in one answer, nor in all answers, retransmissions and notifications
// together. QUIC has the same rule (RFC 9000 §8.1); RFC 9175 §2.4 would let 136 bytes go to anybody.
const (
	// maxAllowance bounds what a peer saves up by asking much and being answered little.
	maxAllowance = 4 << 10
	// acknowledgedAllowance is what the acknowledgement or Reset of a Confirmable message of ours is worth. It does not
	// verify the peer, because a message ID of 16 bits can be guessed. That takes 32,768 guesses of 4 bytes on average,
	// with at most maxUnacknowledged + MaxObservationsOfPeer messages to guess at, and none tells of another (see
	// peer.messageID): a guess brings 8 KiB * 48 / 32,768 = 12 bytes, no more than any 4 bytes do.
	acknowledgedAllowance = 8 << 10
	// maxUnacknowledged is how many separate responses to an unverified peer may wait for their acknowledgement.
	maxUnacknowledged = 16
	// notificationRoom is the allowance without which no notification goes: a block of 16 bytes with its options.
	notificationRoom = 256
)

// heard notes a request, and credits an unverified peer with what came from its address.
func (e *Endpoint) heard(p *peer, bytes int, now instant) {
	p.heardAt = max(uint32(now/time.Second), 1) // 0 is never
	bytes *= e.config.AmplificationFactor
	p.allowance = min(p.allowance+int32(bytes), int32(max(bytes, maxAllowance)))
}

// spend notes what is sent to a peer. What it is sent for a reason that was checked otherwise does not count.
func (p *peer) spend(bytes int, trusted bool) {
	if !p.verified && !trusted {
		p.allowance -= int32(bytes)
	}
}

// maySend tells whether a message may go to the peer once more.
func (p *peer) maySend(bytes int, trusted bool) bool {
	return p.verified || trusted || bytes <= int(p.allowance)
}

// mustProve tells whether an observer that registers has to show that it is there before it is notified (RFC 7641 §7): by
// acknowledging the response, which goes separately and Confirmable for that. What is asked of every client is more likely to be
// answered than a ping: libcoap answers four of these in a second, and none in the first quarter of one.
func (o *Observation) mustProve() bool { return o != nil && o.state == observing && o.unproven }

// crowded tells whether a separate response is not worth waiting for its acknowledgement: messages of ours to whoever may not be there
// would fill the memory, or give those who guess at acknowledgements something to hit.
func (e *Endpoint) crowded(p *peer) bool {
	return !p.verified && (len(e.outstanding) >= e.config.MaxTransmissions || p.more != nil && len(p.more.transmissions) >= maxUnacknowledged)
}

// proof is what the response to a registration leaves of the allowance: for the acknowledgement of the request and two pings.
const proof = 3 * headerLength

// ping asks a peer that may not be sent a message once more whether it is there (RFC 7252 §4.3). When it is, it may.
func (e *Endpoint) ping(t *transmission) {
	if !t.peer.maySend(headerLength, false) {
		return
	}
	t.pingID, t.pinged = t.peer.messageID(), true
	e.out = appendEmpty(e.out[:0], Confirmable, t.pingID)
	t.peer.spend(len(e.out), false)
	e.send(t.peer.addr, e.out)
}

// pingAnswered sends the message that had to wait for that.
func (e *Endpoint) pingAnswered(t *transmission, now instant) {
	t.pinged = false
	if t.observation != nil {
		t.observation.prove(e)
	}
	e.receives(t.peer, now)
	e.retransmit(t, now)
}

// A stranger is a peer whose address may be forged, and that nobody has vouched for. All of them together get no more than a part of
// what is kept for peers: strangersPart of the bytes for bodies, and maxUnproven observations until they have acknowledged something.
func (p *peer) stranger() bool { return p.link == nil && !p.verified && !p.known }

// vouched asks the application about a stranger, whose first request it has not seen yet.
func (e *Endpoint) vouched(p *peer, request *Message) bool {
	p.known = e.config.Known != nil && e.config.Known(p.addr, *request)
	return p.known
}

const (
	strangersPart = 4 // a fourth
	maxUnproven   = 1000
)

// strangersRoom tells whether a stranger's body may be kept. A body of another stranger that has not grown for ten seconds gives way.
func (e *Endpoint) strangersRoom(size int, now instant) bool {
	for e.strangerBytes+size > e.config.TransferBytes/strangersPart {
		t := e.uploads.first
		if t == nil || !t.stranger || now-t.used <= abandoned {
			break
		}
		e.drop(t)
	}
	return e.strangerBytes+size <= e.config.TransferBytes/strangersPart
}

// prove notes that the observer is there.
func (o *Observation) prove(e *Endpoint) {
	if o.unproven {
		o.unproven = false
		e.unproven--
	}
}

// receives notes that the peer has returned the ID of a Confirmable message of ours. Its observations may have waited for that.
func (e *Endpoint) receives(p *peer, now instant) {
	p.allowance = max(p.allowance, acknowledgedAllowance)
	for i := len(p.more.observations) - 1; i >= 0; i-- { // one may end
		e.flushPending(p.more.observations[i], now)
	}
}

// mayNotify tells whether a notification may go.
func (o *Observation) mayNotify() bool {
	return o.peer.verified || o.trusted || int(o.peer.allowance) >= notificationRoom+len(o.token)
}
