package schema

import (
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Examples of RFC 8949 appendix A that JSON can express, with their JSON form.
func TestCBORExamples(t *testing.T) {
	tests := []struct{ cbor, json string }{
		{"00", "0"}, {"17", "23"}, {"1818", "24"}, {"1903e8", "1000"}, {"1a000f4240", "1000000"}, {"1b000000e8d4a51000", "1000000000000"},
		{"1bffffffffffffffff", "18446744073709551615"}, {"3bffffffffffffffff", "-18446744073709551616"}, {"20", "-1"}, {"3903e7", "-1000"},
		{"f90000", "0"}, {"f98000", "0"}, {"f93c00", "1"}, {"fb3ff199999999999a", "1.1"}, {"f93e00", "1.5"}, {"f97bff", "65504"}, {"fa47c35000", "100000"},
		{"fa7f7fffff", "3.4028235e+38"}, {"fb7e37e43c8800759c", "1e+300"}, {"f90001", "5.9604645e-08"}, {"f9c400", "-4"}, {"fbc010666666666666", "-4.1"},
		{"f4", "false"}, {"f5", "true"}, {"f6", "null"}, {"60", `""`}, {"6161", `"a"`}, {"62225c", `"\"\\"`}, {"62c3bc", `"ü"`}, {"64f0908591", `"𐅑"`},
		{"80", "[]"}, {"83010203", "[1,2,3]"}, {"8301820203820405", "[1,[2,3],[4,5]]"}, {"a0", "{}"}, {"a26161016162820203", `{"a":1,"b":[2,3]}`},
		{"7f657374726561646d696e67ff", `"streaming"`}, {"9fff", "[]"}, {"9f018202039f0405ffff", "[1,[2,3],[4,5]]"}, {"83018202039f0405ff", "[1,[2,3],[4,5]]"},
		{"bf61610161629f0203ffff", `{"a":1,"b":[2,3]}`}, {"826161bf61626163ff", `["a",{"b":"c"}]`}, {"a201020304", `{"1":2,"3":4}`},
		{"4401020304", `"AQIDBA"`}, {"5f42010243030405ff", `"AQIDBAU"`}, {"c11a514b67b0", `"2013-03-21T20:04:00Z"`}, {"c1fb41d452d9ec200000", `"2013-03-21T20:04:00.5Z"`},
		{"c074323031332d30332d32315432303a30343a30305a", `"2013-03-21T20:04:00Z"`}, {"d9d9f7a0", "{}"}, {"fa41aa6666", "21.3"}, {"c120", `"1969-12-31T23:59:59Z"`},
	}
	for _, test := range tests {
		got, err := JSONFromCBOR(nil, unhex(t, test.cbor), nil)
		if err != nil || string(got) != test.json {
			t.Errorf("%s: %s, %v; want %s", test.cbor, got, err, test.json)
		}
		if err := compile(t, `true`).ValidateCBOR(unhex(t, test.cbor)); err != nil {
			t.Errorf("%s: %v", test.cbor, err)
		}
	}
}

// Not well-formed (RFC 8949 §5.3, appendix F), or nothing that JSON could express.
func TestCBORRefused(t *testing.T) {
	tests := []struct {
		cbor string
		kind Kind
	}{
		{"", Syntax}, {"18", Syntax}, {"1901", Syntax}, {"1c", Syntax}, {"1f", Syntax}, {"3f", Syntax}, {"df00", Syntax}, {"ff", Syntax}, {"81", Syntax}, {"8201", Syntax}, {"a1", Syntax}, {"a16161", Syntax},
		{"9f", Syntax}, {"bf6161ff", Syntax}, {"bf61", Syntax}, {"61", Syntax}, {"7b7fffffffffffffff61", Syntax}, {"5b8000000000000000", Syntax}, {"9bffffffffffffffff", Syntax}, {"bbffffffffffffffff", Syntax},
		{"7f6161", Syntax}, {"7f4161ff", Syntax}, {"7f7f6161ffff", Syntax}, {"5f6161ff", Syntax}, {"0000", Syntax}, {"a1f401", Syntax}, {"a1416101", Syntax}, {"a1800080", Syntax},
		{"f7", Syntax}, {"f0", Syntax}, {"f818", Syntax}, {"fc", Syntax}, {"f97e00", Syntax}, {"f97c00", Syntax}, {"faff800000", Syntax}, {"fb7ff8000000000000", Syntax},
		{"c249010000000000000000", Syntax}, {"d81800", Syntax}, {"c001", Syntax}, {"c16161", Syntax}, {"c1c101", Syntax}, {"c11bffffffffffffffff", Syntax}, {"c1fb7e37e43c8800759c", Syntax}, {"c1f97e00", Syntax}, {"c0", Syntax},
		{"61ff", InvalidUTF8}, {"7f61c361bcff", InvalidUTF8}, {"a161ff00", InvalidUTF8},
		{"a2616101616102", DuplicateKey}, {"a201000100", DuplicateKey}, {"a20100613100", DuplicateKey}, {"bf616101616102ff", DuplicateKey},
	}
	for _, test := range tests {
		err := compile(t, `true`).ValidateCBOR(unhex(t, test.cbor))
		if err == nil {
			t.Errorf("%s: accepted", test.cbor)
		} else if v := violationOf(t, err); v.Kind != test.kind {
			t.Errorf("%s: %v", test.cbor, v)
		}
	}
}

const deviceSchema = `{"type":"object","additionalProperties":false,"required":["ts"],"properties":{
	"ts":{"type":"string","format":"date-time","x-cbor-key":1},
	"temp":{"type":"number","x-cbor-key":-2,"maximum":125},
	"blob":{"type":"string","format":"byte","x-cbor-key":3,"maxLength":8},
	"sig":{"$ref":"#/$defs/sig","x-cbor-key":4},
	"log":{"type":"array","items":{"allOf":[{"properties":{"code":{"type":"integer","x-cbor-key":0}}},{"required":["code"]}]}}},
	"$defs":{"sig":{"type":"string","contentEncoding":"base64url"}}}`

// The schema's extensions, both ways: integer keys, byte strings, times.
func TestCBORWithSchema(t *testing.T) {
	s := compile(t, deviceSchema)
	tests := []struct{ cbor, json, clause string }{
		{"a101c11a514b67b0", `{"ts":"2013-03-21T20:04:00Z"}`, ""},
		{"a3 01c11a514b67b0 21f94d60 034401020304", `{"ts":"2013-03-21T20:04:00Z","temp":21.5,"blob":"AQIDBA=="}`, ""},
		{"a2 01c11a514b67b0 0442fbff", `{"ts":"2013-03-21T20:04:00Z","sig":"-_8"}`, ""},
		{"a2 01c11a514b67b0 636c6f678100", `{"ts":"2013-03-21T20:04:00Z","log":[0]}`, ""},
		{"a2 01c11a514b67b0 636c6f6781a1001863", `{"ts":"2013-03-21T20:04:00Z","log":[{"code":99}]}`, ""},
		{"a2 01c11a514b67b0 636c6f6781a10118ff", `{"ts":"2013-03-21T20:04:00Z","log":[{"1":255}]}`, "/properties/log/items/allOf/1/required"},
		{"a101 1a514b67b0", `{"ts":1363896240}`, "/properties/ts/type"},
		{"a2 01c11a514b67b0 034701020304050607", `{"ts":"2013-03-21T20:04:00Z","blob":"AQIDBAUGBw=="}`, "/properties/blob/maxLength"},
		{"a2 01c11a514b67b0 0500", `{"ts":"2013-03-21T20:04:00Z","5":0}`, "/additionalProperties"},
		{"a2 01c11a514b67b0 2118ff", `{"ts":"2013-03-21T20:04:00Z","temp":255}`, "/properties/temp/maximum"},
		{"a121c11a514b67b0", `{"temp":"2013-03-21T20:04:00Z"}`, "/properties/temp/type"},
		{"a1 21 4101", `{"temp":"AQ"}`, "/properties/temp/type"},
	}
	for _, test := range tests {
		if got, err := JSONFromCBOR(nil, unhex(t, test.cbor), s); err != nil || string(got) != test.json {
			t.Errorf("%s: %s, %v", test.cbor, got, err)
		}
		err := s.ValidateCBOR(unhex(t, test.cbor))
		if test.clause == "" {
			if err != nil {
				t.Errorf("%s: %v", test.cbor, err)
			}
		} else if v := violationOf(t, err); v.Clause != test.clause {
			t.Errorf("%s: %v", test.cbor, v)
		}
	}
	// One property under its name and its number.
	if v := violationOf(t, s.ValidateCBOR(unhex(t, "a2 01c100 627473c100"))); v.Kind != DuplicateKey {
		t.Errorf("got %v", v)
	}
}

func TestCBORFromJSON(t *testing.T) {
	s := compile(t, deviceSchema)
	tests := []struct {
		schema     *Schema
		json, cbor string
	}{
		{nil, `[0,23,24,-1,1000000000000,18446744073709551615,-9223372036854775809,1e2,2.0]`, "89001718182 01b000000e8d4a51000 1bffffffffffffffff 3b8000000000000000 1864 02"},
		{nil, `[1.5,1.1,100000.5,-4.1,1e300,65505.5]`, "86f93e00fb3ff199999999999afa47c35040fbc010666666666666fb7e37e43c8800759cfa477fe180"},
		{nil, `{"a":"\u00fc","b":[true,false,null]}`, "a2616162c3bc616283f5f4f6"},
		{s, `{"ts":"2013-03-21T20:04:00Z","temp":21.5,"blob":"AQIDBA=="}`, "a30174323031332d30332d32315432303a30343a30305a21f94d60034401020304"},
		{s, `{"blob":"not base64","sig":"-_8"}`, "a2036a6e6f7420626173653634 0442fbff"},
		{s, `{"log":[{"code":7}]}`, "a1636c6f6781a10007"},
	}
	for _, test := range tests {
		got, err := CBORFromJSON(nil, []byte(test.json), test.schema)
		if want := strings.ReplaceAll(test.cbor, " ", ""); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%s: %x, %v", test.json, got, err)
		}
	}
	if _, err := CBORFromJSON(nil, []byte(`1.5e400`), nil); err == nil || violationOf(t, err).Kind != TooLarge {
		t.Errorf("beyond a double: %v", err)
	}
	if out, err := CBORFromJSON([]byte("keep"), []byte(`{`), nil); err == nil || string(out) != "keep" {
		t.Errorf("on failure dst must come back as it was: %q, %v", out, err)
	}
}
