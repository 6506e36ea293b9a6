package schema

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

func validUTF8(text []byte) bool { return utf8.Valid(text) }

// isTypeViolation reports whether the whole document has a type the schema does not allow.
func isTypeViolation(err error) bool {
	v, ok := err.(*Violation)
	return ok && v.Kind == Mismatch && v.Instance == "" && strings.HasSuffix(v.Clause, "/type")
}

// violation turns the failed check into what callers see.
func (s *Schema) violation(c *check) *Violation {
	if c.work < 0 {
		return &Violation{Kind: TooComplex, Message: "checking this document takes too many steps", Offset: -1}
	}
	v := &c.values[c.at]
	return &Violation{
		Kind:     Mismatch,
		Instance: c.pointer(c.at),
		Clause:   s.clause(c.rule, c.keyword),
		Message:  c.describe(v),
		Offset:   c.offset(v),
	}
}

// clause returns the keyword's pointer, relative to the compiled schema where it lies below it.
func (s *Schema) clause(r *rule, keyword string) string {
	path := r.path
	if keyword != "" {
		path += "/" + keyword
	}
	if rest, ok := strings.CutPrefix(path, s.root.path); ok && (rest == "" || rest[0] == '/') {
		return rest
	}
	return "#" + path
}

// pointer returns the JSON Pointer of the value or key at index at.
func (d *document) pointer(at uint32) string {
	const maxToken = 64
	pointer := ""
	for i := uint32(0); i != at; {
		v := &d.values[i]
		if v.kind == kindArray {
			item, n := i+1, 0
			for ; d.values[item].next <= at; n++ {
				item = d.values[item].next
			}
			pointer += "/" + strconv.Itoa(n)
			i = item
			continue
		}
		k := i + 1
		for d.values[k+1].next <= at {
			k = d.values[k+1].next
		}
		name := d.text(&d.values[k])
		token := string(name)
		if len(token) > maxToken {
			token = strings.ToValidUTF8(token[:maxToken], "") + "…"
		}
		pointer = appendToken(pointer, token)
		if at == k {
			return pointer
		}
		i = k + 1
	}
	return pointer
}

var kindWords = [...]string{"null", "a boolean", "a number", "a string", "an array", "an object", "a byte string", "a CBOR time", "a file"}

func (n *number) String() string { return excerpt(n.append(nil)) }

// describe says in words what failed. It quotes numbers and key names, never texts.
func (c *check) describe(v *value) string {
	r := c.rule
	n := c.detail
	this := func() string { n := c.number(v); return n.String() }
	switch c.keyword {
	case "":
		return "no value is allowed here"
	case "type":
		return kindWords[v.kind] + " is not of type " + r.types.String()
	case "minimum":
		return this() + " is less than the minimum " + r.number.minimum.String()
	case "maximum":
		return this() + " is greater than the maximum " + r.number.maximum.String()
	case "exclusiveMinimum":
		return this() + " is not greater than " + r.number.exclusiveMinimum.String()
	case "exclusiveMaximum":
		return this() + " is not less than " + r.number.exclusiveMaximum.String()
	case "multipleOf":
		return this() + " is not a multiple of " + excerpt([]byte(r.number.multiple))
	case "minLength":
		return fmt.Sprintf("a string of %d characters is shorter than %d", n, r.text.minLength)
	case "maxLength":
		return fmt.Sprintf("a string of %d characters is longer than %d", n, r.text.maxLength)
	case "pattern":
		return "the string does not match the pattern " + excerpt([]byte(r.text.pattern.source))
	case "format":
		if v.kind == kindNumber {
			return fmt.Sprintf("%s is not an integer of %d bits", this(), r.number.bits)
		}
		return "the string is not a valid " + r.text.formatName
	case "minItems":
		return fmt.Sprintf("an array of %d items has fewer than %d", n, r.array.minItems)
	case "maxItems":
		return fmt.Sprintf("an array of %d items has more than %d", n, r.array.maxItems)
	case "contains", "minContains":
		return fmt.Sprintf("%d items are as contains demands, at least %d must be", n, r.array.minContains)
	case "maxContains":
		return fmt.Sprintf("more than %d items are as contains says", r.array.maxContains)
	case "uniqueItems":
		return "the item equals an earlier one"
	case "minProperties":
		return fmt.Sprintf("an object of %d members has fewer than %d", n, r.object.min)
	case "maxProperties":
		return fmt.Sprintf("an object of %d members has more than %d", n, r.object.max)
	case "additionalProperties", "unevaluatedProperties":
		return fmt.Sprintf("the property %q is not allowed", excerpt(c.text(&c.values[n])))
	case "required":
		return fmt.Sprintf("the property %q is missing", excerpt([]byte(r.object.names[n].name)))
	case "dependentRequired":
		return fmt.Sprintf("the property %q needs %q beside it",
			excerpt([]byte(r.object.names[n>>16].name)), excerpt([]byte(r.object.names[n&0xffff].name)))
	case "enum":
		return "the value is not one of " + r.enum.display
	case "const":
		return "the value is not " + r.enum.display
	case "anyOf":
		return fmt.Sprintf("the value matches none of the %d alternatives", len(r.anyOf))
	case "oneOf":
		if n > 1 {
			return fmt.Sprintf("the value matches more than one of the %d alternatives", len(r.oneOf))
		}
		return fmt.Sprintf("the value matches none of the %d alternatives", len(r.oneOf))
	case "not":
		return "the value matches a schema that it must not match"
	}
	return "does not satisfy " + c.keyword
}
