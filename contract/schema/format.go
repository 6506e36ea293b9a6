package schema

import (
	"encoding/base64"
	"regexp/syntax"
)

// formats are those that are asserted for strings; an unknown format says nothing
// (JSON Schema validation §7.2.3).
var formats = map[string]func([]byte) bool{
	"date-time":     isDateTime,
	"date":          isDate,
	"time":          isTime,
	"duration":      isDuration,
	"email":         isEmail,
	"hostname":      isHostname,
	"ipv4":          isIPv4,
	"ipv6":          isIPv6,
	"uri":           isURI,
	"uri-reference": isURIReference,
	"uuid":          isUUID,
	"regex":         isRegex,
	"json-pointer":  isJSONPointer,
	"byte":          isBase64,
}

// isHostname checks RFC 1123 §2.1: labels of letters, digits and inner hyphens.
func isHostname(s []byte) bool {
	if n := len(s); n > 0 && s[n-1] == '.' {
		s = s[:n-1]
	}
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	label := 0
	for i, c := range s {
		switch {
		case isAlphanumeric(c):
			label++
		case c == '-' && label > 0:
			label++
		case c == '.' && label > 0 && s[i-1] != '-':
			label = 0
		default:
			return false
		}
		if label > 63 {
			return false
		}
	}
	return label > 0 && s[len(s)-1] != '-'
}

func isAlphanumeric(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' }

// isEmail checks a mailbox (RFC 5321 §4.1.2) with the limits of §4.5.3.1.
func isEmail(s []byte) bool {
	if len(s) > 254 {
		return false
	}
	at := len(s) - 1
	for at >= 0 && s[at] != '@' {
		at--
	}
	if at < 1 || at > 64 {
		return false
	}
	local, domain := s[:at], s[at+1:]
	if local[0] == '"' {
		if len(local) < 2 || local[at-1] != '"' {
			return false
		}
		for _, c := range local[1 : at-1] {
			if c == '"' || c == '\\' {
				return false
			}
		}
	} else {
		previous := byte('.')
		for _, c := range local {
			if !isAtom(c) && (c != '.' || previous == '.') {
				return false
			}
			previous = c
		}
		if previous == '.' {
			return false
		}
	}
	if n := len(domain); n > 2 && domain[0] == '[' && domain[n-1] == ']' {
		literal := domain[1 : n-1]
		if len(literal) > 5 && string(literal[:5]) == "IPv6:" {
			return isIPv6(literal[5:])
		}
		return isIPv4(literal)
	}
	return isHostname(domain)
}

// isAtom: atext of RFC 5322 §3.2.3.
func isAtom(c byte) bool {
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '/', '=', '?', '^', '_', '`', '{', '|', '}', '~':
		return true
	}
	return isAlphanumeric(c)
}

func isUUID(s []byte) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if _, ok := hexDigit(c); !ok {
				return false
			}
		}
	}
	return true
}

// isRegex parses only: compiling what a stranger wrote could expand into megabytes.
func isRegex(s []byte) bool {
	if len(s) > maxPattern {
		return false
	}
	translated, err := translatePattern(string(s))
	if err == nil {
		_, err = syntax.Parse(translated, syntax.Perl)
	}
	return err == nil
}

// isJSONPointer checks RFC 6901 §3.
func isJSONPointer(s []byte) bool {
	if len(s) > 0 && s[0] != '/' {
		return false
	}
	for i, c := range s {
		if c == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
			return false
		}
	}
	return true
}

// encoding says which base64 alphabet stands for a byte string.
type encoding uint8

const (
	encodingNone encoding = iota
	encodingStd
	encodingURL
)

func (e encoding) codec() *base64.Encoding {
	if e == encodingURL {
		return rawURL
	}
	return std
}

var (
	std    = base64.StdEncoding.Strict()
	rawURL = base64.RawURLEncoding.Strict()
)

// isBase64 checks padded base64 (RFC 4648 §4) without decoding it.
func isBase64(s []byte) bool {
	if len(s)%4 != 0 {
		return false
	}
	for i, c := range s {
		if isAlphanumeric(c) || c == '+' || c == '/' {
			continue
		}
		if c != '=' || i < len(s)-2 || i == len(s)-2 && s[i+1] != '=' {
			return false
		}
	}
	return true
}
