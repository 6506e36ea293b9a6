package h2

import "encoding/binary"

type frameType uint8

// Frame types (RFC 9113 §6).
const (
	frameData         frameType = 0x0
	frameHeaders      frameType = 0x1
	framePriority     frameType = 0x2
	frameReset        frameType = 0x3
	frameSettings     frameType = 0x4
	framePushPromise  frameType = 0x5
	framePing         frameType = 0x6
	frameGoAway       frameType = 0x7
	frameWindowUpdate frameType = 0x8
	frameContinuation frameType = 0x9
)

// Flags (RFC 9113 §6).
const (
	flagEndStream  = 0x1
	flagAck        = 0x1 // of SETTINGS and PING
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings (RFC 9113 §6.5.2).
const (
	settingHeaderTableSize      = 0x1
	settingEnablePush           = 0x2
	settingMaxConcurrentStreams = 0x3
	settingInitialWindowSize    = 0x4
	settingMaxFrameSize         = 0x5
	settingMaxHeaderListSize    = 0x6
)

const (
	frameHeader   = 9
	maxFrame      = 16384 // payload that we take, and the most that we send in a frame
	maxStream     = 1<<31 - 1
	maxWindow     = 1<<31 - 1
	initialWindow = 65535 // RFC 9113 §6.9.2
)

// Preface is what a client's connection begins with (RFC 9113 §3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// frame is the header of a frame (RFC 9113 §4.1).
type frame struct {
	length int
	kind   frameType
	flags  byte
	stream uint32
}

func parseFrame(b []byte) frame {
	return frame{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   frameType(b[3]),
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & maxStream, // the reserved bit is ignored
	}
}

func (f frame) has(flag byte) bool { return f.flags&flag != 0 }

func appendFrame(dst []byte, length int, kind frameType, flags byte, stream uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), byte(kind), flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendSetting(dst []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, id), value)
}

func appendReset(dst []byte, stream uint32, code ErrorCode) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(dst, 4, frameReset, 0, stream), uint32(code))
}

func appendWindowUpdate(dst []byte, stream uint32, increment int) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(dst, 4, frameWindowUpdate, 0, stream), uint32(increment))
}

func appendGoAway(dst []byte, last uint32, code ErrorCode, debug string) []byte {
	dst = appendFrame(dst, 8+len(debug), frameGoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, last)
	dst = binary.BigEndian.AppendUint32(dst, uint32(code))
	return append(dst, debug...)
}

// unpad takes the padding off the payload of a DATA or HEADERS frame (RFC 9113 §6.1).
func (f frame) unpad(payload []byte) ([]byte, *ConnError) {
	if !f.has(flagPadded) {
		return payload, nil
	}
	if len(payload) == 0 {
		return nil, connError(FrameSizeError, "padded frame without a pad length")
	}
	padding := int(payload[0])
	if payload = payload[1:]; padding > len(payload) {
		return nil, connError(ProtocolError, "padding longer than the frame")
	}
	return payload[:len(payload)-padding], nil
}
