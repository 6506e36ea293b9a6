package h1

import (
	"crypto/sha1" // RFC 6455 §4.2.2 names it; it secures nothing
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// WantsWebSocket reports whether the request offers the WebSocket protocol, whether or not correctly.
func (r *Request) WantsWebSocket() bool {
	return listHas(r.Upgrade, "websocket")
}

// CheckWebSocket checks a client's opening handshake (RFC 6455 §4.2.1). Its errors are ErrWebSocketHandshake and
// ErrWebSocketVersion; the answer to the latter carries Sec-WebSocket-Version: 13.
func (r *Request) CheckWebSocket() error {
	if string(r.Method) != "GET" || !r.WantsWebSocket() || r.Framing != NoBody {
		return ErrWebSocketHandshake
	}
	if string(r.Fields.Get("Sec-WebSocket-Version")) != "13" {
		return ErrWebSocketVersion
	}
	keys := 0
	for key := range r.Fields.All("Sec-WebSocket-Key") {
		var nonce [18]byte
		if n, err := base64.StdEncoding.Decode(nonce[:], key[:min(len(key), 24)]); len(key) != 24 || err != nil || n != 16 {
			return ErrWebSocketHandshake
		}
		keys++
	}
	if keys != 1 {
		return ErrWebSocketHandshake
	}
	return nil
}

// AppendWebSocketAccept appends the whole answer that completes a handshake CheckWebSocket accepted (RFC 6455 §4.2.2).
// subprotocol must be one the client listed, or empty.
func AppendWebSocketAccept(dst []byte, r *Request, subprotocol string) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"...)
	if subprotocol != "" {
		dst = AppendField(dst, "Sec-WebSocket-Protocol", subprotocol)
	}
	hash := sha1.New()
	hash.Write(r.Fields.Get("Sec-WebSocket-Key"))
	io.WriteString(hash, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
	dst = append(dst, "Sec-WebSocket-Accept: "...)
	dst = base64.StdEncoding.AppendEncode(dst, hash.Sum(nil))
	return append(dst, "\r\n\r\n"...)
}

// Opcode is the type of a WebSocket frame (RFC 6455 §5.2).
type Opcode uint8

// Opcodes.
const (
	OpContinuation Opcode = 0x0
	OpText         Opcode = 0x1
	OpBinary       Opcode = 0x2
	OpClose        Opcode = 0x8
	OpPing         Opcode = 0x9
	OpPong         Opcode = 0xA
)

// Close codes (RFC 6455 §7.4.1).
const (
	CloseNormal       = 1000
	CloseGoingAway    = 1001
	CloseProtocol     = 1002
	CloseUnsupported  = 1003
	CloseInvalidData  = 1007
	ClosePolicy       = 1008
	CloseTooBig       = 1009
	CloseInternal     = 1011
	CloseTryAgain     = 1013
	closeNoStatus     = 1005
	maxControlPayload = 125
)

// CloseError ends a WebSocket: either what the peer said in its close frame, or what we must say in ours.
type CloseError struct {
	Code   int
	Reason string
	Peer   bool // the peer closed; otherwise it broke a rule, or its message was too big
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("h1: websocket closed: %d %s", e.Code, e.Reason)
}

func violation(reason string) *CloseError { return &CloseError{Code: CloseProtocol, Reason: reason} }

// MessageReader reads a client's WebSocket messages (RFC 6455 §5, server side) through a Reader.
type MessageReader struct {
	r       *Reader
	limit   int
	message []byte // fragments so far
	opcode  Opcode // of the message being assembled, 0 if none is
	head    [14]byte
	control [maxControlPayload]byte
}

// NewMessageReader returns a reader of messages of at most limit bytes.
func NewMessageReader(r *Reader, limit int) *MessageReader { return &MessageReader{r: r, limit: limit} }

// Next returns the next message: OpText or OpBinary with the whole payload, or OpPing or OpPong, which may come between
// fragments. The payload is valid until the next call. The end is a *CloseError, or the source's error.
func (m *MessageReader) Next() (Opcode, []byte, error) {
	if m.opcode == 0 {
		m.message = m.message[:0]
	}
	for {
		final, opcode, length, mask, err := m.frameHead()
		if err != nil {
			return 0, nil, err
		}
		if opcode >= OpClose {
			payload := m.control[:length]
			if err := m.payload(payload, mask); err != nil {
				return 0, nil, err
			}
			if opcode == OpClose {
				return 0, nil, closeReceived(payload)
			}
			return opcode, payload, nil
		}
		if length > int64(m.limit-len(m.message)) {
			return 0, nil, &CloseError{Code: CloseTooBig, Reason: "message too big"}
		}
		if opcode != OpContinuation {
			m.opcode = opcode
		}
		if err := m.appendPayload(int(length), mask); err != nil {
			return 0, nil, err
		}
		if !final {
			continue
		}
		opcode, m.opcode = m.opcode, 0
		if opcode == OpText && !utf8.Valid(m.message) { // RFC 6455 §8.1
			return 0, nil, &CloseError{Code: CloseInvalidData, Reason: "text is not UTF-8"}
		}
		return opcode, m.message, nil
	}
}

// frameHead reads the part of a frame before its payload (RFC 6455 §5.2) and checks it against the state.
func (m *MessageReader) frameHead() (final bool, opcode Opcode, length int64, mask [4]byte, err error) {
	head := &m.head
	if err = m.read(head[:2]); err != nil {
		return
	}
	final, opcode = head[0]&0x80 != 0, Opcode(head[0]&0x0f)
	length = int64(head[1] & 0x7f)
	switch {
	case head[0]&0x70 != 0:
		err = violation("reserved bit set without an extension")
	case head[1]&0x80 == 0: // RFC 6455 §5.1
		err = violation("client frame not masked")
	case opcode > OpBinary && opcode < OpClose || opcode > OpPong:
		err = violation("unknown opcode")
	case opcode >= OpClose && (!final || length > maxControlPayload): // RFC 6455 §5.5
		err = violation("fragmented or long control frame")
	case opcode == OpContinuation && m.opcode == 0:
		err = violation("continuation of nothing")
	case (opcode == OpText || opcode == OpBinary) && m.opcode != 0:
		err = violation("message within a message")
	}
	if err != nil {
		return
	}
	switch length {
	case 126:
		if err = m.read(head[2:4]); err != nil {
			return
		}
		if length = int64(binary.BigEndian.Uint16(head[2:4])); length < 126 {
			err = violation("length not minimal")
			return
		}
	case 127:
		if err = m.read(head[2:10]); err != nil {
			return
		}
		if length = int64(binary.BigEndian.Uint64(head[2:10])); length <= 0xffff { // a negative one has the top bit set
			err = violation("length not minimal")
			return
		}
	}
	err = m.read(mask[:])
	return
}

// read fills p, through the buffer, so that a small frame costs one read of the source.
func (m *MessageReader) read(p []byte) error {
	for len(p) > 0 {
		n := copy(p, m.r.Buffered())
		m.r.Discard(n)
		if p = p[n:]; len(p) == 0 {
			break
		}
		if err := m.r.Fill(); err == io.EOF {
			return io.ErrUnexpectedEOF // RFC 6455 §7.1.5: no close frame came
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (m *MessageReader) payload(p []byte, mask [4]byte) error {
	if err := m.read(p); err != nil {
		return err
	}
	for i := range p {
		p[i] ^= mask[i&3]
	}
	return nil
}

// appendPayload grows the message as its bytes come, a block at a time, not as the frame promises.
func (m *MessageReader) appendPayload(length int, mask [4]byte) error {
	const block = 16 << 10 // a multiple of the mask's length
	for length > 0 {
		n, have := min(length, block), len(m.message)
		m.message = slices.Grow(m.message, n)[:have+n]
		if err := m.payload(m.message[have:], mask); err != nil {
			return err
		}
		length -= n
	}
	return nil
}

// closeReceived reads the payload of a close frame (RFC 6455 §5.5.1, §7.4).
func closeReceived(payload []byte) error {
	if len(payload) == 0 {
		return &CloseError{Code: closeNoStatus, Peer: true}
	}
	if len(payload) == 1 || !utf8.Valid(payload[2:]) {
		return violation("malformed close frame")
	}
	code := int(binary.BigEndian.Uint16(payload))
	if code < 1000 || code >= 5000 || code >= 1016 && code < 3000 || code == 1004 || code == 1005 || code == 1006 || code == 1015 {
		return violation("close code not allowed")
	}
	return &CloseError{Code: code, Reason: string(payload[2:]), Peer: true}
}

// AppendFrame appends an unmasked, unfragmented frame (server side, RFC 6455 §5.1).
func AppendFrame(dst []byte, opcode Opcode, payload []byte) []byte {
	dst = append(dst, 0x80|byte(opcode))
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, byte(n))
	case n <= 0xffff:
		dst = append(dst, 126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	default:
		dst = append(dst, 127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	return append(dst, payload...)
}

// AppendClose appends a close frame that answers or announces err: a peer's close is echoed, a violation named.
func AppendClose(dst []byte, code int, reason string) []byte {
	if code == closeNoStatus {
		return AppendFrame(dst, OpClose, nil)
	}
	var payload [maxControlPayload]byte
	binary.BigEndian.PutUint16(payload[:], uint16(code))
	n := copy(payload[2:], reason)
	return AppendFrame(dst, OpClose, payload[:2+n])
}
