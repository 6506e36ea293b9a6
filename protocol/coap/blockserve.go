package coap

import "slices"

// maxRepetitions is how often a body may be fetched from what is kept. Then the application is asked again, and may have limits.
const maxRepetitions = 8

// answerFromDownload serves a block after the first, or, by Q-Block, what else of a body the peer asks for. Without it a GET goes to the
// application once more, which can only harm a client that does not compare ETags; any other method may have had effects.
func (e *Endpoint) answerFromDownload(p *peer, in *incoming, now instant) bool {
	e.opBuffer = appendOperation(e.opBuffer[:0], &in.Message)
	t := p.transfer(e.opBuffer, false)
	if t != nil && (t.stillAllowed != nil && !t.stillAllowed() || t.sent > maxRepetitions*len(t.body)) {
		e.drop(t)
		t = nil
	}
	switch {
	case t != nil:
	case in.Code == GET || in.block2.Num == 0:
		return false
	default:
		e.refuse(p.addr, in, RequestEntityIncomplete) // RFC 7959 §2.9.2
		return true
	}
	e.use(t, now)
	response := &e.scratch
	response.Reset()
	response.Code = t.code
	response.Options.CopyFrom(&t.options)
	response.Body = t.body
	response.Trusted = t.trusted
	token := in.Token
	goesOn := in.quick && e.isContinue(in) && t.token != nil && in.Type == NonConfirmable
	if goesOn {
		// RFC 9177 §4.4, §10.2.2: this is no question of its own; the body goes on as it began.
		token = t.token
		if t.observed {
			response.Options.SetUint(Observe, t.sequence)
		}
	}
	payload, kept := e.shape(p, in, response, t, now)
	t.sent += len(payload)
	if kept == nil {
		token = in.Token // it is an error
	}
	kind, id := Acknowledgement, in.MessageID
	if in.Type == NonConfirmable {
		kind, id = NonConfirmable, p.messageID()
	}
	e.out = e.appendResponse(e.out[:0], in.protection, kind, response.Code, id, token, &response.Options, payload)
	response.Body = nil
	p.spend(len(e.out), response.Trusted)
	e.send(p.addr, e.out)
	if kept != nil && in.quick {
		e.follow(kept, in, blockSet{token: slices.Clone(token), observed: goesOn && t.observed, confirmable: kind == Acknowledgement}, e.config.MaxRetransmit)
		e.sendSet(kept, now)
	}
	return true
}

const blockOptions = (1 + 3) + (1 + 8) + (2 + 4) // Block2, ETag, Size2

// shape makes the response fit into one message and returns the part of its body that goes into it: the block
// asked for (RFC 7959 §2.4), no larger than an unverified peer may be sent. The rest stays in kept, which is from unless that is nil; nil:
// there is no rest, or no room for it.
func (e *Endpoint) shape(p *peer, in *incoming, response *Response, from *transfer, now instant) (payload []byte, kept *transfer) {
	szx := e.maxSZX
	if in.hasBlock2 {
		szx = min(szx, in.block2.SZX)
	}
	if !p.verified && !response.Trusted {
		var ok bool
		if szx, ok = e.shrink(p, in, response, szx, now); !ok {
			return nil, nil
		}
	}

	body, size := response.Body, 16<<szx
	if p.link != nil {
		if in.hasBlock2 {
			szx = in.block2.SZX
		}
		around := len(in.Token) + response.Options.encodedLength() + blockOptions
		if in.protection != nil {
			around += protectionRoom
		}
		szx, size = p.link.blocks(szx, in.hasBlock2, around, len(body))
	}
	offset := 0
	// An error is no later block of what was asked for, but a whole answer of its own.
	block := in.hasBlock2 && (response.Code.IsSuccess() || from != nil)
	if block {
		offset = in.block2.Offset()
	}
	if offset > 0 && offset >= len(body) {
		response.Options.Reset()
		response.Code, response.Body = BadRequest, nil // RFC 7959 §2.4: there is no such block
		return nil, nil
	}
	end := min(offset+size, len(body))
	more := end < len(body)
	if !more && !block {
		return body, nil
	}
	if kept = from; more && from == nil {
		if _, ok := response.Options.Get(ETag); !ok {
			response.Options.Add(ETag, bodyTag(body))
		}
		kept = e.keepDownload(p, in, response, now)
	}
	response.Options.SetUint(in.option2(), blockAt(offset, more, szx).Uint())
	if _, asked := in.Option(Size2); asked || in.quick || more && offset == 0 {
		response.Options.SetUint(Size2, uint32(len(body))) // RFC 7959 §4, RFC 9177 §4.6
	}
	if kept != nil {
		kept.szx = szx
		if !in.quick {
			kept.next, kept.goesOn = end, false
		}
	}
	return body[offset:end], kept
}

// shrink makes the response, cut into blocks of 16<<szx bytes, no larger than an unverified peer may be sent, and
// returns what blocks that takes; ok is false when none of its body goes.
func (e *Endpoint) shrink(p *peer, in *incoming, response *Response, szx uint8, now instant) (_ uint8, ok bool) {
	limit := int(p.allowance)
	if in.size > 0 { // it answers a request
		limit = min(limit, e.config.AmplificationFactor*in.size)
	}
	if response.Observation.mustProve() {
		limit -= proof
	}
	const echoOption = 2 + echoLength
	more := 2 + 3 // Block2
	if _, ok := response.Options.Get(ETag); !ok {
		more += 1 + 8
	}
	if _, asked := in.Option(Size2); asked || in.block2.Num == 0 {
		more += 1 + 4 // Size2
	}
	bare := headerLength + extendedLength(len(in.Token)) + len(in.Token)
	whole := bare + response.Options.encodedLength() + 1
	block := whole + more
	success := response.Code.IsSuccess()
	if success && (in.hasBlock2 || len(response.Body) > 16<<szx) {
		whole = block
	}
	safe := in.size > 0 && (in.Code == GET || in.Code == FETCH)
	challenge := safe && (e.config.Challenge || in.quick)                      // who knows Q-Block knows RFC 9175
	atOnce := success && challenge && in.quick && len(response.Body) > 16<<szx // not block by block
	if whole+min(len(response.Body), 16<<szx) <= limit && !atOnce {
		return szx, true
	}
	e.stats.Shrunk++
	cut := success && len(response.Body) > 16 && !challenge
	switch {
	case cut && block+echoOption+16 <= limit:
		value := e.echo.value(p.addr, now)
		response.Options.Set(Echo, value[:])
		return min(szx, szxFor(limit-block-echoOption)), true
	case cut && block+16 <= limit:
		return min(szx, szxFor(limit-block)), true
	case success && safe:
		e.challenge(p, response, limit-bare, now)
	default:
		// The code says what matters: that it has been carried out, or why not. The payload of an error is
		// optional (RFC 7252 §5.5.2).
		response.Body = nil
		response.Options.Remove(ContentFormat)
		if bare+response.Options.encodedLength() > limit {
			response.Options.Reset()
			if in.hasBlock1 && !in.quick {
				response.Options.AddUint(Block1, Block{Num: in.block1.Num, SZX: in.block1.SZX}.Uint())
			}
		}
	}
	return szx, false
}

// challenge asks for an Echo value (RFC 9175 §2.4). A method with effects is not challenged: it has been carried out.
// Without room for the value the code alone says that something is missing.
func (e *Endpoint) challenge(p *peer, response *Response, room int, now instant) {
	response.Options.Reset()
	if value := e.echo.value(p.addr, now); room >= 2+len(value) {
		response.Options.Add(Echo, value[:])
	}
	response.Code, response.Body = Unauthorized, nil
	if response.Observation != nil {
		e.endObservation(response.Observation) // it is asked for again, with the value
	}
}

// keepDownload keeps a response while the peer fetches its blocks; nil: there is no room for it.
func (e *Endpoint) keepDownload(p *peer, in *incoming, response *Response, now instant) *transfer {
	operation := in.operation
	if operation == nil {
		e.opBuffer = appendOperation(e.opBuffer[:0], &in.Message)
		operation = e.opBuffer
	}
	if old := p.transfer(operation, false); old != nil {
		e.drop(old)
	}
	stranger := p.stranger() && !response.Trusted
	if !e.roomFor(transferSize+len(response.Body)+len(operation), stranger, now) {
		return nil
	}
	t := &transfer{peer: p, quick: in.quick, stranger: stranger, code: response.Code, body: slices.Clone(response.Body), trusted: response.Trusted,
		stillAllowed: response.StillAllowed}
	t.options.CopyFrom(&response.Options)
	if sequence, ok := t.options.Get(Observe); ok {
		t.sequence, t.observed = decodeUint(sequence)
	}
	if in.quick {
		t.token = slices.Clone(in.Token)
	}
	for _, number := range []OptionNumber{Observe, Echo, Block1} {
		t.options.Remove(number) // said once, with the first block
	}
	e.begin(t, operation, now)
	return t
}

// bodyTag is an ETag for a body that came without: FNV-1a, since it guards against change, not malice.
func bodyTag(body []byte) []byte {
	h := uint64(14695981039346656037)
	for _, c := range body {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return []byte{byte(h >> 56), byte(h >> 48), byte(h >> 40), byte(h >> 32), byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
}
