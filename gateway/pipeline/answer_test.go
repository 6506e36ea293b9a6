package pipeline

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/upstream"
)

const answerSchemas = `{"$defs":{
	"A":{"type":"object","required":["n"],"properties":{"n":{"type":"integer","maximum":9,"x-cbor-key":1}}},
	"E":{"type":"object","required":["error"]},
	"text":{"type":"string","maxLength":3},
	"count":{"type":"integer","minimum":1},
	"list":{"type":"array","items":{"type":"integer"}}}}`

// answering is a fixture whose service answers what the test says, and whose contract checks it.
func answering(t *testing.T, check fieldgate.AnswerCheck, answer func(http.ResponseWriter)) *fixture {
	t.Helper()
	f := newFixture(t)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w) }))
	t.Cleanup(service.Close)
	set, err := upstream.NewSet([]fieldgate.Upstream{{Name: "answers", Addresses: []string{service.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	f.Upstreams = set
	o := anonymous("o", fieldgate.MethodGet, "/a")
	o.CoAP = &fieldgate.CoAPBinding{Method: fieldgate.MethodGet, Path: "/a"}
	o.Upstream = "answers"
	o.Policies = &fieldgate.Policies{Answers: check}
	o.Responses = []fieldgate.Response{
		{Status: "200", Media: []fieldgate.MediaType{{Type: "application/json", Schema: "#/$defs/A"}, {Type: "text/plain", Schema: "#/$defs/text"}},
			Headers: []fieldgate.Parameter{{Name: "X-Count", In: fieldgate.InHeader, Required: true, Schema: "#/$defs/count"},
				{Name: "X-List", In: fieldgate.InHeader, Schema: "#/$defs/list"}}},
		{Status: "204"},
		{Status: "2XX", Media: []fieldgate.MediaType{{Type: "application/json", Schema: "#/$defs/list"}}},
		{Status: "4XX", Media: []fieldgate.MediaType{{Type: "application/json", Schema: "#/$defs/E"}}},
		{Status: "409"},
	}
	k := served("a", "1", o)
	k.Schemas = json.RawMessage(answerSchemas)
	f.serve(t, k)
	return f
}

func TestAnswersAreChecked(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		fields string // name: value, separated by |
		body   string
		want   string // what the Record says; empty: nothing
	}{
		{"valid", 200, "Content-Type: application/json|X-Count: 1", `{"n":7}`, ""},
		{"valid with parameters", 200, "Content-Type: application/json; charset=utf-8|X-Count: 1|X-List: 1, 2", `{"n":7}`, ""},
		{"CBOR by the schema for JSON", 200, "Content-Type: application/cbor|X-Count: 1", "\xa1\x01\x07", ""},
		{"CBOR, wrong", 200, "Content-Type: application/cbor|X-Count: 1", "\xa1\x01\x0a", "answer 200: /n /properties/n/maximum"},
		{"wrong member", 200, "Content-Type: application/json|X-Count: 1", `{"n":10}`, "answer 200: /n /properties/n/maximum"},
		{"no JSON", 200, "Content-Type: application/json|X-Count: 1", `<html>`, "answer 200: syntax"},
		{"another type", 200, "Content-Type: text/html|X-Count: 1", `<html>`, "answer 200: the contract has no such content type"},
		{"no type", 200, "Content-Type: |X-Count: 1", `{"n":7}`, "answer 200: the content type is missing"},
		{"no content", 200, "Content-Type: application/json|X-Count: 1", ``, "answer 200: the content is missing"},
		{"text", 200, "Content-Type: text/plain; charset=utf-8|X-Count: 1", `abc`, ""},
		{"text in another charset", 200, "Content-Type: text/plain; charset=latin1|X-Count: 1", `abc`, "answer 200: The parameters of the content type"},
		{"long text", 200, "Content-Type: text/plain|X-Count: 1", `abcd`, "answer 200: /maxLength"},
		{"field missing", 200, "Content-Type: application/json", `{"n":7}`, "answer 200: the field X-Count is missing"},
		{"field out of bounds", 200, "Content-Type: application/json|X-Count: 0", `{"n":7}`, "answer 200: field X-Count: /minimum"},
		{"list in a field", 200, "Content-Type: application/json|X-Count: 1|X-List: 1|X-List: x", `{"n":7}`, "answer 200: field X-List: /1 /items/type"},
		{"encoded", 200, "Content-Type: application/json|X-Count: 1|Content-Encoding: gzip", `{"n":7}`, "answer 200: the content is encoded"},
		{"range of statuses", 206, "Content-Type: application/json", `[1]`, ""},
		{"range of statuses, wrong", 206, "Content-Type: application/json", `{}`, "answer 206: /type"},
		{"exactly before range", 204, "", "", ""},
		{"an error as described", 404, "Content-Type: application/json", `{"error":1}`, ""},
		{"an error that is not", 404, "Content-Type: application/json", `{}`, "answer 404: /required"},
		{"content that is not described", 409, "Content-Type: text/html", `<html>`, ""},
		{"undeclared status", 500, "Content-Type: application/json", `{}`, "answer 500: the contract has no such status"},
		{"undeclared status of the secret", 302, "Location: http://10.0.0.7/", ``, "answer 302: the contract has no such status"},
		{"not modified", 304, "", "", ""}, // RFC 9110 §15.4.5
	} {
		for _, check := range []fieldgate.AnswerCheck{fieldgate.AnswersReported, fieldgate.AnswersEnforced} {
			t.Run(c.name+" "+string(check), func(t *testing.T) {
				f := answering(t, check, func(w http.ResponseWriter) {
					for line := range strings.SplitSeq(c.fields, "|") {
						if name, value, ok := strings.Cut(line, ": "); ok && value == "" {
							w.Header()[name] = nil
						} else if ok {
							w.Header().Add(name, value)
						}
					}
					w.WriteHeader(c.status)
					w.Write([]byte(c.body))
				})
				x := f.http(fieldgate.MethodGet, "/a", "", "")
				problem := f.do(x)
				r := f.records.last()
				found := r.Findings&fieldgate.FindingInvalidResponse != 0
				if !strings.HasPrefix(r.Detail, c.want) || (c.want == "") != (r.Detail == "") || found != (c.want != "") {
					t.Fatalf("record %q %v, want %q", r.Detail, r.Findings.Names(), c.want)
				}
				if c.want == "" || check == fieldgate.AnswersReported {
					if problem != nil || x.Answer.Status != c.status || string(x.Answer.Body) != c.body {
						t.Errorf("the caller got %d %s %v", x.Answer.Status, x.Answer.Body, problem)
					}
					return
				}
				if problem == nil || problem.Code != fieldgate.ProblemUpstreamInvalid || x.Answer.Body != nil || r.Rule != "answer" {
					t.Fatalf("%v, answer %+v, rule %q", problem, x.Answer, r.Rule)
				}
				// What the service said, and where it is wrong, stays here.
				if told := string(problem.AppendJSON(nil, "i")); strings.Contains(told, "pointer") || strings.Contains(told, "10.0.0.7") || strings.Contains(told, "maximum") {
					t.Errorf("the caller is told %s", told)
				}
			})
		}
	}
}

// Constrained callers get the contract's keys.
func TestAnswerSchema(t *testing.T) {
	f := answering(t, fieldgate.AnswersUnchecked, func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("ETag", `"1"`)
		w.Write([]byte(`{"n":7}`))
	})
	x := f.http(fieldgate.MethodGet, "/a", "", "")
	x.Fields = fields{"accept": "application/cbor"}
	if problem := f.do(x); problem != nil {
		t.Fatal(problem)
	}
	if got := string(x.Answer.Body); got != "\xa1\x01\x07" || x.Answer.ContentType != cborType || x.Answer.ETag != "" || !x.byAccept || !x.NeedsWholeAnswer() || !x.Buffered() {
		t.Errorf("%x %+v", got, x.Answer)
	}
	x = f.http(fieldgate.MethodGet, "/a", "", "")
	x.Protocol = fieldgate.ProtocolCoAP
	if problem := f.do(x); problem != nil {
		t.Fatal(problem)
	}
	if got, err := schema.CBORFromJSON(nil, x.Answer.Body, x.AnswerSchema()); err != nil || string(got) != "\xa1\x01\x07" {
		t.Errorf("%x %v", got, err)
	}
}
