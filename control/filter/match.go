package filter

import (
	"slices"
	"time"
)

// Has says whether a key is filtered by.
func (f Filter) Has(key string) bool {
	return slices.ContainsFunc(f, func(t Term) bool { return t.Key == key })
}

// Since is the latest time that terms with a key ask for; zero without one.
func (f Filter) Since(key string) (latest time.Time) {
	for _, t := range f {
		if t.Key == key && t.Values[0].Time.After(latest) {
			latest = t.Values[0].Time
		}
	}
	return latest
}

// Words are the terms without a key, which search.
func (f Filter) Words() (words []Term) {
	for _, t := range f {
		if t.Key == "" {
			words = append(words, t)
		}
	}
	return words
}

// WordsBegin is the filter with words as beginnings of what a key selects.
func (f Filter) WordsBegin(key string) Filter {
	rendered := make(Filter, len(f))
	for i, t := range f {
		if t.Key == "" {
			values := make([]Value, len(t.Values))
			for j, v := range t.Values {
				values[j] = Value{Text: v.Text, Prefix: true}
			}
			t = Term{Key: key, Not: t.Not, Values: values}
		}
		rendered[i] = t
	}
	return rendered
}
