package insight

import (
	"iter"
	"math/bits"
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
	maxPendingThings  = 2_000   // rows that one flush changes, so that no flush takes the store for long
	maxPendingPlaces  = 20_000  // parts of them
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
	var text [64]byte // enough for most
	return xxhash.Sum64(append(append(append(text[:0], r.Kind...), ' '), r.Principal...))
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
	byName     []namedSum // see sorted
}

type operationSum struct {
	packedOperation
	latency latency
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
	newest      *fieldgate.Record // of the batch that is being added; then example
	example     fieldgate.Record
	instance    string
}

// findingsOf yields the findings of a Record that have a name, by the number of their bit.
func findingsOf(r *fieldgate.Record) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		for rest := uint32(r.Findings); rest != 0; rest &= rest - 1 {
			kind := bits.TrailingZeros32(rest)
			if kind >= len(findingNames) || !yield(kind, findingNames[kind]) {
				return
			}
		}
	}
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
	exchanges      uint64 // that the records stand for
	things         int    // see maxPendingThings
	newest         time.Time
	traffic        map[trafficKey]*trafficSum
	callers        map[callersKey]*hyperloglog.Sketch
	uses           map[useKey]map[use]*useCount
	findings       map[findingKey]*finding
	routes         map[routeKey]*route
	routesOverflow uint64
	firsts         map[firstKey]time.Time

	// Where Records are counted, found once for all Records of an operation in a minute.
	places map[placeKey]*place
	last   *place     // of the Record before
	shown  []*finding // that have a newest
}

type placeKey struct {
	minute   int64 // seconds since 1970
	protocol fieldgate.Protocol
	operationKey
}

// place is where the Records of an operation and a minute are counted. What is not needed yet is nil.
type place struct {
	placeKey
	traffic   *trafficSum
	operation *operationSum
	callers   *hyperloglog.Sketch
	uses      map[use]*useCount
	findings  *[findingKinds]*finding

	// Of the Record before, which the next is often like.
	caller   string
	kind     fieldgate.PrincipalKind
	use      use
	count    *useCount // of use; nil: none
	routeKey routeKey
	route    *route // of routeKey
}

func newPending() *pending {
	return &pending{traffic: make(map[trafficKey]*trafficSum), callers: make(map[callersKey]*hyperloglog.Sketch),
		uses: make(map[useKey]map[use]*useCount), findings: make(map[findingKey]*finding), routes: make(map[routeKey]*route),
		firsts: make(map[firstKey]time.Time), places: make(map[placeKey]*place)}
}

func (p *pending) full() bool {
	return p.records >= maxPendingRecords || p.things >= maxPendingThings || len(p.places) >= maxPendingPlaces
}

// add counts Records of a batch. Routes, models and firmware versions that are new are listed while there is place.
func (p *pending) add(batch *fieldgate.RecordBatch, records []fieldgate.Record, listed *listing, known *firsts) {
	for i := range records {
		p.addOne(&records[i], listed, known)
	}
	for _, f := range p.shown {
		f.example, f.instance = *f.newest, string(fieldgate.AppendInstance(nil, batch.Node, batch.Epoch, f.newest.Exchange))
		f.newest = nil
	}
	p.shown = p.shown[:0]
}

func (p *pending) addOne(r *fieldgate.Record, listed *listing, known *firsts) {
	p.records++
	p.exchanges += r.Exchanges()
	if r.Time.After(p.newest) {
		p.newest = r.Time
	}
	seconds := r.Time.Unix()
	at := p.at(placeKey{seconds - seconds%minute, r.Protocol, operationKey{r.API, r.Version, r.Operation}})
	at.addTraffic(r)
	if r.Principal != "" && (r.Principal != at.caller || r.Kind != at.kind) {
		at.caller, at.kind = r.Principal, r.Kind
		if at.callers == nil {
			at.callers = p.callersAt(at)
		}
		at.callers.InsertHash(callerHash(r))
	}
	if r.Kind == fieldgate.PrincipalDevice {
		p.addUse(at, r, uint64(max(seconds, 0)), known)
	}
	for kind, name := range findingsOf(r) {
		p.addFinding(at, r, kind, name)
	}
	if r.Findings&(fieldgate.FindingUndocumented|fieldgate.FindingUnmatched) != 0 {
		p.addRoute(at, r, listed)
	}
}

// at is the place of an operation and a minute.
func (p *pending) at(key placeKey) *place {
	if p.last != nil && p.last.placeKey == key {
		return p.last
	}
	at := p.places[key]
	if at == nil {
		at = p.newPlace(key)
		p.places[key] = at
	}
	p.last = at
	return at
}

func (p *pending) newPlace(key placeKey) *place {
	whole := trafficKey{minute, key.minute, key.api, key.version, key.protocol}
	sum := p.traffic[whole]
	if sum == nil {
		sum = &trafficSum{operations: make(map[string]*operationSum)}
		p.traffic[whole] = sum
		p.things++
	}
	operation := &operationSum{}
	sum.operations[key.operation] = operation
	return &place{placeKey: key, traffic: sum, operation: operation}
}

func (at *place) addTraffic(r *fieldgate.Record) {
	n := r.Exchanges()
	sum := counts{exchanges: n, bytesIn: r.BytesIn, bytesOut: r.BytesOut}
	switch {
	case r.Status >= 500:
		sum.failed = n
	case r.Status >= 400:
		sum.refused = n
	}
	at.traffic.add(sum)
	at.operation.counts.add(sum)
	for rest := uint32(r.Findings); rest != 0; rest &= rest - 1 {
		at.operation.findings[bits.TrailingZeros32(rest)] += n
	}
	at.operation.latency.add(binOf(r.Duration), 1)
	for _, micros := range r.Others {
		at.operation.latency.add(binOf(time.Duration(micros)*time.Microsecond), 1)
	}
}

// callersAt is the sketch of an operation's callers in the hour of a place.
func (p *pending) callersAt(at *place) *hyperloglog.Sketch {
	key := callersKey{hour, at.minute - at.minute%hour, at.operationKey}
	callers := p.callers[key]
	if callers == nil {
		callers = newCallers()
		p.callers[key] = callers
		p.things++
	}
	return callers
}

func (p *pending) addUse(at *place, r *fieldgate.Record, seconds uint64, known *firsts) {
	u := use{r.Operation, r.Model, r.Firmware}
	if at.count == nil || u != at.use {
		if key := (firstKey{firstFirmware, r.Model, r.Firmware}); known.isNew(key) {
			p.firsts[key] = r.Time
		}
		if key := (firstKey{firstModel, r.Model, ""}); known.isNew(key) {
			p.firsts[key] = r.Time
		}
		if at.uses == nil {
			at.uses = p.usesAt(at)
		}
		at.use, at.count = u, countOf(at.uses, u)
	}
	at.count.add(useCount{r.Exchanges(), seconds})
}

// usesAt is the uses of a version on the day of a place.
func (p *pending) usesAt(at *place) map[use]*useCount {
	key := useKey{at.minute - at.minute%day, at.api, at.version}
	uses := p.uses[key]
	if uses == nil {
		uses = make(map[use]*useCount)
		p.uses[key] = uses
		p.things++
	}
	return uses
}

// countOf is where a use of a version is counted; beyond maxUses further models and firmware versions are counted together.
func countOf(uses map[use]*useCount, u use) *useCount {
	n := uses[u]
	if n == nil && len(uses) >= maxUses {
		u = use{other, other, other}
		n = uses[u]
	}
	if n == nil {
		n = &useCount{}
		uses[u] = n
	}
	return n
}

func (n *useCount) add(more useCount) {
	n.exchanges += more.exchanges
	n.last = max(n.last, more.last)
}

func (p *pending) addFinding(at *place, r *fieldgate.Record, kind int, name string) {
	if at.findings == nil {
		at.findings = &[findingKinds]*finding{}
	}
	f := at.findings[kind]
	if f == nil {
		key := findingKey{at.operationKey, name}
		if f = p.findings[key]; f == nil {
			f = &finding{first: r.Time, last: r.Time}
			p.findings[key] = f
			p.things++
		}
		at.findings[kind] = f
	}
	if r.Time.Before(f.first) {
		f.first = r.Time
	}
	if !r.Time.Before(f.last) {
		if f.newest == nil {
			p.shown = append(p.shown, f)
		}
		f.last, f.newest = r.Time, r
	}
}

func (p *pending) addRoute(at *place, r *fieldgate.Record, listed *listing) {
	key := routeKey{r.Protocol, r.Method, r.Route, r.API}
	if at.route == nil || key != at.routeKey {
		seen := p.routes[key]
		if seen == nil {
			if !listed.admit(key) {
				p.routesOverflow++
				return
			}
			seen = &route{first: r.Time}
			p.routes[key] = seen
			p.things++
		}
		at.routeKey, at.route = key, seen
	}
	at.route.exchanges += r.Exchanges()
	at.route.last = r.Time
	if r.Principal != "" {
		at.route.principal = r.Principal
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
