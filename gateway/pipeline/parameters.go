package pipeline

import (
	"bytes"
	"strings"
	"unsafe"

	"fieldgate"
	"fieldgate/contract/schema"
)

// linkedParameter is a parameter with its schema compiled.
type linkedParameter struct {
	*fieldgate.Parameter
	schema *schema.Schema // nil: anything goes
	takes  schema.Takes
	field  string // lower-case name of a header parameter
	title  string // for messages: "query parameter ids"

	// wire: the value is kept as it came, because its delimiters count before percent-encoding is undone.
	wire bool
	// many: the value is all pairs of the query that belong to the parameter.
	many bool
}

func linkParameter(p *fieldgate.Parameter, schemas *schemas) (l linkedParameter, err error) {
	l = linkedParameter{Parameter: p, field: strings.ToLower(p.Name), title: string(p.In) + " parameter " + p.Name}
	if l.schema, err = schemas.compile(p.Schema); err != nil || l.schema == nil || p.JSON {
		return l, err
	}
	l.takes = l.schema.Takes()
	structured := l.takes.Array || l.takes.Object
	l.wire = structured || p.Style != fieldgate.StyleDefault
	l.many = p.In == fieldgate.InQuery && (p.Style == fieldgate.StyleDeepObject || structured && p.Explode)
	return l, nil
}

// readBound is the stage that finds parameters outside of the path before it is asked whether they are the caller's own.
func readBound(_ *Pipeline, x *Exchange) *fieldgate.Problem {
	x.readParameters()
	if x.misread != nil && x.misread.parameter.Bound {
		return x.by(x.misread.parameter.title, x.misread.problem())
	}
	return nil
}

// checkParameters is the stage: is each parameter there if it has to be, and what its schema says?
func checkParameters(_ *Pipeline, x *Exchange) *fieldgate.Problem {
	problem := x.checkParameters()
	if problem == nil || x.Operation.OnInvalid != fieldgate.InvalidShadow {
		return problem
	}
	x.shadow()
	return nil
}

func (x *Exchange) checkParameters() *fieldgate.Problem {
	x.readParameters()
	if x.misread != nil {
		if x.misread.percent {
			return x.by("percent-encoding", errPercent)
		}
		return x.by("parameter "+x.misread.parameter.Name, x.misread.problem())
	}
	for i := range x.Operation.parameters {
		p := &x.Operation.parameters[i]
		value := x.values[i]
		switch {
		case value == nil:
			if p.Required && !x.mayLack(p) {
				return x.by(x.Operation.rules.parameters[i], &fieldgate.Problem{Code: fieldgate.ProblemInvalidParameter, Detail: "The " + p.title + " is missing.", Pointer: p.Name})
			}
			continue
		case p.schema == nil, p.AllowEmpty && len(value) == 0:
			continue
		}
		var err error
		switch {
		case p.JSON:
			err = p.schema.ValidateJSON(value)
		case p.wire:
			err = x.checkStyled(p, value)
		default:
			err = p.schema.ValidateText(text(value))
		}
		if err == errPercent {
			return x.by("percent-encoding", errPercent)
		}
		if err != nil {
			problem := x.violation(fieldgate.ProblemInvalidParameter, p.Name, err)
			problem.Detail = p.title + ": " + problem.Detail
			return problem
		}
	}
	return nil
}

// mayLack: a subscriber that names no value of a path parameter hears all of them.
func (x *Exchange) mayLack(parameter *linkedParameter) bool {
	return parameter.In == fieldgate.InPath && x.Operation.Subscribes() && (x.Method == fieldgate.MethodSubscribe || !x.Operation.Calls())
}

// misread is a parameter whose value cannot be told.
type misread struct {
	parameter *linkedParameter
	percent   bool // the percent-encoding is malformed
}

func (m *misread) problem() *fieldgate.Problem {
	if m.percent {
		return errPercent
	}
	return &fieldgate.Problem{Code: fieldgate.ProblemInvalidParameter, Detail: "The " + m.parameter.title + " is given more than once.", Pointer: m.parameter.Name}
}

// anyParameter stands for whichever parameter a malformed name might have meant.
var anyParameter = &linkedParameter{Parameter: &fieldgate.Parameter{Bound: true}, title: "percent-encoding"}

// readParameters finds the values of the parameters that the path did not carry. Which of two values of one name is meant is not for
// us to guess: another program may take the other one. So a name counts once, unless the contract has a list written that way.
func (x *Exchange) readParameters() {
	if x.read {
		return
	}
	x.read = true
	if len(x.Query) > 0 && x.Operation.queried {
		x.readQuery()
	}
	if x.Fields == nil {
		return
	}
	for i := range x.Operation.parameters {
		switch p := &x.Operation.parameters[i]; {
		case p.In == fieldgate.InHeader && x.values[i] == nil:
			if value, found := x.Fields.Field(p.field); found { // several lines are one list (RFC 9110 §5.3)
				x.values[i] = present(value)
			}
		case p.In == fieldgate.InCookie:
			x.readCookie(i, p)
		}
	}
}

func (x *Exchange) misreads(p *linkedParameter, percent bool) {
	if x.misread == nil || p.Bound && !x.misread.parameter.Bound {
		x.misread = &misread{p, percent}
	}
}

// readQuery takes one walk through the query. Names that no parameter has pass. Over MQTT and CoAP, path parameters that the topic or
// path does not carry come from the query too.
func (x *Exchange) readQuery() {
	var inPath [fieldgate.MaxParameters]bool // of those that the path carried
	for i := range x.Operation.parameters {
		inPath[i] = x.values[i] != nil
	}
	for rest := x.Query; len(rest) > 0; {
		var pair []byte
		pair, rest, _ = bytes.Cut(rest, []byte{'&'})
		key, value, _ := bytes.Cut(pair, []byte{'='})
		name, ok := percentDecoded(key, true)
		if !ok {
			x.misreads(anyParameter, true)
			continue
		}
		i := x.Operation.queryParameter(name)
		if i < 0 || inPath[i] {
			continue
		}
		p := &x.Operation.parameters[i]
		switch {
		case p.many:
			if x.values[i] == nil || len(value) > 0 {
				x.values[i] = present(value)
			}
			continue
		case x.values[i] != nil:
			x.misreads(p, false)
			continue
		case !p.wire:
			if value, ok = percentDecoded(value, true); !ok {
				x.misreads(p, true)
				continue
			}
		}
		x.values[i] = present(value)
	}
}

// present is a value that is there, which an empty one must not be mistaken for.
func present(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

// queryParameter is the number of the parameter that a name in a query belongs to, or -1.
func (o *Operation) queryParameter(name []byte) int {
	taken := -1
	for i := range o.parameters {
		p := &o.parameters[i]
		switch {
		case p.In != fieldgate.InQuery && p.In != fieldgate.InPath:
		case !p.many || p.takes.Array || p.takes.Primitive:
			if string(name) == p.Name {
				return i
			}
			fallthrough
		default:
			if taken < 0 && p.many && p.takes.Object && p.isMember(name) {
				taken = i // unless a parameter has the name itself
			}
		}
	}
	return taken
}

// isMember says whether a name in a query is that of a member of the parameter, an object that is written as several pairs.
func (p *linkedParameter) isMember(name []byte) bool {
	if p.Style == fieldgate.StyleDeepObject {
		_, ok := deepMember(name, p.Name)
		return ok
	}
	_, declared := p.schema.Member(name)
	return declared
}

// deepMember is the member of "color[R]".
func deepMember(name []byte, parameter string) (member []byte, ok bool) {
	rest, ok := bytes.CutPrefix(name, []byte(parameter))
	if !ok || len(rest) < 2 || rest[0] != '[' || rest[len(rest)-1] != ']' {
		return nil, false
	}
	return rest[1 : len(rest)-1], true
}

// readCookie finds a cookie.
func (x *Exchange) readCookie(i int, p *linkedParameter) {
	cookies, _ := x.Fields.Field("cookie")
	value, rest := nextCookie(cookies, p.Name)
	if again, _ := nextCookie(rest, p.Name); again != nil {
		x.misreads(p, false)
		return
	}
	x.values[i] = value
}

// queryValue is the first value of that name; nil when there is none.
func queryValue(query []byte, name string) (value []byte, ok bool) {
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte{'&'})
		key, value, _ := bytes.Cut(pair, []byte{'='})
		key, ok := percentDecoded(key, true)
		if !ok {
			return nil, false
		}
		if string(key) == name {
			value, ok = percentDecoded(value, true)
			return present(value), ok
		}
	}
	return nil, true
}

// cookieValue is the first value of a cookie (RFC 6265 §4.2.1); nil when there is none.
func cookieValue(cookies []byte, name string) []byte {
	value, _ := nextCookie(cookies, name)
	return value
}

// nextCookie is the value of the next cookie of that name, and what follows it.
func nextCookie(cookies []byte, name string) (value, rest []byte) {
	for len(cookies) > 0 {
		var pair []byte
		pair, cookies, _ = bytes.Cut(cookies, []byte{';'})
		if key, value, ok := bytes.Cut(bytes.TrimSpace(pair), []byte{'='}); ok && string(key) == name {
			return present(value), cookies
		}
	}
	return nil, nil
}

// text is the bytes as a string without a copy, for callees that do not keep it.
func text(value []byte) string { return unsafe.String(unsafe.SliceData(value), len(value)) }
