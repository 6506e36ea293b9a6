package coapfront

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// observer is a CoAP client's interest in an operation's topic: a subscriber of the broker on one side, an
// observation (RFC 7641) on the other. What the client cannot take in time gives way to the newest message.
type observer struct {
	observation  coap.Observation
	listener     *coap.UDP
	all          *observers
	principal    principalKey
	hash         fieldgate.CredentialHash
	known        bool        // the principal is in the Directory
	stillAllowed func() bool // of a known principal
	accept       uint32
	hasAccept    bool
	unsubscribe  func()

	newest atomic.Pointer[broker.Message]
	queued atomic.Bool
	ending atomic.Pointer[fieldgate.Problem] // why it is to be closed
}

type principalKey struct {
	kind fieldgate.PrincipalKind
	id   string
}

// observe subscribes the exchange's caller. The observer ends with its observation.
func (f *Front) observe(listener *coap.UDP, x *pipeline.Exchange, request *coap.Request) (*observer, *fieldgate.Problem) {
	filter, problem := x.Filter()
	if problem != nil {
		return nil, problem
	}
	o := &observer{listener: listener, all: &f.observers}
	o.accept, o.hasAccept = request.Uint(coap.Accept)
	if o.known = known(&x.Principal); o.known {
		o.principal = principalKey{x.Principal.Kind, x.Principal.ID}
		o.hash = fieldgate.HashToken(x.Secret)
		o.stillAllowed = f.stillAllowed(o.hash)
	}
	f.observers.add(o)
	o.observation.Ended = func() {
		o.unsubscribe()
		f.observers.remove(o)
	}
	o.unsubscribe = f.pipeline.Broker.Subscribe(filter, 0, o)
	if o.known {
		// What changed between identification and add has been missed by principalChanged.
		if problem := f.credentialProblem(&o.hash); problem != nil {
			o.end(problem)
		}
	}
	return o, nil
}

// Deliver takes a message without waiting. It runs inside the broker, so the network is left to run.
func (o *observer) Deliver(message *broker.Message, _ byte) {
	o.newest.Store(message)
	o.all.wake(o)
}

func (o *observer) end(problem *fieldgate.Problem) {
	o.ending.Store(problem)
	o.all.wake(o)
}

// notify sends what is newest.
func (o *observer) notify(response *coap.Response) {
	response.Reset()
	response.Trusted, response.StillAllowed = o.known, o.stillAllowed
	if problem := o.ending.Load(); problem != nil {
		response.Code = codeOf(problem.Status(), fieldgate.MethodGet)
		response.Options.AddUint(coap.ContentFormat, coap.ConciseProblemCBOR)
		response.Body = appendProblem(nil, problem, response.Code, "")
		o.listener.Notify(&o.observation, response)
		return
	}
	message := o.newest.Swap(nil)
	if message == nil {
		return
	}
	body, format, hasFormat := message.Payload, uint32(0), false
	format, hasFormat = formatOf(message.ContentType)
	if o.hasAccept && !(hasFormat && format == o.accept) {
		// RFC 7641 section 4.2: a notification has the content format of the first response.
		var err error
		switch {
		case o.accept == coap.CBOR && isJSON(message.ContentType):
			body, err = schema.CBORFromJSON(nil, body, nil)
		case o.accept == coap.JSON && isCBOR(message.ContentType):
			body, err = schema.JSONFromCBOR(nil, body, nil)
		default:
			return
		}
		if err != nil {
			return // a payload that is not what its type says, of a topic without a schema
		}
		format, hasFormat = o.accept, true
	}
	if hasFormat {
		response.Options.AddUint(coap.ContentFormat, format)
	}
	response.Body = body
	o.listener.Notify(&o.observation, response)
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
	all.byPrincipal[o.principal] = append(all.byPrincipal[o.principal], o)
	all.mu.Unlock()
}

func (all *observers) remove(o *observer) {
	if !o.known {
		return
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	list := all.byPrincipal[o.principal]
	list = slices.DeleteFunc(list, func(other *observer) bool { return other == o })
	if len(list) == 0 {
		delete(all.byPrincipal, o.principal)
		return
	}
	all.byPrincipal[o.principal] = list
}

// principalChanged closes the observers of whoever was quarantined, revoked or lost the credential that it came with.
func (all *observers) principalChanged(change *fieldgate.DirectoryChange) {
	all.mu.Lock()
	affected := slices.Clone(all.byPrincipal[principalKey{change.Kind, change.ID}])
	all.mu.Unlock()
	for _, o := range affected {
		switch {
		case change.State == fieldgate.StateQuarantined:
			o.end(errQuarantined)
		case change.State != fieldgate.StateActive || !slices.Contains(change.Credentials, o.hash):
			o.end(errRevoked)
		}
	}
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

// run sends notifications until ctx ends.
func (all *observers) run(ctx context.Context) {
	var response coap.Response
	for {
		select {
		case <-ctx.Done():
			return
		case <-all.signal:
		}
		all.mu.Lock()
		waiting := all.waiting
		all.waiting = nil
		all.mu.Unlock()
		for _, o := range waiting {
			// Cleared first: what comes from now on queues the observer again.
			o.queued.Store(false)
			o.notify(&response)
		}
	}
}
