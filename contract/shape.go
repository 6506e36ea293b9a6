package contract

import "strings"

// shape says which members an object of a document may have and of which type they are. Documents are checked against
// their shape before they are read, because a misspelt member that is silently ignored is a check that is silently off.
type shape struct {
	kind       shapeKind
	fields     map[string]*shape // of an object
	required   []string          // of an object
	each       *shape            // of every item or member
	words      []string          // of a word: those allowed
	extensible bool              // members that start with x- are allowed, those of Fieldgate only where fields has them
	reference  bool              // may be {$ref: …} instead
	orBoolean  bool              // may be true or false instead
	most       int               // items or members of a list or map; 0: the document's own bounds are enough
}

type shapeKind uint8

const (
	shapeAny shapeKind = iota
	shapeText
	shapeWord
	shapeBoolean
	shapeInteger
	shapeObject
	shapeMap
	shapeList
	shapeSchema
)

var shapeNames = [...]string{"any value", "a text", "a word", "true or false", "a whole number", "an object", "an object", "a list", "a schema"}

var (
	anything    = &shape{}
	text        = &shape{kind: shapeText}
	boolean     = &shape{kind: shapeBoolean}
	integer     = &shape{kind: shapeInteger}
	schemaShape = &shape{kind: shapeSchema}
)

type fields map[string]*shape

func word(words ...string) *shape { return &shape{kind: shapeWord, words: words} }
func list(each *shape) *shape     { return &shape{kind: shapeList, each: each} }
func mapOf(each *shape) *shape    { return &shape{kind: shapeMap, each: each} }
func extensibleMap(each *shape) *shape {
	return &shape{kind: shapeMap, each: each, extensible: true}
}

// maxInherited bounds lists of requirements, scopes, policies, parameters and the like.
const maxInherited = 64

// atMost bounds a list or map that each operation reads anew: without it, time grows with the square of the document.
func atMost(most int, s *shape) *shape {
	bounded := *s
	bounded.most = most
	return &bounded
}

// closed is an object with these members and no others; those marked "!" are required.
func closed(members fields) *shape {
	s := &shape{kind: shapeObject, fields: make(map[string]*shape, len(members))}
	for name, member := range members {
		name, required := strings.CutSuffix(name, "!")
		if required {
			s.required = append(s.required, name)
		}
		s.fields[name] = member
	}
	return s
}

// specified is an object of OpenAPI or AsyncAPI, which others may extend with x- members.
func specified(members fields) *shape {
	s := closed(members)
	s.extensible = true
	return s
}

// booleanOr is the shape, or true or false.
func booleanOr(s *shape) *shape {
	b := *s
	b.orBoolean = true
	return &b
}

// orReference is the shape or a reference to one.
func orReference(s *shape) *shape {
	r := *s
	r.reference = true
	return &r
}

// conforms checks n and all below it, reports what is wrong, and says whether n itself is of the right type.
func (c *compiler) conforms(n *node, s *shape) bool {
	if s.reference && n.get("$ref").isText() || s.orBoolean && n.kind == scalar && n.tag == "!!bool" {
		return true
	}
	if s.most > 0 && len(n.children) > s.most {
		c.excess(n, "remove some", "%s has %d entries, more than %d", n.title(), len(n.children), s.most)
		return false
	}
	right := true
	switch s.kind {
	case shapeAny:
	case shapeText:
		right = n.isText()
	case shapeWord:
		right = c.conformsWord(n, s)
	case shapeBoolean:
		right = n.kind == scalar && n.tag == "!!bool"
	case shapeInteger:
		_, right = n.integer()
	case shapeSchema:
		right = n.kind == mapping || (n.kind == scalar && n.tag == "!!bool")
	case shapeList:
		if right = n.kind == sequence; right {
			for _, item := range n.children {
				c.conforms(item, s.each)
			}
		}
	case shapeMap:
		if right = n.kind == mapping; right {
			c.conformsMap(n, s)
		}
	case shapeObject:
		if right = n.kind == mapping; right {
			c.conformsObject(n, s)
		}
	}
	if !right && s.kind != shapeWord {
		name := shapeNames[s.kind]
		if s.orBoolean {
			name = shapeNames[shapeBoolean] + ", or " + name
		}
		c.fail(n, "write it as "+name, "%s must be %s", n.title(), name)
	}
	return right
}

func (c *compiler) conformsWord(n *node, s *shape) bool {
	for _, w := range s.words {
		if n.isText() && n.text == w {
			return true
		}
	}
	quoted := make([]string, len(s.words))
	for i, w := range s.words {
		quoted[i] = `"` + w + `"`
	}
	remedy := c.didYouMean(n.string(), s.words)
	if strings.HasPrefix(remedy, knownAre) {
		remedy = "write " + strings.Join(quoted, " or ")
	}
	c.fail(n, remedy, "%s must be %s, not %q", n.title(), strings.Join(quoted, " or "), excerpt(n.string()))
	return false
}

func (c *compiler) conformsMap(n *node, s *shape) {
	for _, child := range n.children {
		if s.extensible && strings.HasPrefix(child.name, "x-") {
			c.conformsExtension(child, s)
			continue
		}
		c.conforms(child, s.each)
	}
}

func (c *compiler) conformsObject(n *node, s *shape) {
	for _, child := range n.children {
		if member, known := s.fields[child.name]; known {
			c.conforms(child, member)
			continue
		}
		if s.extensible && strings.HasPrefix(child.name, "x-") {
			c.conformsExtension(child, s)
			continue
		}
		c.fail(child, c.didYouMean(child.name, s.names()), "unknown word %q", excerpt(child.name))
	}
	for _, name := range s.required {
		if n.get(name) == nil {
			c.fail(n, "add it", "%s lacks %q", n.title(), name)
		}
	}
}

// conformsExtension refuses words of Fieldgate that stand where they have no meaning.
func (c *compiler) conformsExtension(n *node, s *shape) {
	if !strings.HasPrefix(n.name, "x-fieldgate") {
		return
	}
	var known []string
	for name := range s.fields {
		if strings.HasPrefix(name, "x-fieldgate") {
			known = append(known, name)
		}
	}
	c.fail(n, c.didYouMean(n.name, known), "%q is not a word of Fieldgate, or has no meaning here", excerpt(n.name))
}

func (s *shape) names() []string {
	names := make([]string, 0, len(s.fields))
	for name := range s.fields {
		names = append(names, name)
	}
	return names
}

// title names the node in messages.
func (n *node) title() string {
	if n.parent == nil {
		return "the document"
	}
	if n.parent.kind == sequence {
		return "an item of " + n.parent.title()
	}
	return excerpt(n.name)
}
