package h1

import "net/http"

// Error is a message that breaks the rules. Errors are package variables, so refusing costs no allocation and callers
// can compare. After any of them the connection has no known message boundary and must be closed.
type Error struct {
	Status int    // what a server answers with (RFC 9110 §15); a proxy that got it from upstream answers 502
	Reason string // one phrase, safe to show: it never repeats input
}

func (e *Error) Error() string { return "h1: " + e.Reason }

func refusal(status int, reason string) *Error { return &Error{Status: status, Reason: reason} }

// Refusals of a message head.
var (
	ErrRequestLine       = refusal(http.StatusBadRequest, "malformed request line")
	ErrStatusLine        = refusal(http.StatusBadRequest, "malformed status line")
	ErrRequestLineLength = refusal(http.StatusRequestURITooLong, "request line too long")
	ErrVersion           = refusal(http.StatusHTTPVersionNotSupported, "HTTP version not supported")
	ErrHeadTooLarge      = refusal(http.StatusRequestHeaderFieldsTooLarge, "message head too large")
	ErrTooManyFields     = refusal(http.StatusRequestHeaderFieldsTooLarge, "too many header fields")
	ErrFieldName         = refusal(http.StatusBadRequest, "malformed field name")
	ErrFieldValue        = refusal(http.StatusBadRequest, "control character in field value")
	ErrFold              = refusal(http.StatusBadRequest, "folded header field")
	ErrSpaceBeforeColon  = refusal(http.StatusBadRequest, "whitespace between field name and colon")
	ErrLineEnd           = refusal(http.StatusBadRequest, "line does not end in CRLF")
	ErrHost              = refusal(http.StatusBadRequest, "missing, repeated or malformed Host")
	ErrTarget            = refusal(http.StatusBadRequest, "malformed request target")
	ErrAmbiguousPath     = refusal(http.StatusBadRequest, "request path with more than one reading")
	ErrConnectionOption  = refusal(http.StatusBadRequest, "Connection names an end-to-end field")
	ErrConnectionField   = refusal(http.StatusBadRequest, "connection-specific field in HTTP/2 or HTTP/3")
	ErrExpectation       = refusal(http.StatusExpectationFailed, "expectation not supported")
)

// Refusals of a message's framing.
var (
	ErrContentLength    = refusal(http.StatusBadRequest, "malformed or repeated Content-Length")
	ErrTwoLengths       = refusal(http.StatusBadRequest, "both Content-Length and Transfer-Encoding")
	ErrTransferCoding   = refusal(http.StatusNotImplemented, "transfer coding not supported")
	ErrTransferEncoding = refusal(http.StatusBadRequest, "Transfer-Encoding in an HTTP/1.0 message")
	ErrChunk            = refusal(http.StatusBadRequest, "malformed chunk")
	ErrChunkExtension   = refusal(http.StatusBadRequest, "chunk extensions too long")
	ErrTrailer          = refusal(http.StatusBadRequest, "trailer section too large")
	ErrBodyTooLarge     = refusal(http.StatusRequestEntityTooLarge, "content too large")
)

// Refusals of a WebSocket handshake (RFC 6455 §4.2.1). Violations after it are [CloseError] values.
var (
	ErrWebSocketHandshake = refusal(http.StatusBadRequest, "malformed WebSocket handshake")
	ErrWebSocketVersion   = refusal(http.StatusUpgradeRequired, "WebSocket version not supported")
)
