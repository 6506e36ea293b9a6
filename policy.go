package fieldgate

import (
	"encoding/json"
	"strings"
	"time"
)

// Condition is what a request must say besides host, method and path for an operation to be meant (x-fieldgate.when). One of the
// two is set.
type Condition struct {
	Field string `json:"field,omitempty"` // name of a header field in lower case
	Value string `json:"value,omitempty"` // its whole value, compared byte by byte

	// MediaType is named by Accept, or is that of the content: a version told by media type.
	MediaType string `json:"mediaType,omitempty"`
}

// Priority says who is served first when an upstream is overloaded.
type Priority uint8

const (
	PriorityNormal     Priority = iota
	PriorityCritical            // served as long as anything is
	PriorityBackground          // refused first
)

// String is the word that contracts use.
func (p Priority) String() string {
	switch p {
	case PriorityCritical:
		return "critical"
	case PriorityBackground:
		return "background"
	}
	return "normal"
}

// AnswerCheck says whether answers of an upstream are held against the contract.
type AnswerCheck string

const (
	AnswersUnchecked AnswerCheck = ""        // they pass as they come, streamed
	AnswersReported  AnswerCheck = "report"  // they pass; what breaks the contract is recorded
	AnswersEnforced  AnswerCheck = "enforce" // what breaks the contract does not reach the caller: upstream-invalid
)

// Policies are what an operation demands beyond checks and limits. Nil and zero members cost nothing.
type Policies struct {
	Priority    Priority      `json:"priority,omitempty"`
	Answers     AnswerCheck   `json:"answers,omitempty"`
	Retry       *Retry        `json:"retry,omitempty"`
	Hedge       time.Duration `json:"hedge,omitempty"` // of an idempotent operation: a second call starts when no answer has begun after this
	Cache       *Cache        `json:"cache,omitempty"`
	CORS        *CORS         `json:"cors,omitempty"`
	Idempotency *Idempotency  `json:"idempotency,omitempty"`
	Request     *Transform    `json:"request,omitempty"`  // what the upstream gets instead
	Response    *Transform    `json:"response,omitempty"` // what the caller gets instead
	Privacy     []Projection  `json:"privacy,omitempty"`  // each that is for the receiver counts
	Redirect    *Redirect     `json:"redirect,omitempty"` // the answer, in place of an upstream
	Mirror      *Mirror       `json:"mirror,omitempty"`
	Canaries    []Canary      `json:"canaries,omitempty"` // the first that takes the exchange counts
}

// Retry says when a call of an upstream that failed is tried again. What may not be sent twice never is.
type Retry struct {
	Attempts int           `json:"attempts"` // besides the first
	PerTry   time.Duration `json:"perTry,omitempty"`
	On       RetryOn       `json:"on"`
}

// RetryOn are the failures after which a call is tried again.
type RetryOn uint8

const (
	RetryConnect RetryOn = 1 << iota // no connection came about
	RetryReset                       // the connection ended before an answer
	RetryStatus                      // 502, 503, 504
	RetryTimeout                     // no answer within PerTry
)

// Bounds of policies, checked by the compiler.
const (
	MaxRetries          = 5
	MaxPolicyEntries    = 64        // of one list or map within a policy
	MaxExpression       = 4 << 10   // bytes of one CEL expression
	MaxCanaries         = 8         // of one operation
	MaxProjections      = 8         // of one operation
	MaxProjectionLevels = 16        // of the path of a member that one changes
	MaxWebSocketMessage = 4 << 20   // bytes
	DefaultWebSocket    = 256 << 10 // bytes of one message that is checked, when the contract names no bound
)

// Cache keeps answers of a GET (RFC 9111). What the upstream says about freshness counts before TTL.
type Cache struct {
	TTL                  time.Duration `json:"ttl,omitempty"` // freshness of answers that say nothing about it; 0: they are not kept
	StaleWhileRevalidate time.Duration `json:"staleWhileRevalidate,omitempty"`
	Shared               bool          `json:"shared,omitempty"` // one answer for all callers; otherwise one for each
}

// CORS lets pages of other origins call the operation (WHATWG Fetch section 3.2).
type CORS struct {
	Origins     []string      `json:"origins"` // such as https://app.example.com; "*" is every origin
	Headers     []string      `json:"headers,omitempty"`
	Expose      []string      `json:"expose,omitempty"`
	Credentials bool          `json:"credentials,omitempty"`
	MaxAge      time.Duration `json:"maxAge,omitempty"`
}

// Idempotency answers a command that is sent again with the first answer, without calling the upstream again.
type Idempotency struct {
	Field    string        `json:"field"` // header field with the caller's key, lower case
	TTL      time.Duration `json:"ttl"`
	Required bool          `json:"required,omitempty"`
}

// Transform changes a message. Expressions are CEL.
type Transform struct {
	Set    []TransformField `json:"set,omitempty"`
	Remove []string         `json:"remove,omitempty"` // header fields, lower case
	Body   string           `json:"body,omitempty"`   // expression of the whole new body, as JSON
}

// TransformField gives a header field the value of an expression.
type TransformField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Projection is what some receivers see less of the messages that they hear by an operation, and of its answers. Members are named by
// their path, as SplitPath reads it; lists on the way are gone through.
type Projection struct {
	For     *Receivers   `json:"for,omitempty"`    // nil: all
	Except  *Receivers   `json:"except,omitempty"` // nil: none
	Remove  []string     `json:"remove,omitempty"`
	Mask    []string     `json:"mask,omitempty"` // the value is "***" instead
	Coarsen []Coarsening `json:"coarsen,omitempty"`
}

// Receivers are principals for whom all holds that is given.
type Receivers struct {
	Kinds    []PrincipalKind `json:"kinds,omitempty"`  // PrincipalAnonymous stands for all that are not in the directory
	Apps     []string        `json:"apps,omitempty"`   // ids of apps; a "*" at the end stands for anything, here and below
	Scopes   []string        `json:"scopes,omitempty"` // apps that have all of them
	Models   []string        `json:"models,omitempty"` // of devices
	Firmware []string        `json:"firmware,omitempty"`
}

// Coarsening rounds a member: numbers to multiples of Step, date-times to those of Every. One of the two is set.
type Coarsening struct {
	Member string        `json:"member"`
	Step   string        `json:"step,omitempty"` // a positive decimal such as 0.01
	Every  time.Duration `json:"every,omitempty"`
}

// SplitPath is the names of a path such as "driver/name". As in a JSON Pointer (RFC 6901 section 3) "~1" stands for "/" and "~0" for "~".
func SplitPath(path string) []string {
	names := strings.Split(path, "/")
	for i, name := range names {
		names[i] = pathUnescape.Replace(name)
	}
	return names
}

var pathUnescape = strings.NewReplacer("~1", "/", "~0", "~")

// Redirect sends callers elsewhere.
type Redirect struct {
	To     string `json:"to"`     // path template with parameters of the operation, or an absolute URI with such a path
	Status int    `json:"status"` // 301, 302, 303, 307 or 308
}

// Mirror sends a copy of a share of the requests to another upstream, whose answers nobody sees.
type Mirror struct {
	Upstream string  `json:"upstream"`
	Percent  float64 `json:"percent"`
}

// Canary sends some exchanges to another upstream. All that is given must hold.
type Canary struct {
	Upstream string   `json:"upstream"`
	Percent  float64  `json:"percent"`            // of callers: one caller always goes the same way; 100: all
	Field    string   `json:"field,omitempty"`    // header field, lower case
	Value    string   `json:"value,omitempty"`    // of Field
	Models   []string `json:"models,omitempty"`   // of devices; a "*" at the end stands for anything
	Firmware []string `json:"firmware,omitempty"` // likewise
}

// WebSocketMessages are the schemas of the messages of a WebSocket that is passed through. An empty one leaves its direction unchecked.
type WebSocketMessages struct {
	FromClient  SchemaRef `json:"fromClient,omitempty"`
	FromService SchemaRef `json:"fromService,omitempty"`
	MaxMessage  int64     `json:"maxMessage"` // bytes
}

// Size is about how many bytes the policies take in a compiled contract.
func (p *Policies) Size() int {
	if p == nil {
		return 0
	}
	encoded, err := json.Marshal(p)
	if err != nil {
		return 0 // no member can fail to marshal
	}
	return len(encoded)
}
