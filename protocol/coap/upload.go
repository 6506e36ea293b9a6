package coap

import "slices"

const (
	// windowSets is how many sets behind the last block that came a block by Q-Block may lie. A client goes on with the next set when it
	// hears nothing (RFC 9177 §7.2); but what nobody has sent takes no memory.
	windowSets = 4
	// maxGaps bounds what has to be remembered of missing blocks. A block that would make another gap is missed itself.
	maxGaps = 64

	// missingBlocks is application/missing-blocks+cbor-seq (RFC 9177 §12.3).
	missingBlocks = 272
)

// assemble takes one block of an upload. With the last one that was missing the body is whole: it is returned with the number of its bytes
// that are counted in transferBytes. Before that there is a code to answer with (RFC 7959 §2.5), or, by Q-Block, nothing to say: Empty.
func (e *Endpoint) assemble(p *peer, in *incoming, received *reception, now instant) (body []byte, counted int, whole bool, code Code) {
	block, payload := in.block1, in.Payload
	if !block.fits(len(payload)) {
		return nil, 0, false, BadRequest // RFC 7959 §2.2
	}
	e.opBuffer = appendOperation(e.opBuffer[:0], &in.Message)
	t := p.transfer(e.opBuffer, true)
	if t != nil && t.quick != in.quick {
		e.drop(t)
		t = nil
	}
	size, _ := in.Uint(Size1)
	end := block.Offset() + len(payload)
	if int64(size) > int64(e.config.MaxBody) || end > e.config.MaxBody {
		if t != nil {
			e.drop(t)
		}
		return nil, 0, false, RequestEntityTooLarge // RFC 7959 §2.9.3
	}
	begins := block.Num == 0
	if in.quick {
		// RFC 9177 §4.6: Size1 says exactly how long the body is. §4.3: blocks come in any order.
		if block.More != (end < int(size)) || end > int(size) || t != nil && (t.szx != block.SZX || t.announced != size) {
			return nil, 0, false, BadRequest
		}
		begins = t == nil
	}
	switch {
	case in.quick && (t == nil || !t.whole) && e.isFar(t, &block):
		if in.Type == Confirmable {
			return nil, 0, false, RequestEntityIncomplete // it is not to believe that the block has come
		}
		return nil, 0, false, Empty
	case begins && !in.quick && !block.More:
		if t != nil {
			e.drop(t)
		}
		return payload, 0, true, 0
	case begins:
		if t != nil {
			e.drop(t) // RFC 7959 §2.5: a new body takes the place of an unfinished one
		}
		t = &transfer{peer: p, upload: true, quick: in.quick, szx: block.SZX, announced: size, stranger: p.stranger()}
		if !e.uploadRoom(t, transferSize+len(e.opBuffer)+len(payload), &in.Message, now) {
			return nil, 0, false, ServiceUnavailable
		}
		e.begin(t, e.opBuffer, now)
	case t == nil:
		return nil, 0, false, RequestEntityIncomplete // RFC 7959 §2.9.2
	case t.whole:
		e.repeatAnswer(t, in, received)
		return nil, 0, false, Empty
	}
	fresh, code := e.place(t, in, now)
	switch {
	case code != 0:
		return nil, 0, false, code
	case !in.quick && block.More:
		return nil, 0, false, Continue
	case in.quick && (len(t.gaps) > 0 || len(t.body) < int(size)):
		return nil, 0, false, e.awaitBlocks(t, in, fresh, now)
	}
	body, counted = t.body, cap(t.body)
	if t.quick {
		t.whole, t.body = true, nil
		e.count(t, -counted)
		e.unpace(t)
	} else {
		e.drop(t)
	}
	e.transferBytes += counted // until the request has been answered
	return body, counted, true, 0
}

// place puts a block where it belongs. fresh says that it was missing; code is why it was not taken.
func (e *Endpoint) place(t *transfer, in *incoming, now instant) (fresh bool, code Code) {
	offset, payload := in.block1.Offset(), in.Payload
	end := offset + len(payload)
	switch {
	case in.quick || offset == len(t.body):
	case in.block1.More && end == len(t.body) && string(t.body[offset:]) == string(payload):
		return false, Continue // sent again under another message ID
	default:
		return false, RequestEntityIncomplete // a block is missing
	}
	if !t.misses(offset, end) {
		return false, 0 // RFC 9177 §4.3: a block that comes again is ignored
	}
	e.use(t, now) // so that it does not give way to itself
	if !e.uploadRoom(t, max(0, end-len(t.body)), &in.Message, now) {
		return false, ServiceUnavailable
	}
	before := cap(t.body)
	t.put(offset, payload)
	e.count(t, cap(t.body)-before)
	return true, 0
}

// uploadRoom is roomFor the next bytes of an upload, which is no stranger's any more when somebody vouches for the peer.
func (e *Endpoint) uploadRoom(t *transfer, size int, request *Message, now instant) bool {
	if t.stranger && (!t.peer.stranger() || !e.strangersRoom(size, now) && e.vouched(t.peer, request)) {
		t.stranger = false
		e.strangerBytes -= t.counted
	}
	return e.roomFor(size, t.stranger, now)
}

// isFar tells whether a block lies too far behind, or between too many gaps, to be taken. t may be nil.
func (e *Endpoint) isFar(t *transfer, block *Block) bool {
	have := 0
	if t != nil {
		have = len(t.body)
		if len(t.gaps) == maxGaps && block.Offset() > t.gaps[0].from {
			return true
		}
	}
	return block.Offset() > have+windowSets*e.config.MaxPayloads*block.Size()
}

// misses tells whether these bytes have not come.
func (t *transfer) misses(from, to int) bool {
	return from >= len(t.body) || slices.ContainsFunc(t.gaps, func(g gap) bool { return from >= g.from && to <= g.to })
}

// put takes bytes that are missed.
func (t *transfer) put(offset int, payload []byte) {
	end := offset + len(payload)
	if have := len(t.body); offset >= have {
		if offset > have {
			t.gaps = append(t.gaps, gap{have, offset})
			t.body = slices.Grow(t.body, end-have)[:offset]
		}
		t.body = append(t.body, payload...)
		return
	}
	copy(t.body[offset:], payload)
	i := slices.IndexFunc(t.gaps, func(g gap) bool { return g.to >= end })
	g := t.gaps[i]
	t.gaps = slices.Delete(t.gaps, i, i+1)
	if end < g.to {
		t.gaps = slices.Insert(t.gaps, i, gap{end, g.to})
	}
	if g.from < offset {
		t.gaps = slices.Insert(t.gaps, i, gap{g.from, offset})
	}
}

// covered is how many bytes have come from the beginning on, without a gap.
func (t *transfer) covered() int {
	if len(t.gaps) > 0 {
		return t.gaps[0].from
	}
	return len(t.body)
}

// awaitBlocks says what there is to say while blocks are missing (RFC 9177 §7.2). To what is Confirmable that is nothing (§4.3, §5).
func (e *Endpoint) awaitBlocks(t *transfer, in *incoming, fresh bool, now instant) Code {
	if in.Type == Confirmable {
		return Empty
	}
	t.token = append(t.token[:0], in.Token...)
	set := e.config.MaxPayloads * in.block1.Size()
	covered := t.covered()
	if !fresh {
		if end := in.block1.Offset() + len(in.Payload); end%set == 0 && end <= covered {
			return Continue // RFC 9177 §4.3: it is answered as if it had come for the first time
		}
		return Empty
	}
	t.tries = 0
	e.pace(t, now+e.receiveTimeout())
	begun := in.block1.Offset() / set
	begins := begun > t.begun
	t.begun = max(begun, t.begun)
	switch whole := covered / set; {
	case whole > t.confirmed:
		t.confirmed = whole
		in.block1.Num = uint32(whole*e.config.MaxPayloads - 1) // up to it all have come
		return Continue
	case begins && covered < begun*set:
		e.askForBlocks(t, begun*set)
	}
	return Empty
}

// receiveTimeout is NON_RECEIVE_TIMEOUT (RFC 9177 §7.2).
func (e *Endpoint) receiveTimeout() instant { return 2 * e.config.AckTimeout }

// missBlocks asks for what has not come in time, or gives up.
func (e *Endpoint) missBlocks(t *transfer, now instant) {
	if t.tries >= e.config.MaxRetransmit { // NON_MAX_RETRANSMIT
		e.drop(t)
		return
	}
	t.tries++
	e.askForBlocks(t, int(t.announced))
	e.pace(t, now+e.receiveTimeout()<<t.tries)
}

// askForBlocks says which blocks below an offset are missing, the first of them if they are many (RFC 9177 §5).
func (e *Endpoint) askForBlocks(t *transfer, below int) {
	size, left := 16<<t.szx, e.config.MaxPayloads
	var numbers []byte
	list := func(from, to int) {
		for ; from < min(to, below) && left > 0; from += size {
			numbers = appendCBORUint(numbers, uint32(from/size))
			left--
		}
	}
	for _, g := range t.gaps {
		list(g.from, g.to)
	}
	list(len(t.body), below)
	options := &e.scratch.Options
	options.Reset()
	options.AddUint(ContentFormat, missingBlocks)
	t.lastID = t.peer.messageID()
	e.out = AppendMessage(e.out[:0], NonConfirmable, RequestEntityIncomplete, t.lastID, t.token, options, numbers)
	if t.peer.maySend(len(e.out), false) {
		t.peer.spend(len(e.out), false)
		e.send(t.peer.addr, e.out)
	}
}

// appendCBORUint encodes an unsigned integer (RFC 8949 §3.1).
func appendCBORUint(dst []byte, n uint32) []byte {
	switch {
	case n < 24:
		return append(dst, byte(n))
	case n < 1<<8:
		return append(dst, 0x18, byte(n))
	case n < 1<<16:
		return append(dst, 0x19, byte(n>>8), byte(n))
	}
	return append(dst, 0x1a, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// answerBlock answers a block that does not complete its body.
func (e *Endpoint) answerBlock(p *peer, in *incoming, received *reception, code Code) {
	if code == Empty {
		if in.Type == Confirmable && len(received.reply) == 0 {
			e.out = appendEmpty(e.out[:0], Acknowledgement, in.MessageID) // RFC 9177 §4.3
			p.spend(len(e.out), false)
			e.setReply(received, e.out)
			e.send(p.addr, e.out)
		}
		return
	}
	options := &e.scratch.Options
	options.Reset()
	if code != Continue {
		e.tellRefused(p.addr, in, code)
	}
	switch code {
	case Continue:
		// RFC 7959 §2.3: M=1 says that nothing is carried out before the last block; a smaller SZX asks
		// for smaller blocks from now on.
		szx := in.block1.SZX
		if szx != bertSZX && !in.quick {
			szx = min(szx, e.maxSZX)
		}
		options.AddUint(in.option1(), Block{Num: in.block1.Num, More: true, SZX: szx}.Uint())
	case RequestEntityTooLarge:
		options.AddUint(Size1, uint32(e.config.MaxBody)) // RFC 7959 §4: the largest body acceptable
	case ServiceUnavailable:
		e.stats.Refused++
		options.AddUint(MaxAge, 5)
	}
	t, id := Acknowledgement, in.MessageID
	if in.Type == NonConfirmable {
		t, id = NonConfirmable, p.messageID()
	}
	e.out = e.appendResponse(e.out[:0], in.protection, t, code, id, in.Token, options, nil)
	p.spend(len(e.out), false)
	if t == Acknowledgement {
		e.setReply(received, e.out)
	}
	e.send(p.addr, e.out)
}

// rememberAnswer keeps what an upload by Q-Block was answered: its client cannot know that the answer was lost, and sends blocks again.
func (e *Endpoint) rememberAnswer(r *Request, response *Response, payload []byte) {
	e.opBuffer = appendOperation(e.opBuffer[:0], &r.Message)
	t := r.peer.transfer(e.opBuffer, true)
	switch {
	case t == nil || !t.whole:
	case !response.Code.IsSuccess():
		e.drop(t) // the same body may be sent once more, such as with an Echo option
	default:
		t.code, t.body, t.trusted, t.stillAllowed = response.Code, slices.Clone(payload), response.Trusted, response.StillAllowed
		t.options.CopyFrom(&response.Options)
		t.options.Remove(Observe) // notifications have the token of the block that made the body whole
		e.count(t, cap(t.body)+cap(t.options.values))
	}
}

// repeatAnswer answers a block of a body that was whole (RFC 9177 §4.3), if that has been answered.
func (e *Endpoint) repeatAnswer(t *transfer, in *incoming, received *reception) {
	if t.code == Empty || t.stillAllowed != nil && !t.stillAllowed() {
		return
	}
	p := t.peer
	kind, id := Acknowledgement, in.MessageID
	if in.Type == NonConfirmable {
		kind, id = NonConfirmable, p.messageID()
	}
	e.out = e.appendResponse(e.out[:0], in.protection, kind, t.code, id, in.Token, &t.options, t.body)
	if p.maySend(len(e.out), t.trusted) {
		p.spend(len(e.out), t.trusted)
		if kind == Acknowledgement {
			e.setReply(received, e.out)
			received.trusted = t.trusted
		}
		e.send(p.addr, e.out)
	}
}
