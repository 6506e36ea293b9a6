package pipeline

import (
	"bytes"
	"math/rand/v2"

	"fieldgate/gateway/upstream"
)

// mirror sends a copy of the exchange's request to the upstream that hears some of them, and does not wait.
func (p *Pipeline) mirror(x *Exchange, request *upstream.Request) {
	m := x.Operation.policies.Mirror
	if m.Percent < 100 && rand.Float64()*100 >= m.Percent {
		return
	}
	if service := p.Upstreams.Upstream(m.Upstream); service != nil {
		copied := *request
		copied.Body, copied.Choice = bytes.Clone(request.Body), x.Choice(service) // the original is the front's
		p.Upstreams.Mirror(service, &copied)
	}
}

// Mirrors says whether requests of the operation are mirrored; Mirror does it for fronts that call the upstream themselves.
func (x *Exchange) Mirrors() bool {
	return x.Operation.policies != nil && x.Operation.policies.Mirror != nil
}

// Mirror is to be called once the request's content is read and checked.
func (p *Pipeline) Mirror(x *Exchange) {
	if request, problem := p.newCall(x, nil); problem == nil {
		p.mirror(x, request)
	}
}
