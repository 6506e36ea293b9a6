package adminapi

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"fieldgate/control/access"
)

// deadlines is an answer whose connection says what became of its deadlines.
type deadlines struct {
	*httptest.ResponseRecorder
	lifted bool
}

func (d *deadlines) SetReadDeadline(time.Time) error  { d.lifted = true; return nil }
func (d *deadlines) SetWriteDeadline(time.Time) error { d.lifted = true; return nil }
func (d *deadlines) EnableFullDuplex() error          { d.lifted = true; return nil }

// Only who has the token may stay on: a stranger's connection keeps its deadlines, whatever it asks for.
func TestStrangersKeepTheirDeadlines(t *testing.T) {
	operator, _, err := access.LoadOperator(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	operators := access.NewOperators(nil, nil, operator, slog.New(slog.DiscardHandler))
	s := New(Config{Operators: operators, Log: slog.New(slog.DiscardHandler), Metrics: http.NotFoundHandler()})
	for path, method := range map[string]string{importPath: "POST", publishAllPath: "POST", streamPath: "GET"} {
		answer := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		s.http.Handler.ServeHTTP(answer, httptest.NewRequest(method, "http://localhost"+path, http.NoBody))
		if answer.Code != http.StatusUnauthorized || answer.lifted {
			t.Errorf("%s %s: %d, deadlines lifted: %v", method, path, answer.Code, answer.lifted)
		}
	}
}
