package schema

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"time"
)

// RFC 8259 §2-§7, and RFC 7493 §2.1, §2.3 where Fieldgate is stricter.
func TestJSONSyntax(t *testing.T) {
	any := compile(t, `true`)
	valid := []string{`0`, `-0`, ` [1 , 2 ] `, "\t{\"a\"\r\n:1}", `"\"\\\/\b\f\n\r\t\u0041"`, `"\ud83d\ude00"`, `1e5`, `1E+5`, `1.5e-5`, `"` + "\x7f" + `"`, `""`, `{"":{}}`,
		`"1234567"`, `"12345678"`, `"123456789"`, `"é日本😀"`}
	for _, doc := range valid {
		if err := any.ValidateJSON([]byte(doc)); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
	}
	invalid := []struct {
		doc  string
		kind Kind
	}{
		{``, Syntax}, {` `, Syntax}, {`nul`, Syntax}, {`truex`, Syntax}, {`1 2`, Syntax}, {`[1,]`, Syntax}, {`[,1]`, Syntax}, {`[1`, Syntax}, {`{"a"}`, Syntax},
		{`{"a":}`, Syntax}, {`{"a":1,}`, Syntax}, {`{a:1}`, Syntax}, {`{"a":1`, Syntax}, {`01`, Syntax}, {`-`, Syntax}, {`1.`, Syntax}, {`.5`, Syntax}, {`+1`, Syntax}, {`1e`, Syntax}, {`1e+`, Syntax},
		{`0x10`, Syntax}, {`NaN`, Syntax}, {`"`, Syntax}, {`"\`, Syntax}, {`"\x"`, Syntax}, {`"\u12"`, Syntax}, {`"\u12g4"`, Syntax}, {"\"a\nb\"", Syntax}, {"\"a\x00\"", Syntax}, {"\ufeff1", Syntax},
		{`'a'`, Syntax}, {`[1}`, Syntax}, {`{"a":1]`, Syntax}, {`// c`, Syntax},
		{"\"\xff\"", InvalidUTF8}, {"\"\xc0\x80\"", InvalidUTF8}, {"\"\xed\xa0\x80\"", InvalidUTF8}, {`"\ud800"`, InvalidUTF8}, {`"\ude00\ud83d"`, InvalidUTF8}, {`"\ud83dx"`, InvalidUTF8},
		{"{\"\xff\":1}", InvalidUTF8}, {"\"\\n\xff\"", InvalidUTF8},
		{`{"a":1,"a":1}`, DuplicateKey}, {`{"a":1,"\u0061":2}`, DuplicateKey}, {`{"x":[{"b":1,"c":2,"b":3}]}`, DuplicateKey},
		{`1e1000`, TooLarge}, {`1e-99999999999999999999`, TooLarge}, {strings.Repeat("1", 1001), TooLarge},
	}
	for _, test := range invalid {
		err := any.ValidateJSON([]byte(test.doc))
		if err == nil {
			t.Errorf("%q: accepted", test.doc)
			continue
		}
		v := violationOf(t, err)
		if v.Kind != test.kind || !v.Kind.Malformed() || v.Clause != "" {
			t.Errorf("%q: %v (%v)", test.doc, v.Kind, v)
		}
	}
}

// Duplicates are found among many keys too, and only duplicates.
func TestManyKeys(t *testing.T) {
	any := compile(t, `true`)
	for _, n := range []int{2, 15, 16, 17, 18, 100, 5000} {
		var b strings.Builder
		for i := range n {
			b.WriteString(`"key` + strconv.Itoa(i) + `":` + strconv.Itoa(i) + `,`)
		}
		doc := `{` + strings.TrimSuffix(b.String(), ",") + `}`
		if err := any.ValidateJSON([]byte(doc)); err != nil {
			t.Errorf("%d keys: %v", n, err)
		}
		for _, again := range []int{0, n / 2, n - 1} {
			doc := `{` + b.String() + `"key` + strconv.Itoa(again) + `":0}`
			if v := violationOf(t, any.ValidateJSON([]byte(doc))); v.Kind != DuplicateKey || !strings.Contains(v.Message, `"key`+strconv.Itoa(again)+`"`) {
				t.Errorf("%d keys: %v", n, v)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	s, err := Compile([]byte(`true`), "#", Options{MaxDepth: 3, MaxBytes: 100, MaxValues: 10})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		doc  string
		kind Kind // 0: valid
	}{
		{`[[[1]]]`, 0}, {`[[[[1]]]]`, TooDeep}, {`[{"a":[1]}]`, 0}, {`[{"a":[{}]}]`, TooDeep},
		{`[1,2,3,4,5,6,7,8,9]`, 0}, {`[1,2,3,4,5,6,7,8,9,10]`, TooLarge}, {`{"a":1,"b":2,"c":3,"d":4,"e":5}`, TooLarge},
		{`"` + strings.Repeat("x", 98) + `"`, 0}, {`"` + strings.Repeat("x", 99) + `"`, TooLarge},
	}
	for _, test := range tests {
		err := s.ValidateJSON([]byte(test.doc))
		if test.kind == 0 {
			if err != nil {
				t.Errorf("%s: %v", test.doc, err)
			}
		} else if v := violationOf(t, err); v.Kind != test.kind {
			t.Errorf("%s: %v", test.doc, v)
		}
	}
}

// 10,000 nested arrays are refused at the 65th, whatever follows.
func TestDeepNesting(t *testing.T) {
	s := compile(t, `true`)
	for _, open := range []string{`[`, `{"a":`, `[{"a":`} {
		doc := []byte(strings.Repeat(open, 10_000))
		if v := violationOf(t, s.ValidateJSON(doc)); v.Kind != TooDeep || v.Offset > 64*len(open) {
			t.Errorf("%s: %v", open, v)
		}
	}
	if v := violationOf(t, s.ValidateCBOR(bytes.Repeat([]byte{0x81}, 10_000))); v.Kind != TooDeep {
		t.Errorf("CBOR: %v", v)
	}
	if v := violationOf(t, s.ValidateCBOR(bytes.Repeat([]byte{0xc1}, 10_000))); v.Kind != Syntax {
		t.Errorf("CBOR tags: %v", v)
	}
}

// Alternatives that multiply with depth end in a violation after a bounded number of
// steps, not in minutes: 8 alternatives to the power of 30 would never return.
func TestWorkIsBounded(t *testing.T) {
	branch := `{"properties":{"a":{"$ref":"#"}}}`
	s := compile(t, `{"not":{"const":1},"allOf":[{"anyOf":[`+strings.Repeat(branch+`,`, 7)+branch+`]},{"oneOf":[`+strings.Repeat(branch+`,`, 7)+branch+`]}]}`)
	doc := strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40)
	if v := violationOf(t, s.ValidateJSON([]byte(doc))); v.Kind != TooComplex || v.Kind.Malformed() {
		t.Errorf("got %v", v)
	}
	// Under not, running out of steps must not turn into a pass.
	s = compile(t, `{"not":{"$ref":"#/$defs/x"},"$defs":{"x":{"allOf":[`+strings.Repeat(`{"properties":{"a":{"$ref":"#/$defs/x"}}},`, 7)+`true]}}}`)
	if v := violationOf(t, s.ValidateJSON([]byte(doc))); v.Kind != TooComplex {
		t.Errorf("not: got %v", v)
	}
}

// The budget grows with the document: a long text with a pattern and a format is not complex.
func TestLongTextIsNotComplex(t *testing.T) {
	s := compile(t, `{"items":{"pattern":"(^|b)a*$","format":"byte"}}`)
	doc := `["` + strings.Repeat("a", 4<<20) + `"]`
	if err := s.ValidateJSON([]byte(doc)); err != nil {
		t.Error(err)
	}
	s = compile(t, `{"items":{"oneOf":[`+strings.Repeat(`{"required":["b"]},`, 8)+`{"properties":{"a":{"type":"integer"}}}]}}`)
	doc = `[` + strings.Repeat(`{"a":1,"c":[1,2,3]},`, 20_000) + `{}]`
	if err := s.ValidateJSON([]byte(doc)); err != nil {
		t.Error(err)
	}
}

// Inputs that make naive implementations quadratic. The test has no clock of its own:
// it hangs the suite's if one of them is.
func TestHostileShapes(t *testing.T) {
	const n = 50_000
	numbers := make([]string, n)
	for i := range numbers {
		numbers[i] = strconv.Itoa(i)
	}
	s := compile(t, `{"uniqueItems":true,"items":{"uniqueItems":true}}`)
	started := time.Now()
	for _, doc := range []string{
		`[` + strings.Join(numbers, ",") + `]`,
		`[[` + strings.Join(numbers, "],[") + `]]`,
		`[{"a":` + strings.Join(numbers, `},{"a":`) + `}]`,
	} {
		if err := s.ValidateJSON([]byte(doc)); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%v", time.Since(started))
}
