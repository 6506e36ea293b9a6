package pipeline

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/cache"
)

// policies are an operation's policies, linked. An operation without any has none, and pays nothing for them.
type policies struct {
	*fieldgate.Policies
	cors     *cors
	cache    *cache.Policy
	request  *transform
	response *transform
	privacy  *projections // nil: everybody sees all
	redirect func(*Exchange) string
}

func (o *Operation) linkPolicies(schemas *schemas) error {
	if o.Policies == nil {
		return nil
	}
	linked := &policies{Policies: o.Policies}
	if c := o.Policies.CORS; c != nil {
		linked.cors = linkCORS(o, c)
	}
	// Those who hear calls on a topic would miss what is answered from the cache.
	if c := o.Policies.Cache; c != nil && o.HTTP != nil && o.HTTP.Method == fieldgate.MethodGet && o.Upstream != "" && o.publish == nil {
		linked.cache = &cache.Policy{TTL: c.TTL, StaleWhileRevalidate: c.StaleWhileRevalidate, Shared: c.Shared}
	}
	var err error
	if linked.request, err = linkTransform(o.Policies.Request); err != nil {
		return fmt.Errorf("transformation of requests: %w", err)
	}
	if linked.response, err = linkTransform(o.Policies.Response); err != nil {
		return fmt.Errorf("transformation of answers: %w", err)
	}
	if linked.privacy, err = o.linkProjections(schemas); err != nil {
		return err
	}
	if r := o.Policies.Redirect; r != nil {
		linked.redirect = linkRedirect(o, r)
	}
	o.policies = linked
	return nil
}

// readsAnswers says whether answers of the upstream are needed whole, so that they cannot be streamed.
func (o *Operation) readsAnswers() bool {
	p := o.policies
	return o.takesCBOR() || p != nil && (p.Answers == fieldgate.AnswersEnforced || p.response != nil || p.privacy != nil || p.Idempotency != nil)
}

// rewritesAnswers says whether callers get other answers than the upstream gives.
func (o *Operation) rewritesAnswers() bool {
	return o.policies != nil && (o.policies.response != nil || o.policies.privacy != nil)
}

// readsRequests says whether a policy needs the request's content whole.
func (o *Operation) readsRequests() bool {
	p := o.policies
	return p != nil && (p.request != nil || p.Idempotency != nil || p.Mirror != nil || o.readsAnswers())
}

// Relays says whether a request whose content was read goes to the upstream as it came, and its answer to the caller likewise, so
// that a front which can stream does both itself.
func (o *Operation) Relays() bool {
	return o.Upstream != "" && !o.ObservesService && o.publish == nil && !o.readsAnswers() && (o.policies == nil || o.policies.request == nil)
}

// Answered says that Begin has filled x.Answer already: nothing is to be read, checked or forwarded.
func (x *Exchange) Answered() bool { return x.answered }

// answer ends the exchange's way through the stages with an answer.
func (x *Exchange) answer(a Answer) {
	x.Answer, x.answered = a, true
}

// linkRedirect makes the Location of a redirection out of its template.
func linkRedirect(o *Operation, r *fieldgate.Redirect) func(*Exchange) string {
	type piece struct {
		text   string
		number int
	}
	var pieces []piece
	for rest := r.To; rest != ""; {
		text, after, found := strings.Cut(rest, "{")
		name, tail, _ := strings.Cut(after, "}")
		number := -1
		if found {
			number = o.parameterNumber(name)
		}
		pieces = append(pieces, piece{text, number})
		rest = tail
	}
	return func(x *Exchange) string {
		var location []byte
		for _, p := range pieces {
			location = append(location, p.text...)
			if p.number >= 0 {
				location = x.appendWire(location, p.number)
			}
		}
		if len(x.Query) > 0 && !strings.Contains(r.To, "?") {
			location = append(append(location, '?'), x.Query...)
		}
		return string(location)
	}
}

// redirect is the stage that sends callers elsewhere.
func redirect(_ *Pipeline, x *Exchange) *fieldgate.Problem {
	x.answer(Answer{Status: x.Operation.policies.Redirect.Status, Location: x.Operation.policies.redirect(x)})
	return nil
}

// httpTime is RFC 9110 section 5.6.7's.
const httpTime = "Mon, 02 Jan 2006 15:04:05 GMT"

// parseDate reads an RFC 3339 date, with or without a time.
func parseDate(text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Parse(time.DateOnly, text)
}

// appendVary tells caches which fields of the request decided (RFC 9110 section 12.5.5).
func (x *Exchange) appendVary(dst []byte) []byte {
	switch {
	case x.Vary == "" && x.byAccept:
		return append(dst, "Vary: Accept\r\n"...)
	case x.Vary == "":
		return dst
	}
	dst = append(append(dst, "Vary: "...), x.Vary...)
	if x.byAccept && !slices.Contains(strings.Split(x.Vary, ", "), "Accept") {
		dst = append(dst, ", Accept"...)
	}
	return append(dst, "\r\n"...)
}

// AppendVersionFields appends the field lines that tell which fields of a request the version depends on, and a caller that the version
// it uses is on its way out: Deprecation (RFC 9745), Sunset (RFC 8594) and a link to the successor (RFC 5829).
func (x *Exchange) AppendVersionFields(dst []byte) []byte {
	dst = x.appendVary(dst)
	if x.Findings&fieldgate.FindingDeprecated == 0 {
		return dst
	}
	return x.appendSuccessor(append(dst, x.Operation.versionFields...))
}

// appendSuccessor appends the link to the same operation of the version that follows.
func (x *Exchange) appendSuccessor(dst []byte) []byte {
	path := x.SuccessorPath(nil)
	if path == nil {
		return dst
	}
	return append(append(append(dst, "Link: <"...), path...), ">; rel=\"successor-version\"\r\n"...)
}

// SuccessorPath appends the path of the same operation of the version that follows, over the exchange's protocol; nil: there is none.
func (x *Exchange) SuccessorPath(dst []byte) []byte {
	successor := x.Operation.successor.Load()
	if successor == nil {
		return nil
	}
	template := successor.http
	if x.Protocol == fieldgate.ProtocolCoAP {
		template = successor.coap
	}
	if template == "" {
		return nil
	}
	for level := range strings.SplitSeq(strings.TrimPrefix(template, "/"), "/") {
		dst = x.appendLevel(append(dst, '/'), level)
	}
	return dst
}

// linkVersionFields makes those of them once that are the same for all callers.
func (o *Operation) linkVersionFields() {
	if o.Contract.State != fieldgate.LifecycleDeprecated || o.HTTP == nil {
		return
	}
	var lines []byte
	if since, err := parseDate(o.Contract.Deprecated); err == nil { // RFC 9745 section 2: a date of RFC 9651
		lines = append(strconv.AppendInt(append(lines, "Deprecation: @"...), since.Unix(), 10), "\r\n"...)
	}
	if ends, err := parseDate(o.Contract.Sunset); err == nil {
		lines = append(lines, "Sunset: "...)
		lines = append(ends.UTC().AppendFormat(lines, httpTime), "\r\n"...)
	}
	o.versionFields = lines
}

// successor is where the same operation of the version that follows is; empty: not over that protocol.
type successor struct{ http, coap string }

// linkSuccessors links deprecated operations to the same operation of the version that follows, where this program serves it.
func (program *Program) linkSuccessors() {
	type named struct{ api, version, operation string }
	var paths map[named]*successor
	for _, o := range program.Operations {
		if o.Contract.State != fieldgate.LifecycleDeprecated || o.HTTP == nil && o.CoAP == nil || o.Contract.Successor == "" {
			continue
		}
		if paths == nil {
			paths = make(map[named]*successor, len(program.Operations))
			for _, other := range program.Operations {
				next := new(successor)
				if other.HTTP != nil {
					next.http = other.HTTP.Path
				}
				if other.CoAP != nil {
					next.coap = other.CoAP.Path
				}
				paths[named{other.Contract.API, other.Contract.Version, other.ID}] = next
			}
		}
		o.successor.Store(paths[named{o.Contract.API, o.Contract.Successor, o.ID}])
	}
}
