package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"fieldgate"

	"go.yaml.in/yaml/v4"
)

// Bounds of a document besides its size: depth of nesting, and nodes once aliases are followed (an alias bomb of a few
// hundred bytes has billions).
const (
	maxDepth = 100
	maxNodes = 500_000
)

type kind uint8

const (
	mapping kind = iota
	sequence
	scalar
)

// node is a place in the document. YAML's own tree is turned into this one, which knows its way back to the root, and
// dropped.
type node struct {
	kind         kind
	tag          string // of a scalar, such as !!str
	text         string // of a scalar
	line, column int    // for messages: of the member's name, or of the item
	parent       *node
	name         string // member's name or item's number in the parent
	children     []*node
	index        map[string]*node // of a large mapping
}

// position identifies a node of libopenapi's tree in ours.
type position struct {
	line, column int
	kind         kind
}

// tree reads the document into nodes. The second result is nil when the document is broken.
func (c *compiler) tree(document []byte) *node {
	if len(document) > fieldgate.MaxDocumentBytes {
		c.fail(nil, "split the API into several contracts", "the document is %d bytes, more than the %d that are read", len(document), fieldgate.MaxDocumentBytes)
		return nil
	}
	if indicators(document) > 2*maxNodes {
		c.fail(nil, "split the API into several contracts", "the document has more than %d values", maxNodes)
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(document))
	if err != nil {
		c.failSyntax(err)
		return nil
	}
	var root, second yaml.Node
	if err := loader.Load(&root); err == io.EOF || (err == nil && len(root.Content) != 1) {
		c.fail(nil, "write an OpenAPI 3, AsyncAPI 3 or pass-through document", "the document is empty")
		return nil
	} else if err != nil {
		c.failSyntax(err)
		return nil
	}
	if err := loader.Load(&second); err != io.EOF {
		c.fail(&node{line: max(second.Line, 1), column: 1}, "keep each contract in a file of its own", "the file holds more than one document")
		return nil
	}
	b := treeBuilder{compiler: c, positions: make(map[position]*node)}
	n := b.build(root.Content[0], nil, "", root.Content[0], 0)
	c.positions = b.positions
	if b.broken {
		return nil
	}
	return n
}

// indicators counts the characters of which each value or name but the first needs one, so that the reader's memory is bounded
// before it starts: a node takes some hundred times the space of the two bytes that make one.
func indicators(document []byte) int {
	isJSON := json.Valid(document) // then lines mean nothing, and texts are easily told
	count, inText := 0, false
	for i := 0; i < len(document); i++ {
		switch b := document[i]; b {
		case '"':
			inText = isJSON && !inText
		case '\\':
			if inText {
				i++
			}
		case ',', '[', '{', ':':
			if !inText {
				count++
			}
		case '\n', '\r':
			if !isJSON {
				count++
			}
		case '-', '?':
			if !isJSON && i+1 < len(document) && (document[i+1] == ' ' || document[i+1] == '\t') {
				count++
			}
		}
	}
	return count
}

func (c *compiler) failSyntax(err error) {
	at := &node{line: 1, column: 1}
	message := err.Error()
	var load *yaml.LoadError
	if errors.As(err, &load) && load.Mark.Line > 0 {
		at.line, at.column, message = load.Mark.Line, max(load.Mark.Column, 1), load.Message
	}
	c.fail(at, "correct the syntax at or just before this place; indent with spaces", "the document is not valid YAML or JSON: %s", excerpt(strings.TrimSpace(message)))
}

type treeBuilder struct {
	*compiler
	nodes     int
	broken    bool
	positions map[position]*node
}

// build turns y into a node; at is what messages point to.
func (b *treeBuilder) build(y *yaml.Node, parent *node, name string, at *yaml.Node, depth int) *node {
	n := &node{parent: parent, name: name, line: at.Line, column: at.Column}
	b.nodes++
	if b.broken {
		return n
	}
	if b.nodes > maxNodes {
		b.stop(n, "use fewer aliases, or split the API into several contracts", "the document has more than %d values, aliases counted as often as they are used", maxNodes)
		return n
	}
	if depth > maxDepth {
		b.stop(n, "name nested schemas in components and refer to them", "values are nested more than %d deep, or an alias holds itself", maxDepth)
		return n
	}
	for y.Kind == yaml.AliasNode && y.Alias != nil {
		y = y.Alias
	}
	switch y.Kind {
	case yaml.MappingNode:
		n.kind = mapping
		b.members(n, y, depth)
	case yaml.SequenceNode:
		n.kind = sequence
		n.children = make([]*node, 0, len(y.Content))
		for i, item := range y.Content {
			n.children = append(n.children, b.build(item, n, strconv.Itoa(i), item, depth+1))
		}
	case yaml.ScalarNode:
		n.kind, n.tag, n.text = scalar, y.ShortTag(), y.Value
		switch n.tag {
		case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp":
		default:
			b.stop(n, "remove the tag", "the YAML tag %s has no meaning here", excerpt(n.tag))
		}
	default:
		b.stop(n, "remove it", "a YAML construct that JSON does not have")
	}
	where := position{y.Line, y.Column, n.kind}
	if _, taken := b.positions[where]; !taken {
		b.positions[where] = n
	}
	return n
}

func (b *treeBuilder) members(n *node, y *yaml.Node, depth int) {
	n.children = make([]*node, 0, len(y.Content)/2)
	seen := make(map[string]*node, len(y.Content)/2)
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := y.Content[i]
		if key.Kind == yaml.AliasNode && key.Alias != nil {
			key = key.Alias
		}
		child := b.build(y.Content[i+1], n, key.Value, y.Content[i], depth+1)
		switch {
		case b.broken:
			return
		case key.Kind != yaml.ScalarNode:
			b.stop(child, "use a plain name", "the name of a member must be a plain text")
			return
		case key.ShortTag() == "!!merge":
			b.stop(child, "repeat the members, or name the shared part in components and use $ref", "YAML merge keys (<<) are not read")
			return
		}
		if earlier := seen[child.name]; earlier != nil {
			b.fail(child, "remove one of the two", "%q is given twice; the first is in line %d", excerpt(child.name), earlier.line)
			continue
		}
		seen[child.name] = child
		n.children = append(n.children, child)
	}
	if len(n.children) > 16 {
		n.index = seen
	}
}

func (b *treeBuilder) stop(at *node, remedy, format string, arguments ...any) {
	if !b.broken {
		b.fail(at, remedy, format, arguments...)
	}
	b.broken = true
}

// get is the member of that name, or nil. It may be called on nil.
func (n *node) get(name string) *node {
	if n == nil || n.kind != mapping {
		return nil
	}
	if n.index != nil {
		return n.index[name]
	}
	for _, child := range n.children {
		if child.name == name {
			return child
		}
	}
	return nil
}

// find follows several names.
func (n *node) find(names ...string) *node {
	for _, name := range names {
		n = n.get(name)
	}
	return n
}

// all is the members or items; nil has none.
func (n *node) all() []*node {
	if n == nil {
		return nil
	}
	return n.children
}

// string is a scalar's text; nil, null and containers have none.
func (n *node) string() string {
	if n == nil || n.kind != scalar || n.tag == "!!null" {
		return ""
	}
	return n.text
}

func (n *node) isText() bool { return n != nil && n.kind == scalar && n.tag != "!!null" }

// isTrue says whether n is the word true.
func (n *node) isTrue() bool {
	return n != nil && n.kind == scalar && n.tag == "!!bool" && strings.EqualFold(n.text, "true")
}

// strings is the texts of a sequence.
func (n *node) strings() []string {
	var texts []string
	for _, item := range n.all() {
		texts = append(texts, item.string())
	}
	return texts
}

// integer is a whole number; ok is false for everything else.
func (n *node) integer() (value int, ok bool) {
	if n == nil || n.kind != scalar || n.tag != "!!int" {
		return 0, false
	}
	v, err := strconv.ParseInt(n.text, 0, 64)
	return int(v), err == nil
}

func (n *node) number() (value float64, ok bool) {
	if n == nil || n.kind != scalar || (n.tag != "!!int" && n.tag != "!!float") {
		return 0, false
	}
	if v, err := strconv.ParseInt(n.text, 0, 64); err == nil {
		return float64(v), true
	}
	v, err := strconv.ParseFloat(n.text, 64)
	return v, err == nil
}

func (n *node) names() []string {
	var names []string
	for _, child := range n.all() {
		names = append(names, child.name)
	}
	return names
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")
var pointerUnescape = strings.NewReplacer("~1", "/", "~0", "~")

// pointer is the node's JSON Pointer (RFC 6901).
func (n *node) pointer() string {
	var tokens []string
	for ; n != nil && n.parent != nil; n = n.parent {
		tokens = append(tokens, n.name)
	}
	var b strings.Builder
	for i := len(tokens) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(pointerEscape.Replace(tokens[i]))
	}
	return b.String()
}

// descend follows a JSON Pointer from n; nil when there is nothing.
func (n *node) descend(pointer string) *node {
	if pointer == "" {
		return n
	}
	for _, token := range strings.Split(pointer, "/")[1:] {
		token = pointerUnescape.Replace(token)
		if n == nil {
			return nil
		}
		if n.kind == sequence {
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(n.children) {
				return nil
			}
			n = n.children[i]
			continue
		}
		n = n.get(token)
	}
	return n
}

var errNotJSON = errors.New("infinity and not-a-number do not exist in JSON")

// appendJSON appends n as JSON.
func (n *node) appendJSON(dst []byte) ([]byte, error) {
	var err error
	switch n.kind {
	case mapping:
		dst = append(dst, '{')
		for i, child := range n.children {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(fieldgate.AppendJSONString(dst, child.name), ':')
			if dst, err = child.appendJSON(dst); err != nil {
				return nil, err
			}
		}
		return append(dst, '}'), nil
	case sequence:
		dst = append(dst, '[')
		for i, child := range n.children {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = child.appendJSON(dst); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	}
	return n.appendScalar(dst)
}

func (n *node) appendScalar(dst []byte) ([]byte, error) {
	switch n.tag {
	case "!!null":
		return append(dst, "null"...), nil
	case "!!bool":
		return append(dst, strings.ToLower(n.text)...), nil
	case "!!int", "!!float":
		if json.Valid([]byte(n.text)) {
			return append(dst, n.text...), nil
		}
		if v, err := strconv.ParseInt(n.text, 0, 64); err == nil {
			return strconv.AppendInt(dst, v, 10), nil
		}
		v, err := strconv.ParseFloat(strings.ReplaceAll(n.text, "_", ""), 64)
		if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
			return nil, fmt.Errorf("%q: %w", excerpt(n.text), errNotJSON)
		}
		return strconv.AppendFloat(dst, v, 'g', -1, 64), nil
	}
	return fieldgate.AppendJSONString(dst, n.text), nil
}

// toJSON is n as JSON; what JSON cannot say is reported and becomes null.
func (c *compiler) toJSON(n *node) json.RawMessage {
	if c.exceeded {
		return json.RawMessage("null")
	}
	encoded, err := n.appendJSON(nil)
	if err != nil {
		c.fail(n, "write a finite number", "the value cannot be said in JSON: %v", err)
		return json.RawMessage("null")
	}
	c.write(n, len(encoded))
	return encoded
}
