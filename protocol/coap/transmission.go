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
	due         instant
	index       int // in Endpoint.outstanding
	call        *Call
	observation *Observation
}

// transmit sends a Confirmable message until it is acknowledged. The datagram is copied.
func (e *Endpoint) transmit(p *peer, id uint16, datagram []byte, now instant) *transmission {
	// RFC 7252 §4.2: the first timeout lies between ACK_TIMEOUT and ACK_TIMEOUT * ACK_RANDOM_FACTOR.
	fraction := float64(e.random.Uint64()>>11) / (1 << 53)
	timeout := time.Duration(float64(e.config.AckTimeout) * (1 + fraction*(e.config.AckRandomFactor-1)))
	t := &transmission{peer: p, messageID: id, datagram: slices.Clone(datagram), timeout: timeout}
	e.wait(t, now+timeout)
	e.send(p.addr, datagram)
	return t
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

// transmission finds the Confirmable or answered-later message of ours with that ID.
func (p *peer) transmission(id uint16) *transmission {
	if p.more == nil {
		return nil
	}
	for _, t := range p.more.transmissions {
		if t.messageID == id && t.datagram != nil {
			return t
		}
	}
	return nil
}

// acknowledged ends the retransmission of a message whose acknowledgement carried no response.
func (e *Endpoint) acknowledged(t *transmission, now instant) {
	switch {
	case t.call != nil:
		// RFC 7252 §5.2.2: the response comes separately.
		t.datagram = nil
		t.due = now + e.config.ExchangeLifetime
		heap.Fix(&e.outstanding, t.index)
	case t.observation != nil:
		e.settle(t)
		t.observation.confirmed = true
		e.notificationAcknowledged(t.observation, now)
	default:
		e.settle(t)
	}
}

// rejected acts on a Reset (RFC 7252 §4.2; RFC 7641 §3.6 for notifications, Confirmable or not).
func (e *Endpoint) rejected(p *peer, id uint16, now instant) {
	if t := p.transmission(id); t != nil {
		e.settle(t)
		switch {
		case t.call != nil:
			e.failCall(t.call, ErrReset, now)
		case t.observation != nil:
			e.endObservation(t.observation)
		}
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
		}
		return
	}
	t.attempt++
	t.timeout *= 2
	t.due = now + t.timeout
	heap.Fix(&e.outstanding, t.index)
	if o := t.observation; o != nil && o.hasPending {
		e.renewNotification(t, o, now)
	}
	e.stats.Retransmitted++
	e.send(t.peer.addr, t.datagram)
}

// transmissionHeap orders transmissions by when they are due.
type transmissionHeap []*transmission

func (h transmissionHeap) Len() int           { return len(h) }
func (h transmissionHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h transmissionHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *transmissionHeap) Push(v any) {
	t := v.(*transmission)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *transmissionHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
