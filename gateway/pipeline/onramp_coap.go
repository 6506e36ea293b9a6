package pipeline

import (
	"bytes"
	"sync/atomic"

	"fieldgate"
)

// CoAPOnRamp lets the clients of a CoAP listener through to one upstream where no contract speaks: any path, any method, as undocumented. Paths that
// contracts explain are theirs. It is safe for concurrent use.
type CoAPOnRamp struct {
	rules atomic.Pointer[coapOnRampRules]
}

type coapOnRampRules struct {
	operation *Operation
	deny      [][]byte
}

// CoAPOnRampName stands for the on-ramp where Records name an API.
const CoAPOnRampName = "coap.on-ramp"

// NewCoAPOnRamp makes an on-ramp to the upstream of that name. deny are paths that are taken away from all its clients, with all below them.
func NewCoAPOnRamp(upstream string, deny []string) (*CoAPOnRamp, error) {
	r := new(CoAPOnRamp)
	return r, r.Replace(upstream, deny)
}

// Replace puts other rules into force for the requests that come from now on.
func (r *CoAPOnRamp) Replace(upstream string, deny []string) error {
	linked, err := linkContract(&fieldgate.Contract{API: CoAPOnRampName, Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive, Operations: []fieldgate.Operation{{
		ID: "any-path", PassThrough: true, MaxBody: fieldgate.MaxBody, OnInvalid: fieldgate.InvalidShadow, Access: fieldgate.Access{Anonymous: true},
		Upstream: upstream, CoAP: &fieldgate.CoAPBinding{Method: fieldgate.MethodOther, Path: "/"},
	}}})
	if err != nil {
		return err
	}
	rules := &coapOnRampRules{operation: linked[0]}
	for _, path := range deny {
		rules.deny = append(rules.deny, bytes.TrimSuffix([]byte(path), separator))
	}
	r.rules.Store(rules)
	return nil
}

var errDeniedPath = fieldgate.NewProblem(fieldgate.ProblemForbidden, "The on-ramp's rules deny this path.")

// matchCoAP finds the operation of a request over CoAP: a contract's, or the on-ramp's by which it came.
func (x *Exchange) matchCoAP() *fieldgate.Problem {
	if x.OnRamp == nil {
		return x.matchRoute(&x.program.coap)
	}
	rules := x.OnRamp.rules.Load()
	for _, path := range rules.deny {
		if rest, below := bytes.CutPrefix(x.Path, path); below && (len(rest) == 0 || rest[0] == '/') {
			return x.by(ruleText("deny "+string(path)), errDeniedPath)
		}
	}
	if x.matchRoute(&x.program.coap) != nil {
		x.Operation = rules.operation
	}
	return nil
}
