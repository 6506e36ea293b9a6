package console

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

var builtFiles = fstest.MapFS{
	"placeholder.html":                {Data: []byte("placeholder")},
	"dist/app/index.html":             {Data: []byte("page")},
	"dist/app/index.html.gz":          {Data: []byte("page, compressed")},
	"dist/app/theme.js":               {Data: []byte("theme")},
	"dist/app/assets/main-1a2b.js":    {Data: []byte("script")},
	"dist/app/assets/font-3c.woff2":   {Data: []byte("font")},
	"dist/app/assets/main-1a2b.js.gz": {Data: []byte("script, compressed")},
}

func get(t *testing.T, handler http.Handler, method, target, encoding string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequest(method, target, nil)
	request.Header.Set("Accept-Encoding", encoding)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	return answer
}

func TestHandler(t *testing.T) {
	for _, test := range []struct {
		method, target, encoding string
		status                   int
		body                     string
		headers                  map[string]string
	}{
		{"GET", "/", "", 200, "page", map[string]string{"Cache-Control": "no-cache", "Content-Type": "text/html; charset=utf-8"}},
		{"GET", "/", "br, gzip", 200, "page, compressed", map[string]string{"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}},
		{"GET", "/", "gzip;q=0", 200, "page", map[string]string{"Content-Encoding": ""}},
		{"GET", "/", "gzip; q=0.5", 200, "page, compressed", nil},
		{"GET", "/devices/pump.17?open=x", "", 200, "page", nil},
		{"GET", "/nowhere", "", 200, "page", nil},
		{"HEAD", "/", "", 200, "", map[string]string{"Content-Type": "text/html; charset=utf-8"}},
		{"GET", "/theme.js", "gzip", 200, "theme", map[string]string{"Cache-Control": "no-cache", "Content-Encoding": ""}},
		{"GET", "/assets/main-1a2b.js", "gzip", 200, "script, compressed", map[string]string{
			"Cache-Control": "public, max-age=31536000, immutable", "Content-Type": "text/javascript; charset=utf-8"}},
		{"GET", "/assets/font-3c.woff2", "gzip", 200, "font", map[string]string{"Content-Type": "font/woff2"}},
		{"GET", "/assets/main-0000.js", "", 404, "The console has no such file.\n", nil},
		{"GET", "/assets/main-1a2b.js.gz", "", 404, "The console has no such file.\n", nil},
		{"GET", "/assets/", "", 404, "The console has no such file.\n", nil},
		{"GET", "/assets", "", 404, "The console has no such file.\n", nil},
		{"GET", "/favicon.ico", "", 404, "The console has no such file.\n", nil},
		{"GET", "/assets/../../../console.go", "", 404, "The console has no such file.\n", nil},
		{"GET", "/api/v1/nothing", "", 404, "The console has no such file.\n", nil},
		{"GET", "//api/v1/status", "", 404, "The console has no such file.\n", nil},
		{"GET", "/metrics", "", 404, "The console has no such file.\n", nil},
		{"POST", "/", "", 405, "The console is only read.\n", map[string]string{"Allow": "GET, HEAD"}},
	} {
		t.Run(test.method+" "+test.target+" "+test.encoding, func(t *testing.T) {
			answer := get(t, handler(builtFiles), test.method, test.target, test.encoding)
			if answer.Code != test.status || answer.Body.String() != test.body {
				t.Errorf("got %d %q, want %d %q", answer.Code, answer.Body, test.status, test.body)
			}
			for name, want := range test.headers {
				if got := answer.Header().Get(name); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
			policy := answer.Header().Get("Content-Security-Policy")
			if strings.Contains(policy, "unsafe") || !strings.Contains(policy, "default-src 'self'") {
				t.Errorf("the policy %q lets code in", policy)
			}
		})
	}
}

func TestPlaceholder(t *testing.T) {
	unbuilt := fstest.MapFS{"placeholder.html": {Data: []byte("run make build")}, "dist/README.md": {Data: []byte("about")}}
	if answer := get(t, handler(unbuilt), "GET", "/devices", "gzip"); answer.Code != 200 || answer.Body.String() != "run make build" {
		t.Errorf("got %d %q", answer.Code, answer.Body)
	}
	if answer := get(t, handler(unbuilt), "GET", "/README.md", ""); answer.Code != 404 {
		t.Errorf("got %d %q", answer.Code, answer.Body)
	}
}

// TestEmbedded reads what this binary holds, built or not.
func TestEmbedded(t *testing.T) {
	answer := get(t, Handler(), "GET", "/", "")
	if answer.Code != 200 || !strings.Contains(answer.Body.String(), "<title>Fieldgate</title>") {
		t.Errorf("got %d %q", answer.Code, answer.Body)
	}
}
