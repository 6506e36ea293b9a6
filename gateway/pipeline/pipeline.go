// Package pipeline decides about every exchange, whatever protocol it came by:
//
//	match → identify → admit → limit → check → forward → record
//
// A protocol front frames the bytes, fills an Exchange, and calls in this order:
//
//	problem := p.Begin(x)          // match, identify, admit, limit: all that needs no body; x.Answered() when nothing is left to do
//	x.Body = …                     // read it, at most x.MaxBody() bytes, if x.Buffered()
//	problem = p.Check(x)           // content type and schema, if x.Buffered()
//	problem = p.Forward(x)         // upstream, mock or broker; fills x.Answer
//	p.Finish(x)                    // exactly once, whatever happened: one Record
//
// and writes x.Answer, or the first problem, in its own protocol's words. When a step answers with a problem the next are
// left out, but never Finish. A front that can stream (HTTP) forwards an exchange that is not Buffered itself and sets
// x.Answer.Status and the byte counts before Finish. Subscriptions (MQTT SUBSCRIBE, SSE, WebSocket, CoAP observe) go through
// Subscribe, connections with a state of their own (MQTT) through Identify.
//
// The pipeline owns the linked program, the limits' state and the counters. It never opens a connection of its own accord
// besides calls to upstreams, and never asks the control plane anything.
package pipeline

import (
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/cache"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/upstream"
)

// Recorder takes in a copy of one Record for each exchange. It must not block.
type Recorder interface {
	// Add takes in a copy of the Record of one exchange, and gives a ticket for Fold; 0: none.
	Add(record *fieldgate.Record) (ticket uint64)
	// Fold lets the Record of a ticket stand for one more exchange like it; no: that one is to be added.
	Fold(ticket uint64, duration time.Duration, bytesIn, bytesOut uint64) bool
}

// Config is all that a Pipeline works with.
type Config struct {
	Node      string // name of this gateway, part of instance names
	Epoch     uint64 // tells one start of the node from another, part of instance names
	Directory *directory.Directory
	Upstreams *upstream.Set
	Broker    *broker.Broker
	Recorder  Recorder
	Cache     *cache.Cache // nil: one of the default size
	Bus       *bus.Bus     // by which gateways share what becomes of commands; nil: this one knows its own only
	Quotas    *Quotas      // nil: of its own, in memory
}

// Pipeline is safe for concurrent use.
type Pipeline struct {
	Directory *directory.Directory
	Upstreams *upstream.Set
	Broker    *broker.Broker
	Cache     *cache.Cache

	Devices  AskDevice // nil: there is no resource directory; set before the first exchange
	Sessions Sessions  // of MQTT; nil: there are none; likewise

	Unprojected atomic.Uint64 // messages and answers of which nothing could be taken for those who may not see all

	observations  observations
	commands      *commands
	bus           *bus.Bus      // nil: nothing of commands is shared
	repairs       chan struct{} // one token for each under way
	flights       flights
	revalidations chan struct{} // one token for each under way
	gathered      atomic.Int64  // bytes of answers that are gathered to be kept

	node     string
	epoch    uint64
	recorder Recorder
	program  atomic.Pointer[Program]
	limits   *limiter
	quotas   *Quotas
	number   atomic.Uint64 // of the newest exchange
	timed    atomic.Int64  // when the newest exchange began whose stages are timed, in nanoseconds since 1970
	tap      atomic.Pointer[Tap]
	access   atomic.Pointer[AccessLog]
}

// New makes a pipeline that knows no contract until Install.
func New(config Config) *Pipeline {
	p := &Pipeline{Directory: config.Directory, Upstreams: config.Upstreams, Broker: config.Broker, node: config.Node,
		epoch: config.Epoch, recorder: config.Recorder, limits: newLimiter()}
	if p.Cache = config.Cache; p.Cache == nil {
		p.Cache = cache.New(cache.DefaultSize)
	}
	p.commands, p.bus, p.repairs = newCommands(), config.Bus, make(chan struct{}, maxRepairs)
	if p.quotas = config.Quotas; p.quotas == nil {
		p.quotas = &Quotas{directory: p.Directory, used: make(map[quotaKey]*usage)}
	}
	p.observations.byName, p.observations.sessions = make(map[string]*observed), make(map[string][]*observed)
	p.observations.program = make(chan struct{}, 1)
	p.flights.byKey, p.flights.most = make(map[string]*flight), maxFlight
	p.revalidations = make(chan struct{}, maxRevalidations)
	p.program.Store(&Program{Serial: serials.Add(1)})
	return p
}

// Program is the program in force. An Exchange keeps the one that it began with.
func (p *Pipeline) Program() *Program { return p.program.Load() }

// Install puts a linked Snapshot into force for all exchanges that begin from now on. No connection is touched.
func (p *Pipeline) Install(program *Program) {
	p.program.Store(program)
	select {
	case p.observations.program <- struct{}{}:
	default:
	}
}

// Begin runs the stages that need no body. It starts the exchange's clock unless the front has set x.Started.
func (p *Pipeline) Begin(x *Exchange) *fieldgate.Problem {
	p.start(x)
	x.Enter(fieldgate.StageMatch)
	var asOf uint32
	if x.Grants != nil {
		asOf = p.version(x.Caller) // before anything else is asked about it: a change meanwhile makes void what comes of it
		if p.recall(x, asOf) {
			x.offer()
			return p.run(x, x.Operation.eachMessage)
		}
	}
	problem := p.match(x)
	x.offer()
	if problem != nil {
		if x.matchPreflight() {
			x.Leave()
			return nil
		}
		x.Fail(problem)
		p.recognise(x) // who knocks at doors that do not exist is worth knowing
		return problem
	}
	if problem = p.run(x, x.Operation.beforeBody); problem == nil && x.Grants != nil {
		p.keepGrant(x, asOf)
	}
	return problem
}

// Check runs the stages that look at the body.
func (p *Pipeline) Check(x *Exchange) *fieldgate.Problem {
	x.BytesIn = uint64(len(x.Body))
	if x.Copy != nil {
		x.Copy.Request(x.Body)
	}
	return p.run(x, x.Operation.withBody)
}

// run takes the exchange through stages, up to the first that refuses it.
func (p *Pipeline) run(x *Exchange, steps []step) *fieldgate.Problem {
	for i := range steps {
		x.Enter(steps[i].stage)
		if problem := steps[i].run(p, x); problem != nil {
			x.Fail(problem)
			return problem
		}
		if x.answered {
			break
		}
	}
	x.Leave()
	return nil
}

// start gives the exchange its number, clock and program.
func (p *Pipeline) start(x *Exchange) {
	if x.Started.IsZero() {
		x.Started = time.Now()
	}
	x.number = p.number.Add(1)
	x.tap = p.tap.Load()
	x.timed = x.tap != nil || p.isTimed(x.Started)
	x.program = p.program.Load()
}
