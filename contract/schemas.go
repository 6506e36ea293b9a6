package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"fieldgate"
	"fieldgate/contract/schema"
)

// dialect is how the schemas of a document are meant.
type dialect uint8

const (
	dialect2020    dialect = iota // JSON Schema 2020-12: OpenAPI 3.1
	dialectOpenAPI                // OpenAPI 3.0's own
	dialect07                     // JSON Schema draft-07: AsyncAPI 3
)

// bundle gathers the schemas that a contract's operations reach. Each is written once, in the 2020-12 dialect, as a member
// of $defs.
type bundle struct {
	definitions []*definition
	byNode      map[*node]*definition
	byName      map[string]*definition
}

type definition struct {
	at      *node // nil where the compiler made the schema itself
	name    string
	dialect dialect
	text    []byte
}

// schemaRef makes the schema at n part of the bundle. name is what it is called if it has no name of its own.
func (c *compiler) schemaRef(n *node, name string, d dialect) fieldgate.SchemaRef {
	if n == nil {
		return ""
	}
	if reference := n.get("$ref"); reference.isText() && (d != dialect2020 || len(n.children) == 1) {
		c.checkIgnored(n, d)
		if target := c.target(reference); target != nil {
			return fieldgate.SchemaRef(c.define(target, "", d))
		}
		return ""
	}
	return fieldgate.SchemaRef(c.define(n, name, d))
}

// define is the reference to n's definition in the bundle, which is made if it is not there.
func (c *compiler) define(n *node, name string, d dialect) string {
	home, below := n, ""
	for at := n; at.parent != nil; at = at.parent {
		if at.parent == c.namedSchemas && at.get("schemaFormat") == nil {
			home, name = at, at.name
			below = strings.TrimPrefix(n.pointer(), home.pointer())
			break
		}
	}
	def := c.schemas.byNode[home]
	if def == nil {
		if name == "" {
			name = strings.Trim(strings.ReplaceAll(pointerUnescape.Replace(home.pointer()), "/", "."), ".")
		}
		def = c.schemas.add(name, home, d)
	}
	return "#/$defs/" + def.name + below
}

func (b *bundle) add(name string, at *node, d dialect) *definition {
	clean := strings.Map(func(r rune) rune { // so that no pointer has to escape it
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, name)
	unique := clean
	for i := 2; b.byName[unique] != nil; i++ {
		unique = fmt.Sprintf("%s-%d", clean, i)
	}
	def := &definition{at: at, name: unique, dialect: d}
	if b.byName == nil {
		b.byName, b.byNode = make(map[string]*definition), make(map[*node]*definition)
	}
	b.byName[unique] = def
	if at != nil {
		b.byNode[at] = def
	}
	b.definitions = append(b.definitions, def)
	return def
}

// writeSchemas writes every definition. Those that it meets on the way are added to the end and come up in their turn, so
// that a long chain of references does not become a deep recursion.
func (c *compiler) writeSchemas() {
	for i := 0; i < len(c.schemas.definitions) && !c.exceeded; i++ {
		if def := c.schemas.definitions[i]; def.at != nil {
			def.text = c.appendSchema(nil, def.at, def.dialect)
			c.write(def.at, len(def.text))
		}
	}
}

// encode is the bundle as one JSON document; nil when it is empty.
func (b *bundle) encode() json.RawMessage {
	if len(b.definitions) == 0 {
		return nil
	}
	out := []byte(`{"$defs":{`)
	for i, def := range b.definitions {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(fieldgate.AppendJSONString(out, def.name), ':')
		out = append(out, def.text...)
	}
	return append(out, `}}`...)
}

// Keywords of JSON Schema by what their values are.
var (
	oneSchema  = []string{"additionalProperties", "contains", "not", "if", "then", "else", "propertyNames", "unevaluatedItems", "unevaluatedProperties", "contentSchema", "items"}
	schemaList = []string{"allOf", "anyOf", "oneOf", "prefixItems"}
	schemaMap  = []string{"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
	plainWords = []string{"$ref", "$comment", "$anchor", "$dynamicRef", "$dynamicAnchor", "type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum",
		"minimum", "exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxContains", "minContains",
		"maxProperties", "minProperties", "required", "dependentRequired", "title", "description", "default", "deprecated", "readOnly", "writeOnly",
		"examples", "format", "contentMediaType", "contentEncoding"}
	// droppedWords say nothing about the payload, or are turned into others.
	droppedWords = []string{"$schema", "$id", "nullable", "discriminator", "xml", "externalDocs", "example", "additionalItems", "dependencies"}
	schemaWords  = slices.Concat(oneSchema, schemaList, schemaMap, plainWords, droppedWords)
)

// appendSchema appends the schema at n in the 2020-12 dialect.
func (c *compiler) appendSchema(dst []byte, n *node, d dialect) []byte {
	if n.kind != mapping {
		if n.kind != scalar || n.tag != "!!bool" {
			c.fail(n, "write an object", "%s must be a schema: an object, true or false", n.title())
			return append(dst, "true"...)
		}
		return append(dst, strings.ToLower(n.text)...)
	}
	c.lint(n, d)
	w := memberWriter{dst: append(dst, '{')}
	if reference := n.get("$ref"); reference.isText() && d != dialect2020 {
		c.checkIgnored(n, d)
		c.appendReference(&w, reference, d)
		return append(w.dst, '}')
	}
	for _, child := range n.children {
		switch name := child.name; {
		case name == "$ref" && child.isText():
			c.appendReference(&w, child, d)
		case name == "items" && child.kind == sequence && d == dialect07:
			w.member("prefixItems")
			w.dst = c.appendSchemas(w.dst, child, d)
			if rest := n.get("additionalItems"); rest != nil {
				w.member("items")
				w.dst = c.appendSchema(w.dst, rest, d)
			}
		case slices.Contains(oneSchema, name):
			w.member(name)
			w.dst = c.appendSchema(w.dst, child, d)
		case slices.Contains(schemaList, name):
			w.member(name)
			w.dst = c.appendSchemas(w.dst, child, d)
		case slices.Contains(schemaMap, name):
			w.member(name)
			w.dst = c.appendSchemaMap(w.dst, child, d)
		case name == "dependencies" && d == dialect07:
			c.appendDependencies(&w, child, d)
		case name == "type" && d == dialectOpenAPI && n.get("nullable").isTrue() && child.isText():
			w.member("type")
			w.dst = append(fieldgate.AppendJSONString(append(w.dst, '['), child.text), `,"null"]`...)
		case (name == "minimum" || name == "maximum") && d == dialectOpenAPI && n.get(exclusive[name]).isTrue():
			w.member(exclusive[name])
			w.dst = append(w.dst, c.toJSON(child)...)
		case (name == "exclusiveMinimum" || name == "exclusiveMaximum") && d == dialectOpenAPI && child.tag == "!!bool":
		case name == "example" && n.get("examples") == nil:
			w.member("examples")
			w.dst = append(append(append(w.dst, '['), c.toJSON(child)...), ']')
		case slices.Contains(droppedWords, name):
		case name == "x-cbor-key", slices.Contains(plainWords, name):
			w.member(name)
			w.dst = append(w.dst, c.toJSON(child)...)
		case strings.HasPrefix(name, "x-"):
			c.conformsExtension(child, anything)
		default:
			c.warn(child, c.didYouMean(name, schemaWords), "the schema word %q means nothing and is not checked", excerpt(name))
		}
	}
	return append(w.dst, '}')
}

var exclusive = map[string]string{"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}

// memberWriter appends the members of a JSON object.
type memberWriter struct {
	dst  []byte
	some bool
}

func (w *memberWriter) member(name string) {
	if w.some {
		w.dst = append(w.dst, ',')
	}
	w.some = true
	w.dst = append(fieldgate.AppendJSONString(w.dst, name), ':')
}

func (c *compiler) appendReference(w *memberWriter, reference *node, d dialect) {
	if target := c.target(reference); target != nil {
		w.member("$ref")
		w.dst = fieldgate.AppendJSONString(w.dst, c.define(target, "", d))
	}
}

func (c *compiler) appendSchemas(dst []byte, n *node, d dialect) []byte {
	if n.kind != sequence {
		c.fail(n, "write a list", "%s must be a list of schemas", n.name)
	}
	dst = append(dst, '[')
	for i, item := range n.children {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = c.appendSchema(dst, item, d)
	}
	return append(dst, ']')
}

func (c *compiler) appendSchemaMap(dst []byte, n *node, d dialect) []byte {
	if n.kind != mapping {
		c.fail(n, "write an object", "%s must be an object whose members are schemas", n.name)
		return append(dst, "{}"...)
	}
	w := memberWriter{dst: append(dst, '{')}
	for _, child := range n.children {
		w.member(child.name)
		w.dst = c.appendSchema(w.dst, child, d)
	}
	return append(w.dst, '}')
}

// appendDependencies turns draft-07's word into the two that took its place (2020-12 core, appendix on changes).
func (c *compiler) appendDependencies(w *memberWriter, n *node, d dialect) {
	schemas, required := memberWriter{dst: []byte{'{'}}, memberWriter{dst: []byte{'{'}}
	for _, child := range n.all() {
		if child.kind == sequence {
			required.member(child.name)
			required.dst = append(required.dst, c.toJSON(child)...)
			continue
		}
		schemas.member(child.name)
		schemas.dst = c.appendSchema(schemas.dst, child, d)
	}
	w.member("dependentSchemas")
	w.dst = append(append(w.dst, schemas.dst...), '}')
	w.member("dependentRequired")
	w.dst = append(append(w.dst, required.dst...), '}')
}

// checkIgnored warns of words beside a $ref, which OpenAPI 3.0 and draft-07 ignore.
func (c *compiler) checkIgnored(n *node, d dialect) {
	for _, child := range n.children {
		switch {
		case d == dialect2020, child.name == "$ref", child.name == "description", child.name == "title", strings.HasPrefix(child.name, "x-"):
		default:
			c.warn(child, "put both into allOf", "%q beside $ref is ignored in this version of the format", excerpt(child.name))
		}
	}
}

// compileSchemas compiles every schema that an operation refers to and returns them by reference.
func (c *compiler) compileSchemas() map[fieldgate.SchemaRef]*schema.Schema {
	if c.writeSchemas(); c.exceeded {
		return nil
	}
	encoded := c.schemas.encode()
	if encoded == nil {
		return nil
	}
	c.contract.Schemas = encoded
	sc, err := schema.NewCompiler(encoded, schema.Options{})
	if err != nil {
		c.failSchema(err)
		return nil
	}
	compiled := make(map[fieldgate.SchemaRef]*schema.Schema)
	for _, ref := range c.references() {
		if compiled[ref] != nil {
			continue
		}
		s, err := sc.Compile(string(ref))
		if err != nil {
			c.failSchema(err)
			continue
		}
		if !s.Compiled() {
			where, reason, _ := strings.Cut(s.Fallback(), ": ")
			c.warn(c.schemas.source(where), "write it without this word to have it checked at full speed", "the schema is checked by a slower validator: %s", reason)
		}
		compiled[ref] = s
	}
	return compiled
}

func (c *compiler) failSchema(err error) {
	var wrong *schema.CompileError
	if !errors.As(err, &wrong) {
		c.fail(nil, "correct the schemas", "the schemas cannot be compiled: %v", err)
		return
	}
	at := c.schemas.source(wrong.Pointer)
	if at == nil {
		at = c.root
	}
	c.fail(at, "correct the schema", "%s: %s", at.title(), excerpt(wrong.Message))
}

// source is the place in the document that a pointer into the bundle stands for, or the closest above it.
func (b *bundle) source(pointer string) *node {
	rest, ok := strings.CutPrefix(pointer, "#/$defs/")
	if !ok {
		return nil
	}
	name, rest, _ := strings.Cut(rest, "/")
	def := b.byName[pointerUnescape.Replace(name)]
	if def == nil || def.at == nil {
		return nil
	}
	at := def.at
	for rest != "" {
		var token string
		token, rest, _ = strings.Cut(rest, "/")
		next := at.descend("/" + token)
		if next == nil {
			break
		}
		at = next
	}
	return at
}

// references lists the schemas that the contract's operations refer to.
func (c *compiler) references() []fieldgate.SchemaRef {
	var refs []fieldgate.SchemaRef
	parameters := func(list []fieldgate.Parameter) {
		for _, p := range list {
			refs = append(refs, p.Schema)
		}
	}
	for i := range c.contract.Operations {
		parameters(c.contract.Operations[i].Parameters)
		for _, response := range c.contract.Operations[i].Responses {
			parameters(response.Headers)
		}
		if messages := c.contract.Operations[i].WebSocket; messages != nil {
			refs = append(refs, messages.FromClient, messages.FromService)
		}
	}
	c.eachMediaType(func(m *fieldgate.MediaType) {
		refs = append(refs, m.Schema)
		for _, encoding := range m.Encoding {
			parameters(encoding.Headers)
		}
	})
	return slices.DeleteFunc(refs, func(r fieldgate.SchemaRef) bool { return r == "" })
}

// eachMediaType visits every representation of a payload in the contract.
func (c *compiler) eachMediaType(visit func(*fieldgate.MediaType)) {
	all := func(media []fieldgate.MediaType) {
		for i := range media {
			visit(&media[i])
		}
	}
	for i := range c.contract.Operations {
		op := &c.contract.Operations[i]
		for _, payload := range []*fieldgate.Payload{op.Request, op.Message} {
			if payload != nil {
				all(payload.Media)
			}
		}
		for _, r := range op.Responses {
			all(r.Media)
		}
	}
}
