package fieldgate

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// ProblemCode names one reason for a refusal or failure. Every protocol front renders the same codes: RFC 9457 problem
// details over HTTP and MQTT, RFC 9290 over CoAP, reason codes in MQTT acknowledgements.
type ProblemCode string

const (
	ProblemBadRequest          ProblemCode = "bad-request"        // malformed in its own protocol
	ProblemUnauthenticated     ProblemCode = "unauthenticated"    // no credential, or none that is valid
	ProblemForbidden           ProblemCode = "forbidden"          // identified, but may not
	ProblemNotOwner            ProblemCode = "not-owner"          // another device's path or topic
	ProblemQuarantined         ProblemCode = "quarantined"        // the device is cut off
	ProblemQoS                 ProblemCode = "qos-not-allowed"    // a publish above what the contract allows on the topic
	ProblemRetain              ProblemCode = "retain-not-allowed" // the contract does not let publishers retain
	ProblemNotFound            ProblemCode = "not-found"          // no contract has such an operation
	ProblemMethodNotAllowed    ProblemCode = "method-not-allowed" // the path has other methods
	ProblemNotAcceptable       ProblemCode = "not-acceptable"
	ProblemGone                ProblemCode = "gone" // retired version
	ProblemTooLarge            ProblemCode = "too-large"
	ProblemUnsupportedMedia    ProblemCode = "unsupported-media-type"
	ProblemInvalidParameter    ProblemCode = "invalid-parameter"
	ProblemInvalidPayload      ProblemCode = "invalid-payload" // breaks the contract's schema, or is not JSON or CBOR at all
	ProblemCommandRunning      ProblemCode = "command-running" // the first one with its idempotency key has no answer yet
	ProblemCommandUnknown      ProblemCode = "command-unknown" // it was begun, and nobody can tell its answer any more
	ProblemKeyReused           ProblemCode = "key-reused"      // an idempotency key of another command
	ProblemRateLimited         ProblemCode = "rate-limited"
	ProblemOverloaded          ProblemCode = "overloaded"
	ProblemInternal            ProblemCode = "internal"
	ProblemUpstreamUnreachable ProblemCode = "upstream-unreachable"
	ProblemUpstreamInvalid     ProblemCode = "upstream-invalid" // answered something that is not a clean message
	ProblemUpstreamTimeout     ProblemCode = "upstream-timeout"
	ProblemDeviceAbsent        ProblemCode = "device-absent" // the device that is asked has not registered
	ProblemNotDurable          ProblemCode = "not-durable"   // could not be stored, so it is not acknowledged
	ProblemCallerLeft          ProblemCode = "caller-left"   // before there was an answer; only Records have it
)

// problemKinds gives each code its status (in HTTP's numbers; CoAP's and MQTT's are derived from it) and title.
var problemKinds = map[ProblemCode]struct {
	status int
	title  string
}{
	ProblemBadRequest:          {400, "The request is malformed"},
	ProblemUnauthenticated:     {401, "A valid credential is needed"},
	ProblemForbidden:           {403, "Not allowed"},
	ProblemNotOwner:            {403, "The resource belongs to another device"},
	ProblemQuarantined:         {403, "The device is in quarantine"},
	ProblemQoS:                 {403, "The quality of service is not allowed"},
	ProblemRetain:              {403, "Retained messages are not allowed"},
	ProblemNotFound:            {404, "No such operation"},
	ProblemMethodNotAllowed:    {405, "Method not allowed"},
	ProblemNotAcceptable:       {406, "No acceptable representation"},
	ProblemGone:                {410, "This version of the API has been retired"},
	ProblemTooLarge:            {413, "The payload is too large"},
	ProblemUnsupportedMedia:    {415, "Unsupported media type"},
	ProblemInvalidParameter:    {400, "A parameter breaks the contract"},
	ProblemInvalidPayload:      {422, "The payload breaks the contract"},
	ProblemCommandRunning:      {409, "The command is under way"},
	ProblemCommandUnknown:      {409, "What became of the command is not known"},
	ProblemKeyReused:           {422, "The idempotency key belongs to another command"},
	ProblemRateLimited:         {429, "Too many requests"},
	ProblemOverloaded:          {503, "Overloaded"},
	ProblemInternal:            {500, "Internal error"},
	ProblemUpstreamUnreachable: {502, "The service behind this API cannot be reached"},
	ProblemUpstreamInvalid:     {502, "The service behind this API gave an invalid answer"},
	ProblemUpstreamTimeout:     {504, "The service behind this API did not answer in time"},
	ProblemDeviceAbsent:        {409, "The device cannot be reached"},
	ProblemNotDurable:          {503, "The message could not be stored"},
	ProblemCallerLeft:          {499, "The caller left"}, // no registered status: the number that nginx logs has become the habit
}

// Problem is a typed refusal or failure. It is safe to show to the caller: it holds nothing that the caller did not send or
// that the contract does not say. The cause, for logs, travels beside it.
type Problem struct {
	Code       ProblemCode
	Detail     string        // one sentence for a human; what to do
	Pointer    string        // JSON Pointer of the offending place in the payload, or the parameter's name
	Clause     string        // what it breaks, such as "/properties/temp/maximum"
	RetryAfter time.Duration // with rate-limited and overloaded
	Allow      string        // with method-not-allowed: the methods that exist, as in the Allow field
	Cause      error         // for logs only, never rendered
}

// NewProblem is a problem with a sentence for the caller.
func NewProblem(code ProblemCode, detail string) *Problem {
	return &Problem{Code: code, Detail: detail}
}

// Error makes a Problem an error.
func (p *Problem) Error() string {
	text := string(p.Code)
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	if p.Cause != nil {
		text += " (" + p.Cause.Error() + ")"
	}
	return text
}

// Unwrap is the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// Status is the problem's status in HTTP's numbers.
func (p *Problem) Status() int { return p.Code.Status() }

// Title is the problem's title, the same for every occurrence (RFC 9457 section 3.1.3).
func (p *Problem) Title() string { return problemKinds[p.Code].title }

// TypeURI identifies the problem's code (RFC 9457 section 3.1.1).
func (p *Problem) TypeURI() string { return "urn:fieldgate:problem:" + string(p.Code) }

// Status is the status of problems with this code in HTTP's numbers; 0 for an unknown code.
func (c ProblemCode) Status() int { return problemKinds[c].status }

// ProblemMediaType is the media type of AppendJSON's form (RFC 9457 section 3).
const ProblemMediaType = "application/problem+json"

// AppendJSON appends the problem as an RFC 9457 object. instance names the exchange, so that a caller's report can be found
// in the Records.
func (p *Problem) AppendJSON(dst []byte, instance string) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, p.TypeURI()...)
	dst = append(dst, `","title":"`...)
	dst = append(dst, p.Title()...)
	dst = append(dst, `","status":`...)
	dst = strconv.AppendInt(dst, int64(p.Status()), 10)
	dst = appendMember(dst, "detail", p.Detail)
	dst = appendMember(dst, "instance", instance)
	dst = appendMember(dst, "pointer", p.Pointer)
	dst = appendMember(dst, "clause", p.Clause)
	return append(dst, '}')
}

func appendMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return AppendJSONString(dst, value)
}

// AppendJSONString appends s as a JSON string (RFC 8259 section 7). Bytes that are not UTF-8 become U+FFFD.
func AppendJSONString(dst []byte, s string) []byte {
	const hexadecimal = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20 || 0x7f <= r && r <= 0x9f: // of the last, RFC 8259 section 7 lets pass what terminals obey
			dst = append(dst, '\\', 'u', '0', '0', hexadecimal[r>>4], hexadecimal[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
