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
	dst = append(dst, "Sec-WebSocket-Accept: "...)
	dst = append(dst, WebSocketAccept(string(r.Fields.Get("Sec-WebSocket-Key")))...)
	return append(dst, "\r\n\r\n"...)
}

// WebSocketAccept is the value of Sec-WebSocket-Accept for one of Sec-WebSocket-Key.
func WebSocketAccept(key string) string {
	hash := sha1.New()
	io.WriteString(hash, key)
	io.WriteString(hash, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
	return base64.StdEncoding.EncodeToString(hash.Sum(nil))
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
	head    [MaxFrameHead]byte
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
				return 0, nil, ParseClose(payload)
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

// frameHead reads the part of a frame before its payload and checks it against the state.
func (m *MessageReader) frameHead() (final bool, opcode Opcode, length int64, mask [4]byte, err error) {
	if err = m.read(m.head[:2]); err != nil {
		return
	}
	if err = m.read(m.head[2:frameHeadSize(m.head[1]&0x7f)]); err != nil {
		return
	}
	head, _ := ParseFrameHead(m.head[:])
	if refusal := head.Check(true, m.opcode != 0); refusal != nil { // said before more is waited for
		err = refusal
		return
	}
	err = m.read(mask[:])
	return head.Final, head.Opcode, head.Length, mask, err
}

// MaxFrameHead is the longest that the head of a frame may be.
const MaxFrameHead = 14

// FrameHead is the part of a frame before its payload (RFC 6455 §5.2).
type FrameHead struct {
	Final    bool
	Reserved byte // RSV1, RSV2 and RSV3 where they stand in the first byte
	Opcode   Opcode
	Masked   bool
	Mask     [4]byte
	Length   int64 // of the payload; with the top bit set, which is not allowed, it is negative
	Size     int   // of the head itself
}

func frameHeadSize(second byte) int {
	size := 2
	switch second & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if second&0x80 != 0 {
		size += 4
	}
	return size
}

// ParseFrameHead reads the head that p begins with, without judging it; whole is false if p ends within it.
func ParseFrameHead(p []byte) (head FrameHead, whole bool) {
	if len(p) < 2 {
		return head, false
	}
	size := frameHeadSize(p[1])
	if len(p) < size {
		return head, false
	}
	head = FrameHead{Final: p[0]&0x80 != 0, Reserved: p[0] & 0x70, Opcode: Opcode(p[0] & 0x0f), Masked: p[1]&0x80 != 0, Length: int64(p[1] & 0x7f), Size: size}
	switch head.Length {
	case 126:
		head.Length = int64(binary.BigEndian.Uint16(p[2:]))
	case 127:
		head.Length = int64(binary.BigEndian.Uint64(p[2:]))
	}
	if head.Masked {
		copy(head.Mask[:], p[size-4:size])
	}
	return head, true
}

// Check says which rule of a connection without extensions the frame breaks; nil: none. within says that a message has begun and not
// ended, fromClient that a client sent the frame.
func (f *FrameHead) Check(fromClient, within bool) *CloseError {
	masked := 0
	if f.Masked {
		masked = 4
	}
	switch {
	case f.Reserved != 0: // RFC 6455 §5.2
		return violation("reserved bit set without an extension")
	case fromClient && !f.Masked: // RFC 6455 §5.1
		return violation("client frame not masked")
	case !fromClient && f.Masked:
		return violation("server frame masked")
	case f.Opcode > OpBinary && f.Opcode < OpClose || f.Opcode > OpPong:
		return violation("unknown opcode")
	case f.Opcode >= OpClose && (!f.Final || f.Length > maxControlPayload): // RFC 6455 §5.5
		return violation("fragmented or long control frame")
	case f.Opcode == OpContinuation && !within: // RFC 6455 §5.4
		return violation("continuation of nothing")
	case (f.Opcode == OpText || f.Opcode == OpBinary) && within:
		return violation("message within a message")
	case f.Length < 0, f.Size-masked == 4 && f.Length < 126, f.Size-masked == 10 && f.Length <= 0xffff:
		return violation("length not minimal")
	}
	return nil
}

// Mask masks a payload, or takes the mask off (RFC 6455 §5.3). p begins where the payload does, or at a multiple of four from there.
func Mask(p []byte, key [4]byte) {
	word := uint64(binary.LittleEndian.Uint32(key[:]))
	word |= word << 32
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^word)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= key[i&3]
	}
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
	Mask(p, mask)
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

// ParseClose reads the payload of a close frame (RFC 6455 §5.5.1, §7.4). Peer is false if it is malformed.
func ParseClose(payload []byte) *CloseError {
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
	return append(appendFrameHead(dst, opcode, 0, len(payload)), payload...)
}

// AppendMaskedFrame appends a masked, unfragmented frame (client side, RFC 6455 §5.1). The key must be one that nobody can
// foresee (§10.3).
func AppendMaskedFrame(dst []byte, opcode Opcode, payload []byte, key [4]byte) []byte {
	dst = appendFrameHead(dst, opcode, 0x80, len(payload))
	dst = append(append(dst, key[:]...), payload...)
	Mask(dst[len(dst)-len(payload):], key)
	return dst
}

func appendFrameHead(dst []byte, opcode Opcode, masked byte, length int) []byte {
	dst = append(dst, 0x80|byte(opcode))
	switch {
	case length < 126:
		return append(dst, masked|byte(length))
	case length <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, masked|126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(dst, masked|127), uint64(length))
}

// AppendClose appends a close frame that answers or announces err: a peer's close is echoed, a violation named.
func AppendClose(dst []byte, code int, reason string) []byte {
	if code == closeNoStatus {
		return AppendFrame(dst, OpClose, nil)
	}
	var room [maxControlPayload]byte
	return AppendFrame(dst, OpClose, closePayload(&room, code, reason))
}

// AppendMaskedClose is AppendClose for the client side.
func AppendMaskedClose(dst []byte, code int, reason string, key [4]byte) []byte {
	if code == closeNoStatus {
		return AppendMaskedFrame(dst, OpClose, nil, key)
	}
	var room [maxControlPayload]byte
	return AppendMaskedFrame(dst, OpClose, closePayload(&room, code, reason), key)
}

// closePayload cuts a reason that is too long, between two characters: it has to be UTF-8 (RFC 6455 §5.5.1).
func closePayload(room *[maxControlPayload]byte, code int, reason string) []byte {
	binary.BigEndian.PutUint16(room[:], uint16(code))
	n := min(len(reason), maxControlPayload-2)
	for n > 0 && n < len(reason) && !utf8.RuneStart(reason[n]) {
		n--
	}
	return room[:2+copy(room[2:], reason[:n])]
}
