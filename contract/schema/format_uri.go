package schema

import "bytes"

// isIPv4 checks dotted decimal without leading zeros (RFC 3986 §3.2.2).
func isIPv4(s []byte) bool {
	groups := 0
	for {
		n := digits(s)
		if n == 0 || n > 3 || n > 1 && s[0] == '0' {
			return false
		}
		value := 0
		for _, c := range s[:n] {
			value = value*10 + int(c-'0')
		}
		if value > 255 {
			return false
		}
		groups++
		s = s[n:]
		if len(s) == 0 || groups == 4 {
			return groups == 4 && len(s) == 0
		}
		if s[0] != '.' {
			return false
		}
		s = s[1:]
	}
}

// isIPv6 checks RFC 4291 §2.2, without a zone.
func isIPv6(s []byte) bool {
	groups, elided := 0, false
	if bytes.HasPrefix(s, []byte("::")) {
		elided = true
		s = s[2:]
		if len(s) == 0 {
			return true
		}
	}
	for {
		n := 0
		for n < len(s) && n < 5 {
			if _, ok := hexDigit(s[n]); !ok {
				break
			}
			n++
		}
		if n < len(s) && s[n] == '.' { // the last 32 bits in dotted decimal
			return isIPv4(s) && (groups == 6 && !elided || groups < 6 && elided)
		}
		if n == 0 || n > 4 {
			return false
		}
		groups++
		s = s[n:]
		if len(s) == 0 {
			return groups == 8 && !elided || groups < 8 && elided
		}
		if s[0] != ':' || groups > 7 {
			return false
		}
		s = s[1:]
		if len(s) > 0 && s[0] == ':' {
			if elided {
				return false
			}
			elided = true
			if s = s[1:]; len(s) == 0 {
				return groups < 8
			}
		}
	}
}

// isURI checks RFC 3986 §3: a reference that begins with a scheme.
func isURI(s []byte) bool {
	colon := schemeEnd(s)
	return colon > 0 && isHierarchy(s[colon+1:])
}

// isURIReference checks RFC 3986 §4.1.
func isURIReference(s []byte) bool {
	if colon := schemeEnd(s); colon > 0 {
		return isHierarchy(s[colon+1:])
	}
	// RFC 3986 §4.2: the first segment of a relative path has no colon.
	for _, c := range s {
		if c == ':' {
			return false
		}
		if c == '/' || c == '?' || c == '#' {
			break
		}
	}
	return isHierarchy(s)
}

// schemeEnd returns the index of the colon after a scheme, or -1.
func schemeEnd(s []byte) int {
	for i, c := range s {
		switch {
		case c|0x20 >= 'a' && c|0x20 <= 'z':
		case i > 0 && (isDigit(c) || c == '+' || c == '-' || c == '.'):
		case i > 0 && c == ':':
			return i
		default:
			return -1
		}
	}
	return -1
}

// Classes of characters in RFC 3986 §2, as bits.
const (
	uriSegment = 1 << iota // pchar without % and with /
	uriQuery               // pchar, / and ?
	uriHost                // reg-name
	uriUser                // userinfo
)

var uriClasses = func() (table [128]uint8) {
	for c := range table {
		if isAlphanumeric(byte(c)) || bytes.IndexByte([]byte("-._~!$&'()*+,;="), byte(c)) >= 0 {
			table[c] = uriSegment | uriQuery | uriHost | uriUser
		}
	}
	table[':'] |= uriSegment | uriQuery | uriUser
	table['@'] |= uriSegment | uriQuery
	table['/'] |= uriSegment | uriQuery
	table['?'] |= uriQuery
	return table
}()

func uriText(s []byte, class uint8) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return false
			}
			_, ok1 := hexDigit(s[i+1])
			_, ok2 := hexDigit(s[i+2])
			if !ok1 || !ok2 {
				return false
			}
			i += 2
		} else if c >= 128 || uriClasses[c]&class == 0 {
			return false
		}
	}
	return true
}

// isHierarchy checks what follows the scheme: authority, path, query and fragment.
func isHierarchy(s []byte) bool {
	if hash := bytes.IndexByte(s, '#'); hash >= 0 {
		if !uriText(s[hash+1:], uriQuery) {
			return false
		}
		s = s[:hash]
	}
	if mark := bytes.IndexByte(s, '?'); mark >= 0 {
		if !uriText(s[mark+1:], uriQuery) {
			return false
		}
		s = s[:mark]
	}
	if len(s) >= 2 && s[0] == '/' && s[1] == '/' {
		s = s[2:]
		slash := bytes.IndexByte(s, '/')
		if slash < 0 {
			slash = len(s)
		}
		if !isAuthority(s[:slash]) {
			return false
		}
		s = s[slash:]
	}
	return uriText(s, uriSegment)
}

// isAuthority checks RFC 3986 §3.2.
func isAuthority(s []byte) bool {
	if at := bytes.LastIndexByte(s, '@'); at >= 0 {
		if !uriText(s[:at], uriUser) {
			return false
		}
		s = s[at+1:]
	}
	if len(s) > 0 && s[0] == '[' {
		end := bytes.IndexByte(s, ']')
		if end < 0 || !isIPv6(s[1:end]) {
			return false
		}
		s = s[end+1:]
		return len(s) == 0 || s[0] == ':' && digits(s[1:]) == len(s)-1
	}
	if colon := bytes.IndexByte(s, ':'); colon >= 0 {
		if digits(s[colon+1:]) != len(s)-colon-1 {
			return false
		}
		s = s[:colon]
	}
	return uriText(s, uriHost)
}
