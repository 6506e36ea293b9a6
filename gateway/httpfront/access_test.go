package httpfront

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fieldgate/gateway/accesslog"
	"fieldgate/gateway/pipeline"
)

func TestAccessLog(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	path := filepath.Join(t.TempDir(), "access.log")
	file, err := accesslog.Open(accesslog.Settings{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.SetAccessLog(pipeline.NewAccessLog(file, append(append([]string(nil), pipeline.AccessFields...), "header:User-Agent")))
	trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	g.do(t, "GET", "/items/a%20b?x=1", "", "Authorization", "Bearer "+g.token, "User-Agent", `say "hi"`, "Traceparent", trace)
	g.do(t, "GET", "/none", "")
	g.stop()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	file.Run(ended)

	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	if len(lines) != 2 || strings.Contains(string(content), g.token) {
		t.Fatalf("%s", content)
	}
	var first, second map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil {
		t.Fatal(err, lines[0])
	}
	if err := json.Unmarshal([]byte(lines[1]), &second); err != nil {
		t.Fatal(err, lines[1])
	}
	for name, want := range map[string]any{"method": "GET", "path": "/items/a%20b", "query": "x=1", "status": 200.0, "principal": "thermo-1", "operation": "getItem",
		"User-Agent": `say "hi"`, "trace": "0af7651916cd43dd8448eb211c80319c", "problem": "", "source": "127.0.0.1"} {
		if first[name] != want {
			t.Errorf("%s is %v, not %v", name, first[name], want)
		}
	}
	if second["status"] != 404.0 || second["problem"] != "not-found" || second["rule"] != "no route" {
		t.Errorf("%v", second)
	}
}

func TestAccessFields(t *testing.T) {
	for _, field := range []string{"header:Authorization", "header:cookie", "header:", "time ", "body"} {
		if pipeline.CheckAccessFields([]string{field}) == nil {
			t.Errorf("%q was accepted", field)
		}
	}
}

// W3C Trace Context §3.2 and §4.3, and the name of the exchange.
func TestContextOfRequests(t *testing.T) {
	g := newGateway(t, newService(t), func(c *Config) { c.Settings.RequestID, c.Settings.StartsTraces = "X-Request-Id", true })
	ask := func(fields ...string) (*http.Response, seen) {
		t.Helper()
		r, body := g.do(t, "GET", "/items/1", "", fields...)
		var s seen
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			t.Fatal(err, body)
		}
		return r, s
	}
	const valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	r, s := ask("Traceparent", valid, "Tracestate", "a=1", "X-Request-Id", "forged")
	if s.Fields["Traceparent"] != valid || s.Fields["Tracestate"] != "a=1" {
		t.Errorf("a trace is passed on: %v", s.Fields)
	}
	if id := r.Header.Get("X-Request-Id"); id == "" || id == "forged" || s.Fields["X-Request-Id"] != id || s.Fields["Fieldgate-Instance"] != id {
		t.Errorf("request id: caller %q, upstream %v", id, s.Fields)
	}
	for _, broken := range []string{"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", "00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} {
		_, s := ask("Traceparent", broken, "Tracestate", "a=1")
		if begun := s.Fields["Traceparent"]; begun == broken || !pipeline.ValidTraceParent([]byte(begun)) || s.Fields["Tracestate"] != "" {
			t.Errorf("%q became %q, tracestate %q", broken, begun, s.Fields["Tracestate"])
		}
	}
}
