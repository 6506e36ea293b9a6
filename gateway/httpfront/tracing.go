package httpfront

import (
	"encoding/hex"
	"math/rand/v2"

	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/h1"
)

// appendRequestID appends the exchange's instance in the field that the settings name for it, if they do.
func (c *connection) appendRequestID(dst []byte) []byte {
	name := c.origin.settings.RequestID
	if name == "" {
		return dst
	}
	dst = append(append(dst, name...), ": "...)
	return append(c.front.pipeline.AppendInstance(dst, &c.exchange), "\r\n"...)
}

// appendContext appends by what name the upstream is told the exchange's instance, and a trace context where one begins here.
func (c *connection) appendContext(dst []byte) []byte {
	dst = c.appendRequestID(dst)
	if c.origin.settings.StartsTraces && !pipeline.ValidTraceParent(c.request.Fields.Joined("traceparent")) {
		dst = appendTraceParent(dst)
	}
	return dst
}

// appendTraceParent begins a trace (W3C Trace Context §3.2): nothing about the caller can be told from its ids.
func appendTraceParent(dst []byte) []byte {
	var ids [24]byte
	for i := 0; i < len(ids); i += 8 {
		for number, j := rand.Uint64()|1, 0; j < 8; j++ { // an id of zeros is none
			ids[i+j] = byte(number >> (8 * j))
		}
	}
	dst = append(dst, "traceparent: 00-"...)
	dst = hex.AppendEncode(dst, ids[:16])
	dst = hex.AppendEncode(append(dst, '-'), ids[16:])
	return append(dst, "-01\r\n"...)
}

// ownContext reports whether the field is one that appendContext writes, or belongs to a trace context that is none: a broken one is
// not passed on, and tracestate means nothing without it (§4.3).
func (c *connection) ownContext(name []byte) bool {
	switch name[0] {
	case 't', 'T':
		if h1.EqualFold(name, "traceparent") || h1.EqualFold(name, "tracestate") {
			return !pipeline.ValidTraceParent(c.request.Fields.Joined("traceparent"))
		}
	}
	own := c.origin.settings.RequestID
	return own != "" && len(name) == len(own) && hasPrefix(name, own)
}
