package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const bundleURL = "fieldgate:///bundle.json"

// compileFallback compiles the schema at path with the general library.
func (c *Compiler) compileFallback(path string) (*jsonschema.Schema, error) {
	if c.decoded == nil {
		c.decoded = c.doc.decode(0)
	}
	k := jsonschema.NewCompiler()
	k.DefaultDraft(jsonschema.Draft2020)
	k.UseLoader(noLoader{})
	k.UseRegexpEngine(func(source string) (jsonschema.Regexp, error) { return compileRegexp(source) })
	if !c.options.IgnoreFormats {
		k.AssertFormat()
		for name, valid := range formats {
			k.RegisterFormat(&jsonschema.Format{Name: name, Validate: func(v any) error {
				if s, ok := v.(string); ok && !valid([]byte(s)) {
					return errors.New("invalid " + name)
				}
				return nil
			}})
		}
	}
	if err := k.AddResource(bundleURL, c.decoded); err != nil {
		return nil, &CompileError{"#", err.Error()}
	}
	for _, r := range c.resources[1:] { // so that $schema may name one of them
		if r.uri.IsAbs() {
			if err := k.AddResource(r.uri.String(), c.doc.decode(r.index)); err != nil {
				return nil, &CompileError{"#" + r.path, err.Error()}
			}
		}
	}
	s, err := k.Compile(bundleURL + "#" + (&url.URL{Fragment: path}).EscapedFragment())
	if err != nil {
		return nil, &CompileError{"#" + path, "the schema is not valid: " + strings.ReplaceAll(err.Error(), bundleURL, "")}
	}
	return s, nil
}

// noLoader refuses: nothing is ever read from files or the network.
type noLoader struct{}

func (noLoader) Load(uri string) (any, error) {
	return nil, fmt.Errorf("%s is not in the bundle; put it under $defs with its $id", uri)
}

// regexpOf lets the library match patterns as the compiled form does.
type regexpOf struct{ *pattern }

func (r regexpOf) MatchString(s string) bool { return r.match([]byte(s)) }
func (r regexpOf) String() string            { return r.source }

func compileRegexp(source string) (jsonschema.Regexp, error) {
	p, err := compilePattern(source)
	if err != nil {
		return nil, err
	}
	return regexpOf{p}, nil
}

// decode builds the value at i in the form that encoding/json gives it.
func (d *document) decode(i uint32) any {
	v := &d.values[i]
	switch v.kind {
	case kindNull:
		return nil
	case kindBool:
		return v.val != 0
	case kindNumber:
		n := d.number(v)
		return json.Number(n.append(nil))
	case kindArray:
		list := make([]any, 0, v.val)
		for item := i + 1; item < v.next; item = d.values[item].next {
			list = append(list, d.decode(item))
		}
		return list
	case kindObject:
		object := make(map[string]any, v.val)
		for k := i + 1; k < v.next; k = d.values[k+1].next {
			object[string(d.text(&d.values[k]))] = d.decode(k + 1)
		}
		return object
	case kindBytes:
		return rawURL.EncodeToString(d.text(v)) // RFC 8949 §6.1
	}
	return string(d.text(v))
}

func (s *Schema) validateFallback(d *document) error {
	err := s.fallback.Validate(d.decode(0))
	if err == nil {
		return nil
	}
	violation := &Violation{Kind: Mismatch, Message: "does not satisfy the schema", Offset: -1}
	var detail *jsonschema.ValidationError
	if !errors.As(err, &detail) {
		return violation
	}
	for len(detail.Causes) > 0 {
		detail = detail.Causes[0]
	}
	for _, token := range detail.InstanceLocation {
		if len(token) > 64 {
			token = strings.ToValidUTF8(token[:64], "") + "…"
		}
		violation.Instance = appendToken(violation.Instance, token)
	}
	path := strings.TrimPrefix(detail.SchemaURL, bundleURL+"#")
	if decoded, err := url.PathUnescape(path); err == nil {
		path = decoded
	}
	keyword := strings.Join(detail.ErrorKind.KeywordPath(), "/")
	violation.Clause = s.clause(&rule{path: path}, keyword)
	violation.Message = "does not satisfy " + keyword
	return violation
}
