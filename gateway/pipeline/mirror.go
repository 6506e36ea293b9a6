package pipeline

import (
	"bytes"
	"math/rand/v2"

	"fieldgate/gateway/upstream"
)

// mirrorOf is the upstream that hears a copy of this exchange's request; nil: none does.
func (p *Pipeline) mirrorOf(x *Exchange) *upstream.Upstream {
	if x.Operation.policies == nil || x.Operation.policies.Mirror == nil {
		return nil
	}
	m := x.Operation.policies.Mirror
	if m.Percent < 100 && rand.Float64()*100 >= m.Percent {
		return nil
	}
	return p.Upstreams.Upstream(m.Upstream)
}

// mirror sends the copy, and does not wait.
func (p *Pipeline) mirror(x *Exchange, request *upstream.Request) {
	if service := p.mirrorOf(x); service != nil {
		copied := *request
		copied.Body, copied.Choice = bytes.Clone(request.Body), x.Choice(service) // the original is the front's
		p.Upstreams.Mirror(service, &copied)
	}
}

// Mirror is for fronts that call the upstream themselves, once the request's content is read and checked.
func (p *Pipeline) Mirror(x *Exchange) {
	service := p.mirrorOf(x)
	if service == nil {
		return
	}
	if request, problem := p.newCall(x, service); problem == nil {
		request.Body = bytes.Clone(request.Body) // which is the front's
		p.Upstreams.Mirror(service, request)
	}
}
