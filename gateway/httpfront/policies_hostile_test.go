package httpfront

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const cachedThing = `
  /thing:
    get: {operationId: read, x-fieldgate: {policies: [{cache: {ttl: 1h, for: everyone}}]}, responses: {'200': {description: ok}}}
`

// Nobody can make the cache give others what only his own request asked for (RFC 9111 section 7.1). Each case sends a request of the
// attacker to a service that heeds it, then the request of everybody else.
func TestCachePoisoning(t *testing.T) {
	for _, test := range []struct{ clause, request, path string }{
		{"§2, another authority", "GET /thing HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "/thing"},
		{"§2, another port", "GET /thing HTTP/1.1\r\nHost: gateway:666\r\nConnection: close\r\n\r\n", "/thing"},
		{"§3.5, a credential that the service is given", "GET /thing HTTP/1.1\r\nHost: gateway\r\nAuthorization: secret\r\nConnection: close\r\n\r\n", "/thing"},
		{"RFC 9110 §9.3.1, content of a GET", "GET /thing HTTP/1.1\r\nHost: gateway\r\nContent-Length: 4\r\nConnection: close\r\n\r\nevil", "/thing"},
		{"content of a GET in pieces", "GET /thing HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nevil\r\n0\r\n\r\n", "/thing"},
		{"another method", "GET /thing HTTP/1.1\r\nHost: gateway\r\nX-HTTP-Method-Override: DELETE\r\nConnection: close\r\n\r\n", "/thing"},
		{"another path", "GET /thing HTTP/1.1\r\nHost: gateway\r\nX-Original-URL: /evil\r\nConnection: close\r\n\r\n", "/thing"},
		{"§3.1, a range that is none", "GET /thing HTTP/1.1\r\nHost: gateway\r\nRange: bytes=9-1\r\nConnection: close\r\n\r\n", "/thing"},
		{"a precondition", "GET /thing HTTP/1.1\r\nHost: gateway\r\nIf-Match: \"evil\"\r\nConnection: close\r\n\r\n", "/thing"},
		{"another query", "GET /thing?evil HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n", "/thing"},
		{"another order of the query", "GET /thing?evil&a HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n", "/thing?a&evil"},
		{"§4.1, who the gateway says is calling", "GET /thing?who HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer TOKEN\r\nConnection: close\r\n\r\n", "/thing?who"},
		{"HEAD", "HEAD /thing HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n", "/thing"},
	} {
		g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {
			content, _ := io.ReadAll(r.Body)
			w.Header().Set("Cache-Control", "max-age=60")
			if r.URL.RawQuery == "who" {
				w.Header().Set("Vary", "Fieldgate-Principal")
			}
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			} else if r.Header.Get("If-Match") != "" {
				w.WriteHeader(http.StatusPreconditionFailed)
			}
			fmt.Fprint(w, r.URL.RawQuery, r.Header.Get("X-Forwarded-Host"), r.Header.Get("Authorization"), r.Header.Get("X-HTTP-Method-Override"),
				r.Header.Get("X-Original-URL"), r.Header.Get("Fieldgate-Principal"), string(content))
		}, policiesHead+cachedThing)
		g.raw(t, strings.Replace(test.request, "TOKEN", g.token, 1))
		victim := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n", test.path)
		_, query, _ := strings.Cut(test.path, "?")
		for range 2 {
			if answer := g.raw(t, victim); !strings.HasPrefix(answer, "HTTP/1.1 200") || !strings.HasSuffix(answer, "\r\n\r\n"+query+"gateway") {
				t.Errorf("%s: everybody gets %q", test.clause, answer)
			}
		}
	}
}

// What is not whole or not sound is never given again.
func TestCacheOfBrokenAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"RFC 9112 §8: cut before its announced length": "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\npart",
		"RFC 9112 §8: cut before the last chunk":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
		"RFC 9112 §8: ended by the connection only":    "HTTP/1.1 200 OK\r\n\r\npart",
		"an event stream": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n",
	} {
		var calls atomic.Int32
		service := scripted(t, func(link net.Conn, in *bufio.Reader) {
			if readHead(in) {
				calls.Add(1)
				io.WriteString(link, answer)
			}
		})
		g := newContracts(t, nil, policiesHead+cachedThing)
		g.replaceUpstream(t, "service", service)
		for range 2 {
			response, err := http.Get("http://" + g.address + "/thing")
			if err == nil {
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		}
		if calls.Load() < 2 {
			t.Errorf("%s: kept", name)
		}
	}
}

// RFC 5861 section 3: what is asked behind a caller's back is the plain resource, whatever that caller's request was.
func TestRevalidation(t *testing.T) {
	var calls atomic.Int32
	asked := make(chan *http.Request, 10)
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, calls.Add(1)))
		w.Header().Set("Cache-Control", "max-age=1, stale-while-revalidate=3600")
		w.Header().Set("Content-Type", "application/json")
		if calls.Load() == 2 {
			io.WriteString(w, `"no number"`)
			return
		}
		fmt.Fprint(w, calls.Load())
	}, policiesHead+`
  /thing:
    get:
      operationId: read
      x-fieldgate: {check-answers: enforce, policies: [{cache: {ttl: 1h, for: everyone}}]}
      responses: {'200': {description: ok, content: {application/json: {schema: {type: integer}}}}}
`)
	expect := func(r *http.Request) {
		t.Helper()
		if r.Method != "GET" || r.Header.Get("Range") != "" || strings.Contains(strings.Join(r.Header.Values("If-None-Match"), ","), "*") {
			t.Errorf("the service was asked by %s %v", r.Method, r.Header)
		}
	}
	g.do(t, "GET", "/thing", "")
	expect(<-asked)
	time.Sleep(1100 * time.Millisecond)
	g.do(t, "HEAD", "/thing", "", "If-None-Match", "*", "Range", "bytes=0-0") // the service's answer breaks the contract
	expect(<-asked)
	for { // the claim is released after the answer was dropped
		if _, body := g.do(t, "GET", "/thing", ""); body != "1" && body != "3" {
			t.Fatalf("callers get %q", body)
		} else if body == "3" {
			break
		}
	}
}

// RFC 9111 section 4.4: who has heard of its change reads it.
func TestChangeIsReadBack(t *testing.T) {
	var value atomic.Int64
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			value.Add(1)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		fmt.Fprint(w, value.Load())
	}, policiesHead+cachedThing+`
    put: {operationId: write, responses: {'204': {description: ok}}}
`)
	for i := range 200 {
		g.do(t, "GET", "/thing", "")
		g.do(t, "PUT", "/thing", "")
		if _, body := g.do(t, "GET", "/thing", ""); body != fmt.Sprint(i+1) {
			t.Fatalf("change %d: %s", i+1, body)
		}
	}
}

func TestCORSOfCachedAnswers(t *testing.T) {
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }, strings.Replace(policiesHead+cachedThing, "policies: [", "policies: [{cors: {origins: ['https://app.example']}}, ", 1))
	for range 2 { // Fetch section 3.2.5: caches behind must know that the answer is for an origin
		if r, _ := g.do(t, "GET", "/thing", ""); r.Header.Get("Vary") != "Origin" {
			t.Errorf("%v", r.Header)
		}
	}
	if r, _ := g.do(t, "GET", "/thing", "", "Origin", "https://app.example"); r.Header.Get("Cache-Status") == "" || r.Header.Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Errorf("%v", r.Header)
	}
	if r, _ := g.do(t, "GET", "/thing", "", "Origin", "null"); r.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%v", r.Header)
	}
}

// WHATWG Fetch section 4.8: a preflight cannot carry the field that a condition is about, but names it.
func TestPreflightOfConditions(t *testing.T) {
	const operation = `
  /thing:
    get: {operationId: %s, x-fieldgate: {%s policies: [{cors: {origins: ['%s']}}]}, responses: {'200': {description: ok}}}
`
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {}, policiesHead+fmt.Sprintf(operation, "plain", "", "https://old.example"),
		strings.Replace(policiesHead, "title: Things", "title: Other", 1)+fmt.Sprintf(operation, "second", "when: {headers: {API-Version: '2'}},", "https://new.example"))
	for _, test := range []struct{ origin, announced, want string }{
		{"https://old.example", "x-unit", "https://old.example"},
		{"https://new.example", "api-version,x-unit", "https://new.example"},
		{"https://new.example", "x-unit", ""},
		{"https://evil.example", "api-version", ""},
	} {
		r, _ := g.do(t, "OPTIONS", "/thing", "", "Origin", test.origin, "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", test.announced)
		if got := r.Header.Get("Access-Control-Allow-Origin"); got != test.want || test.want == "https://new.example" && !strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "api-version") {
			t.Errorf("%v: %s %v", test, r.Status, r.Header)
		}
	}
}

// RFC 6455 section 10.2: a browser opens a WebSocket for pages of every origin, without a preflight.
func TestWebSocketOrigin(t *testing.T) {
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) }, policiesHead+`
  /live:
    get: {operationId: live, x-fieldgate: {websocket: true, policies: [{cors: {origins: ['https://app.example']}}]}, responses: {'101': {description: ok}}}
`)
	for origin, want := range map[string]string{"": "418", "https://app.example": "418", "http://gateway": "418", "https://evil.example": "403", "null": "403", "http://gateway.evil.example": "403"} {
		field := ""
		if origin != "" {
			field = "Origin: " + origin + "\r\n"
		}
		answer := g.raw(t, "GET /live HTTP/1.1\r\nHost: gateway\r\n"+field+"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 "+want) {
			t.Errorf("%q: %.40q", origin, answer)
		}
	}
}

func TestTransformOfHostileMessages(t *testing.T) {
	var calls atomic.Int32
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		content, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
		} else if r.URL.RawQuery == "none" {
			w.WriteHeader(http.StatusNoContent)
		} else if len(content) > 0 {
			w.Write(content)
		} else {
			fmt.Fprintf(w, `{"tenant": %q, "n": 18446744073709551615}`, r.Header.Values("X-Tenant")[0]+strings.Join(r.Header.Values("X_tenant"), ","))
		}
	}, policiesHead+`
  /thing:
    get:
      operationId: read
      x-fieldgate: {policies: [{request: {set: {X-Tenant: '"ours"'}}}, {response: {set: {Content-Type: '"application/vnd.x+json"'}, body: '{"t": body.tenant, "n": body.n}'}}]}
      responses: {'200': {description: ok}}
    post:
      operationId: write
      requestBody: {content: {application/json: {}}}
      x-fieldgate: {policies: [{request: {body: '{"text": body.text.replace("", body.by), "number": int(body.number)}'}}]}
      responses: {'200': {description: ok}}
`)
	const want = `"n":18446744073709551615`
	r, body := g.do(t, "GET", "/thing", "")
	if !strings.Contains(body, want) || len(r.Header.Values("Content-Type")) != 1 || r.Header.Get("Content-Type") != "application/vnd.x+json" {
		t.Errorf("%v %s", r.Header, body)
	}
	// RFC 9110 section 9.3.2: the head is that of the answer to GET
	if head, _ := g.do(t, "HEAD", "/thing", ""); head.StatusCode != 200 || head.ContentLength != int64(len(body)) {
		t.Errorf("HEAD: %s, %d bytes, GET %d", head.Status, head.ContentLength, len(body))
	}
	// Section 13.1.2: the condition is about content that the caller never saw
	if r, body = g.do(t, "GET", "/thing", "", "If-None-Match", "*"); r.StatusCode != 200 || !strings.Contains(body, want) {
		t.Errorf("condition: %s %s", r.Status, body)
	}
	if r, _ = g.do(t, "GET", "/thing?none", ""); r.StatusCode != 204 { // section 15.3.5
		t.Errorf("no content: %s", r.Status)
	}
	if _, body = g.do(t, "GET", "/thing", "", "X_Tenant", "evil"); !strings.Contains(body, `"ours"`) {
		t.Errorf("the caller passes for the gateway: %s", body)
	}
	records := g.records.count()
	for name, test := range map[string]struct {
		content string
		status  int
	}{
		"as it should be":    {`{"text": "ab", "by": "-", "number": "7"}`, 200},
		"no JSON":            {`{"text"`, 422},
		"more than JSON":     {`{"text": "ab", "by": "-", "number": "7"} {}`, 422},
		"nothing":            {``, 500},
		"deeply nested":      {strings.Repeat("[", 100_000), 422},
		"a text like a bomb": {fmt.Sprintf(`{"text": %q, "by": %q, "number": "7"}`, strings.Repeat("a", 100_000), strings.Repeat("b", 100_000)), 500},
		"a secret":           {`{"text": "ab", "by": "-", "number": "s3cret"}`, 500},
	} {
		r, body := g.do(t, "POST", "/thing", test.content, "Content-Type", "application/json")
		record := g.records.next(t, records)
		if records++; r.StatusCode != test.status || strings.Contains(body+record.Detail, "s3cret") {
			t.Errorf("%s: %s %s, record %q", name, r.Status, body, record.Detail)
		}
	}
}

// draft-ietf-httpapi-idempotency-key-header-07 section 2.7: what was carried out is not carried out again, also where its answer cannot be
// told; what the service wants to hear again is.
func TestIdempotencyOfOddAnswers(t *testing.T) {
	var calls atomic.Int32
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if r.URL.Path == "/later" {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		io.WriteString(w, "done")
	}, policiesHead+`
  /untold:
    post: {operationId: untold, x-fieldgate: {policies: [{idempotency: {}}, {response: {body: body.missing}}]}, responses: {'200': {description: ok}}}
  /later:
    post: {operationId: later, x-fieldgate: {policies: [{idempotency: {}}]}, responses: {'200': {description: ok}}}
`)
	for path, want := range map[string]int32{"/untold": 1, "/later": 2} {
		calls.Store(0)
		var statuses []int
		for range 2 {
			r, _ := g.do(t, "POST", path, "", "Idempotency-Key", "k")
			statuses = append(statuses, r.StatusCode)
		}
		if calls.Load() != want || statuses[0] != statuses[1] {
			t.Errorf("%s: %d calls, %v", path, calls.Load(), statuses)
		}
	}
}

// W3C Trace Context section 3.2.2.2 and 4.2: of two traceparent fields none is a trace, and one begins. The field by which the gateway names
// exchanges stands once, whatever the service says.
func TestTraceOfTwo(t *testing.T) {
	var seen http.Header
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		w.Header().Set("X-Request-Id", "of the service")
	}))
	t.Cleanup(service.Close)
	g := newGateway(t, service.URL, func(c *Config) { c.Settings.RequestID, c.Settings.StartsTraces = "X-Request-Id", true })
	const parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
	answer := g.raw(t, "GET /items/1 HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nX_Request_Id: evil\r\n"+parent+parent+"\r\n")
	if got := seen.Values("Traceparent"); len(got) != 1 || strings.Contains(got[0], "0af7651916cd43dd8448eb211c80319c") {
		t.Errorf("%v", got)
	}
	if len(seen.Values("X-Request-Id")) != 1 || len(seen["X_request_id"]) != 0 {
		t.Errorf("%v", seen)
	}
	if strings.Count(answer, "X-Request-Id: ") != 1 || strings.Contains(answer, "of the service") {
		t.Errorf("%q", answer)
	}
}
