package coap

import (
	"slices"
	"time"
)

// Observation is a client's interest in a resource of ours (RFC 7641 §4.1). The application makes one, puts it
// into the response to a request that Registers, and notifies it until Ended is called.
type Observation struct {
	// Ended is called once, when no notification is wanted any more: the client deregistered, rejected a
	// notification, did not acknowledge one, registered anew, or the application notified an error.
	// It is for the owner of the Endpoint to call it (see Endpoint.TakeEnded).
	Ended func()

	state          observationState
	peer           *peer
	token          []byte
	request        incoming // as far as shape needs it
	trusted        bool
	sequence       uint32
	lastID         uint16 // of the newest notification that was not Confirmable
	notified       bool   // lastID is set
	confirmed      bool   // the client has acknowledged a notification
	plain          int    // notifications since the last Confirmable one
	confirmedAt    instant
	unacknowledged *transmission
	pending        Response // newest content that waits for an acknowledgement or for the registration
	hasPending     bool
}

type observationState uint8

const (
	unregistered observationState = iota
	observing
	over
)

// RFC 7641 §4.5 leaves open how often a notification has to be confirmed within 24 hours.
const (
	confirmEvery = 20
	confirmAfter = time.Minute
)

// nextSequence is a clock of milliseconds that never stands still, modulo 2^24 (RFC 7641 §4.4); so that an
// observation that is made anew goes on above the old one's numbers.
func (o *Observation) nextSequence(now instant) uint32 {
	clock := uint32(now/time.Millisecond) & 0xffffff
	if next := (o.sequence + 1) & 0xffffff; !fresher(clock, next) {
		clock = next
	}
	o.sequence = clock
	return clock
}

// fresher tells whether sequence number v2 came after v1, going by the numbers alone (RFC 7641 §3.4).
func fresher(v2, v1 uint32) bool {
	return v1 < v2 && v2-v1 < 1<<23 || v1 > v2 && v1-v2 > 1<<23
}

// register starts an observation, in the place of one with the same token (RFC 7641 §4.1).
func (e *Endpoint) register(p *peer, r *Request, o *Observation, trusted bool, now instant) bool {
	if o.state != unregistered {
		return false
	}
	sequence := uint32(0)
	if old := p.observation(r.Token); old != nil {
		sequence = old.sequence
		e.endObservation(old)
	}
	more := p.extra()
	if len(more.observations) >= e.config.MaxObservationsOfPeer || e.observations >= e.config.MaxObservations {
		return false
	}
	o.state, o.peer, o.trusted, o.sequence, o.confirmedAt = observing, p, trusted, sequence, now
	o.token = slices.Clone(r.Token)
	// A notification is no answer to a datagram, so for an unverified peer only the floor counts.
	o.request = incoming{Message: Message{Code: r.Code, Token: o.token}, block2: r.block2, hasBlock2: r.hasBlock2,
		operation: appendOperation(nil, &r.Message)}
	more.observations = append(more.observations, o)
	e.observations++
	return true
}

func (p *peer) observation(token []byte) *Observation {
	if p.more == nil {
		return nil
	}
	for _, o := range p.more.observations {
		if string(o.token) == string(token) {
			return o
		}
	}
	return nil
}

func (e *Endpoint) deregister(p *peer, token []byte) {
	if o := p.observation(token); o != nil {
		e.endObservation(o)
	}
}

// endObservation takes out an observation that was registered.
func (e *Endpoint) endObservation(o *Observation) {
	if o.state == observing {
		more := o.peer.more
		more.observations = slices.DeleteFunc(more.observations, func(other *Observation) bool { return o == other })
		e.observations--
		if o.unacknowledged != nil {
			// What was sent last may still be acknowledged or repeated: nobody waits for it.
			e.settle(o.unacknowledged)
			o.unacknowledged = nil
		}
	}
	e.finishObservation(o)
}

func (e *Endpoint) finishObservation(o *Observation) {
	if o.state != over {
		o.state = over
		e.ended = append(e.ended, o)
	}
}

// Notify sends the observed resource's new state. While an earlier one waits for its acknowledgement, only the
// newest is kept (RFC 7641 §4.5.2). Any code but a success ends the observation (RFC 7641 §4.2). The response
// is not kept, but its options are added to.
func (e *Endpoint) Notify(o *Observation, response *Response, now time.Time) {
	if response.Code == 0 {
		response.Code = Content
	}
	switch {
	case o.state == over:
	case o.state == unregistered || o.unacknowledged != nil:
		o.pending.copyFrom(response)
		o.hasPending = true
	default:
		e.notify(o, response, now.Sub(e.epoch))
	}
}

func (e *Endpoint) notify(o *Observation, response *Response, now instant) {
	p := o.peer
	id := p.messageID()
	payload := e.shapeNotification(o, response, now)
	last := !response.Code.IsSuccess()
	// RFC 7641 §4.5: some are Confirmable, so that a client that is gone is noticed; §7: the first, to a peer
	// that may not be where its datagrams claim to come from.
	if last || !o.confirmed && !p.verified || o.plain >= confirmEvery-1 || now-o.confirmedAt >= confirmAfter {
		o.plain, o.confirmedAt = 0, now
		e.out = AppendMessage(e.out[:0], Confirmable, response.Code, id, o.token, &response.Options, payload)
		t := e.transmit(p, id, e.out, now)
		if last {
			e.endObservation(o)
			return
		}
		t.observation, o.unacknowledged = o, t
		return
	}
	o.plain++
	o.lastID, o.notified = id, true
	e.out = AppendMessage(e.out[:0], NonConfirmable, response.Code, id, o.token, &response.Options, payload)
	e.send(p.addr, e.out)
}

func (e *Endpoint) shapeNotification(o *Observation, response *Response, now instant) []byte {
	response.Options.Remove(Observe)
	if response.Code.IsSuccess() {
		response.Options.SetUint(Observe, o.nextSequence(now))
	}
	response.Trusted = response.Trusted || o.trusted
	return e.shape(o.peer, &o.request, response, nil, now)
}

// notificationAcknowledged lets the newest content go that waited.
func (e *Endpoint) notificationAcknowledged(o *Observation, now instant) {
	o.unacknowledged = nil
	e.flushPending(o, now)
}

func (e *Endpoint) flushPending(o *Observation, now instant) {
	if o.hasPending && o.unacknowledged == nil && o.state == observing {
		o.hasPending = false
		e.notify(o, &o.pending, now)
	}
}

// renewNotification sends newer content in the place of what was not acknowledged, as a new message within the
// old one's attempts (RFC 7641 §4.5.2).
func (e *Endpoint) renewNotification(t *transmission, o *Observation, now instant) {
	o.hasPending = false
	t.messageID = o.peer.messageID()
	payload := e.shapeNotification(o, &o.pending, now)
	t.datagram = AppendMessage(t.datagram[:0], Confirmable, o.pending.Code, t.messageID, o.token, &o.pending.Options, payload)
	if !o.pending.Code.IsSuccess() {
		// The observation ends here; its last message is sent on until acknowledged.
		t.observation, o.unacknowledged = nil, nil
		e.endObservation(o)
	}
}
