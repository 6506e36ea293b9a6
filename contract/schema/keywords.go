package schema

import (
	"bytes"
	"strconv"
	"strings"
)

// builder compiles one schema object.
type builder struct {
	*Compiler
	*rule
	named       map[string]int // index into object.names
	when        *rule
	then, else_ *rule
	minContains int
	maxContains int
	contains    *rule
	unevaluated [2]*rule // properties, items
}

// keywords of JSON Schema 2020-12 that assert or apply something. i is the index of the
// keyword's value.
var keywords map[string]func(b *builder, keyword string, i uint32) error

func init() { // a literal would refer to itself through the compiler
	keywords = map[string]func(*builder, string, uint32) error{
		"$schema": (*builder).dialect, "$ref": (*builder).reference, "$dynamicRef": (*builder).dynamicReference,
		"type": (*builder).typeKeyword, "enum": (*builder).enumKeyword, "const": (*builder).constKeyword,
		"allOf": (*builder).list, "anyOf": (*builder).list, "oneOf": (*builder).list,
		"not": (*builder).one, "if": (*builder).one, "then": (*builder).one, "else": (*builder).one,
		"minimum": (*builder).bound, "maximum": (*builder).bound, "exclusiveMinimum": (*builder).bound,
		"exclusiveMaximum": (*builder).bound, "multipleOf": (*builder).multipleOf,
		"minLength": (*builder).size, "maxLength": (*builder).size, "pattern": (*builder).patternKeyword,
		"format": (*builder).formatKeyword, "contentEncoding": (*builder).contentEncoding,
		"contentMediaType": (*builder).contentMediaType,
		"items":            (*builder).one, "prefixItems": (*builder).list, "contains": (*builder).one,
		"minContains": (*builder).size, "maxContains": (*builder).size, "minItems": (*builder).size, "maxItems": (*builder).size,
		"uniqueItems": (*builder).uniqueItems,
		"properties":  (*builder).properties, "patternProperties": (*builder).patternProperties,
		"additionalProperties": (*builder).one, "propertyNames": (*builder).one,
		"minProperties": (*builder).size, "maxProperties": (*builder).size, "required": (*builder).required,
		"dependentRequired": (*builder).dependentRequired, "dependentSchemas": (*builder).dependentSchemas,
		"unevaluatedProperties": (*builder).one, "unevaluatedItems": (*builder).one,
	}
}

func (b *builder) value(i uint32) *value { return &b.doc.values[i] }

// text reads a keyword that must be a string.
func (b *builder) textValue(keyword string, i uint32) (string, error) {
	v := b.value(i)
	if v.kind != kindString {
		return "", errorAt(b.path, keyword, "must be a string")
	}
	return string(b.doc.text(v)), nil
}

func (b *builder) cannot(why string) {
	if b.problem == "" {
		b.problem = why
	}
}

func (b *builder) dialect(keyword string, i uint32) error {
	uri, err := b.textValue(keyword, i)
	if err != nil {
		return err
	}
	switch strings.TrimSuffix(uri, "#") {
	case "https://json-schema.org/draft/2020-12/schema":
	default: // OpenAPI 3.1 schemas are 2020-12 with annotations
		if !strings.HasPrefix(uri, "https://spec.openapis.org/oas/3.1/") {
			b.cannot("another dialect: $schema " + strconv.Quote(uri))
		}
	}
	return nil
}

func (b *builder) reference(keyword string, i uint32) error {
	ref, err := b.textValue(keyword, i)
	if err != nil {
		return err
	}
	t, err := b.resolve(ref, i, "#"+b.path+"/"+keyword)
	return b.follow(t, err)
}

// dynamicReference: core §8.2.3.2. When only one schema of the bundle declares the
// anchor, every dynamic scope leads to it.
func (b *builder) dynamicReference(keyword string, i uint32) error {
	ref, err := b.textValue(keyword, i)
	if err != nil {
		return err
	}
	t, err := b.resolve(ref, i, "#"+b.path+"/"+keyword)
	_, fragment, _ := strings.Cut(ref, "#")
	if err == nil && t.dynamic && b.countDynamic(fragment) > 1 {
		b.cannot("$dynamicRef " + strconv.Quote(ref) + " depends on how it is reached")
		return nil
	}
	return b.follow(t, err)
}

func (b *builder) follow(t target, err error) error {
	if err != nil {
		return err
	}
	if t.problem != "" {
		b.cannot(t.problem)
		return nil
	}
	r, err := b.Compiler.rule(t.index, t.path)
	if err != nil {
		return err
	}
	if b.ref == nil {
		b.ref = r
	} else { // $ref beside $dynamicRef
		b.allOf = append(b.allOf, r)
	}
	return nil
}

func (b *builder) typeKeyword(keyword string, i uint32) error {
	v := b.value(i)
	names := []string{}
	if v.kind == kindString {
		names = append(names, string(b.doc.text(v)))
	} else {
		var err error
		if names, err = b.texts(b.path, keyword, i); err != nil || len(names) == 0 {
			return errorAt(b.path, keyword, "must be a type or a list of types")
		}
	}
	for _, name := range names {
		t, ok := typeNames[name]
		if !ok {
			return errorAt(b.path, keyword, "%q is not a type; use null, boolean, integer, number, string, array or object", name)
		}
		b.types |= t
	}
	return nil
}

func (b *builder) list(keyword string, i uint32) error {
	list, err := b.schemas(b.path, keyword, i)
	if err != nil {
		return err
	}
	switch keyword {
	case "allOf":
		b.allOf = append(b.allOf, list...)
	case "anyOf":
		b.anyOf = list
	case "oneOf":
		b.oneOf = list
	case "prefixItems":
		b.arrayRule().prefix = list
	}
	return nil
}

// one compiles a keyword whose value is a schema.
func (b *builder) one(keyword string, i uint32) error {
	if keyword == "items" && b.value(i).kind == kindArray {
		return errorAt(b.path, keyword, "must be one schema; a list of schemas is prefixItems in JSON Schema 2020-12")
	}
	r, err := b.Compiler.rule(i, appendToken(b.path, keyword))
	if err != nil {
		return err
	}
	switch keyword {
	case "not":
		b.not = r
	case "if":
		b.when = r
	case "then":
		b.then = r
	case "else":
		b.else_ = r
	case "items":
		b.arrayRule().items = r
	case "contains":
		b.contains = r
	case "additionalProperties":
		b.objectRule().additional = r
	case "propertyNames":
		b.objectRule().keys = r
	case "unevaluatedProperties":
		b.unevaluated[0] = r
	case "unevaluatedItems":
		b.unevaluated[1] = r
	}
	return nil
}

func (b *builder) size(keyword string, i uint32) error {
	n, err := b.count(b.path, keyword, i)
	if err != nil {
		return err
	}
	switch keyword {
	case "minLength":
		b.textRule().minLength = n
	case "maxLength":
		b.textRule().maxLength = n
	case "minItems":
		b.arrayRule().minItems = n
	case "maxItems":
		b.arrayRule().maxItems = n
	case "minContains":
		b.minContains = n
	case "maxContains":
		b.maxContains = n
	case "minProperties":
		b.objectRule().min = n
	case "maxProperties":
		b.objectRule().max = n
	}
	return nil
}

func (b *builder) bound(keyword string, i uint32) error {
	v := b.value(i)
	if v.kind != kindNumber {
		return errorAt(b.path, keyword, "must be a number; OpenAPI 3.0's exclusiveMinimum: true with minimum: 0 is exclusiveMinimum: 0 in 3.1")
	}
	n := b.doc.number(v)
	n.literal = bytes.Clone(n.literal)
	rule := b.numberRule()
	switch keyword {
	case "minimum":
		rule.minimum = &n
	case "maximum":
		rule.maximum = &n
	case "exclusiveMinimum":
		rule.exclusiveMinimum = &n
	case "exclusiveMaximum":
		rule.exclusiveMaximum = &n
	}
	return nil
}

func (b *builder) multipleOf(keyword string, i uint32) error {
	v := b.value(i)
	if v.kind != kindNumber || compare(b.doc.number(v), number{}) <= 0 {
		return errorAt(b.path, keyword, "must be a number above 0")
	}
	d, ok := newDivisor(b.doc.number(v))
	if !ok {
		b.cannot("multipleOf with more than 18 significant digits")
		return nil
	}
	rule := b.numberRule()
	rule.multipleOf, rule.multiple = &d, string(b.doc.text(v))
	return nil
}

func (b *builder) uniqueItems(keyword string, i uint32) error {
	v := b.value(i)
	if v.kind != kindBool {
		return errorAt(b.path, keyword, "must be true or false")
	}
	b.arrayRule().unique = v.val != 0
	return nil
}
