package contract

import (
	"regexp"
	"strings"
	"testing"
)

// Every word of Fieldgate that is accepted is explained in docs/contracts.md, with what it may be.
func TestWordsAreDocumented(t *testing.T) {
	words := inlineCode(read(t, "../docs/contracts.md"))
	seen := make(map[*shape]bool)
	explained := func(word string) bool { return words[word] }
	var visit func(s *shape)
	visit = func(s *shape) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		for name, member := range s.fields {
			if !explained(name) {
				t.Errorf("the word %q is not in docs/contracts.md", name)
			}
			visit(member)
		}
		for _, word := range s.words {
			if !explained(word) {
				t.Errorf("the value %q is not in docs/contracts.md", word)
			}
		}
		visit(s.each)
	}
	for _, s := range []*shape{rootWords, pathWords, operationWords, bindWord, openAPIBindingWords, asyncAPIBindingWords, passThroughShape} {
		visit(s)
	}
	for unit := range rateUnits {
		if !explained(unit) {
			t.Errorf("the unit %q is not in docs/contracts.md", unit)
		}
	}
	for _, word := range extensionsOf(openAPIShape, asyncAPIShape, operationShape, parameterShape, exampleShape) {
		if !explained(word) {
			t.Errorf("the word %q is not in docs/contracts.md", word)
		}
	}
}

// inlineCode gathers the words that a document sets as code within its text; longer examples do not count.
func inlineCode(document string) map[string]bool {
	words := make(map[string]bool)
	for _, line := range strings.Split(document, "\n") {
		for i, span := range strings.Split(line, "`") {
			if i%2 == 0 {
				continue
			}
			for _, word := range regexp.MustCompile(`[\w.-]+`).FindAllString(span, -1) {
				words[word] = true
				words[word[strings.LastIndexByte(word, '.')+1:]] = true // path of coap.path
			}
		}
	}
	return words
}

// extensionsOf lists the x-fieldgate members of the shapes and all below them.
func extensionsOf(shapes ...*shape) []string {
	var words []string
	seen := make(map[*shape]bool)
	var visit func(s *shape)
	visit = func(s *shape) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		for name, member := range s.fields {
			if strings.HasPrefix(name, "x-fieldgate") {
				words = append(words, name)
			}
			visit(member)
		}
		visit(s.each)
	}
	for _, s := range shapes {
		visit(s)
	}
	return words
}

// The documents that docs/contracts.md shows are read as it says.
func TestDocumentedPassThrough(t *testing.T) {
	document := read(t, "../docs/contracts.md")
	_, shown, found := strings.Cut(document, "```yaml\nfieldgate: pass-through\n")
	if !found {
		t.Fatal("docs/contracts.md shows no pass-through document")
	}
	shown, _, _ = strings.Cut(shown, "```")
	compileClean(t, "fieldgate: pass-through\n"+shown)
}
