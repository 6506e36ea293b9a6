package pipeline

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"fieldgate"
)

// upstreamTarget is the path and query that the upstream sees: over HTTP the caller's own, otherwise those of the operation's
// HTTP binding with the parameters filled in. Of an operation without one it is what the caller named.
func (x *Exchange) upstreamTarget() string { return string(x.appendTarget(make([]byte, 0, 128))) }

// appendTarget appends what upstreamTarget is.
func (x *Exchange) appendTarget(target []byte) []byte {
	if x.Protocol == fieldgate.ProtocolHTTP || x.Operation.PassThrough || x.Operation.HTTP == nil {
		target = append(target, x.Path...)
		if len(x.Query) > 0 {
			target = append(append(target, '?'), x.Query...)
		}
		return target
	}
	o := x.Operation
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
	return target
}

// checkTarget refuses values that would make another path of the operation's than the one that was matched and checked: HTTP fronts see to that
// themselves, but a topic level may be "..", and a query hold anything (RFC 3986 section 3.3).
func (x *Exchange) checkTarget() *fieldgate.Problem {
	if x.Protocol == fieldgate.ProtocolHTTP || x.Operation.PassThrough || x.Operation.HTTP == nil {
		return nil
	}
	for level := range strings.SplitSeq(strings.TrimPrefix(x.Operation.HTTP.Path, "/"), "/") {
		_, name, _, variable := cutParameter(level)
		if !variable {
			continue
		}
		filled := x.appendLevel(nil, level)
		decoded, ok := percentDecoded(filled, false)
		if !ok || !isSegment(decoded) || bytes.ContainsAny(filled, "?#") {
			return x.by(ruleText("parameter "+name), &fieldgate.Problem{Code: fieldgate.ProblemInvalidParameter, Detail: errSegment, Pointer: name})
		}
	}
	return nil
}

// isSegment says whether a path may have it between two slashes so that no two programs read it differently.
func isSegment(decoded []byte) bool {
	plain, _, _ := bytes.Cut(decoded, []byte{';'}) // some take what follows for parameters
	return len(decoded) > 0 && string(plain) != "." && string(plain) != ".." && utf8.Valid(decoded) &&
		!bytes.ContainsFunc(decoded, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' || r == '\\' })
}

const errSegment = `A value in a path is neither empty nor "." nor "..", and has no "/", "\" or control character in it.`

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
