package capture

import (
	"encoding/json"
	"strings"
	"testing"

	"fieldgate"
)

func TestSecretNames(t *testing.T) {
	for name, want := range map[string]bool{
		"password": true, "userPassword": true, "PASSWD": true, "wifi_passphrase": true, "token": true, "accessToken": true, "refresh-token": true, "clientSecret": true,
		"apiKey": true, "api_key": true, "APIKEY": true, "X-API-Key": true, "key": true, "privateKey": true, "sharedAccessKey": true, "authorization": true, "credentials": true,
		"pin": true, "PSK": true, "otp": true, "dbPwd": true, "setCookie": true, "p.a.s.s.w.o.r.d": true,
		"temperature": false, "keyboard": false, "spinRate": false, "passengers": false, "author": false, "name": false, "pinned": false, "": false, "é": false,
	} {
		if got := secretName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	for name, want := range map[string]bool{"Proxy-Authorization": true, "Cookie": true, "Set-Cookie": true, "X-Session-Id": true, "X-Hub-Signature": true, "WWW-Authenticate": true,
		"Sec-WebSocket-Protocol": true, "X-CSRF": true, "X-Amz-Security-Token": true, "Content-Type": false, "User-Agent": false, "X-Request-Id": false, "Accept": false} {
		if got := secretField(name); got != want {
			t.Errorf("field %q: %v", name, got)
		}
	}
}

func TestWithoutCredentials(t *testing.T) {
	token, err := fieldgate.NewToken(fieldgate.PrefixApp)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"plain":                                "plain",
		"a " + token + " b " + token:           "a fga_[redacted] b fga_[redacted]",
		token[:30]:                             "fga_[redacted]",
		"fga_short":                            "fga_short",
		"fgd_" + token:                         "fgd_fga_[redacted]",
		"Bearer abc":                           "Bearer [redacted]",
		"bASIC abc":                            "bASIC [redacted]",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.sig":    "[redacted]",
		"https://bob:pw@example.com/a@b":       "https://[redacted]@example.com/a@b",
		"https://example.com/?token=abc&a=1#x": "https://example.com/?token=[redacted]&a=1#x",
		"/back?next=%2Fin%3Fpassword%3Dabc":    "/back?next=[redacted]",
		"what?token=abc":                       "what?token=abc", // no URL
		"/x?%zz=1&a=%zz":                       "/x?%zz=1&a=[redacted]",
	} {
		if got := withoutCredentials(text); got != want {
			t.Errorf("%q becomes %q, not %q", text, got, want)
		}
	}
}

const schemasOfTest = `{"$defs":{
	"Tree":{"type":"object","properties":{"label":{"type":"string"},"hidden":{"$ref":"#/$defs/Hidden"},"children":{"type":"array","items":{"$ref":"#/$defs/Tree"}}}},
	"Hidden":{"allOf":[{"type":"string"},{"writeOnly":true}]},
	"Map":{"type":"object","additionalProperties":{"format":"password"}},
	"Pattern":{"patternProperties":{"^s-":{"writeOnly":true}},"properties":{"open":{"type":"string"}}},
	"Choice":{"oneOf":[{"properties":{"a":{"type":"string"}}},{"properties":{"b":{"writeOnly":true}}}],"if":{"properties":{"c":{"const":1}}},"then":{"properties":{"d":{"writeOnly":true}}}},
	"Pair":{"prefixItems":[{"type":"string"},{"writeOnly":true}]},
	"Whole":{"writeOnly":true,"type":"object"},
	"Loop":{"$ref":"#/$defs/Loop2"},"Loop2":{"$ref":"#/$defs/Loop","properties":{"x":{"writeOnly":true}}},
	"Lost":{"properties":{"x":{"$ref":"#/$defs/Nowhere"}}},
	"Dynamic":{"properties":{"x":{"$dynamicRef":"#meta"},"y":{"type":"string"}}},
	"Escaped/na~me":{"properties":{"x":{"writeOnly":true}}}}}`

// Wherever a schema can say that a value is secret, and wherever nobody can tell, the value is taken out, and nothing else.
func TestRedactionBySchema(t *testing.T) {
	contract := &fieldgate.Contract{Schemas: json.RawMessage(schemasOfTest)}
	r := newRedactor(contract)
	for _, c := range []struct{ ref, document, want string }{
		{"Tree", `{"label":"a","hidden":"x","children":[{"hidden":{"deep":1},"children":[{"hidden":null,"label":"c"}]}]}`,
			`{"label":"a","hidden":R,"children":[{"hidden":R,"children":[{"hidden":R,"label":"c"}]}]}`},
		{"Tree", `{"hidden":"a","hidden":"b","password":1}`, `{"hidden":R,"hidden":R,"password":{"redacted":"name"}}`},
		{"Map", `{"a":"x","b":"y"}`, `{"a":{"redacted":"format: password"},"b":{"redacted":"format: password"}}`},
		{"Pattern", `{"s-1":"x"}`, `{"s-1":R}`},
		{"Choice", `{"a":"1","b":"2","d":"3"}`, `{"a":"1","b":R,"d":R}`},
		{"Pair", `["a","b"]`, `[R,R]`}, // rather one too many
		{"Whole", `{"a":1}`, `R`},
		{"Loop", `{"x":1,"y":[1.50,1e400,true,false,null,"\u00e9\n"]}`, `{"x":R,"y":[1.50,1e400,true,false,null,"é\u000a"]}`},
		{"Lost", `{"x":1,"y":2}`, `{"x":{"redacted":"schema"},"y":2}`},
		{"Dynamic", `{"x":1,"y":"2"}`, `{"x":{"redacted":"schema"},"y":"2"}`},
		{"Escaped~1na~0me", `{"x":1}`, `{"x":R}`},
		{"Nowhere", `{"x":1}`, `{"redacted":"schema"}`},
	} {
		got := string(r.json([]byte(c.document), []any{r.schemas.ref("#/$defs/" + c.ref)}, false))
		if want := strings.ReplaceAll(c.want, "R", `{"redacted":"writeOnly"}`); got != want {
			t.Errorf("%s: %s becomes %s", c.ref, c.document, got)
		}
	}
	// A contract whose schemas cannot be read says nothing about what is secret.
	broken := newRedactor(&fieldgate.Contract{Schemas: json.RawMessage(`{`)})
	if got := string(broken.json([]byte(`{"x":1}`), []any{broken.schemas.ref("#/$defs/Tree")}, false)); got != `{"redacted":"schema"}` {
		t.Errorf("got %s", got)
	}
}

// Content that cannot be read is left out, unless it is plainly of another kind.
func TestContentOfEveryKind(t *testing.T) {
	r := newRedactor(nil)
	jsonOperation := &fieldgate.Operation{Request: &fieldgate.Payload{Media: []fieldgate.MediaType{{Type: "application/json"}}}}
	other := &fieldgate.Operation{Request: &fieldgate.Payload{Media: []fieldgate.MediaType{{Type: "text/plain"}}}}
	for _, c := range []struct {
		name, mediaType, data, encoding string
		operation                       *fieldgate.Operation
		json, bytes, note               string
	}{
		{"JSON", "application/json", `{"a":1}`, "", jsonOperation, `{"a":1}`, "", ""},
		{"JSON that says it is text", "text/plain", `{"password":1}`, "", other, `{"password":{"redacted":"name"}}`, "", ""},
		{"broken JSON", "application/json; charset=utf-8", `{"password":"x"`, "", jsonOperation, "", "", noteMalformed},
		{"broken JSON that says it is text", "text/plain", ` {"password":"x"`, "", other, "", "", noteMalformed},
		{"broken JSON of no type", "", `"password":"x"`, "", jsonOperation, "", "", noteMalformed},
		{"lines of JSON", "application/x-ndjson", "{\"password\":1}\n{\"password\":2}\n", "", other, "", "", noteMalformed},
		{"CBOR", "application/cbor", "\xa1hpasswordax", "", jsonOperation, `{"password":{"redacted":"name"}}`, "", noteCBOR},
		{"CBOR of no type", "", "\xa1hpasswordax", "", jsonOperation, `{"password":{"redacted":"name"}}`, "", noteCBOR},
		{"broken CBOR", "application/senml+cbor", "\xa2hpasswordax", "", jsonOperation, "", "", noteMalformed},
		{"a form", "Application/X-WWW-Form-URLencoded", "a=1&password=x", "", other, "", "a=1&password=[redacted]", ""},
		{"JSON that says it is a form", "application/x-www-form-urlencoded", `{"password":"x"}`, "", other, `{"password":{"redacted":"name"}}`, "", ""},
		{"a form with parts", "multipart/form-data; boundary=b", "--b", "", other, "", "", noteForm},
		{"text", "text/plain", "21.5 degrees", "", other, "", "21.5 degrees", noteOpaque},
		{"bytes of no type", "", "\x00\xff", "", other, "", "\x00\xff", noteOpaque},
		{"compressed", "text/plain", "\x1f\x8b", "gzip", other, "", "", noteEncoded},
	} {
		from := &content{mediaType: c.mediaType}
		from.add([]byte(c.data))
		if c.encoding != "" {
			from.field([]byte("content-encoding"), []byte(c.encoding))
		}
		got := r.content(from, c.operation, nil, uint64(len(c.data)))
		if string(got.JSON) != c.json || string(got.Data) != c.bytes || got.Note != c.note {
			t.Errorf("%s: %s %q %q", c.name, got.JSON, got.Data, got.Note)
		}
	}
}

// Whatever surrounds it, a password in JSON does not come out, and what comes out is JSON within its bounds.
func FuzzRedaction(f *testing.F) {
	f.Add(`"x"`, "application/json")
	f.Add(`{"a":[1,{"b":null}]}`, "application/cbor")
	f.Add(`1},"b":{"c":"d"`, "")
	f.Add(`"\ud800"`, "text/plain")
	f.Add(secretSetting, "application/x-www-form-urlencoded")
	contract := &fieldgate.Contract{Schemas: json.RawMessage(schemasOfTest)}
	operation := &fieldgate.Operation{Request: &fieldgate.Payload{Media: []fieldgate.MediaType{{Type: "application/json", Schema: "#/$defs/Tree"}}}}
	f.Fuzz(func(t *testing.T, around, mediaType string) {
		r := newRedactor(contract)
		given := r.given(operation)
		const secret = "qzWvXk9ZpLr4"
		for _, document := range []string{around, `{"a":` + around + `,"password":"` + secret + `"}`, `{"hidden":["` + secret + `"],"a":` + around + `}`} {
			if strings.Contains(around, secret) {
				return
			}
			from := &content{mediaType: mediaType}
			from.add([]byte(document))
			got := r.content(from, operation, given, 0)
			if got.JSON != nil && (!json.Valid(got.JSON) || len(got.JSON) > maxRedacted) {
				t.Fatalf("%q becomes %q", document, got.JSON)
			}
			if got.JSON != nil && strings.Contains(string(got.JSON), secret) && json.Valid([]byte(document)) {
				t.Fatalf("%q comes out in %q", document, got.JSON)
			}
			if strings.Contains(string(got.Data), secret) {
				t.Fatalf("%q comes out in %q", document, got.Data)
			}
		}
	})
}
