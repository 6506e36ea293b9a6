// Package filter reads the filters of lists, one grammar for the API, the command line and the console: terms separated by
// spaces, all of which must hold. It renders them as SQL, values only through placeholders, or applies them in memory.
package filter

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/control/refusal"
)

// Bounds of a filter.
const (
	MaxBytes = 1024
	MaxTerms = 32
)

// Key is something that a list can be filtered by.
type Key struct {
	Name    string
	Values  []string // the only ones that there are; nil: any text
	Numbers bool     // decimal numbers are values, too
	Since   bool     // a time, or how long ago it was; selects what is not older
}

// Filter is terms that must all hold. The zero Filter selects everything.
type Filter []Term

// Term and Value are those that gateways apply, too.
type (
	Term  = fieldgate.FilterTerm
	Value = fieldgate.FilterValue
)

// Parse reads a filter of a list that has the keys. Durations count back from now. What it does not understand is a refusal that
// says what there is instead.
func Parse(text string, now time.Time, keys ...Key) (Filter, error) {
	if len(text) > MaxBytes {
		return nil, refusal.Invalid("A filter has at most %d bytes; this one has %d.", MaxBytes, len(text))
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, isControl) {
		return nil, refusal.Invalid("A filter is UTF-8 text without control characters.")
	}
	var f Filter
	p := parser{rest: text}
	for p.skipSpace(); p.rest != ""; p.skipSpace() {
		if len(f) == MaxTerms {
			return nil, refusal.Invalid("A filter has at most %d terms.", MaxTerms)
		}
		term, err := p.term()
		if err != nil {
			return nil, err
		}
		if term.Key != "" {
			if err := check(&term, now, keys); err != nil {
				return nil, err
			}
		}
		f = append(f, term)
	}
	return f, nil
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

func check(t *Term, now time.Time, keys []Key) error {
	at := slices.IndexFunc(keys, func(k Key) bool { return k.Name == t.Key })
	if at < 0 {
		return errUnknownKey(t.Key, keys)
	}
	key := keys[at]
	var values []Value
	for _, v := range t.Values {
		switch {
		case key.Since:
			if t.Not || len(t.Values) > 1 || v.Prefix {
				return refusal.Invalid("%s takes one time and cannot be excluded: write %s:15m, or %s:2026-11-22T18:00:00Z.", key.Name, key.Name, key.Name)
			}
			var err error
			if v.Time, err = ParseTime(v.Text, now); err != nil {
				return refusal.Invalid("%s: %s", key.Name, err)
			}
			values = append(values, v)
		case key.Values == nil, key.Numbers && !v.Prefix && isNumber(v.Text):
			values = append(values, v)
		default:
			// What a list stores of a value may not begin with its text, so that a prefix stands for the values that do.
			known := len(values)
			for _, text := range key.Values {
				if v.Matches(text) {
					values = append(values, Value{Text: text})
				}
			}
			if len(values) == known {
				return refusal.Invalid("%.60q is no value of %s: it is one of %s.", v.Text, key.Name, strings.Join(key.Values, ", "))
			}
		}
	}
	t.Values = values
	return nil
}

func errUnknownKey(name string, keys []Key) error {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Name
	}
	return refusal.Invalid("This list has no filter key %.60q: it knows %s. To search for text with a colon put it into quotes.", name, strings.Join(names, ", "))
}

func isNumber(text string) bool {
	return text != "" && len(text) <= 9 && strings.Trim(text, "0123456789") == ""
}

// MaxSpan is how far back a duration may reach.
const MaxSpan = 100 * 365 * 24 * time.Hour

// ParseTime reads how long ago something was, a number with s, m, h or d, or an RFC 3339 time.
func ParseTime(text string, now time.Time) (time.Time, error) {
	if len(text) > 1 {
		unit := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[text[len(text)-1]]
		if digits := text[:len(text)-1]; unit != 0 && isNumber(digits) {
			count := time.Duration(0)
			for _, digit := range []byte(digits) {
				count = count*10 + time.Duration(digit-'0')
			}
			if count > MaxSpan/unit {
				return time.Time{}, fmt.Errorf("%s is longer ago than anything", text)
			}
			return now.Add(-count * unit), nil
		}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Year() < 1970 || at.Year() > 9999 {
		return time.Time{}, fmt.Errorf("%.60q is no time: write 90s, 15m, 24h, 7d or a time such as 2026-11-22T18:00:00Z", text)
	}
	return at, nil
}
