package coap

import (
	"container/heap"
	"slices"
	"time"
)

// transmission is a message of ours that waits for something: an acknowledgement while datagram is set
// (RFC 7252 §4.2), otherwise the response of a call, or the time to register an observation again.
type transmission struct {
	peer        *peer
	messageID   uint16
	datagram    []byte
	attempt     int
	timeout     time.Duration
	timing      // in Endpoint.outstanding
	call        *Call
	observation *Observation
	download    *transfer // whose next blocks go when this one is acknowledged
	trusted     bool      // goes to an unverified peer whatever its allowance
	pinged      bool      // the peer was asked whether it is there, by pingID
	pingID      uint16
}

// transmit sends a Confirmable message until it is acknowledged. The datagram is copied.
func (e *Endpoint) transmit(p *peer, id uint16, datagram []byte, now instant) *transmission {
	timeout := e.randomized(e.config.AckTimeout) // RFC 7252 §4.2
	t := &transmission{peer: p, messageID: id, datagram: slices.Clone(datagram), timeout: timeout}
	e.wait(t, now+timeout)
	e.send(p.addr, datagram)
	return t
}

// randomized is between the given time and ACK_RANDOM_FACTOR times that.
func (e *Endpoint) randomized(least time.Duration) time.Duration {
	fraction := float64(e.random.Uint64()>>11) / (1 << 53)
	return time.Duration(float64(least) * (1 + fraction*(e.config.AckRandomFactor-1)))
}

// wait puts a transmission among those that Tick looks at.
func (e *Endpoint) wait(t *transmission, due instant) {
	t.due = due
	more := t.peer.extra()
	more.transmissions = append(more.transmissions, t)
	heap.Push(&e.outstanding, t)
}

// settle takes a transmission out: nothing more is sent or waited for.
func (e *Endpoint) settle(t *transmission) {
	if t.index < 0 {
		return
	}
	heap.Remove(&e.outstanding, t.index)
	more := t.peer.more
	if i := slices.Index(more.transmissions, t); i >= 0 {
		more.transmissions = slices.Delete(more.transmissions, i, i+1)
	}
}

// transmission finds the Confirmable or answered-later message of ours with that ID, or the one that it was pinged for.
func (p *peer) transmission(id uint16) (t *transmission, ping bool) {
	if p.more == nil {
		return nil, false
	}
	for _, t := range p.more.transmissions {
		switch {
		case t.messageID == id && t.datagram != nil:
			return t, false
		case t.pinged && t.pingID == id:
			return t, true
		}
	}
	return nil, false
}

// acknowledged ends the retransmission of a message whose acknowledgement carried no response.
func (e *Endpoint) acknowledged(t *transmission, now instant) {
	switch {
	case t.call != nil:
		// RFC 7252 §5.2.2: the response comes separately.
		t.datagram = nil
		t.due = now + e.config.ExchangeLifetime
		heap.Fix(&e.outstanding, t.index)
	default:
		e.settle(t)
		if o := t.observation; o != nil {
			o.confirmed, o.unacknowledged = true, nil
			o.prove(e)
		}
		e.blockConfirmed(t, now)
		e.receives(t.peer, now)
	}
}

// rejected acts on a Reset (RFC 7252 §4.2; RFC 7641 §3.6 for notifications, Confirmable or not).
func (e *Endpoint) rejected(p *peer, id uint16, now instant) {
	if t, ping := p.transmission(id); t != nil {
		if ping {
			e.pingAnswered(t, now)
			return
		}
		e.settle(t)
		switch {
		case t.call != nil:
			e.failCall(t.call, ErrReset, now)
		case t.observation != nil:
			e.endObservation(t.observation)
		case t.download != nil && !t.download.ended:
			e.drop(t.download)
		}
		e.receives(p, now)
		return
	}
	if p.more == nil {
		return
	}
	for _, o := range p.more.observations {
		if o.notified && o.lastID == id {
			e.endObservation(o)
			return
		}
	}
	e.rejectedTransfer(p.more, id)
}

// transmissionDue sends again with doubled timeout, or gives up (RFC 7252 §4.2).
func (e *Endpoint) transmissionDue(t *transmission, now instant) {
	if t.datagram == nil || t.attempt >= e.config.MaxRetransmit {
		e.settle(t)
		switch {
		case t.call != nil:
			e.callDue(t.call, now)
		case t.observation != nil:
			e.endObservation(t.observation) // RFC 7641 §4.5: the client is gone
		case t.download != nil && !t.download.ended:
			e.drop(t.download)
		}
		return
	}
	t.attempt++
	t.timeout *= 2
	t.due = now + t.timeout
	heap.Fix(&e.outstanding, t.index)
	if t.call == nil && !t.peer.maySend(len(t.datagram), t.trusted) {
		e.ping(t)
		return
	}
	e.retransmit(t, now)
}

// retransmit sends once more.
func (e *Endpoint) retransmit(t *transmission, now instant) {
	if o := t.observation; o != nil && o.hasPending && o.mayNotify() {
		e.renewNotification(t, o, now)
	}
	t.peer.spend(len(t.datagram), t.trusted || t.call != nil)
	e.stats.Retransmitted++
	e.send(t.peer.addr, t.datagram)
}
