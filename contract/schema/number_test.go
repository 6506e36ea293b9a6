package schema

import (
	"math/big"
	"math/rand/v2"
	"testing"
)

func numberOf(t *testing.T, literal string) number {
	t.Helper()
	d := &document{limits: bundleLimits}
	if !d.readJSON([]byte(literal)) {
		t.Fatalf("%s: %v", literal, d.violation)
	}
	return d.number(&d.values[0])
}

// Arithmetic on decimals against math/big, over literals of every shape.
func TestNumbersAgainstBig(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(3, 0))}
	literal := func() string {
		s := g.pick("", "-")
		s += g.pick("0", "1", "9", "10", "123", "4503599627370497", "99999999999999999999", "100000000000000000000", "123456789012345678", "1729382256910270464", "1844674407370955161")
		s += g.pick("", "", ".0", ".5", ".25", ".000001", ".10", ".99999999999999999999")
		return s + g.pick("", "", "e0", "e1", "E-1", "e+20", "e-20", "e300", "e-300")
	}
	exact := func(s string) *big.Rat {
		r, ok := new(big.Rat).SetString(s)
		if !ok {
			t.Fatal(s)
		}
		return r
	}
	for range 50_000 {
		a, b := literal(), literal()
		x, y := exact(a), exact(b)
		if got, want := compare(numberOf(t, a), numberOf(t, b)), x.Cmp(y); got != want {
			t.Fatalf("compare(%s, %s) is %d, not %d", a, b, got, want)
		}
		if got := isInteger(numberOf(t, a)); got != x.IsInt() {
			t.Fatalf("isInteger(%s) is %v", a, got)
		}
		i, ok := numberOf(t, a).int64()
		if want := x.IsInt() && x.Num().IsInt64(); ok != want || ok && i != x.Num().Int64() {
			t.Fatalf("int64(%s) is %d, %v", a, i, ok)
		}
		n := numberOf(t, a)
		if exact(string(n.append(nil))).Cmp(x) != 0 {
			t.Fatalf("%s is written %s", a, n.append(nil))
		}
		if d, ok := newDivisor(numberOf(t, b)); ok {
			if got, want := d.divides(numberOf(t, a)), new(big.Rat).Quo(x, y).IsInt(); got != want {
				t.Fatalf("%s multiple of %s: %v", a, b, got)
			}
		}
	}
}

func TestNumberIsWrittenPlainly(t *testing.T) {
	for literal, want := range map[string]string{"21.5": "21.5", "-0.05": "-0.05", "1e2": "100", "2.50": "2.50", "1e30": "1e30", "0.000": "0", "-1.5e-3": "-0.0015"} {
		n := numberOf(t, literal)
		if got := string(n.append(nil)); got != want {
			t.Errorf("%s: %s, want %s", literal, got, want)
		}
	}
}
