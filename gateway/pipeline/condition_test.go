package pipeline

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"fieldgate"
)

// anonymous is an operation that everybody may call, answered by the mock.
func anonymous(id string, method fieldgate.Method, path string, conditions ...fieldgate.Condition) fieldgate.Operation {
	return fieldgate.Operation{ID: id, MaxBody: 1 << 20, Timeout: time.Second, OnInvalid: fieldgate.InvalidReject,
		Access: fieldgate.Access{Anonymous: true}, Responses: []fieldgate.Response{{Status: "204"}},
		HTTP: &fieldgate.HTTPBinding{Method: method, Path: path, Conditions: conditions}}
}

func served(api, version string, operations ...fieldgate.Operation) *fieldgate.Contract {
	return &fieldgate.Contract{API: api, Version: version, Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive, Operations: operations}
}

func field(name, value string) fieldgate.Condition {
	return fieldgate.Condition{Field: name, Value: value}
}
func media(t string) fieldgate.Condition { return fieldgate.Condition{MediaType: t} }

func (f *fixture) serve(t testing.TB, contracts ...*fieldgate.Contract) {
	t.Helper()
	program, err := Link(&fieldgate.Snapshot{Version: 2, Contracts: contracts}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Install(program)
}

func TestConditions(t *testing.T) {
	f := newFixture(t)
	get, post := fieldgate.MethodGet, fieldgate.MethodPost
	const v1, v2 = "application/vnd.a.v1+json", "application/vnd.a.v2+json"
	f.serve(t,
		served("h", "1", anonymous("h1", get, "/h/{id}", field("api-version", "1"))),
		served("h", "2", anonymous("h2", get, "/h/{key}", field("api-version", "2")), anonymous("h2eu", get, "/h/{key}", field("api-version", "2"), field("x-region", "eu"))),
		served("rest", "1", anonymous("r1", get, "/r", field("api-version", "1")), anonymous("rest", get, "/r")),
		served("m", "1", anonymous("m1", get, "/m", media(v1)), anonymous("m2", get, "/m", media(v2)), anonymous("p1", post, "/m", media(v1)), anonymous("p2", post, "/m", media(v2))),
		served("both", "1", anonymous("b", get, "/b", field("api-version", "1"), media(v1))),
	)
	for _, c := range []struct {
		path   string
		post   string // content type
		fields fields
		want   string // operation, or problem
		vary   string
	}{
		{"/h/7", "", fields{"api-version": "1"}, "h1", "Api-Version, X-Region"},
		{"/h/7", "", fields{"api-version": "2"}, "h2", "Api-Version, X-Region"},
		{"/h/7", "", fields{"api-version": "2", "x-region": "eu"}, "h2eu", "Api-Version, X-Region"},
		{"/h/7", "", fields{"api-version": "2", "x-region": "us"}, "h2", "Api-Version, X-Region"}, // the most demanding does not hold
		{"/h/7", "", fields{"api-version": "3"}, "not-found", "Api-Version, X-Region"},
		{"/h/7", "", fields{"api-version": "1, 2"}, "not-found", "Api-Version, X-Region"}, // two lines are one list
		{"/h/7", "", nil, "not-found", "Api-Version, X-Region"},
		{"/r", "", fields{"api-version": "1"}, "r1", "Api-Version"},
		{"/r", "", fields{"api-version": "9"}, "rest", "Api-Version"},
		{"/r", "", nil, "rest", "Api-Version"},
		{"/m", "", fields{"accept": v1}, "m1", "Accept, Content-Type"},
		{"/m", "", fields{"accept": v1 + ";q=0.4, " + v2 + ";q=0.5"}, "m2", "Accept, Content-Type"}, // RFC 9110 §12.4.2
		{"/m", "", fields{"accept": "*/*, " + v2}, "m2", "Accept, Content-Type"},
		{"/m", "", fields{"accept": v1 + ";q=0, " + v2 + ";q=0.001"}, "m2", "Accept, Content-Type"}, // 0 is "not acceptable"
		{"/m", "", fields{"accept": "Application/VND.a.V2+json;x=\"a,b\";q=1.000"}, "m2", "Accept, Content-Type"},
		{"/m", "", fields{"accept": v1 + ";q=0"}, "not-acceptable", "Accept, Content-Type"},
		{"/m", "", fields{"accept": "*/*"}, "not-acceptable", "Accept, Content-Type"}, // names neither
		{"/m", "", nil, "not-acceptable", "Accept, Content-Type"},
		{"/m", v2 + "; charset=utf-8", fields{"accept": v1}, "p2", "Accept, Content-Type"}, // the content's own type counts first
		{"/m", "application/json", fields{"accept": v1}, "p1", "Accept, Content-Type"},
		{"/b", "", fields{"accept": v1}, "not-found", "Api-Version, Accept, Content-Type"},
		{"/b", "", fields{"accept": v1, "api-version": "1"}, "b", "Api-Version, Accept, Content-Type"},
	} {
		x := f.http(get, c.path, "", "")
		if c.post != "" {
			x.Method, x.ContentType = post, []byte(c.post)
		}
		if c.fields != nil {
			x.Fields = c.fields
		}
		got := ""
		if problem := f.Begin(x); problem != nil {
			got = string(problem.Code)
		} else {
			got = x.Operation.ID
		}
		f.Finish(x)
		if got != c.want || x.Vary != c.vary {
			t.Errorf("%s %v %q: %s, Vary %q; want %s, %q", c.path, c.fields, c.post, got, x.Vary, c.want, c.vary)
		}
	}
	if line := string((&Exchange{Vary: "Api-Version"}).AppendVersionFields(nil)); line != "Vary: Api-Version\r\n" {
		t.Errorf("%q", line)
	}
}

// What collides without conditions collides with equal ones; a retired version gives way.
func TestConditionConflicts(t *testing.T) {
	get := fieldgate.MethodGet
	one, two := served("one", "1", anonymous("a", get, "/x", field("v", "1"))), served("two", "1", anonymous("b", get, "/x", field("v", "1")))
	if _, err := Link(&fieldgate.Snapshot{Contracts: []*fieldgate.Contract{one, two}}, nil); err == nil {
		t.Error("one route, two operations")
	}
	one.State = fieldgate.LifecycleRetired
	for _, order := range [][]*fieldgate.Contract{{one, two}, {two, one}} {
		f := newFixture(t)
		f.serve(t, order...)
		x := f.http(get, "/x", "", "")
		x.Fields = fields{"v": "1"}
		if problem := f.do(x); problem != nil || x.Operation.ID != "b" {
			t.Errorf("%v", problem)
		}
	}
}

func TestAffixes(t *testing.T) {
	f := newFixture(t)
	get := fieldgate.MethodGet
	var operations []fieldgate.Operation
	for _, path := range []string{"/f/{id}", "/f/{id}.json", "/f/{id}.min.json", "/f/report-{id}", "/f/report-{id}.json", "/f/all.json", "/f/{id}:cancel/now"} {
		o := anonymous(fmt.Sprint("o", len(operations)), get, path)
		o.Parameters = []fieldgate.Parameter{{Name: "id", In: fieldgate.InPath}}
		operations = append(operations, o)
	}
	f.serve(t, served("f", "1", operations...))
	for path, want := range map[string]string{
		"/f/7":                 "/f/{id} 7",
		"/f/7.json":            "/f/{id}.json 7",
		"/f/.json":             "/f/{id} .json", // nothing is left for the value
		"/f/7.min.json":        "/f/{id}.min.json 7",
		"/f/all.json":          "/f/all.json ",
		"/f/report-7":          "/f/report-{id} 7",
		"/f/report-7.json":     "/f/report-{id}.json 7",
		"/f/report-.json":      "/f/report-{id} .json", // the longer text counts
		"/f/a%2Eb.json":        "/f/{id}.json a.b",
		"/f/7:cancel/now":      "/f/{id}:cancel/now 7",
		"/f/7:cancel":          "/f/{id} 7:cancel",
		"/f/a.json.json":       "/f/{id}.json a.json",
		"/f/report-/x":         "",
		"/f/report-7.min.json": "/f/report-{id}.json 7.min", // as much text; the one with more before the parameter
	} {
		x := f.http(get, path, "", "")
		got := ""
		if problem := f.Begin(x); problem == nil {
			got = x.Operation.HTTP.Path + " " + string(x.Value(0))
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// However many routes there are, and whatever tells them apart, finding one costs the same and no memory.
func BenchmarkRoutes(b *testing.B) {
	get := fieldgate.MethodGet
	sorts := map[string]func(i int) fieldgate.Operation{
		"literal": func(i int) fieldgate.Operation { return anonymous(fmt.Sprint(i), get, fmt.Sprintf("/r%d/{id}/x", i)) },
		"affix": func(i int) fieldgate.Operation {
			return anonymous(fmt.Sprint(i), get, fmt.Sprintf("/r-%04d-{id}.json/x", i))
		},
		"condition": func(i int) fieldgate.Operation {
			return anonymous(fmt.Sprint(i), get, "/r/7/x", field("v", fmt.Sprint(i)))
		},
	}
	paths := map[string]string{"literal": "/r5/7/x", "affix": "/r-0005-7.json/x", "condition": "/r/7/x"}
	for name, operation := range sorts {
		for _, count := range []int{10, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", name, count), func(b *testing.B) {
				f := newFixture(b)
				var operations []fieldgate.Operation
				for i := range count {
					operations = append(operations, operation(i))
				}
				f.serve(b, served("r", "1", operations...))
				x, path, asked := new(Exchange), []byte(paths[name]), FieldSource(oneField("5"))
				b.ReportAllocs()
				for b.Loop() {
					x.Protocol, x.Method, x.Path, x.Fields, x.program = fieldgate.ProtocolHTTP, get, path, asked, f.Program()
					if problem := f.match(x); problem != nil {
						b.Fatal(problem)
					}
				}
			})
		}
	}
}

// oneField is a request with the same value in every field.
type oneField []byte

func (f oneField) Field(string) ([]byte, bool) { return f, true }

func TestNegotiation(t *testing.T) {
	f := newFixture(t)
	answers := func(id, path string, types ...string) fieldgate.Operation {
		o := anonymous(id, fieldgate.MethodGet, path)
		o.Responses = []fieldgate.Response{{Status: "404", Media: []fieldgate.MediaType{{Type: "text/html"}}}, {Status: "200"}}
		for _, one := range types {
			o.Responses[1].Media = append(o.Responses[1].Media, fieldgate.MediaType{Type: one, Example: json.RawMessage(`{"n":1}`)})
		}
		return o
	}
	f.serve(t, served("n", "1", answers("json", "/json", "application/json"), answers("image", "/image", "image/png", "image/webp"),
		answers("any", "/any", "*/*"), answers("none", "/none")))
	for _, c := range []struct{ path, accept, want string }{ // RFC 9110 §12.5.1
		{"/json", "", "200 application/json"},
		{"/json", "*/*", "200 application/json"},
		{"/json", "application/*;q=0.1", "200 application/json"},
		{"/json", "text/html, application/json;charset=utf-8", "200 application/json"},
		{"/json", "text/html", "406"},
		{"/json", "application/json;q=0, */*", "200 application/cbor"}, // the most specific range counts
		{"/json", "application/json;q=0", "406"},
		{"/json", "application/cbor", "200 application/cbor"},
		{"/json", "*/*;q=0", "406"},
		{"/json", "application/json;q=nonsense", "406"},
		{"/image", "image/*, image/png;q=0", "200 image/webp"},
		{"/image", "image/gif", "406"},
		{"/image", "application/cbor", "406"},
		{"/any", "image/gif", "200 */*"},
		{"/none", "image/gif", "200 "},
	} {
		x := f.http(fieldgate.MethodGet, c.path, "", "")
		x.Fields = fields{}
		if c.accept != "" {
			x.Fields = fields{"accept": c.accept}
		}
		got := ""
		if problem := f.do(x); problem != nil {
			got = fmt.Sprint(problem.Status())
		} else {
			got = fmt.Sprint(x.Answer.Status, " ", x.Answer.ContentType)
		}
		if got != c.want {
			t.Errorf("%s Accept: %s: %s, want %s", c.path, c.accept, got, c.want)
		}
		if vary := string(x.AppendVersionFields(nil)); (vary == "Vary: Accept\r\n") != (c.path == "/json" || c.path == "/image") {
			t.Errorf("%s Accept: %s: %q", c.path, c.accept, vary)
		}
		if x.Answer.ContentType == cborType && string(x.Answer.Body) != "\xa1an\x01" {
			t.Errorf("%s Accept: %s: %x", c.path, c.accept, x.Answer.Body)
		}
	}
}
