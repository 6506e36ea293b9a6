package schema

import "testing"

// Parameters in paths, queries and headers are texts; the schema says what they mean.
func TestValidateText(t *testing.T) {
	tests := []struct{ schema, text, message string }{
		{`{"type":"string","pattern":"^[0-9a-f]{16}$"}`, "70b3d57ed0051a2f", ""},
		{`{"type":"string","pattern":"^[0-9a-f]{16}$"}`, "0000000000000001", ""},
		{`{"type":"string"}`, "123", ""},
		{`{"type":"string"}`, "true", ""},
		{`{"type":"string","minLength":2}`, "日", "a string of 1 characters is shorter than 2"},
		{`{"type":"integer"}`, "17", ""},
		{`{"type":"integer"}`, "1.5", "a number is not of type integer"},
		{`{"type":"integer"}`, "abc", "a string is not of type integer"},
		{`{"type":"integer"}`, "", "a string is not of type integer"},
		{`{"type":"integer"}`, "1 ", "a string is not of type integer"},
		{`{"type":"integer"}`, " 1", "a string is not of type integer"},
		{`{"type":"integer"}`, "01", "a string is not of type integer"},
		{`{"type":"integer","maximum":5}`, "6", "6 is greater than the maximum 5"},
		{`{"type":"number","multipleOf":0.5}`, "-2.5", ""},
		{`{"type":"boolean"}`, "true", ""},
		{`{"type":"boolean"}`, "TRUE", "a string is not of type boolean"},
		{`{"enum":[1,2]}`, "2", ""},
		{`{"enum":["1","2"]}`, "2", ""},
		{`{"type":["integer","string"],"maximum":5}`, "9", ""}, // the string "9" is allowed
		{`{"type":"array"}`, "[1]", "a string is not of type array"},
		{`{"type":"null"}`, "null", ""},
		{`{"type":["integer","null"]}`, "null", ""},
		{`{"type":["string","null"],"maxLength":3}`, "null", ""},
		{`{"type":"integer"}`, "null", "null is not of type integer"},
		{`{"type":"string","maxLength":4}`, "null", ""},
		{`{"$ref":"#/$defs/n","$defs":{"n":{"type":"integer","minimum":3}}}`, "2", "2 is less than the minimum 3"},
		{`{"type":"string","format":"uuid"}`, "123e4567-e89b-12d3-a456-426614174000", ""},
	}
	for _, test := range tests {
		err := compile(t, test.schema).ValidateText(test.text)
		if test.message == "" {
			if err != nil {
				t.Errorf("%s %q: %v", test.schema, test.text, err)
			}
		} else if v := violationOf(t, err); v.Message != test.message {
			t.Errorf("%s %q: %v", test.schema, test.text, v)
		}
	}
	if v := violationOf(t, compile(t, `true`).ValidateText("a\xff")); v.Kind != InvalidUTF8 {
		t.Errorf("got %v", v)
	}
}
