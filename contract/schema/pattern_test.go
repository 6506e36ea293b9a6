package schema

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// Patterns as ECMA-262 reads them, and whether they avoid package regexp.
func TestPatterns(t *testing.T) {
	tests := []struct {
		pattern string
		simple  bool
		yes, no string // alternatives separated by "|"
	}{
		{`^[0-9a-f]{16}$`, true, "70b3d57ed0051a2f", "70b3d57ed0051a2|70b3d57ed0051a2ff|70B3d57ed0051a2f"},
		{`^[A-Z]{2}-\d{4}$`, true, "AB-0123", "AB0123|AB-01234|aB-0123"},
		{`^d/[^/]+$`, true, "d/é", "d/|d/a/b"},
		{`^[a-z]+[0-9]*$`, true, "a|a1|abc123", "1|a1a|"},
		{`^[a-z]*z$`, false, "z|az|zz", "a"},
		{`^v[0-9]+`, true, "v1|v1x", "v|x"},
		{`^(?:[a-f]{2}:){5}[a-f]{2}$`, false, "aa:bb:cc:dd:ee:ff", "aa:bb"},
		{`abc`, false, "xabcx", "ab"},
		{`^.$`, true, "a|é", "ab"},
		{`^\s$`, true, "\u00a0|\ufeff|\v", "a"},
		{`^\S$`, true, "a", "\u00a0"},
		{`^[\s,]+$`, true, ",\u2028", "a"},
		{`^\cC$`, true, "\x03", "C"},
		{`^\x41\u0042\u{43}$`, true, "ABC", "abc"},
		{`^\ud83d\ude00$`, true, "😀", "a"},
		{`^\p{Letter}+$`, false, "aé", "1"},
		{`^\p{Script=Greek}$`, false, "α", "a"},
		{`^[[]$`, true, "[", "a"},
		{`^[^]$`, true, "a|\n", "aa"},
		{`^a[]$`, true, "", "a"},
		{`^\/\-$`, true, "/-", "\\"},
		{`^(?<year>\d{4})$`, true, "2026", "26"},
		{`^$`, true, "", "a"},
		{`^[^\S-_]$`, true, "\u3000", "a|-|_"},
		{`^[\S ]+$`, true, "a é", "a\tb"},
		{`^[a-wé]{2,3}x$`, true, "éax|aéax", "éx|aéaax"},
		{`^.{0,2000}$`, true, strings.Repeat("é", 2000), strings.Repeat("é", 2001)},
		{`^a{1001,}b$`, true, strings.Repeat("a", 1001) + "b", strings.Repeat("a", 1000) + "b"},
		{`^(?!test)(?=.*[0-9])[a-z0-9]+$`, true, "abc1|tes7", "test1|abc"},
		{`^(?=[|)]|a)..$`, true, "ab|)x", "xa"},
		{`^a?b?$`, true, "|a|b|ab", "ba"},
	}
	for _, test := range tests {
		p, err := compilePattern(test.pattern)
		if err != nil {
			t.Errorf("%s: %v", test.pattern, err)
			continue
		}
		if (p.elements != nil) != test.simple {
			t.Errorf("%s: simple is %v", test.pattern, p.elements != nil)
		}
		for _, text := range strings.Split(test.yes, "|") {
			if !p.match([]byte(text)) && !(text == "" && test.pattern == `^a[]$`) {
				t.Errorf("%s does not match %q", test.pattern, text)
			}
		}
		for _, text := range strings.Split(test.no, "|") {
			if p.match([]byte(text)) {
				t.Errorf("%s matches %q", test.pattern, text)
			}
		}
	}
	for _, pattern := range []string{`(?=a)`, `^(?=a)b|c`, `^(?=a`, `^a(?!b)`, `(a{2000}|b)`, `a{2000}`, `(?!a)`, `(?<=a)b`, `(a)\1`, `\k<a>`, `(`, `[a`, `a\`, `\a`, `\Z`, `(?i)a`, `\c1`, `\u12`, `\p{Nope}`, strings.Repeat("a", 5000), `(a{900}){900}`} {
		if _, err := compilePattern(pattern); err == nil {
			t.Errorf("%.20s: accepted", pattern)
		}
	}
}

// The matcher without regexp agrees with regexp wherever it is used.
func TestSimplePatternsAgainstRegexp(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(5, 0))}
	simple := 0
	for range 20_000 {
		source := "^"
		for range g.IntN(4) {
			source += g.pick("[a-c]", "[b-d]", "x", "[x-z]", "é", "[^a-d]", ".", "[é-日]", "(ab)", "(?:c)") + g.pick("", "", "*", "+", "?", "{2}", "{1,2}", "{2,}")
		}
		source += g.pick("$", "")
		p, err := compilePattern(source)
		if err != nil {
			t.Fatal(source, err)
		}
		if p.elements == nil {
			continue
		}
		simple++
		oracle := regexp.MustCompile(source)
		for range 10 {
			text := ""
			for range g.IntN(6) {
				text += g.pick("a", "b", "c", "d", "x", "z", "é", "日", "ab")
			}
			if got, want := p.match([]byte(text)), oracle.MatchString(text); got != want {
				t.Fatalf("%s on %q: %v, regexp says %v", source, text, got, want)
			}
		}
	}
	if simple < 5000 {
		t.Errorf("only %d patterns were simple", simple)
	}
}
