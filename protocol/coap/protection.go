package coap

import "net/netip"

// OSCORE is the option of a request that is protected from end to end (RFC 8613 §2). Without Config.ObjectSecurity it is a critical option
// that is not known.
const OSCORE OptionNumber = 9

// ObjectSecurity opens requests that are protected from end to end by OSCORE (RFC 8613), wherever they come from. What is within is then
// served as any request is: its blocks are put together and its resource observed, and each response and notification is protected.
// Message layer and token stay outside (RFC 8613 §4.2).
type ObjectSecurity interface {
	// Open opens a request with the OSCORE option, body being what stands behind its token: it appends what is within, options and payload, to
	// dst, which is a header and a token. It is called inside the Endpoint's methods and must not call it; nothing may be kept of a request that is not genuine.
	Open(dst []byte, from netip.AddrPort, request Message, body []byte) Opened
}

// Opened is what became of a protected request.
type Opened struct {
	Code    Code // of the request within; where that is not to be served, what it is answered with
	Message []byte
	// Protection is for what is answered; nil: the request is not genuine, and its answer is not protected.
	Protection Protection
	Diagnostic string // of an answer that is not protected
	// Challenge is the Echo value of the protected answer to a request that may be a repetition (RFC 8613 appendix B.1.2); nil: it is none.
	Challenge []byte
}

// Protection is what the responses to a request are protected by, its notifications too.
type Protection interface {
	// Protect appends a response, body being its options and payload encoded, to dst. ok is false when it cannot be protected.
	Protect(dst []byte, code Code, body []byte) (outer Code, _ []byte, ok bool)
	// Context tells one security context from others: what came by one has nothing to do with what came by another.
	Context() [8]byte
}

// Protection is what the message was within of; nil: it was not protected.
func (m *Message) Protection() Protection { return m.protection }

// open gives the request within a protected one, as a datagram that lives until the next is opened. It answers what is not to be served.
func (e *Endpoint) open(from netip.AddrPort, m *Message, datagram []byte) (within Message, inner []byte, ok bool) {
	e.opened = AppendMessage(e.opened[:0], m.Type, m.Code, m.MessageID, m.Token, nil, nil)
	start := len(e.opened)
	opened := e.config.ObjectSecurity.Open(e.opened, from, *m, datagram[start:])
	in := incoming{Message: *m, size: start}
	if opened.Protection == nil {
		e.refuseProtected(from, &in, &opened)
		return within, nil, false
	}
	in.protection = opened.Protection
	if opened.Challenge != nil {
		e.refuseProtected(from, &in, &opened)
		return within, nil, false
	}
	e.opened = opened.Message
	e.opened[1] = byte(opened.Code)
	within, err := Decode(e.opened)
	if err != nil {
		e.refuse(from, &in, BadRequest)
		return within, nil, false
	}
	within.MessageID, within.reliable, within.protection = m.MessageID, m.reliable, opened.Protection
	return within, e.opened, true
}

// refuseProtected answers a request that is not opened without protection and with Max-Age 0, so that no proxy gives the answer to
// others (RFC 8613 §8.2); or one that may be a repetition with an Echo value, protected. Nothing is kept of either.
func (e *Endpoint) refuseProtected(to netip.AddrPort, in *incoming, opened *Opened) {
	if in.suppresses(opened.Code) && opened.Challenge == nil {
		if in.Type == Confirmable {
			e.sendEmpty(to, Acknowledgement, in.MessageID)
		}
		return
	}
	options := &e.scratch.Options
	options.Reset()
	if opened.Challenge != nil {
		options.Add(Echo, opened.Challenge)
	} else {
		options.AddUint(MaxAge, 0)
	}
	t, id := Acknowledgement, in.MessageID
	if in.Type == NonConfirmable {
		t, id = NonConfirmable, uint16(e.random.Uint64())
	}
	e.out = e.appendResponse(e.out[:0], in.protection, t, opened.Code, id, in.Token, options, []byte(opened.Diagnostic))
	e.send(to, e.out)
}

// appendResponse is AppendMessage for the response to a request that was protected, or was not: nil.
func (e *Endpoint) appendResponse(dst []byte, by Protection, t Type, code Code, messageID uint16, token []byte, options *Options, payload []byte) []byte {
	if by == nil {
		return AppendMessage(dst, t, code, messageID, token, options, payload)
	}
	e.plain = AppendMessage(e.plain[:0], t, code, messageID, nil, options, payload)
	start := len(dst)
	dst = AppendMessage(dst, t, code, messageID, token, nil, nil)
	outer, protected, ok := by.Protect(dst, code, e.plain[headerLength:])
	if !ok {
		dst[start+1] = byte(InternalServerError) // and nothing of what it says
		return dst
	}
	protected[start+1] = byte(outer)
	return protected
}

// protectionRoom is what OSCORE adds to a message: its option, Observe once more, the marker, the code and the tag (RFC 8613 §5.3, §6.1).
const protectionRoom = (1 + 1 + 6) + (1 + 3) + 1 + 1 + 8

// sameContext says whether two requests came by one security context, or both by none.
func sameContext(a, b Protection) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Context() == b.Context()
}
