package httpfront

import (
	"io"
	"net/http"
	"testing"
)

// Answers are shown as far as the caller may see them, whoever else the cache keeps them for; what describes all of the content is left
// out. What is no JSON is not shown at all, and of an error its status only.
func TestPrivacyOfAnswers(t *testing.T) {
	calls := 0
	g := newContracts(t, func(w http.ResponseWriter, r *http.Request) {
		calls++
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("ETag", `"all"`)
		w.Header().Set("X-Kept", "yes")
		switch r.URL.Path {
		case "/things/broken":
			io.WriteString(w, `{"name": "Ann"`)
		case "/things/missing":
			w.WriteHeader(404)
			io.WriteString(w, `Ann is not here`)
		default:
			io.WriteString(w, `{"name": "Ann", "lat": 52.5163}`)
		}
	}, policiesHead+`
  /things/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    get:
      operationId: read
      x-fieldgate: {policies: [{cache: {ttl: 1h, for: everyone}}, {privacy: {except: {access: [device]}, remove: [name], coarsen: {lat: 0.1}}}]}
      responses: {'200': {description: ok}}
`)
	for _, test := range []struct {
		id, token, body, tag string
		status               int
	}{
		{"1", "", `{"lat":52.5}`, "", 200},
		{"1", g.token, `{"name": "Ann", "lat": 52.5163}`, `"all"`, 200},
		{"1", "", `{"lat":52.5}`, "", 200},
		{"broken", g.token, `{"name": "Ann"`, `"all"`, 200},
		{"missing", "", ``, "", 404},
		{"missing", g.token, `Ann is not here`, `"all"`, 404},
	} {
		var fields []string
		if test.token != "" {
			fields = []string{"Authorization", "Bearer " + test.token}
		}
		answer, body := g.do(t, "GET", "/things/"+test.id, "", fields...)
		if answer.StatusCode != test.status || body != test.body || answer.Header.Get("X-Kept") != "yes" {
			t.Errorf("%+v: %s %q %v", test, answer.Status, body, answer.Header)
		}
		if tag := answer.Header.Get("ETag"); tag != test.tag && test.tag == "" {
			t.Errorf("%+v: it has the entity tag %s of what it is not", test, tag)
		}
	}
	if calls != 4 {
		t.Errorf("the service was called %d times, want 4", calls)
	}
	if answer, body := g.do(t, "GET", "/things/broken", ""); answer.StatusCode != 502 || g.pipeline.Unprojected.Load() != 1 {
		t.Errorf("%s %q, %d counted", answer.Status, body, g.pipeline.Unprojected.Load())
	}
	if answer, body := g.do(t, "HEAD", "/things/1", ""); answer.StatusCode != 200 || body != "" || answer.ContentLength != int64(len(`{"lat":52.5}`)) {
		t.Errorf("HEAD: %s, %d bytes", answer.Status, answer.ContentLength)
	}
}
