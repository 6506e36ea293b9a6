package schema

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What ECMA-262 calls white space (§12.2, §12.3) and a line terminator, as the inside
// of a Go character class.
const (
	ecmaSpace    = `\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}`
	ecmaNotSpace = `\x00-\x08\x0e-\x1f!-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{fefe}\x{ff00}-\x{10ffff}`
	ecmaLineEnd  = `\n\r\x{2028}\x{2029}`
)

// bigRepeat begins the name of an empty group that stands for a repetition count
// above 1000, which package regexp does not take but the element matcher does.
const bigRepeat = "fieldgate_repeat_"

var errLook = errors.New("look-behind, back-references and look-ahead other than right after ^ cannot be matched in linear time; express the rule with allOf, not and plain patterns")

// translatePattern rewrites an ECMA-262 pattern (u flag, as JSON Schema core §6.4 asks)
// in the syntax of package regexp.
func translatePattern(source string) (string, error) {
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
			if i += n; inClass && strings.IndexByte("sSdDwWpP", source[i-n+1]) >= 0 && strings.HasPrefix(source[i:], "-") {
				out.WriteString(`\-`) // no range begins with a class
				i++
			}
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
		case c == '{' && !inClass:
			if n, mark := translateRepeat(source[i:]); n > 0 {
				out.WriteString(mark)
				i += n
				continue
			}
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

// translateRepeat turns a count above 1000 into a mark; n is the length it replaces.
func translateRepeat(s string) (n int, mark string) {
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return 0, ""
	}
	first, last, both := strings.Cut(s[1:end], ",")
	low, err := strconv.Atoi(first)
	if err != nil || low > 1<<24 {
		return 0, ""
	}
	high := low
	if both && last == "" {
		high = 0 // no bound
	} else if both {
		if high, err = strconv.Atoi(last); err != nil || high < low || high > 1<<24 {
			return 0, ""
		}
	}
	if low <= 1000 && high <= 1000 || end+1 < len(s) && s[end+1] == '?' {
		return 0, ""
	}
	return end + 1, fmt.Sprintf("*(?P<%s%d_%d>)", bigRepeat, low, high)
}

// takeLooks removes look-aheads that stand right after ^: they see the whole text, so
// they are patterns of their own.
func (p *pattern) takeLooks(source string) (rest string, err error) {
	rest = source
	for strings.HasPrefix(rest, "^(?=") || strings.HasPrefix(rest, "^(?!") {
		end, alternatives := groupEnd(rest, 1)
		if _, outside := groupEnd("("+rest+")", 0); end < 0 || alternatives < 0 || outside > 0 {
			return "", errLook // ^(?=a)b|c: the condition holds for one alternative only
		}
		inner, err := compilePattern("^(?:" + rest[4:end] + ")")
		if err != nil {
			return "", err
		}
		p.looks = append(p.looks, look{inner, rest[3] == '!'})
		rest = "^" + rest[end+1:]
	}
	return rest, nil
}

// groupEnd returns the index of the bracket that closes the group opened at i, and how
// many alternatives beyond the first the group has.
func groupEnd(source string, i int) (end, alternatives int) {
	depth, inClass := 0, false
	for ; i < len(source); i++ {
		switch c := source[i]; {
		case c == '\\':
			i++
		case inClass:
			inClass = c != ']'
		case c == '[':
			inClass = true
		case c == '(':
			depth++
		case c == '|' && depth == 1:
			alternatives++
		case c == ')':
			if depth--; depth == 0 {
				return i, alternatives
			}
		}
	}
	return -1, 0
}

// translateEscape writes the Go form of the escape that s begins with and returns its length.
func translateEscape(out *strings.Builder, s string, inClass bool) (int, error) {
	if len(s) < 2 {
		return 0, errors.New("pattern ends in a backslash")
	}
	class := func(inside string, negated bool) (int, error) {
		switch {
		case inClass && negated:
			out.WriteString(ecmaNotSpace)
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
		if len(s) > 2 && s[2] >= 'A' && s[2] <= 'Z' { // \pL, which many write
			out.WriteString(s[:3])
			return 3, nil
		}
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
			return 0, fmt.Errorf(`\%c is not an escape of ECMA-262; the beginning and the end of the text are ^ and $`, r)
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
