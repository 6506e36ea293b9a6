package pipeline

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/mqtt"
)

// A resource of a service that speaks CoAP is observed (RFC 7641) as long as somebody hears it, once for all of them, whatever protocol they speak. What
// the service notifies is a message on the operation's topic, at this gateway: each one observes for its own.

// observations are the resources that are observed.
type observations struct {
	running sync.WaitGroup
	filters atomic.Int32  // how many are in sessions
	program chan struct{} // holds a token when there is another one

	mu       sync.Mutex
	context  context.Context // of Observe; nil: it does not run
	byName   map[string]*observed
	sessions map[string][]*observed // by filters that sessions have subscribed to
}

// Sessions are those of MQTT, as far as what they have subscribed to concerns services that are observed.
type Sessions interface {
	// Subscribed says whether a session has subscribed to exactly this filter. It must not wait for anything.
	Subscribed(filter string) bool
	// Filters calls visit with the wanted filters that a session hears something by, maybe more than once with the same.
	Filters(wanted func(filter string) bool, visit func(filter string))
}

// observed is a resource that somebody hears.
type observed struct {
	pipeline *Pipeline
	name     string
	topic    string    // empty: only streams hear it
	exchange *Exchange // that asks for it; nobody's in particular
	newest   atomic.Pointer[heardAnswer]

	// With observations.mu held:
	hearers int
	streams map[broker.Subscriber]struct{} // of hearers, those that can be told that it has ended
	stop    context.CancelFunc             // nil: it has not begun
}

// heardAnswer is what a service has notified last.
type heardAnswer struct {
	answer  Answer
	message *broker.Message
}

// Ender is a subscriber that can be told that what it hears has come to an end, or cannot be had. End must not block.
type Ender interface {
	End(problem *fieldgate.Problem)
}

// maxObserved bounds the resources that are observed at once; whoever asks for further ones hears what is published on their topic.
const maxObserved = 100_000

// maxObservedQuestion bounds the body of a FETCH whose resource is observed: it is kept, and goes in one message.
const maxObservedQuestion = 1024

// Waits before a service is asked again that did not answer: they double.
const (
	firstObserveWait = time.Second
	maxObserveWait   = time.Minute
)

// Observe looks after the observations of services until ctx ends.
func (p *Pipeline) Observe(ctx context.Context) {
	o := &p.observations
	o.mu.Lock()
	o.context = ctx
	for _, resource := range o.byName {
		o.start(resource)
	}
	o.mu.Unlock()
	for ctx.Err() == nil {
		p.attendSessions()
		select {
		case <-o.program:
		case <-ctx.Done():
		}
	}
	o.mu.Lock()
	o.context = nil
	o.mu.Unlock()
	o.running.Wait()
}

// start begins to observe, once Observe runs; the caller holds the lock.
func (o *observations) start(resource *observed) {
	if o.context == nil {
		return
	}
	var ctx context.Context
	ctx, resource.stop = context.WithCancel(o.context)
	o.running.Go(func() { resource.run(ctx) })
}

// Attend subscribes a stream to the operation of an exchange that has passed Begin, by the filter that Filter gave. The service is observed as long
// as it lasts, where the contract says so. If present is set, what it said last is delivered at once: whoever has it answered besides need not hear it
// twice. leave ends the subscription, and may be called more than once.
func (p *Pipeline) Attend(x *Exchange, filter string, qos byte, subscriber broker.Subscriber, present bool) (leave func()) {
	unsubscribe := p.Broker.Subscribe(filter, qos, subscriber)
	if !x.Operation.ObservesService || strings.ContainsAny(filter, "+#") {
		return unsubscribe
	}
	resource := p.hear(p.asking(x), filter, subscriber)
	if resource == nil {
		return unsubscribe
	}
	if newest := resource.newest.Load(); newest != nil && present {
		subscriber.Deliver(newest.message.Apart(), 0)
	}
	return sync.OnceFunc(func() {
		unsubscribe()
		p.leave(resource, subscriber)
	})
}

// AttendPath has a stream hear the resource that an exchange of a pass-through API asks for, which belongs to no topic, and answers with what it is
// now. nil: it cannot be observed.
func (p *Pipeline) AttendPath(x *Exchange, subscriber broker.Subscriber) (leave func()) {
	service := p.Service(x)
	if service == nil || !service.SpeaksCoAP() || len(x.Body) > maxObservedQuestion {
		return nil
	}
	resource := p.hear(p.asking(x), "", subscriber)
	if resource == nil {
		return nil
	}
	return sync.OnceFunc(func() { p.leave(resource, subscriber) })
}

// asking is the request for what everybody hears who asks for the same as x. Of an operation with a topic it has the parameters of the topic and path.
func (p *Pipeline) asking(x *Exchange) *Exchange {
	asking := &Exchange{Protocol: x.Protocol, Method: fieldgate.MethodGet, Operation: x.Operation, program: x.program, Started: time.Now()}
	asking.setCaller(p, &asking.own)
	if asking.Protocol == fieldgate.ProtocolHTTP { // otherwise it would ask for the path as it came, which it has not
		asking.Protocol = fieldgate.ProtocolSSE
	}
	o := x.Operation
	if o.PassThrough {
		asking.Path, asking.Query, asking.Accept = bytes.Clone(x.Path), bytes.Clone(x.Query), x.Accept
		if x.Method == fieldgate.MethodFetch {
			asking.Method, asking.Body, asking.ContentType = x.Method, bytes.Clone(x.Body), bytes.Clone(x.ContentType)
		}
		return asking
	}
	for i := range o.Parameters {
		if o.Parameters[i].In == fieldgate.InPath || slices.Contains(o.subscribe.numbers, i) {
			asking.values[i] = bytes.Clone(x.values[i])
		}
	}
	return asking
}

// AttendFilter has a service observed for a filter that a session has subscribed to, before it is called. Of one with wildcards it does
// nothing: that hears what others have observed.
func (p *Pipeline) AttendFilter(filter string) {
	program, o := p.Program(), &p.observations
	if p.Sessions == nil || !program.observes || strings.ContainsAny(filter, "+#") {
		return
	}
	o.mu.Lock()
	live := slices.ContainsFunc(o.sessions[filter], func(r *observed) bool { return o.byName[r.name] == r })
	o.mu.Unlock()
	if !live {
		p.attendFilter(program, filter)
	}
}

// attendFilter has observed for a filter what a program says, in the place of what was before.
func (p *Pipeline) attendFilter(program *Program, filter string) {
	o := &p.observations
	_, topic := mqtt.SplitShare([]byte(filter))
	resources := p.hearTopic(program, string(topic))
	o.mu.Lock()
	before := o.sessions[filter]
	if len(resources) > 0 && !p.Sessions.Subscribed(filter) { // not any more
		before, resources = append(before, resources...), nil
	}
	o.setSession(filter, resources)
	o.mu.Unlock()
	p.leaveAll(before)
}

// setSession sets what is observed for a filter; the caller holds the lock.
func (o *observations) setSession(filter string, resources []*observed) {
	if delete(o.sessions, filter); len(resources) > 0 {
		o.sessions[filter] = resources
	}
	o.filters.Store(int32(len(o.sessions)))
}

// attendSessions goes through the filters of all sessions, since what the contracts say of them may be another thing than when they came.
func (p *Pipeline) attendSessions() {
	if p.Sessions == nil {
		return
	}
	program, o := p.Program(), &p.observations
	filters := make(map[string]struct{})
	if program.observes {
		observed := func(filter string) bool {
			_, topic := mqtt.SplitShare([]byte(filter))
			return !strings.ContainsAny(filter, "+#") && slices.ContainsFunc(program.topics.offered(topic, nil), offer.observed)
		}
		p.Sessions.Filters(observed, func(filter string) { filters[filter] = struct{}{} })
	}
	o.mu.Lock()
	for filter := range o.sessions {
		filters[filter] = struct{}{}
	}
	o.mu.Unlock()
	for filter := range filters {
		p.attendFilter(program, filter)
	}
}

// observed says whether who hears a topic by the operation has its service observed.
func (o offer) observed() bool {
	return o.operation.ObservesService && o.operation.Contract.State != fieldgate.LifecycleRetired
}

// hearTopic hears the resources behind a topic.
func (p *Pipeline) hearTopic(program *Program, topic string) (resources []*observed) {
	for _, offered := range program.topics.offered([]byte(topic), nil) {
		if !offered.observed() {
			continue
		}
		x := &Exchange{Protocol: fieldgate.ProtocolMQTT, Operation: offered.operation, program: program}
		for i, number := range offered.numbers {
			if number >= 0 {
				x.values[number] = offered.values[i]
			}
		}
		if resource := p.hear(p.asking(x), topic, nil); resource != nil {
			resources = append(resources, resource)
		}
	}
	return resources
}

// LeaveFilter ends what AttendFilter began, after a session has unsubscribed, if it was the last.
func (p *Pipeline) LeaveFilter(filter string) {
	o := &p.observations
	if o.filters.Load() == 0 {
		return
	}
	o.mu.Lock()
	resources := o.sessions[filter]
	if resources == nil || p.Sessions.Subscribed(filter) {
		o.mu.Unlock()
		return
	}
	o.setSession(filter, nil)
	o.mu.Unlock()
	p.leaveAll(resources)
}

func (p *Pipeline) leaveAll(resources []*observed) {
	for _, resource := range resources {
		p.leave(resource, nil)
	}
}

// observedName tells observed resources apart.
func (x *Exchange) observedName(topic string) string {
	name := []string{x.service(), x.Operation.Contract.API, x.Operation.ID, topic, x.upstreamTarget(), x.Accept}
	if x.Method == fieldgate.MethodFetch { // its body is part of what it asks for (RFC 8132 section 2.2)
		name = append(name, string(x.ContentType), string(x.Body))
	}
	return strings.Join(name, "\x00")
}

// hear counts another hearer of a resource, and begins to observe it if it is the first. nil: it is not to be had.
func (p *Pipeline) hear(asking *Exchange, topic string, subscriber broker.Subscriber) *observed {
	if asking.checkTarget() != nil {
		return nil
	}
	o, name := &p.observations, asking.observedName(topic)
	o.mu.Lock()
	resource := o.byName[name]
	if resource == nil {
		if len(o.byName) >= maxObserved {
			o.mu.Unlock()
			return nil
		}
		resource = &observed{pipeline: p, name: name, topic: topic, exchange: asking, streams: make(map[broker.Subscriber]struct{})}
		o.byName[name] = resource
		o.start(resource)
	}
	resource.hearers++
	if subscriber != nil {
		resource.streams[subscriber] = struct{}{}
	}
	o.mu.Unlock()
	return resource
}

// leave ends what hear began; after the last hearer nobody observes any more.
func (p *Pipeline) leave(resource *observed, subscriber broker.Subscriber) {
	o := &p.observations
	o.mu.Lock()
	defer o.mu.Unlock()
	if subscriber != nil {
		delete(resource.streams, subscriber)
	}
	if resource.hearers--; resource.hearers == 0 {
		o.forget(resource)
	}
}

// forget ends an observation; the caller holds the lock. Whoever comes from now on begins another one.
func (o *observations) forget(resource *observed) {
	if o.byName[resource.name] == resource {
		delete(o.byName, resource.name)
	}
	if resource.stop != nil {
		resource.stop()
	}
}

// run observes until ctx ends, over restarts of the service.
func (r *observed) run(ctx context.Context) {
	defer r.stop()
	backoff := firstObserveWait
	for {
		wait, heard := r.observe(ctx)
		if heard { // it answers without notifying: it is asked again when what it said is stale
			backoff, wait = firstObserveWait, max(wait, firstObserveWait)
		} else {
			wait, backoff = backoff, min(2*backoff, maxObserveWait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// observe does so until the service ends it, and says for how long its last word holds, or until there is no answer.
func (r *observed) observe(ctx context.Context) (fresh time.Duration, heard bool) {
	service := r.pipeline.Service(r.exchange)
	if service == nil {
		return 0, false
	}
	request, problem := r.pipeline.newCall(r.exchange, service)
	if problem != nil {
		r.end(problem)
		return 0, false
	}
	fresh, err := service.Observe(ctx, request, func(response *upstream.Response) {
		heard = response.Status < 500 && response.Status != 429
		r.notified(response)
	})
	return fresh, heard && err == nil
}

// notified makes what the service has said heard.
func (r *observed) notified(response *upstream.Response) {
	if response.Status == 429 || response.Status >= 500 {
		return // it may be better soon
	}
	if response.Status >= 400 {
		code := fieldgate.ProblemForbidden
		if response.Status == 404 || response.Status == 410 {
			code = fieldgate.ProblemNotFound
		}
		r.end(fieldgate.NewProblem(code, "The service behind this API has nothing to be heard here any more."))
		return
	}
	x := &Exchange{Protocol: fieldgate.ProtocolCoAP, Method: fieldgate.MethodGet, Operation: r.exchange.Operation, Path: []byte(r.topic)}
	r.pipeline.start(x)
	x.setCaller(r.pipeline, &x.own)
	x.Answer = answerFrom(response.Status, response.Fields, response.Body, true)
	if problem := r.pipeline.settleAnswer(x); problem != nil { // the newest one that is what the contract says stays
		x.Fail(problem)
		r.pipeline.Finish(x)
		return
	}
	message := &broker.Message{Topic: r.topic, Payload: x.Answer.Body, ContentType: x.Answer.ContentType, Time: x.Started}
	r.newest.Store(&heardAnswer{x.Answer, message})
	if r.topic != "" {
		r.pipeline.Broker.PublishAt(message)
		return
	}
	for _, s := range r.heardBy() {
		s.Deliver(message, 0)
	}
}

func (r *observed) heardBy() (streams []broker.Subscriber) {
	o := &r.pipeline.observations
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := range r.streams {
		streams = append(streams, s)
	}
	return streams
}

// end tells all streams that hear the resource that it is gone, and forgets it.
func (r *observed) end(problem *fieldgate.Problem) {
	streams := r.heardBy()
	o := &r.pipeline.observations
	o.mu.Lock()
	o.forget(r)
	o.mu.Unlock()
	for _, s := range streams {
		if ender, ok := s.(Ender); ok {
			ender.End(problem)
		}
	}
}

// answerObserved answers a request for what is observed with what the service has said last.
func (p *Pipeline) answerObserved(x *Exchange) bool {
	if !x.Operation.ObservesService || x.Method != fieldgate.MethodGet || x.Operation.subscribe == nil {
		return false
	}
	topic, problem := x.Filter()
	if problem != nil || strings.ContainsAny(topic, "+#") {
		return false
	}
	p.observations.mu.Lock()
	resource := p.observations.byName[p.asking(x).observedName(topic)]
	p.observations.mu.Unlock()
	if resource == nil {
		return false
	}
	newest := resource.newest.Load()
	if newest != nil {
		x.Answer = newest.answer
	}
	return newest != nil
}
