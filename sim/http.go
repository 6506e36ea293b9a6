package sim

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 20

// httpLink sends requests with the token as bearer token, or where the contract says; net/http keeps the connection.
type httpLink struct {
	fleet *Fleet
	token string
}

func (l *httpLink) send(ctx context.Context, r *request) verdict {
	var body io.Reader
	if r.method != http.MethodGet && r.payload != nil {
		body = bytes.NewReader(r.payload.appendJSON(nil))
	}
	q, err := http.NewRequestWithContext(ctx, r.method, "http://"+l.fleet.config.HTTP+r.path, body)
	if err != nil {
		return verdict{Unanswered, err.Error()}
	}
	if r.key != "" {
		q.Header.Set(r.key, l.token)
	} else {
		q.Header.Set("Authorization", "Bearer "+l.token)
	}
	if body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	response, err := l.fleet.client.Do(q)
	if err != nil {
		return verdict{Unanswered, "no answer"}
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer)); err != nil {
		return verdict{Unanswered, "broken answer"}
	}
	return verdict{outcomeOf(response.StatusCode / 100), strconv.Itoa(response.StatusCode)}
}

func (l *httpLink) broken() <-chan struct{} { return nil }
func (l *httpLink) close()                  {}

// outcomeOf sorts the classes that HTTP and CoAP share (RFC 9110 section 15, RFC 7252 section 5.9).
func outcomeOf(class int) Outcome {
	switch class {
	case 4:
		return Refused
	case 5:
		return Failed
	}
	return Passed
}
