package schema

import (
	"strings"
	"testing"
)

// piecesOf reads a short form: texts are words, "name:" is a key, [ ] and { } are themselves, and j'…' is JSON.
func piecesOf(text string) (pieces []Piece) {
	kinds := map[string]PieceKind{"[": PieceArray, "{": PieceObject, "]": PieceEnd, "}": PieceEnd}
	for word := range strings.FieldsSeq(text) {
		kind, structural := kinds[word]
		switch {
		case structural:
			pieces = append(pieces, Piece{Kind: kind})
		case strings.HasSuffix(word, ":"):
			pieces = append(pieces, Piece{PieceKey, []byte(word[:len(word)-1])})
		case strings.HasPrefix(word, "j'") && len(word) > 2:
			pieces = append(pieces, Piece{PieceJSON, []byte(word[2 : len(word)-1])})
		default:
			pieces = append(pieces, Piece{PieceText, []byte(word)})
		}
	}
	return pieces
}

func TestValidatePieces(t *testing.T) {
	const form = `{"type":"object","required":["n"],"additionalProperties":false,"properties":{"n":{"type":"integer","minimum":2},
		"s":{"type":"string","pattern":"^[0-9]+$"},"list":{"type":"array","items":{"type":["number","boolean"]},"uniqueItems":true},
		"deep":{"type":"object","properties":{"k":{"const":"é"}}},"file":{"type":"string","format":"binary","maxLength":1},
		"files":{"type":"array","items":{"type":"string","contentMediaType":"image/png"},"uniqueItems":true}}}`
	tests := []struct{ schema, pieces, message string }{
		{form, `{ n: 7 }`, ""},
		{form, `{ n: 7 s: 123 list: [ 1 true 2.5 ] }`, ""},
		{form, `{ n: 1 }`, "/n: 1 is less than the minimum 2 (/properties/n/minimum)"},
		{form, `{ n: x }`, "/n: a string is not of type integer (/properties/n/type)"},
		{form, `{ s: 1 }`, `the property "n" is missing (/required)`},
		{form, `{ n: 7 n: 8 }`, `duplicate key: the key "n" occurs twice`},
		{form, `{ n: 7 other: 1 }`, `/other: the property "other" is not allowed (/additionalProperties)`},
		{form, `{ n: 7 list: [ 1 1.0 ] }`, "/list/1: the item equals an earlier one (/properties/list/uniqueItems)"},
		{form, `{ n: 7 list: 1 }`, "/list: a string is not of type array (/properties/list/type)"},
		{form, `{ deep: j'{"k":"\u00e9"}' n: 7 }`, ""},
		{form, `{ deep: j'{"k":"e"}' n: 7 }`, "/deep/k: the value is not \"é\" (/properties/deep/properties/k/const)"},
		{form, `{ deep: j'{"k":' n: 7 }`, "syntax: ends too early"},
		{form, `{ deep: j'{}{}' n: 7 }`, "syntax: data after the end of the value"},
		{form, `{ n: 7 file: ` + "\xff\xfe" + ` }`, ""}, // nobody looks into files
		{form, `{ n: 7 files: [ a a ] }`, ""},
		{form, `{ n: 7 s: ` + "\xff" + ` }`, "invalid UTF-8: not UTF-8"},
		{`{"oneOf":[{"type":"integer"},{"type":"string","pattern":"^x"}]}`, "17", ""},
		{`{"oneOf":[{"type":"integer"},{"type":"string","pattern":"^x"}]}`, "x7", ""},
		{`{"enum":["1","2"]}`, "2", ""},
		{`{"type":"object","additionalProperties":{"type":"integer","maximum":5}}`, `{ a: 3 b: 6 }`, "/b: 6 is greater than the maximum 5 (/additionalProperties/maximum)"},
		{`{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"properties":{"n":{"type":"integer"}}}}}`, `{ n: 1 }`, ""},
		{`{"properties":{"n":{"type":"integer"}},"unevaluatedProperties":false,"anyOf":[{"properties":{"m":{"type":"boolean"}}}]}`, `{ n: 1 m: true }`, ""}, // the slower validator
		{`true`, strings.Repeat("[ ", 65) + strings.Repeat("] ", 65), "too deep: nested more than 64 levels deep"},
	}
	for _, test := range tests {
		err := compile(t, test.schema).ValidatePieces(piecesOf(test.pieces))
		switch {
		case test.message == "" && err != nil:
			t.Errorf("%s: %v", test.pieces, err)
		case test.message != "" && (err == nil || !strings.HasPrefix(err.Error(), strings.TrimSuffix(test.message, ")"))):
			t.Errorf("%s: %v, want %s", test.pieces, err, test.message)
		}
	}
}

func TestTakes(t *testing.T) {
	primitive, array, object := Takes{Primitive: true}, Takes{Array: true}, Takes{Object: true}
	for schema, want := range map[string]Takes{
		`{}`: primitive, `true`: primitive, `{"type":"string"}`: primitive, `{"type":["integer","null"]}`: primitive, `{"enum":[1]}`: primitive,
		`{"type":"array"}`: array, `{"items":{}}`: array, `{"properties":{"a":{}}}`: object, `{"type":"object"}`: object,
		`{"$ref":"#/$defs/a","$defs":{"a":{"type":"array"}}}`:   array,
		`{"allOf":[{"type":["array","string"]},{"items":{}}]}`:  array,
		`{"anyOf":[{"type":"string"},{"type":"array"}]}`:        {Primitive: true, Array: true},
		`{"oneOf":[{"const":"all"},{"type":"object"}]}`:         {Primitive: true, Object: true},
		`{"type":"string","format":"binary"}`:                   {Primitive: true, Opaque: true},
		`{"contentMediaType":"image/png"}`:                      {Primitive: true, Opaque: true},
		`{"contentMediaType":"x/y","contentEncoding":"base64"}`: primitive,
		`{"type":["object","null"],"properties":{"a":{}}}`:      {Primitive: true, Object: true},
	} {
		if got := compile(t, schema).Takes(); got != want {
			t.Errorf("%s: %+v, want %+v", schema, got, want)
		}
	}
}

// What is written as pieces is checked as the JSON that it stands for.
func FuzzPieces(f *testing.F) {
	for _, seed := range []string{`{ n: 7 s: 123 list: [ 1 true ] }`, `{ n: j'[1]' n: null }`, "[ 1 [ -1e5 ] ]", "x"} {
		f.Add(seed)
	}
	s, err := Compile([]byte(`{"type":["object","array","string"],"properties":{"n":{"type":"integer"},"s":{"type":"string"},"list":{"items":{"type":["number","boolean"]}}}}`), "#", Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		pieces := piecesOf(text)
		if !wellFormed(&pieces) || len(pieces) > 0 {
			return
		}
		err := s.ValidatePieces(piecesOf(text))
		if v, ok := err.(*Violation); err != nil && (!ok || v.Message == "" || v.Kind == 0) {
			t.Fatalf("%v", err)
		}
	})
}

// wellFormed takes one value off.
func wellFormed(pieces *[]Piece) bool {
	if len(*pieces) == 0 {
		return false
	}
	first := (*pieces)[0]
	*pieces = (*pieces)[1:]
	switch first.Kind {
	case PieceText, PieceJSON:
		return true
	case PieceArray, PieceObject:
		for len(*pieces) > 0 && (*pieces)[0].Kind != PieceEnd {
			if first.Kind == PieceObject {
				if (*pieces)[0].Kind != PieceKey {
					return false
				}
				*pieces = (*pieces)[1:]
			}
			if !wellFormed(pieces) {
				return false
			}
		}
		if len(*pieces) > 0 {
			*pieces = (*pieces)[1:]
			return true
		}
	}
	return false
}
