package coapfront

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/coaphttp"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// observer is a CoAP client's interest in an operation's topic: a subscriber of the broker on one side, an
// observation (RFC 7641) on the other. What the client cannot take in time gives way to the newest message.
type observer struct {
	observation  coap.Observation
	listener     *listener
	all          *observers
	credential               // of a known principal
	known        bool        // the principal is in the Directory
	stillAllowed func() bool // of a known principal
	accept       uint32
	hasAccept    bool
	unsubscribe  func()

	mu      sync.Mutex
	hearing *pipeline.Hearing // nil: of a pass-through API, which keeps nothing from anybody

	newest atomic.Pointer[broker.Message]
	queued atomic.Bool
	ending atomic.Pointer[fieldgate.Problem] // why it is to be closed
}

type principalKey struct {
	kind fieldgate.PrincipalKind
	id   string
}

// observe subscribes the exchange's caller; nil: what it asks for cannot be observed. The observer ends with its observation.
func (f *Front) observe(listener *listener, x *pipeline.Exchange, request *coap.Request) (*observer, *fieldgate.Problem) {
	o := &observer{listener: listener, all: &f.observers}
	o.accept, o.hasAccept = request.Uint(coap.Accept)
	if o.known = known(&x.Principal); o.known {
		o.credential = credentialOf(x)
		o.stillAllowed = f.stillAllowed(o.credential)
	}
	if x.Operation.PassThrough {
		if o.unsubscribe = f.pipeline.AttendPath(x, o); o.unsubscribe == nil {
			return nil, nil
		}
	} else {
		filter, problem := x.Filter()
		if problem != nil {
			return nil, problem
		}
		o.hearing = f.pipeline.Hear(x, filter)
		o.unsubscribe = f.pipeline.Attend(x, filter, 0, o, false)
	}
	o.observation.Ended = func() {
		o.unsubscribe()
		f.observers.remove(o)
	}
	f.observers.add(o)
	if o.known {
		// What changed between identification and add has been missed by principalChanged.
		if problem := f.credentialProblem(&o.credential); problem != nil {
			o.End(problem)
		}
	}
	return o, nil
}

// Deliver takes a message without waiting. It runs inside the broker, so the network is left to run.
func (o *observer) Deliver(message *broker.Message, _ byte) {
	o.mu.Lock()
	if o.hearing != nil {
		message = o.hearing.See(message)
	}
	if message != nil {
		o.newest.Store(message)
	}
	o.mu.Unlock()
	if message != nil {
		o.all.wake(o)
	}
}

// End implements pipeline.Ender: the next notification is the problem, and the last one.
func (o *observer) End(problem *fieldgate.Problem) {
	o.ending.Store(problem)
	o.all.wake(o)
}

// notify sends what is newest.
func (o *observer) notify(response *coap.Response, converted *conversion) {
	response.Reset()
	response.Trusted, response.StillAllowed = o.known, o.stillAllowed
	if problem := o.ending.Load(); problem != nil {
		response.Code = coaphttp.CodeOf(problem.Status(), fieldgate.MethodGet)
		response.Options.AddUint(coap.ContentFormat, coap.ConciseProblemCBOR)
		response.Body = coaphttp.AppendProblem(nil, problem, response.Code, "")
		o.listener.notifier.Notify(&o.observation, response)
		return
	}
	message := o.newest.Swap(nil)
	if message == nil {
		return
	}
	body, format, hasFormat := message.Payload, uint32(0), false
	format, hasFormat = coaphttp.Format(message.ContentType)
	if o.hasAccept && !(hasFormat && format == o.accept) {
		// RFC 7641 section 4.2: a notification has the content format of the first response.
		if body = converted.of(message, o.accept); body == nil {
			return
		}
		format, hasFormat = o.accept, true
	}
	if hasFormat {
		response.Options.AddUint(coap.ContentFormat, format)
	}
	response.Body = body
	o.listener.notifier.Notify(&o.observation, response)
}

// conversion is the newest message's payload in another format: many hear the same.
type conversion struct {
	message *broker.Message
	accept  uint32
	body    []byte
}

// of gives nil for what cannot be had in that format, or is not what its type says, of a topic without a schema.
func (c *conversion) of(message *broker.Message, accept uint32) []byte {
	if c.message == message && c.accept == accept {
		return c.body
	}
	*c = conversion{message: message, accept: accept}
	var body []byte
	var err error
	switch {
	case accept == coap.CBOR && coaphttp.IsJSON(message.ContentType):
		body, err = schema.CBORFromJSON(nil, message.Payload, nil)
	case accept == coap.JSON && coaphttp.IsCBOR(message.ContentType):
		body, err = schema.JSONFromCBOR(nil, message.Payload, nil)
	}
	if err == nil {
		c.body = body
	}
	return c.body
}

// observers holds all observers of a Front.
type observers struct {
	mu          sync.Mutex
	byPrincipal map[principalKey][]*observer
	waiting     []*observer // that have something to send; each at most once
	signal      chan struct{}
}

func (all *observers) init() {
	all.byPrincipal = make(map[principalKey][]*observer)
	all.signal = make(chan struct{}, 1)
}

func (all *observers) add(o *observer) {
	if !o.known {
		return
	}
	all.mu.Lock()
	all.byPrincipal[o.principalKey] = append(all.byPrincipal[o.principalKey], o)
	all.mu.Unlock()
}

func (all *observers) remove(o *observer) {
	if !o.known {
		return
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	list := all.byPrincipal[o.principalKey]
	list = slices.DeleteFunc(list, func(other *observer) bool { return other == o })
	if len(list) == 0 {
		delete(all.byPrincipal, o.principalKey)
		return
	}
	all.byPrincipal[o.principalKey] = list
}

// of are the observers of a principal.
func (all *observers) of(principal principalKey) []*observer {
	all.mu.Lock()
	defer all.mu.Unlock()
	return slices.Clone(all.byPrincipal[principal])
}

func (all *observers) wake(o *observer) {
	if o.queued.Swap(true) {
		return
	}
	all.mu.Lock()
	all.waiting = append(all.waiting, o)
	all.mu.Unlock()
	select {
	case all.signal <- struct{}{}:
	default:
	}
}

// run sends notifications until ctx ends. Those of a listener leave together.
func (all *observers) run(ctx context.Context, listeners []*listener) {
	var response coap.Response
	for _, l := range listeners {
		l.notifier = l.Notifier()
	}
	var spare []*observer
	for {
		select {
		case <-ctx.Done():
			return
		case <-all.signal:
		}
		all.mu.Lock()
		waiting := all.waiting
		all.waiting = spare
		all.mu.Unlock()
		var converted conversion
		for i, o := range waiting {
			// Cleared first: what comes from now on queues the observer again.
			waiting[i] = nil
			o.queued.Store(false)
			o.notify(&response, &converted)
		}
		for _, l := range listeners {
			l.notifier.Flush()
		}
		spare = waiting[:0]
	}
}
