package contract

import (
	"slices"
	"strings"

	"fieldgate"
)

// styles of a place, its default first (OpenAPI 3.1 section 4.8.12.2).
var styles = map[fieldgate.ParameterPlace][]fieldgate.ParameterStyle{
	fieldgate.InPath:   {fieldgate.StyleSimple, fieldgate.StyleLabel, fieldgate.StyleMatrix},
	fieldgate.InQuery:  {fieldgate.StyleForm, fieldgate.StyleSpaceDelimited, fieldgate.StylePipeDelimited, fieldgate.StyleDeepObject},
	fieldgate.InHeader: {fieldgate.StyleSimple},
	fieldgate.InCookie: {fieldgate.StyleForm},
}

// readStyle reads how a parameter or header is written, and gives its schema; nil where there is none, or where it cannot be checked,
// of which a warning tells.
func (c *compiler) readStyle(p *fieldgate.Parameter, n *node) (schema *node) {
	if content := n.get("content"); content != nil {
		return c.readContent(p, content)
	}
	schema = n.get("schema")
	if !c.style(p, n) {
		return nil
	}
	p.AllowEmpty = p.In == fieldgate.InQuery && n.get("allowEmptyValue").isTrue()
	structured := c.isOfType(schema, "array") || c.isOfType(schema, "object")
	switch {
	case p.Bound && (structured || p.Style != fieldgate.StyleDefault):
		c.fail(n, "let it be a plain text, without style", "what is bound to the caller is its id, neither a list nor an object")
	case p.In == fieldgate.InCookie && structured && p.Explode:
		c.warn(n, "write explode: false", "%s is read as one cookie with commas in it; several cookies of one name are not told apart", excerpt(p.Name))
		p.Explode = false
	case p.Style == fieldgate.StyleDeepObject && c.isOfType(schema, "array"):
		c.warn(n, "write style: form", "deepObject is for objects; %s is not checked", excerpt(p.Name))
		return nil
	}
	return schema
}

// style reads style and explode and says whether they are known.
func (c *compiler) style(p *fieldgate.Parameter, n *node) bool {
	known := styles[p.In]
	style := known[0]
	if word := n.get("style"); word != nil {
		style = fieldgate.ParameterStyle(word.string())
		if !slices.Contains(known, style) {
			names := make([]string, len(known))
			for i := range known {
				names[i] = string(known[i])
			}
			c.warn(word, "write "+strings.Join(names, ", ")+", or leave it out", "a %s parameter has no style %q; %s is not checked", p.In, excerpt(word.string()), excerpt(p.Name))
			return false
		}
	}
	if style != known[0] {
		p.Style = style
	}
	p.Explode = style == fieldgate.StyleForm || style == fieldgate.StyleDeepObject
	if explode := n.get("explode"); explode != nil && style != fieldgate.StyleDeepObject {
		p.Explode = explode.isTrue()
	}
	return true
}

// readContent reads a parameter that is a document of its own (OpenAPI 3.1 section 4.8.12.2.2).
func (c *compiler) readContent(p *fieldgate.Parameter, content *node) (schema *node) {
	if p.Bound {
		c.fail(content, "use schema", "what is bound to the caller is its id, not a document")
	}
	media := content.all()
	if len(media) != 1 {
		c.warn(content, "name one media type", "a parameter has one media type; %s is not checked", excerpt(p.Name))
		return nil
	}
	if t := c.mediaType(media[0], media[0].name); t != "application/json" && !strings.HasSuffix(t, "+json") {
		c.warn(media[0], "use application/json, or schema", "a parameter of the type %s is not checked", excerpt(t))
		return nil
	}
	p.JSON = true
	return media[0].get("schema")
}

// isOfType says whether a schema names the type, in place or by reference.
func (c *compiler) isOfType(schema *node, name string) bool {
	kind := c.resolve(schema).get("type")
	if kind == nil {
		return false
	}
	return kind.isText() && kind.text == name || slices.Contains(kind.strings(), name)
}

// readHeader reads a header field of an answer or a part.
func (c *compiler) readHeader(entry *node, name string) (p fieldgate.Parameter, ok bool) {
	n := c.resolve(entry)
	if n == nil || n.kind != mapping || !isToken(entry.name) {
		c.warn(entry, "write it as an object with a schema", "the header %q is not checked", excerpt(entry.name))
		return p, false
	}
	p = fieldgate.Parameter{Name: entry.name, In: fieldgate.InHeader, Required: n.get("required").isTrue()}
	schema := c.readStyle(&p, n)
	if schema != nil && !c.conforms(schema, schemaShape) {
		return p, false
	}
	p.Schema = c.schemaRef(schema, name, c.dialect)
	return p, p.Required || p.Schema != ""
}

// readEncodings reads how properties of a form are written (OpenAPI 3.1 section 4.8.15).
func (c *compiler) readEncodings(m *fieldgate.MediaType, n *node, name string) {
	for _, entry := range n.get("encoding").all() {
		e := fieldgate.PartEncoding{Property: entry.name}
		property := c.resolve(n.get("schema")).find("properties", entry.name)
		if m.Type == "multipart/form-data" {
			for _, one := range strings.FieldsFunc(entry.get("contentType").string(), func(r rune) bool { return r == ',' || r == ' ' }) {
				e.Types = append(e.Types, c.mediaType(entry, one))
			}
			for _, header := range entry.get("headers").all() {
				if strings.EqualFold(header.name, "content-type") || strings.EqualFold(header.name, "content-disposition") {
					continue
				}
				if p, ok := c.readHeader(header, name+"."+entry.name+".header."+header.name); ok {
					e.Headers = append(e.Headers, p)
				}
			}
		} else {
			p := fieldgate.Parameter{Name: entry.name, In: fieldgate.InQuery}
			if !c.style(&p, entry) {
				continue
			}
			if entry.get("style") != nil && p.Style == fieldgate.StyleDefault {
				p.Style = fieldgate.StyleForm
			}
			e.Style, e.Joined = p.Style, !p.Explode
			if e.Style == fieldgate.StyleForm && p.Explode && c.isOfType(property, "object") {
				c.warn(entry, "write explode: false, or style: deepObject", "the members of %s cannot be told from those of the form; the form is not checked", excerpt(entry.name))
				m.Schema = ""
				return
			}
		}
		if len(e.Types) > 0 || len(e.Headers) > 0 || e.Style != fieldgate.StyleDefault || e.Joined {
			m.Encoding = append(m.Encoding, e)
		}
	}
}
