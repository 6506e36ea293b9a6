package coapfront

import (
	"time"

	"fieldgate"
	"fieldgate/gateway/coaphttp"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// busyAge is the Max-Age of a 5.03 for which nobody said when to come back.
const busyAge = 5 * time.Second

// refuse writes a problem as concise problem details (RFC 9290 section 2).
func (f *Front) refuse(x *pipeline.Exchange, problem *fieldgate.Problem, response *coap.Response) {
	observation := response.Observation
	response.Reset()
	response.Observation = observation // a response that is no success ends it
	response.Code = coaphttp.CodeOf(problem.Status(), x.Method)
	switch problem {
	case errCondition:
		response.Code = coap.BadOption // HTTP has no status for it
	case errLastHop:
		response.Code = coap.HopLimitReached
	}
	switch {
	case problem.RetryAfter > 0:
		coaphttp.AddMaxAge(&response.Options, problem.RetryAfter) // RFC 8516 section 4, RFC 7252 section 5.9.3.4
	case response.Code == coap.ServiceUnavailable || response.Code == coap.TooManyRequests:
		coaphttp.AddMaxAge(&response.Options, busyAge)
	}
	response.Options.AddUint(coap.ContentFormat, coap.ConciseProblemCBOR)
	response.Body = coaphttp.AppendProblem(nil, problem, response.Code, f.pipeline.Instance(x))
	x.BytesOut = uint64(len(response.Body))
}
