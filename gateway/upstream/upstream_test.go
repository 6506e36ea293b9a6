package upstream

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/protocol/h1"
	"fieldgate/test/port"
)

func newSet(t testing.TB, config fieldgate.Upstream) *Upstream {
	t.Helper()
	config.Name = "test"
	patient(&config)
	s, err := NewSet([]fieldgate.Upstream{config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.closeIdle(time.Now().Add(time.Hour), true) })
	return s.Upstream("test")
}

// patient gives what a test leaves to the defaults all the time that a slow machine may need.
func patient(config *fieldgate.Upstream) {
	orDefault(&config.ConnectTimeout, time.Minute)
	orDefault(&config.Health.Timeout, time.Minute)
}

// rawServer runs script on each connection it accepts, with the number of the connection from 1.
func rawServer(t *testing.T, script func(number int, link net.Conn, in *bufio.Reader)) (address string, connections *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int32)
	var running sync.WaitGroup
	t.Cleanup(func() { listener.Close(); running.Wait() })
	running.Go(func() {
		for {
			link, err := listener.Accept()
			if err != nil {
				return
			}
			number := int(connections.Add(1))
			running.Go(func() {
				defer link.Close()
				script(number, link, bufio.NewReader(link))
			})
		}
	})
	return "http://" + listener.Addr().String(), connections
}

// readRequest reads one request with its content and returns what was asked for, "" when the connection ended.
func readRequest(in *bufio.Reader) string {
	r, err := http.ReadRequest(in)
	if err != nil {
		return ""
	}
	content, _ := io.ReadAll(r.Body)
	return r.Method + " " + r.RequestURI + " " + string(content)
}

func get(u *Upstream) (*Response, error) {
	return u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true})
}

func codeOf(err error) fieldgate.ProblemCode {
	var p *fieldgate.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}

func TestDo(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", r.Method+" "+r.RequestURI+" "+r.Host+" "+r.Header.Get("X-Device")+" "+fmt.Sprint(r.ContentLength))
		w.Header().Set("Connection", "keep-alive, X-Hop")
		w.Header().Set("X-Hop", "gone")
		w.WriteHeader(http.StatusCreated)
		w.Write(content)
	}))
	defer server.Close()
	u := newSet(t, fieldgate.Upstream{Addresses: []string{server.URL}})
	content := strings.Repeat("x", 100_000)
	for _, body := range []string{"", "small", content} {
		answer, err := u.Do(context.Background(), &Request{Method: "POST", Target: "/a?b=c", Host: "api.example",
			Fields: []Field{{Name: "X-Device", Value: "d1"}, {Name: "Content-Length", Value: "7"}, {Name: "Connection", Value: "X-Device"}}, Body: []byte(body)})
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprint("POST /a?b=c api.example d1 ", len(body))
		if answer.Status != 201 || string(answer.Body) != body || answer.Field("x-seen") != want || answer.Field("X-Hop") != "" {
			t.Errorf("status %d, %d bytes, fields %v", answer.Status, len(answer.Body), answer.Fields)
		}
	}
	if open := u.addresses()[0].open; open != 1 {
		t.Errorf("%d connections were opened for calls in turn", open)
	}
	answer, err := get(u)
	if err != nil || !strings.Contains(answer.Field("X-Seen"), server.Listener.Addr().String()) {
		t.Errorf("without a Host: %v, %v", answer, err)
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto+" secured")
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of our refusal
	server.StartTLS()
	defer server.Close()
	u := newSet(t, fieldgate.Upstream{Addresses: []string{server.URL}})
	if _, err := get(u); codeOf(err) != fieldgate.ProblemUpstreamUnreachable {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	u.addresses()[0].tls.loaded.RootCAs = roots
	for range 2 {
		if answer, err := get(u); err != nil || string(answer.Body) != "HTTP/1.1 secured" {
			t.Errorf("%v, %v", answer, err)
		}
	}
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer string // sent to each request; then the connection is closed
		want   fieldgate.ProblemCode
	}{
		{"closes without an answer", "", fieldgate.ProblemUpstreamUnreachable},
		{"garbage", "SSH-2.0-OpenSSH\r\n\r\n", fieldgate.ProblemUpstreamInvalid},
		{"head cut short", "HTTP/1.1 200 OK\r\nContent-Le", fieldgate.ProblemUpstreamInvalid},
		{"content cut short", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", fieldgate.ProblemUpstreamInvalid},
		{"chunks cut short", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", fieldgate.ProblemUpstreamInvalid},
		{"broken chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", fieldgate.ProblemUpstreamInvalid},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", fieldgate.ProblemUpstreamInvalid},
		{"length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", fieldgate.ProblemUpstreamInvalid},
		{"switches protocols unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", fieldgate.ProblemUpstreamInvalid},
		{"endless interim answers", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 20), fieldgate.ProblemUpstreamInvalid},
		{"head too large", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 40<<10) + "\r\n\r\n", fieldgate.ProblemUpstreamInvalid},
		{"announces too much", "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\nabc", fieldgate.ProblemUpstreamInvalid},
		{"sends too much", "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", MaxBufferedAnswer+1), fieldgate.ProblemUpstreamInvalid},
		{"interim answers first", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", ""},
		{"until the end of the connection", "HTTP/1.0 200 OK\r\n\r\nabc", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			address, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
				if readRequest(in) != "" {
					io.WriteString(link, test.answer)
				}
			})
			u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
			if _, err := get(u); codeOf(err) != test.want || test.want == "" && err != nil {
				t.Errorf("got %v", err)
			}
			if test.want != "" && u.addresses()[0].open != 0 {
				t.Error("the connection was kept")
			}
		})
	}
}

func TestHangingUpstream(t *testing.T) {
	release := make(chan struct{})
	address, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		readRequest(in)
		io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		readRequest(in)
		io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-")
		<-release
	})
	defer close(release)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
	connected := func() { // a service that no connection is made to in time is another problem
		if _, err := get(u); err != nil {
			t.Fatal(err)
		}
	}
	connected()
	_, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Timeout: 30 * time.Millisecond, Idempotent: true})
	if codeOf(err) != fieldgate.ProblemUpstreamTimeout {
		t.Errorf("time-out of the call: %v", err)
	}
	connected()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if _, err = u.Do(ctx, &Request{Method: "GET", Target: "/"}); codeOf(err) != fieldgate.ProblemUpstreamTimeout {
		t.Errorf("deadline of the context: %v", err)
	}
	connected()
	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(30*time.Millisecond, cancel)
	if _, err = u.Do(ctx, &Request{Method: "GET", Target: "/"}); codeOf(err) != fieldgate.ProblemUpstreamTimeout {
		t.Errorf("cancelled: %v", err)
	}
}

// An upstream that closes an idle connection just when it is used again: the request is repeated only if that is harmless.
func TestIdleConnectionBroke(t *testing.T) {
	var served atomic.Int32
	address, connections := rawServer(t, func(number int, link net.Conn, in *bufio.Reader) {
		for request := 1; readRequest(in) != ""; request++ {
			if number%2 == 1 && request == 2 {
				return // read, perhaps acted upon, and closed
			}
			served.Add(1)
			io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
	if _, err := get(u); err != nil {
		t.Fatal(err)
	}
	if _, err := get(u); err != nil || connections.Load() != 2 {
		t.Errorf("a GET is repeated on a new connection: %v, %d connections", err, connections.Load())
	}

	u = newSet(t, fieldgate.Upstream{Addresses: []string{address}})
	if _, err := get(u); err != nil {
		t.Fatal(err)
	}
	before := served.Load()
	_, err := u.Do(context.Background(), &Request{Method: "POST", Target: "/", Body: []byte("x")})
	if codeOf(err) != fieldgate.ProblemUpstreamUnreachable || served.Load() != before || connections.Load() != 3 {
		t.Errorf("a POST must not be repeated: %v, %d connections", err, connections.Load())
	}
}

// A connection that was closed while idle is noticed before anything is sent on it.
func TestClosedIdleConnectionIsNotUsed(t *testing.T) {
	closed := make(chan struct{}, 8)
	address, connections := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		readRequest(in)
		io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		link.Close()
		closed <- struct{}{}
	})
	u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
	for i := range 3 {
		if _, err := u.Do(context.Background(), &Request{Method: "POST", Target: "/"}); err != nil {
			t.Fatalf("call %d: %v", i+1, err)
		}
		<-closed
		for u.addresses()[0].idle[0].quiet() { // until the end of the connection has arrived
			time.Sleep(time.Millisecond)
		}
	}
	if connections.Load() != 3 {
		t.Errorf("%d connections", connections.Load())
	}
}

// A connection outlives the deadlines of its calls, however short their time-outs and however long it was idle between them.
func TestIdleConnectionOutlivesDeadlines(t *testing.T) {
	address, connections := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		for readRequest(in) != "" {
			io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
	call := Call{Method: []byte("POST"), Path: []byte("/"), Framing: h1.Length}
	for range 3 {
		for _, call.Timeout = range []time.Duration{time.Minute, time.Hour} {
			if problem := call.Send(u); problem != nil {
				t.Fatal(problem, problem.Cause)
			}
			if problem := call.Answer(); problem != nil {
				t.Fatal(problem, problem.Cause)
			}
			if _, err := call.Body().ReadAll(nil, 2); err != nil {
				t.Fatal(err)
			}
			link := call.conn
			call.End()
			link.deadline = time.Unix(1, 0) // as if the time-out had passed since
			link.SetDeadline(link.deadline)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestRoundRobinAndEjection(t *testing.T) {
	var counts [2]atomic.Int32
	var addresses []string
	for i := range counts {
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { counts[i].Add(1) }))
		defer server.Close()
		addresses = append(addresses, server.URL)
	}
	dead := "http://" + port.Free(t)
	u := newSet(t, fieldgate.Upstream{Addresses: append(addresses, dead), Outlier: fieldgate.Outlier{Ejection: time.Hour, MaxEjection: time.Hour}})
	for range 30 {
		if _, err := u.Do(context.Background(), &Request{Method: "POST", Target: "/"}); err != nil {
			t.Fatalf("an address that refuses must cost nobody an answer: %v", err)
		}
	}
	if a, b := counts[0].Load(), counts[1].Load(); a < 10 || b < 10 {
		t.Errorf("requests were spread %d to %d", a, b)
	}
	if u.addresses()[2].weight() != 0 {
		t.Error("the dead address is still in turn")
	}

	alone := newSet(t, fieldgate.Upstream{Addresses: []string{dead}})
	for range 2 { // also when it is left out, being the only one
		if _, err := get(alone); codeOf(err) != fieldgate.ProblemUpstreamUnreachable {
			t.Errorf("nothing listens: %v", err)
		}
	}
}

func TestMaxConnections(t *testing.T) {
	release := make(chan struct{})
	var busy, most atomic.Int32
	var connected atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		n := busy.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		if !connected.Load() { // the first two have a connection each
			for busy.Load() < 2 && !connected.Load() {
				time.Sleep(time.Millisecond)
			}
			connected.Store(true)
		} else {
			<-release
		}
		busy.Add(-1)
	}))
	defer server.Close()
	u := newSet(t, fieldgate.Upstream{Addresses: []string{server.URL}, MaxConnections: 2})
	a := u.addresses()[0]
	results := make(chan error, 8)
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			if _, err := get(u); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	patience := a.connectTimeout
	a.connectTimeout = 50 * time.Millisecond // of those that wait; nobody has to connect any more
	for range 8 {
		calls.Go(func() {
			_, err := get(u)
			results <- err
		})
	}
	for range 6 {
		if err := <-results; codeOf(err) != fieldgate.ProblemOverloaded {
			t.Errorf("beyond the bound: %v", err)
		}
	}
	close(release)
	calls.Wait()
	for range 2 {
		if err := <-results; err != nil {
			t.Errorf("within the bound: %v", err)
		}
	}
	if most.Load() != 2 {
		t.Errorf("%d requests at once", most.Load())
	}
	a.connectTimeout = patience
	for range 50 { // places are not lost; waiting calls take over connections that are given back
		calls.Go(func() {
			if _, err := get(u); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if a.open > 2 || len(a.idle) != a.open {
		t.Errorf("%d open, %d idle", a.open, len(a.idle))
	}
}

func TestSweepClosesIdleConnections(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	s, err := NewSet([]fieldgate.Upstream{{Name: "a", Addresses: []string{server.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(s.Upstream("a")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Run(ctx)
	if a := s.Upstream("a").addresses()[0]; a.open != 0 || len(a.idle) != 0 {
		t.Errorf("%d open, %d idle after the end", a.open, len(a.idle))
	}
	if _, err := get(s.Upstream("a")); err != nil {
		t.Error(err)
	}
	if a := s.Upstream("a").addresses()[0]; a.open != 0 {
		t.Error("a call after the end left its connection open")
	}
}

func TestHeaderInjection(t *testing.T) {
	u := newSet(t, fieldgate.Upstream{Addresses: []string{"http://127.0.0.1:1"}})
	for _, request := range []Request{
		{Method: "GET", Target: "/a b"}, {Method: "GET", Target: "a"}, {Method: "GET", Target: "/\r\nX: y"}, {Method: "G T", Target: "/"},
		{Method: "GET", Target: "/", Host: "a\r\nX: y"}, {Method: "GET", Target: "/", Fields: []Field{{Name: "A", Value: "b\r\nC: d"}}},
		{Method: "GET", Target: "/", Fields: []Field{{Name: "A: b\r\nC", Value: "d"}}},
	} {
		if _, err := u.Do(context.Background(), &request); codeOf(err) != fieldgate.ProblemBadRequest {
			t.Errorf("%+v: %v", request, err)
		}
	}
}

func TestConfiguration(t *testing.T) {
	for _, address := range []string{"", "localhost:80", "ftp://a", "http://", "http://u@a", "http://a/path", "http://a?b", "http://a:x", "http://a:0", "http://a:65536", "mqtt://a"} {
		if _, err := NewSet([]fieldgate.Upstream{{Name: "x", Addresses: []string{address}}}); err == nil {
			t.Errorf("address %q was accepted", address)
		}
	}
	if _, err := NewSet([]fieldgate.Upstream{{Name: "x"}}); err == nil {
		t.Error("no address was accepted")
	}
	one := fieldgate.Upstream{Name: "x", Addresses: []string{"http://a", "https://[::1]"}}
	if _, err := NewSet([]fieldgate.Upstream{one, one}); err == nil {
		t.Error("two of one name were accepted")
	}
	s, err := NewSet([]fieldgate.Upstream{one})
	if err != nil {
		t.Fatal(err)
	}
	if a := s.Upstream("x").addresses(); a[0].dial != "a:80" || a[1].dial != "[::1]:443" || a[1].authority != "[::1]" {
		t.Errorf("%+v", a)
	}
	if s.Upstream("y") != nil {
		t.Error("an upstream that the environment does not name")
	}
}

// An upstream that answers and closes before it has read all: its answer counts.
func TestEarlyAnswer(t *testing.T) {
	address, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		if _, err := http.ReadRequest(in); err != nil {
			t.Error(err)
		}
		io.WriteString(link, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	})
	u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
	answer, err := u.Do(context.Background(), &Request{Method: "PUT", Target: "/", Body: make([]byte, 1<<20)})
	if err == nil && answer.Status != 413 || err != nil && codeOf(err) != fieldgate.ProblemUpstreamUnreachable {
		t.Errorf("%v, %v", answer, err)
	}
}

func BenchmarkCall(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"ok\": true }")
	go func() {
		for {
			link, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { // every write of the client is one request
				buf := make([]byte, 4096)
				for {
					if _, err := link.Read(buf); err != nil {
						return
					}
					link.Write(answer)
				}
			}()
		}
	}()
	u := newSet(b, fieldgate.Upstream{Addresses: []string{"http://" + listener.Addr().String()}})
	call := Call{Method: []byte("GET"), Path: []byte("/"), Fields: []byte("Accept: */*\r\n"), Idempotent: true}
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if problem := call.Send(u); problem != nil {
			b.Fatal(problem)
		}
		if problem := call.Answer(); problem != nil {
			b.Fatal(problem)
		}
		for body := call.Body(); !body.Ended(); {
			if _, err := body.Read(buf); err != nil && err != io.EOF {
				b.Fatal(err)
			}
		}
		call.End()
	}
}
