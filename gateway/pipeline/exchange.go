package pipeline

import (
	"net/netip"
	"time"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/cache"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/users"
)

// FieldSource looks up header fields by lower-case name, several lines of one joined; fronts without header fields leave it nil.
type FieldSource interface {
	Field(name string) (value []byte, found bool)
}

// HTTPFields are all that the HTTP front knows about the fields of a request.
type HTTPFields interface {
	FieldSource
	Each(visit func(name, value []byte)) // lines of end-to-end fields that the service gets, as they were sent
	Withholds(name []byte) bool          // the service does not get the field of that name as the caller sent it, or not at all
	HasContent() bool                    // the request has content, whatever its method
	Upgrades() bool                      // it asks for a WebSocket
	AppendOrigin(dst []byte) []byte      // scheme and authority that the caller asked for, as the service is told (RFC 9110 section 4.3)
	// AppendForwarded appends the field lines that the service gets: end-to-end fields but Content-Type, credentials and what only the
	// gateway may say, and where the request comes from. Fields for which drop answers true are left out.
	AppendForwarded(dst []byte, drop func(name []byte) bool) []byte
}

// Exchange is one request with its answer, or one message, whatever the protocol. Fronts reuse it: Reset between two. Byte
// slices belong to the front and must stay as they are until Finish.
type Exchange struct {
	// Filled by the front before Begin.
	Protocol    fieldgate.Protocol
	Method      fieldgate.Method
	MethodToken string // the method as sent, where Method is MethodOther
	Source      netip.AddrPort
	Host        []byte // HTTP: lower case, without port
	Path        []byte // normalised absolute path without query; CoAP: the same form, built from Uri-Path; MQTT: the topic
	Query       []byte // without "?"; CoAP: Uri-Query options joined by "&"
	Username    []byte // as presented beside the secret; never proof of anything by itself
	Secret      []byte // the credential as presented: bearer token, basic password, API key field, MQTT password, CoAP option
	Fields      FieldSource
	HTTP        HTTPFields // nil but for HTTP
	ContentType []byte     // media type as sent, parameters included; empty: unknown
	Started     time.Time
	QoS         byte   // MQTT PUBLISH
	Retain      bool   // MQTT PUBLISH
	ClientID    string // MQTT

	// Place is where exchanges of one connection leave their Records one after the other; nil: they are not alike.
	Place *Place

	// Caller of a connection that was identified before (MQTT); nil: the identify stage looks Secret up.
	Caller *Caller

	// Grants of the connection that a message to publish comes by, with a Caller (MQTT); nil: nothing is kept of it.
	Grants *Grants

	// OnRamp is that of the listener that a request over CoAP came by; nil: it has none.
	OnRamp *CoAPOnRamp

	// Set by the front between Begin and Check when Buffered.
	Body []byte

	// Set by the front before Forward, where it cannot be among Fields. HopLimit is how many hops the service may make of a request over CoAP
	// (RFC 8768); 0: nobody counts. Conditions are field lines, each ending in CRLF, that make the call of the service conditional (RFC 9110
	// section 13.1); a call that reads goes without them when its answer is to be kept or rewritten.
	// Accept is the media type that a caller over CoAP asks for; empty: any.
	HopLimit   uint8
	Conditions []byte
	Accept     string

	// Set by the pipeline.
	Operation *Operation // nil until matched
	Principal fieldgate.Principal
	Problem   *fieldgate.Problem // the first; nil while the exchange passes
	Findings  fieldgate.Findings
	Limit     LimitState // of the tightest limit, for RateLimit fields; zero when the operation has none
	Answer    Answer
	Vary      string // names of the request's fields by which the operation was chosen; mostly empty
	Copy      Copy   // nil unless the exchange is captured; the front gives it fields, and content that it streams

	// Counted by the front where it streams, by the pipeline where it buffers.
	BytesIn, BytesOut uint64
	UpstreamTime      time.Duration

	// Detail is put into the Record: where and what an invalid payload breaks, or how the request broke its protocol.
	Detail string

	// ProblemStatus is set by a front that answers a problem with a more precise status than the problem's; 0: with that.
	ProblemStatus int

	trace
	answered bool      // Answer is made before anything is forwarded
	cached   *cached   // what it has to do with the cache; nil: nothing
	gathered *gathered // the answer that is relayed, since its head came, if anybody needs a copy
	command  *command  // begun, with an idempotency key

	durable chan error // tells when the message that was published cannot be lost; nil: none was

	byAccept     bool // the form of the answer depends on the Accept field
	revalidating bool // the call that is made is for the cache
	preflight    bool // of CORS
	heard        bool // it is about a message to be heard, not about a subscription
	carriedOut   bool // the service has done what was asked, whatever becomes of its answer
	unanswered   bool // the service may have done it, and did not say

	tap      *Tap
	program  *Program
	granted  *grant // of Grants, that the exchange passed by, or made
	number   uint64
	schema   *schema.Schema // that the body was checked by
	encoding encoding       // of the body
	read     bool           // parameters outside of the path were looked for
	misread  *misread       // the first whose value cannot be told
	toCBOR   bool           // the caller takes an answer as CBOR only
	caller   *Caller
	own      Caller                             // storage of caller for callers that are looked up for this exchange only
	values   [fieldgate.MaxParameters][]byte    // by the operation's parameter number; nil: absent
	ownID    [fieldgate.MaxIdentifierBytes]byte // storage of the value of bound parameters
	record   fieldgate.Record                   // storage of what Finish hands over
	finished bool

	ownCached cached // storage of cached
	keyBuffer []byte // storage of its key; outlives Reset
	route     string // of the last Record that had one; outlives Reset
}

// Answer is what goes back to the caller when there is no problem.
type Answer struct {
	Status      int // in HTTP's numbers
	ContentType string
	Body        []byte
	Location    string
	ETag        string        // without quotes
	MaxAge      time.Duration // freshness; 0: not said
	Fields      []AnswerField // further end-to-end fields, for HTTP
}

// size is about how many bytes it takes.
func (a *Answer) size() int {
	size := len(a.Body) + len(a.Location)
	for _, f := range a.Fields {
		size += len(f.Name) + len(f.Value)
	}
	return size
}

// AnswerField is one header field of a buffered answer.
type AnswerField = cache.Field

// Caller is an identified credential. Connections keep one for their lifetime; what it may do is looked up at each exchange, so that a
// quarantine or revocation counts at once.
type Caller struct {
	Ref  directory.Ref // 0: not in the directory (anonymous or foreign)
	Hash fieldgate.CredentialHash
	Kind fieldgate.PrincipalKind
	ID   string // of foreign callers the name that they claim

	OnRamp *OnRamp     // by which it came; nil: by no on-ramp
	user   *users.User // of the on-ramp that it has shown to be; nil: none
}

// CallerRef is the caller in the Directory; 0: nobody that it knows, or not looked up.
func (x *Exchange) CallerRef() directory.Ref {
	if x.caller == nil {
		return 0
	}
	return x.caller.Ref
}

// Reset makes the Exchange ready for the next use.
func (x *Exchange) Reset() { *x = Exchange{route: x.route, keyBuffer: x.keyBuffer} }

// Buffered says whether the front has to read the whole body and hand it to Check and Forward. Otherwise it may stream.
func (x *Exchange) Buffered() bool { return x.Operation.buffered || x.toCBOR }

// MaxBody is how many bytes the request body may have.
func (x *Exchange) MaxBody() int64 { return x.Operation.MaxBody }

// Value is the value of a parameter by the operation's parameter number, percent-decoding undone; nil when absent.
func (x *Exchange) Value(parameter int) []byte { return x.values[parameter] }

// Fail notes the exchange's first problem with the finding that belongs to it, and what decided. Fronts call it for a problem that
// they met themselves: a body too large, a connection lost.
func (x *Exchange) Fail(problem *fieldgate.Problem) {
	if x.Problem != nil {
		return
	}
	x.Problem = problem
	x.land()
	x.Findings |= findingOf(problem.Code)
	if problem.Code == fieldgate.ProblemBadRequest && x.Detail == "" {
		x.Detail = problem.Detail // no contract or rule says more
	}
	x.decide(problem)
}

// FailBy is Fail for a rule that the front carries out itself.
func (x *Exchange) FailBy(rule string, problem *fieldgate.Problem) {
	if x.Problem == nil {
		x.rule = ruleText(rule)
	}
	x.Fail(problem)
}

func findingOf(code fieldgate.ProblemCode) fieldgate.Findings {
	switch code {
	case fieldgate.ProblemBadRequest:
		return fieldgate.FindingMalformed
	case fieldgate.ProblemUnauthenticated:
		return fieldgate.FindingUnauthenticated
	case fieldgate.ProblemForbidden, fieldgate.ProblemQoS, fieldgate.ProblemRetain:
		return fieldgate.FindingForbidden
	case fieldgate.ProblemNotOwner:
		return fieldgate.FindingNotOwner
	case fieldgate.ProblemQuarantined:
		return fieldgate.FindingQuarantined
	case fieldgate.ProblemNotFound, fieldgate.ProblemMethodNotAllowed:
		return fieldgate.FindingUnmatched
	case fieldgate.ProblemGone:
		return fieldgate.FindingRetired
	case fieldgate.ProblemTooLarge, fieldgate.ProblemUnsupportedMedia, fieldgate.ProblemInvalidParameter, fieldgate.ProblemInvalidPayload,
		fieldgate.ProblemKeyReused:
		return fieldgate.FindingInvalidRequest
	case fieldgate.ProblemRateLimited:
		return fieldgate.FindingRateLimited
	case fieldgate.ProblemUpstreamInvalid, fieldgate.ProblemUpstreamTimeout, fieldgate.ProblemUpstreamUnreachable:
		return fieldgate.FindingUpstream
	}
	return 0
}
