package fieldgate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Upstream is a service behind the gateway, as the environment file of a node names it. Contracts refer to it by name only.
type Upstream struct {
	Name           string
	Addresses      []string      // http://host:port, or with another TargetScheme: targets of weight 1 and priority 0, in no zone
	Targets        []Target      // further addresses
	Discovery      Discovery     // where more addresses come from
	ConnectTimeout time.Duration // 0: 2 s
	Timeout        time.Duration // of one whole call, where the contract names none; 0: DefaultTimeout
	MaxConnections int           // open at once for each address, of CoAP: exchanges under way (NSTART of RFC 7252); 0: 512
	MaxWaiting     int           // calls that wait for a connection of an address at once; 0: 1,024
	MaxRequests    int           // calls under way at once on all addresses; 0: no bound
	Adaptive       *Adaptive     // a bound of calls under way that follows the upstream's latency; nil: none
	RetryBudget    RetryBudget
	Protocol       UpstreamProtocol
	TLS            *UpstreamTLS // of https, coaps and coaps+tcp addresses; nil: the system's roots, no client certificate

	Algorithm Algorithm     // empty: AlgorithmRoundRobin
	HashBy    HashBy        // with AlgorithmHash
	HashLoad  float64       // with AlgorithmHash: how many times the mean of the calls under way one address may have; 0: 1.25
	Sticky    Sticky        // keeps a caller on the address that answered it first
	SlowStart time.Duration // over which an address that is new, or well again, comes to its whole weight; 0: at once

	Zone              string  // of the node: addresses in it come first; empty: zones do not count
	Overprovisioning  float64 // a zone or priority has enough healthy addresses when their share times this is 1; 0: 1.4
	PanicPercent      int     // below this share of healthy addresses all are used; 0: 20; negative: never
	CountServerErrors bool    // answers with a status of 500 or more are failures, for Outlier and Circuit

	Health  HealthCheck
	Outlier Outlier
	Circuit Circuit
}

// MaxTargets bounds the addresses of one upstream.
const MaxTargets = 1000

// Bounds of a Target.
const (
	MaxWeight   = 1000
	MaxPriority = 15
	MaxZone     = 64 // bytes
)

// Target is one address of an upstream.
type Target struct {
	Address  string `json:"address"`            // http://host:port, or with another TargetScheme; of one upstream all HTTP, or all of one scheme of CoAP
	Zone     string `json:"zone,omitempty"`     // where it is, such as a building, a site or a data centre
	Priority int    `json:"priority,omitempty"` // the lowest is used first; 0 to MaxPriority
	Weight   int    `json:"weight,omitempty"`   // share of the calls; 0: 1; at most MaxWeight
}

// TargetsRequest asks for what services have registered.
type TargetsRequest struct {
	Installation uint64 `json:"installation"`
	Version      uint64 `json:"version"`         // what the gateway has; while that is the newest, a page without upstreams answers
	After        string `json:"after,omitempty"` // name of the last upstream of the page before
}

// TargetsPage is what services have registered with the control plane, by the name of their upstream, in the order of the names. A
// page that has another Installation or Version than the one before begins anew.
type TargetsPage struct {
	Installation uint64              `json:"installation"` // names the database, at random
	Version      uint64              `json:"version"`      // grows with each change
	Upstreams    map[string][]Target `json:"upstreams"`
	More         bool                `json:"more,omitempty"` // another page follows
}

// Discovery is where addresses come from besides Upstream.Addresses and Targets. At most one of DNS and SRV is given.
type Discovery struct {
	DNS        string // http://name:port or https://name:port: each A and AAAA record of the name is an address
	SRV        string // http://_service._tcp.name or https://...: each SRV record is, with its port, priority and weight
	Server     string // host:port of the DNS server; empty: those of /etc/resolv.conf
	Registered bool   // services register their addresses through the admin API
}

// Algorithm is how the address of a call is chosen.
type Algorithm string

const (
	AlgorithmRoundRobin    Algorithm = "round-robin"    // in turn; weights do not count
	AlgorithmWeighted      Algorithm = "weighted"       // in turn, as often as the weights say
	AlgorithmLeastRequests Algorithm = "least-requests" // that with the fewest calls under way, of all
	AlgorithmTwoChoices    Algorithm = "two-choices"    // that with the fewer calls under way, of two picked at random
	AlgorithmPeakEWMA      Algorithm = "peak-ewma"      // that which answers sooner, of two picked at random
	AlgorithmHash          Algorithm = "hash"           // the same for the same key, unless it has too many calls
)

// Algorithms are all there are.
var Algorithms = []Algorithm{AlgorithmRoundRobin, AlgorithmWeighted, AlgorithmLeastRequests, AlgorithmTwoChoices, AlgorithmPeakEWMA, AlgorithmHash}

// HashKind says what the key of AlgorithmHash is made of.
type HashKind string

const (
	HashPrincipal HashKind = "principal" // who calls
	HashSource    HashKind = "source"    // the network address of the caller
	HashHost      HashKind = "host"
	HashPath      HashKind = "path"
	HashHeader    HashKind = "header"
	HashCookie    HashKind = "cookie"
	HashQuery     HashKind = "query"
	HashParameter HashKind = "parameter" // of the operation, such as the id of a device in its path
)

// HashBy is the part of an exchange of which the key of AlgorithmHash is made.
type HashBy struct {
	Kind HashKind
	Name string // of the header field (lower case), cookie, query field or parameter
}

// ParseHashBy reads principal, source, host, path, header:NAME, cookie:NAME, query:NAME or parameter:NAME.
func ParseHashBy(text string) (HashBy, error) {
	kind, name, named := strings.Cut(text, ":")
	by := HashBy{Kind: HashKind(kind), Name: name}
	switch by.Kind {
	case HashPrincipal, HashSource, HashHost, HashPath:
		if !named {
			return by, nil
		}
	case HashHeader:
		by.Name = strings.ToLower(name)
		fallthrough
	case HashCookie, HashQuery, HashParameter:
		if name != "" && len(name) <= 128 {
			return by, nil
		}
	}
	return HashBy{}, fmt.Errorf("%q is nothing to hash by: write principal, source, host, path, header:NAME, cookie:NAME, query:NAME or parameter:NAME", text)
}

// String is what ParseHashBy reads.
func (b HashBy) String() string {
	if b.Name == "" {
		return string(b.Kind)
	}
	return string(b.Kind) + ":" + b.Name
}

// Sticky keeps a caller on an address by a cookie that names it opaquely (RFC 6265).
type Sticky struct {
	Cookie string        // name; empty: callers do not stick
	MaxAge time.Duration // 0: until the browser ends
	Secure bool          // the cookie is sent over TLS only
	Secret string        // makes the cookie's value impossible to guess; the same on all gateways
}

// HealthKind is how an address is checked.
type HealthKind string

const (
	HealthHTTP HealthKind = "http" // GET of a path
	HealthTCP  HealthKind = "tcp"  // a connection comes about
	HealthGRPC HealthKind = "grpc" // grpc.health.v1.Health/Check
	HealthCoAP HealthKind = "coap" // GET of a path, or without one a ping (RFC 7252 section 4.3)
)

// HealthCheck calls each address now and then. The zero value: none is called.
type HealthCheck struct {
	Kind      HealthKind
	Path      string        // with HealthHTTP; empty: /. With HealthCoAP; empty: a ping
	Host      string        // with HealthHTTP: the Host field; empty: the address's own
	Statuses  []StatusRange // with HealthHTTP, or HealthCoAP and a path: of a healthy address, in HTTP's numbers; none: 200 to 299
	Service   string        // with HealthGRPC; empty: the server as a whole
	Interval  time.Duration // 0: 10 s
	Timeout   time.Duration // 0: 2 s
	Healthy   int           // checks in a row that an unhealthy address has to pass; 0: 2
	Unhealthy int           // checks in a row that a healthy address has to fail; 0: 3
}

// StatusRange is the statuses from From to To, both included.
type StatusRange struct{ From, To int }

// Outlier leaves out addresses whose calls fail. An address to which no connection comes about is always left out, at once.
type Outlier struct {
	Consecutive    int           // failures in a row; 0: 5; negative: they do not count
	FailurePercent int           // of the calls within a window; 0: it does not count
	MinimumCalls   int           // within a window, for FailurePercent; 0: 20
	Window         time.Duration // 0: 10 s
	Ejection       time.Duration // how long the first time; each time in a row one more of it; 0: 5 s
	MaxEjection    time.Duration // 0: 60 s
	MaxEjected     int           // percent of the addresses that are left out for failures at the most; 0: 50
}

// Circuit refuses calls of an upstream that mostly fails. The zero value: none is refused.
type Circuit struct {
	FailurePercent int           // of the calls within a window, from which on calls are refused; 0: never
	MinimumCalls   int           // within a window; 0: 20
	Window         time.Duration // 0: 10 s
	Open           time.Duration // for how long, before calls are tried; 0: 5 s
}

// CircuitState is how a Circuit stands.
type CircuitState string

const (
	CircuitClosed   CircuitState = "closed"    // calls pass
	CircuitOpen     CircuitState = "open"      // calls are refused
	CircuitHalfOpen CircuitState = "half-open" // some calls pass, to see
)

// UpstreamState is how a gateway sees an upstream.
type UpstreamState struct {
	Name       string         `json:"name"`
	Algorithm  Algorithm      `json:"algorithm"`
	Circuit    CircuitState   `json:"circuit,omitempty"`    // empty: there is none
	Panic      bool           `json:"panic,omitempty"`      // so few addresses are healthy that all are used
	Problem    string         `json:"problem,omitempty"`    // of discovery, or of TLS files; what is used is that of before
	Discovered time.Time      `json:"discovered,omitzero"`  // when discovery last gave an answer that counts
	Registered bool           `json:"registered,omitempty"` // it takes addresses that services register
	Healthy    int            `json:"healthy"`              // of all its addresses
	Unhealthy  int            `json:"unhealthy,omitempty"`  // of all its addresses
	Addresses  []AddressState `json:"addresses"`            // all upstreams of a gateway show MaxAddressStates, the unhealthy ones first
	CallStats
}

// MQTTProxyUpstream is the UpstreamState.Name under which the brokers behind a gateway's MQTT proxy are told of. No contract can name them.
const MQTTProxyUpstream = "mqtt-proxy"

// CallStats are what the calls of an upstream have come to since the gateway started, over all addresses there are and were, and what is
// under way.
type CallStats struct {
	Calls    uint64  `json:"calls,omitempty"`    // of addresses, that ended: tries and hedges count
	Failures uint64  `json:"failures,omitempty"` // of Calls: without a clean answer, or with a status of 500 or more
	InFlight int64   `json:"inFlight,omitempty"` // calls under way
	Latency  float64 `json:"latency,omitempty"`  // milliseconds to the head of an answer, the mean of those of the addresses

	UnderWay int                            `json:"underWay,omitempty"` // calls that count against a limit of them
	Limit    int                            `json:"limit,omitempty"`    // the one that adjusts itself, as it is now; 0: there is none
	Shed     [PriorityBackground + 1]uint64 `json:"shed,omitzero"`      // calls that were refused beyond a limit, by Priority

	Retries        uint64 `json:"retries,omitempty"`        // that were made; none is one that only replaces a broken idle connection
	RetriesRefused uint64 `json:"retriesRefused,omitempty"` // retries and hedges beyond the budget
	Hedges         uint64 `json:"hedges,omitempty"`         // second calls beside a slow one
	HedgesWon      uint64 `json:"hedgesWon,omitempty"`      // of Hedges: their answer came first

	Mirroring      int    `json:"mirroring,omitempty"` // copies under way
	MirrorsDropped uint64 `json:"mirrorsDropped,omitempty"`
}

// Bounds of a gateway's UpstreamStates, with which they fit into a message on the bus.
const (
	MaxAddressStates = 200 // over all upstreams
	MaxStateText     = 200 // bytes of UpstreamState.Problem and AddressState.Why
)

// ShareOut cuts counts so that their sum is not larger than limit, the largest first, and returns what is left of it.
func ShareOut(counts []int, limit int) (left int) {
	order := make([]*int, len(counts))
	for i := range counts {
		order[i] = &counts[i]
	}
	slices.SortStableFunc(order, func(a, b *int) int { return cmp.Compare(*a, *b) })
	for i, count := range order {
		*count = min(*count, (limit+len(order)-i-1)/(len(order)-i))
		limit -= *count
	}
	return limit
}

// NotShown is how many addresses there are besides Addresses.
func (s *UpstreamState) NotShown() int { return s.Healthy + s.Unhealthy - len(s.Addresses) }

// AddressState is how a gateway sees an address.
type AddressState struct {
	Address  string    `json:"address"`
	Zone     string    `json:"zone,omitempty"`
	Priority int       `json:"priority"`
	Weight   int       `json:"weight"`
	Healthy  bool      `json:"healthy"`
	Why      string    `json:"why,omitempty"` // it is not healthy
	Since    time.Time `json:"since"`         // it is, or is not
	InFlight int64     `json:"inFlight"`      // calls under way
	Calls    uint64    `json:"calls"`         // that ended
	Failures uint64    `json:"failures"`      // of Calls: without a clean answer, or with a status of 500 or more
	Latency  float64   `json:"latency"`       // milliseconds to the head of an answer, a mean of about the last 10 s; 0 after a minute without one
	Open     int       `json:"open"`          // connections
	Idle     int       `json:"idle"`          // of Open
}

// UpstreamProtocol is the version of HTTP that an upstream is spoken to in.
type UpstreamProtocol string

const (
	UpstreamAuto  UpstreamProtocol = "" // HTTP/1.1
	UpstreamHTTP1 UpstreamProtocol = "http1"
	UpstreamHTTP2 UpstreamProtocol = "http2" // https: by ALPN; http: from the first byte. WebSockets go over HTTP/1.1 still
)

// Adaptive bounds the limit of calls under way that adjusts itself.
type Adaptive struct {
	Min int // 0: 10
	Max int // 0: 1,000
}

// RetryBudget bounds retries and hedges over ten seconds: so many percent of the calls that may be tried again, or so many each
// second, whichever is more.
type RetryBudget struct {
	Percent   int // 0: 20
	PerSecond int // 0: 3
}

// UpstreamTLS is how a gateway proves itself to an upstream, and what it trusts. Files hold PEM and are read again when they change.
type UpstreamTLS struct {
	CAFile     string // empty: the system's roots
	CertFile   string // client certificate, with the chain it needs; empty: none
	KeyFile    string // of the client certificate
	PSKFile    string // of coaps: a line IDENTITY:KEY with the key in hexadecimal digits, in the place of certificates; empty: none
	ServerName string // the name in the upstream's certificate; empty: the host of the address
}
