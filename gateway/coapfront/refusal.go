package coapfront

import (
	"net/netip"
	"sync"
	"time"

	"fieldgate"
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

// refused records a request that the endpoint answered itself, for its caller if it names one.
func (f *Front) refused(peer netip.AddrPort, request coap.Message, code coap.Code) {
	if !f.refusals.take(time.Now()) {
		return
	}
	x := &pipeline.Exchange{Protocol: fieldgate.ProtocolCoAP, Method: fieldgate.MethodOther, MethodToken: request.Code.String(),
		Source: peer, Path: []byte(request.Path())}
	if int(request.Code) < len(methods) {
		x.Method = methods[request.Code]
	}
	if secret, ok := request.Option(OptionCredential); ok && fieldgate.WellFormedToken(secret) {
		hash := fieldgate.HashToken(secret)
		if ref := f.pipeline.Directory.Lookup(&hash); ref != 0 {
			x.Principal = f.pipeline.Directory.Principal(ref)
		}
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
