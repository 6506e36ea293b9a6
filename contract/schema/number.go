package schema

import (
	"math/bits"
	"slices"
	"strconv"
)

// number is an exact decimal: val × 10^exp or, where that is too small a form, a
// literal in the grammar of RFC 8259 §6 with more than 18 significant digits.
// Nothing is ever rounded, and no operation expands an exponent into digits.
type number struct {
	val     int64
	exp     int16
	literal []byte
}

// maxExponent and maxLiteral bound the numbers that a document may write. RFC 7493
// §2.2 expects no more than a double holds, which ends at 1e308.
const (
	maxExponent = 999
	maxLiteral  = 1000
	maxShort    = 8000 // exponent of a short number: leaves room for canonical
)

var pow10 = [20]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19}

func (d *document) number(v *value) number {
	if v.flags&longNumber != 0 {
		return number{literal: d.text(v)}
	}
	return number{val: v.val, exp: v.exp}
}

// jsonNumber reads the number at pos (RFC 8259 §6).
func (d *document) jsonNumber(pos int) int {
	src, i := d.src, pos
	negative := src[i] == '-'
	if negative {
		i++
	}
	first := i
	var mantissa uint64
	for ; i < len(src) && isDigit(src[i]); i++ {
		mantissa = mantissa*10 + uint64(src[i]-'0') // wraps when long; then not used
	}
	digits := i - first
	if digits == 0 {
		return d.fail(Syntax, pos, "not a JSON value")
	}
	if digits > 1 && src[first] == '0' {
		return d.fail(Syntax, pos, "number with a leading zero")
	}
	exponent := 0
	if i < len(src) && src[i] == '.' {
		point := i
		for i++; i < len(src) && isDigit(src[i]); i++ {
			mantissa = mantissa*10 + uint64(src[i]-'0')
		}
		exponent = point + 1 - i
		if exponent == 0 {
			return d.fail(Syntax, i, "number ends in a decimal point")
		}
		digits -= exponent
	}
	if i < len(src) && src[i]|0x20 == 'e' {
		written, end := readExponent(src, i+1)
		if end < 0 {
			return d.fail(Syntax, i, "number without an exponent after e")
		}
		if written < -maxExponent || written > maxExponent {
			return d.fail(TooLarge, i, "exponent beyond ±999")
		}
		exponent += written
		i = end
	}
	v := value{kind: kindNumber, exp: int16(exponent), start: uint32(pos), end: uint32(i), val: int64(mantissa)}
	if i-pos > maxLiteral {
		return d.fail(TooLarge, pos, "number longer than 1000 characters")
	}
	if digits > 18 || exponent < -maxShort/2 || exponent > maxShort/2 {
		n := shorten(src[pos:i])
		v.val, v.exp = n.val, n.exp
		if n.literal != nil {
			v.flags = longNumber
		}
	} else if negative {
		v.val = -v.val
	}
	if d.add(v) < 0 {
		return -1
	}
	return i
}

func isDigit(c byte) bool { return c-'0' < 10 }

// readExponent reads the digits after e; end is -1 if there are none. A huge value is capped.
func readExponent(src []byte, i int) (exponent, end int) {
	negative := i < len(src) && src[i] == '-'
	if i < len(src) && (src[i] == '-' || src[i] == '+') {
		i++
	}
	first := i
	for ; i < len(src) && isDigit(src[i]); i++ {
		if exponent <= maxExponent {
			exponent = exponent*10 + int(src[i]-'0')
		}
	}
	if i == first {
		return 0, -1
	}
	if negative {
		exponent = -exponent
	}
	return exponent, i
}

// append writes n as a JSON number, without an exponent where that is short.
func (n number) append(b []byte) []byte {
	if n.literal != nil {
		return append(b, n.literal...)
	}
	first := len(b)
	b = strconv.AppendInt(b, n.val, 10)
	digits := len(b) - first
	if n.val < 0 {
		first, digits = first+1, digits-1
	}
	switch {
	case n.exp == 0 || n.val == 0:
	case n.exp > 0 && digits+int(n.exp) <= 18:
		for range n.exp {
			b = append(b, '0')
		}
	case n.exp < 0 && n.exp >= -18:
		for ; digits <= -int(n.exp); digits++ {
			b = slices.Insert(b, first, '0')
		}
		b = slices.Insert(b, len(b)+int(n.exp), '.')
	default:
		b = append(b, 'e')
		b = strconv.AppendInt(b, int64(n.exp), 10)
	}
	return b
}

// compareValue is compare for a value of a document, fast for what devices send.
func (d *document) compareValue(v *value, bound *number) int {
	if v.flags&longNumber == 0 && bound.literal == nil {
		diff := int(v.exp) - int(bound.exp)
		switch {
		case diff == 0:
			return cmpInt(v.val, bound.val)
		case diff < 0 && diff >= -9 && int64(int32(bound.val)) == bound.val:
			return cmpInt(v.val, bound.val*int64(pow10[-diff]))
		}
	}
	return compare(d.number(v), *bound)
}

// compare returns -1, 0 or 1 as a is less than, equal to or greater than b.
func compare(a, b number) int {
	if a.literal == nil && b.literal == nil {
		if a.exp == b.exp {
			return cmpInt(a.val, b.val)
		}
		if diff := int(a.exp) - int(b.exp); diff > 0 && diff <= 18 {
			return compareScaled(a.val, pow10[diff], b.val)
		} else if diff < 0 && diff >= -18 {
			return -compareScaled(b.val, pow10[-diff], a.val)
		}
	}
	var s, t [24]byte
	return compareDecimals(a.decimal(&s), b.decimal(&t))
}

func cmpInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// compareScaled compares a × factor with b.
func compareScaled(a int64, factor uint64, b int64) int {
	if (a < 0) != (b < 0) {
		return cmpInt(a, b)
	}
	sign := 1
	if a < 0 {
		sign = -1
	}
	hi, lo := bits.Mul64(magnitude(a), factor)
	m := magnitude(b)
	switch {
	case hi > 0 || lo > m:
		return sign
	case lo < m:
		return -sign
	}
	return 0
}

func magnitude(a int64) uint64 {
	if a < 0 {
		return -uint64(a)
	}
	return uint64(a)
}
