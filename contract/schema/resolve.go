package schema

import (
	"net/url"
	"strconv"
	"strings"
)

// resource is a part of the bundle with a URI of its own ($id), core §8.2.
type resource struct {
	uri        *url.URL
	index, end uint32
	path       string
	anchors    map[string]target
	dynamic    map[string]target // those declared by $dynamicAnchor, also in anchors
}

// target is where a reference leads.
type target struct {
	index   uint32
	path    string
	dynamic bool
	problem string // set instead: only the fallback, or nobody, can resolve it
}

// Keywords whose value is a schema, a list of schemas, or a map of schemas. Only there
// do $id and $anchor mean something.
var (
	schemaKeywords = map[string]bool{"additionalProperties": true, "items": true, "contains": true, "not": true, "if": true,
		"then": true, "else": true, "propertyNames": true, "unevaluatedItems": true, "unevaluatedProperties": true, "contentSchema": true}
	listKeywords = map[string]bool{"allOf": true, "anyOf": true, "oneOf": true, "prefixItems": true}
	mapKeywords  = map[string]bool{"$defs": true, "definitions": true, "properties": true, "patternProperties": true, "dependentSchemas": true}
)

// indexResources finds $id and the anchors. A bundle without them needs no walk.
func (c *Compiler) indexResources() error {
	root := resource{uri: &url.URL{}, end: uint32(len(c.doc.values))}
	c.resources = []resource{root}
	for i := range c.doc.values {
		if v := &c.doc.values[i]; v.kind == kindString && v.end-v.start >= 3 {
			switch string(c.doc.text(v)) {
			case "$id", "$anchor", "$dynamicAnchor":
				return c.indexSchema(0, "", 0)
			}
		}
	}
	return nil
}

// indexSchema indexes the schema at i, which lies in c.resources[within].
func (c *Compiler) indexSchema(i uint32, path string, within int) error {
	v := &c.doc.values[i]
	if v.kind != kindObject {
		return nil
	}
	if id := c.doc.member(i, []byte("$id")); id != 0 && c.doc.values[id].kind == kindString {
		uri, err := c.resources[within].uri.Parse(string(c.doc.text(&c.doc.values[id])))
		if err != nil || uri.Fragment != "" {
			return errorAt(path, "$id", "must be a URI without a fragment; use $anchor for a name inside a document")
		}
		uri.Fragment = ""
		if i == 0 {
			c.resources[0].uri = uri
		} else {
			for _, other := range c.resources {
				if other.uri.String() == uri.String() {
					return errorAt(path, "$id", "another schema of the bundle has this $id; give each its own")
				}
			}
			within = len(c.resources)
			c.resources = append(c.resources, resource{uri: uri, index: i, end: v.next, path: path})
		}
	}
	for _, keyword := range [...]string{"$anchor", "$dynamicAnchor"} {
		if err := c.indexAnchor(keyword, i, path, &c.resources[within]); err != nil {
			return err
		}
	}
	for k := i + 1; k < v.next; k = c.doc.values[k+1].next {
		keyword := string(c.doc.text(&c.doc.values[k]))
		below := appendToken(path, keyword)
		content := &c.doc.values[k+1]
		switch {
		case schemaKeywords[keyword]:
			if err := c.indexSchema(k+1, below, within); err != nil {
				return err
			}
		case listKeywords[keyword] && content.kind == kindArray:
			n := 0
			for item := k + 2; item < content.next; item = c.doc.values[item].next {
				if err := c.indexSchema(item, below+"/"+strconv.Itoa(n), within); err != nil {
					return err
				}
				n++
			}
		case mapKeywords[keyword] && content.kind == kindObject:
			for name := k + 2; name < content.next; name = c.doc.values[name+1].next {
				token := string(c.doc.text(&c.doc.values[name]))
				if err := c.indexSchema(name+1, appendToken(below, token), within); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (c *Compiler) indexAnchor(keyword string, i uint32, path string, r *resource) error {
	at := c.doc.member(i, []byte(keyword))
	if at == 0 || c.doc.values[at].kind != kindString {
		return nil
	}
	name := string(c.doc.text(&c.doc.values[at]))
	if other, taken := r.anchors[name]; taken && other.index != i {
		return errorAt(path, keyword, "the anchor is declared twice; give each its own name")
	}
	if r.anchors == nil {
		r.anchors, r.dynamic = map[string]target{}, map[string]target{}
	}
	t := target{index: i, path: path, dynamic: keyword == "$dynamicAnchor"}
	if t.dynamic {
		r.dynamic[name] = t
	} else if r.anchors[name].dynamic {
		return nil
	}
	r.anchors[name] = t
	return nil
}

// resolve finds what ref means in the schema at i (core §8.2.4), whose pointer is path.
func (c *Compiler) resolve(ref string, i uint32, path string) (target, error) {
	name, fragment, _ := strings.Cut(ref, "#")
	fragment, err := url.PathUnescape(fragment)
	if err != nil {
		return target{}, &CompileError{path, "the reference " + strconv.Quote(ref) + " is not a URI"}
	}
	within := c.resourceOf(i)
	if name != "" {
		uri, err := within.uri.Parse(name)
		if err != nil {
			return target{}, &CompileError{path, "the reference " + strconv.Quote(ref) + " is not a URI"}
		}
		if within = c.resourceNamed(uri.String()); within == nil {
			if strings.HasPrefix(uri.String(), "https://json-schema.org/") {
				return target{problem: "refers to the meta-schema " + uri.String()}, nil
			}
			return target{}, &CompileError{path, "nothing in the bundle has the URI " + strconv.Quote(uri.String()) + "; nothing is ever fetched: put that document under $defs with its $id"}
		}
	}
	if fragment == "" {
		return target{index: within.index, path: within.path}, nil
	}
	if fragment[0] != '/' {
		if t, ok := within.anchors[fragment]; ok {
			return t, nil
		}
		return target{}, &CompileError{path, "there is no anchor " + strconv.Quote(fragment) + "; write a pointer such as #/$defs/Name"}
	}
	t := target{index: within.index, path: within.path}
	for _, token := range strings.Split(fragment[1:], "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		if t.index = c.child(t.index, token); t.index == 0 {
			return target{}, &CompileError{path, "there is nothing at " + strconv.Quote(ref) + " in the bundle; check the name and that it was bundled"}
		}
		t.path = appendToken(t.path, token)
	}
	return t, nil
}

// resourceOf returns the innermost resource around the value at i.
func (c *Compiler) resourceOf(i uint32) *resource {
	within := 0
	for n := range c.resources { // in document order: a later match lies inside the earlier
		if r := &c.resources[n]; r.index <= i && i < r.end {
			within = n
		}
	}
	return &c.resources[within]
}

func (c *Compiler) resourceNamed(uri string) *resource {
	for n := range c.resources {
		if c.resources[n].uri.String() == uri {
			return &c.resources[n]
		}
	}
	return nil
}

// child returns the index of a member or an item, or 0.
func (c *Compiler) child(i uint32, token string) uint32 {
	const large = 32
	v := &c.doc.values[i]
	switch {
	case v.kind == kindArray:
		n, err := strconv.Atoi(token)
		if err != nil || n < 0 || int64(n) >= v.val || strconv.Itoa(n) != token {
			return 0
		}
		item := i + 1
		for ; n > 0; n-- {
			item = c.doc.values[item].next
		}
		return item
	case v.kind != kindObject:
		return 0
	case v.val < large:
		return c.doc.member(i, []byte(token))
	}
	index := c.members[i]
	if index == nil {
		index = make(map[string]uint32, v.val)
		for k := i + 1; k < v.next; k = c.doc.values[k+1].next {
			index[string(c.doc.text(&c.doc.values[k]))] = k + 1
		}
		c.members[i] = index
	}
	return index[token]
}

// countDynamic says how many schemas of the bundle declare a $dynamicAnchor.
func (c *Compiler) countDynamic(name string) int {
	n := 0
	for _, r := range c.resources {
		if _, ok := r.dynamic[name]; ok {
			n++
		}
	}
	return n
}
