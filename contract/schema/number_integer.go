package schema

import "math/bits"

// isInteger: 1.0 and 1e2 are integers (JSON Schema 2020-12 core §4.2.3).
func isInteger(n number) bool {
	if n.literal != nil {
		x := parseDecimal(n.literal)
		return x.scale >= x.count
	}
	if n.exp >= 0 || n.val == 0 {
		return true
	}
	return n.exp >= -18 && magnitude(n.val)%pow10[-n.exp] == 0
}

// int64 returns the value of an integer that fits.
func (n number) int64() (int64, bool) {
	m, negative, ok := n.uint64()
	if negative {
		return int64(-m), ok && m <= 1<<63
	}
	return int64(m), ok && m < 1<<63
}

// uint64 returns magnitude and sign of an integer of up to 64 bits.
func (n number) uint64() (m uint64, negative, ok bool) {
	if n.literal != nil {
		x := parseDecimal(n.literal)
		if x.scale < x.count || x.scale > 20 {
			return 0, false, false
		}
		for place, i := 0, 0; place < x.scale; i++ {
			var digit, high, carry uint64
			if i < len(x.digits) {
				if x.digits[i] == '.' {
					continue
				}
				digit = uint64(x.digits[i] - '0')
			}
			high, m = bits.Mul64(m, 10)
			if m, carry = bits.Add64(m, digit, 0); high+carry != 0 {
				return 0, false, false
			}
			place++
		}
		return m, x.negative, true
	}
	m, negative = magnitude(n.val), n.val < 0
	switch {
	case m == 0:
		return 0, false, true
	case n.exp < -18 || n.exp > 19:
		return 0, negative, false
	case n.exp < 0:
		return m / pow10[-n.exp], negative, m%pow10[-n.exp] == 0
	}
	hi, lo := bits.Mul64(m, pow10[n.exp])
	return lo, negative, hi == 0
}

// canonical strips trailing zeros: equal short numbers get one form.
func (n number) canonical() number {
	if n.literal != nil {
		return n
	}
	if n.val == 0 {
		return number{}
	}
	for n.val%10 == 0 {
		n.val /= 10
		n.exp++
	}
	return n
}

// divisor is a multipleOf: mantissa × 10^exp without trailing zeros.
type divisor struct {
	mantissa uint64
	exp      int
}

// newDivisor fails for what is not positive or has more than 18 significant digits.
func newDivisor(n number) (divisor, bool) {
	n = n.canonical()
	if n.literal != nil || n.val <= 0 {
		return divisor{}, false
	}
	return divisor{uint64(n.val), int(n.exp)}, true
}

// divides is exact and needs no big numbers: with m × 10^e = n and d × 10^f the
// divisor, either e ≥ f and (m × 10^(e-f)) mod d is computed modulo d, or m must first
// lose f-e trailing zeros.
func (d divisor) divides(n number) bool {
	if n.literal == nil {
		if n.val == 0 {
			return true
		}
		m, e := magnitude(n.val), int(n.exp)
		for ; e < d.exp; e++ {
			if m%10 != 0 {
				return false
			}
			m /= 10
		}
		return e == d.exp && m%d.mantissa == 0 || e > d.exp && d.dividesScaled(m%d.mantissa, e-d.exp)
	}
	x := parseDecimal(n.literal)
	zeros := x.scale - x.count - d.exp
	if x.count == 0 || zeros < 0 {
		return x.count == 0
	}
	var rest uint64
	for _, c := range x.digits {
		if c != '.' {
			hi, lo := bits.Mul64(rest, 10)
			lo, carry := bits.Add64(lo, uint64(c-'0'), 0)
			rest = bits.Rem64(hi+carry, lo, d.mantissa)
		}
	}
	return d.dividesScaled(rest, zeros)
}

// dividesScaled reports whether rest × 10^zeros ≡ 0 modulo the mantissa.
func (d divisor) dividesScaled(rest uint64, zeros int) bool {
	// The mantissa is below 10^18 < 2^60, so it has at most 59 factors 2 or 5:
	// further zeros change nothing.
	for range min(zeros, 60) {
		hi, lo := bits.Mul64(rest, 10)
		rest = bits.Rem64(hi, lo, d.mantissa)
	}
	return rest == 0
}
