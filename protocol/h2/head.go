package h2

import (
	"bytes"

	"golang.org/x/net/http2/hpack"
)

// Field is one field line. Name is in lower case.
type Field struct{ Name, Value []byte }

// Head is a request's head. Its slices stay valid until the handler returns.
type Head struct {
	Method, Scheme, Authority, Path []byte
	Fields                          []Field // without pseudo-header fields
	ContentLength                   int64   // -1: not announced
	Empty                           bool    // the request ended with its head: it has no content
	// TooLarge says that the head is longer than Config.MaxHead or has more fields than Config.MaxFields. What is beyond is
	// missing; such a request is to be answered with 431.
	TooLarge bool
}

// section is a field section while it is decoded: the text of all fields, and where each begins and ends.
type section struct {
	text   []byte
	spans  []span
	fields []Field
	size   int // RFC 9113 §6.5.2: of each field both lengths and 32

	trailers  bool
	pseudo    [5]span // of the request's pseudo-header fields
	tooLarge  bool
	malformed string // why the request is malformed (RFC 9113 §8.1.1); empty: it is not
}

type span struct{ start, middle, end int }

const (
	pseudoMethod = iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
)

func (s *section) reset(trailers bool) {
	*s = section{text: s.text[:0], spans: s.spans[:0], fields: s.fields[:0], trailers: trailers}
}

// add takes one decoded field.
func (s *section) add(f hpack.HeaderField, limit, maxFields int) {
	if s.size += len(f.Name) + len(f.Value) + 32; s.size > limit || len(s.spans) >= maxFields {
		s.tooLarge = true
		return
	}
	if reason := s.check(f); reason != "" {
		if s.malformed == "" {
			s.malformed = reason
		}
		return
	}
	at := span{start: len(s.text)}
	s.text = append(s.text, f.Name...)
	at.middle = len(s.text)
	s.text = append(s.text, f.Value...)
	at.end = len(s.text)
	if f.Name[0] != ':' {
		s.spans = append(s.spans, at)
		return
	}
	which := -1
	switch f.Name {
	case ":method":
		which = pseudoMethod
	case ":scheme":
		which = pseudoScheme
	case ":authority":
		which = pseudoAuthority
	case ":path":
		which = pseudoPath
	}
	switch {
	case s.trailers:
		s.malformed = "pseudo-header field in trailers" // RFC 9113 §8.1
	case which < 0:
		s.malformed = "unknown pseudo-header field" // RFC 9113 §8.3
	case s.pseudo[which].end > 0:
		s.malformed = "repeated pseudo-header field"
	case len(s.spans) > 0:
		s.malformed = "pseudo-header field after other fields"
	default:
		s.pseudo[which] = at
	}
}

// check says what is wrong with a field by itself (RFC 9113 §8.2).
func (s *section) check(f hpack.HeaderField) string {
	if len(f.Name) == 0 {
		return "empty field name"
	}
	name := f.Name
	if name[0] == ':' {
		name = name[1:]
	}
	for i := range len(name) {
		if c := name[i]; !token[c] { // among them capitals
			return "character that no field name may have" // RFC 9113 §8.2.1
		}
	}
	for i := range len(f.Value) {
		if c := f.Value[i]; c == 0 || c == '\r' || c == '\n' {
			return "character that no field value may have"
		}
	}
	if n := len(f.Value); n > 0 && (f.Value[0] == ' ' || f.Value[0] == '\t' || f.Value[n-1] == ' ' || f.Value[n-1] == '\t') {
		return "field value with whitespace around it"
	}
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade": // RFC 9113 §8.2.2
		return "field of an HTTP/1.1 connection"
	case "te":
		if f.Value != "trailers" {
			return "TE other than trailers"
		}
	}
	return ""
}

// token is what a field name may consist of: RFC 9110 §5.6.2 without capitals.
var token = func() (set [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		set[c] = true
	}
	return set
}()

// list makes the fields; the text moves no more.
func (s *section) list() []Field {
	for _, at := range s.spans {
		s.fields = append(s.fields, Field{s.text[at.start:at.middle:at.middle], s.text[at.middle:at.end:at.end]})
	}
	return s.fields
}

func (s *section) value(which int) []byte {
	at := s.pseudo[which]
	return s.text[at.middle:at.end:at.end]
}

// head checks the section as a request's (RFC 9113 §8.3.1) and fills the head.
func (s *section) head(h *Head) (malformed string) {
	if s.malformed != "" || s.tooLarge {
		h.TooLarge = s.tooLarge && s.malformed == ""
		return s.malformed
	}
	*h = Head{Method: s.value(pseudoMethod), Scheme: s.value(pseudoScheme), Authority: s.value(pseudoAuthority), Path: s.value(pseudoPath),
		ContentLength: -1, Fields: s.list()}
	if len(h.Method) == 0 {
		return "no :method"
	}
	if string(h.Method) == "CONNECT" { // RFC 9113 §8.5
		if len(h.Authority) == 0 || s.pseudo[pseudoScheme].end > 0 || s.pseudo[pseudoPath].end > 0 {
			return "malformed CONNECT"
		}
	} else if len(h.Scheme) == 0 || len(h.Path) == 0 {
		return "no :scheme or :path"
	}
	for i := range h.Fields {
		switch f := &h.Fields[i]; string(f.Name) {
		case "host": // RFC 9113 §8.3.1: of two that differ nobody could say which one counts
			if len(h.Authority) > 0 && !bytes.EqualFold(f.Value, h.Authority) {
				return "Host other than :authority"
			}
		case "content-length":
			length, ok := parseLength(f.Value)
			if !ok || h.ContentLength >= 0 {
				return "malformed or repeated Content-Length"
			}
			h.ContentLength = length
		}
	}
	return ""
}

func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
