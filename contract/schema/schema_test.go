package schema

import (
	"errors"
	"strings"
	"sync"
	"testing"
)

func compile(tb testing.TB, schema string) *Schema {
	tb.Helper()
	s, err := Compile([]byte(schema), "#", Options{})
	if err != nil {
		tb.Fatalf("%s: %v", schema, err)
	}
	return s
}

func violationOf(tb testing.TB, err error) *Violation {
	tb.Helper()
	var v *Violation
	if !errors.As(err, &v) {
		tb.Fatalf("want a violation, got %v", err)
	}
	return v
}

// What callers learn: where in the document, which keyword, and why. Keywords as in
// JSON Schema 2020-12 validation §6 and core §10.
func TestViolations(t *testing.T) {
	tests := []struct{ schema, doc, instance, clause, message string }{
		{`{"type":"string"}`, `1`, "", "/type", "a number is not of type string"},
		{`{"type":["integer","null"]}`, `1.5`, "", "/type", "a number is not of type null or integer"},
		{`{"properties":{"temp":{"maximum":125}}}`, `{"temp":21000}`, "/temp", "/properties/temp/maximum", "21000 is greater than the maximum 125"},
		{`{"minimum":-60.5}`, `-61`, "", "/minimum", "-61 is less than the minimum -60.5"},
		{`{"exclusiveMinimum":0}`, `0.0`, "", "/exclusiveMinimum", "0 is not greater than 0"},
		{`{"exclusiveMaximum":0.001}`, `0.001`, "", "/exclusiveMaximum", "0.001 is not less than 0.001"},
		{`{"multipleOf":0.1}`, `0.25`, "", "/multipleOf", "0.25 is not a multiple of 0.1"},
		{`{"minLength":3}`, `"日本"`, "", "/minLength", "a string of 2 characters is shorter than 3"},
		{`{"maxLength":1}`, `"日本"`, "", "/maxLength", "a string of 2 characters is longer than 1"},
		{`{"pattern":"^[0-9a-f]{16}$"}`, `"secret-token"`, "", "/pattern", "the string does not match the pattern ^[0-9a-f]{16}$"},
		{`{"format":"date-time"}`, `"2026-02-30T00:00:00Z"`, "", "/format", "the string is not a valid date-time"},
		{`{"format":"int32"}`, `2147483648`, "", "/format", "2147483648 is not an integer of 32 bits"},
		{`{"minItems":2}`, `[1]`, "", "/minItems", "an array of 1 items has fewer than 2"},
		{`{"maxItems":1}`, `[1,2]`, "", "/maxItems", "an array of 2 items has more than 1"},
		{`{"items":{"type":"number"}}`, `[1,2,"x"]`, "/2", "/items/type", "a string is not of type number"},
		{`{"prefixItems":[true,{"const":1}]}`, `[0,2]`, "/1", "/prefixItems/1/const", "the value is not 1"},
		{`{"contains":{"const":1}}`, `[0]`, "", "/contains", "0 items are as contains demands, at least 1 must be"},
		{`{"contains":{"const":1},"minContains":2}`, `[1]`, "", "/minContains", "1 items are as contains demands, at least 2 must be"},
		{`{"contains":{"const":1},"maxContains":1}`, `[1,1]`, "", "/maxContains", "more than 1 items are as contains says"},
		{`{"uniqueItems":true}`, `[{"a":1,"b":[2]},0,{"b":[2.0],"a":1}]`, "/2", "/uniqueItems", "the item equals an earlier one"},
		{`{"minProperties":1}`, `{}`, "", "/minProperties", "an object of 0 members has fewer than 1"},
		{`{"maxProperties":0}`, `{"a":1}`, "", "/maxProperties", "an object of 1 members has more than 0"},
		{`{"additionalProperties":false}`, `{"a/b~c":1}`, "/a~1b~0c", "/additionalProperties", `the property "a/b~c" is not allowed`},
		{`{"required":["a","b"]}`, `{"a":1}`, "", "/required", `the property "b" is missing`},
		{`{"dependentRequired":{"a":["b"]}}`, `{"a":1}`, "", "/dependentRequired", `the property "a" needs "b" beside it`},
		{`{"dependentSchemas":{"a":{"required":["b"]}}}`, `{"a":1}`, "", "/dependentSchemas/a/required", `the property "b" is missing`},
		{`{"patternProperties":{"^x":{"type":"null"}}}`, `{"x":1}`, "/x", "/patternProperties/^x/type", "a number is not of type null"},
		{`{"propertyNames":{"maxLength":1}}`, `{"ab":1}`, "/ab", "/propertyNames/maxLength", "a string of 2 characters is longer than 1"},
		{`{"enum":["ok","failed"]}`, `"secret"`, "", "/enum", `the value is not one of ["ok","failed"]`},
		{`{"allOf":[true,{"type":"null"}]}`, `1`, "", "/allOf/1/type", "a number is not of type null"},
		{`{"anyOf":[{"minimum":1},{"minimum":2}]}`, `0`, "", "/anyOf", "the value matches none of the 2 alternatives"},
		{`{"oneOf":[{"minimum":1},{"minimum":2}]}`, `3`, "", "/oneOf", "the value matches more than one of the 2 alternatives"},
		{`{"anyOf":[{"type":"null"},{"type":"object","required":["a"]}]}`, `{}`, "", "/anyOf/1/required", `the property "a" is missing`},
		{`{"not":{"type":"null"}}`, `null`, "", "/not", "the value matches a schema that it must not match"},
		{`{"if":{"minimum":1},"then":{"maximum":2}}`, `3`, "", "/then/maximum", "3 is greater than the maximum 2"},
		{`{"if":{"minimum":1},"else":false}`, `0`, "", "/else", "no value is allowed here"},
		{`{"unevaluatedProperties":false}`, `{"a":1}`, "/a", "/additionalProperties", `the property "a" is not allowed`},
	}
	for _, test := range tests {
		t.Run(test.schema, func(t *testing.T) {
			v := violationOf(t, compile(t, test.schema).ValidateJSON([]byte(test.doc)))
			if v.Kind != Mismatch || v.Instance != test.instance || v.Clause != test.clause || v.Message != test.message {
				t.Errorf("got %v, %q, %q, %q", v.Kind, v.Instance, v.Clause, v.Message)
			}
		})
	}
}

// A clause outside the compiled schema is named by its place in the bundle.
func TestClauseInBundle(t *testing.T) {
	bundle := `{"$defs":{"T":{"properties":{"pos":{"$ref":"#/$defs/Pos"}}},"Pos":{"required":["lat"]}}}`
	s, err := Compile([]byte(bundle), "#/$defs/T", Options{})
	if err != nil {
		t.Fatal(err)
	}
	v := violationOf(t, s.ValidateJSON([]byte(`{"pos":{}}`)))
	if v.Clause != "#/$defs/Pos/required" || v.Instance != "/pos" {
		t.Errorf("got %q at %q", v.Clause, v.Instance)
	}
	if want := `/pos: the property "lat" is missing (#/$defs/Pos/required)`; v.Error() != want {
		t.Errorf("got %s", v)
	}
}

// A violation shows no more than a short piece of the payload, and no text values.
func TestViolationsAreBounded(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, test := range []struct{ schema, doc string }{
		{`{"additionalProperties":false}`, `{"` + long + `":1}`},
		{`{"maxLength":3}`, `"` + long + `"`},
		{`{"enum":["a"]}`, `"` + long + `"`},
		{`{"maximum":3}`, strings.Repeat("9", 900)},
		{`{"additionalProperties":{"type":"null"}}`, `{"` + long + `":1}`},
		{`true`, `{"` + long + `":1,"` + long + `":2}`},
	} {
		v := violationOf(t, compile(t, test.schema).ValidateJSON([]byte(test.doc)))
		if len(v.Error()) > 400 {
			t.Errorf("%s: %d bytes", test.schema, len(v.Error()))
		}
	}
	v := violationOf(t, compile(t, `{"additionalProperties":false}`).ValidateJSON([]byte(`{"a\n\u0007\u009b":1}`)))
	if !strings.Contains(v.Message, `"a???"`) {
		t.Errorf("control characters: %q", v.Message)
	}
}

func TestFallbackIsVisible(t *testing.T) {
	s := compile(t, `{"allOf":[{"properties":{"a":true}}],"unevaluatedProperties":false}`)
	if s.Compiled() || s.Fallback() != "#: unevaluatedProperties beside other schemas" {
		t.Errorf("compiled %v, %q", s.Compiled(), s.Fallback())
	}
	if err := s.ValidateJSON([]byte(`{"a":1}`)); err != nil {
		t.Error(err)
	}
	if v := violationOf(t, s.ValidateJSON([]byte(`{"a":1,"b":2}`))); v.Kind != Mismatch || v.Message == "" {
		t.Errorf("got %+v", v)
	}
	if v := violationOf(t, s.ValidateJSON([]byte(`{"a":1,"a":2}`))); v.Kind != DuplicateKey {
		t.Errorf("got %v", v)
	}
	if err := s.ValidateCBOR([]byte{0xa1, 0x61, 'a', 1}); err != nil {
		t.Error(err)
	}
	if s := compile(t, `{"type":"object"}`); !s.Compiled() || s.Fallback() != "" {
		t.Error("a plain schema must be compiled")
	}
}

// What passes costs no allocation, in any of the three forms.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector empties sync.Pool at random: nothing to measure")
		return
	}
	s, doc := telemetry(t)
	cbor, err := CBORFromJSON(nil, doc, s)
	if err != nil {
		t.Fatal(err)
	}
	rich := compile(t, `{"type":"object","properties":{"s":{"minLength":2,"pattern":"a|b"},"u":{"uniqueItems":true},"c":{"contains":{"type":"null"}},
		"o":{"oneOf":[{"type":"string","format":"uri"},{"type":"object"}]},"e":{"enum":[1,[2],{"a":3}]},"m":{"multipleOf":0.01}},"patternProperties":{"^z":true},
		"propertyNames":{"maxLength":9},"not":{"required":["q"]},"dependentRequired":{"s":["u"]}}`)
	richDoc := []byte(`{"s":"\u0061\n","u":[1,2,{"a":[]},"x"],"c":[1,null],"o":"https://example.org/","e":{"a":3.0},"m":1.23,"zz":[]}`)
	text := compile(t, `{"type":"integer","minimum":0}`)
	for name, f := range map[string]func() error{
		"JSON":      func() error { return s.ValidateJSON(doc) },
		"CBOR":      func() error { return s.ValidateCBOR(cbor) },
		"rich JSON": func() error { return rich.ValidateJSON(richDoc) },
		"text":      func() error { return text.ValidateText("184467") },
	} {
		if err := f(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := testing.AllocsPerRun(1000, func() { _ = f() }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	s, doc := telemetry(t)
	bad := []byte(strings.Replace(string(doc), "21.5", "2150", 1))
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 500 {
				if err := s.ValidateJSON(doc); err != nil {
					t.Error(err)
				}
				if err := s.ValidateJSON(bad); err == nil || err.(*Violation).Instance != "/readings/0" {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
}
