package schema

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const fuzzSchema = `{"type":["object","array","number","string"],"additionalProperties":{"$ref":"#/$defs/v"},"items":{"$ref":"#/$defs/v"},"uniqueItems":true,
	"required":["a"],"maximum":100,"multipleOf":0.5,"maxLength":5,"patternProperties":{"^a":{"type":"integer"}},"propertyNames":{"maxLength":3},
	"$defs":{"v":{"anyOf":[{"enum":[null,"x",1,[1]]},{"oneOf":[{"type":"number","minimum":0},{"type":"integer"},{"type":"array","contains":{"const":0}}]},{"$ref":"#"}]}}}`

// FuzzJSON: the tokenizer takes exactly what encoding/json takes, less what RFC 7493
// forbids and the limits, and the verdict is that of santhosh.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a":1}`, `[1,1.0]`, `"\ud83d\ude00"`, `{"a":1,"a":2}`, `[[0],null,"x",-0.5e1]`, `1e999`, "\"\xff\"", `{"\u0061":[{}]}`, `  tru`, `123456789012345678901234567890.5`, `"\ud800"`} {
		f.Add([]byte(seed))
	}
	s := compile(f, fuzzSchema)
	oracle := reference(f, fuzzSchema, "", true)
	f.Fuzz(func(t *testing.T, doc []byte) {
		err := s.ValidateJSON(doc)
		if !json.Valid(doc) {
			if err == nil || !err.(*Violation).Kind.Malformed() {
				t.Fatalf("not JSON, but %v", err)
			}
			return
		}
		if err != nil {
			v := err.(*Violation)
			if len(v.Error()) > 1<<14 {
				t.Fatalf("violation of %d bytes", len(v.Error()))
			}
			switch v.Kind {
			case Syntax:
				t.Fatalf("JSON, but %v", v)
			case InvalidUTF8, DuplicateKey, TooDeep, TooLarge, TooComplex:
				return
			}
		}
		value, decodeErr := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
		if decodeErr != nil {
			t.Fatal(decodeErr)
		}
		if want := oracle.Validate(value); (want == nil) != (err == nil) {
			t.Fatalf("compiled says %v, santhosh says %v", err, want)
		}
	})
}

// FuzzCBOR: whatever the decoder takes becomes JSON that the tokenizer takes, and
// going there and back changes nothing more.
func FuzzCBOR(f *testing.F) {
	for _, seed := range []string{"\xa1\x01\xc1\x1a\x51\x4b\x67\xb0", "\x9f\x01\x82\x02\x03\xff", "\xbf\x61a\x01\xff", "\x7f\x61a\x61b\xff", "\xfa\x41\xaa\x66\x66", "\xa1\x03\x44\x01\x02\x03\x04", "\xd9\xd9\xf7\xf9\x3c\x00", "\x3b\xff\xff\xff\xff\xff\xff\xff\xff"} {
		f.Add([]byte(seed))
	}
	s := compile(f, deviceSchema)
	f.Fuzz(func(t *testing.T, doc []byte) {
		verdict := s.ValidateCBOR(doc)
		for _, schema := range []*Schema{nil, s} {
			first, err := JSONFromCBOR(nil, doc, schema)
			if err != nil {
				if verdict == nil {
					t.Fatalf("valid, but not converted: %v", err)
				}
				return
			}
			if !json.Valid(first) {
				t.Fatalf("not JSON: %q", first)
			}
			back, err := CBORFromJSON(nil, first, schema)
			if err != nil {
				if v := err.(*Violation); v.Kind == Syntax || v.Kind == InvalidUTF8 || v.Kind == DuplicateKey {
					t.Fatalf("%s: %v", first, err)
				}
				return
			}
			second, err := JSONFromCBOR(nil, back, schema)
			if err != nil {
				t.Fatalf("%s: %v", first, err)
			}
			third, err := CBORFromJSON(nil, second, schema)
			if err != nil || !bytes.Equal(back, third) {
				t.Fatalf("%s became %s: %x, %x, %v", first, second, back, third, err)
			}
		}
	})
}

// FuzzCompile: no bundle makes the compiler panic or hang, and what compiles can be used.
func FuzzCompile(f *testing.F) {
	g := []string{fuzzSchema, deviceSchema, telemetrySchema, `{"$ref":"#"}`, `{"$id":"a","$defs":{"b":{"$anchor":"c","$ref":"a#c"}}}`,
		`{"$dynamicRef":"#a","$dynamicAnchor":"a"}`, `{"unevaluatedItems":false,"contains":true}`, `{"pattern":"^(a|b){3}\\s[^x]$","enum":[1,{"a":[]}]}`}
	for _, seed := range g {
		f.Add([]byte(seed), []byte(`{"a":[1,"x",null]}`))
	}
	f.Fuzz(func(t *testing.T, bundle, doc []byte) {
		if strings.Contains(string(bundle), "unevaluated") && len(bundle) > 2000 {
			return // the general library is not what is tested here
		}
		s, err := Compile(bundle, "#", Options{})
		if err != nil {
			return
		}
		err = s.ValidateJSON(doc)
		if again := s.ValidateJSON(doc); (err == nil) != (again == nil) {
			t.Fatalf("first %v, then %v", err, again)
		}
		_ = s.ValidateCBOR(doc)
		_ = s.ValidateText(string(doc))
	})
}
