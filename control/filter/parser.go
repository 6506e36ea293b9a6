package filter

import (
	"strings"

	"fieldgate/control/refusal"
)

// parser reads
//
//	filter = [ term *( space term ) ]
//	term   = [ "-" ] [ key ":" ] value *( "," value )
//	value  = ( text / quoted ) [ "*" ]
//	quoted = DQUOTE *( any / "\" any ) DQUOTE
//
// A key is plain text; text ends at a space, a comma or a quote.
type parser struct{ rest string }

func (p *parser) skipSpace() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *parser) skip(char byte) bool {
	if p.rest != "" && p.rest[0] == char {
		p.rest = p.rest[1:]
		return true
	}
	return false
}

func (p *parser) term() (t Term, err error) {
	t.Not = p.skip('-')
	if at := strings.IndexAny(p.rest, ": \t\","); at >= 0 && p.rest[at] == ':' {
		if at == 0 {
			return t, errNoValue("")
		}
		t.Key, p.rest = p.rest[:at], p.rest[at+1:]
	}
	for {
		v, err := p.value()
		if err != nil {
			return t, err
		}
		if v.Text == "" && !v.Prefix {
			return t, errNoValue(t.Key)
		}
		t.Values = append(t.Values, v)
		if !p.skip(',') {
			break
		}
	}
	if p.rest != "" && !strings.HasPrefix(p.rest, " ") && !strings.HasPrefix(p.rest, "\t") {
		return t, refusal.Invalid("After %.60q a space or a comma must follow, not %.20q.", t.Values[len(t.Values)-1].Text, p.rest)
	}
	return t, nil
}

func errNoValue(key string) error {
	if key == "" {
		return refusal.Invalid("A value is missing in the filter: write a word, or key:value.")
	}
	return refusal.Invalid("The filter key %.60q has no value: write %.60s:value.", key, key)
}

func (p *parser) value() (v Value, err error) {
	if p.skip('"') {
		return p.quoted()
	}
	end := strings.IndexAny(p.rest, " \t,\"")
	if end < 0 {
		end = len(p.rest)
	}
	v.Text, p.rest = p.rest[:end], p.rest[end:]
	v.Text, v.Prefix = strings.CutSuffix(v.Text, "*")
	return v, nil
}

func (p *parser) quoted() (v Value, err error) {
	var text strings.Builder
	for i := 0; i < len(p.rest); i++ {
		switch char := p.rest[i]; {
		case char == '"':
			v.Text, p.rest = text.String(), p.rest[i+1:]
			v.Prefix = p.skip('*')
			return v, nil
		case char == '\\' && i+1 < len(p.rest):
			i++
			text.WriteByte(p.rest[i])
		default:
			text.WriteByte(char)
		}
	}
	return v, refusal.Invalid("A double quote of the filter is not closed.")
}

// Quote writes a text so that a filter takes it as it is.
func Quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}
