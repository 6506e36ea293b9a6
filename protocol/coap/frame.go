package coap

import (
	"encoding/binary"
	"errors"
)

// What makes the bytes of a connection no CoAP messages (RFC 8323 §3.2). The text is told the peer.
var (
	errFrameToken = errors.New("the token is longer than our Extended-Token-Length")
	errFrameLong  = errors.New("the message is longer than our Max-Message-Size")
)

// A message on a connection (RFC 8323 §3.2, RFC 8974 §A.2):
//
//	|  Len  |  TKL  | Extended Length (0 to 4 bytes) | Code | Extended TKL (0 to 2 bytes) | Token | Options | 0xff | Payload |
//
// Len counts options, marker and payload; 13, 14 and 15 say that the rest of it stands in 1, 2 or 4 bytes.
const (
	maxFrameHeader = 1 + 4 + 1 + 2

	oneByteLength   = 13
	twoByteLength   = 269
	fourByteLength  = 65_805
	frameExtensions = 13 // the first nibble with one
)

// MeasureFrame reads how long the message is that b begins with: its header, up to the code, and all of it. Both are 0 while b is too
// short to say, and all of it is as long as the header when the length of its token is a reserved one.
func MeasureFrame(b []byte) (header int, size uint64) {
	if len(b) == 0 {
		return 0, 0
	}
	nibble := b[0] >> 4
	extension := 0
	if nibble >= frameExtensions {
		extension = 1 << (nibble - frameExtensions)
	}
	if header = 1 + extension + 1; len(b) < header {
		return 0, 0
	}
	length := uint64(nibble)
	switch extension {
	case 1:
		length = oneByteLength + uint64(b[1])
	case 2:
		length = twoByteLength + uint64(binary.BigEndian.Uint16(b[1:]))
	case 4:
		length = fourByteLength + uint64(binary.BigEndian.Uint32(b[1:]))
	}
	token, ok := MeasureToken(b[0], b[header:])
	switch {
	case b[0]&15 == reservedToken:
		return header, uint64(header)
	case !ok:
		return 0, 0
	}
	return header, uint64(header) + uint64(token) + length
}

const reservedToken = 15

// MeasureToken reads how long the token is whose length stands in the low half of the first byte of a message, with what of its length
// stands before it (RFC 8974 §2.1). ok is false when b, which follows the code, is too short to say, and for the reserved length.
func MeasureToken(first byte, b []byte) (size int, ok bool) {
	length, at, ok := extend(b, int(first&15), 0)
	return at + length, ok
}

// AppendFrameHeader writes the header of a message up to its code. token is the length of the token as it stands in the first byte; length is
// how many bytes follow the token.
func AppendFrameHeader(dst []byte, token byte, length int, code Code) []byte {
	at := len(dst)
	dst = append(dst, token)
	switch {
	case length < oneByteLength:
		dst[at] |= byte(length) << 4
	case length < twoByteLength:
		dst[at] |= 13 << 4
		dst = append(dst, byte(length-oneByteLength))
	case length < fourByteLength:
		dst[at] |= 14 << 4
		dst = binary.BigEndian.AppendUint16(dst, uint16(length-twoByteLength))
	default:
		dst[at] |= 15 << 4
		dst = binary.BigEndian.AppendUint32(dst, uint32(length-fourByteLength))
	}
	return append(dst, byte(code))
}

// appendFrame writes a message that an Endpoint sends as it is sent on a connection: without version, type and message ID.
func appendFrame(dst, datagram []byte) []byte {
	token, _ := MeasureToken(datagram[0], datagram[headerLength:])
	dst = AppendFrameHeader(dst, datagram[0]&15, len(datagram)-headerLength-token, Code(datagram[1]))
	return append(dst, datagram[headerLength:]...)
}

// frames takes the bytes of a connection apart into messages, however they come cut. What it holds grows with what has come, never with
// what was announced.
type frames struct {
	limit    int // bytes of a message
	head     [maxFrameHeader]byte
	have     int    // bytes of head
	within   bool   // the header is whole
	left     int    // bytes behind it that are still to come
	datagram []byte // the message under way as Decode reads it
}

// keptFrame bounds the memory that a connection holds between messages.
const keptFrame = 256

// next takes the next message out of b, if it ends in there, and gives what follows it. The message is in the form that Feed takes,
// Non-confirmable and without a number, and lives until the next call. After an error nothing can be told apart any more.
func (f *frames) next(b []byte) (datagram, rest []byte, err error) {
	for !f.within {
		if len(b) == 0 {
			return nil, nil, nil
		}
		f.head[f.have], b = b[0], b[1:]
		f.have++
		header, size := MeasureFrame(f.head[:f.have])
		if size == 0 {
			continue
		}
		first := f.head[0] & 15
		token, ok := MeasureToken(first, f.head[header:f.have])
		switch {
		case !ok, token > maxToken+f.have-header:
			return nil, nil, errFrameToken // RFC 8974 §2.2.1
		case size > uint64(f.limit):
			return nil, nil, errFrameLong
		}
		f.within, f.left = true, int(size)-f.have
		f.datagram = append(f.datagram[:0], version<<6|byte(NonConfirmable)<<4|first, f.head[header-1], 0, 0)
		f.datagram = append(f.datagram, f.head[header:f.have]...)
	}
	n := min(len(b), f.left)
	f.datagram = append(f.datagram, b[:n]...)
	if f.left -= n; f.left > 0 {
		return nil, nil, nil
	}
	f.within, f.have = false, 0
	return f.datagram, b[n:], nil
}

// cut tells whether a message has begun and not ended.
func (f *frames) cut() bool { return f.have > 0 }

// rest lets go of memory that a silent connection needs no more.
func (f *frames) rest() {
	if !f.cut() && cap(f.datagram) > keptFrame {
		f.datagram = nil
	}
}
