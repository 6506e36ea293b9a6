package coap

import "fmt"

// Type says how a message is to be treated by the message layer (RFC 7252 §3).
type Type uint8

const (
	Confirmable Type = iota
	NonConfirmable
	Acknowledgement
	Reset
)

func (t Type) String() string {
	return [...]string{"CON", "NON", "ACK", "RST"}[t&3]
}

// Code is a method or a response code: three bits of class, five of detail (RFC 7252 §3).
type Code uint8

const (
	Empty Code = 0

	// Methods: RFC 7252 §12.1.1, RFC 8132 §6.
	GET    Code = 1
	POST   Code = 2
	PUT    Code = 3
	DELETE Code = 4
	FETCH  Code = 5
	PATCH  Code = 6
	IPATCH Code = 7

	// Responses: RFC 7252 §12.1.2, RFC 7959 §2.9, RFC 8132 §6, RFC 8516 §3, RFC 8768 §6.
	Created                  Code = 2<<5 | 1
	Deleted                  Code = 2<<5 | 2
	Valid                    Code = 2<<5 | 3
	Changed                  Code = 2<<5 | 4
	Content                  Code = 2<<5 | 5
	Continue                 Code = 2<<5 | 31
	BadRequest               Code = 4 << 5
	Unauthorized             Code = 4<<5 | 1
	BadOption                Code = 4<<5 | 2
	Forbidden                Code = 4<<5 | 3
	NotFound                 Code = 4<<5 | 4
	MethodNotAllowed         Code = 4<<5 | 5
	NotAcceptable            Code = 4<<5 | 6
	RequestEntityIncomplete  Code = 4<<5 | 8
	Conflict                 Code = 4<<5 | 9
	PreconditionFailed       Code = 4<<5 | 12
	RequestEntityTooLarge    Code = 4<<5 | 13
	UnsupportedContentFormat Code = 4<<5 | 15
	UnprocessableEntity      Code = 4<<5 | 22
	TooManyRequests          Code = 4<<5 | 29
	InternalServerError      Code = 5 << 5
	NotImplemented           Code = 5<<5 | 1
	BadGateway               Code = 5<<5 | 2
	ServiceUnavailable       Code = 5<<5 | 3
	GatewayTimeout           Code = 5<<5 | 4
	ProxyingNotSupported     Code = 5<<5 | 5
	HopLimitReached          Code = 5<<5 | 8
)

// Class is 0 for requests and the empty message, 2 for success, 4 for client and 5 for server errors.
func (c Code) Class() uint8 { return uint8(c >> 5) }

// IsRequest tells whether c is a method, known or not.
func (c Code) IsRequest() bool { return c != Empty && c.Class() == 0 }

// IsResponse tells whether c is of a class that RFC 7252 §3 defines for responses.
func (c Code) IsResponse() bool { return c.Class() == 2 || c.Class() == 4 || c.Class() == 5 }

// IsSuccess tells whether c is a 2.xx response.
func (c Code) IsSuccess() bool { return c.Class() == 2 }

// String gives methods by name and anything else as class and detail, such as "4.04".
func (c Code) String() string {
	switch c {
	case GET:
		return "GET"
	case POST:
		return "POST"
	case PUT:
		return "PUT"
	case DELETE:
		return "DELETE"
	case FETCH:
		return "FETCH"
	case PATCH:
		return "PATCH"
	case IPATCH:
		return "iPATCH"
	}
	return fmt.Sprintf("%d.%02d", c.Class(), uint8(c&31))
}

// Content formats that the gateway speaks (IANA CoAP Content-Formats registry).
const (
	TextPlain          = 0
	LinkFormat         = 40
	XML                = 41
	OctetStream        = 42
	JSON               = 50
	JSONPatch          = 51
	MergePatch         = 52
	CBOR               = 60
	SenMLJSON          = 110
	SenMLCBOR          = 112
	ConciseProblemCBOR = 257
)
