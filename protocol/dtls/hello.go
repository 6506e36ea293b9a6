package dtls

import (
	"encoding/binary"
	"slices"
)

const (
	messageClientHello        = 1
	messageServerHello        = 2
	messageHelloVerifyRequest = 3
	messageFinished           = 20

	maxHello     = 8192 // bytes of a ClientHello
	maxSessionID = 32

	// Record numbers of the handshake go on from that of the ClientHello; a client has no reason to begin so high.
	maxHelloSequence = 1 << 40
)

// fragment is a fragment of a handshake message (RFC 6347 §4.2.2) in a record of epoch 0.
type fragment struct {
	recordSequence  uint64
	messageType     byte
	messageSequence uint16
	length          int // of the whole message
	offset          int
	body            []byte
}

func parseFragment(r *record) (f fragment, ok bool) {
	b := r.body
	if len(b) < handshakeHeader {
		return f, false
	}
	f = fragment{recordSequence: r.sequence, messageType: b[0], length: uint24(b[1:]), messageSequence: binary.BigEndian.Uint16(b[4:]), offset: uint24(b[6:])}
	n := uint24(b[9:])
	if n > len(b)-handshakeHeader || f.offset+n > f.length {
		return f, false
	}
	f.body = b[handshakeHeader : handshakeHeader+n]
	return f, true
}

// hello is what the beginning of a ClientHello says (RFC 6347 §4.2.1), in place. All of it has to be in the first fragment:
// what is cut so small that the cookie is not cannot be answered without state.
type hello struct {
	bound  []byte // client_version, random and session_id: what a cookie holds for
	cookie []byte
}

// parseHello reads client_version(2) random(32) session_id<0..32> cookie<0..255>.
func parseHello(body []byte) (h hello, ok bool) {
	const fixed = 2 + 32
	if len(body) < fixed+1 || body[0] != 0xfe || body[1] != 0xfd { // DTLS 1.2; so say clients that know 1.3
		return h, false
	}
	at := fixed + 1 + int(body[fixed])
	if body[fixed] > maxSessionID || len(body) < at+1 {
		return h, false
	}
	h.bound = body[:at]
	end := at + 1 + int(body[at])
	if len(body) < end {
		return h, false
	}
	h.cookie = body[at+1 : end]
	return h, true
}

// offersPSK looks through the cipher_suites<2..2^16-2> of a ClientHello that parseHello has read.
func offersPSK(body []byte) bool {
	h, _ := parseHello(body)
	rest := body[len(h.bound)+1+len(h.cookie):]
	if len(rest) < 2 {
		return false
	}
	suites := rest[2:min(2+int(binary.BigEndian.Uint16(rest)), len(rest))]
	for ; len(suites) >= 2; suites = suites[2:] {
		switch binary.BigEndian.Uint16(suites) {
		case pskCCM8, pskCCM, pskGCM:
			return true
		}
	}
	return false
}

// appendHelloVerifyRequest writes the record that asks a client to repeat its ClientHello with a cookie. Its version is that of
// DTLS 1.0, and its record number the hello's (RFC 6347 §4.2.1).
func appendHelloVerifyRequest(dst []byte, f *fragment, cookie []byte) []byte {
	return appendMessage(dst, versionAny, f.recordSequence, messageHelloVerifyRequest, f.messageSequence, []byte{0xfe, versionAny, byte(len(cookie))}, cookie)
}

// The second bytes of DTLS 1.0, which every client knows, and 1.2.
const (
	versionAny = 0xff
	version12  = 0xfd
)

// appendMessage writes a record of epoch 0 with one handshake message.
func appendMessage(dst []byte, version byte, recordSequence uint64, messageType byte, messageSequence uint16, begin, end []byte) []byte {
	length := len(begin) + len(end)
	var h [recordHeader]byte
	h[0], h[1], h[2] = typeHandshake, 0xfe, version
	putUint48(h[5:], recordSequence)
	binary.BigEndian.PutUint16(h[11:], uint16(handshakeHeader+length))
	dst = appendHandshakeHeader(append(dst, h[:]...), messageType, messageSequence, length)
	return append(append(dst, begin...), end...)
}

// appendHandshakeHeader begins a handshake message that is whole (RFC 6347 §4.2.2).
func appendHandshakeHeader(dst []byte, messageType byte, messageSequence uint16, length int) []byte {
	var h [handshakeHeader]byte
	h[0] = messageType
	putUint24(h[1:], length)
	binary.BigEndian.PutUint16(h[4:], messageSequence)
	putUint24(h[9:], length)
	return append(dst, h[:]...)
}

// withoutCookie is the first ClientHello, as the client sent it, from its second, which differs in the cookie only.
func withoutCookie(body []byte, h *hello) (begin, end []byte) {
	return append(slices.Clone(h.bound), 0), body[len(h.bound)+1+len(h.cookie):]
}
