package test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// service is a real upstream that keeps what it was sent.
type service struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
}

type call struct {
	method, path, body, principal, contentType, authorization string
}

func newService(t testing.TB) *service {
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.calls = append(s.calls, call{r.Method, r.URL.RequestURI(), string(body), r.Header.Get("Fieldgate-Principal"), r.Header.Get("Content-Type"), r.Header.Get("Authorization")})
		s.mu.Unlock()
		if r.Method == "GET" {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"model":"T2","interval":300}`)
			return
		}
		w.WriteHeader(204)
	}))
	t.Cleanup(s.Close)
	return s
}

// take is what was called since the last take.
func (s *service) take() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}
