package schema

import (
	"math/bits"
	"strconv"
)

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
	if n.literal != nil {
		x := parseDecimal(n.literal)
		if x.scale != x.count || x.count > 19 {
			return 0, false
		}
		i, err := strconv.ParseInt(string(n.literal), 10, 64)
		return i, err == nil
	}
	switch {
	case n.val == 0:
		return 0, true
	case n.exp < -18 || n.exp > 18:
		return 0, false
	case n.exp < 0:
		return n.val / int64(pow10[-n.exp]), magnitude(n.val)%pow10[-n.exp] == 0
	}
	hi, lo := bits.Mul64(magnitude(n.val), pow10[n.exp])
	if hi != 0 || lo > 1<<63 || (lo == 1<<63 && n.val > 0) {
		return 0, false
	}
	if n.val < 0 {
		return int64(-lo), true
	}
	return int64(lo), true
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
