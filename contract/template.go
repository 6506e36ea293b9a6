package contract

import (
	"errors"
	"fmt"
	"strings"

	"fieldgate"
)

// Segment is one step of a path or level of a topic template: a literal, or a parameter that takes any non-empty text. In a path,
// literal text may stand before and after the parameter ("{id}.json"); in a topic it takes the whole level.
type Segment struct {
	Literal   string
	Parameter string // name without braces; empty for a literal

	Prefix, Suffix string // around the parameter
}

// SplitPath splits a path template ("/devices/{deviceId}/telemetry") into segments. Literals are made of characters that
// need no escaping in a path (RFC 3986 section 3.3); a trailing slash is a last, empty literal.
func SplitPath(path string) ([]Segment, error) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, errors.New("a path starts with a slash")
	}
	if rest == "" {
		return nil, nil
	}
	segments, err := split(rest)
	if err != nil {
		return nil, err
	}
	for i, s := range segments {
		switch {
		case strings.ContainsFunc(s.Prefix+s.Suffix, notInPath):
			return nil, fmt.Errorf("%q holds a character that has to be escaped in a path", excerpt(s.Prefix+s.Suffix))
		case s.Parameter != "":
		case s.Literal == "" && i < len(segments)-1:
			return nil, errors.New("a path has no empty segment")
		case s.Literal == "." || s.Literal == "..":
			return nil, errors.New(`"." and ".." are not segments of a path`)
		case strings.ContainsFunc(s.Literal, notInPath):
			return nil, fmt.Errorf("%q holds a character that has to be escaped in a path", excerpt(s.Literal))
		}
	}
	return segments, nil
}

// notInPath says whether r is no pchar of RFC 3986 section 3.3, escapes aside.
func notInPath(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~!$&'()*+,;=:@", r))
}

// SplitTopic splits a topic template ("d/{deviceId}/telemetry") into levels. It has neither wildcards (MQTT 5.0 section
// 4.7.1) nor a leading $, which is the server's (section 4.7.2), but for its statistics.
func SplitTopic(topic string) ([]Segment, error) {
	switch {
	case topic == "":
		return nil, errors.New("a topic is at least one character long")
	case topic[0] == '$' && !isSystem(topic):
		return nil, errBroker
	case strings.HasPrefix(topic, fieldgate.ReplyPrefix):
		return nil, errReplies
	case strings.ContainsAny(topic, "+#"):
		return nil, errors.New("a topic template has no wildcards; parameters are written {name}")
	case strings.ContainsFunc(topic, control):
		return nil, errors.New("a topic has no control characters")
	}
	segments, err := split(topic)
	for _, s := range segments {
		if s.Prefix+s.Suffix != "" {
			return nil, fmt.Errorf("%q mixes text and a parameter; a parameter takes a whole level", excerpt(s.Prefix+"{"+s.Parameter+"}"+s.Suffix))
		}
	}
	return segments, err
}

// isSystem says whether a topic is one of the gateway's statistics: who may hears them, and nobody publishes there.
func isSystem(topic string) bool { return strings.HasPrefix(topic, "$SYS/") }

var errBroker = errors.New("topics that start with $ belong to the broker, of which those below $SYS/ can be heard")

var errReplies = errors.New("topics below " + fieldgate.ReplyPrefix + " carry answers to requests")

// ValidFilter says why filter is no topic filter (MQTT 5.0 section 4.7.1), or nil.
func ValidFilter(filter string) error {
	switch {
	case filter == "" || len(filter) > fieldgate.MaxPathBytes:
		return fmt.Errorf("a filter is 1 to %d bytes long", fieldgate.MaxPathBytes)
	case filter[0] == '$' && !isSystem(filter):
		return errBroker
	case strings.HasPrefix(filter, fieldgate.ReplyPrefix):
		return errReplies
	case strings.ContainsFunc(filter, control):
		return errors.New("a filter has no control characters")
	}
	levels := strings.Split(filter, "/")
	if len(levels) > fieldgate.MaxPathSegments {
		return fmt.Errorf("a filter has at most %d levels", fieldgate.MaxPathSegments)
	}
	for i, level := range levels {
		switch {
		case level == "#" && i == len(levels)-1, level == "+":
		case strings.ContainsAny(level, "+#"):
			return errors.New("+ and # stand alone in a level, # in the last one")
		}
	}
	return nil
}

func control(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

func split(template string) ([]Segment, error) {
	if len(template) > fieldgate.MaxPathBytes {
		return nil, fmt.Errorf("a template is at most %d bytes long", fieldgate.MaxPathBytes)
	}
	parts := strings.Split(template, "/")
	if len(parts) > fieldgate.MaxPathSegments {
		return nil, fmt.Errorf("a template has at most %d segments", fieldgate.MaxPathSegments)
	}
	segments := make([]Segment, len(parts))
	seen := make(map[string]bool, len(parts))
	for i, part := range parts {
		prefix, rest, opens := strings.Cut(part, "{")
		if !opens && !strings.Contains(part, "}") {
			segments[i].Literal = part
			continue
		}
		name, suffix, closes := strings.Cut(rest, "}")
		if !closes || name == "" || strings.ContainsAny(prefix+name, "{}") {
			return nil, fmt.Errorf("%q is no parameter; write {name}", excerpt(part))
		}
		if strings.ContainsAny(suffix, "{}") {
			return nil, fmt.Errorf("%q has more than one parameter; a segment takes one", excerpt(part))
		}
		if seen[name] {
			return nil, fmt.Errorf("{%s} stands twice in the template", excerpt(name))
		}
		seen[name] = true
		segments[i] = Segment{Parameter: name, Prefix: prefix, Suffix: suffix}
	}
	return segments, nil
}

// templateShape is the template with the names of its parameters left out: what two templates that match the same paths have in
// common.
func templateShape(template string) string {
	parts := strings.Split(template, "/")
	for i, part := range parts {
		if prefix, rest, opens := strings.Cut(part, "{"); opens {
			_, suffix, _ := strings.Cut(rest, "}")
			parts[i] = prefix + "{}" + suffix
		}
	}
	return strings.Join(parts, "/")
}
