package filter

import (
	"strings"
	"unicode/utf8"
)

// Column is where a list finds what a key selects.
type Column struct {
	Name  string                // an SQL expression, never NULL; trusted
	Value func(text string) any // what the column holds for a value of the key; nil: its text
	List  bool                  // it holds several texts without spaces, separated by spaces; one of them must be selected
}

// Where renders the filter as conditions joined by AND, and the values of their placeholders; without terms it is empty.
// columns has each key of the list, times as milliseconds since 1970; search is where words are looked for: anywhere in the
// text of one of these columns, whatever the case of ASCII letters.
func (f Filter) Where(columns map[string]Column, search ...string) (conditions string, values []any) {
	var all []string
	for _, t := range f {
		var either []string
		for _, v := range t.Values {
			switch {
			case t.Key == "":
				for _, column := range search {
					either = append(either, "LOWER("+column+`) LIKE ? ESCAPE '\'`)
					values = append(values, "%"+EscapeLike(lowerASCII(v.Text))+"%")
				}
			case !v.Time.IsZero():
				either = append(either, columns[t.Key].Name+" >= ?")
				values = append(values, v.Time.UnixMilli())
			default:
				condition, more := columns[t.Key].condition(v)
				either = append(either, condition)
				values = append(values, more...)
			}
		}
		condition := strings.Join(either, " OR ")
		switch {
		case t.Not:
			condition = "NOT (" + condition + ")"
		case len(either) > 1:
			condition = "(" + condition + ")"
		}
		all = append(all, condition)
	}
	return strings.Join(all, " AND "), values
}

func (c Column) condition(v Value) (string, []any) {
	switch {
	case c.List && v.Text != "":
		// LIKE would not tell upper case from lower in SQLite.
		text := " " + v.Text
		if !v.Prefix {
			text += " "
		}
		return "REPLACE(' ' || " + c.Name + " || ' ', ?, '') <> ' ' || " + c.Name + " || ' '", []any{text}
	case !v.Prefix && c.Value != nil:
		return c.Name + " = ?", []any{c.Value(v.Text)}
	case !v.Prefix:
		return c.Name + " = ?", []any{v.Text}
	}
	return Prefix(c.Name, v.Text)
}

// Prefix is the condition that a column begins with a text, as a range that an index serves.
func Prefix(column, text string) (condition string, values []any) {
	if text == "" {
		return column + " <> ''", nil
	}
	if end := after(text); end != "" {
		return "(" + column + " >= ? AND " + column + " < ?)", []any{text, end}
	}
	return column + " >= ?", []any{text}
}

// after is the first text that follows every text with this beginning; empty when there is none. Both databases order text by
// its bytes, which is the order of its characters.
func after(text string) string {
	for text != "" {
		last, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
		switch {
		case last == 0xD7FF: // surrogates are no characters
			return text + "\uE000"
		case last < utf8.MaxRune:
			return text + string(last+1)
		}
	}
	return ""
}

// EscapeLike makes a text mean itself in a pattern of LIKE … ESCAPE '\'.
func EscapeLike(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
}

func lowerASCII(text string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, text)
}
