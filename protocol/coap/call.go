package coap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Why a call of ours ended without a response.
var (
	ErrTimeout     = errors.New("coap: the peer did not answer")
	ErrReset       = errors.New("coap: the peer rejected the message")
	ErrBodyTooBig  = errors.New("coap: the response body is longer than allowed")
	ErrBlocks      = errors.New("coap: the peer sent blocks that do not fit together")
	ErrTooMany     = errors.New("coap: too many peers or calls")
	ErrNotRequest  = errors.New("coap: the code of a call must be a method")
	ErrBadResponse = errors.New("coap: the response has an option that must be understood and is not")
)

const (
	maxCallsWaiting = 1024 // of one peer, until NStart lets them go
	maxRestarts     = 3    // of fetching a body that changes meanwhile

	// callOptions is what Do adds to the options of a call at the most, in bytes: Block1, Size1, Observe, Echo and Request-Tag.
	callOptions = (2 + 3) + (3 + 4) + (1 + 1) + (3 + 40) + (3 + 4)
)

// Call is a request of ours with all that it takes to get its response: retransmission, blocks in both
// directions, one answer to an Echo challenge, observation. It is used for one Do.
type Call struct {
	Code            Code
	Options         Options // without Block1, Block2, Size1, Observe, Echo and Request-Tag, which Do adds
	Body            []byte  // kept until the call has ended
	NonConfirmable  bool
	BlockSize       int  // 16 to 1,024; 0 means the Endpoint's
	ObserveResource bool // register for notifications (RFC 7641 §3.1)
	// Deliver gets the response; of an observation also each notification, in order. It is called inside the
	// Endpoint's methods and must not call the Endpoint. After a Reply with Last it is not called again.
	Deliver func(*Reply)
	// Progress, if set, is told before each message of the call how many bytes of the bodies have gone and come, and how long
	// the response says that its body is (0: it does not say). It is called as Deliver is.
	Progress func(sent, received, size int)

	peer         *peer
	token        token // of the step in progress
	inFlight     bool  // token is in Endpoint.calls
	observeToken token
	established  bool // the peer has agreed to notify
	slot         bool // counts in peer.activeCalls
	over         bool
	waiting      *transmission

	maxBody    int
	szx        uint8
	chunk      int // bytes of a block of ours
	sent       int // offset of the block being sent
	uploaded   bool
	requestTag [4]byte
	echo       []byte
	challenged bool

	fetching  bool // blocks after the first of the response
	body      []byte
	etag      []byte
	blockSZX  uint8
	restarts  int
	first     Message // what the Reply shows: the message with the first block
	observing bool    // the content being fetched is a notification's
	sequence  uint32
	heardAt   instant
	heard     bool
}

// Reply is what a call brought. Message is that of the first block; Body is whole. Both belong to the receiver.
type Reply struct {
	Message
	Body []byte
	Err  error // no response; the rest is empty
	Last bool  // the call has ended
}

type token [8]byte

type callKey struct {
	peer  netip.AddrPort
	token token
}

// Do sends a request. The outcome goes to call.Deliver, possibly before Do returns.
func (e *Endpoint) Do(to netip.AddrPort, call *Call, now time.Time) {
	at := now.Sub(e.epoch)
	p := e.peer(to)
	if e.reliable() && (p == nil || p.link.over || p.link.released) {
		call.end(&Reply{Err: ErrClosed})
		return
	}
	if p == nil || p.more != nil && len(p.more.waiting) >= maxCallsWaiting {
		call.end(&Reply{Err: ErrTooMany})
		return
	}
	if !call.Code.IsRequest() {
		call.end(&Reply{Err: ErrNotRequest})
		return
	}
	call.peer = p
	call.szx, call.maxBody = e.maxSZX, e.config.MaxBody
	if call.BlockSize != 0 {
		call.szx = min(call.szx, szxFor(call.BlockSize))
	}
	binary.BigEndian.PutUint32(call.requestTag[:], uint32(e.random.Uint64()))
	call.chunk = 16 << call.szx
	if p.link != nil {
		const ours = len(token{}) + callOptions
		call.szx, call.chunk = p.link.blocks(call.szx, call.BlockSize != 0, ours+call.Options.encodedLength(), len(call.Body))
	}
	call.uploaded = len(call.Body) <= call.chunk
	more := p.extra()
	more.waiting = append(more.waiting, call)
	e.startCalls(p, at)
}

// startCalls lets waiting calls go as far as NSTART allows (RFC 7252 §4.7).
func (e *Endpoint) startCalls(p *peer, now instant) {
	for len(p.more.waiting) > 0 && p.more.activeCalls < e.config.NStart {
		call := p.more.waiting[0]
		p.more.waiting = slices.Delete(p.more.waiting, 0, 1)
		p.more.activeCalls++
		call.slot = true
		e.step(call, now)
	}
}

// Cancel ends a call. An observation is deregistered with the peer (RFC 7641 §3.6). Deliver is not called.
func (e *Endpoint) Cancel(call *Call, now time.Time) {
	if call.over || call.peer == nil {
		return
	}
	at := now.Sub(e.epoch)
	p := call.peer
	if i := slices.Index(p.more.waiting, call); i >= 0 {
		p.more.waiting = slices.Delete(p.more.waiting, i, i+1)
	}
	established := call.established
	call.over = true
	e.leave(call, at)
	if established {
		id := p.messageID()
		options := &e.scratch.Options
		options.CopyFrom(&call.Options)
		options.AddUint(Observe, 1)
		if e.reliable() {
			e.signal(p, call.Code, call.observeToken[:], options, "")
			return
		}
		e.out = AppendMessage(e.out[:0], Confirmable, call.Code, id, call.observeToken[:], options, nil)
		e.transmit(p, id, e.out, at)
	}
}

// step sends the next message of a call: a block of its body, or the request for a block of the response.
func (e *Endpoint) step(call *Call, now instant) {
	e.forgetStep(call)
	if call.Progress != nil {
		size, _ := call.first.Uint(Size2)
		call.Progress(call.sent, len(call.body), int(size))
	}
	p := call.peer
	options := &e.scratch.Options
	options.CopyFrom(&call.Options)
	var payload []byte
	registers := call.ObserveResource && !call.fetching
	switch {
	case !call.uploaded:
		end := min(call.sent+call.chunk, len(call.Body))
		payload = call.Body[call.sent:end]
		options.AddUint(Block1, blockAt(call.sent, end < len(call.Body), call.szx).Uint())
		if call.sent == 0 {
			options.AddUint(Size1, uint32(len(call.Body)))
		}
		options.Add(RequestTag, call.requestTag[:]) // RFC 9175 §3.3: tells concurrent bodies apart
	case call.fetching:
		options.AddUint(Block2, blockAt(len(call.body), false, call.blockSZX).Uint())
		if len(call.Body) > call.chunk {
			options.Add(RequestTag, call.requestTag[:]) // so that the response is found that belongs to the body
		}
	default:
		payload = call.Body
		if call.szx < e.maxSZX {
			options.AddUint(Block2, Block{SZX: call.szx}.Uint()) // RFC 7959 §2.4: early negotiation
		}
	}
	if registers {
		options.AddUint(Observe, 0)
	}
	if call.echo != nil {
		options.Add(Echo, call.echo)
	}
	call.token = e.newToken(p)
	if registers {
		if call.established {
			call.token = call.observeToken // registering again (RFC 7641 §3.3.1)
		}
		call.observeToken = call.token
	}
	e.calls[callKey{p.addr, call.token}] = call
	call.inFlight = true

	id := p.messageID()
	if call.NonConfirmable || e.reliable() {
		e.out = AppendMessage(e.out[:0], NonConfirmable, call.Code, id, call.token[:], options, payload)
		call.waiting = &transmission{peer: p, messageID: id, call: call}
		e.wait(call.waiting, now+e.config.ExchangeLifetime)
		e.send(p.addr, e.out)
		return
	}
	e.out = AppendMessage(e.out[:0], Confirmable, call.Code, id, call.token[:], options, payload)
	call.waiting = e.transmit(p, id, e.out, now)
	call.waiting.call = call
}

// newToken is eight unpredictable bytes (RFC 7252 §5.3.1).
func (e *Endpoint) newToken(p *peer) token {
	for {
		var t token
		binary.BigEndian.PutUint64(t[:], e.random.Uint64())
		if _, taken := e.calls[callKey{p.addr, t}]; !taken {
			return t
		}
	}
}

// forgetStep ends waiting for what the last step sent. A registration's token stays known.
func (e *Endpoint) forgetStep(call *Call) {
	if call.waiting != nil {
		e.settle(call.waiting)
		call.waiting = nil
	}
	if call.inFlight && !(call.established && call.token == call.observeToken) {
		delete(e.calls, callKey{call.peer.addr, call.token})
	}
	call.inFlight = false
}

// leave forgets all that the Endpoint knows of a call and lets the next one go.
func (e *Endpoint) leave(call *Call, now instant) {
	call.established = false
	e.forgetStep(call)
	if call.ObserveResource {
		delete(e.calls, callKey{call.peer.addr, call.observeToken})
	}
	e.releaseSlot(call, now)
}

func (e *Endpoint) releaseSlot(call *Call, now instant) {
	if call.slot {
		call.slot = false
		call.peer.more.activeCalls--
		e.startCalls(call.peer, now)
		if call.peer.link != nil {
			e.parted(call.peer)
		}
	}
}

func (e *Endpoint) failCall(call *Call, err error, now instant) {
	e.leave(call, now)
	call.end(&Reply{Err: err})
}

func (call *Call) end(reply *Reply) {
	if !call.over {
		call.over = true
		reply.Last = true
		call.Deliver(reply)
	}
}

// callDue acts when nothing came in time: an established observation registers again once what it has heard is
// no longer fresh (RFC 7641 §3.3.1), anything else has failed.
func (e *Endpoint) callDue(call *Call, now instant) {
	call.waiting = nil
	if call.established && !call.inFlight {
		call.fetching = false
		e.step(call, now)
		return
	}
	e.failCall(call, ErrTimeout, now)
}

// receiveResponse matches a response to its call (RFC 7252 §5.3.2).
func (e *Endpoint) receiveResponse(from netip.AddrPort, m *Message, datagram []byte, now instant) {
	p := e.known(from)
	var call *Call
	if len(m.Token) == len(token{}) {
		call = e.calls[callKey{from, token(m.Token)}]
	}
	if m.Type == Acknowledgement {
		// A piggybacked response belongs to the message that it acknowledges.
		if call == nil || call.waiting == nil || call.waiting.messageID != m.MessageID || call.token != token(m.Token) {
			return
		}
	}
	if m.Type == Reset {
		return // RFC 7252 §4.2: a Reset is empty; this one is ignored
	}
	if m.Type == Confirmable {
		if known := e.reception(p, m.MessageID); known != nil {
			e.stats.Duplicates++
			if len(known.reply) > 0 {
				e.send(from, known.reply)
			}
			return
		}
		if call == nil {
			e.sendEmpty(from, Reset, m.MessageID) // RFC 7252 §4.2: out of context
			return
		}
		received := e.remember(p, m.MessageID, now)
		received.settled = true
		e.out = appendEmpty(e.out[:0], Acknowledgement, m.MessageID)
		e.setReply(received, e.out)
		e.send(from, e.out)
	}
	if call == nil {
		// RFC 7252 §4.3 allows a Reset; a server that notifies nobody learns it that way (RFC 7641 §3.6).
		if _, notification := m.Option(Observe); notification {
			e.sendEmpty(from, Reset, m.MessageID)
		}
		return
	}
	p.verified = true
	if unknownCritical(m) {
		e.failCall(call, ErrBadResponse, now)
		return
	}
	// The response outlives the datagram.
	own, _ := Decode(slices.Clone(datagram))
	own.reliable = m.reliable
	e.advance(call, &own, now)
}

func unknownCritical(m *Message) bool {
	for it := m.Iterate(); it.Next(); {
		if it.Number.Critical() && !ruleOf(it.Number).known || it.Number == QBlock1 || it.Number == QBlock2 { // calls do not use these
			return true
		}
	}
	return false
}

// advance takes a response to the step in progress, or a notification.
func (e *Endpoint) advance(call *Call, m *Message, now instant) {
	notification := call.established && token(m.Token) == call.observeToken
	switch {
	case notification && call.isStale(m, now):
		return
	case !notification && (!call.inFlight || token(m.Token) != call.token):
		return
	}
	if value, ok := m.Option(Echo); ok {
		call.echo = value // RFC 9175 §2.3: for the requests that follow
		if m.Code == Unauthorized && !call.challenged {
			call.challenged = true // the same request with the value, once
			e.step(call, now)
			return
		}
	}
	if !call.uploaded && e.advanceUpload(call, m, now) {
		return
	}
	call.uploaded = true

	var err error
	if call.fetching && !notification {
		err = e.takeBlock(call, m, now)
	} else {
		err = call.takeFirst(m, now)
	}
	if err != nil {
		e.failCall(call, err, now)
		return
	}
	if call.fetching {
		e.step(call, now)
		return
	}
	reply := &Reply{Message: call.first, Body: call.body}
	call.body = nil
	if call.observing {
		e.awaitNotification(call, now)
		call.Deliver(reply)
		return
	}
	e.leave(call, now)
	call.end(reply)
}

// isStale tells a notification that came after a newer one (RFC 7641 §3.4), which none does over a connection (RFC 8323 §7.1). The
// piggybacked response to a registration is none: a server that was restarted counts anew.
func (call *Call) isStale(m *Message, now instant) bool {
	if m.reliable || m.Type == Acknowledgement {
		return false
	}
	sequence, ok := m.Uint(Observe)
	return ok && m.Code.IsSuccess() && call.heard && !fresher(sequence, call.sequence) && now-call.heardAt < 128*time.Second
}

// takeFirst begins with a response or notification: its first block, or all of it.
func (call *Call) takeFirst(m *Message, now instant) error {
	call.fetching, call.body, call.first = false, nil, *m
	sequence, observed := m.Uint(Observe)
	if call.observing = call.ObserveResource && observed && m.Code.IsSuccess(); call.observing {
		call.sequence, call.heardAt, call.heard = sequence, now, true
		call.established = true
	}
	call.etag, _ = m.Option(ETag)
	block, blockwise, valid := m.Block(Block2)
	if !valid || blockwise && block.Num != 0 {
		return ErrBlocks
	}
	return call.takePayload(m, block)
}

// takeBlock goes on with a later block, which must be of the same content (RFC 7959 §2.4).
func (e *Endpoint) takeBlock(call *Call, m *Message, now instant) error {
	block, blockwise, valid := m.Block(Block2)
	tag, _ := m.Option(ETag)
	switch {
	case !valid:
		return ErrBlocks
	case !m.Code.IsSuccess() || !blockwise:
		return call.takeFirst(m, now) // the peer has no such block any more: what it says instead is the outcome
	case !bytes.Equal(tag, call.etag):
		// The resource changed. What is observed does so by nature; anything else is not chased for ever.
		if call.restarts++; call.Code != GET || call.restarts > maxRestarts && !call.established {
			return ErrBlocks
		}
		call.body, call.etag = nil, tag
		if block.Num != 0 {
			return nil // asks for the first block
		}
	case block.Offset() != len(call.body):
		return ErrBlocks
	}
	if block.Num == 0 {
		call.first = *m
	}
	return call.takePayload(m, block)
}

// takePayload adds a block to the body and says by call.fetching whether others follow. Without a Block2 option
// the block is the zero Block, and the payload all there is.
func (call *Call) takePayload(m *Message, block Block) error {
	if block.More && !block.fits(len(m.Payload)) {
		return ErrBlocks
	}
	if len(call.body)+len(m.Payload) > call.maxBody {
		return ErrBodyTooBig
	}
	call.body = append(call.body, m.Payload...)
	call.fetching, call.blockSZX = block.More, block.SZX
	return nil
}

// awaitNotification waits for the next content, at the longest until this one is stale (RFC 7641 §3.3.1).
func (e *Endpoint) awaitNotification(call *Call, now instant) {
	e.forgetStep(call)
	e.releaseSlot(call, now)
	if e.reliable() { // the connection says whether the peer is there (RFC 8323 §7.3)
		return
	}
	maxAge, ok := call.first.Uint(MaxAge)
	if !ok {
		maxAge = 60 // RFC 7252 §5.10.5
	}
	// RFC 7641 §3.3.1 asks for a random delay of 5 to 15 seconds more, so that clients do not return at once.
	delay := 5*time.Second + time.Duration(e.random.Uint64()%uint64(10*time.Second))
	call.waiting = &transmission{peer: call.peer, call: call}
	e.wait(call.waiting, now+time.Duration(maxAge)*time.Second+delay)
}

// shrink makes the blocks that follow as long as one of the peer's.
func (call *Call) shrink(block Block) { call.szx, call.chunk = block.SZX, block.Size() }

// advanceUpload acts on the response to a block that is not the last; false means that it is the outcome.
func (e *Endpoint) advanceUpload(call *Call, m *Message, now instant) bool {
	block, ok, valid := m.Block(Block1)
	switch {
	case m.Code == Continue && ok && valid:
		call.sent += call.chunk
		if block.SZX < call.szx {
			call.shrink(block) // RFC 7959 §2.3: the peer wants smaller blocks
		}
		if call.sent >= len(call.Body) {
			e.failCall(call, ErrBlocks, now)
			return true
		}
		e.step(call, now)
		return true
	case m.Code == RequestEntityTooLarge && ok && valid && call.sent == 0 && block.SZX < call.szx:
		call.shrink(block) // RFC 7959 §2.9.3: the same again in smaller blocks
		e.step(call, now)
		return true
	}
	return false
}
