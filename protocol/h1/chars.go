package h1

import "encoding/binary"

const (
	tokenByte  = 1 << iota // RFC 9110 §5.6.2 tchar
	pathByte               // RFC 3986 §3.3 pchar without "%", and "/"
	queryByte              // visible ASCII but "#" and "%"
	hostByte               // RFC 3986 §3.2.2 reg-name without "%": unreserved and sub-delims
	unreserved             // RFC 3986 §2.3
)

// class holds for each byte the sets above that contain it.
var class = func() (t [256]uint8) {
	set := func(bit uint8, bytes string) {
		for i := range len(bytes) {
			t[bytes[i]] |= bit
		}
	}
	const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	const subDelims = "!$&'()*+,;="
	set(tokenByte, alphanumeric+"!#$%&'*+-.^_`|~")
	set(pathByte, alphanumeric+"-._~"+subDelims+":@/")
	set(hostByte, alphanumeric+"-._~"+subDelims)
	set(unreserved, alphanumeric+"-._~")
	for c := byte(0x21); c < 0x7f; c++ {
		if c != '#' && c != '%' {
			t[c] |= queryByte
		}
	}
	return t
}()

func allOf[B []byte | string](set uint8, b B) bool {
	for i := range len(b) {
		if class[b[i]]&set == 0 {
			return false
		}
	}
	return true
}

// validValue reports whether b holds only what a field value may (RFC 9110 §5.5): visible characters, obs-text, SP, HTAB.
func validValue(b []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		below20 := (x - ones*0x20) & ^x & highs
		y := x ^ (ones * 0x7f)
		is7f := (y - ones) & ^y & highs
		if below20|is7f != 0 { // HTAB, a real control, or a false positive behind a borrow: look at each byte
			for _, c := range b[:8] {
				if !valueByte(c) {
					return false
				}
			}
		}
		b = b[8:]
	}
	for _, c := range b {
		if !valueByte(c) {
			return false
		}
	}
	return true
}

// ValidName reports whether b can be a method or a field name (RFC 9110 §5.6.2).
func ValidName[N []byte | string](b N) bool {
	return len(b) > 0 && allOf(tokenByte, b)
}

// ValidValue reports whether b can be a field value (RFC 9110 §5.5).
func ValidValue[V []byte | string](b V) bool {
	for i := range len(b) {
		if !valueByte(b[i]) {
			return false
		}
	}
	return true
}

// ValidTarget reports whether b can be a request target in origin-form on the wire; what it means is the sender's concern.
func ValidTarget[T []byte | string](b T) bool {
	for i := range len(b) {
		if class[b[i]]&queryByte == 0 && b[i] != '%' {
			return false
		}
	}
	return len(b) > 0 && b[0] == '/'
}

func valueByte(c byte) bool { return c >= 0x20 && c != 0x7f || c == '\t' }

func trimSpace(b []byte) []byte { // RFC 9110 §5.6.3 OWS
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// EqualFold compares ASCII case-insensitively, as field names and most protocol words are compared.
func EqualFold[A, B []byte | string](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// EqualAlike compares as EqualFold does, and takes "_" in a for "-": what CGI made of field names, many programs still do. b is in
// lower case.
func EqualAlike[A []byte | string](a A, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if c := lower(a[i]); c != b[i] && !(c == '_' && b[i] == '-') {
			return false
		}
	}
	return true
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
