package schema

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// What ECMA-262 calls white space (§12.2, §12.3) and a line terminator, as the inside
// of a Go character class.
const (
	ecmaSpace   = `\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}`
	ecmaLineEnd = `\n\r\x{2028}\x{2029}`
)

var errLook = errors.New("look-ahead, look-behind and back-references cannot be matched in linear time; express the rule with allOf, not and plain patterns")

// translatePattern rewrites an ECMA-262 pattern (u flag, as JSON Schema core §6.4 asks)
// in the syntax of package regexp.
func translatePattern(source string) (string, error) {
	if len(source) > maxPattern {
		return "", fmt.Errorf("pattern longer than %d bytes", maxPattern)
	}
	var out strings.Builder
	inClass := false
	for i := 0; i < len(source); {
		c := source[i]
		switch {
		case c == '\\':
			n, err := translateEscape(&out, source[i:], inClass)
			if err != nil {
				return "", err
			}
			i += n
			continue
		case inClass && c == ']':
			inClass = false
		case inClass && c == '[':
			out.WriteByte('\\') // literal here; Go would look for [:name:]
		case c == '[' && !inClass:
			if rest := source[i:]; strings.HasPrefix(rest, "[]") {
				out.WriteString(`[^\x00-\x{10FFFF}]`) // matches nothing
				i += 2
				continue
			} else if strings.HasPrefix(rest, "[^]") {
				out.WriteString(`[\x00-\x{10FFFF}]`)
				i += 3
				continue
			}
			inClass = true
		case c == '.' && !inClass:
			out.WriteString(`[^` + ecmaLineEnd + `]`)
			i++
			continue
		case c == '(' && !inClass && strings.HasPrefix(source[i:], "(?"):
			rest := source[i+2:]
			if rest == "" || rest[0] == '=' || rest[0] == '!' || strings.HasPrefix(rest, "<=") || strings.HasPrefix(rest, "<!") {
				return "", errLook
			}
			if rest[0] != ':' && rest[0] != '<' {
				return "", errors.New("flags inside a pattern are not part of ECMA-262")
			}
		}
		out.WriteByte(c)
		i++
	}
	return out.String(), nil
}

// translateEscape writes the Go form of the escape that s begins with and returns its length.
func translateEscape(out *strings.Builder, s string, inClass bool) (int, error) {
	if len(s) < 2 {
		return 0, errors.New("pattern ends in a backslash")
	}
	class := func(inside string, negated bool) (int, error) {
		switch {
		case inClass && negated:
			return 0, errors.New(`\S inside brackets cannot be expressed; list the characters`)
		case inClass:
			out.WriteString(inside)
		case negated:
			out.WriteString("[^" + inside + "]")
		default:
			out.WriteString("[" + inside + "]")
		}
		return 2, nil
	}
	switch c := s[1]; c {
	case 's', 'S':
		return class(ecmaSpace, c == 'S')
	case 'd', 'D', 'w', 'W', 'f', 'n', 'r', 't', 'v':
		out.WriteString(s[:2])
		return 2, nil
	case 'b':
		if inClass {
			out.WriteString(`\x08`)
		} else {
			out.WriteString(`\b`)
		}
		return 2, nil
	case 'B':
		out.WriteString(`\B`)
		return 2, nil
	case '0':
		out.WriteString(`\x00`)
		return 2, nil
	case 'c':
		if len(s) < 3 || s[2]|0x20 < 'a' || s[2]|0x20 > 'z' {
			return 0, errors.New(`\c needs a letter`)
		}
		fmt.Fprintf(out, `\x%02x`, s[2]&31)
		return 3, nil
	case 'x':
		return translateHex(out, s, 2)
	case 'u':
		if strings.HasPrefix(s, `\u{`) {
			end := strings.IndexByte(s, '}')
			if end < 4 {
				return 0, errors.New(`\u{ without an end`)
			}
			out.WriteString(`\x{` + s[3:end] + `}`)
			return end + 1, nil
		}
		return translateHex(out, s, 4)
	case 'p', 'P':
		end := strings.IndexByte(s, '}')
		if end < 4 || s[2] != '{' {
			return 0, errors.New(`\p needs a property in braces`)
		}
		name := s[3:end]
		if _, value, ok := strings.Cut(name, "="); ok {
			name = value
		}
		out.WriteString(s[:3] + name + "}")
		return end + 1, nil
	default:
		r, size := utf8.DecodeRuneInString(s[1:])
		switch {
		case r >= '1' && r <= '9' || r == 'k':
			return 0, errLook
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
			return 0, fmt.Errorf(`\%c is not an escape of ECMA-262`, r)
		case r < utf8.RuneSelf:
			out.WriteByte('\\')
		}
		out.WriteString(s[1 : 1+size])
		return 1 + size, nil
	}
}

// translateHex writes \xHH or \uHHHH, joining a surrogate pair.
func translateHex(out *strings.Builder, s string, digits int) (int, error) {
	read := func(at int) (r rune, ok bool) {
		if at+digits > len(s) {
			return 0, false
		}
		for _, c := range []byte(s[at : at+digits]) {
			digit, valid := hexDigit(c)
			if !valid {
				return 0, false
			}
			r = r<<4 | rune(digit)
		}
		return r, true
	}
	r, ok := read(2)
	if !ok {
		return 0, fmt.Errorf(`\%c needs %d hexadecimal digits`, s[1], digits)
	}
	n := 2 + digits
	if r >= 0xd800 && r < 0xdc00 && strings.HasPrefix(s[n:], `\u`) {
		if low, ok := read(n + 2); ok && low >= 0xdc00 && low < 0xe000 {
			r = (r-0xd800)<<10 + (low - 0xdc00) + 0x10000
			n += 2 + digits
		}
	}
	fmt.Fprintf(out, `\x{%x}`, r)
	return n, nil
}
