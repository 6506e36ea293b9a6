package fieldgate

import (
	"slices"
	"strings"
	"time"
)

// FilterTerm selects by a key, or searches where Key is empty: what has one of Values is selected or, with Not, excluded. The control
// plane reads terms from an operator's filter; gateways apply those of a question.
type FilterTerm struct {
	Key    string        `json:"key,omitempty"`
	Not    bool          `json:"not,omitempty"`
	Values []FilterValue `json:"values"`
}

// FilterValue is one of the alternatives of a term.
type FilterValue struct {
	Text   string    `json:"text,omitempty"`
	Prefix bool      `json:"prefix,omitempty"` // what begins with Text; without one, whatever is not empty
	Time   time.Time `json:"time,omitzero"`    // of a key that takes one
}

// Matches says whether a value selects a text.
func (v FilterValue) Matches(text string) bool {
	switch {
	case !v.Prefix:
		return v.Text == text
	case v.Text == "":
		return text != ""
	}
	return strings.HasPrefix(text, v.Text)
}

// Matches says whether a term with a key selects what has any of the texts there.
func (t *FilterTerm) Matches(texts ...string) bool {
	selected := slices.ContainsFunc(t.Values, func(v FilterValue) bool { return slices.ContainsFunc(texts, v.Matches) })
	return selected != t.Not
}

// Finds says whether a word is in any of the texts, whatever the case of its letters.
func (t *FilterTerm) Finds(texts ...string) bool {
	found := slices.ContainsFunc(t.Values, func(v FilterValue) bool {
		word := strings.ToLower(v.Text)
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(strings.ToLower(text), word) })
	})
	return found != t.Not
}
