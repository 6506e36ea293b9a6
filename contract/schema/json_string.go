package schema

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// specialBytes marks (0x80) the first quote, backslash or control character in eight bytes.
func specialBytes(w uint64) uint64 {
	quote := w ^ '"'*lowBits
	slash := w ^ '\\'*lowBits
	return ((quote-lowBits)&^quote | (slash-lowBits)&^slash | (w-0x20*lowBits)&^w) & highBits
}

// jsonString reads the string whose opening quote is at pos.
func (d *document) jsonString(pos int) int {
	src := d.src
	start := pos + 1
	i := start
	var high uint64
	for {
		if i+8 > len(src) {
			for i < len(src) && src[i] != '"' && src[i] != '\\' && src[i] >= 0x20 {
				high |= uint64(src[i])
				i++
			}
			break
		}
		w := binary.LittleEndian.Uint64(src[i:])
		if m := specialBytes(w); m != 0 {
			n := bits.TrailingZeros64(m) &^ 7
			high |= w & (1<<n - 1)
			i += n >> 3
			break
		}
		high |= w
		i += 8
	}
	if i >= len(src) {
		return d.fail(Syntax, pos, "string without an end")
	}
	if src[i] == '\\' {
		return d.jsonEscaped(start, i)
	}
	if src[i] != '"' {
		return d.fail(Syntax, i, "control character in a string")
	}
	v := value{kind: kindString, flags: ascii, start: uint32(start), end: uint32(i)}
	if high&highBits != 0 {
		v.flags = 0
		if !utf8.Valid(src[start:i]) {
			return d.fail(InvalidUTF8, start, "string is not UTF-8")
		}
	}
	if d.add(v) < 0 {
		return -1
	}
	return i + 1
}

// jsonEscaped reads a string whose first backslash is at i into the arena.
func (d *document) jsonEscaped(start, i int) int {
	src := d.src
	begin := len(d.arena)
	d.arena = append(d.arena, src[start:i]...)
	for {
		if i >= len(src) {
			return d.fail(Syntax, start-1, "string without an end")
		}
		c := src[i]
		switch {
		case c == '"':
			text := d.arena[begin:]
			if !utf8.Valid(text) {
				return d.fail(InvalidUTF8, start, "string is not UTF-8")
			}
			if d.add(value{kind: kindString, flags: inArena, start: uint32(begin), end: uint32(len(d.arena))}) < 0 {
				return -1
			}
			return i + 1
		case c < 0x20:
			return d.fail(Syntax, i, "control character in a string")
		case c != '\\':
			d.arena = append(d.arena, c)
			i++
		default:
			if i = d.jsonEscape(i + 1); i < 0 {
				return -1
			}
		}
	}
}

// jsonEscape appends what the escape after a backslash at i-1 stands for (RFC 8259 §7).
func (d *document) jsonEscape(i int) int {
	if i >= len(d.src) {
		return d.fail(Syntax, i, "string without an end")
	}
	c := d.src[i]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return d.jsonUnicodeEscape(i + 1)
	default:
		return d.fail(Syntax, i, "unknown escape in a string")
	}
	d.arena = append(d.arena, c)
	return i + 1
}

func (d *document) jsonUnicodeEscape(i int) int {
	r, ok := hex4(d.src, i)
	if !ok {
		return d.fail(Syntax, i, "\\u needs four hexadecimal digits")
	}
	i += 4
	if r >= 0xd800 && r < 0xe000 {
		low, ok := rune(0), false
		if i+2 <= len(d.src) && d.src[i] == '\\' && d.src[i+1] == 'u' {
			low, ok = hex4(d.src, i+2)
		}
		if r >= 0xdc00 || !ok || low < 0xdc00 || low >= 0xe000 {
			return d.fail(InvalidUTF8, i, "half of a surrogate pair")
		}
		r = (r-0xd800)<<10 + (low - 0xdc00) + 0x10000
		i += 6
	}
	d.arena = utf8.AppendRune(d.arena, r)
	return i
}

func hex4(src []byte, i int) (rune, bool) {
	if i+4 > len(src) {
		return 0, false
	}
	n, ok := rune(0), true
	for _, c := range src[i : i+4] {
		digit, valid := hexDigit(c)
		n, ok = n<<4|rune(digit), ok && valid
	}
	return n, ok
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
