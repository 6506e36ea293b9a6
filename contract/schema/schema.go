// Package schema checks payloads against JSON Schema 2020-12 without decoding them.
//
// A schema is compiled once. A document, JSON or CBOR, is tokenized once into a flat
// list of values that point into its bytes, in memory that is reused, and the compiled
// schema runs over that list: no maps, no allocation unless something is wrong.
// Beyond the schema it refuses what parsers disagree on: duplicate keys, lone
// surrogates, numbers out of all bounds (RFC 7493), and what costs more than it should:
// deep nesting, too many values, alternatives that multiply.
//
// Schemas with keywords that cannot be compiled (unevaluatedProperties beside other
// schemas, a $dynamicRef that depends on the caller, other dialects) run on
// github.com/santhosh-tekuri/jsonschema; Compiled and Fallback say so.
//
// Extensions: x-cbor-key gives a property an integer key in CBOR; format byte and
// contentEncoding base64 or base64url make a string a CBOR byte string; format
// date-time takes CBOR tag 1; formats int32 and int64 bound integers.
package schema

import "github.com/santhosh-tekuri/jsonschema/v6"

// Schema is a compiled schema. It is immutable and for any number of goroutines.
type Schema struct {
	root     *rule
	limits   limits
	fallback *jsonschema.Schema
	reason   string
}

// Compiled reports whether the schema runs in the compiled form.
func (s *Schema) Compiled() bool { return s.fallback == nil }

// Fallback says which keyword, where, made the schema fall back; "" if it is compiled.
func (s *Schema) Fallback() string { return s.reason }

// ValidateJSON checks a JSON document (RFC 8259). The error, if any, is a *Violation.
// A document that passes costs no allocation.
func (s *Schema) ValidateJSON(doc []byte) error {
	d := newDocument(s.limits)
	var err error
	if d.readJSON(doc) {
		err = s.validate(d)
	} else {
		err = d.violation
	}
	d.free()
	return err
}

// ValidateCBOR checks a CBOR document (RFC 8949) as the JSON document it stands for
// (RFC 8949 §6.1, and the extensions above). The error, if any, is a *Violation.
func (s *Schema) ValidateCBOR(doc []byte) error {
	d := newDocument(s.limits)
	var err error
	if d.readCBOR(doc) && d.projectWith(s.root) {
		err = s.validate(d)
	} else {
		err = d.violation
	}
	d.free()
	return err
}

func (s *Schema) validate(d *document) error {
	if s.fallback != nil {
		return s.validateFallback(d)
	}
	c := newCheck(d)
	if c.apply(s.root, 0) {
		return nil
	}
	return s.violation(&c)
}

// ValidateText checks a bare text such as a path, query or header value: it is taken
// as a number, a boolean or null where the schema allows one and the text is one, else
// as a string. The error, if any, is a *Violation.
func (s *Schema) ValidateText(text string) error {
	d := newDocument(s.limits)
	err := s.validateText(d, text)
	d.free()
	return err
}

func (s *Schema) validateText(d *document, text string) error {
	if len(text) > d.limits.bytes {
		d.fail(TooLarge, 0, "longer than the limit")
		return d.violation
	}
	d.arena = append(d.arena, text...)
	d.src = d.arena // for the scanners; a text without escapes stays where it is
	var first error
	if mayBeScalar(d.src) {
		if pos := d.jsonValue(0, 1); pos == len(text) && d.values[0].kind <= kindNumber {
			if first = s.validate(d); first == nil {
				return nil
			}
		}
		d.violation, d.values = nil, d.values[:0]
	}
	v := value{kind: kindString, end: uint32(len(text))}
	if isASCII(d.src) {
		v.flags = ascii
	} else if !validUTF8(d.src) {
		d.fail(InvalidUTF8, 0, "not UTF-8")
		return d.violation
	}
	if d.add(v) < 0 {
		return d.violation
	}
	err := s.validate(d)
	if err != nil && first != nil && isTypeViolation(err) {
		return first // no string is wanted: what is wrong with the number or boolean counts
	}
	return err
}

// mayBeScalar says whether a text could be a number, a boolean or null.
func mayBeScalar(text []byte) bool {
	return len(text) > 0 && (isDigit(text[0]) || text[0] == '-' || string(text) == "true" || string(text) == "false" || string(text) == "null")
}
