package schema

import (
	"regexp"
	"regexp/syntax"
	"unicode/utf8"
)

// pattern is a compiled ECMA-262 regular expression. Common shapes, sequences of
// byte classes such as ^[0-9a-f]{16}$, are matched without package regexp; the others
// run there in time linear in the text.
type pattern struct {
	source   string
	elements []element // nil if regex is used
	open     bool      // elements need not reach the end of the text
	regex    *regexp.Regexp
}

// element is a run of min to max bytes of a class.
type element struct {
	class    [4]uint64
	min, max int // max -1: no bound
}

// maxPattern bounds the length of a pattern in a schema.
const maxPattern = 4096

func compilePattern(source string) (*pattern, error) {
	translated, err := translatePattern(source)
	if err != nil {
		return nil, err
	}
	p := &pattern{source: source}
	if tree, err := syntax.Parse(translated, syntax.Perl); err == nil {
		if p.elements, p.open = simpleElements(tree); p.elements != nil {
			return p, nil
		}
	}
	p.regex, err = regexp.Compile(translated)
	return p, err
}

func (p *pattern) match(text []byte) bool {
	if p.elements == nil {
		return p.regex.Match(text)
	}
	i := 0
	for k := range p.elements {
		e := &p.elements[k]
		limit := len(text)
		if e.max >= 0 && limit-i > e.max {
			limit = i + e.max
		}
		first := i
		for i < limit && e.class[text[i]>>6]&(1<<(text[i]&63)) != 0 {
			i++
		}
		if i-first < e.min {
			return false
		}
	}
	return p.open || i == len(text)
}

// simpleElements turns an anchored sequence of classes into elements, nil if tree is
// anything else.
func simpleElements(tree *syntax.Regexp) (elements []element, open bool) {
	if tree.Op != syntax.OpConcat || len(tree.Sub) < 2 || tree.Sub[0].Op != syntax.OpBeginText {
		return nil, false
	}
	parts := tree.Sub[1:]
	open = parts[len(parts)-1].Op != syntax.OpEndText
	if !open {
		parts = parts[:len(parts)-1]
	}
	elements = []element{}
	for _, part := range parts {
		var ok bool
		if elements, ok = appendElements(elements, part); !ok {
			return nil, false
		}
	}
	if !deterministic(elements) {
		return nil, false
	}
	return elements, open
}

func appendElements(elements []element, part *syntax.Regexp) ([]element, bool) {
	low, high := 1, 1
	switch part.Op {
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		if part.Flags&syntax.NonGreedy != 0 {
			return nil, false
		}
		switch part.Op {
		case syntax.OpStar:
			low, high = 0, -1
		case syntax.OpPlus:
			high = -1
		case syntax.OpQuest:
			low = 0
		default:
			low, high = part.Min, part.Max
		}
		part = part.Sub[0]
	case syntax.OpCapture:
		if inner := part.Sub[0]; inner.Op == syntax.OpConcat {
			for _, one := range inner.Sub {
				var ok bool
				if elements, ok = appendElements(elements, one); !ok {
					return nil, false
				}
			}
			return elements, true
		}
		return appendElements(elements, part.Sub[0])
	case syntax.OpLiteral:
		if part.Flags&syntax.FoldCase != 0 {
			return nil, false
		}
		for _, r := range part.Rune {
			var buffer [utf8.UTFMax]byte
			for _, b := range buffer[:utf8.EncodeRune(buffer[:], r)] {
				elements = append(elements, element{class: byteClass(b, b), min: 1, max: 1})
			}
		}
		return elements, true
	}
	e := element{min: low, max: high}
	switch {
	case part.Op == syntax.OpLiteral && len(part.Rune) == 1 && part.Rune[0] < utf8.RuneSelf && part.Flags&syntax.FoldCase == 0:
		e.class = byteClass(byte(part.Rune[0]), byte(part.Rune[0]))
	case part.Op == syntax.OpCharClass:
		for i := 0; i < len(part.Rune); i += 2 {
			from, to := part.Rune[i], part.Rune[i+1]
			if to >= utf8.RuneSelf {
				return nil, false // bytes are not characters there
			}
			add := byteClass(byte(from), byte(to))
			for w := range e.class {
				e.class[w] |= add[w]
			}
		}
	default:
		return nil, false
	}
	return append(elements, e), true
}

func byteClass(from, to byte) (class [4]uint64) {
	for b := int(from); b <= int(to); b++ {
		class[b>>6] |= 1 << (b & 63)
	}
	return class
}

// deterministic reports whether taking as much as possible for each element is right:
// whatever may follow an element of variable length must not begin with its class.
func deterministic(elements []element) bool {
	for i, e := range elements {
		if e.min == e.max {
			continue
		}
		for _, next := range elements[i+1:] {
			for w := range e.class {
				if e.class[w]&next.class[w] != 0 {
					return false
				}
			}
			if next.min > 0 {
				break
			}
		}
	}
	return true
}
