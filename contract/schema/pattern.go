package schema

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// pattern is a compiled ECMA-262 regular expression. Common shapes, sequences of
// character classes such as ^[0-9a-f]{16}$, are matched without package regexp; the
// others run there in time linear in the text.
type pattern struct {
	source   string
	elements []element // nil if regex is used
	open     bool      // elements need not reach the end of the text
	regex    *regexp.Regexp
	looks    []look // conditions that stood at the beginning: ^(?=…)(?!…)
}

// element is a run of min to max characters of a class.
type element struct {
	ascii    [2]uint64
	wide     []rune // pairs of first and last above ASCII
	min, max int    // max -1: no bound
}

// look is a look-ahead from the beginning of the text.
type look struct {
	*pattern
	negative bool
}

// maxPattern bounds the length of a pattern in a schema.
const maxPattern = 4096

func compilePattern(source string) (*pattern, error) {
	if len(source) > maxPattern {
		return nil, fmt.Errorf("pattern longer than %d bytes", maxPattern)
	}
	p := &pattern{source: source}
	rest, err := p.takeLooks(source)
	if err != nil {
		return nil, err
	}
	translated, err := translatePattern(rest)
	if err != nil {
		return nil, err
	}
	tree, err := syntax.Parse(translated, syntax.Perl)
	if err != nil {
		return nil, err
	}
	if p.elements, p.open = simpleElements(tree); p.elements != nil {
		return p, nil
	}
	if strings.Contains(translated, bigRepeat) {
		return nil, errors.New("a repetition above 1000 is possible only in a plain sequence of classes between ^ and $; use maxLength")
	}
	p.regex, err = regexp.Compile(translated)
	return p, err
}

func (p *pattern) match(text []byte) bool {
	for _, look := range p.looks {
		if look.match(text) == look.negative {
			return false
		}
	}
	if p.elements == nil {
		return p.regex.Match(text)
	}
	i := 0
	for k := range p.elements {
		e := &p.elements[k]
		count := 0
		for i < len(text) && count != e.max {
			size := e.take(text[i:])
			if size == 0 {
				break
			}
			i += size
			count++
		}
		if count < e.min {
			return false
		}
	}
	return p.open || i == len(text)
}

// take returns the size of the first character of text if it is in the class, else 0.
func (e *element) take(text []byte) int {
	c := text[0]
	if c < utf8.RuneSelf {
		return int(e.ascii[c>>6] >> (c & 63) & 1)
	}
	if e.wide == nil {
		return 0
	}
	r, size := utf8.DecodeRune(text)
	if !e.hasWide(r) {
		return 0
	}
	return size
}

func (e *element) hasWide(r rune) bool {
	for i := 0; i < len(e.wide); i += 2 {
		if r >= e.wide[i] && r <= e.wide[i+1] {
			return true
		}
	}
	return false
}

func (e *element) add(from, to rune) {
	for c := from; c <= to && c < utf8.RuneSelf; c++ {
		e.ascii[c>>6] |= 1 << (c & 63)
	}
	if to >= utf8.RuneSelf {
		e.wide = append(e.wide, max(from, utf8.RuneSelf), to)
	}
}

func (e *element) overlaps(other *element) bool {
	if e.ascii[0]&other.ascii[0]|e.ascii[1]&other.ascii[1] != 0 {
		return true
	}
	for i := 0; i < len(e.wide); i += 2 {
		for j := 0; j < len(other.wide); j += 2 {
			if e.wide[i] <= other.wide[j+1] && other.wide[j] <= e.wide[i+1] {
				return true
			}
		}
	}
	return false
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
		return appendGroup(elements, part)
	case syntax.OpLiteral:
		if part.Flags&syntax.FoldCase != 0 {
			return nil, false
		}
		for _, r := range part.Rune {
			e := element{min: 1, max: 1}
			e.add(r, r)
			elements = append(elements, e)
		}
		return elements, true
	}
	e := element{min: low, max: high}
	switch {
	case part.Op == syntax.OpLiteral && len(part.Rune) == 1 && part.Flags&syntax.FoldCase == 0:
		e.add(part.Rune[0], part.Rune[0])
	case part.Op == syntax.OpAnyChar:
		e.add(0, utf8.MaxRune)
	case part.Op == syntax.OpCharClass && len(part.Rune) <= 64: // a long table is left to regexp
		for i := 0; i < len(part.Rune); i += 2 {
			e.add(part.Rune[i], part.Rune[i+1])
		}
	default:
		return nil, false
	}
	return append(elements, e), true
}

// appendGroup reads a group, or the mark that translatePattern leaves for a repetition
// of the element before it.
func appendGroup(elements []element, group *syntax.Regexp) ([]element, bool) {
	inner := group.Sub[0]
	if counts, ok := strings.CutPrefix(group.Name, bigRepeat); ok && len(elements) > 0 {
		last := &elements[len(elements)-1]
		_, err := fmt.Sscanf(counts, "%d_%d", &last.min, &last.max)
		if last.max == 0 {
			last.max = -1
		}
		return elements, err == nil
	}
	if inner.Op != syntax.OpConcat {
		return appendElements(elements, inner)
	}
	for _, one := range inner.Sub {
		var ok bool
		if elements, ok = appendElements(elements, one); !ok {
			return nil, false
		}
	}
	return elements, true
}

// deterministic reports whether taking as much as possible for each element is right:
// whatever may follow an element of variable length must not begin with its class.
func deterministic(elements []element) bool {
	for i := range elements {
		e := &elements[i]
		if e.min == e.max {
			continue
		}
		for k := i + 1; k < len(elements); k++ {
			if e.overlaps(&elements[k]) {
				return false
			}
			if elements[k].min > 0 {
				break
			}
		}
	}
	return true
}
