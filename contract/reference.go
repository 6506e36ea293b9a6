package contract

import (
	"net/url"
	"strings"
)

// checkReferences reports every $ref that leads out of the document, to nothing, or round in a circle, and says whether there
// is none. It runs before anything is resolved, so that what follows can rely on resolve.
func (c *compiler) checkReferences() bool {
	sound := true
	c.checkReferencesIn(c.root, false, &sound)
	return sound
}

// checkReferencesIn checks n and all below it; names says that n's members are named by the author.
func (c *compiler) checkReferencesIn(n *node, names bool, sound *bool) {
	for _, child := range n.all() {
		if n.kind == mapping && !names {
			if child.name == "$ref" && child.isText() {
				*sound = c.checkReference(child) && *sound
				continue
			}
			if holdsData[child.name] || strings.HasPrefix(child.name, "x-") {
				continue
			}
			if child.name == "examples" && child.kind == sequence {
				continue
			}
		}
		c.checkReferencesIn(child, n.kind == mapping && !names && holdsNames[child.name], sound)
	}
}

// holdsData are the words whose values are payloads, in which $ref means nothing.
var holdsData = map[string]bool{"example": true, "default": true, "const": true, "enum": true, "value": true}

// holdsNames are the words whose members are named by the author, so that none of them is a keyword.
var holdsNames = map[string]bool{
	"properties": true, "patternProperties": true, "$defs": true, "definitions": true, "dependentSchemas": true, "dependencies": true,
	"schemas": true, "responses": true, "parameters": true, "examples": true, "requestBodies": true, "headers": true,
	"securitySchemes": true, "links": true, "callbacks": true, "pathItems": true, "paths": true, "webhooks": true,
	"channels": true, "operations": true, "messages": true, "servers": true, "variables": true, "content": true,
	"messageTraits": true, "operationTraits": true, "tags": true,
}

func (c *compiler) checkReference(reference *node) bool {
	target := reference
	for range maxReferences {
		next := c.target(target)
		if next == nil {
			c.failReference(reference)
			return false
		}
		if next == reference.parent {
			break
		}
		if target = next.get("$ref"); !target.isText() {
			return true
		}
	}
	c.fail(reference, "let one of them say what it is", "the reference %q leads back to itself", excerpt(reference.text))
	return false
}

// maxReferences is how many references may follow one another before they count as a circle.
const maxReferences = 32

func (c *compiler) failReference(reference *node) {
	if !strings.HasPrefix(reference.text, "#") {
		c.fail(reference, "copy what it refers to into components; other files and addresses are never read", "the reference %q leads out of the document", excerpt(reference.text))
		return
	}
	remedy := "name it in components"
	if i := strings.LastIndexByte(reference.text, '/'); i > 0 {
		if container := c.root.descend(strings.TrimPrefix(reference.text[:i], "#")); container != nil {
			remedy = c.didYouMean(pointerUnescape.Replace(reference.text[i+1:]), container.names())
		}
	}
	c.fail(reference, remedy, "the reference %q leads to nothing", excerpt(reference.text))
}

// target is what a $ref names in this document, or nil.
func (c *compiler) target(reference *node) *node {
	fragment, ok := strings.CutPrefix(reference.text, "#")
	if !ok || (fragment != "" && fragment[0] != '/') {
		return nil
	}
	if strings.Contains(fragment, "%") {
		decoded, err := url.PathUnescape(fragment) // RFC 6901 section 6
		if err != nil {
			return nil
		}
		fragment = decoded
	}
	return c.root.descend(fragment)
}

// resolve follows references from n to what they mean; nil stays nil.
func (c *compiler) resolve(n *node) *node {
	for range maxReferences {
		reference := n.get("$ref")
		if !reference.isText() {
			return n
		}
		n = c.target(reference)
	}
	return n
}
