// Package coapfront serves the operations of contracts over CoAP: it turns requests into exchanges of the pipeline
// and writes answers and problems in CoAP's words.
//
// It owns the UDP sockets and the observers. It promises that each request that reaches an application leaves one
// Record, that a datagram harms nobody but its sender (see protocol/coap for the limits), and that observers of a
// revoked or quarantined principal are closed as soon as the Directory knows. It refuses what it cannot keep:
// conditional requests (If-Match, If-None-Match) and proxying.
package coapfront

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
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
	listeners []*coap.UDP
	exchanges sync.Pool
	links     atomic.Pointer[linkList]
	observers observers
	refusals  refusals
}

// Listen opens UDP sockets, such as "127.0.0.1:5683" or ":5683". Nothing is read before Run.
func Listen(addresses []string, p *pipeline.Pipeline, logger *slog.Logger) (*Front, error) {
	f := &Front{pipeline: p, logger: logger}
	f.exchanges.New = func() any { return new(pipeline.Exchange) }
	f.observers.init()
	var conns []*net.UDPConn
	fail := func(err error) (*Front, error) {
		for _, c := range conns {
			c.Close()
		}
		return nil, err
	}
	for _, address := range addresses {
		conn, err := net.ListenPacket("udp", address)
		if err != nil {
			return fail(fmt.Errorf("coap: %w", err))
		}
		conns = append(conns, conn.(*net.UDPConn))
	}
	for _, conn := range conns {
		var listener *coap.UDP
		handler := func(ctx context.Context, request *coap.Request, response *coap.Response) {
			f.serve(ctx, listener, request, response)
		}
		var err error
		if listener, err = coap.NewUDP(conn, coap.Config{MaxBody: fieldgate.DefaultMaxBody, Refused: f.refused}, workers, handler, logger); err != nil {
			return fail(err)
		}
		f.listeners = append(f.listeners, listener)
	}
	p.Directory.Watch(f.observers.principalChanged)
	return f, nil
}

// Addresses are those of the sockets, in the order given to Listen.
func (f *Front) Addresses() []netip.AddrPort {
	addresses := make([]netip.AddrPort, len(f.listeners))
	for i, l := range f.listeners {
		addresses[i] = l.LocalAddr()
	}
	return addresses
}

// Stats are those of all listeners together.
func (f *Front) Stats() coap.Stats {
	var all coap.Stats
	for _, l := range f.listeners {
		s := l.Stats()
		all.Received += s.Received
		all.Sent += s.Sent
		all.Malformed += s.Malformed
		all.Duplicates += s.Duplicates
		all.Retransmitted += s.Retransmitted
		all.Refused += s.Refused
		all.Shrunk += s.Shrunk
		all.Peers += s.Peers
		all.Observations += s.Observations
		all.ReceptionBytes += s.ReceptionBytes
		all.TransferBytes += s.TransferBytes
	}
	return all
}

// Run serves until ctx ends or a socket fails, and returns when all its goroutines have ended.
func (f *Front) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { f.observers.run(ctx) })
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

// serve answers one request.
func (f *Front) serve(ctx context.Context, listener *coap.UDP, request *coap.Request, response *coap.Response) {
	path := request.Path()
	if request.Code == coap.GET && path == wellKnownCore {
		f.serveLinks(request, response)
		return
	}
	x := f.exchanges.Get().(*pipeline.Exchange)
	returned := false
	defer func() {
		if !returned { // a panic, which the listener answers and logs
			x.Fail(fieldgate.NewProblem(fieldgate.ProblemInternal, ""))
		}
		f.pipeline.Finish(x)
		x.Reset()
		f.exchanges.Put(x)
	}()
	if problem := fill(x, path, request); problem != nil {
		f.pipeline.Malformed(x, problem)
		f.refuse(x, problem, response)
	} else if problem := f.run(ctx, listener, x, request, response); problem != nil {
		f.refuse(x, problem, response)
	}
	if response.Trusted = known(&x.Principal); response.Trusted && mayNeedBlocks(request, response) {
		response.StillAllowed = f.stillAllowed(fieldgate.HashToken(x.Secret))
	}
	returned = true
}

// mayNeedBlocks says whether the body may not fit one message, of the largest block size or a smaller one that was asked for.
func mayNeedBlocks(request *coap.Request, response *coap.Response) bool {
	_, asked := request.Uint(coap.Block2)
	return len(response.Body) > largestBlock || asked && len(response.Body) > 0
}

const largestBlock = 1024 // RFC 7959 section 2.2

// stillAllowed asks whether a credential has been revoked, or its owner quarantined, since.
func (f *Front) stillAllowed(hash fieldgate.CredentialHash) func() bool {
	return func() bool { return f.credentialProblem(&hash) == nil }
}

// credentialProblem is what has happened to a credential since it was accepted, nil if nothing.
func (f *Front) credentialProblem(hash *fieldgate.CredentialHash) *fieldgate.Problem {
	ref := f.pipeline.Directory.Lookup(hash)
	switch {
	case ref == 0 || f.pipeline.Directory.State(ref) == fieldgate.StateRevoked:
		return errRevoked
	case f.pipeline.Directory.State(ref) == fieldgate.StateQuarantined:
		return errQuarantined
	}
	return nil
}

var (
	errRevoked     = fieldgate.NewProblem(fieldgate.ProblemUnauthenticated, "The credential was revoked or replaced.")
	errQuarantined = fieldgate.NewProblem(fieldgate.ProblemQuarantined, "An operator has to release the device.")
)

// run takes an exchange through the pipeline.
func (f *Front) run(ctx context.Context, listener *coap.UDP, x *pipeline.Exchange, request *coap.Request, response *coap.Response) *fieldgate.Problem {
	problem := f.pipeline.Begin(x)
	if x.Copy != nil {
		copyOptions(x.Copy, request)
	}
	if problem != nil {
		return problem
	}
	if int64(len(request.Body)) > x.MaxBody() {
		return fail(x, fieldgate.NewProblem(fieldgate.ProblemTooLarge, fmt.Sprintf("At most %d bytes are accepted.", x.MaxBody())))
	}
	if problem := mayAccept(x, request); problem != nil {
		return fail(x, problem)
	}
	x.Body = request.Body
	if problem := f.pipeline.Check(x); problem != nil {
		return problem
	}
	var o *observer
	if request.Registers() && x.Operation.Subscribes() && x.Operation.CoAP != nil && x.Operation.CoAP.Observe {
		// Subscribed before the present content is read, so that nothing falls between the two.
		var problem *fieldgate.Problem
		if o, problem = f.observe(listener, x, request); problem != nil {
			return fail(x, problem)
		}
		response.Observation = &o.observation
	}
	if problem := f.pipeline.Forward(ctx, x); problem != nil {
		return problem
	}
	if problem := answer(x, request, response); problem != nil {
		return fail(x, problem)
	}
	x.BytesOut = uint64(len(response.Body))
	return nil
}

// copyOptions gives a capture what stands in the request's options besides path, query, format and credential.
func copyOptions(c pipeline.Copy, request *coap.Request) {
	if accept, ok := request.Uint(coap.Accept); ok {
		c.RequestField([]byte("Accept"), []byte(mediaTypeOf(accept)))
	}
	if observe, ok := request.Uint(coap.Observe); ok {
		c.RequestField([]byte("Observe"), strconv.AppendUint(nil, uint64(observe), 10))
	}
	if tag, ok := request.Option(coap.ETag); ok {
		c.RequestField([]byte("ETag"), hex.AppendEncode(nil, tag))
	}
}

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
	errCondition    = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "If-Match and If-None-Match are not supported.")
	errCredentials  = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "At most one credential, and not a longer one than any that is issued.")
	errPathSegments = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "The path has too many segments.")
)

// fill makes an Exchange of a request.
func fill(x *pipeline.Exchange, path string, request *coap.Request) *fieldgate.Problem {
	x.Protocol = fieldgate.ProtocolCoAP
	x.Method = methods[request.Code]
	x.Source = request.Peer
	x.Path = []byte(path)
	x.Query = []byte(request.Query())
	x.Started = time.Now()
	if format, ok := request.Uint(coap.ContentFormat); ok {
		x.ContentType = []byte(mediaTypeOf(format))
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
		case coap.IfMatch, coap.IfNoneMatch:
			return errCondition // critical, so it must not be passed over (RFC 7252 section 5.4.1)
		case OptionCredential:
			if credentials++; credentials > 1 || len(it.Value) > maxCredential {
				return errCredentials
			}
			x.Secret = it.Value
		}
	}
	return nil
}
