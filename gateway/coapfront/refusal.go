package coapfront

import (
	"net/netip"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// Records of what the endpoint refuses itself cost whoever sends it nothing but a datagram with any sender, so there are
// only so many.
const (
	refusalBurst     = 100
	refusalsInSecond = 10
)

// refusals is a token bucket for Records of refused requests.
type refusals struct {
	mu   sync.Mutex
	left float64
	at   time.Time
}

func (r *refusals) take(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at.IsZero() {
		r.left = refusalBurst
	} else {
		r.left = min(refusalBurst, r.left+refusalsInSecond*now.Sub(r.at).Seconds())
	}
	r.at = now
	if r.left < 1 {
		return false
	}
	r.left--
	return true
}

// refusedAt records the requests that the endpoint of a listener answered itself.
func (f *Front) refusedAt(l *listener) func(netip.AddrPort, coap.Message, coap.Code) {
	return func(peer netip.AddrPort, request coap.Message, code coap.Code) {
		if f.refusals.take(time.Now()) {
			source, caller := l.sender(peer)
			f.refused(source, caller, request, code)
		}
	}
}

// holder is whose token or key stands in a request; 0: nobody's.
func (f *Front) holder(request *coap.Message) directory.Ref {
	if p, protected := request.Protection().(*protection); protected {
		return p.context.caller.Ref
	}
	secret, ok := request.Option(OptionCredential)
	if !ok || !fieldgate.WellFormedToken(secret) {
		return 0
	}
	hash := fieldgate.HashToken(secret)
	return f.pipeline.Directory.Lookup(&hash)
}

// knows tells an endpoint that a request comes from somebody known, before the pipeline has seen it.
func (f *Front) knows(_ netip.AddrPort, request coap.Message) bool {
	ref := f.holder(&request)
	return ref != 0 && f.pipeline.Directory.State(ref) == fieldgate.StateActive
}

// refused records a request for its caller, if the connection or the request names one.
func (f *Front) refused(source netip.AddrPort, caller *pipeline.Caller, request coap.Message, code coap.Code) {
	x := &pipeline.Exchange{Protocol: fieldgate.ProtocolCoAP, Method: fieldgate.MethodOther, MethodToken: request.Code.String(),
		Source: source, Path: []byte(request.Path())}
	if int(request.Code) < len(methods) {
		x.Method = methods[request.Code]
	}
	ref := f.holder(&request)
	if caller != nil && caller.Ref != 0 {
		ref = caller.Ref
	}
	if ref != 0 {
		x.Principal = f.pipeline.Directory.Principal(ref)
	}
	problem := fieldgate.ProblemBadRequest
	switch code {
	case coap.MethodNotAllowed:
		problem = fieldgate.ProblemMethodNotAllowed
	case coap.RequestEntityTooLarge:
		problem = fieldgate.ProblemTooLarge
	case coap.ServiceUnavailable:
		problem = fieldgate.ProblemOverloaded
	}
	x.Detail = "answered " + code.String()
	f.pipeline.Malformed(x, fieldgate.NewProblem(problem, ""))
}
