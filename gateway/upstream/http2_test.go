package upstream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/protocol/h1"
	"fieldgate/protocol/h2"
)

// http2Service serves HTTP/2 only: in the clear, or over TLS with the certificate in the file that is returned.
func http2Service(t *testing.T, secured bool, handler http.HandlerFunc) (address, certificate string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	var protocols http.Protocols
	protocols.SetHTTP2(secured)
	protocols.SetUnencryptedHTTP2(!secured)
	server.Config.Protocols = &protocols
	if secured {
		server.EnableHTTP2 = true
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	if secured {
		certificate = filepath.Join(t.TempDir(), "ca.pem")
		writePEM(t, certificate, "CERTIFICATE", server.Certificate().Raw)
	}
	return server.URL, certificate
}

func writePEM(t *testing.T, file, kind string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newHTTP2(t *testing.T, config fieldgate.Upstream, certificate string) *Upstream {
	config.Protocol = fieldgate.UpstreamHTTP2
	if certificate != "" {
		config.TLS = &fieldgate.UpstreamTLS{CAFile: certificate}
	}
	return newSet(t, config)
}

// An exchange over HTTP/2 is the same as over HTTP/1.1.
func TestHTTP2(t *testing.T) {
	for name, secured := range map[string]bool{"TLS": true, "TCP": false} {
		t.Run(name, func(t *testing.T) {
			goroutines := runtime.NumGoroutine()
			address, certificate := http2Service(t, secured, func(w http.ResponseWriter, r *http.Request) {
				content, _ := io.ReadAll(r.Body)
				w.Header().Set("X-Seen", fmt.Sprint(r.Proto, " ", r.Method, " ", r.RequestURI, " ", r.Host, " ", r.ContentLength, " ", len(content), " ",
					r.Header.Get("X-Device"), " ", r.Header.Get("Te"), " ", r.UserAgent()))
				if r.URL.Path == "/none" {
					w.WriteHeader(http.StatusNoContent)
					return
				}
				w.WriteHeader(http.StatusCreated)
				w.Write(content)
			})
			u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{address}}, certificate)
			for _, test := range []struct{ method, target, body, want string }{
				{"POST", "/a%2Fb?c=d&e", "hello", "POST /a%2Fb?c=d&e api.example 5 5 d1 trailers "},
				{"POST", "//double?", strings.Repeat("x", 1<<20), "POST //double? api.example 1048576 1048576 d1 trailers "},
				{"GET", "/", "", "GET / api.example 0 0 d1 trailers "},
				{"PUT", "/none", "", "PUT /none api.example 0 0 d1 trailers "},
				{"HEAD", "/", "", "HEAD / api.example 0 0 d1 trailers "},
				{"PURGE", "/x", "", "PURGE /x api.example 0 0 d1 trailers "},
			} {
				answer, err := u.Do(context.Background(), &Request{Method: test.method, Target: test.target, Host: "api.example", Body: []byte(test.body),
					Fields: []Field{{Name: "X-Device", Value: "d1"}, {Name: "Connection", Value: "X-Device"}, {Name: "Transfer-Encoding", Value: "chunked"}}})
				if err != nil {
					t.Fatal(test, err)
				}
				if seen := answer.Field("X-Seen"); seen != "HTTP/2.0 "+test.want || string(answer.Body) != test.body {
					t.Errorf("%s %s: %q, %d bytes back", test.method, test.target, seen, len(answer.Body))
				}
			}
			if open := u.addresses()[0].open; open != 1 {
				t.Errorf("%d connections for calls in turn", open)
			}
			u.addresses()[0].drain()
			settle(t, goroutines+8) // the server's own
			a := u.addresses()[0]
			open := func() int {
				a.mu.Lock()
				defer a.mu.Unlock()
				return a.open
			}
			for end := time.Now().Add(time.Minute); open() != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d connections are left", open())
				}
			}
		})
	}
}

// Content goes both ways at once; the answer's trailers come last (RFC 9113 §8.1).
func TestHTTP2BothWays(t *testing.T) {
	address, _ := http2Service(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		total := 0
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			total += n
			w.Write(buf[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set("X-Sum", fmt.Sprint(total))
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	})
	u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{address}}, "")
	call := Call{Method: []byte("POST"), Path: []byte("/"), Framing: h1.Chunked}
	if problem := call.Send(u); problem != nil {
		t.Fatal(problem)
	}
	defer call.End()
	if problem := call.Answer(); problem != nil { // before anything was sent
		t.Fatal(problem)
	}
	buf := make([]byte, h1.ChunkRoom+5+h1.ChunkTail)
	for range 3 {
		copy(buf[h1.ChunkRoom:], "hello")
		if err := call.Write(buf, 5); err != nil {
			t.Fatal(err)
		}
		back := make([]byte, 5)
		if _, err := io.ReadFull(call.Body(), back); err != nil || string(back) != "hello" {
			t.Fatal(string(back), err)
		}
	}
	if err := call.EndContent(nil); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(call.Body()); err != nil || len(rest) != 0 {
		t.Fatal(rest, err)
	}
	trailers := call.Body().Trailers(call.Response.Fields)
	if string(trailers.Get("x-sum")) != "15" || string(trailers.Get("grpc-status")) != "0" {
		t.Errorf("trailers %v", trailers)
	}
}

// Trailers of the request need not be announced (RFC 9110 §6.6.2).
func TestHTTP2RequestTrailers(t *testing.T) {
	seen := make(chan string, 1)
	address, _ := rawServer(t, func(_ int, link net.Conn, _ *bufio.Reader) {
		h2.NewConn(link, nil, &h2.Config{}, func(s *h2.Stream) {
			content, err := io.ReadAll(s)
			text := fmt.Sprint(string(content), err)
			for _, f := range s.Trailers() {
				text += fmt.Sprintf(" %s=%s", f.Name, f.Value)
			}
			seen <- text
			s.Send(200, nil, nil, true)
		}).Serve()
	})
	u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{address}}, "")
	call := Call{Method: []byte("POST"), Path: []byte("/"), Framing: h1.Chunked}
	if problem := call.Send(u); problem != nil {
		t.Fatal(problem)
	}
	defer call.End()
	buf := make([]byte, h1.ChunkRoom+5+h1.ChunkTail)
	copy(buf[h1.ChunkRoom:], "hello")
	if err := errors.Join(call.Write(buf, 5), call.EndContent(h1.Fields{{Name: []byte("X-Mine"), Value: []byte("mine")}})); err != nil {
		t.Fatal(err)
	}
	if problem := call.Answer(); problem != nil {
		t.Fatal(problem, problem.Cause)
	}
	if text := <-seen; text != "hello<nil> x-mine=mine" {
		t.Error(text)
	}
}

// What breaks is told as over HTTP/1.1.
func TestHTTP2Failures(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	var requests atomic.Int32 // of /once
	address, certificate := http2Service(t, false, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/abort":
			panic(http.ErrAbortHandler) // RST_STREAM
		case "/half":
			w.Write(make([]byte, 100))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/hang":
			<-release
		case "/fields":
			for i := range 200 {
				w.Header().Set(fmt.Sprint("X-", i), "x")
			}
		case "/head":
			w.Header().Set("X", strings.Repeat("x", 64<<10))
		case "/once":
			if requests.Add(1) == 1 {
				panic(http.ErrAbortHandler)
			}
		}
	})
	overHTTP1 := httptest.NewServer(http.NotFoundHandler())
	defer overHTTP1.Close()
	tlsHTTP1 := httptest.NewTLSServer(http.NotFoundHandler())
	tlsHTTP1.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer tlsHTTP1.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, ca, "CERTIFICATE", tlsHTTP1.Certificate().Raw)
	for _, test := range []struct {
		name, address, path, ca string
		want                    fieldgate.ProblemCode
	}{
		{"reset before an answer", address, "/abort", certificate, fieldgate.ProblemUpstreamUnreachable},
		{"reset within the content", address, "/half", certificate, fieldgate.ProblemUpstreamInvalid},
		{"hangs", address, "/hang", certificate, fieldgate.ProblemUpstreamTimeout},
		{"too many fields", address, "/fields", certificate, fieldgate.ProblemUpstreamInvalid},
		{"head too large", address, "/head", certificate, fieldgate.ProblemUpstreamUnreachable},
		{"nothing listens", "http://127.0.0.1:1", "/", "", fieldgate.ProblemUpstreamUnreachable},
		{"speaks HTTP/1.1", overHTTP1.URL, "/", "", fieldgate.ProblemUpstreamUnreachable},
		{"speaks HTTP/1.1 over TLS", tlsHTTP1.URL, "/", ca, fieldgate.ProblemUpstreamUnreachable},
		{"certificate that nobody vouches for", tlsHTTP1.URL, "/", "", fieldgate.ProblemUpstreamUnreachable},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{test.address}}, test.ca)
			timeout := 20 * time.Second
			if test.path == "/hang" {
				timeout = 100 * time.Millisecond
				if _, err := get(u); err != nil { // it is to be too late for the answer, not for the connection
					t.Fatal(err)
				}
			}
			_, err := u.Do(context.Background(), &Request{Method: "GET", Target: test.path, Timeout: timeout})
			if codeOf(err) != test.want {
				t.Errorf("%v", err)
			}
			if n := u.shared.inFlight.Load(); n != 0 {
				t.Errorf("%d tries never ended", n)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{address}}, "")
		if _, err := get(u); err != nil { // as above
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(30*time.Millisecond, cancel)
		if _, err := u.Do(ctx, &Request{Method: "GET", Target: "/hang"}); codeOf(err) != fieldgate.ProblemUpstreamTimeout {
			t.Errorf("%v", err)
		}
	})
	t.Run("retried", func(t *testing.T) {
		requests.Store(0)
		u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{address}}, "")
		retry := &fieldgate.Retry{Attempts: 1, On: everything}
		if _, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/once", Idempotent: true, Retry: retry}); err != nil || requests.Load() != 2 {
			t.Errorf("%v after %d requests", err, requests.Load())
		}
		requests.Store(0)
		if _, err := u.Do(context.Background(), &Request{Method: "POST", Target: "/once", Body: []byte("x"), Retry: retry}); err == nil || requests.Load() != 1 {
			t.Errorf("not idempotent: %v after %d requests", err, requests.Load())
		}
	})
	t.Run("an address that cannot be reached costs nobody an answer", func(t *testing.T) {
		u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{"http://127.0.0.1:1", address}}, "")
		for range 4 {
			if _, err := u.Do(context.Background(), &Request{Method: "POST", Target: "/", Body: []byte("x")}); err != nil {
				t.Error(err)
			}
		}
	})
}

// A hedge over HTTP/2 works as over HTTP/1.1, and the loser's stream is reset.
func TestHTTP2Hedge(t *testing.T) {
	reset := make(chan struct{}, 8)
	slow, _ := http2Service(t, false, func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		reset <- struct{}{}
	})
	fast, _ := http2Service(t, false, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "fast") })
	u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{slow, fast}}, "")
	for range 4 {
		answer, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 20 * time.Millisecond})
		if err != nil || string(answer.Body) != "fast" {
			t.Fatalf("%v, %v", answer, err)
		}
	}
	<-reset
}

// An answer that comes before the content is sent whole ends the writing; the content's memory is the caller's again after End.
func TestHTTP2EarlyAnswer(t *testing.T) {
	address, _ := http2Service(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})
	u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{address}}, "")
	content := make([]byte, 8<<20)
	answer, err := u.Do(context.Background(), &Request{Method: "PUT", Target: "/", Body: content})
	if err != nil || answer.Status != 413 {
		t.Errorf("in memory: %v, %v", answer, err)
	}
	clear(content) // the race detector looks on
	call := Call{Method: []byte("PUT"), Path: []byte("/"), Framing: h1.Length, Length: 8 << 20}
	if problem := call.Send(u); problem != nil {
		t.Fatal(problem)
	}
	written := make(chan error, 1)
	go func() {
		buf := make([]byte, h1.ChunkRoom+32<<10+h1.ChunkTail)
		for {
			if err := call.Write(buf, 32<<10); err != nil {
				written <- err
				return
			}
		}
	}()
	if problem := call.Answer(); problem != nil || call.Response.Status != 413 {
		t.Errorf("streamed: %v", problem)
	}
	call.StopContent()
	<-written
	call.End()
}

// Many calls at once share connections; all of them end.
func TestHTTP2Load(t *testing.T) {
	address, _ := http2Service(t, false, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{address}}, "")
	var calls sync.WaitGroup
	for worker := range 20 {
		calls.Go(func() {
			content := bytes.Repeat([]byte{byte(worker)}, 100*worker)
			for range 50 {
				answer, err := u.Do(context.Background(), &Request{Method: "POST", Target: "/", Body: content})
				if err != nil || !bytes.Equal(answer.Body, content) {
					t.Errorf("%v", err)
				}
			}
		})
	}
	calls.Wait()
	if n := u.shared.inFlight.Load(); n != 0 {
		t.Errorf("%d tries never ended", n)
	}
}

// A WebSocket goes to the same service over HTTP/1.1.
func TestHTTP2UpgradeGoesOverHTTP1(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		link, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer link.Close()
		io.WriteString(link, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	}))
	defer server.Close()
	u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{server.URL}}, "")
	call := Call{Method: []byte("GET"), Path: []byte("/"), Upgrade: []byte("websocket")}
	if problem := call.Send(u); problem != nil {
		t.Fatal(problem)
	}
	defer call.End()
	if problem := call.Answer(); problem != nil || call.Response.Status != 101 {
		t.Fatal(problem)
	}
	if link, _ := call.Connection(); link == nil {
		t.Error("no connection")
	}
}

func BenchmarkCallHTTP2(b *testing.B) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"ok": true }`) })}
	go server.Serve(listener)
	defer server.Close()
	u := newSet(b, fieldgate.Upstream{Addresses: []string{"http://" + listener.Addr().String()}, Protocol: fieldgate.UpstreamHTTP2})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := get(u); err != nil {
			b.Fatal(err)
		}
	}
}

// A stream that the service resets on a connection in use is no connection that broke while idle for ever: it is sent once more at most.
func TestHTTP2ResetStreamsAreNotRepeatedForEver(t *testing.T) {
	var requests atomic.Int32
	address, _ := http2Service(t, false, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1); r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler) // RST_STREAM; the connection stays
		}
	})
	u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{address}}, "")
	if _, err := get(u); err != nil { // the connection has carried an exchange
		t.Fatal(err)
	}
	requests.Store(0)
	_, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/abort", Idempotent: true, Timeout: time.Minute})
	if n := requests.Load(); codeOf(err) != fieldgate.ProblemUpstreamUnreachable || n > 2 {
		t.Errorf("%v after %d requests", err, n)
	}
}

// Calls that come while the connections which the address may have are being opened wait for them.
func TestHTTP2CallsShareTheFirstConnection(t *testing.T) {
	var links atomic.Int32
	address, _ := http2Service(t, false, func(w http.ResponseWriter, r *http.Request) { links.Add(1) })
	u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{address}, MaxConnections: 1}, "")
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			if _, err := u.Do(context.Background(), &Request{Method: "POST", Target: "/", Body: []byte("x")}); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}

// What the service says that it has not looked at is sent again, whatever the method (RFC 9113 §8.7).
func TestHTTP2UnprocessedRequestsAreSentAgain(t *testing.T) {
	frame := func(kind, flags byte, stream uint32, payload ...byte) []byte {
		head := []byte{0, 0, byte(len(payload)), kind, flags}
		return append(binary.BigEndian.AppendUint32(head, stream), payload...)
	}
	const data, headers, rstStream, settings, goAway = 0, 1, 3, 4, 7
	for name, refuse := range map[string]func(stream uint32) []byte{
		"REFUSED_STREAM": func(stream uint32) []byte { return frame(rstStream, 0, stream, 0, 0, 0, 7) },
		"GOAWAY":         func(stream uint32) []byte { return frame(goAway, 0, 0, make([]byte, 8)...) }, // no stream was processed
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			address, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
				io.CopyN(io.Discard, in, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")))
				link.Write(frame(settings, 0, 0))
				refused := make(map[uint32]bool)
				for {
					head := make([]byte, 9)
					if _, err := io.ReadFull(in, head); err != nil {
						return
					}
					if _, err := io.CopyN(io.Discard, in, int64(head[0])<<16|int64(head[1])<<8|int64(head[2])); err != nil {
						return
					}
					stream, ended := binary.BigEndian.Uint32(head[5:]), head[4]&1 != 0
					switch {
					case head[3] == settings && !ended:
						link.Write(frame(settings, 1, 0))
					case head[3] == headers && requests.Add(1) == 1:
						refused[stream] = true
						link.Write(refuse(stream))
					case (head[3] == headers || head[3] == data) && ended && !refused[stream]:
						link.Write(frame(headers, 5, stream, 0x88)) // :status 200
					}
				}
			})
			u := newHTTP2(t, fieldgate.Upstream{Addresses: []string{address}}, "")
			answer, err := u.Do(context.Background(), &Request{Method: "POST", Target: "/", Body: []byte("content")})
			if err != nil || answer.Status != 200 || requests.Load() != 2 {
				t.Errorf("%v, %v after %d requests", answer, err, requests.Load())
			}
		})
	}
}
