package contract

import (
	"encoding/json"
	"errors"
	"mime"
	"slices"
	"strings"

	"fieldgate"
	"fieldgate/contract/schema"
)

// pendingExample is an example whose verdict waits until the schemas are compiled.
type pendingExample struct {
	at     *node
	schema fieldgate.SchemaRef
	value  json.RawMessage
	expect int
}

// mediaType reads the name of a media type (RFC 9110 section 8.3.1) and reports what is none.
func (c *compiler) mediaType(at *node, name string) string {
	t, _, err := mime.ParseMediaType(name)
	if err != nil || strings.Count(t, "/") != 1 {
		c.fail(at, "write it like application/json", "%q is not a media type", excerpt(name))
		return ""
	}
	return t
}

// checked says whether payloads of the type are read, and so checked, by Fieldgate.
func checked(mediaType string) bool {
	switch mediaType {
	case "application/json", "text/json", "application/cbor", "text/plain", "*/*", "application/*":
		return true
	}
	return strings.HasSuffix(mediaType, "+json") || strings.HasSuffix(mediaType, "+cbor") || isForm(mediaType)
}

// isForm says whether the type is one of the two of HTML forms (RFC 1866 section 8.2.1, RFC 7578).
func isForm(mediaType string) bool {
	return mediaType == "application/x-www-form-urlencoded" || mediaType == "multipart/form-data"
}

func isXML(mediaType string) bool {
	return mediaType == "application/xml" || mediaType == "text/xml" || strings.HasSuffix(mediaType, "+xml")
}

// addExample reads one example. expectation is its x-fieldgate-expect, if the place allows one.
func (c *compiler) addExample(m *fieldgate.MediaType, name string, value, expectation *node) {
	if value == nil {
		return
	}
	e := fieldgate.Example{Name: name, Value: c.toJSON(value)}
	if expectation != nil {
		e.Expect, _ = expectation.integer()
		if e.Expect < 200 || e.Expect > 599 {
			c.fail(expectation, "write the status that the example leads to, such as 422", "x-fieldgate-expect must be 200 to 599")
		}
	}
	if m.Schema != "" {
		c.examples = append(c.examples, pendingExample{value, m.Schema, e.Value, e.Expect})
	}
	if m.Example == nil && succeeds(e) {
		m.Example = e.Value
	}
	m.Examples = append(m.Examples, e)
}

func succeeds(e fieldgate.Example) bool { return e.Expect == 0 || e.Expect/100 == 2 }

// borrowExample takes the example of the schema where the media type has none of its own.
func (c *compiler) borrowExample(m *fieldgate.MediaType, n *node) {
	n = c.resolve(n)
	value := n.get("example")
	if examples := n.get("examples"); value == nil && len(examples.all()) > 0 && examples.kind == sequence {
		value = examples.children[0]
	}
	if m.Example == nil && value != nil {
		m.Example = c.toJSON(value)
		c.examples = append(c.examples, pendingExample{value, m.Schema, m.Example, 0})
	}
}

// checkExamples holds every example against its schema. One that says what it leads to is a test, and must be right. Others are
// the author's illustration: what is wrong with them is a warning, and the mock does not answer with them.
func (c *compiler) checkExamples(compiled map[fieldgate.SchemaRef]*schema.Schema) {
	broken := make(map[brokenExample]bool)
	for _, e := range c.examples {
		s := compiled[e.schema]
		if s == nil {
			continue // the schema itself is wrong, which has been said
		}
		err := s.ValidateJSON(e.value)
		switch {
		case err != nil && (e.expect == 0 || e.expect/100 == 2):
			at, message := e.at, err.Error()
			var v *schema.Violation
			if errors.As(err, &v) {
				message = v.Message
				if inner := e.at.descend(v.Instance); inner != nil {
					at = inner
				}
			}
			report := c.warn
			if e.expect != 0 {
				report = c.fail
			}
			report(at, "correct it, or say x-fieldgate-expect: 422", "the example breaks its own schema: %s", message)
			broken[brokenExample{e.schema, string(e.value)}] = true
		case err == nil && e.expect == fieldgate.ProblemInvalidPayload.Status():
			c.fail(e.at, "make it invalid, or leave x-fieldgate-expect out", "the example is valid, but x-fieldgate-expect says that it is refused")
		}
	}
	if len(broken) > 0 {
		c.dropExamples(broken)
	}
}

// brokenExample names examples by what decides about them.
type brokenExample struct {
	schema fieldgate.SchemaRef
	value  string
}

// dropExamples takes broken examples out of the contract.
func (c *compiler) dropExamples(broken map[brokenExample]bool) {
	c.eachMediaType(func(m *fieldgate.MediaType) {
		isBroken := func(value json.RawMessage) bool { return broken[brokenExample{m.Schema, string(value)}] }
		m.Examples = slices.DeleteFunc(m.Examples, func(e fieldgate.Example) bool { return succeeds(e) && isBroken(e.Value) })
		if isBroken(m.Example) {
			m.Example = nil
			if i := slices.IndexFunc(m.Examples, succeeds); i >= 0 {
				m.Example = m.Examples[i].Value
			}
		}
	})
}
