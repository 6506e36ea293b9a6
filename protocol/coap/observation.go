package coap

import (
	"slices"
	"sync/atomic"
	"time"
)

// Observation is a client's interest in a resource of ours (RFC 7641 §4.1). The application makes one, puts it
// into the response to a request that Registers, and notifies it until Ended is called.
type Observation struct {
	// Ended is called once, when no notification is wanted any more: the client deregistered, rejected a
	// notification, did not acknowledge one, registered anew, or the application notified an error or another content format.
	// It is for the owner of the Endpoint to call it (see Endpoint.TakeEnded).
	Ended func()

	home           atomic.Pointer[shard] // of a Server; nil until the request that registers is answered
	state          observationState
	peer           *peer
	token          []byte
	request        incoming // as far as shape needs it
	trusted        bool
	unproven       bool // counted in Endpoint.unproven
	sequence       uint32
	lastID         uint16 // of the newest notification that was not Confirmable
	notified       bool   // lastID is set
	confirmed      bool   // the client has acknowledged a notification
	plain          int    // notifications since the last Confirmable one
	confirmedAt    instant
	since          instant
	sent           uint32 // notifications
	unacknowledged *transmission
	format         uint32 // Content-Format of the first response that had one
	hasFormat      bool
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
	if old := p.observationOf(&r.Message); old != nil {
		sequence = old.sequence
		e.endObservation(old)
	}
	more, most := p.extra(), e.config.MaxObservations
	if !trusted {
		most -= most / strangersPart // the rest is for those who are known
	}
	if len(more.observations) >= e.config.MaxObservationsOfPeer || e.observations >= most {
		return false
	}
	if o.unproven = !p.verified && !trusted && p.link == nil; o.unproven {
		if e.unproven >= maxUnproven || r.suppresses(Content) { // no response, no proof
			o.unproven = false
			return false
		}
		e.unproven++
	}
	o.state, o.peer, o.trusted, o.sequence, o.confirmedAt, o.since = observing, p, trusted, sequence, now, now
	o.token = slices.Clone(r.Token)
	o.request = incoming{Message: Message{Code: r.Code, Token: o.token, protection: r.protection}, block2: r.block2, hasBlock2: r.hasBlock2, quick: r.quick,
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

// observationOf is the one that was registered by the token of a request, and by its security context: nobody else ends what is protected.
func (p *peer) observationOf(m *Message) *Observation {
	if p.more == nil {
		return nil
	}
	for _, o := range p.more.observations {
		if string(o.token) == string(m.Token) && sameContext(o.request.protection, m.protection) {
			return o
		}
	}
	return nil
}

func (e *Endpoint) deregister(p *peer, m *Message) {
	if o := p.observationOf(m); o != nil {
		e.endObservation(o)
	}
}

// endObservation takes out an observation that was registered.
func (e *Endpoint) endObservation(o *Observation) {
	if o.state == observing {
		more := o.peer.more
		more.observations = slices.DeleteFunc(more.observations, func(other *Observation) bool { return o == other })
		e.observations--
		o.prove(e)
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
	case o.state == observing && !response.Code.IsSuccess() && !o.mayNotify():
		e.endObservation(o)
	case o.state == unregistered || o.unacknowledged != nil || !o.mayNotify():
		o.keep(response)
	case e.congested(o.peer):
		o.keep(response)
		o.peer.link.held = true
	default:
		e.notify(o, response, now.Sub(e.epoch))
	}
}

// keep has the newest content wait for an acknowledgement or for the registration.
func (o *Observation) keep(response *Response) {
	o.pending.copyFrom(response)
	if o.pending.Code == 0 {
		o.pending.Code = Content
	}
	o.hasPending = true
}

func (e *Endpoint) notify(o *Observation, response *Response, now instant) {
	p := o.peer
	id := p.messageID()
	payload, kept := e.shapeNotification(o, response, now)
	last := !response.Code.IsSuccess()
	o.sent++
	// RFC 7641 §4.5: some are Confirmable, so that a client that is gone is noticed; §7: the first, to a peer
	// that may not be where its datagrams claim to come from. Its acknowledgement renews what may be sent there.
	unconfirmed := !p.verified && (!o.confirmed || !o.trusted && p.allowance < acknowledgedAllowance/4)
	// A connection confirms by itself (RFC 8323 §7.2).
	if p.link == nil && (last || unconfirmed || o.plain >= confirmEvery-1 || now-o.confirmedAt >= confirmAfter) {
		o.plain, o.confirmedAt = 0, now
		e.out = e.appendResponse(e.out[:0], o.request.protection, Confirmable, response.Code, id, o.token, &response.Options, payload)
		p.spend(len(e.out), response.Trusted)
		t := e.transmit(p, id, e.out, now)
		t.trusted, t.download = response.Trusted, kept
		if last {
			e.endObservation(o)
			return
		}
		t.observation, o.unacknowledged = o, t
		return
	}
	o.plain++
	o.lastID, o.notified = id, true
	e.out = e.appendResponse(e.out[:0], o.request.protection, NonConfirmable, response.Code, id, o.token, &response.Options, payload)
	p.spend(len(e.out), response.Trusted)
	e.send(p.addr, e.out)
	if kept != nil {
		e.sendSet(kept, now)
	}
	if last {
		e.endObservation(o)
	}
}

// shapeNotification makes the notification, and returns its payload and what is to follow that by Q-Block: the first set. Nobody has asked for
// it just now, so the others wait until the observer says that it is there.
func (e *Endpoint) shapeNotification(o *Observation, response *Response, now instant) (payload []byte, kept *transfer) {
	response.Options.Remove(Observe)
	if response.Code.IsSuccess() && !o.keepsFormat(response) {
		response.Options.Reset()
		response.Code, response.Body = NotAcceptable, nil // RFC 7641 §4.2
	}
	if response.Code.IsSuccess() {
		response.Options.SetUint(Observe, o.nextSequence(now))
	}
	response.Trusted = response.Trusted || o.trusted
	payload, kept = e.shape(o.peer, &o.request, response, nil, now)
	if kept == nil || !o.request.quick {
		return payload, nil
	}
	e.follow(kept, &o.request, blockSet{token: o.token, observed: kept.observed}, 0)
	return payload, kept
}

// keepsFormat tells whether a response that names its content format names that of the first that did.
func (o *Observation) keepsFormat(response *Response) bool {
	value, named := response.Options.Get(ContentFormat)
	if !named {
		return true
	}
	format, _ := decodeUint(value)
	if !o.hasFormat {
		o.format, o.hasFormat = format, true
	}
	return o.format == format
}

// flushPending lets the newest content go that waited.
func (e *Endpoint) flushPending(o *Observation, now instant) {
	if o.hasPending && o.unacknowledged == nil && o.state == observing && o.mayNotify() {
		o.hasPending = false
		e.notify(o, &o.pending, now)
	}
}

// renewNotification sends newer content in the place of what was not acknowledged, as a new message within the
// old one's attempts (RFC 7641 §4.5.2).
func (e *Endpoint) renewNotification(t *transmission, o *Observation, now instant) {
	o.hasPending = false
	t.messageID = o.peer.messageID()
	var payload []byte
	payload, t.download = e.shapeNotification(o, &o.pending, now)
	t.datagram = e.appendResponse(t.datagram[:0], o.request.protection, Confirmable, o.pending.Code, t.messageID, o.token, &o.pending.Options, payload)
	if !o.pending.Code.IsSuccess() {
		// The observation ends here; its last message is sent on until acknowledged.
		t.observation, o.unacknowledged = nil, nil
		e.endObservation(o)
	}
}
