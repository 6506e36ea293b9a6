package pipeline

import (
	"bytes"
	"strings"

	"fieldgate"
)

// upstreamTarget is the path and query that the upstream sees: over HTTP the caller's own, otherwise those of the operation's
// HTTP binding with the parameters filled in.
func (x *Exchange) upstreamTarget() string {
	if x.Protocol == fieldgate.ProtocolHTTP || x.Operation.PassThrough {
		if len(x.Query) == 0 {
			return string(x.Path)
		}
		return string(x.Path) + "?" + string(x.Query)
	}
	o := x.Operation
	target := make([]byte, 0, 128)
	for level := range strings.SplitSeq(strings.TrimPrefix(o.HTTP.Path, "/"), "/") {
		target = x.appendLevel(append(target, '/'), level)
	}
	mark := byte('?')
	for i := range o.parameters {
		p := &o.parameters[i]
		switch {
		case p.In != fieldgate.InQuery || x.values[i] == nil:
			continue
		case p.many:
			target = x.appendPairs(append(target, mark), i)
		default:
			target = appendPercent(append(target, mark), []byte(p.Name))
			target = x.appendWire(append(target, '='), i)
		}
		mark = '&'
	}
	return string(target)
}

// appendLevel appends a level of a path template with the parameter filled in.
func (x *Exchange) appendLevel(dst []byte, level string) []byte {
	before, name, after, variable := cutParameter(level)
	if !variable {
		return append(dst, level...)
	}
	dst = append(dst, before...)
	if number := x.Operation.parameterNumber(name); number >= 0 {
		dst = x.appendWire(dst, number)
	}
	return append(dst, after...)
}

// appendWire appends a parameter's value for a URL: as it came where its delimiters count.
func (x *Exchange) appendWire(dst []byte, number int) []byte {
	if p := &x.Operation.parameters[number]; p.wire && x.Protocol != fieldgate.ProtocolMQTT {
		return append(dst, x.values[number]...)
	}
	return appendPercent(dst, x.values[number])
}

// appendPairs appends the pairs of the query that belong to a parameter, as they came.
func (x *Exchange) appendPairs(dst []byte, number int) []byte {
	first := true
	for rest := x.Query; len(rest) > 0; {
		var pair []byte
		pair, rest, _ = bytes.Cut(rest, []byte{'&'})
		key, _, _ := bytes.Cut(pair, []byte{'='})
		if name, ok := percentDecoded(key, true); !ok || x.Operation.queryParameter(name) != number {
			continue
		}
		if !first {
			dst = append(dst, '&')
		}
		dst, first = append(dst, pair...), false
	}
	return dst
}
