package coapfront

import (
	"bytes"
	"context"
	"slices"

	"fieldgate"
	"fieldgate/gateway/coaphttp"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// conditions are those of a request (RFC 7252 sections 5.10.6.2 and 5.10.8).
type conditions struct {
	match    [][]byte // If-Match; an empty one stands for whatever there is
	none     bool     // If-None-Match
	validate [][]byte // ETag
}

func conditionsOf(request *coap.Request) (c conditions) {
	for it := request.Iterate(); it.Next(); {
		switch {
		case it.Number == coap.IfMatch:
			c.match = append(c.match, it.Value)
		case it.Number == coap.IfNoneMatch:
			c.none = true
		case it.Number == coap.ETag && len(it.Value) >= 1 && len(it.Value) <= 8:
			c.validate = append(c.validate, it.Value)
		}
	}
	return c
}

// met decides about the answer to a request that only reads, whose conditions need not be decided before.
func (c *conditions) met(tag []byte) bool {
	return !c.none && (c.match == nil || slices.ContainsFunc(c.match, isAny) || contains(c.match, tag))
}

// isAny says whether an If-Match option stands for whatever there is (RFC 7252 section 5.10.8.1).
func isAny(tag []byte) bool { return len(tag) == 0 }

var errCondition = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "Nothing that this operation does depends on If-Match or If-None-Match.")

func reads(method fieldgate.Method) bool {
	return method == fieldgate.MethodGet || method == fieldgate.MethodFetch
}

// pose hands the conditions of a request on to the service, which alone can decide about a change at once with making it. The
// service has to be asked for its tag first where x.probes.
func (x *exchange) pose() *fieldgate.Problem {
	c := &x.asked
	switch {
	case reads(x.Method):
		if x.Method == fieldgate.MethodGet && len(c.validate) > 0 && c.match == nil && !c.none {
			x.Conditions = append(coaphttp.AppendEntityTags([]byte("If-None-Match: "), c.validate), "\r\n"...)
		}
		return nil
	case c.match == nil && !c.none:
		return nil
	case x.Operation.Upstream == "":
		return errCondition // critical, so they must not be passed over (RFC 7252 section 5.4.1)
	}
	if c.none {
		x.Conditions = append(x.Conditions, "If-None-Match: *\r\n"...)
	}
	switch {
	case c.match == nil:
	case slices.ContainsFunc(c.match, isAny):
		x.Conditions = append(x.Conditions, "If-Match: *\r\n"...)
	case slices.ContainsFunc(c.match, coaphttp.MayBeHash):
		x.probes = true
	default:
		x.Conditions = append(coaphttp.AppendEntityTags(append(x.Conditions, "If-Match: "...), c.match), "\r\n"...)
	}
	return nil
}

// probe asks the service for its tag, and says whether the options of If-Match may hold.
func (x *exchange) probe(ctx context.Context) bool {
	status, current := x.front.pipeline.EntityTag(ctx, &x.Exchange)
	line := append(x.Conditions, "If-Match: "...)
	switch {
	case status == 404 || status == 410:
		return false
	case status >= 200 && status < 300:
		if !contains(x.asked.match, coaphttp.AppendEntityTag(nil, pipeline.OpaqueTag(current))) {
			return false
		}
		line = append(line, current...)
	default: // it does not say
		line = coaphttp.AppendEntityTags(line, x.asked.match)
	}
	x.Conditions = append(line, "\r\n"...)
	return true
}

// contains says whether a tag, unless it is empty, is among those.
func contains(tags [][]byte, tag []byte) bool {
	return len(tag) > 0 && slices.ContainsFunc(tags, func(one []byte) bool { return bytes.Equal(one, tag) })
}
