package schema

import (
	"fmt"
	"strconv"
	"strings"
)

// Options are the limits a schema enforces on documents. The zero value is right for
// production.
type Options struct {
	// IgnoreFormats makes format an annotation, as the JSON Schema specification has
	// it by default. Fieldgate asserts formats unless told otherwise.
	IgnoreFormats bool
	// MaxDepth bounds the nesting of arrays and objects. 0: 64. At most 1000.
	MaxDepth int
	// MaxBytes bounds the size of a document. 0: 8 MiB. At most 1 GiB.
	MaxBytes int
	// MaxValues bounds the number of values and keys in a document, each of which
	// costs 24 bytes while it is checked. 0: 262,144.
	MaxValues int
}

func (o Options) limits() limits {
	pick := func(set, standard, most int) int {
		if set <= 0 {
			return standard
		}
		return min(set, most)
	}
	return limits{
		bytes:  pick(o.MaxBytes, 8<<20, 1<<30),
		depth:  pick(o.MaxDepth, 64, 1000),
		values: pick(o.MaxValues, 1<<18, 1<<30),
	}
}

// bundleLimits bound what an operator may publish.
var bundleLimits = limits{bytes: 64 << 20, depth: 500, values: 8 << 20}

// Compiler compiles the schemas of one bundle; what they share is compiled once.
// It is for one goroutine; the schemas it returns are for any number.
type Compiler struct {
	doc       document
	options   Options
	rules     map[uint32]*rule
	members   map[uint32]map[string]uint32 // index of large objects
	resources []resource
	walk      int // number of the last walk over the rules
	decoded   any // the bundle for the fallback, decoded when first needed
}

// NewCompiler reads a bundle: one JSON document that holds every schema needed.
func NewCompiler(bundle []byte, options Options) (*Compiler, error) {
	c := &Compiler{options: options, rules: map[uint32]*rule{}, members: map[uint32]map[string]uint32{}}
	c.doc.limits = bundleLimits
	if !c.doc.readJSON(bundle) {
		return nil, &CompileError{"#", "the bundle is not valid JSON: " + c.doc.violation.Error()}
	}
	if err := c.indexResources(); err != nil {
		return nil, err
	}
	return c, nil
}

// Compile compiles one schema of a bundle. For more than one, use a Compiler.
func Compile(bundle []byte, ref string, options Options) (*Schema, error) {
	c, err := NewCompiler(bundle, options)
	if err != nil {
		return nil, err
	}
	return c.Compile(ref)
}

// Compile compiles the schema that ref names: a URI fragment with a JSON Pointer
// ("#/$defs/Telemetry", RFC 6901 §6) or an anchor, or "#" for the whole bundle.
func (c *Compiler) Compile(ref string) (*Schema, error) {
	t, err := c.resolve(ref, 0, "#")
	if err != nil {
		return nil, err
	}
	if t.problem != "" {
		return nil, &CompileError{"#", t.problem}
	}
	root, err := c.rule(t.index, t.path)
	if err != nil {
		return nil, err
	}
	s := &Schema{root: root, limits: c.options.limits()}
	if s.reason, err = c.survey(root); err != nil {
		return nil, err
	}
	if s.reason != "" {
		if s.fallback, err = c.compileFallback(t.path); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// survey walks all rules below root. It fails when a schema applies itself to the same
// value without end, and returns the first reason to use the fallback.
func (c *Compiler) survey(root *rule) (problem string, err error) {
	c.walk++
	for todo := []*rule{root}; len(todo) > 0 && err == nil; {
		r := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		err = c.surveyInPlace(r, &problem, &todo)
	}
	return problem, err
}

// surveyInPlace walks the schemas for one value. What applies to its parts goes to
// todo: through a part, a loop of references is ordinary recursion.
func (c *Compiler) surveyInPlace(r *rule, problem *string, todo *[]*rule) error {
	if r.mark == c.walk {
		if r.open {
			return &CompileError{"#" + r.path, "applies itself to the same value through $ref, which never ends; remove one $ref of the loop"}
		}
		return nil
	}
	if *problem == "" && r.problem != "" {
		*problem = "#" + r.path + ": " + r.problem
	}
	var err error
	r.mark, r.open = c.walk, true
	r.inPlace(func(one *rule) bool {
		err = c.surveyInPlace(one, problem, todo)
		return err == nil
	})
	r.open = false
	r.below(func(one *rule) { *todo = append(*todo, one) })
	return err
}

// errorAt reports a keyword that cannot be compiled.
func errorAt(path, keyword, format string, arguments ...any) error {
	return &CompileError{"#" + appendToken(path, keyword), fmt.Sprintf(format, arguments...)}
}

// rule compiles the schema at index i, whose JSON Pointer is path.
func (c *Compiler) rule(i uint32, path string) (*rule, error) {
	if r := c.rules[i]; r != nil {
		return r, nil
	}
	r := &rule{path: path}
	c.rules[i] = r // before its parts, which may refer back to it
	v := &c.doc.values[i]
	var err error
	switch v.kind {
	case kindBool:
		r.never = v.val == 0
	case kindObject:
		err = c.object(r, i)
	default:
		err = &CompileError{"#" + path, "a schema must be an object, true or false"}
	}
	if err != nil {
		delete(c.rules, i)
		return nil, err
	}
	return r, nil
}

// object compiles the keywords of the schema object at i.
func (c *Compiler) object(r *rule, i uint32) error {
	b := builder{Compiler: c, rule: r, named: map[string]int(nil)}
	end := c.doc.values[i].next
	for k := i + 1; k < end; k = c.doc.values[k+1].next {
		keyword := string(c.doc.text(&c.doc.values[k]))
		compile, known := keywords[keyword]
		if !known {
			continue // JSON Schema core §4.3.1: unknown keywords are annotations
		}
		if err := compile(&b, keyword, k+1); err != nil {
			return err
		}
	}
	return b.finish(i)
}

// texts reads a list of distinct strings.
func (c *Compiler) texts(path, keyword string, i uint32) ([]string, error) {
	v := &c.doc.values[i]
	if v.kind != kindArray {
		return nil, errorAt(path, keyword, "must be a list of strings")
	}
	var list []string
	for item := i + 1; item < v.next; item = c.doc.values[item].next {
		if c.doc.values[item].kind != kindString {
			return nil, errorAt(path, keyword, "must be a list of strings")
		}
		list = append(list, string(c.doc.text(&c.doc.values[item])))
	}
	return list, nil
}

// count reads a non-negative integer such as maxLength.
func (c *Compiler) count(path, keyword string, i uint32) (int, error) {
	v := &c.doc.values[i]
	if v.kind == kindNumber {
		if n, ok := c.doc.number(v).int64(); ok && n >= 0 {
			return int(min(n, 1<<31)), nil
		}
	}
	return 0, errorAt(path, keyword, "must be a whole number from 0 to 2147483648")
}

// schemas compiles the list of schemas at i.
func (c *Compiler) schemas(path, keyword string, i uint32) ([]*rule, error) {
	v := &c.doc.values[i]
	if v.kind != kindArray || v.val == 0 {
		return nil, errorAt(path, keyword, "must be a list of at least one schema")
	}
	base := appendToken(path, keyword)
	list := make([]*rule, 0, v.val)
	for item := i + 1; item < v.next; item = c.doc.values[item].next {
		r, err := c.rule(item, base+"/"+strconv.Itoa(len(list)))
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// eachMember calls f for the members of the object at i.
func (c *Compiler) eachMember(path, keyword string, i uint32, f func(name, path string, i uint32) error) error {
	v := &c.doc.values[i]
	if v.kind != kindObject {
		return errorAt(path, keyword, "must be an object")
	}
	base := appendToken(path, keyword)
	for k := i + 1; k < v.next; k = c.doc.values[k+1].next {
		name := strings.Clone(string(c.doc.text(&c.doc.values[k])))
		if err := f(name, appendToken(base, name), k+1); err != nil {
			return err
		}
	}
	return nil
}
