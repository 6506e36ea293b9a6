package insight

import (
	"time"

	"github.com/axiomhq/hyperloglog"
	"github.com/cespare/xxhash/v2"

	"fieldgate"
)

const (
	minute = 60
	hour   = 3600
	day    = 24 * hour

	maxPendingRecords = 1 << 18 // read but not stored; then reading waits for the store
	maxPendingThings  = 2_000   // rows and parts of rows that one flush changes, so that no flush takes the store for long
	maxUses           = 1_000   // models and firmware versions by operation that are told apart in a day of a version

	other = "(other)" // stands for what is beyond a bound
)

// newCallers makes a sketch that is exact for some hundred callers and within about 2 % above, in 2 KiB.
func newCallers() *hyperloglog.Sketch {
	sketch, err := hyperloglog.NewSketch(11, true)
	if err != nil {
		panic(err)
	}
	return sketch
}

// callerHash names a caller in sketches. It is part of what is stored.
func callerHash(r *fieldgate.Record) uint64 {
	return xxhash.Sum64String(string(r.Kind) + " " + r.Principal)
}

// operationKey names an operation; all empty where no contract explains an exchange.
type operationKey struct{ api, version, operation string }

type trafficKey struct {
	span         int   // seconds
	start        int64 // seconds since 1970
	api, version string
	protocol     fieldgate.Protocol
}

type trafficSum struct {
	counts
	operations map[string]*operationSum
}

type operationSum struct {
	counts
	findings [findingKinds]uint64
	latency  latency
}

type totalKey struct {
	span     int
	start    int64
	protocol fieldgate.Protocol
}

type callersKey struct {
	span  int
	start int64
	operationKey
}

type useKey struct {
	start        int64 // of the day
	api, version string
}

type findingKey struct {
	operationKey
	finding string
}

// finding is what is new of a finding, with its newest example.
type finding struct {
	first, last time.Time
	example     fieldgate.Record
	instance    string
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

// pending is what has been counted and not yet stored. Exchanges are summed up by minute, callers by hour; hours and days are
// made of them when they are stored.
type pending struct {
	records        int
	things         int // see maxPendingThings
	newest         time.Time
	traffic        map[trafficKey]*trafficSum
	callers        map[callersKey]*hyperloglog.Sketch
	uses           map[useKey]map[use]useCount
	findings       map[findingKey]*finding
	routes         map[routeKey]*route
	routesOverflow uint64
	firsts         map[firstKey]time.Time
}

func newPending() *pending {
	return &pending{traffic: make(map[trafficKey]*trafficSum), callers: make(map[callersKey]*hyperloglog.Sketch),
		uses: make(map[useKey]map[use]useCount), findings: make(map[findingKey]*finding), routes: make(map[routeKey]*route),
		firsts: make(map[firstKey]time.Time)}
}

func (p *pending) full() bool { return p.records >= maxPendingRecords || p.things >= maxPendingThings }

// add counts one Record of a batch. Routes, models and firmware versions that are new are listed while there is place.
func (p *pending) add(batch *fieldgate.RecordBatch, r *fieldgate.Record, listed *listing, known *firsts) {
	p.records++
	if r.Time.After(p.newest) {
		p.newest = r.Time
	}
	seconds := r.Time.Unix()
	p.addTraffic(r, seconds)
	operation := operationKey{r.API, r.Version, r.Operation}
	if r.Principal != "" {
		key := callersKey{hour, seconds - seconds%hour, operation}
		callers := p.callers[key]
		if callers == nil {
			callers = newCallers()
			p.callers[key] = callers
			p.things++
		}
		callers.InsertHash(callerHash(r))
	}
	if r.Kind == fieldgate.PrincipalDevice {
		p.addUse(r, seconds)
		if key := (firstKey{firstFirmware, r.Model, r.Firmware}); known.isNew(key) {
			p.firsts[key] = r.Time
		}
		if key := (firstKey{firstModel, r.Model, ""}); known.isNew(key) {
			p.firsts[key] = r.Time
		}
	}
	for _, name := range r.Findings.Names() {
		p.addFinding(batch, r, findingKey{operation, name})
	}
	if r.Findings&(fieldgate.FindingUndocumented|fieldgate.FindingUnmatched) != 0 {
		p.addRoute(r, listed)
	}
}

func (p *pending) addTraffic(r *fieldgate.Record, seconds int64) {
	key := trafficKey{minute, seconds - seconds%minute, r.API, r.Version, r.Protocol}
	sum := p.traffic[key]
	if sum == nil {
		sum = &trafficSum{operations: make(map[string]*operationSum)}
		p.traffic[key] = sum
		p.things++
	}
	operation := sum.operations[r.Operation]
	if operation == nil {
		operation = &operationSum{}
		sum.operations[r.Operation] = operation
		p.things++
	}
	one := counts{exchanges: 1, bytesIn: r.BytesIn, bytesOut: r.BytesOut}
	switch {
	case r.Status >= 500:
		one.failed = 1
	case r.Status >= 400:
		one.refused = 1
	}
	sum.add(one)
	operation.add(one)
	for i := range operation.findings {
		operation.findings[i] += uint64(r.Findings >> i & 1)
	}
	operation.latency.add(binOf(r.Duration), 1)
}

func (p *pending) addUse(r *fieldgate.Record, seconds int64) {
	key := useKey{seconds - seconds%day, r.API, r.Version}
	uses := p.uses[key]
	if uses == nil {
		uses = make(map[use]useCount)
		p.uses[key] = uses
		p.things++
	}
	addUse(uses, use{r.Operation, r.Model, r.Firmware}, useCount{1, uint64(max(seconds, 0))})
}

// addUse adds to the uses of a version; beyond maxUses further models and firmware versions are counted together.
func addUse(uses map[use]useCount, u use, more useCount) {
	n, known := uses[u]
	if !known && len(uses) >= maxUses {
		u = use{other, other, other}
		n = uses[u]
	}
	uses[u] = useCount{n.exchanges + more.exchanges, max(n.last, more.last)}
}

func (p *pending) addFinding(batch *fieldgate.RecordBatch, r *fieldgate.Record, key findingKey) {
	f := p.findings[key]
	if f == nil {
		f = &finding{first: r.Time, last: r.Time}
		p.findings[key] = f
		p.things++
	}
	if r.Time.Before(f.first) {
		f.first = r.Time
	}
	if !r.Time.Before(f.last) {
		f.last, f.example, f.instance = r.Time, *r, string(fieldgate.AppendInstance(nil, batch.Node, batch.Epoch, r.Exchange))
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
		p.things++
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
