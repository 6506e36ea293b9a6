package coap

import (
	"context"
	"net/netip"
	"time"
)

// Request is a request that waits for its response. It belongs to the application from Next until Respond.
type Request struct {
	incoming
	Peer netip.AddrPort
	Body []byte // whole, however many blocks it came in

	// Of a Server:
	shard    *shard
	response *Response
	wait     func(context.Context) // what a worker is to do
	stranger bool                  // nobody has vouched for the peer

	peer         *peer
	reception    *reception
	datagram     []byte   // what incoming.Message is a view of
	next         *Request // of its peer that is queued; then of those that wait for a worker
	unacked      links[Request]
	ackDue       instant
	mayAck       bool // is in Endpoint.unacked
	acknowledged bool // by an empty message: the response goes separately
	assembled    int  // bytes of Body counted in Endpoint.transferBytes
}

// incoming is what a response depends on in the request.
type incoming struct {
	Message
	size      int // of the datagram
	block1    Block
	block2    Block
	hasBlock1 bool
	hasBlock2 bool
	quick     bool   // the blocks are of Q-Block1 and Q-Block2 (RFC 9177)
	busy      bool   // refused because of a limit
	operation []byte // of a notification, whose request is gone; otherwise it is made from the options
}

// maxToken bounds a token in bytes: an observation keeps it (RFC 8974 §2.2: a server may have a bound of its own).
const maxToken = 64

// maxOptions bounds the options of a request, which are walked many times. A path of 32 segments leaves room for as
// many arguments.
const maxOptions = 256

// maxKeptDatagram bounds the memory that a free Request holds; few requests are longer (RFC 7252 §4.6).
const maxKeptDatagram = 1280

// Registers tells whether the request asks to observe the resource (RFC 7641 §2, §3.1). An Observe option with
// a block number is part of a block-wise retrieval and registers nothing (RFC 7959 §2.6).
func (r *Request) Registers() bool {
	value, ok := r.Uint(Observe)
	return ok && value == 0 && (r.Code == GET || r.Code == FETCH) && r.block2.Num == 0
}

// Response is the answer to a Request, or the content of a notification. The zero value is an empty 2.05.
type Response struct {
	Code    Code // Content when zero
	Options Options
	Body    []byte // of any length up to Config.MaxBody; sent in blocks where needed
	// Observation, in the answer to a request that Registers, is started when Code is a success.
	Observation *Observation
	// Trusted says that the application knows who asks, so that the limit for unverified peers need not apply.
	Trusted bool
	// Owner is what the application knows the peer by, for PeerState; 0 changes nothing.
	Owner uint32
	// StillAllowed, if set, is asked before a further block of the body is sent; when it says no, what is kept for that is
	// forgotten. It is called inside the Endpoint's methods and must neither call the Endpoint nor block.
	StillAllowed func() bool
}

// Reset empties the response and keeps its memory.
func (r *Response) Reset() {
	r.Options.Reset()
	*r = Response{Options: r.Options}
}

func (r *Response) copyFrom(other *Response) {
	r.Code, r.Trusted, r.StillAllowed = other.Code, other.Trusted, other.StillAllowed
	r.Options.CopyFrom(&other.Options)
	r.Body = append(r.Body[:0], other.Body...)
}

func (e *Endpoint) receiveRequest(from netip.AddrPort, m *Message, datagram []byte, now instant) {
	if known := e.reception(e.known(from), m.MessageID); known != nil { // never on a connection
		// RFC 7252 §4.5: a repeated message is answered alike and executed once.
		e.stats.Duplicates++
		p := known.peer
		e.heard(p, len(datagram), now)
		if m.Type == Confirmable && len(known.reply) > 0 && p.maySend(len(known.reply), known.trusted) {
			p.spend(len(known.reply), known.trusted)
			e.send(from, known.reply)
		}
		return
	}
	in := incoming{Message: *m, size: len(datagram)}
	if _, protected := m.Option(OSCORE); protected && e.config.ObjectSecurity != nil {
		var ok bool
		if in.Message, datagram, ok = e.open(from, m, datagram); !ok {
			return
		}
		m = &in.Message
	}
	if code := in.examine(); code != 0 {
		e.refuse(from, &in, code)
		return
	}
	p := e.peer(from)
	if p == nil || e.full(p, m) {
		e.stats.Refused++
		in.busy = true
		e.refuse(from, &in, ServiceUnavailable)
		return
	}
	e.heard(p, in.size, now)
	if value, ok := m.Option(Echo); ok && e.echo.valid(from, value, now) {
		p.verified = true
	}
	if value, ok := m.Uint(Observe); ok && value == 1 {
		e.deregister(p, m) // RFC 7641 §3.6; the request itself is answered as a plain one
	}
	if in.hasBlock2 && (in.block2.Num > 0 || in.missesFirst()) && e.answerFromDownload(p, &in, now) {
		return
	}

	received := e.remember(p, m.MessageID, now)
	body := m.Payload
	assembled := 0
	if in.hasBlock1 {
		var whole bool
		var code Code
		if body, assembled, whole, code = e.assemble(p, &in, received, now); !whole {
			received.settled = true
			e.answerBlock(p, &in, received, code)
			return
		}
	}
	e.accept(p, &in, datagram, received, body, assembled, now)
}

// full tells whether no more requests of the peer are taken, since too many have not been answered.
func (e *Endpoint) full(p *peer, m *Message) bool {
	most := e.config.MaxRequests
	switch {
	case int(p.queued+p.running) >= e.config.MaxRequestsOfPeer || e.requests >= most:
		return true
	case p.stranger() && e.requests >= most-most/strangersPart: // the rest is for those who are known
		return !e.vouched(p, m)
	}
	return false
}

// examine refuses what no application could answer, before any state is made.
func (in *incoming) examine() Code {
	previous, repeated, count, blocks := OptionNumber(0), false, 0, false
	for it := in.Iterate(); it.Next(); {
		if count++; count > maxOptions {
			return BadRequest
		}
		repeated = it.Number == previous
		previous = it.Number
		switch it.Number {
		case ProxyURI, ProxyScheme:
			return ProxyingNotSupported // RFC 7252 §5.10.2
		case Block1, Block2:
			blocks = true
		case QBlock1, QBlock2:
			if in.reliable || in.protection != nil {
				return BadOption // RFC 9177 §3: of no use on connections, where several blocks go at once anyway (RFC 8323 §6)
			}
			in.quick = true
		}
		// RFC 7252 §5.4.1, §5.4.3, §5.4.5: an option that is unknown, of a wrong length or repeated against
		// its definition counts as not recognized; if it is critical the request is refused.
		rule := ruleOf(it.Number)
		recognized := rule.known && len(it.Value) >= int(rule.min) && len(it.Value) <= int(rule.max) && (!repeated || rule.repeatable)
		if !recognized && it.Number.Critical() {
			return BadOption
		}
	}
	if in.Code > IPATCH {
		return MethodNotAllowed // RFC 7252 §5.8
	}
	if len(in.Token) > maxToken {
		return BadRequest // RFC 8974 §2.2
	}
	if blocks && in.quick {
		return BadRequest // RFC 9177 §4.1
	}
	return in.examineBlocks()
}

// refuse answers without any state. Repeating the request repeats the refusal.
func (e *Endpoint) refuse(to netip.AddrPort, in *incoming, code Code) {
	e.tellRefused(to, in, code)
	if in.Type == NonConfirmable && code == BadOption && !e.reliable() {
		e.sendEmpty(to, Reset, in.MessageID) // RFC 7252 §5.4.1: rejected, §4.3
		return
	}
	if in.suppresses(code) {
		if in.Type == Confirmable {
			e.sendEmpty(to, Acknowledgement, in.MessageID)
		}
		return
	}
	var options *Options
	if in.busy {
		e.scratch.Options.Reset()
		e.scratch.Options.AddUint(MaxAge, 5) // RFC 7252 §5.9.3.4: when to try again, in seconds
		options = &e.scratch.Options
	}
	t, id := Acknowledgement, in.MessageID
	if in.Type == NonConfirmable {
		t, id = NonConfirmable, uint16(e.random.Uint64())
	}
	e.out = e.appendResponse(e.out[:0], in.protection, t, code, id, in.Token, options, nil)
	e.send(to, e.out)
}

func (e *Endpoint) tellRefused(from netip.AddrPort, in *incoming, code Code) {
	if e.config.Refused != nil {
		e.config.Refused(from, in.Message, code)
	}
}

// accept queues a whole request for Next.
func (e *Endpoint) accept(p *peer, in *incoming, datagram []byte, received *reception, body []byte, assembled int, now instant) {
	var r *Request
	if n := len(e.freeRequests); n > 0 {
		r = e.freeRequests[n-1]
		e.freeRequests = e.freeRequests[:n-1]
	} else {
		r = &Request{}
	}
	*r = Request{incoming: *in, Peer: p.addr, peer: p, reception: received, assembled: assembled,
		datagram: append(r.datagram[:0], datagram...)}
	r.Message, _ = Decode(r.datagram) // as before, over the request's own copy
	r.MessageID, r.reliable, r.protection = in.MessageID, in.reliable, in.protection
	r.Body = body
	if assembled == 0 {
		r.Body = r.Payload
	}
	if r.Type == Confirmable {
		r.ackDue, r.mayAck = now+e.config.ProcessingDelay, true
		e.unacked.pushBack(r)
	}
	if p.lastQueued == nil {
		p.firstQueued = r
	} else {
		p.lastQueued.next = r
	}
	p.lastQueued = r
	p.queued++
	e.requests++
	if p.link != nil && int(p.queued+p.running) == e.config.MaxRequestsOfPeer {
		e.config.Connections.Full(p.addr, true)
	}
	e.makeReady(p)
}

// makeReady gives the peer a turn if it may have one.
func (e *Endpoint) makeReady(p *peer) {
	if !p.isReady && p.queued > 0 && int(p.running) < e.config.MaxRunningOfPeer {
		p.isReady = true
		e.ready.pushBack(p)
	}
}

// Next gives out the next request to be answered, or nil. Peers take turns, and each has at most
// Config.MaxRunningOfPeer requests out, so that one whose requests take long keeps no other waiting.
func (e *Endpoint) Next() *Request {
	p := e.ready.first
	if p == nil {
		return nil
	}
	e.ready.remove(p)
	p.isReady = false
	r := p.firstQueued
	p.firstQueued, r.next = r.next, nil
	if p.firstQueued == nil {
		p.lastQueued = nil
	}
	p.queued--
	p.running++
	r.stranger = p.stranger() && !e.vouched(p, &r.Message)
	e.makeReady(p)
	return r
}

// acknowledgeRequest tells the peer that its response will come separately (RFC 7252 §5.2.2).
func (e *Endpoint) acknowledgeRequest(r *Request) {
	e.unacked.remove(r)
	r.mayAck, r.acknowledged = false, true
	e.sendAcknowledgement(r)
}

// Respond answers a request that Next gave out, once. Afterwards neither it nor its Body may be used.
// The response is not kept, but its options are added to.
func (e *Endpoint) Respond(r *Request, response *Response, now time.Time) {
	at := now.Sub(e.epoch)
	p := r.peer
	if r.mayAck {
		e.unacked.remove(r)
		r.mayAck = false
	}
	p.running--
	e.requests--
	if response.Owner != 0 {
		p.owner = response.Owner
	}
	p.known = p.known || response.Trusted
	e.makeReady(p)
	e.transferBytes -= r.assembled

	if response.Code == 0 {
		response.Code = Content
	}
	if p.link != nil && p.link.over { // nobody is there to hear it
		if o := response.Observation; o != nil {
			e.finishObservation(o)
		}
		e.release(r)
		return
	}
	if o := response.Observation; o != nil {
		if response.Code.IsSuccess() && r.Registers() && e.register(p, r, o, response.Trusted, at) {
			o.keepsFormat(response)
			response.Options.SetUint(Observe, o.nextSequence(at))
		} else {
			e.finishObservation(o)
		}
	}
	if r.hasBlock1 && !r.quick {
		// RFC 7959 §2.3: the final response says which block it answers.
		response.Options.SetUint(Block1, Block{Num: r.block1.Num, SZX: r.block1.SZX}.Uint())
	}
	if r.suppresses(response.Code) {
		e.respondNothing(r)
	} else {
		e.respond(r, response, at)
	}
	if o := response.Observation; o != nil && o.state == observing {
		e.flushPending(o, at)
	}
	r.reception.settled = true
	number := r.MessageID
	e.release(r)
	if p.link != nil {
		e.answered(p, number)
	}
}

// release keeps the memory of an answered request for another.
func (e *Endpoint) release(r *Request) {
	buffer := r.datagram[:0]
	if cap(buffer) > maxKeptDatagram {
		buffer = nil
	}
	*r = Request{datagram: buffer}
	e.freeRequests = append(e.freeRequests, r)
}

// suppresses tells whether the client does not want a response of this class (RFC 7967 §2.1).
func (in *incoming) suppresses(code Code) bool {
	value, ok := in.Uint(NoResponse)
	return ok && value>>(code.Class()-1)&1 == 1
}

// respondNothing stops a Confirmable request from being repeated, and says nothing to any other.
func (e *Endpoint) respondNothing(r *Request) {
	if r.Type == Confirmable && !r.acknowledged {
		e.sendAcknowledgement(r)
	}
}

func (e *Endpoint) sendAcknowledgement(r *Request) {
	e.out = appendEmpty(e.out[:0], Acknowledgement, r.MessageID)
	r.peer.spend(len(e.out), false)
	e.setReply(r.reception, e.out)
	e.send(r.Peer, e.out)
}

func (e *Endpoint) respond(r *Request, response *Response, now instant) {
	p := r.peer
	payload, kept := e.shape(p, &r.incoming, response, nil, now)
	if r.quick && r.hasBlock1 {
		e.rememberAnswer(r, response, payload)
	}
	if !r.quick {
		kept = nil // the peer asks for each block
	}
	if kept != nil {
		e.follow(kept, &r.incoming, blockSet{token: kept.token, observed: kept.observed, confirmable: r.Type == Confirmable}, e.config.MaxRetransmit)
	}
	proves := response.Observation.mustProve()
	if proves && r.Type == Confirmable && !r.acknowledged {
		e.sendAcknowledgement(r)
		r.acknowledged = true
	}
	switch {
	case !proves && (r.Type == NonConfirmable || r.acknowledged && e.crowded(p)):
		// RFC 7252 §5.2.3: a Non-confirmable request is answered by a Non-confirmable message. §5.2.2 lets a
		// separate response be one, too.
		id := p.messageID()
		if o := response.Observation; o != nil {
			o.lastID, o.notified = id, true
		}
		e.out = e.appendResponse(e.out[:0], r.protection, NonConfirmable, response.Code, id, r.Token, &response.Options, payload)
		e.send(p.addr, e.out)
	case r.acknowledged || proves:
		// RFC 7252 §5.2.2: a separate response to a Confirmable request is Confirmable.
		id := p.messageID()
		e.out = e.appendResponse(e.out[:0], r.protection, Confirmable, response.Code, id, r.Token, &response.Options, payload)
		t := e.transmit(p, id, e.out, now)
		t.trusted, t.download = response.Trusted, kept
		kept = nil // goes on when that is acknowledged
		if o := response.Observation; o != nil && o.state == observing {
			t.observation, o.unacknowledged = o, t
		}
	default:
		e.out = e.appendResponse(e.out[:0], r.protection, Acknowledgement, response.Code, r.MessageID, r.Token, &response.Options, payload)
		e.setReply(r.reception, e.out)
		r.reception.trusted = response.Trusted
		e.send(p.addr, e.out)
	}
	p.spend(len(e.out), response.Trusted)
	if kept != nil {
		e.sendSet(kept, now)
	}
}
