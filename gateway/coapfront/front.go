// Package coapfront serves the operations of contracts over CoAP: it turns requests into exchanges of the pipeline
// and writes answers and problems in CoAP's words.
//
// It owns the UDP sockets and the observers. It promises that each request that reaches an application leaves one
// Record, that a datagram harms nobody but its sender (see protocol/coap for the limits), and that observers of a
// revoked or quarantined principal are closed as soon as the Directory knows. It refuses what it cannot keep:
// proxying, and conditions (If-Match, If-None-Match) of what no service decides about.
package coapfront

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/coaphttp"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// OptionCredential carries a device token or app key. It is in the experimental range until a number is registered;
// elective, so that other servers ignore it; unsafe to forward, so that proxies that do not know it keep it to
// themselves; and part of the cache key, so that nobody gets a representation that another's credential paid for
// (RFC 7252 sections 5.4.6 and 12.2).
const OptionCredential coap.OptionNumber = 65002

// maxCredential bounds a credential in bytes. Foreign ones may be longer than Fieldgate's own.
const maxCredential = 512

// workers is how many requests of one listener are in the pipeline at a time. Further ones wait, in turn for each peer.
// A worker waits while an upstream does, so there are many; those without work end.
const workers = 1024

// Front serves CoAP. It is safe for concurrent use.
type Front struct {
	pipeline  *pipeline.Pipeline
	logger    *slog.Logger
	listeners []*listener
	exchanges sync.Pool
	links     atomic.Pointer[linkList]
	observers observers
	refusals  refusals
	places    places
	told      told
	secured   *secured // nil: there is no DTLS
	devices   *Devices // nil: there is no resource directory
	bounds    PeerBounds
	objects   *objects // nil: there is no OSCORE

	webSockets *streams // nil: there are none
}

// Config is what a Front needs.
type Config struct {
	UDP       string // host:port to listen on, such as "127.0.0.1:5683" or ":5683"; empty: not at all
	OnRamp    OnRamp
	DTLS      DTLS
	Streams   []*StreamListener
	WebSocket bool // OpenWebSocket brings connections
	Bounds    StreamBounds
	Peers     PeerBounds
	Pipeline  *pipeline.Pipeline
	Devices   *Devices // nil: there is no resource directory
	// ReserveNumbers gives a block of sender sequence numbers for OSCORE, above one that the gateway has: each is given once by all the control
	// plane (fieldgate.OSCOREBlock). Nil: there is no OSCORE.
	ReserveNumbers func(ctx context.Context, after uint64) (block uint64, err error)
	Logger         *slog.Logger
}

// PeerBounds are what the peers of each listener may take. Zero values mean the defaults of package coap.
type PeerBounds struct {
	MaxPeers        int // that are remembered; of connections and DTLS sessions these are bounded instead
	MaxObservations int
	TransferBytes   int // of bodies in transfer
}

// OnRamp is a listener whose clients are let through to one upstream where no contract speaks.
type OnRamp struct {
	Address string // host:port; empty: there is none
	Rules   *pipeline.CoAPOnRamp
}

// ErrOnRamp says that it is the on-ramp's address which cannot be bound.
var ErrOnRamp = errors.New("on-ramp")

// Listen binds the addresses. Nothing is read before Run.
func Listen(config Config) (*Front, error) {
	f := &Front{pipeline: config.Pipeline, logger: config.Logger, devices: config.Devices, bounds: config.Peers}
	f.exchanges.New = func() any { return &exchange{front: f} }
	f.observers.init()
	if config.ReserveNumbers != nil {
		f.objects = newObjects(f, config.ReserveNumbers)
	}
	if config.UDP != "" {
		if err := f.listenUDP(nameUDP, config.UDP, nil); err != nil {
			return nil, err
		}
	}
	if config.OnRamp.Address != "" {
		if err := f.listenUDP("coap-on-ramp", config.OnRamp.Address, config.OnRamp.Rules); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOnRamp, err)
		}
	}
	if config.DTLS.Conn != nil {
		if err := f.listenDTLS(config.DTLS); err != nil {
			return nil, err
		}
	}
	for _, l := range config.Streams {
		if err := f.listenStream(l, config.Bounds); err != nil {
			return nil, err
		}
	}
	if config.WebSocket {
		if err := f.listenStream(nil, config.Bounds); err != nil {
			return nil, err
		}
	}
	if f.devices != nil {
		f.devices.reachBy(f.listeners)
	}
	config.Pipeline.Directory.Watch(f.principalChanged)
	return f, nil
}

// Addresses are those of the listeners by their names, such as coap and coap-tcp.
func (f *Front) Addresses() map[string]netip.AddrPort {
	addresses := make(map[string]netip.AddrPort, len(f.listeners))
	for _, l := range f.listeners {
		if address := l.LocalAddr(); address.IsValid() {
			addresses[l.name] = address
		}
	}
	return addresses
}

// Stats are those of the listeners by their names.
func (f *Front) Stats() map[string]coap.Stats {
	all := make(map[string]coap.Stats, len(f.listeners))
	for _, l := range f.listeners {
		all[l.name] = l.Stats()
	}
	return all
}

// Run serves until ctx ends or a socket fails, and returns when all its goroutines have ended.
func (f *Front) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { f.observers.run(ctx, f.listeners) })
	if f.objects != nil {
		all.Go(func() { f.objects.numbers.run(ctx) })
	}
	failed := make([]error, len(f.listeners))
	for i, listener := range f.listeners {
		all.Go(func() {
			failed[i] = listener.Run(ctx)
			cancel()
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// exchange is a request on its way through the pipeline, with the memory that it needs.
type exchange struct {
	pipeline.Exchange
	front       *Front
	listener    *listener
	request     *coap.Request
	response    *coap.Response
	path, query []byte
	asked       conditions
	probes      bool // the service has to be asked for its entity tag before the request is forwarded
}

// serve answers one request, as far as nobody has to be waited for; what is left it gives back.
func (f *Front) serve(l *listener, request *coap.Request, response *coap.Response) (wait func(context.Context)) {
	x := f.exchanges.Get().(*exchange)
	x.path = request.AppendPath(x.path[:0])
	if string(x.path) == wellKnownCore && l.onRamp == nil {
		f.serveLinks(request, response)
		response.Trusted = request.Protection() != nil
		f.exchanges.Put(x)
		return nil
	}
	x.listener, x.request, x.response = l, request, response
	if f.devices != nil && l.onRamp == nil && isDirectory(x.path) {
		return x.serveDirectory
	}
	place := f.places.take(request.Peer)
	if place != nil {
		x.Place = &place.Place
	}
	returned := false
	defer func() {
		if wait == nil {
			x.end(returned)
		}
		if place != nil {
			place.mu.Unlock()
		}
	}()
	problem := x.begin()
	if problem == nil {
		if x.probes {
			x.Place = nil
			return x.goOn
		}
		var done bool
		if problem, done = f.pipeline.ForwardNow(&x.Exchange); !done {
			x.Place = nil
			return x.goOn
		}
	}
	x.answer(problem)
	returned = true
	return nil
}

// goOn does what had to wait.
func (x *exchange) goOn(ctx context.Context) {
	returned := false
	defer func() { x.end(returned) }()
	var problem *fieldgate.Problem
	if x.probes && !x.probe(ctx) {
		x.Answer.Status = 412
	} else {
		problem = x.front.pipeline.Forward(ctx, &x.Exchange)
	}
	x.answer(problem)
	returned = true
}

// end records the exchange and gives its memory back. Where nobody has returned there was a panic, which the listener answers and logs.
func (x *exchange) end(returned bool) {
	f := x.front
	if !returned {
		x.Fail(fieldgate.NewProblem(fieldgate.ProblemInternal, ""))
	}
	f.pipeline.Finish(&x.Exchange)
	if f.devices != nil && x.request.Protection() == nil { // requests to it would not be protected
		f.devices.heard(x.listener, x.request.Peer, &x.Exchange)
	}
	x.Reset()
	x.listener, x.request, x.response = nil, nil, nil
	x.asked, x.probes = conditions{}, false
	f.exchanges.Put(x)
}

// answer writes what the pipeline has come to.
func (x *exchange) answer(problem *fieldgate.Problem) {
	f := x.front
	if problem == nil {
		problem = x.represent()
	}
	if problem != nil {
		f.refuse(&x.Exchange, problem, x.response)
	}
	x.trust()
}

// trust says whether the caller is known, and may have further blocks as long as it is.
func (x *exchange) trust() {
	x.response.Owner = uint32(x.CallerRef())
	if x.response.Trusted = known(&x.Principal); x.response.Trusted && mayNeedBlocks(x.request, x.response) {
		x.response.StillAllowed = x.front.stillAllowed(credentialOf(&x.Exchange))
	}
}

// represent writes the answer.
func (x *exchange) represent() *fieldgate.Problem {
	if problem := answer(&x.Exchange, x.request, &x.asked, x.response); problem != nil {
		return fail(&x.Exchange, problem)
	}
	x.front.told.tell(&x.Exchange, x.response)
	x.BytesOut = uint64(len(x.response.Body))
	return nil
}

// mayNeedBlocks says whether the body may not fit one message, of the largest block size or a smaller one that was asked for.
func mayNeedBlocks(request *coap.Request, response *coap.Response) bool {
	_, asked := request.Uint(coap.Block2)
	_, quick := request.Uint(coap.QBlock2)
	return len(response.Body) > largestBlock || (asked || quick) && len(response.Body) > 0
}

const largestBlock = 1024 // RFC 7959 section 2.2

// credential is what a known caller has shown, for a request or for all of a session or connection.
type credential struct {
	principalKey
	hash fieldgate.CredentialHash
}

func credentialOf(x *pipeline.Exchange) credential {
	c := credential{principalKey: principalKey{x.Principal.Kind, x.Principal.ID}}
	if x.Caller != nil {
		c.hash = x.Caller.Hash
	} else {
		c.hash = fieldgate.HashToken(x.Secret)
	}
	return c
}

// stillAllowed asks whether a credential has been revoked, or its owner quarantined, since.
func (f *Front) stillAllowed(c credential) func() bool {
	return func() bool { return f.credentialProblem(&c) == nil }
}

// credentialProblem is what has happened to a credential since it was accepted, nil if nothing.
func (f *Front) credentialProblem(c *credential) *fieldgate.Problem {
	ref := f.pipeline.Directory.Holder(c.kind, c.id, &c.hash)
	switch {
	case ref == 0 || f.pipeline.Directory.State(ref) == fieldgate.StateRevoked:
		return errRevoked
	case f.pipeline.Directory.State(ref) == fieldgate.StateQuarantined:
		return errQuarantined
	}
	return nil
}

// principalChanged ends what goes on for whoever was quarantined, revoked or lost the credential that it came with.
func (f *Front) principalChanged(change *fieldgate.DirectoryChange) {
	key := principalKey{change.Kind, change.ID}
	for _, o := range f.observers.of(key) {
		if problem := f.credentialProblem(&o.credential); problem != nil {
			o.End(problem)
		}
	}
	if f.secured != nil {
		f.secured.principalChanged(key)
	}
	if f.objects != nil {
		f.objects.principalChanged(change)
	}
}

var (
	errRevoked     = fieldgate.NewProblem(fieldgate.ProblemUnauthenticated, "The credential was revoked or replaced.")
	errQuarantined = fieldgate.NewProblem(fieldgate.ProblemQuarantined, "An operator has to release the device.")
)

// begin takes the exchange through the pipeline up to where it is forwarded.
func (x *exchange) begin() *fieldgate.Problem {
	f, request := x.front, x.request
	x.OnRamp = x.listener.onRamp
	problem := x.sender()
	if problem == nil {
		problem = x.fill()
	}
	if problem != nil {
		f.pipeline.Malformed(&x.Exchange, problem)
		return problem
	}
	problem = f.pipeline.Begin(&x.Exchange)
	if x.Copy != nil {
		copyOptions(x.Copy, request)
	}
	if problem != nil {
		return problem
	}
	if int64(len(request.Body)) > x.MaxBody() {
		return fail(&x.Exchange, fieldgate.NewProblem(fieldgate.ProblemTooLarge, fmt.Sprintf("At most %d bytes are accepted.", x.MaxBody())))
	}
	if problem := mayAccept(&x.Exchange, request); problem != nil {
		return fail(&x.Exchange, problem)
	}
	if problem := forwardable(&x.Exchange, request); problem != nil {
		return fail(&x.Exchange, problem)
	}
	x.asked = conditionsOf(request)
	if problem := x.pose(); problem != nil {
		return fail(&x.Exchange, problem)
	}
	x.Body = request.Body
	if problem := f.pipeline.Check(&x.Exchange); problem != nil {
		return problem
	}
	if request.Registers() && mayObserve(x.Operation) {
		// Subscribed before the present content is read, so that nothing falls between the two.
		o, problem := f.observe(x.listener, &x.Exchange, request)
		if problem != nil {
			return fail(&x.Exchange, problem)
		}
		if o != nil {
			x.response.Observation = &o.observation
		}
	}
	return nil
}

func mayObserve(o *pipeline.Operation) bool {
	return o.PassThrough && o.CoAP != nil || o.Subscribes() && o.CoAP != nil && o.CoAP.Observe
}

// copyOptions gives a capture what stands in the request's options besides path, query, format and credential.
func copyOptions(c pipeline.Copy, request *coap.Request) {
	if accept, ok := request.Uint(coap.Accept); ok {
		c.RequestField([]byte("Accept"), []byte(coaphttp.MediaType(accept)))
	}
	if observe, ok := request.Uint(coap.Observe); ok {
		c.RequestField([]byte("Observe"), strconv.AppendUint(nil, uint64(observe), 10))
	}
	if tag, ok := request.Option(coap.ETag); ok {
		c.RequestField([]byte("ETag"), hex.AppendEncode(nil, tag))
	}
}

var (
	errHopLimit = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "A Hop-Limit is 1 to 255.")
	errLastHop  = fieldgate.NewProblem(fieldgate.ProblemUpstreamUnreachable, "The request has made all the hops that its Hop-Limit allows.")
)

// forwardable counts the gateway as a hop of a request that goes on to a service (RFC 8768 section 3).
func forwardable(x *pipeline.Exchange, request *coap.Request) *fieldgate.Problem {
	hops, limited := request.Uint(coap.HopLimit)
	switch {
	case !limited:
		return nil
	case hops == 0:
		return errHopLimit
	case x.Operation.Upstream == "":
		return nil
	case hops == 1:
		x.ProblemStatus = statusLoop
		return errLastHop
	}
	x.HopLimit = uint8(hops - 1)
	return nil
}

const statusLoop = 508 // Loop Detected (RFC 5842 section 7.2), which is 5.08

// fail notes a problem that the front met itself.
func fail(x *pipeline.Exchange, problem *fieldgate.Problem) *fieldgate.Problem {
	x.Fail(problem)
	return problem
}

func known(principal *fieldgate.Principal) bool {
	return principal.Kind == fieldgate.PrincipalDevice || principal.Kind == fieldgate.PrincipalApp
}

// methods are CoAP's method codes in the domain's words (RFC 8075 section 7, RFC 8132 section 6).
var methods = [...]fieldgate.Method{
	coap.GET: fieldgate.MethodGet, coap.POST: fieldgate.MethodPost, coap.PUT: fieldgate.MethodPut, coap.DELETE: fieldgate.MethodDelete,
	coap.FETCH: fieldgate.MethodFetch, coap.PATCH: fieldgate.MethodPatch, coap.IPATCH: fieldgate.MethodIPatch,
}

var (
	errDotSegment   = fieldgate.NewProblem(fieldgate.ProblemBadRequest, `A Uri-Path option is never "." or "..".`)
	errCredentials  = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "At most one credential, and not a longer one than any that is issued.")
	errPathSegments = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "The path has too many segments.")
)

// fill takes what the pipeline needs from the request.
func (x *exchange) fill() *fieldgate.Problem {
	request := x.request
	x.Protocol = fieldgate.ProtocolCoAP
	x.Method = methods[request.Code]
	x.query = request.AppendQuery(x.query[:0])
	x.Path, x.Query = x.path, x.query
	x.Started = time.Now()
	if format, ok := request.Uint(coap.ContentFormat); ok {
		x.ContentType = coaphttp.ContentType(format)
	}
	if accept, ok := request.Uint(coap.Accept); ok {
		x.Accept = coaphttp.MediaType(accept)
	}
	segments, credentials := 0, 0
	for it := request.Iterate(); it.Next(); {
		switch it.Number {
		case coap.URIPath:
			if string(it.Value) == "." || string(it.Value) == ".." {
				return errDotSegment // RFC 7252 section 5.10.1
			}
			if segments++; segments > fieldgate.MaxPathSegments {
				return errPathSegments
			}
		case OptionCredential:
			if credentials++; credentials > 1 || len(it.Value) > maxCredential {
				return errCredentials
			}
			x.Secret = it.Value
		}
	}
	return nil
}
