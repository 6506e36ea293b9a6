package pipeline

import (
	"encoding/json"
	"net/netip"
	"testing"

	"fieldgate"
)

// OpenAPI 3.1 §4.8.14, RFC 9110 §12.5.1 and §12.5.5: an example is answered as content of its type, in the form that the caller likes best,
// and caches are told that Accept has decided.
func TestMockAnswers(t *testing.T) {
	example := func(mediaType, value string) fieldgate.MediaType {
		return fieldgate.MediaType{Type: mediaType, Example: json.RawMessage(value)}
	}
	operation := func(path string, media ...fieldgate.MediaType) fieldgate.Operation {
		return fieldgate.Operation{ID: path, Access: fieldgate.Access{Anonymous: true}, HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: path},
			Responses: []fieldgate.Response{{Status: "200", Media: media}}}
	}
	f := newFixture(t)
	program, err := Link(&fieldgate.Snapshot{Contracts: []*fieldgate.Contract{{API: "a", Version: "1", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{
			operation("/text", example("text/plain", `"on \"duty\"\n"`)),
			operation("/number", example("text/plain", `7.5`)),
			operation("/csv", example("text/csv", `"a,b\r\n"`)),
			operation("/json", example("application/json", `"on"`)),
			operation("/cbor", example("application/cbor", `{"n":1}`)),
			operation("/both", example("text/plain", `"seven"`), example("application/json", `{"n":7}`)),
		}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Install(program)
	for _, c := range []struct{ path, accept, mediaType, content, vary string }{
		{"/text", "", "text/plain", "on \"duty\"\n", ""},
		{"/number", "", "text/plain", "7.5", ""},
		{"/csv", "", "text/csv", "a,b\r\n", ""},
		{"/json", "", "application/json", `"on"`, "Vary: Accept\r\n"},
		{"/json", "*/*", "application/json", `"on"`, "Vary: Accept\r\n"},
		{"/json", "application/cbor", "application/cbor", "\x62on", "Vary: Accept\r\n"},
		{"/cbor", "", "application/cbor", "\xa1\x61n\x01", ""},
		{"/both", "", "text/plain", "seven", "Vary: Accept\r\n"},
		{"/both", "*/*", "text/plain", "seven", "Vary: Accept\r\n"},
		{"/both", "application/json, text/*;q=0.5", "application/json", `{"n":7}`, "Vary: Accept\r\n"},
		{"/both", "application/cbor", "application/cbor", "\xa1\x61n\x07", "Vary: Accept\r\n"},
	} {
		x := &Exchange{Protocol: fieldgate.ProtocolHTTP, Method: fieldgate.MethodGet, Path: []byte(c.path), Source: netip.MustParseAddrPort("127.0.0.1:9"), Fields: fields{}}
		if c.accept != "" {
			x.Fields = fields{"accept": c.accept}
		}
		if problem := f.do(x); problem != nil {
			t.Errorf("%s as %q: %v", c.path, c.accept, problem)
			continue
		}
		if got := string(x.AppendVersionFields(nil)); x.Answer.ContentType != c.mediaType || string(x.Answer.Body) != c.content || got != c.vary {
			t.Errorf("%s as %q: %s %q, %q", c.path, c.accept, x.Answer.ContentType, x.Answer.Body, got)
		}
	}
}

// Fields by which a version was chosen and the one by which the form was stand in one list, each once.
func TestVary(t *testing.T) {
	for _, c := range []struct {
		fields   string
		byAccept bool
		want     string
	}{
		{"", false, ""}, {"", true, "Vary: Accept\r\n"}, {"Api-Version", false, "Vary: Api-Version\r\n"}, {"Accept-Language", true, "Vary: Accept-Language, Accept\r\n"},
		{"Api-Version, Accept, Content-Type", true, "Vary: Api-Version, Accept, Content-Type\r\n"},
	} {
		x := &Exchange{Vary: c.fields}
		x.byAccept = c.byAccept
		if got := string(x.AppendVersionFields(nil)); got != c.want {
			t.Errorf("%q %v: %q", c.fields, c.byAccept, got)
		}
	}
	x, buffer := &Exchange{}, make([]byte, 0, 100)
	x.byAccept = true
	if n := testing.AllocsPerRun(100, func() { x.AppendVersionFields(buffer) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
