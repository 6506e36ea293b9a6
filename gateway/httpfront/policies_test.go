package httpfront

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/gateway/pipeline"
)

// newContracts serves contracts, as documents, in front of one service.
func newContracts(t testing.TB, service http.HandlerFunc, documents ...string) *gateway {
	t.Helper()
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	snapshot := &fieldgate.Snapshot{Version: 1}
	for i, document := range documents {
		compiled, diagnostics, err := contract.Compile(fmt.Sprintf("api-%d.yaml", i), []byte(document))
		if err != nil {
			t.Fatal(diagnostics)
		}
		snapshot.Contracts = append(snapshot.Contracts, compiled)
	}
	program, err := pipeline.Link(snapshot, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, server.URL, nil)
	g.pipeline.Install(program)
	return g
}

const policiesHead = `openapi: 3.1.0
info: {title: Things, version: 2.0.0}
x-fieldgate: {upstreams: {main: {ref: env/service}, other: {ref: env/dead}}, upstream: main}
security: []
paths:
`

// RFC 9111: a fresh answer is used again, a stale one is revalidated, and a change drops it.
func TestCache(t *testing.T) {
	var calls, revalidated atomic.Int32
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Vary", "X-Unit")
		switch r.URL.Query().Get("say") {
		case "no-store":
			w.Header().Set("Cache-Control", "no-store")
		case "no-cache":
			w.Header().Set("Cache-Control", "no-cache")
		case "short":
			w.Header().Set("Cache-Control", "max-age=0")
		}
		if r.Header.Get("If-None-Match") == `"v1"` {
			revalidated.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprintf(w, "answer %d in %s", calls.Load(), r.Header.Get("X-Unit"))
	}, policiesHead+`
  /things/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    get: {operationId: read, x-fieldgate: {policies: [{cache: {ttl: 1h, for: everyone}}]}, responses: {'200': {description: ok}}}
    put: {operationId: write, requestBody: {content: {text/plain: {}}}, responses: {'204': {description: ok}}}
`)
	get := func(path string, fields ...string) (status, body, cached string) {
		t.Helper()
		response, content := g.do(t, "GET", path, "", fields...)
		return response.Status[:3], content, response.Header.Get("Cache-Status")
	}
	if _, body, cached := get("/things/a"); body != "answer 1 in " || cached != "" {
		t.Fatalf("first: %q %q", body, cached)
	}
	if status, body, cached := get("/things/a"); status != "200" || body != "answer 1 in " || cached != "fieldgate; hit" {
		t.Errorf("again: %s %q %q", status, body, cached)
	}
	if status, body, _ := get("/things/a", "If-None-Match", `W/"v1", "v0"`); status != "304" || body != "" {
		t.Errorf("RFC 9110 §13.1.2: %s %q", status, body)
	}
	if _, body, _ := get("/things/a", "X-Unit", "F"); body != "answer 2 in F" {
		t.Errorf("RFC 9111 §4.1, Vary: %q", body)
	}
	if response, body := g.do(t, "HEAD", "/things/a", ""); response.Header.Get("ETag") != `"v1"` || body != "" || calls.Load() != 2 {
		t.Errorf("HEAD from the answer to GET: %v, %d calls", response.Header, calls.Load())
	}
	if _, body, _ := get("/things/a", "Cache-Control", "no-cache"); body != "answer 1 in " || revalidated.Load() != 1 {
		t.Errorf("RFC 9111 §5.2.1.4: %q, revalidated %d times", body, revalidated.Load())
	}
	if status, _, _ := get("/things/new", "Cache-Control", "only-if-cached"); status != "504" {
		t.Errorf("RFC 9111 §5.2.1.7: %s", status)
	}
	for _, said := range []string{"no-store", "short", "no-cache"} {
		before, seen := calls.Load(), revalidated.Load()
		get("/things/b?say=" + said)
		get("/things/b?say=" + said)
		if calls.Load() != before+2 || (revalidated.Load() > seen) != (said != "no-store") {
			t.Errorf("%s: %d calls, revalidated %v", said, calls.Load()-before, revalidated.Load() > seen)
		}
	}
	before := calls.Load()
	if response, _ := g.do(t, "PUT", "/things/a", "new", "Content-Type", "text/plain"); response.StatusCode != 200 {
		t.Fatal(response.Status)
	}
	if get("/things/a"); calls.Load() != before+2 {
		t.Error("RFC 9111 §4.4: a stored answer outlived a change")
	}
}

// An answer to one caller is not another's unless the contract says so.
func TestCacheOfCallers(t *testing.T) {
	var calls atomic.Int32
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		io.WriteString(w, r.Header.Get("Fieldgate-Principal"))
	}, policiesHead+`
  /mine:
    get: {operationId: read, x-fieldgate: {policies: [{cache: {ttl: 1h}}]}, responses: {'200': {description: ok}}}
`)
	for _, want := range []struct{ token, body string }{{g.token, "thermo-1"}, {"", ""}, {g.token, "thermo-1"}, {"", ""}} { // nobody cannot be told from nobody
		var fields []string
		if want.token != "" {
			fields = []string{"Authorization", "Bearer " + want.token}
		}
		if _, body := g.do(t, "GET", "/mine", "", fields...); body != want.body {
			t.Errorf("got %q, want %q", body, want.body)
		}
	}
	if calls.Load() != 3 {
		t.Errorf("%d calls", calls.Load())
	}
}

// WHATWG Fetch §3.2: preflights are answered without a credential, and refusals can be read by the page as well.
func TestCORS(t *testing.T) {
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://evil.example")
		io.WriteString(w, "ok")
	}, strings.Replace(policiesHead, "security: []", "security: [{token: []}]\ncomponents: {securitySchemes: {token: {type: http, scheme: bearer}}}", 1)+`
  /things:
    get: {operationId: read, x-fieldgate: {policies: [{cors: {origins: ['https://app.example'], headers: [X-Unit], credentials: true, max-age: 10m}}]}, responses: {'200': {description: ok}}}
  /closed:
    get: {operationId: closed, responses: {'200': {description: ok}}}
`)
	preflight := func(origin, path string) *http.Response {
		response, _ := g.do(t, "OPTIONS", path, "", "Origin", origin, "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "x-unit")
		return response
	}
	r := preflight("https://app.example", "/things")
	if h := r.Header; r.StatusCode != 204 || h.Get("Access-Control-Allow-Origin") != "https://app.example" || h.Get("Access-Control-Allow-Methods") != "GET" ||
		!strings.Contains(strings.ToLower(h.Get("Access-Control-Allow-Headers")), "x-unit") || h.Get("Access-Control-Max-Age") != "600" || h.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("preflight: %s %v", r.Status, h)
	}
	if r = preflight("https://other.example", "/things"); r.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin: %v", r.Header)
	}
	if r = preflight("https://app.example", "/closed"); r.StatusCode != 405 {
		t.Errorf("no policy: %s", r.Status)
	}
	r, _ = g.do(t, "GET", "/things", "", "Origin", "https://app.example")
	if r.StatusCode != 401 || r.Header.Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Errorf("refusal: %s %v", r.Status, r.Header)
	}
	r, _ = g.do(t, "GET", "/things", "", "Origin", "https://app.example", "Authorization", "Bearer "+g.token)
	if got := r.Header.Values("Access-Control-Allow-Origin"); r.StatusCode != 200 || len(got) != 1 || got[0] != "https://app.example" {
		t.Errorf("answer: %s %v", r.Status, r.Header)
	}
}

// draft-ietf-httpapi-idempotency-key-header-07
func TestIdempotencyKeys(t *testing.T) {
	var calls atomic.Int32
	release := make(chan struct{})
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		if r.URL.Path == "/slow" {
			<-release
		}
		if n == 1 && r.URL.Path == "/commands" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "done %d %s", n, r.Header.Get("Idempotency-Key"))
	}, policiesHead+`
  /commands:
    post: {operationId: command, requestBody: {content: {text/plain: {}}}, x-fieldgate: {policies: [{idempotency: {required: true}}]}, responses: {'201': {description: ok}}}
  /slow:
    post: {operationId: slow, requestBody: {content: {text/plain: {}}}, x-fieldgate: {policies: [{idempotency: {}}]}, responses: {'201': {description: ok}}}
`)
	post := func(path, key, body string) (int, string, string) {
		fields := []string{"Content-Type", "text/plain"}
		if key != "" {
			fields = append(fields, "Idempotency-Key", key)
		}
		r, content := g.do(t, "POST", path, body, fields...)
		return r.StatusCode, content, r.Header.Get("Idempotent-Replayed")
	}
	if status, body, _ := post("/commands", "", "open"); status != 400 || !strings.Contains(body, "idempotency-key") {
		t.Errorf("no key: %d %s", status, body)
	}
	if status, _, _ := post("/commands", "k1", "open"); status != 503 {
		t.Errorf("a failure of the service: %d", status)
	}
	if status, body, replayed := post("/commands", "k1", "open"); status != 201 || body != "done 2 k1" || replayed != "" {
		t.Errorf("tried again after a failure: %d %q %q", status, body, replayed)
	}
	if status, body, replayed := post("/commands", "k1", "open"); status != 201 || body != "done 2 k1" || replayed != "true" {
		t.Errorf("sent again: %d %q %q", status, body, replayed)
	}
	if status, body, _ := post("/commands", "k1", "close"); status != 422 || !strings.Contains(body, "key-reused") {
		t.Errorf("another command with the key: %d %s", status, body)
	}
	var first sync.WaitGroup
	first.Go(func() { post("/slow", "k2", "open") })
	for deadline := time.Now().Add(time.Minute); calls.Load() < 3 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	if status, body, _ := post("/slow", "k2", "open"); status != 409 || !strings.Contains(body, "command-running") {
		t.Errorf("under way: %d %s", status, body)
	}
	close(release)
	first.Wait()
	if calls.Load() != 3 {
		t.Errorf("the service was called %d times", calls.Load())
	}
}

func TestTransform(t *testing.T) {
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Secret", "inner")
		w.Header().Set("ETag", `"inner"`)
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"got": string(content), "tenant": r.Header.Get("X-Tenant"), "agent": r.Header.Get("User-Agent"), "list": []int{1, 2}})
	}, policiesHead+`
  /things/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    post:
      operationId: write
      requestBody: {content: {application/json: {schema: {type: object}}}}
      x-fieldgate:
        policies:
          - request: {set: {X-Tenant: '"t-" + path.id'}, remove: [User-Agent], body: '{"celsius": (double(body.fahrenheit) - 32.0) / 1.8, "by": principal.kind}'}
          - response: {set: {X-Count: size(body.list)}, remove: [X-Secret], body: '{"inner": body, "status": status}'}
      responses: {'200': {description: ok}}
`)
	r, body := g.do(t, "POST", "/things/7", `{"fahrenheit": 212}`, "Content-Type", "application/json")
	var got struct {
		Status int
		Inner  struct{ Got, Tenant, Agent string }
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err, body)
	}
	if got.Status != 200 || got.Inner.Tenant != "t-7" || got.Inner.Agent != "" || (got.Inner.Got != `{"celsius":100,"by":"anonymous"}` && got.Inner.Got != `{"by":"anonymous","celsius":100}`) {
		t.Errorf("%s", body)
	}
	if r.Header.Get("X-Count") != "2" || r.Header.Get("X-Secret") != "" || r.Header.Get("ETag") != "" {
		t.Errorf("%v", r.Header)
	}
	r, body = g.do(t, "POST", "/things/7", `{"kelvin": 212}`, "Content-Type", "application/json")
	if record := g.records.next(t, 1); r.StatusCode != 500 || !strings.Contains(record.Detail, "no such key: fahrenheit") || strings.Contains(body, "fahrenheit") {
		t.Errorf("an expression that fails: %s %s, record %q", r.Status, body, record.Detail)
	}
}

func TestRedirect(t *testing.T) {
	g := newContracts(t, nil, policiesHead+`
  /v1/things/{id}:
    get:
      operationId: old
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
      x-fieldgate: {policies: [{redirect: {to: '/v2/things/{id}'}}]}
      responses: {'308': {description: moved}}
`)
	r, _ := g.do(t, "GET", "/v1/things/a%20b?x=1", "")
	if r.StatusCode != 308 || r.Header.Get("Location") != "/v2/things/a%20b?x=1" {
		t.Errorf("%s %v", r.Status, r.Header)
	}
}

// RFC 9745, RFC 8594, RFC 5829: callers of a version on its way out are told since when, until when, and what follows.
func TestDeprecatedVersion(t *testing.T) {
	const path = `
  /%s/things/{id}:
    get:
      operationId: read
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
      responses: {'200': {description: ok}}
`
	old := strings.Replace(policiesHead, "version: 2.0.0", "version: 1.0.0", 1)
	old = strings.Replace(old, "x-fieldgate: {", "x-fieldgate: {lifecycle: {state: deprecated, deprecated: 2026-01-01, sunset: 2027-06-30, successor: 2.0.0}, ", 1)
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {}, old+fmt.Sprintf(path, "v1"), policiesHead+fmt.Sprintf(path, "v2"))
	r, _ := g.do(t, "GET", "/v1/things/7", "")
	if h := r.Header; h.Get("Deprecation") != "@1767225600" || h.Get("Sunset") != "Wed, 30 Jun 2027 00:00:00 GMT" || h.Get("Link") != `</v2/things/7>; rel="successor-version"` {
		t.Errorf("%v", h)
	}
	if r, _ = g.do(t, "GET", "/v2/things/7", ""); r.Header.Get("Deprecation") != "" || r.Header.Get("Link") != "" {
		t.Errorf("the new version: %v", r.Header)
	}
}

func TestCanary(t *testing.T) {
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {}, policiesHead+`
  /by-header:
    get: {operationId: h, x-fieldgate: {policies: [{canary: {upstream: other, header: {X-Canary: 'yes'}}}]}, responses: {'200': {description: ok}}}
  /by-model:
    get: {operationId: m, x-fieldgate: {policies: [{canary: {upstream: other, models: ['T*']}}]}, responses: {'200': {description: ok}}}
  /nobody:
    get: {operationId: n, x-fieldgate: {policies: [{canary: {upstream: other, percent: 0}}]}, responses: {'200': {description: ok}}}
`)
	device := []string{"Authorization", "Bearer " + g.token}
	for _, test := range []struct {
		path   string
		fields []string
		want   int // 502: it went to the other upstream, which is dead
	}{
		{"/by-header", nil, 200}, {"/by-header", []string{"X-Canary", "yes"}, 502}, {"/by-header", []string{"X-Canary", "no"}, 200},
		{"/by-model", nil, 200}, {"/by-model", device, 502}, {"/nobody", device, 200},
	} {
		if r, _ := g.do(t, "GET", test.path, "", test.fields...); r.StatusCode != test.want {
			t.Errorf("%s %v: %s", test.path, test.fields, r.Status)
		}
	}
}

// A mirror hears a copy of each request, and nobody waits for what it says.
func TestMirror(t *testing.T) {
	heard := make(chan string, 4)
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		heard <- r.Method + " " + r.RequestURI + " " + string(content) + " " + r.Header.Get("X-Unit")
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(mirror.Close)
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "original") }, policiesHead+`
  /things/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    get: {operationId: read, x-fieldgate: {policies: [{mirror: {upstream: other}}]}, responses: {'200': {description: ok}}}
    post: {operationId: write, requestBody: {content: {text/plain: {}}}, x-fieldgate: {policies: [{mirror: {upstream: other}}]}, responses: {'200': {description: ok}}}
`)
	g.replaceUpstream(t, "dead", mirror.URL)
	for _, test := range []struct{ method, body, want string }{{"GET", "", "GET /things/7?a=b  F"}, {"POST", "content", "POST /things/7?a=b content F"}} {
		if r, body := g.do(t, test.method, "/things/7?a=b", test.body, "X-Unit", "F", "Content-Type", "text/plain"); r.StatusCode != 200 || body != "original" {
			t.Errorf("%s: %s %q", test.method, r.Status, body)
		}
		select {
		case got := <-heard:
			if got != test.want {
				t.Errorf("the mirror heard %q, not %q", got, test.want)
			}
		case <-time.After(time.Minute):
			t.Fatal("the mirror heard nothing")
		}
	}
}

// replaceUpstream gives an upstream another address.
func (g *gateway) replaceUpstream(t *testing.T, name, address string) {
	t.Helper()
	var configs []fieldgate.Upstream
	for _, other := range []string{"service", "dead"} {
		config := g.pipeline.Upstreams.Upstream(other).Config
		if other == name {
			config.Addresses = []string{address}
		}
		configs = append(configs, config)
	}
	if err := g.pipeline.Upstreams.Replace(configs); err != nil {
		t.Fatal(err)
	}
}

// Answers that are checked and passed whatever comes of it are streamed; of one that is too large to be checked the Record says so. One
// that has to be right before it passes must be small enough.
func TestCheckOfLargeAnswers(t *testing.T) {
	sizes := map[string]int{"small": 10, "large": 5 << 20}
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			t.Error("the answer may come compressed")
		}
		w.Header().Set("Content-Type", "application/json")
		text := `"` + strings.Repeat("a", sizes[r.URL.Query().Get("size")]) + `"`
		if r.URL.Query().Has("chunked") {
			w.(http.Flusher).Flush()
		}
		io.WriteString(w, text)
	}, policiesHead+`
  /report:
    get: {operationId: report, x-fieldgate: {check-answers: report}, responses: {'200': {description: ok, content: {application/json: {schema: {type: integer}}}}}}
  /right:
    get: {operationId: right, x-fieldgate: {check-answers: report}, responses: {'200': {description: ok, content: {application/json: {schema: {type: string}}}}}}
  /enforce:
    get: {operationId: enforce, x-fieldgate: {check-answers: enforce}, responses: {'200': {description: ok, content: {application/json: {schema: {type: string}}}}}}
`)
	for i, c := range []struct {
		target   string
		status   int
		length   int
		detail   string
		findings fieldgate.Findings
	}{
		{"/report?size=small", 200, 12, "answer 200: /type", fieldgate.FindingInvalidResponse},
		{"/report?size=small&chunked", 200, 12, "answer 200: /type", fieldgate.FindingInvalidResponse},
		{"/right?size=small", 200, 12, "", 0},
		{"/report?size=large", 200, 5<<20 + 2, "answer 200: too large to be checked", 0},
		{"/report?size=large&chunked", 200, 5<<20 + 2, "answer 200: too large to be checked", 0},
		{"/enforce?size=small", 200, 12, "", 0},
		{"/enforce?size=large", 502, 0, "", fieldgate.FindingUpstream},
	} {
		r, body := g.do(t, "GET", c.target, "", "Accept-Encoding", "gzip")
		record := g.records.next(t, i)
		if r.StatusCode != c.status || c.length > 0 && len(body) != c.length || record.Detail != c.detail || record.Findings != c.findings {
			t.Errorf("%s: %s, %d bytes, %q %v", c.target, r.Status, len(body), record.Detail, record.Findings.Names())
		}
	}
}
