package schema

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Kind says what sort of rule a document broke. Everything but Mismatch is found
// before the schema is looked at, except TooComplex.
type Kind uint8

const (
	// Mismatch: the document is well formed, but not what the schema allows.
	Mismatch Kind = iota + 1
	// Syntax: not JSON (RFC 8259) or not CBOR (RFC 8949) that JSON could express.
	Syntax
	// InvalidUTF8: a text that is not UTF-8, or a lone surrogate escape (RFC 7493 §2.1).
	InvalidUTF8
	// DuplicateKey: an object names a member twice (RFC 7493 §2.3).
	DuplicateKey
	// TooDeep: nested beyond Options.MaxDepth.
	TooDeep
	// TooLarge: beyond Options.MaxBytes or MaxValues, or a number beyond 1000 characters or 1e±999.
	TooLarge
	// TooComplex: checking took more steps than a document of this size is allowed.
	TooComplex
)

var kindNames = [...]string{"", "mismatch", "syntax", "invalid UTF-8", "duplicate key", "too deep", "too large", "too complex"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Malformed reports whether the document itself is unreadable or over a limit,
// whatever the schema says.
func (k Kind) Malformed() bool { return k != Mismatch && k != TooComplex }

// Violation is the first thing found wrong with a document. It never carries more
// than a short, printable piece of the payload.
type Violation struct {
	Kind     Kind
	Instance string // JSON Pointer (RFC 6901) of the offending value; "" is the whole document
	Clause   string // the keyword: "/properties/temp/maximum" below the compiled schema, "#/$defs/…" elsewhere in the bundle; "" unless Mismatch
	Message  string // for people: "21000 is greater than the maximum 125"
	Offset   int    // byte offset in the document; -1 if not known
}

func (v *Violation) Error() string {
	var b strings.Builder
	if v.Kind != Mismatch {
		b.WriteString(v.Kind.String() + ": ")
	}
	if v.Instance != "" {
		b.WriteString(v.Instance + ": ")
	}
	b.WriteString(v.Message)
	if v.Clause != "" {
		b.WriteString(" (" + v.Clause + ")")
	} else if v.Offset >= 0 {
		fmt.Fprintf(&b, " (byte %d)", v.Offset)
	}
	return b.String()
}

// CompileError says where in a bundle a schema is wrong and what to do about it.
type CompileError struct {
	Pointer string // JSON Pointer fragment in the bundle: "#/$defs/Telemetry/minimum"
	Message string
}

func (e *CompileError) Error() string { return e.Pointer + ": " + e.Message }

// maxExcerpt bounds each piece of payload that a violation shows.
const maxExcerpt = 48

// excerpt returns a short printable form of payload text, safe for logs.
func excerpt(text []byte) string {
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if b.Len()+size > maxExcerpt {
			return b.String() + "…"
		}
		if r < 0x20 || r == 0x7f || r == utf8.RuneError || (r >= 0x80 && r < 0xa0) || r == 0x2028 || r == 0x2029 {
			r = '?'
		}
		b.WriteRune(r)
		text = text[size:]
	}
	return b.String()
}

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

// appendToken appends one reference token to a JSON Pointer (RFC 6901 §3).
func appendToken(pointer, token string) string {
	if strings.ContainsAny(token, "~/") {
		token = pointerEscaper.Replace(token)
	}
	return pointer + "/" + token
}
