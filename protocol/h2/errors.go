package h2

import "errors"

// ErrorCode tells why a stream or connection ended (RFC 9113 §7).
type ErrorCode uint32

// Error codes.
const (
	NoError            ErrorCode = 0x0
	ProtocolError      ErrorCode = 0x1
	InternalError      ErrorCode = 0x2
	FlowControlError   ErrorCode = 0x3
	SettingsTimeout    ErrorCode = 0x4
	StreamClosed       ErrorCode = 0x5
	FrameSizeError     ErrorCode = 0x6
	RefusedStream      ErrorCode = 0x7
	Cancel             ErrorCode = 0x8
	CompressionError   ErrorCode = 0x9
	ConnectError       ErrorCode = 0xa
	EnhanceYourCalm    ErrorCode = 0xb
	InadequateSecurity ErrorCode = 0xc
	HTTP11Required     ErrorCode = 0xd
)

// ConnError is a rule that the client broke so that the connection had to end. Reason is a phrase that repeats no input.
type ConnError struct {
	Code   ErrorCode
	Reason string
}

func (e *ConnError) Error() string { return "h2: " + e.Reason }

// StreamError is a rule that the client broke on one stream, which was reset.
type StreamError struct {
	Code   ErrorCode
	Reason string
}

func (e *StreamError) Error() string { return "h2: " + e.Reason }

// ResetError says that the client reset the stream.
type ResetError struct{ Code ErrorCode }

func (e *ResetError) Error() string { return "h2: the client reset the stream" }

// Errors of streams.
var (
	ErrClosed     = errors.New("h2: the stream is closed")
	ErrConnClosed = errors.New("h2: the connection is closed")
)

func connError(code ErrorCode, reason string) *ConnError { return &ConnError{code, reason} }
