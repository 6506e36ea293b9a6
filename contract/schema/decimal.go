package schema

import (
	"bytes"
	"strconv"
)

// decimal is any number taken apart: significant digits d1…dn without leading or
// trailing zeros, point in between ignored, worth 0.d1d2…dn × 10^scale.
type decimal struct {
	negative bool
	digits   []byte // may contain the decimal point; empty for zero
	count    int    // digits without the point
	scale    int
}

func parseDecimal(literal []byte) decimal {
	var x decimal
	if len(literal) > 0 && literal[0] == '-' {
		x.negative = true
		literal = literal[1:]
	}
	mantissa := literal
	if e := bytes.IndexAny(literal, "eE"); e >= 0 {
		mantissa = literal[:e]
		x.scale, _ = readExponent(literal, e+1)
	}
	point := bytes.IndexByte(mantissa, '.')
	if point < 0 {
		point = len(mantissa)
	}
	first := 0
	for first < len(mantissa) && (mantissa[first] == '0' || mantissa[first] == '.') {
		first++
	}
	last := len(mantissa)
	for last > first && (mantissa[last-1] == '0' || mantissa[last-1] == '.') {
		last--
	}
	if first == last {
		return decimal{}
	}
	x.digits = mantissa[first:last]
	x.count = last - first
	if first < point && point < last {
		x.count--
	}
	x.scale += point - first
	if first > point {
		x.scale++
	}
	return x
}

// shorten brings a literal into the short form where 18 significant digits suffice,
// so that each number has one form only.
func shorten(literal []byte) number {
	x := parseDecimal(literal)
	exponent := x.scale - x.count
	if x.count > 18 || exponent < -maxShort || exponent > maxShort {
		return number{literal: literal}
	}
	n := number{exp: int16(exponent)}
	for _, c := range x.digits {
		if c != '.' {
			n.val = n.val*10 + int64(c-'0')
		}
	}
	if x.negative {
		n.val = -n.val
	}
	if n.val == 0 {
		n.exp = 0
	}
	return n
}

// decimal takes n apart; scratch holds the digits of a short number.
func (n number) decimal(scratch *[24]byte) decimal {
	if n.literal != nil {
		return parseDecimal(n.literal)
	}
	x := parseDecimal(strconv.AppendInt(scratch[:0], n.val, 10))
	x.scale += int(n.exp)
	return x
}

func compareDecimals(a, b decimal) int {
	sign := 1
	if a.negative {
		sign = -1
	}
	switch {
	case a.count == 0 && b.count == 0:
		return 0
	case a.count == 0:
		if b.negative {
			return 1
		}
		return -1
	case b.count == 0 || a.negative != b.negative:
		return sign
	case a.scale != b.scale:
		return sign * cmpInt(int64(a.scale), int64(b.scale))
	}
	for i, j := 0, 0; i < len(a.digits) || j < len(b.digits); i, j = i+1, j+1 {
		if i < len(a.digits) && a.digits[i] == '.' {
			i++
		}
		if j < len(b.digits) && b.digits[j] == '.' {
			j++
		}
		switch {
		case i >= len(a.digits):
			return -sign
		case j >= len(b.digits):
			return sign
		case a.digits[i] != b.digits[j]:
			return sign * cmpInt(int64(a.digits[i]), int64(b.digits[j]))
		}
	}
	return 0
}
