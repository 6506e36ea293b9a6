package contract

import (
	"fmt"
	"slices"
	"strings"

	"fieldgate"
)

// whenWords say what a request must have besides its route.
var whenWords = closed(fields{"headers": atMost(4, mapOf(text)), "media-type": text})

// readConditions reads what x-fieldgate.when says of the operation's HTTP route.
func (c *compiler) readConditions(op *fieldgate.Operation, levels []*node) {
	when := inherited("when", levels...)
	switch {
	case when == nil:
		return
	case op.HTTP == nil:
		if own := levels[0].get("when"); own != nil {
			c.fail(own, "remove it, or add an HTTP binding", "when tells requests over HTTP apart, by which %s cannot be reached", op.ID)
		}
		return
	case len(when.all()) == 0 || when.get("media-type") == nil && len(when.get("headers").all()) == 0:
		c.fail(when, "name headers or media-type", "when demands nothing")
		return
	}
	seen := make(map[string]bool)
	for _, header := range when.get("headers").all() {
		name := c.conditionField(header)
		if seen[name] {
			c.fail(header, "keep one", "%s is named twice", excerpt(header.name))
		}
		seen[name] = true
		op.HTTP.Conditions = append(op.HTTP.Conditions, fieldgate.Condition{Field: name, Value: header.string()})
	}
	if n := when.get("media-type"); n != nil {
		t := c.mediaType(n, n.string())
		if strings.Contains(t, "*") {
			c.fail(n, "write it like application/vnd.example.v2+json", "a range of media types tells no versions apart")
		}
		op.HTTP.Conditions = append(op.HTTP.Conditions, fieldgate.Condition{MediaType: t})
	}
	// In one order, so that equal conditions are equal routes.
	slices.SortFunc(op.HTTP.Conditions, func(a, b fieldgate.Condition) int {
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
	for _, condition := range op.HTTP.Conditions {
		c.write(when, len(condition.Field)+len(condition.Value)+len(condition.MediaType))
	}
}

// conditionField reads one field of when.headers.
func (c *compiler) conditionField(header *node) (lower string) {
	lower = c.fieldName(header, header.name)
	switch lower {
	case "accept", "content-type":
		c.fail(header, "write media-type: TYPE beside headers", "%s holds more than a media type, and is not compared as it stands", header.name)
	case "authorization", "proxy-authorization", "cookie":
		c.fail(header, "leave it out", "%s holds secrets, by which no version is told from another", header.name)
	}
	value := header.string()
	switch {
	case value == "":
		c.fail(header, "write the value that the field must have", "the value of %s is missing", excerpt(header.name))
	case len(value) > fieldgate.MaxIdentifierBytes || strings.TrimSpace(value) != value || strings.ContainsFunc(value, notInValue):
		c.fail(header, "write up to 128 visible ASCII characters, and spaces between them", "no field can have the value %q", excerpt(value))
	}
	return lower
}

// notInValue says whether r is neither visible ASCII nor a space (RFC 9110 section 5.5).
func notInValue(r rune) bool { return r < 0x20 || r > 0x7e }

// readAnswerCheck reads x-fieldgate.check-answers.
func (c *compiler) readAnswerCheck(op *fieldgate.Operation, levels []*node) {
	n := inherited("check-answers", levels...)
	if n == nil || n.string() == "off" {
		return
	}
	why := ""
	switch {
	case op.Upstream == "":
		why = "has no upstream, whose answers could be checked"
	case op.HTTP != nil && op.HTTP.WebSocket:
		why = "is a WebSocket, which has no answer to check"
	case slices.ContainsFunc(op.Responses, streams):
		why = "answers with a stream of events, which is never whole"
	case len(op.Responses) == 0:
		why = "describes no answers"
	default:
		c.policies(op).Answers = fieldgate.AnswerCheck(n.string())
		return
	}
	if levels[0].get("check-answers") != nil { // said of the whole document, it holds where it means something
		c.warn(n, "leave check-answers out", "%s %s", op.ID, why)
	}
}

// streams says whether an answer is server-sent events.
func streams(r fieldgate.Response) bool {
	return slices.ContainsFunc(r.Media, func(m fieldgate.MediaType) bool { return m.Type == "text/event-stream" })
}
