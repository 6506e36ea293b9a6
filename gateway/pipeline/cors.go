package pipeline

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldgate"
)

// cors is a CORS policy with its field lines made beforehand (WHATWG Fetch section 3.2).
type cors struct {
	every       bool
	origins     []string
	credentials bool
	methods     string // of preflights
	headers     string
	maxAge      string
	answer      []byte // field lines of answers, besides Access-Control-Allow-Origin
}

func linkCORS(o *Operation, policy *fieldgate.CORS) *cors {
	c := &cors{every: slices.Contains(policy.Origins, "*"), origins: policy.Origins, credentials: policy.Credentials}
	headers := slices.Clone(policy.Headers)
	headers = append(headers, "authorization", "content-type") // which every operation may need
	headers = append(headers, o.Access.Headers...)
	if o.Policies.Idempotency != nil {
		headers = append(headers, o.Policies.Idempotency.Field)
	}
	for i := range o.Parameters {
		if o.Parameters[i].In == fieldgate.InHeader {
			headers = append(headers, strings.ToLower(o.Parameters[i].Name))
		}
	}
	if o.HTTP != nil {
		for _, condition := range o.HTTP.Conditions {
			if condition.Field != "" {
				headers = append(headers, condition.Field)
			}
		}
		c.methods = o.HTTP.Method.String()
	}
	slices.Sort(headers)
	c.headers = strings.Join(slices.Compact(headers), ", ")
	if policy.MaxAge > 0 {
		c.maxAge = strconv.Itoa(int(policy.MaxAge / time.Second))
	}
	expose := append(slices.Clone(policy.Expose), "ratelimit", "ratelimit-policy", "retry-after", "deprecation", "sunset", "link")
	c.answer = append(c.answer, "Access-Control-Expose-Headers: "+strings.Join(expose, ", ")+"\r\n"...)
	if c.credentials {
		c.answer = append(c.answer, "Access-Control-Allow-Credentials: true\r\n"...)
	}
	return c
}

// allows says whether pages of an origin may call. Origins are compared byte by byte: browsers write them in one form.
func (c *cors) allows(origin []byte) bool {
	return c.every || slices.ContainsFunc(c.origins, func(o string) bool { return o == string(origin) })
}

// origin is what Access-Control-Allow-Origin says to an origin that is allowed.
func (c *cors) origin(origin []byte) string {
	if c.every {
		return "*"
	}
	return string(origin)
}

// matchPreflight answers a CORS preflight (WHATWG Fetch section 4.8) of an operation whose contract has a policy for it. Preflights carry
// no credential, so nothing but the route counts. It says whether the exchange is one.
func (x *Exchange) matchPreflight() bool {
	if x.Method != fieldgate.MethodOptions || x.HTTP == nil {
		return false
	}
	origin, found := x.HTTP.Field("origin")
	asked, preflight := x.HTTP.Field("access-control-request-method")
	if !found || !preflight {
		return false
	}
	x.Method, x.preflight = fieldgate.ParseMethod(asked), true
	problem := x.matchSites()
	x.Method = fieldgate.MethodOptions
	if problem != nil || x.Operation.policies == nil || x.Operation.policies.cors == nil {
		x.Operation, x.preflight = nil, false
		return false
	}
	c := x.Operation.policies.cors
	answer := Answer{Status: 204, Fields: []AnswerField{{Name: "Vary", Value: "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}}}
	if c.allows(origin) {
		answer.Fields = append(answer.Fields, AnswerField{Name: "Access-Control-Allow-Methods", Value: c.methods}, AnswerField{Name: "Access-Control-Allow-Headers", Value: c.headers})
		if c.maxAge != "" {
			answer.Fields = append(answer.Fields, AnswerField{Name: "Access-Control-Max-Age", Value: c.maxAge})
		}
	}
	x.answer(answer)
	return true
}

// AppendCORS appends the field lines by which a browser lets the calling page see an answer or a refusal.
func (x *Exchange) AppendCORS(dst []byte) []byte {
	if x.Operation == nil || x.Operation.policies == nil || x.Operation.policies.cors == nil || x.HTTP == nil {
		return dst
	}
	c := x.Operation.policies.cors
	origin, found := x.HTTP.Field("origin")
	if !c.every && !x.preflight { // which says so itself
		dst = append(dst, "Vary: Origin\r\n"...)
	}
	if !found || !c.allows(origin) {
		return dst
	}
	dst = append(append(append(dst, "Access-Control-Allow-Origin: "...), c.origin(origin)...), "\r\n"...)
	if x.preflight && !c.credentials {
		return dst
	}
	return append(dst, c.answer...)
}

// chooseForPreflight finds the operation that a preflight is about, of those that the requests' fields tell apart. Preflights name the
// fields that are to come, not their values (WHATWG Fetch section 4.8): so it is one whose policy lets the origin in and whose conditions are
// about such fields, the one that demands most; of several the one with the lowest id.
func (x *Exchange) chooseForPreflight(c *choice) (best *target) {
	origin, _ := x.HTTP.Field("origin")
	announced, _ := x.HTTP.Field("access-control-request-headers")
	consider := func(t *target) {
		p := t.operation.policies
		if p != nil && p.cors != nil && p.cors.allows(origin) && (best == nil || t.operation.name < best.operation.name) {
			best = t
		}
	}
	for _, s := range c.sorts {
		if slices.ContainsFunc(s.fields, func(field string) bool { return !namesField(announced, field) }) {
			continue
		}
		for _, t := range s.targets {
			consider(t)
		}
		if best != nil {
			return best
		}
	}
	if c.otherwise != nil {
		consider(c.otherwise)
	}
	return best
}

// namesField says whether a list of fields' names has one.
func namesField(list []byte, lower string) bool {
	for name := range bytes.SplitSeq(list, []byte{','}) {
		if equalFold(bytes.TrimSpace(name), lower) {
			return true
		}
	}
	return false
}

// checkOrigin is the stage: may the page call that opens the WebSocket? Browsers open one for pages of every origin, with the user's
// cookies and without a preflight (RFC 6455 section 10.2). Programs send no Origin, and pages of the gateway's own origin are at home.
func checkOrigin(_ *Pipeline, x *Exchange) *fieldgate.Problem {
	if x.HTTP == nil || !x.HTTP.Upgrades() {
		return nil
	}
	origin, found := x.HTTP.Field("origin")
	if !found || x.Operation.policies.cors.allows(origin) || bytes.EqualFold(origin, x.HTTP.AppendOrigin(nil)) {
		return nil
	}
	return x.by("cors origins", errOrigin)
}

var errOrigin = fieldgate.NewProblem(fieldgate.ProblemForbidden, "Pages of this origin may not open a WebSocket here.")

// HidesFields says whether HidesField may say so of any field.
func (x *Exchange) HidesFields() bool {
	return x.Operation.policies != nil && x.Operation.policies.cors != nil
}

// HidesField says whether a field of an upstream's answer stays here, because a policy writes it.
func (x *Exchange) HidesField(name []byte) bool {
	const prefix = "access-control-"
	return x.Method != fieldgate.MethodOptions && len(name) > len(prefix) && bytes.EqualFold(name[:len(prefix)], []byte(prefix))
}
