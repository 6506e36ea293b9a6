package pipeline

import (
	"bytes"
	"unsafe"

	"fieldgate"
)

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
	for i := range x.Operation.parameters {
		parameter := &x.Operation.parameters[i]
		if x.values[i] == nil {
			var ok bool
			if x.values[i], ok = x.parameterValue(parameter); !ok {
				return x.by("percent-encoding", errPercent)
			}
		}
		if x.values[i] == nil {
			if parameter.Required && !x.mayLack(parameter) {
				return x.by(x.Operation.rules.parameters[i], &fieldgate.Problem{Code: fieldgate.ProblemInvalidParameter, Detail: "The parameter is missing.", Pointer: parameter.Name})
			}
			continue
		}
		if parameter.schema != nil {
			if err := parameter.schema.ValidateText(text(x.values[i])); err != nil {
				return x.violation(fieldgate.ProblemInvalidParameter, parameter.Name, err)
			}
		}
	}
	return nil
}

// mayLack: a subscriber that names no value of a path parameter hears all of them.
func (x *Exchange) mayLack(parameter *linkedParameter) bool {
	return parameter.In == fieldgate.InPath && x.Operation.Subscribes() && (x.Method == fieldgate.MethodSubscribe || !x.Operation.Calls())
}

// parameterValue finds a parameter outside the path. Over MQTT and CoAP, path parameters that the topic or path does not
// carry come from the query too.
func (x *Exchange) parameterValue(parameter *linkedParameter) (value []byte, ok bool) {
	switch {
	case parameter.In == fieldgate.InQuery, parameter.In == fieldgate.InPath:
		return queryValue(x.Query, parameter.Name)
	case x.Fields == nil:
		return nil, true
	case parameter.In == fieldgate.InHeader:
		value, _ = x.Fields.Field(parameter.field)
		return value, true
	default:
		cookies, _ := x.Fields.Field("cookie")
		return cookieValue(cookies, parameter.Name), true
	}
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
			if value == nil {
				value = []byte{}
			}
			return value, ok
		}
	}
	return nil, true
}

// cookieValue is the value of a cookie (RFC 6265 section 4.2.1).
func cookieValue(cookies []byte, name string) []byte {
	for len(cookies) > 0 {
		var pair []byte
		pair, cookies, _ = bytes.Cut(cookies, []byte{';'})
		if key, value, ok := bytes.Cut(bytes.TrimSpace(pair), []byte{'='}); ok && string(key) == name {
			return value
		}
	}
	return nil
}

// text is the bytes as a string without a copy, for callees that do not keep it.
func text(value []byte) string { return unsafe.String(unsafe.SliceData(value), len(value)) }
