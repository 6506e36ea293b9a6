package pipeline

import "bytes"

// percentDecoded undoes percent-encoding (RFC 3986 section 2.1); form says that "+" is a space, as in a query.
func percentDecoded(value []byte, form bool) (decoded []byte, ok bool) {
	if bytes.IndexByte(value, '%') < 0 && (!form || bytes.IndexByte(value, '+') < 0) {
		return value, true
	}
	decoded = make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '%':
			if i+2 >= len(value) || unhex[value[i+1]] < 0 || unhex[value[i+2]] < 0 {
				return nil, false
			}
			decoded = append(decoded, byte(unhex[value[i+1]])<<4|byte(unhex[value[i+2]]))
			i += 2
		case c == '+' && form:
			decoded = append(decoded, ' ')
		default:
			decoded = append(decoded, c)
		}
	}
	return decoded, true
}

var unhex = func() (table [256]int8) {
	for i := range table {
		table[i] = -1
	}
	for i := range 10 {
		table['0'+i] = int8(i)
	}
	for i := range 6 {
		table['a'+i], table['A'+i] = int8(10+i), int8(10+i)
	}
	return table
}()

// appendPercent appends a value as one path segment or query value: all but unreserved characters are encoded (RFC 3986
// section 2.3).
func appendPercent(dst, value []byte) []byte {
	const hexadecimal = "0123456789ABCDEF"
	for _, c := range value {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~', c == ':':
			dst = append(dst, c)
		default:
			dst = append(dst, '%', hexadecimal[c>>4], hexadecimal[c&15])
		}
	}
	return dst
}
