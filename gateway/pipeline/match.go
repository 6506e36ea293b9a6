package pipeline

import (
	"bytes"

	"fieldgate"
	"fieldgate/protocol/mqtt"
)

var (
	errNotFound = fieldgate.NewProblem(fieldgate.ProblemNotFound, "No published contract has this path or topic.")
	errTooLong  = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "The path or topic is too long.")
	errPercent  = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "The percent-encoding is malformed.")
)

// match finds the operation that the exchange asks for.
func (p *Pipeline) match(x *Exchange) *fieldgate.Problem {
	if len(x.Path) > fieldgate.MaxPathBytes {
		return x.by("path length", errTooLong)
	}
	switch x.Protocol {
	case fieldgate.ProtocolMQTT:
		return x.matchTopic()
	case fieldgate.ProtocolCoAP:
		return x.matchCoAP()
	}
	return x.matchSites()
}

// matchSites finds the operation of an HTTP request.
func (x *Exchange) matchSites() *fieldgate.Problem {
	// Contracts of the named host come before those for every host.
	if len(x.Host) != 0 {
		if site := x.program.sites[string(x.Host)]; site != nil {
			problem := x.matchRoute(site)
			if problem == nil || problem.Code == fieldgate.ProblemMethodNotAllowed {
				return problem
			}
			if problem != errNotFound { // it knows the path: what it says counts, unless another site serves the request
				if x.matchRoute(&x.program.everySite) == nil {
					return nil
				}
				return problem
			}
		}
	}
	return x.matchRoute(&x.program.everySite)
}

// CoAPOperation is the operation that a CoAP request asks for; nil: no contract has it.
func (p *Pipeline) CoAPOperation(method fieldgate.Method, path string) *Operation {
	x := Exchange{Protocol: fieldgate.ProtocolCoAP, Method: method, Path: []byte(path), program: p.Program()}
	if x.matchRoute(&x.program.coap) != nil {
		return nil
	}
	return x.Operation
}

// site routes the paths of one host, or of CoAP.
type site struct {
	root     node
	prefixes []prefix // of pass-through APIs, the longest first
}

type prefix struct {
	path      string // without a slash at the end
	operation *Operation
}

// matchRoute asks the contracts first; a pass-through API takes what none explains.
func (x *Exchange) matchRoute(s *site) *fieldgate.Problem {
	problem := x.matchTemplates(&s.root)
	if problem != nil && x.matchPrefix(s.prefixes) {
		return nil
	}
	return problem
}

func (x *Exchange) matchTemplates(root *node) *fieldgate.Problem {
	if len(x.Path) == 0 || x.Path[0] != '/' {
		return errNotFound
	}
	s := search{method: x.Method}
	if s.method == fieldgate.MethodHead {
		s.method = fieldgate.MethodGet // RFC 9110 section 9.3.2
	}
	if t := root.find(x.Path[1:], &s); t != nil {
		return x.take(t, &s)
	}
	if s.other != nil {
		allow := s.other.allow()
		return &fieldgate.Problem{Code: fieldgate.ProblemMethodNotAllowed, Detail: "The contract has other methods for this path: " + allow + ".", Allow: allow}
	}
	return errNotFound
}

func (x *Exchange) matchPrefix(prefixes []prefix) bool {
	for i := range prefixes {
		rest, ok := bytes.CutPrefix(x.Path, []byte(prefixes[i].path))
		if ok && (len(rest) == 0 || rest[0] == '/') {
			x.Operation = prefixes[i].operation
			return true
		}
	}
	return false
}

// take notes the operation and the values of its variable levels.
func (x *Exchange) take(t *target, s *search) *fieldgate.Problem {
	if t.choice != nil {
		c := t.choice
		if x.preflight {
			t = x.chooseForPreflight(c)
		} else {
			t = x.choose(c)
		}
		if t == nil {
			return c.none
		}
	}
	x.Operation = t.operation
	for i, number := range t.numbers {
		if number < 0 {
			continue
		}
		value := s.values[i]
		if x.Protocol != fieldgate.ProtocolMQTT && !t.operation.parameters[number].wire {
			var ok bool
			if value, ok = percentDecoded(value, false); !ok {
				return x.by("percent-encoding", errPercent)
			}
		}
		x.values[number] = value
	}
	return nil
}

// matchTopic finds the operation that a publish to the topic belongs to.
func (x *Exchange) matchTopic() *fieldgate.Problem {
	ramp := x.onRamp()
	if ramp != nil {
		if problem := x.mayPublish(ramp); problem != nil {
			return problem
		}
	}
	s := search{method: fieldgate.MethodPublish}
	if t := x.program.topics.find(x.Path, &s); t != nil {
		return x.take(t, &s)
	}
	for i := range x.program.filters {
		if f := &x.program.filters[i]; f.action != fieldgate.ActionSubscribe && mqtt.FilterMatches([]byte(f.filter), x.Path) {
			x.Operation = f.operation
			return nil
		}
	}
	if ramp != nil {
		x.Operation = ramp.operation
		return nil
	}
	return errNotFound
}

// onRamp is that by which the caller came; nil: by none.
func (x *Exchange) onRamp() *OnRamp {
	if x.Caller == nil {
		return nil
	}
	return x.Caller.OnRamp
}
