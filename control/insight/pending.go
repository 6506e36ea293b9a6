package insight

import (
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"
	"github.com/axiomhq/hyperloglog"

	"fieldgate"
)

const (
	minute = 60
	hour   = 3600

	maxRollupKeys = 10_000 // pending at once; further firmware versions are counted together

	otherFirmware = "(other)"
)

// Latencies are kept within 1 %, between a microsecond and an hour: about 1,100 bins at the most.
var latencyMapping = func() mapping.IndexMapping {
	m, err := mapping.NewLogarithmicMapping(0.01)
	if err != nil {
		panic(err)
	}
	return m
}()

const maxLatency = time.Hour

func newLatency() *ddsketch.DDSketch {
	return ddsketch.NewDDSketchFromStoreProvider(latencyMapping, store.BufferedPaginatedStoreConstructor)
}

// operationKey names an operation; all empty where no contract explains an exchange.
type operationKey struct{ api, version, operation string }

type rollupKey struct {
	span  int   // seconds
	start int64 // seconds since 1970
	operationKey
	class    int // status divided by 100
	protocol fieldgate.Protocol
	firmware string
}

type rollup struct {
	exchanges, bytesIn, bytesOut uint64
	latency                      *ddsketch.DDSketch
}

type callersKey struct {
	start int64 // of the hour
	operationKey
}

type findingKey struct {
	start int64 // of the hour
	operationKey
	finding string
}

type finding struct {
	exchanges uint64
	example   string
}

type routeKey struct {
	protocol fieldgate.Protocol
	method   fieldgate.Method
	route    string
	api      string
}

type route struct {
	exchanges   uint64
	principal   string
	first, last time.Time
}

// pending is what has been counted and not yet stored.
type pending struct {
	records        int
	rollups        map[rollupKey]*rollup
	callers        map[callersKey]*hyperloglog.Sketch
	findings       map[findingKey]*finding
	routes         map[routeKey]*route
	routesOverflow uint64
}

func newPending() *pending {
	return &pending{rollups: make(map[rollupKey]*rollup), callers: make(map[callersKey]*hyperloglog.Sketch),
		findings: make(map[findingKey]*finding), routes: make(map[routeKey]*route)}
}

// add counts one Record; routes that are new are listed while there is place.
func (p *pending) add(r *fieldgate.Record, listed *listing) {
	p.records++
	operation := operationKey{r.API, r.Version, r.Operation}
	seconds := r.Time.Unix()
	for _, span := range [...]int{minute, hour} {
		key := rollupKey{span, seconds - seconds%int64(span), operation, r.Status / 100, r.Protocol, r.Firmware}
		sum := p.rollups[key]
		if sum == nil {
			if len(p.rollups) >= maxRollupKeys && key.firmware != "" {
				key.firmware = otherFirmware
				sum = p.rollups[key]
			}
			if sum == nil {
				sum = &rollup{latency: newLatency()}
				p.rollups[key] = sum
			}
		}
		sum.exchanges++
		sum.bytesIn += r.BytesIn
		sum.bytesOut += r.BytesOut
		latency := float64(max(r.Duration, time.Microsecond)) / float64(time.Microsecond)
		if err := sum.latency.Add(latency); err != nil {
			panic(err) // the bounds above are within the mapping
		}
	}
	start := seconds - seconds%hour
	if r.Principal != "" {
		key := callersKey{start, operation}
		if p.callers[key] == nil {
			p.callers[key] = hyperloglog.New14()
		}
		p.callers[key].Insert([]byte(string(r.Kind) + " " + r.Principal))
	}
	for _, name := range r.Findings.Names() {
		key := findingKey{start, operation, name}
		if p.findings[key] == nil {
			p.findings[key] = &finding{}
		}
		p.findings[key].exchanges++
		if example := exampleOf(r); example != "" {
			p.findings[key].example = example
		}
	}
	if r.Findings&(fieldgate.FindingUndocumented|fieldgate.FindingUnmatched) != 0 {
		p.addRoute(r, listed)
	}
}

func (p *pending) addRoute(r *fieldgate.Record, listed *listing) {
	key := routeKey{r.Protocol, r.Method, r.Route, r.API}
	if !listed.admit(key) {
		p.routesOverflow++
		return
	}
	seen := p.routes[key]
	if seen == nil {
		seen = &route{first: r.Time}
		p.routes[key] = seen
	}
	seen.exchanges++
	seen.last = r.Time
	if r.Principal != "" {
		seen.principal = r.Principal
	}
}

// exampleOf is what shows a finding best: what the payload breaks, or the route.
func exampleOf(r *fieldgate.Record) string {
	text := r.Detail
	if text == "" {
		text = r.Route
	}
	return text
}
