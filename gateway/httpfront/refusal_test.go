package httpfront

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fieldgate"
)

// What breaks HTTP is answered with HTTP's own status and the exchange's name, which leads to a Record with the same status, the reason,
// and what was asked for as far as it can be told.
func TestRefusals(t *testing.T) {
	patient := newGateway(t, newService(t), func(c *Config) { c.Settings.RequestID = "X-Request-Id" })
	hurried := newGateway(t, newService(t), func(c *Config) {
		c.HeadTimeout, c.Settings.RequestID = time.Second, "X-Request-Id"
	})
	const get, fields = "GET /items/1?key=secret HTTP/1.1\r\n", "Host: a\r\n\r\n"
	long := strings.Repeat("a", 40_000)
	for _, test := range []struct {
		clause, message string
		status          int
		method          fieldgate.Method
		path, reason    string
	}{
		{"RFC 6585 §5", get + "X-Long: " + long + "\r\n" + fields, 431, fieldgate.MethodGet, "/items/1", "message head too large"},
		{"RFC 6585 §5 many", get + strings.Repeat("A: b\r\n", 200) + fields, 431, fieldgate.MethodGet, "/items/1", "too many header fields"},
		{"RFC 9110 §15.5.15", "POST /" + long[:20_000] + " HTTP/1.1\r\n" + fields, 414, fieldgate.MethodPost, "/" + long[:fieldgate.MaxRecordRoute-1], "request line too long"},
		{"RFC 9110 §15.5.9", get + "Host: a\r\n", 408, fieldgate.MethodGet, "/items/1", "The request head did not arrive in time."},
		{"RFC 9110 §15.6.2", get + "Transfer-Encoding: gzip\r\n" + fields, 501, fieldgate.MethodGet, "/items/1", "transfer coding not supported"},
		{"RFC 9110 §15.6.6", "GET /items/1 HTTP/2.0\r\n" + fields, 505, fieldgate.MethodGet, "/items/1", "HTTP version not supported"},
		{"RFC 9110 §10.1.1", get + "Expect: tea\r\n" + fields, 417, fieldgate.MethodGet, "/items/1", "expectation not supported"},
		{"RFC 9112 §6.1", get + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" + fields, 400, fieldgate.MethodGet, "/items/1", "both Content-Length and Transfer-Encoding"},
		{"RFC 9112 §6.3", get + "Content-Length: +4\r\n" + fields, 400, fieldgate.MethodGet, "/items/1", "malformed or repeated Content-Length"},
		{"RFC 9112 §2.2", get + "Host: a\n\r\n", 400, fieldgate.MethodGet, "/items/1", "line does not end in CRLF"},
		{"RFC 9112 §2.2 request line", "GET / HTTP/1.1\nHost: a\n\n", 400, fieldgate.MethodOther, "", "line does not end in CRLF"},
		{"RFC 3986 §2.2", "BREW /a%2fb HTTP/1.1\r\n" + fields, 400, fieldgate.MethodOther, "/a%2fb", "request path with more than one reading"},
		{"RFC 9112 §3", "GET  /items/1 HTTP/1.1\r\n" + fields, 400, fieldgate.MethodOther, "", "malformed request line"},
		{"no bytes of the request", "GET /\xff\x01 HTTP/1.1\r\n" + fields, 400, fieldgate.MethodGet, "", ""},
		{"nor passwords", "GET http://me:secret@a/ HTTP/1.1\r\n" + fields, 400, fieldgate.MethodGet, "", "malformed request target"},
	} {
		g := patient
		if test.status == http.StatusRequestTimeout {
			g = hurried
		}
		before := g.records.count()
		answer := g.raw(t, test.message)
		record := g.records.next(t, before)
		expectRefusal(t, test.clause, answer, &record, test.status)
		if record.Method != test.method || record.Route != test.path || test.reason != "" && record.Detail != test.reason || record.Detail == "" {
			t.Errorf("%s: %v %q %q", test.clause, record.Method, record.Route, record.Detail)
		}
	}
}

// expectRefusal checks an HTTP/1.1 answer that refuses, and its Record.
func expectRefusal(t *testing.T, clause, answer string, record *fieldgate.Record, status int) {
	t.Helper()
	head, body, _ := strings.Cut(answer, "\r\n\r\n")
	var problem struct {
		Status   int
		Instance string
	}
	if err := json.Unmarshal([]byte(body), &problem); err != nil || !strings.HasPrefix(head, fmt.Sprintf("HTTP/1.1 %d ", status)) || problem.Status != status {
		t.Errorf("%s: %v\n%s", clause, err, answer)
	}
	instance := string(fieldgate.AppendInstance(nil, "n1", 0, record.Exchange))
	if problem.Instance != instance || !strings.Contains(head, "\r\nX-Request-Id: "+instance) {
		t.Errorf("%s: want %s\n%s", clause, instance, answer)
	}
	if record.Status != status || record.Findings == 0 {
		t.Errorf("%s: %+v", clause, record)
	}
}

// What a front refuses that is a request leaves the status that was sent, too.
func TestRefusalsOfRequests(t *testing.T) {
	g := newGateway(t, newService(t), func(c *Config) { c.Settings.RequestID = "X-Request-Id" })
	for n, test := range []struct {
		clause, message string
		status          int
		problem         fieldgate.ProblemCode
	}{
		{"RFC 9110 §9.3.6", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405, fieldgate.ProblemMethodNotAllowed},
		{"RFC 6455 §4.4", "GET /events/d HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + g.token + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 8\r\n\r\n", 426, fieldgate.ProblemBadRequest},
	} {
		answer := g.raw(t, test.message)
		record := g.records.next(t, n)
		expectRefusal(t, test.clause, answer, &record, test.status)
		if record.Problem != test.problem {
			t.Errorf("%s: %+v", test.clause, record)
		}
	}
}

// Over HTTP/2 and HTTP/3 it is the same.
func TestRefusalsOfStreams(t *testing.T) {
	for version, connect := range map[string]func(testing.TB, *gateway) (*http.Client, string){
		"2": newH2, "3": func(t testing.TB, g *gateway) (*http.Client, string) { return g.serveH3(t) },
	} {
		g := newGateway(t, newService(t), func(c *Config) { c.Settings.RequestID = "X-Request-Id" })
		client, url := connect(t, g)
		for n, test := range []struct {
			clause, method, path, field, value string
			status                             int
			reason                             string
		}{
			{"RFC 6585 §5", "GET", "/items/1?key=secret", "", "", 431, "too many header fields"}, // over HTTP/2 the path may be among what is missing
			{"RFC 9110 §10.1.1", "GET", "/items/1", "Expect", "tea", 417, "expectation not supported"},
			{"RFC 9110 §15.5.15", "GET", "/" + strings.Repeat("a", 9_000), "", "", 414, "request line too long"},
			{"RFC 3986 §2.2", "GET", "/a%2fb", "", "", 400, "request path with more than one reading"},
			{"RFC 9110 §9.3.6", "CONNECT", "", "", "", 405, ""},
		} {
			request, err := http.NewRequest(test.method, url+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.field != "" {
				request.Header.Set(test.field, test.value)
			} else if test.status == 431 {
				for i := range 200 {
					request.Header.Set(fmt.Sprint("X-", i), "a")
				}
			}
			answer, err := client.Do(request)
			if err != nil {
				t.Fatalf("%s over HTTP/%s: %v", test.clause, version, err)
			}
			answer.Body.Close()
			record := g.records.next(t, n)
			path, _, _ := strings.Cut(test.path, "?")
			if version == "2" && test.status == 431 {
				path, test.reason = "", "message head too large"
			}
			if answer.StatusCode != test.status || record.Status != test.status || record.Detail != test.reason ||
				record.Route != path[:min(len(path), fieldgate.MaxRecordRoute)] ||
				answer.Header.Get("X-Request-Id") != string(fieldgate.AppendInstance(nil, "n1", 0, record.Exchange)) {
				t.Errorf("%s over HTTP/%s: %v\n%+v", test.clause, version, answer, record)
			}
		}
	}
}

// Plain HTTP where TLS is spoken is told so, once and without a wait for the rest of the request; anything else gets nothing.
func TestPlainHTTPOnTLS(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	address := g.serveTLS(t)
	for n, message := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "DELETE", "POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000)} {
		answer := over(t, address, message)
		if !strings.HasPrefix(answer, "HTTP/1.0 400 ") || !strings.HasSuffix(answer, "\r\n\r\nThis port speaks TLS: use https://.\n") || len(answer) > 200 {
			t.Errorf("%.20q is answered %q", message, answer)
		}
		if r := g.records.next(t, n); r.Status != 400 || r.Findings&fieldgate.FindingMalformed == 0 || r.Detail != "plain HTTP on a port that speaks TLS" ||
			r.Source.String() != "127.0.0.1" {
			t.Errorf("%+v", r)
		}
	}
	hurried := newGateway(t, newService(t), func(c *Config) { c.HeadTimeout = 200 * time.Millisecond })
	address = hurried.serveTLS(t)
	for _, message := range []string{"GET", "SSH-2.0-x\r\n", "\x16\x03\x01"} { // the first and last until HeadTimeout
		if answer := over(t, address, message); strings.Contains(answer, "HTTP") {
			t.Errorf("%q is answered %q", message, answer)
		}
	}
	if n, more := g.records.count(), hurried.records.count(); n != 3 || more != 0 {
		t.Errorf("%d records, and %d of what is no HTTP", n, more)
	}
}

// Who never reads and never leaves is left within the time for that.
func TestPlainHTTPOnTLSHeldOpen(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	link, err := net.Dial("tcp", g.serveTLS(t))
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	io.WriteString(link, "GET / HTTP/1.1\r\n")
	for deadline := time.Now().Add(time.Minute); g.Stats().Accepted == 0 || g.Stats().Connections > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the connection stays")
		}
		io.WriteString(link, "x") // more does not keep it
	}
}
