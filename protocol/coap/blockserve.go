package coap

import (
	"bytes"
	"slices"
)

// assemble takes one Block1 block. With the last one it returns the whole body and how many bytes of it
// are counted in transferBytes; before that the code to answer with (RFC 7959 §2.5).
func (e *Endpoint) assemble(p *peer, in *incoming, now instant) (body []byte, counted int, code Code) {
	block, payload := in.block1, in.Payload
	if len(payload) > block.Size() || block.More && len(payload) != block.Size() {
		return nil, 0, BadRequest // RFC 7959 §2.2: only the last block may be shorter
	}
	announced, _ := in.Uint(Size1)
	if int64(announced) > int64(e.config.MaxBody) || block.Offset()+len(payload) > e.config.MaxBody {
		return nil, 0, RequestEntityTooLarge // RFC 7959 §2.9.3
	}
	e.opBuffer = appendOperation(e.opBuffer[:0], &in.Message)
	a := p.findAssembly(e.opBuffer)
	if block.Num == 0 {
		if a != nil {
			e.dropAssembly(a) // RFC 7959 §2.5: a new body takes the place of an unfinished one
		}
		if !block.More {
			return payload, 0, 0
		}
		if !e.makeRoom(len(payload), now) {
			return nil, 0, ServiceUnavailable
		}
		a = e.newAssembly(p, e.opBuffer)
	} else if a == nil {
		return nil, 0, RequestEntityIncomplete // RFC 7959 §2.9.2
	}
	switch {
	case block.Offset() == len(a.body):
		if !e.makeRoom(len(payload), now) {
			return nil, 0, ServiceUnavailable
		}
	case block.More && block.Offset()+len(payload) == len(a.body) && bytes.Equal(a.body[block.Offset():], payload):
		return nil, 0, Continue // sent again under another message ID
	default:
		return nil, 0, RequestEntityIncomplete // a block is missing
	}
	before := cap(a.body)
	a.body = append(a.body, payload...)
	e.transferBytes += cap(a.body) - before
	a.used = now
	e.assemblies.moveToBack(a)
	if block.More {
		return nil, 0, Continue
	}
	body, counted = a.body, cap(a.body)
	a.body = nil
	e.dropAssembly(a)
	return body, counted, 0
}

func (e *Endpoint) newAssembly(p *peer, operation []byte) *assembly {
	more := p.extra()
	if len(more.assemblies) >= e.config.TransfersOfPeer {
		e.dropAssembly(more.assemblies[0])
	}
	a := &assembly{peer: p, operation: slices.Clone(operation)}
	more.assemblies = append(more.assemblies, a)
	e.assemblies.pushBack(a)
	e.transferBytes += len(a.operation)
	return a
}

func (e *Endpoint) dropAssembly(a *assembly) {
	e.assemblies.remove(a)
	a.peer.more.assemblies = slices.DeleteFunc(a.peer.more.assemblies, func(b *assembly) bool { return a == b })
	e.transferBytes -= cap(a.body) + len(a.operation)
}

// makeRoom keeps all transfers together within their budget. What gives way is the snapshot that was used
// longest ago, since its blocks can be asked for anew, then a body that has not grown for ten seconds.
func (e *Endpoint) makeRoom(size int, now instant) bool {
	const abandoned = 10e9
	for e.transferBytes+size > e.config.TransferBytes {
		switch {
		case e.snapshots.first != nil:
			e.dropSnapshot(e.snapshots.first)
		case e.assemblies.first != nil && now-e.assemblies.first.used > abandoned:
			e.dropAssembly(e.assemblies.first)
		default:
			return false
		}
	}
	return true
}

// answerBlock answers a block that does not complete its body.
func (e *Endpoint) answerBlock(p *peer, in *incoming, received *reception, code Code) {
	options := &e.scratch.Options
	options.Reset()
	if code != Continue {
		e.tellRefused(p.addr, in, code)
	}
	switch code {
	case Continue:
		// RFC 7959 §2.3: M=1 says that nothing is carried out before the last block; a smaller SZX asks
		// for smaller blocks from now on.
		options.AddUint(Block1, Block{Num: in.block1.Num, More: true, SZX: min(in.block1.SZX, e.maxSZX)}.Uint())
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
	e.out = AppendMessage(e.out[:0], t, code, id, in.Token, options, nil)
	if t == Acknowledgement {
		e.setReply(received, e.out)
	}
	e.send(p.addr, e.out)
}

// answerFromSnapshot serves a block after the first. Without a snapshot a GET goes to the application once
// more, which can only harm a client that does not compare ETags; any other method may have had effects.
func (e *Endpoint) answerFromSnapshot(p *peer, in *incoming, now instant) bool {
	e.opBuffer = appendOperation(e.opBuffer[:0], &in.Message)
	s := p.findSnapshot(e.opBuffer)
	if s != nil && s.stillAllowed != nil && !s.stillAllowed() {
		e.dropSnapshot(s)
		s = nil
	}
	response := &e.scratch
	response.Reset()
	switch {
	case s != nil:
		s.used = now
		e.snapshots.moveToBack(s)
		response.Code = s.code
		response.Options.CopyFrom(&s.options)
		response.Body = s.body
		response.Trusted = s.trusted
	case in.Code == GET:
		return false
	default:
		e.refuse(p.addr, in, RequestEntityIncomplete) // RFC 7959 §2.9.2
		return true
	}
	payload := e.shape(p, in, response, s, now)
	t, id := Acknowledgement, in.MessageID
	if in.Type == NonConfirmable {
		t, id = NonConfirmable, p.messageID()
	}
	e.out = AppendMessage(e.out[:0], t, response.Code, id, in.Token, &response.Options, payload)
	response.Body = nil
	e.send(p.addr, e.out)
	return true
}

// shape makes the response fit into one message and returns the part of its body that goes into it: the block
// asked for (RFC 7959 §2.4), no larger than an unverified peer may be sent. The rest stays in a snapshot, unless
// it comes from one.
func (e *Endpoint) shape(p *peer, in *incoming, response *Response, from *snapshot, now instant) []byte {
	szx := e.maxSZX
	if in.hasBlock2 {
		szx = min(szx, in.block2.SZX)
	}
	if !p.verified && !response.Trusted {
		limit := max(e.config.AmplificationFactor*in.size, e.config.AmplificationFloor)
		const blockOptions = (1 + 3) + (1 + 8) + (2 + 4) // Block2, ETag, Size2
		whole := headerLength + len(in.Token) + response.Options.encodedLength() + 1
		if in.hasBlock2 || len(response.Body) > 16<<szx {
			whole += blockOptions
		}
		switch {
		case whole+min(len(response.Body), 16<<szx) <= limit:
		case e.config.Challenge && (in.Code == GET || in.Code == FETCH):
			// RFC 9175 §2.4. A method with effects is not challenged: it has been carried out.
			e.stats.Shrunk++
			e.challenge(p, response, now)
			return nil
		case !response.Code.IsSuccess():
			// The code says what matters; a diagnostic payload is optional (RFC 7252 §5.5.2).
			e.stats.Shrunk++
			response.Options.Remove(ContentFormat)
			response.Body = nil
		default:
			e.stats.Shrunk++
			const echoOption = 2 + echoLength
			if !in.hasBlock2 && len(response.Body) <= 16<<szx {
				whole += blockOptions
			}
			szx = min(szx, szxFor(limit-whole-echoOption))
			if whole+echoOption+16<<szx <= limit {
				value := e.echo.value(p.addr, now)
				response.Options.Set(Echo, value[:])
			}
		}
	}

	body, size := response.Body, 16<<szx
	offset := 0
	// An error is no later block of what was asked for, but a whole answer of its own.
	block := in.hasBlock2 && (response.Code.IsSuccess() || from != nil)
	if block {
		offset = in.block2.Offset()
	}
	if offset > 0 && offset >= len(body) {
		response.Options.Reset()
		response.Code, response.Body = BadRequest, nil // RFC 7959 §2.4: there is no such block
		return nil
	}
	end := min(offset+size, len(body))
	more := end < len(body)
	if !more && !block {
		return body
	}
	if more && from == nil {
		if _, ok := response.Options.Get(ETag); !ok {
			response.Options.Add(ETag, bodyTag(body))
		}
		e.keepSnapshot(p, in, response, now)
	}
	response.Options.SetUint(Block2, Block{Num: uint32(offset >> (szx + 4)), More: more, SZX: szx}.Uint())
	if more && offset == 0 {
		response.Options.SetUint(Size2, uint32(len(body))) // RFC 7959 §4
	}
	return body[offset:end]
}

func (e *Endpoint) challenge(p *peer, response *Response, now instant) {
	value := e.echo.value(p.addr, now)
	response.Options.Reset()
	response.Options.Add(Echo, value[:])
	response.Code, response.Body = Unauthorized, nil
}

// keepSnapshot keeps a response while the peer fetches its blocks.
func (e *Endpoint) keepSnapshot(p *peer, in *incoming, response *Response, now instant) {
	operation := in.operation
	if operation == nil {
		e.opBuffer = appendOperation(e.opBuffer[:0], &in.Message)
		operation = e.opBuffer
	}
	if old := p.findSnapshot(operation); old != nil {
		e.dropSnapshot(old)
	}
	size := len(response.Body) + len(operation)
	if !e.makeRoom(size, now) {
		return
	}
	more := p.extra()
	if len(more.snapshots) >= e.config.TransfersOfPeer {
		e.dropSnapshot(more.snapshots[0])
	}
	s := &snapshot{peer: p, operation: slices.Clone(operation), code: response.Code,
		body: slices.Clone(response.Body), used: now, trusted: response.Trusted,
		stillAllowed: response.StillAllowed, bytes: size}
	s.options.CopyFrom(&response.Options)
	for _, number := range []OptionNumber{Observe, Echo, Block1} {
		s.options.Remove(number) // said once, with the first block
	}
	more.snapshots = append(more.snapshots, s)
	e.snapshots.pushBack(s)
	e.transferBytes += size
}

func (e *Endpoint) dropSnapshot(s *snapshot) {
	e.snapshots.remove(s)
	s.peer.more.snapshots = slices.DeleteFunc(s.peer.more.snapshots, func(b *snapshot) bool { return s == b })
	e.transferBytes -= s.bytes
}

// bodyTag is an ETag for a body that came without: FNV-1a, since it guards against change, not malice.
func bodyTag(body []byte) []byte {
	h := uint64(14695981039346656037)
	for _, c := range body {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return []byte{byte(h >> 56), byte(h >> 48), byte(h >> 40), byte(h >> 32), byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
}
