package coapfront

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"fieldgate"
)

// rdLink is a link that a device has registered (RFC 6690 section 2).
type rdLink struct {
	target     string // URI reference, as registered
	attributes []rdAttribute
}

// rdAttribute is a target attribute, or a parameter of a registration.
type rdAttribute struct {
	name, value string
	valued      bool // "obs" has no value
}

var (
	errLinkForm    = errors.New("is not link format (RFC 6690)")
	errTooManyLink = fmt.Errorf("has more than %d links", fieldgate.MaxDeviceLinks)
	errLinkBytes   = fmt.Errorf("is longer than %d bytes", fieldgate.MaxDeviceLinkBytes)
	errLinkTarget  = errors.New("has a target that is no absolute path, such as </sensors/temperature>")
)

// parseLinks reads a document in link format (RFC 6690 section 2). Targets must be absolute paths: a device offers its own resources only.
func parseLinks(text string) (links []rdLink, err error) {
	if len(text) > fieldgate.MaxDeviceLinkBytes {
		return nil, errLinkBytes
	}
	p := linkParser{rest: text}
	if p.space(); p.rest == "" {
		return nil, nil
	}
	for {
		l, ok := p.link()
		switch {
		case !ok:
			return nil, errLinkForm
		case !strings.HasPrefix(l.target, "/") || strings.HasPrefix(l.target, "//"):
			return nil, errLinkTarget
		case len(links) == fieldgate.MaxDeviceLinks:
			return nil, errTooManyLink
		}
		links = append(links, l)
		if p.space(); p.rest == "" {
			return links, nil
		}
		if !p.take(',') {
			return nil, errLinkForm
		}
		p.space()
	}
}

// linkParser takes apart what is left.
type linkParser struct{ rest string }

func (p *linkParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *linkParser) take(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *linkParser) link() (l rdLink, ok bool) {
	if !p.take('<') {
		return l, false
	}
	if l.target, p.rest, ok = strings.Cut(p.rest, ">"); !ok || strings.ContainsFunc(l.target, notInURI) {
		return l, false
	}
	for p.space(); p.take(';'); p.space() {
		p.space()
		a, ok := p.attribute()
		if !ok {
			return l, false
		}
		l.attributes = append(l.attributes, a)
	}
	return l, true
}

func (p *linkParser) attribute() (a rdAttribute, ok bool) {
	end := strings.IndexFunc(p.rest, func(r rune) bool { return !isToken(r) })
	if end < 0 {
		end = len(p.rest)
	}
	a.name, p.rest = p.rest[:end], p.rest[end:]
	if a.name == "" {
		return a, false
	}
	if a.valued = p.take('='); !a.valued {
		return a, true
	}
	if !p.take('"') {
		end := strings.IndexAny(p.rest, ",; \t\r\n")
		if end < 0 {
			end = len(p.rest)
		}
		a.value, p.rest = p.rest[:end], p.rest[end:]
		return a, a.value != "" && isText(a.value) && !strings.ContainsAny(a.value, `"<>\`)
	}
	var value strings.Builder
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '"':
			a.value, p.rest = value.String(), p.rest[i+1:]
			return a, isText(a.value)
		case '\\': // RFC 9110 section 5.6.4
			if i++; i == len(p.rest) {
				return a, false
			}
			value.WriteByte(p.rest[i])
		default:
			value.WriteByte(c)
		}
	}
	return a, false
}

// isToken says what a name of an attribute is made of (RFC 6690 section 2: parmname, with "*" at its end).
func isToken(r rune) bool {
	return r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// notInURI says what cannot stand in a URI reference (RFC 3986 section 2).
func notInURI(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"<>\^`+"`{|}", r) }

// isText says whether a text is UTF-8 without control characters, which terminals obey.
func isText(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\ufffd' })
}

// append writes the link with its target below base.
func (l *rdLink) append(dst *strings.Builder, base string) {
	dst.WriteString("<" + base + l.target + ">")
	for _, a := range l.attributes {
		a.append(dst)
	}
}

func (a *rdAttribute) append(dst *strings.Builder) {
	dst.WriteString(";" + a.name)
	if a.valued {
		dst.WriteString(`="`)
		for i := 0; i < len(a.value); i++ {
			if c := a.value[i]; c == '"' || c == '\\' {
				dst.WriteByte('\\')
			}
			dst.WriteByte(a.value[i])
		}
		dst.WriteByte('"')
	}
}

// severalValued attributes have values with spaces between (RFC 6690 section 4.1, RFC 8288 section 3.3).
var severalValued = []string{"rt", "if", "rel", "rev", "ct"}

// matches says whether some attribute is as a criterion asks (RFC 9176 section 6.2): "*" at the end of the pattern stands for anything.
func matches(attributes []rdAttribute, name, pattern string) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	fits := func(value string) bool { return value == prefix || open && strings.HasPrefix(value, prefix) }
	return slices.ContainsFunc(attributes, func(a rdAttribute) bool {
		if a.name != name {
			return false
		}
		return fits(a.value) || slices.Contains(severalValued, name) && slices.ContainsFunc(strings.Fields(a.value), fits)
	})
}
