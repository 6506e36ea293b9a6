package fieldgate

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Bounds that hold for every contract, checked by the compiler and relied upon by the gateway.
const (
	MaxDocumentBytes     = 8 << 20  // source document
	MaxOperations        = 10_000   // in one contract
	MaxParameters        = 32       // of one operation, all places together
	MaxPathSegments      = 32       // of one path or topic template
	MaxPathBytes         = 4 << 10  // of one path or topic on the wire
	DefaultMaxBody       = 1 << 20  // bytes of a request body when the contract names no limit
	MaxBody              = 64 << 20 // the largest max-body that a contract may name
	DefaultTimeout       = 30 * time.Second
	MaxIdentifierBytes   = 128 // API names, operation ids, device and app ids
	MaxLimitsOfOperation = 4   // rates, and as many quotas
)

// ReplyPrefix starts the topics on which Fieldgate answers requests that came over MQTT: "fg/", the caller's id, and whatever
// the caller likes behind it. Each identified caller may subscribe there; only Fieldgate publishes there, so contracts have no
// topics there.
const ReplyPrefix = "fg/"

// ContractKind says what sort of document a contract was compiled from.
type ContractKind string

const (
	KindOpenAPI     ContractKind = "openapi"
	KindAsyncAPI    ContractKind = "asyncapi"
	KindPassThrough ContractKind = "pass-through" // everything passes, recorded as undocumented
)

// Lifecycle is the state of one version of an API.
type Lifecycle string

const (
	LifecycleActive     Lifecycle = "active"     // served
	LifecycleDeprecated Lifecycle = "deprecated" // served, callers are told
	LifecycleRetired    Lifecycle = "retired"    // answered 410 Gone
	LifecycleSuperseded Lifecycle = "superseded" // replaced by another version of the same API on the same routes; not served
)

// Contract is one version of one API in compiled form: all that gateways need to serve it, and nothing that they would
// have to look up elsewhere. It is made by package contract and travels in a Snapshot.
type Contract struct {
	API     string       `json:"api"`     // identifier, lower-case letters, digits and dashes; derived from the title unless x-fieldgate.api names it
	Version string       `json:"version"` // info.version
	Title   string       `json:"title"`
	Kind    ContractKind `json:"kind"`
	State   Lifecycle    `json:"state"`
	Digest  string       `json:"digest"` // sha256 of the source document, hexadecimal

	Deprecated string `json:"deprecated,omitempty"` // RFC 3339 date since which it is deprecated (RFC 9745)
	Sunset     string `json:"sunset,omitempty"`     // RFC 3339 date after which the version ends (RFC 8594)
	Successor  string `json:"successor,omitempty"`  // version that follows a deprecated one

	// DeprecationOption tells callers over CoAP of the three above in an option, once a day each (x-fieldgate.lifecycle.coap-option).
	DeprecationOption bool `json:"deprecationOption,omitempty"`

	NoCapture bool `json:"noCapture,omitempty"` // what its exchanges carry is never copied for an operator (x-fieldgate.capture: never)

	// Schemas is one JSON document {"$defs": {...}} in the 2020-12 dialect that all SchemaRefs of the contract point into.
	Schemas    json.RawMessage `json:"schemas,omitempty"`
	Operations []Operation     `json:"operations"`
}

// SchemaRef is a JSON pointer fragment into Contract.Schemas, such as "#/$defs/Telemetry"; empty means anything goes.
type SchemaRef string

// Operation is one thing that a caller can do: a request/response exchange, a message to publish or a stream to
// subscribe to, reachable through each protocol that has a binding.
type Operation struct {
	ID      string `json:"id"` // unique in its contract
	Summary string `json:"summary,omitempty"`

	HTTP *HTTPBinding `json:"http,omitempty"`
	CoAP *CoAPBinding `json:"coap,omitempty"`
	MQTT *MQTTBinding `json:"mqtt,omitempty"`

	Parameters []Parameter `json:"parameters,omitempty"`
	Request    *Payload    `json:"request,omitempty"`   // nil: the operation takes no body
	Responses  []Response  `json:"responses,omitempty"` // of a request/response operation; examples feed the mock
	Message    *Payload    `json:"message,omitempty"`   // what subscribers receive, where MQTT.Action is subscribe

	Access    Access    `json:"access"`
	Limits    []Limit   `json:"limits,omitempty"`
	Quotas    []Quota   `json:"quotas,omitempty"`
	MaxBody   int64     `json:"maxBody"` // bytes
	OnInvalid OnInvalid `json:"onInvalid"`

	// Upstream names the upstream of the environment file that answers requests. Empty: an OpenAPI operation is answered
	// from its examples (mock), an AsyncAPI operation ends at the broker.
	Upstream string        `json:"upstream,omitempty"`
	Timeout  time.Duration `json:"timeout"` // of the whole upstream call; 0: the upstream's
	// Idempotent says that a failed upstream call may be tried again (RFC 9110 section 9.2.2, or the contract says so).
	Idempotent bool `json:"idempotent,omitempty"`

	// Device, if set, takes the place of Upstream: the device that the call is about answers itself, over CoAP.
	Device *DeviceTarget `json:"device,omitempty"`

	// ServiceFormat is how the upstream writes what has a schema for JSON; empty: as JSON.
	ServiceFormat ServiceFormat `json:"serviceFormat,omitempty"`
	// ObservesService says that an upstream that speaks CoAP is observed (RFC 7641) while somebody hears the topic of an ActionSubscribe binding.
	ObservesService bool `json:"observesService,omitempty"`

	// MaxExpiry bounds how long the messages of an ActionPublish binding may be delivered, from when they were published; 0: as long as
	// their publishers say.
	MaxExpiry time.Duration `json:"maxExpiry,omitempty"`

	Policies  *Policies          `json:"policies,omitempty"`
	WebSocket *WebSocketMessages `json:"webSocket,omitempty"` // of the messages of HTTP.WebSocket; nil: they pass unchecked

	PassThrough bool `json:"passThrough,omitempty"` // templates are prefixes (HTTP, CoAP) or filters (MQTT); nothing is checked
}

// DeviceTarget is where an operation is carried out by a device that has registered with the resource directory.
type DeviceTarget struct {
	Parameter string        `json:"parameter"` // of the path, whose value is the device's id
	Method    Method        `json:"method"`
	Path      string        `json:"path"`            // template, at the device
	Queue     time.Duration `json:"queue,omitempty"` // that a command may wait for a device that sleeps; 0: it does not
	CBOR      bool          `json:"cbor,omitempty"`  // JSON becomes CBOR on its way
}

// ServiceFormat is a form of content.
type ServiceFormat string

// FormatCBOR is CBOR with the numbers of x-cbor-key for names.
const FormatCBOR ServiceFormat = "cbor"

// HTTPBinding makes an operation reachable over HTTP. An operation that subscribes is served as server-sent events to
// "Accept: text/event-stream" and as WebSocket to an upgrade request.
type HTTPBinding struct {
	Host      string `json:"host,omitempty"` // lower case without port; empty matches every host
	Method    Method `json:"method"`
	Path      string `json:"path"`                // template with {name} segments, text before or after the parameter, base path included; of a pass-through API a prefix
	WebSocket bool   `json:"webSocket,omitempty"` // an upgrade request is passed through to the upstream
	// Conditions tell apart operations with the same host, method and path. One without conditions takes what is left.
	Conditions []Condition `json:"conditions,omitempty"`
}

// CoAPBinding makes an operation reachable over CoAP.
type CoAPBinding struct {
	Method  Method `json:"method"`
	Path    string `json:"path"`              // template; parameters missing from it are filled from the principal (bound ones) or Uri-Query
	Observe bool   `json:"observe,omitempty"` // GET with Observe subscribes to the operation's topic (RFC 7641)
}

// MQTTAction says what a client does on an operation's topic.
type MQTTAction string

const (
	ActionPublish   MQTTAction = "publish"   // clients publish: the message is checked, forwarded and heard by subscribers
	ActionSubscribe MQTTAction = "subscribe" // clients subscribe
	ActionBoth      MQTTAction = "both"      // pass-through only
)

// MQTTBinding gives an operation a topic. Calls of the operation over any protocol are heard on the topic of an
// ActionPublish binding; SSE, WebSocket and CoAP observers of the operation hear the topic of an ActionSubscribe binding.
type MQTTBinding struct {
	Topic  string     `json:"topic"` // template with whole-level {name} parameters; of a pass-through API a filter
	Action MQTTAction `json:"action"`
	QoS    byte       `json:"qos"`              // highest that a publisher may use and a subscriber is granted
	Retain bool       `json:"retain,omitempty"` // a publisher may set RETAIN
}

// Filter is the filter that matches all topics of the template.
func (b *MQTTBinding) Filter() string {
	levels := strings.Split(b.Topic, "/")
	for i, level := range levels {
		if strings.HasPrefix(level, "{") {
			levels[i] = "+"
		}
	}
	return strings.Join(levels, "/")
}

// ParameterPlace says where a parameter stands in HTTP's terms.
type ParameterPlace string

const (
	InPath   ParameterPlace = "path" // also MQTT topic levels and CoAP path segments
	InQuery  ParameterPlace = "query"
	InHeader ParameterPlace = "header"
	InCookie ParameterPlace = "cookie"
)

// Parameter is one named input besides the body.
type Parameter struct {
	Name     string         `json:"name"`
	In       ParameterPlace `json:"in"`
	Required bool           `json:"required,omitempty"`
	Schema   SchemaRef      `json:"schema,omitempty"`
	// Bound: the value must be the calling device's own id (x-fieldgate-bind: principal). Where a protocol's path or
	// topic does not carry the parameter, the caller's id is its value.
	Bound bool `json:"bound,omitempty"`

	// How arrays and objects are written (OpenAPI 3.1 section 4.8.12.2). The zero Style is the default of the place: simple in paths
	// and headers, form in queries and cookies.
	Style      ParameterStyle `json:"style,omitempty"`
	Explode    bool           `json:"explode,omitempty"`
	AllowEmpty bool           `json:"allowEmpty,omitempty"` // of queries: a value of no characters passes unchecked
	JSON       bool           `json:"json,omitempty"`       // the value is a JSON text (content: application/json)
}

// ParameterStyle is how a parameter's value is written.
type ParameterStyle string

const (
	StyleDefault        ParameterStyle = ""
	StyleSimple         ParameterStyle = "simple"         // blue,black
	StyleLabel          ParameterStyle = "label"          // .blue,black
	StyleMatrix         ParameterStyle = "matrix"         // ;color=blue,black
	StyleForm           ParameterStyle = "form"           // color=blue,black, or with explode color=blue&color=black
	StyleSpaceDelimited ParameterStyle = "spaceDelimited" // color=blue%20black
	StylePipeDelimited  ParameterStyle = "pipeDelimited"  // color=blue|black
	StyleDeepObject     ParameterStyle = "deepObject"     // color[R]=100
)

// Payload is a body: its media types in the contract's order.
type Payload struct {
	Required bool        `json:"required,omitempty"`
	Media    []MediaType `json:"media"`
}

// MediaType is one representation of a payload. A schema of application/json also checks application/cbor.
type MediaType struct {
	Type     string          `json:"type"` // such as application/json, lower case, without parameters; */* and type/* match as ranges
	Schema   SchemaRef       `json:"schema,omitempty"`
	Example  json.RawMessage `json:"example,omitempty"`  // first valid example, answered by the mock
	Examples []Example       `json:"examples,omitempty"` // all, with what they are expected to lead to

	Encoding []PartEncoding `json:"encoding,omitempty"` // of forms: properties that are not written in the default way
}

// PartEncoding is how one property of a form is written (OpenAPI 3.1 section 4.8.15).
type PartEncoding struct {
	Property string         `json:"property"`
	Types    []string       `json:"types,omitempty"`   // media types of the part, lower case; type/* matches as a range
	Headers  []Parameter    `json:"headers,omitempty"` // of the part
	Style    ParameterStyle `json:"style,omitempty"`   // of application/x-www-form-urlencoded: form, or deepObject and the like
	Joined   bool           `json:"joined,omitempty"`  // explode: false: an array in one value
}

// Example is a named example of a payload; Expect is the status that x-fieldgate-expect demands (0: success).
type Example struct {
	Name   string          `json:"name"`
	Value  json.RawMessage `json:"value"`
	Expect int             `json:"expect,omitempty"`
}

// Response is one declared answer.
type Response struct {
	Status      string      `json:"status"` // "204", "2XX" or "default"
	Description string      `json:"description,omitempty"`
	Media       []MediaType `json:"media,omitempty"`
	Headers     []Parameter `json:"headers,omitempty"`
}

// Access says who may use an operation.
type Access struct {
	Anonymous bool            `json:"anonymous,omitempty"` // no credential needed; one that is given must still be valid (unless pass-through)
	Kinds     []PrincipalKind `json:"kinds,omitempty"`     // kinds of principal that may call; empty when only Anonymous says who
	Scopes    []string        `json:"scopes,omitempty"`    // all demanded of apps; devices are governed by ownership
	Headers   []string        `json:"headers,omitempty"`   // names of further HTTP header fields that carry the key (apiKey schemes), lower case
}

// OnInvalid says what happens to a payload that breaks its schema.
type OnInvalid string

const (
	InvalidReject OnInvalid = "reject"
	InvalidShadow OnInvalid = "shadow" // passes; the finding is recorded
)

// LimitKey says what a limit counts by.
type LimitKey string

const (
	LimitPrincipal LimitKey = "principal" // each device or app (anonymous callers: each source address)
	LimitOperation LimitKey = "operation" // all callers together
	LimitSource    LimitKey = "source"    // each source address
)

// Limit is a rate limit: Count exchanges in each Period, up to Burst at once (GCRA).
type Limit struct {
	Count  int           `json:"count"`
	Bytes  bool          `json:"bytes,omitempty"` // Count and Burst are bytes of request bodies and messages
	Period time.Duration `json:"period"`
	Burst  int           `json:"burst"`
	Key    LimitKey      `json:"key"`
}

// Quota is how many exchanges, or bytes of their bodies, pass in one day or month of the calendar (UTC).
type Quota struct {
	Count  int64       `json:"count"`
	Bytes  bool        `json:"bytes,omitempty"`
	Period QuotaPeriod `json:"period"`
	Key    LimitKey    `json:"key"` // LimitPrincipal or LimitOperation
}

// QuotaPeriod is what a quota counts in.
type QuotaPeriod string

const (
	QuotaDay   QuotaPeriod = "day"
	QuotaMonth QuotaPeriod = "month"
)

// String is the quota as a contract writes it.
func (q Quota) String() string {
	count := strconv.FormatInt(q.Count, 10)
	if q.Bytes {
		count = SizeText(q.Count)
	}
	return count + "/" + string(q.Period)
}

var sizeUnits = [...]string{"B", "KiB", "MiB", "GiB", "TiB"}

// SizeText is a number of bytes as a contract writes it: 64KiB.
func SizeText(bytes int64) string {
	unit := 0
	for bytes != 0 && bytes%1024 == 0 && unit < len(sizeUnits)-1 {
		bytes, unit = bytes/1024, unit+1
	}
	return strconv.FormatInt(bytes, 10) + sizeUnits[unit]
}

// EachPeriod says how often Count counts, such as "a minute" or "in 30 s".
func (l *Limit) EachPeriod() string {
	switch l.Period {
	case time.Second:
		return "a second"
	case time.Minute:
		return "a minute"
	case time.Hour:
		return "an hour"
	case 24 * time.Hour:
		return "a day"
	}
	return "in " + strconv.FormatFloat(l.Period.Seconds(), 'f', -1, 64) + " s"
}
