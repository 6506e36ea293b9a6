package schema

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A wrong schema is refused with its place and what to do.
func TestCompileErrors(t *testing.T) {
	tests := []struct{ bundle, ref, pointer, remedy string }{
		{`{`, "#", "#", "not valid JSON"},
		{`{"type":1,"type":2}`, "#", "#", "occurs twice"},
		{`{}`, "#/$defs/Nope", "#", "check the name"},
		{`{}`, "#Nope", "#", "write a pointer"},
		{`{"$defs":{"T":7}}`, "#/$defs/T", "#/$defs/T", "object, true or false"},
		{`{"properties":{"a":{"type":"int"}}}`, "#", "#/properties/a/type", "use null, boolean, integer"},
		{`{"type":[]}`, "#", "#/type", "a list of types"},
		{`{"minimum":"1"}`, "#", "#/minimum", "must be a number"},
		{`{"exclusiveMinimum":true}`, "#", "#/exclusiveMinimum", "OpenAPI 3.0"},
		{`{"multipleOf":0}`, "#", "#/multipleOf", "above 0"},
		{`{"maxLength":-1}`, "#", "#/maxLength", "whole number"},
		{`{"maxLength":1.5}`, "#", "#/maxLength", "whole number"},
		{`{"pattern":"(?=x)"}`, "#", "#/pattern", "linear time"},
		{`{"patternProperties":{"[":true}}`, "#", "#/patternProperties/[", "missing closing"},
		{`{"items":[true]}`, "#", "#/items", "prefixItems"},
		{`{"allOf":[]}`, "#", "#/allOf", "at least one"},
		{`{"enum":[]}`, "#", "#/enum", "at least one"},
		{`{"properties":{"a":{"required":true}}}`, "#", "#/properties/a/required", "list of property names"},
		{`{"properties":[]}`, "#", "#/properties", "must be an object"},
		{`{"dependentRequired":{"a":"b"}}`, "#", "#/dependentRequired/a", "list of property names"},
		{`{"uniqueItems":1}`, "#", "#/uniqueItems", "true or false"},
		{`{"$ref":"#/$defs/x~1y"}`, "#", "#/$ref", "bundled"},
		{`{"$ref":"other.json"}`, "#", "#/$ref", "nothing is ever fetched"},
		{`{"$ref":"http://127.0.0.1/x"}`, "#", "#/$ref", "nothing is ever fetched"},
		{`{"$ref":"#"}`, "#", "#", "remove one $ref"},
		{`{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"anyOf":[{"$ref":"#"}]}}}`, "#", "#", "remove one $ref"},
		{`{"properties":{"a":{"x-cbor-key":"1"}}}`, "#", "#/properties/a/x-cbor-key", "whole number"},
		{`{"properties":{"a":{"x-cbor-key":1},"b":{"x-cbor-key":1}}}`, "#", "#/properties/b/x-cbor-key", "has the key 1"},
		{`{"$defs":{"a":{"$id":"urn:x"},"b":{"$id":"urn:x"}}}`, "#", "#/$defs/b/$id", "its own"},
		{`{"$defs":{"a":{"$anchor":"x"},"b":{"$anchor":"x"}}}`, "#", "#/$defs/b/$anchor", "its own"},
	}
	for _, test := range tests {
		_, err := Compile([]byte(test.bundle), test.ref, Options{})
		var wrong *CompileError
		if !errors.As(err, &wrong) {
			t.Errorf("%s: %v", test.bundle, err)
		} else if !strings.HasPrefix(wrong.Pointer, test.pointer) || !strings.Contains(wrong.Message, test.remedy) {
			t.Errorf("%s: %v", test.bundle, err)
		}
	}
}

// A schema may contain itself, as long as each turn goes down into the value.
func TestRecursiveSchema(t *testing.T) {
	s := compile(t, `{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","required":["v"],"properties":{"kids":{"items":{"$ref":"#/$defs/tree"}}},
		"anyOf":[{"properties":{"next":{"$ref":"#"}}},false]}}}`)
	if err := s.ValidateJSON([]byte(`{"v":1,"kids":[{"v":2,"kids":[]}],"next":{"v":3}}`)); err != nil {
		t.Error(err)
	}
	if v := violationOf(t, s.ValidateJSON([]byte(`{"v":1,"kids":[{"v":2,"kids":[{}]}]}`))); v.Instance != "/kids/0/kids/0" {
		t.Errorf("got %v", v)
	}
}

// An error in one schema of a bundle does not spoil the others.
func TestCompilerGoesOnAfterAnError(t *testing.T) {
	c, err := NewCompiler([]byte(`{"$defs":{"bad":{"properties":{"a":{"$ref":"#/$defs/loop"}}},"loop":{"$ref":"#/$defs/loop"},"wrong":{"type":"x"},"good":{"type":"null"}}}`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, name := range []string{"bad", "loop", "wrong"} {
			if _, err := c.Compile("#/$defs/" + name); err == nil {
				t.Errorf("%s: compiled", name)
			}
		}
		if s, err := c.Compile("#/$defs/good"); err != nil || s.ValidateJSON([]byte(`null`)) != nil {
			t.Errorf("good: %v", err)
		}
	}
}

// References by URI and by anchor inside the bundle (core §8.2).
func TestReferences(t *testing.T) {
	bundle := `{"$id":"https://example.org/root.json","$defs":{
		"a":{"$id":"sub/a.json","$anchor":"here","type":"integer","$defs":{"b":{"type":"string"}}},
		"byURI":{"$ref":"sub/a.json"},"byAnchor":{"$ref":"sub/a.json#here"},"byPointer":{"$ref":"sub/a.json#/$defs/b"},"absolute":{"$ref":"https://example.org/sub/a.json"},
		"own":{"$ref":"#name"},"named":{"$anchor":"name","type":"integer"},"escaped":{"$ref":"#/$defs/x~1y%25"},"x/y%":{"type":"integer"},
		"dynamic":{"$dynamicRef":"#only"},"d":{"$dynamicAnchor":"only","type":"integer"}}}`
	for name, valid := range map[string]string{"byURI": `1`, "byAnchor": `1`, "byPointer": `"x"`, "absolute": `1`, "own": `1`, "escaped": `1`, "dynamic": `1`} {
		s, err := Compile([]byte(bundle), "#/$defs/"+name, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !s.Compiled() || s.ValidateJSON([]byte(valid)) != nil || s.ValidateJSON([]byte(`null`)) == nil {
			t.Errorf("%s does not do what it refers to", name)
		}
	}
}

// operations is a bundle of n schemas of the usual size that share one.
func operations(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"$defs":{"Pos":{"type":"object","properties":{"lat":{"type":"number"},"lon":{"type":"number"}}}`)
	for i := range n {
		fmt.Fprintf(&b, `,"operation%d.request":{"type":"object","additionalProperties":false,"required":["ts","seq"],"properties":{
			"ts":{"type":"string","format":"date-time","maxLength":35},"seq":{"type":"integer","minimum":0,"maximum":4294967295},
			"id":{"type":"string","pattern":"^[0-9a-f]{16}$"},"status":{"enum":["ok","failed"]},"pos":{"$ref":"#/$defs/Pos"},
			"readings":{"type":"array","maxItems":32,"items":{"type":"number","minimum":-60,"maximum":125}}}}`, i)
	}
	b.WriteString(`}}`)
	return []byte(b.String())
}

func BenchmarkCompile1000Operations(b *testing.B) {
	bundle := operations(1000)
	b.ReportAllocs()
	for b.Loop() {
		c, err := NewCompiler(bundle, Options{})
		if err != nil {
			b.Fatal(err)
		}
		for i := range 1000 {
			if _, err := c.Compile(fmt.Sprintf("#/$defs/operation%d.request", i)); err != nil {
				b.Fatal(err)
			}
		}
	}
}
