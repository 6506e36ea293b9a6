package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/protocol/h1"
)

// upstream is a service behind the gateway.
type upstream struct {
	Addresses      []string         `yaml:"addresses"`
	Targets        []target         `yaml:"targets"`
	Discover       discoverSettings `yaml:"discover"`
	Timeout        time.Duration    `yaml:"timeout"`
	ConnectTimeout time.Duration    `yaml:"connect-timeout"`
	MaxConnections int              `yaml:"max-connections"`
	Balance        string           `yaml:"balance"`
	HashBy         string           `yaml:"hash-by"`
	HashLoad       float64          `yaml:"hash-load"`
	Sticky         stickySettings   `yaml:"sticky"`
	SlowStart      time.Duration    `yaml:"slow-start"`
	Overprovision  float64          `yaml:"overprovision"`
	PanicPercent   *int             `yaml:"panic-percent"` // nil: the default; 0: never
	ServerErrors   bool             `yaml:"server-errors"`
	Health         healthSettings   `yaml:"health"`
	Outlier        outlierSettings  `yaml:"outlier"`
	Circuit        circuitSettings  `yaml:"circuit"`

	callSettings `yaml:",inline"`
}

// target is an address with more than its text.
type target struct {
	Address  string `yaml:"address"`
	Zone     string `yaml:"zone"`
	Priority int    `yaml:"priority"`
	Weight   *int   `yaml:"weight"` // nil: 1
}

type discoverSettings struct {
	DNS        string `yaml:"dns"`
	SRV        string `yaml:"srv"`
	Server     string `yaml:"dns-server"`
	Registered bool   `yaml:"registered"`
}

type stickySettings struct {
	Cookie     string        `yaml:"cookie"`
	MaxAge     time.Duration `yaml:"max-age"`
	Secure     bool          `yaml:"secure"`
	SecretFile string        `yaml:"secret-file"`

	secret string // that the file holds
}

type healthSettings struct {
	HTTP      string        `yaml:"http"` // path
	Host      string        `yaml:"host"`
	Statuses  []string      `yaml:"statuses"` // such as 200 or 200-299
	TCP       bool          `yaml:"tcp"`
	CoAP      string        `yaml:"coap"` // path, or ping
	GRPC      *string       `yaml:"grpc"` // service; empty: the server as a whole; nil: no check by gRPC
	Interval  time.Duration `yaml:"interval"`
	Timeout   time.Duration `yaml:"timeout"`
	Healthy   int           `yaml:"healthy"`
	Unhealthy int           `yaml:"unhealthy"`
}

type outlierSettings struct {
	Consecutive    *int          `yaml:"consecutive"` // nil: the default; 0: they do not count
	FailurePercent int           `yaml:"failure-percent"`
	MinimumCalls   int           `yaml:"minimum-calls"`
	Window         time.Duration `yaml:"window"`
	Ejection       time.Duration `yaml:"ejection"`
	MaxEjection    time.Duration `yaml:"max-ejection"`
	MaxEjected     *int          `yaml:"max-ejected"` // nil: the default
}

type circuitSettings struct {
	FailurePercent int           `yaml:"failure-percent"`
	MinimumCalls   int           `yaml:"minimum-calls"`
	Window         time.Duration `yaml:"window"`
	Open           time.Duration `yaml:"open"`
}

// upstreamsTemplate is the part of the environment file that names the upstreams.
const upstreamsTemplate = `{{define "upstreams"}}# Services behind the gateway, by the names that contracts use (x-fieldgate: {upstream: ingest}). How calls are spread over
# several addresses, and what else can be set, is in docs/load-balancing.md.
{{if .Upstreams}}upstreams:
{{range $name, $u := .Upstreams}}  {{$name}}: {addresses: [{{range $i, $a := $u.Addresses}}{{if $i}}, {{end}}{{printf "%q" $a}}{{end}}], timeout: {{$u.Timeout}}, connect-timeout: {{$u.ConnectTimeout}}{{if $u.Balance}}, balance: {{$u.Balance}}{{end}}{{if $u.Health.HTTP}}, health: {http: {{$u.Health.HTTP}}, interval: {{$u.Health.Interval}}}{{end}}}
{{end}}{{else}}upstreams: {}
#  ingest:
#    addresses: [http://127.0.0.1:9000]
#    timeout: 5s             # of a whole call, where the contract names none (default 30s)
#    connect-timeout: 1s     # default 2s
#    max-connections: 512    # at once, to each address
#    balance: two-choices    # default round-robin
#    health: {http: /healthz}
{{end}}
# Where this node is: addresses of upstreams with this zone come first.
zone: {{printf "%q" .Zone}}
{{end}}`

// maxUpstreams bounds the upstreams of a node.
const maxUpstreams = 1000

func (e *environment) checkUpstreams() error {
	if len(e.Zone) > fieldgate.MaxZone {
		return fmt.Errorf("zone: the name is longer than %d bytes", fieldgate.MaxZone)
	}
	if len(e.Upstreams) > maxUpstreams {
		return fmt.Errorf("upstreams: at most %d", maxUpstreams)
	}
	for name, u := range e.Upstreams {
		if !fieldgate.ValidIdentifier(name) {
			return fmt.Errorf("upstreams: %q is no name: use letters, digits and . _ : -", name)
		}
		if name == fieldgate.MQTTProxyUpstream {
			return fmt.Errorf("upstreams: the brokers of mqtt.proxy are shown as %q: choose another name", name)
		}
		if err := u.check(); err != nil {
			return fmt.Errorf("upstreams.%s: %w", name, err)
		}
		if file := u.Sticky.SecretFile; file != "" {
			if !filepath.IsAbs(file) {
				file = filepath.Join(filepath.Dir(e.path), file)
			}
			var err error
			if u.Sticky.secret, err = secretFile(file); err != nil {
				return fmt.Errorf("upstreams.%s: sticky.secret-file: %w", name, err)
			}
			e.Upstreams[name] = u
		}
	}
	return nil
}

func (u *upstream) check() error {
	if len(u.Addresses) == 0 && len(u.Targets) == 0 && u.Discover == (discoverSettings{}) {
		return errors.New("addresses are missing, such as [http://127.0.0.1:9000]")
	}
	if len(u.Addresses)+len(u.Targets) > fieldgate.MaxTargets {
		return fmt.Errorf("there are more than %d addresses", fieldgate.MaxTargets)
	}
	for i, address := range u.Addresses {
		if err := checkAddress(address); err != nil {
			return fmt.Errorf("addresses: %w", err)
		}
		if slices.Contains(u.Addresses[:i], address) {
			return fmt.Errorf("addresses: %q is there twice: write it once; balance: weighted sends more calls to an address", address)
		}
	}
	for _, t := range u.Targets {
		if err := t.check(u.Balance); err != nil {
			return fmt.Errorf("targets: %w", err)
		}
	}
	if err := u.checkKinds(); err != nil {
		return err
	}
	if u.Balance != "" && !slices.Contains(fieldgate.Algorithms, fieldgate.Algorithm(u.Balance)) {
		return fmt.Errorf("balance: %q is none: write %s", u.Balance, algorithms())
	}
	if (u.Balance == string(fieldgate.AlgorithmHash)) != (u.HashBy != "") {
		return errors.New("balance: hash and hash-by go together, such as {balance: hash, hash-by: principal}")
	}
	if u.HashLoad != 0 && u.HashBy == "" {
		return errors.New("hash-load: it counts with balance: hash only; write that and hash-by, or leave it out")
	}
	if u.HashBy != "" {
		if _, err := fieldgate.ParseHashBy(u.HashBy); err != nil {
			return fmt.Errorf("hash-by: %w", err)
		}
		if _, name, header := strings.Cut(u.HashBy, "header:"); header && !h1.ValidName(name) {
			return fmt.Errorf("hash-by: %q is no name of a header field: write one such as header:X-Device", name)
		}
	}
	return cmp.Or(between("timeout", u.Timeout, time.Millisecond, 24*time.Hour), between("connect-timeout", u.ConnectTimeout, time.Millisecond, 10*time.Minute),
		between("max-connections", u.MaxConnections, 1, 65535), u.Discover.check(), u.Sticky.check(), u.Health.check(u.speaksCoAP()),
		between("hash-load", u.HashLoad, 1.01, 100), between("overprovision", u.Overprovision, 1, 10),
		between("slow-start", u.SlowStart, time.Second, time.Hour), percent("panic-percent", u.PanicPercent, 0),
		u.Outlier.check(), u.Circuit.check(), u.callSettings.check(u))
}

// all are the texts of all addresses, and those that discovery begins with.
func (u *upstream) all() (addresses []string) {
	addresses = append(addresses, u.Addresses...)
	for _, t := range u.Targets {
		addresses = append(addresses, t.Address)
	}
	for _, address := range []string{u.Discover.DNS, u.Discover.SRV} {
		if address != "" {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// checkKinds refuses addresses that cannot stand for each other.
func (u *upstream) checkKinds() error {
	kind := func(address string) string {
		if a, err := fieldgate.ParseTargetAddress(address); err == nil && a.Scheme.CoAP() {
			return string(a.Scheme)
		}
		return "http"
	}
	all := u.all()
	for _, address := range all {
		if kind(address) != kind(all[0]) {
			return fmt.Errorf("addresses: %q and %q cannot stand for each other: write http and https, or only one of coap, coaps, coap+tcp and coaps+tcp", all[0], address)
		}
	}
	return nil
}

// speaksCoAP reports whether the addresses do.
func (u *upstream) speaksCoAP() bool {
	for _, address := range u.all() {
		if a, err := fieldgate.ParseTargetAddress(address); err == nil && a.Scheme.CoAP() {
			return true
		}
	}
	return false
}

// speaksDTLS reports whether the addresses do.
func (u *upstream) speaksDTLS() bool {
	for _, address := range u.all() {
		if a, err := fieldgate.ParseTargetAddress(address); err == nil && a.Scheme == fieldgate.SchemeCoAPS {
			return true
		}
	}
	return false
}

func algorithms() string {
	var names []string
	for _, a := range fieldgate.Algorithms {
		names = append(names, string(a))
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

func checkAddress(address string) error {
	if _, err := fieldgate.ParseTargetAddress(address); err != nil {
		return fmt.Errorf("%q is no address: give http://HOST:PORT or https://HOST:PORT, without a path; or coap://, coaps://, coap+tcp:// or coaps+tcp:// for a service that speaks CoAP", address)
	}
	return nil
}

func (t *target) check(balance string) error {
	if err := checkAddress(t.Address); err != nil {
		return err
	}
	if t.Weight != nil && (balance == "" || balance == string(fieldgate.AlgorithmRoundRobin)) {
		return errors.New("weight does not count with balance: round-robin; write balance: weighted, or another one")
	}
	if t.Weight != nil && (*t.Weight < 1 || *t.Weight > fieldgate.MaxWeight) {
		return fmt.Errorf("weight: %d is out of range: write 1 to %d", *t.Weight, fieldgate.MaxWeight)
	}
	if t.Priority < 0 || t.Priority > fieldgate.MaxPriority {
		return fmt.Errorf("priority: %d is out of range: write 0 to %d, the lowest is used first", t.Priority, fieldgate.MaxPriority)
	}
	if len(t.Zone) > fieldgate.MaxZone {
		return fmt.Errorf("zone: the name is longer than %d bytes", fieldgate.MaxZone)
	}
	return nil
}

func (d *discoverSettings) check() error {
	for _, s := range []struct{ setting, address string }{{"dns", d.DNS}, {"srv", d.SRV}} {
		if s.address != "" && checkAddress(s.address) != nil {
			return fmt.Errorf("discover.%s: %q is no address: give http://NAME:PORT for dns, http://_SERVICE._tcp.NAME for srv, or the same with https", s.setting, s.address)
		}
		if parsed, err := fieldgate.ParseTargetAddress(s.address); err == nil && net.ParseIP(parsed.Host) != nil {
			return fmt.Errorf("discover.%s: %q is a number and needs no DNS: write it under addresses", s.setting, s.address)
		} else if err == nil && s.setting == "srv" && parsed.Authority != parsed.Host {
			return fmt.Errorf("discover.srv: %q has a port, which the SRV records say: leave it out", s.address)
		}
	}
	if d.DNS != "" && d.SRV != "" {
		return errors.New("discover: give dns or srv, not both")
	}
	if d.Server != "" {
		if d.DNS == "" && d.SRV == "" {
			return errors.New("discover.dns-server: there is no name to ask it for: write discover.dns or discover.srv, too")
		}
		if server, err := netip.ParseAddrPort(d.Server); err != nil || server.Port() == 0 {
			return fmt.Errorf("discover.dns-server: %q is none: give ADDRESS:PORT, such as 10.0.0.2:53", d.Server)
		}
	}
	return nil
}

func (s *stickySettings) check() error {
	for _, c := range []byte(s.Cookie) { // a token: RFC 6265 §4.1.1
		if c <= ' ' || c >= 0x7f || strings.IndexByte("()<>@,;:\\\"/[]?={}", c) >= 0 {
			return fmt.Errorf("sticky.cookie: %q is no name of a cookie: use letters, digits, - and _", s.Cookie)
		}
	}
	if s.Cookie == "" && *s != (stickySettings{}) {
		return errors.New("sticky.cookie: the name is missing, such as {cookie: service}")
	}
	return between("sticky.max-age", s.MaxAge, time.Second, 400*24*time.Hour)
}

// pingHealth in the place of a path is CoAP's own ping.
const pingHealth = "ping"

// check refuses bad settings; coap says that the addresses speak CoAP.
func (h *healthSettings) check(coap bool) error {
	kinds := 0
	for _, given := range []bool{h.HTTP != "", h.TCP, h.GRPC != nil, h.CoAP != ""} {
		if given {
			kinds++
		}
	}
	if kinds > 1 || kinds == 0 && (h.Host != "" || len(h.Statuses) > 0 || h.Interval != 0 || h.Timeout != 0 || h.Healthy != 0 || h.Unhealthy != 0) {
		return errors.New("health: give one of {http: /PATH}, {tcp: true}, {grpc: SERVICE} and {coap: /PATH} or {coap: ping}")
	}
	if kinds == 1 && (h.CoAP != "") != coap {
		return errors.New("health: services that speak CoAP are checked with {coap: ping} or {coap: /PATH}, others with http, tcp or grpc")
	}
	if h.CoAP != "" && h.CoAP != pingHealth && !validPath(h.CoAP) {
		return fmt.Errorf("health.coap: %q is no path: give one such as /health, or ping", h.CoAP)
	}
	if h.HTTP != "" && !validPath(h.HTTP) {
		return fmt.Errorf("health.http: %q is no path: give one such as /healthz", h.HTTP)
	}
	if h.Host != "" {
		if _, err := fieldgate.ParseTargetAddress("http://" + h.Host); err != nil {
			return fmt.Errorf("health.host: %q is none: give HOST or HOST:PORT", h.Host)
		}
	}
	if h.HTTP == "" && (h.Host != "" || len(h.Statuses) > 0 && (h.CoAP == "" || h.CoAP == pingHealth)) {
		return errors.New("health: host and statuses go with {http: /PATH}: leave them out")
	}
	if h.GRPC != nil && (*h.GRPC == "true" || *h.GRPC == "false") {
		return errors.New(`health.grpc: write the name of the service, or "" for the server as a whole`)
	}
	if _, err := h.statuses(); err != nil {
		return err
	}
	return cmp.Or(between("health.interval", h.Interval, 100*time.Millisecond, time.Hour), between("health.timeout", h.Timeout, 10*time.Millisecond, time.Minute),
		between("health.healthy", h.Healthy, 1, 100), between("health.unhealthy", h.Unhealthy, 1, 100))
}

// validPath says whether text can be sent as a path, with a query if need be (RFC 9112 §3.2.1).
func validPath(text string) bool {
	_, err := url.ParseRequestURI(text)
	return err == nil && text[0] == '/' && h1.ValidTarget(text) && !strings.Contains(text, "#")
}

func (h *healthSettings) statuses() ([]fieldgate.StatusRange, error) {
	var ranges []fieldgate.StatusRange
	for _, text := range h.Statuses {
		low, high, found := strings.Cut(text, "-")
		if !found {
			high = low
		}
		from, err1 := strconv.Atoi(low)
		to, err2 := strconv.Atoi(high)
		if err1 != nil || err2 != nil || from < 100 || to > 599 || from > to || len(h.Statuses) > 100 {
			return nil, fmt.Errorf("health.statuses: %q is none: write up to 100 of the form 204 or 200-299", text)
		}
		ranges = append(ranges, fieldgate.StatusRange{From: from, To: to})
	}
	return ranges, nil
}

func (o *outlierSettings) check() error {
	if o.Consecutive != nil && (*o.Consecutive < 0 || *o.Consecutive > 1000) {
		return fmt.Errorf("outlier.consecutive: %d is out of range: write 1 to 1000, or 0 to leave it off", *o.Consecutive)
	}
	if o.Ejection > cmp.Or(o.MaxEjection, time.Minute) {
		return fmt.Errorf("outlier.ejection: %v is longer than max-ejection, %v: write max-ejection as long or longer", o.Ejection, cmp.Or(o.MaxEjection, time.Minute))
	}
	return cmp.Or(percent("outlier.failure-percent", &o.FailurePercent, 0), percent("outlier.max-ejected", o.MaxEjected, 1),
		between("outlier.minimum-calls", o.MinimumCalls, 1, 1_000_000), between("outlier.window", o.Window, time.Second, time.Hour),
		between("outlier.ejection", o.Ejection, 100*time.Millisecond, time.Hour), between("outlier.max-ejection", o.MaxEjection, 100*time.Millisecond, 24*time.Hour))
}

func (c *circuitSettings) check() error {
	if c.FailurePercent == 0 && *c != (circuitSettings{}) {
		return errors.New("circuit.failure-percent: it is missing, such as 50")
	}
	return cmp.Or(percent("circuit.failure-percent", &c.FailurePercent, 0), between("circuit.minimum-calls", c.MinimumCalls, 1, 1_000_000),
		between("circuit.window", c.Window, time.Second, time.Hour), between("circuit.open", c.Open, 100*time.Millisecond, time.Hour))
}

// between says what to write when a setting that is given lies outside its bounds.
func between[T cmp.Ordered](setting string, value, low, high T) error {
	var none T
	if value == none || value >= low && value <= high {
		return nil
	}
	return fmt.Errorf("%s: %v is out of range: write %v to %v", setting, value, low, high)
}

func percent(setting string, value *int, low int) error {
	if value != nil && (*value < low || *value > 100) {
		return fmt.Errorf("%s: %d is out of range: write %d to 100", setting, *value, low)
	}
	return nil
}

// upstreamList is the upstreams in the order of their names.
func (e *environment) upstreamList() []fieldgate.Upstream {
	list := make([]fieldgate.Upstream, 0, len(e.Upstreams))
	for name, u := range e.Upstreams {
		config := u.configured(name, e.Zone)
		u.configure(&config, filepath.Dir(e.path))
		list = append(list, config)
	}
	if o := e.CoAP.OnRamp; o != nil && !o.named() {
		list = append(list, fieldgate.Upstream{Name: coapOnRampUpstream, Addresses: []string{o.Upstream}, Zone: e.Zone})
	}
	slices.SortFunc(list, func(a, b fieldgate.Upstream) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// configured is the upstream, which was checked, in the gateway's words.
func (u *upstream) configured(name, zone string) fieldgate.Upstream {
	config := fieldgate.Upstream{
		Name: name, Addresses: u.Addresses, ConnectTimeout: u.ConnectTimeout, Timeout: u.Timeout, MaxConnections: u.MaxConnections,
		Discovery: fieldgate.Discovery(u.Discover),
		Algorithm: fieldgate.Algorithm(u.Balance), HashLoad: u.HashLoad,
		Sticky:    fieldgate.Sticky{Cookie: u.Sticky.Cookie, MaxAge: u.Sticky.MaxAge, Secure: u.Sticky.Secure, Secret: u.Sticky.secret},
		SlowStart: u.SlowStart, Zone: zone, Overprovisioning: u.Overprovision, PanicPercent: orNever(u.PanicPercent), CountServerErrors: u.ServerErrors,
		Health: fieldgate.HealthCheck{Host: u.Health.Host, Interval: u.Health.Interval, Timeout: u.Health.Timeout,
			Healthy: u.Health.Healthy, Unhealthy: u.Health.Unhealthy},
		Outlier: fieldgate.Outlier{Consecutive: orNever(u.Outlier.Consecutive), FailurePercent: u.Outlier.FailurePercent, MinimumCalls: u.Outlier.MinimumCalls,
			Window: u.Outlier.Window, Ejection: u.Outlier.Ejection, MaxEjection: u.Outlier.MaxEjection},
		Circuit: fieldgate.Circuit(u.Circuit),
	}
	if u.Outlier.MaxEjected != nil {
		config.Outlier.MaxEjected = *u.Outlier.MaxEjected
	}
	for _, t := range u.Targets {
		converted := fieldgate.Target{Address: t.Address, Zone: t.Zone, Priority: t.Priority}
		if t.Weight != nil {
			converted.Weight = *t.Weight
		}
		config.Targets = append(config.Targets, converted)
	}
	if u.HashBy != "" {
		config.HashBy, _ = fieldgate.ParseHashBy(u.HashBy)
	}
	config.Health.Statuses, _ = u.Health.statuses()
	switch {
	case u.Health.HTTP != "":
		config.Health.Kind, config.Health.Path = fieldgate.HealthHTTP, u.Health.HTTP
	case u.Health.TCP:
		config.Health.Kind = fieldgate.HealthTCP
	case u.Health.CoAP == pingHealth:
		config.Health.Kind = fieldgate.HealthCoAP
	case u.Health.CoAP != "":
		config.Health.Kind, config.Health.Path = fieldgate.HealthCoAP, u.Health.CoAP
	case u.Health.GRPC != nil:
		config.Health.Kind, config.Health.Service = fieldgate.HealthGRPC, *u.Health.GRPC
	}
	return config
}

// orNever is a setting of which 0 means never, in the gateway's words, where 0 is the default and -1 means never.
func orNever(setting *int) int {
	switch {
	case setting == nil:
		return 0
	case *setting == 0:
		return -1
	}
	return *setting
}
