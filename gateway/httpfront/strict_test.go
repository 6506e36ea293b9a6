package httpfront

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// rawService answers each request with the same bytes and closes then; heads and contents that came are told as they came.
func rawService(t *testing.T, answer string) (address string, requests <-chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 16)
	var running sync.WaitGroup
	t.Cleanup(func() { listener.Close(); running.Wait() })
	running.Go(func() {
		for {
			link, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer link.Close()
				link.SetDeadline(time.Now().Add(time.Minute))
				var raw bytes.Buffer
				in := bufio.NewReader(io.TeeReader(link, &raw))
				request, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				io.Copy(io.Discard, request.Body)
				told <- raw.String()
				io.WriteString(link, answer)
				link.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, link)
			})
		}
	})
	return "http://" + listener.Addr().String(), told
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// What belongs to one connection stays there, on the way to the upstream.
func TestFieldsTowardsTheUpstream(t *testing.T) {
	for _, test := range []struct {
		clause, lines string
		gone          []string // words that the upstream must not see
		there         []string
	}{
		{"RFC 9110 §7.6.1 hop-by-hop", "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: gzip\r\nTrailer: X\r\nX-Own: 1\r\n",
			[]string{"keep-alive", "proxy-", "te:", "trailer"}, []string{"x-own: 1"}},
		{"RFC 9110 §7.6.1 named by Connection", "Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nX-Own: 1\r\n", []string{"x-hop", "connection"}, []string{"x-own: 1"}},
		{"RFC 9110 §7.8 Upgrade nobody asked for", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", []string{"upgrade", "h2c", "http2-settings"}, nil},
		{"RFC 7540 §3.2.1 HTTP2-Settings unnamed", "HTTP2-Settings: AAMAAABk\r\n", []string{"http2-settings"}, nil},
		{"RFC 9110 §7.6.3 what only the gateway says", "X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nx_real_ip: 6.6.6.6\r\nFieldgate-Device: x\r\nfieldgate_device: x\r\nVia: 1.1 liar\r\n",
			[]string{"6.6.6.6", "fieldgate-device", "fieldgate_device", "liar"}, []string{"via: 1.1 fieldgate"}},
		{"lookalikes of framing", "Content_Length: 999\r\nTransfer_Encoding: chunked\r\nContent-Length: 0\r\n", []string{"999", "chunked"}, []string{"content-length: 0"}},
		{"RFC 9110 §10.1.4 TE", "TE: trailers, deflate\r\nConnection: TE\r\n", []string{"deflate"}, []string{"te: trailers", "connection: te"}},
		{"RFC 9112 §3.2 one Host", "X-Own: 1\r\n", nil, []string{"x-forwarded-host: a"}},
	} {
		t.Run(test.clause, func(t *testing.T) {
			service, requests := rawService(t, okAnswer)
			g := newGateway(t, service, nil)
			if answer := g.raw(t, "GET /legacy/1 HTTP/1.1\r\nHost: a\r\n"+test.lines+"\r\n"+bye); !strings.HasPrefix(answer, "HTTP/1.1 200") {
				t.Fatalf("%s", answer)
			}
			seen := strings.ToLower(<-requests)
			for _, word := range test.gone {
				if strings.Contains(seen, word) {
					t.Errorf("%q went on:\n%s", word, seen)
				}
			}
			for _, word := range append(test.there, "\r\nhost: ") {
				if strings.Count(seen, word) != 1 {
					t.Errorf("%d times %q:\n%s", strings.Count(seen, word), word, seen)
				}
			}
		})
	}
}

// bye makes the gateway close after the request before it.
const bye = "GET /mock HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

// The same on the way back, and what is no clean answer is none of the upstream's.
func TestFieldsTowardsTheClient(t *testing.T) {
	for _, test := range []struct {
		clause, answer string
		status         string
		gone, there    []string
	}{
		{"RFC 9110 §7.6.1 hop-by-hop", "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nProxy-Connection: x\r\nTE: x\r\nTrailer: X\r\nUpgrade: h2c\r\nX-Own: 1\r\nContent-Length: 2\r\n\r\nok",
			"200", []string{"keep-alive", "proxy-", "te: x", "trailer", "upgrade", "h2c"}, []string{"x-own: 1", "content-length: 2"}},
		{"RFC 9110 §7.6.1 named by Connection", "HTTP/1.1 200 OK\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok", "200", []string{"x-hop", "connection"}, nil},
		{"RFC 9112 §6.3 204 that announces content", "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison", "204", []string{"content-length", "poison"}, nil},
		{"RFC 9112 §6.3 content behind 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison", "304", []string{"poison"}, []string{"content-length: 6"}},
		{"extra bytes", okAnswer + "HTTP/1.1 200 OK\r\n\r\npoison", "200", []string{"poison"}, nil},
		{"RFC 9110 §15.2 interim answers stay here", "HTTP/1.1 103 Early Hints\r\nLink: </poison>\r\n\r\n" + okAnswer, "200", []string{"poison", "103"}, nil},
		{"RFC 9110 §15.2.2 101 unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\npoison", "502", []string{"poison", "upgrade"}, nil},
		{"RFC 9110 §5.5 NUL", "HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 2\r\n\r\nok", "502", []string{"\x00"}, nil},
		{"RFC 9112 §5.2 obs-fold", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok", "502", nil, nil},
		{"RFC 9112 §6.3 two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Length: 2\r\n\r\npoison", "502", []string{"poison"}, nil},
		{"RFC 9112 §7.1.2 trailers not asked for", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nPoison: 1\r\n\r\n", "200", []string{"poison"}, nil},
	} {
		t.Run(test.clause, func(t *testing.T) {
			service, _ := rawService(t, test.answer)
			g := newGateway(t, service, nil)
			answers := g.raw(t, "GET /legacy/1 HTTP/1.1\r\nHost: a\r\n\r\n"+bye)
			answer, next, found := strings.Cut(answers, "HTTP/1.1 200 OK\r\nDate")
			if test.status == "200" { // that of the first answer may be written the same
				cut := strings.LastIndex(answers, "HTTP/1.1 ")
				answer, next, found = answers[:cut], answers[cut:], cut > 0
			}
			if !found || !strings.HasPrefix(answer, "HTTP/1.1 "+test.status) || !strings.Contains(next, `{"mock":true}`) {
				t.Fatalf("%s", answers)
			}
			for _, word := range test.gone {
				if strings.Contains(strings.ToLower(answer), word) {
					t.Errorf("%q came through:\n%s", word, answer)
				}
			}
			for _, word := range test.there {
				if strings.Count(strings.ToLower(answer), word) != 1 {
					t.Errorf("no %q:\n%s", word, answer)
				}
			}
		})
	}
}

// What policy decides on is what the upstream gets.
func TestOneReading(t *testing.T) {
	service, requests := rawService(t, okAnswer)
	g := newGateway(t, service, nil)
	authorization := "Authorization: Bearer " + g.token + "\r\n"
	for _, test := range []struct{ clause, message, status string }{
		{"RFC 9110 §5.3 two credentials", "GET /devices/thermo-1/state HTTP/1.1\r\nHost: a\r\n" + authorization + authorization + "\r\n", "401"},
		{"RFC 9110 §5.3 two media types", "POST /devices/thermo-1/telemetry HTTP/1.1\r\nHost: a\r\n" + authorization + "Content-Type: application/json\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n{\"temp\":1}", "415"},
		{"RFC 9110 §7.6.1 a credential that Connection names", "GET /devices/thermo-1/state HTTP/1.1\r\nHost: a\r\nConnection: Authorization\r\n" + authorization + "\r\n", "400"},
		{"RFC 9110 §7.6.1 a key that Connection names", "GET /devices/thermo-1/state HTTP/1.1\r\nHost: a\r\nConnection: X-Api-Key\r\nX-Api-Key: " + g.token + "\r\n\r\n", "401"},
		{"RFC 9112 §3.2.2 two hosts", "GET http://b/mock HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
		{"RFC 9112 §3.2.3 CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "405"},
	} {
		t.Run(test.clause, func(t *testing.T) {
			answer := g.raw(t, test.message+bye)
			if !strings.HasPrefix(answer, "HTTP/1.1 "+test.status) {
				t.Errorf("%s", answer)
			}
			if framing := test.status == "400" || test.status == "405"; framing && strings.Contains(answer, "mock") {
				t.Error("the connection went on")
			}
			select {
			case seen := <-requests:
				t.Errorf("the upstream saw %s", seen)
			default:
			}
		})
	}
	for target, want := range map[string]string{ // RFC 3986 §6.2.2: what was routed is what goes on
		"/legacy/a/../b": "/legacy/b", "//legacy///b": "/legacy/b", "/legacy/%41%2d": "/legacy/A-", "/x/%2e/../legacy/b": "",
		"/legacy/a%2fb": "", "/legacy/..%00": "", `/legacy/a\..\b`: "", "/legacy/%c0%ae%c0%ae/b": "", "/legacy/x/..;/b": "",
	} {
		answer := g.raw(t, "GET "+target+" HTTP/1.1\r\nHost: a\r\n\r\n"+bye)
		if want == "" {
			if !strings.HasPrefix(answer, "HTTP/1.1 400") || strings.Contains(answer, "mock") {
				t.Errorf("%s: %.50q", target, answer)
			}
			continue
		}
		if seen := <-requests; !strings.HasPrefix(seen, "GET "+want+" HTTP/1.1\r\n") {
			t.Errorf("%s became %.60q", target, seen)
		}
	}
}

func TestTrailers(t *testing.T) { // RFC 9110 §6.5
	service, requests := rawService(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: X-Hop\r\n\r\n2\r\nok\r\n0\r\nX-Sum: abc\r\nX-Hop: 1\r\nSet-Cookie: a=b\r\n\r\n")
	g := newGateway(t, service, nil)
	answer := g.raw(t, "PUT /legacy/1 HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE, X-Named\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"3;x=y\r\nabc\r\n0\r\nX-Digest: d\r\nX-Forwarded-For: 6.6.6.6\r\nfieldgate_device: x\r\nX-Named: 1\r\nContent-Length: 3\r\n\r\n")
	if !strings.HasSuffix(answer, "\r\n\r\n2\r\nok\r\n0\r\nX-Sum: abc\r\n\r\n") {
		t.Errorf("answer %q", answer)
	}
	if seen := <-requests; !strings.HasSuffix(seen, "\r\n\r\n3\r\nabc\r\n0\r\nX-Digest: d\r\n\r\n") {
		t.Errorf("request %q", seen)
	}
}

// A client of HTTP/1.0 knows the end of an answer by the end of the connection only: one that was cut must not end cleanly.
func TestCutIsVisibleWithoutFraming(t *testing.T) {
	for name, answer := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		"events": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		service, _ := rawService(t, answer)
		g := newGateway(t, service, nil)
		secured, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewTLSServer(nil)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- g.ServeTLS(ctx, secured, &tls.Config{Certificates: server.TLS.Certificates}) }()
		for kind, dial := range map[string]func() (net.Conn, error){
			"plain": func() (net.Conn, error) { return net.Dial("tcp", g.address) },
			"TLS": func() (net.Conn, error) {
				return tls.Dial("tcp", secured.Addr().String(), &tls.Config{InsecureSkipVerify: true})
			},
		} {
			link, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			link.SetDeadline(time.Now().Add(time.Minute))
			io.WriteString(link, "GET /legacy/1 HTTP/1.0\r\nHost: a\r\n\r\n")
			got, err := io.ReadAll(link)
			if err == nil && !strings.HasPrefix(string(got), "HTTP/1.1 502") {
				t.Errorf("%s, %s: %q looks whole", name, kind, got)
			}
			link.Close()
		}
		cancel()
		<-ended
		server.Close()
	}
}

// Content that drips is cut off, however long each drop is in time, and gives the upstream's connection free.
func TestDrippingContent(t *testing.T) {
	service, _ := rawService(t, okAnswer)
	g := newGateway(t, service, func(c *Config) { c.BodyTimeout = 100 * time.Millisecond })
	asked := 0
	for name, head := range map[string]string{"length": "Content-Length: 1000000", "chunks": "Transfer-Encoding: chunked"} {
		link, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(link, "PUT /legacy/1 HTTP/1.1\r\nHost: a\r\n"+head+"\r\n\r\n")
		for { // until the gateway has had enough
			if _, err := io.WriteString(link, "1\r\nx\r\n"); err != nil {
				break
			}
			link.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
			if n, err := link.Read(make([]byte, 100)); n > 0 || err == io.EOF {
				break
			}
		}
		link.Close()
		if r := g.records.next(t, asked); r.Status != 400 {
			t.Errorf("%s: %+v", name, r)
		}
		asked++
	}
}
