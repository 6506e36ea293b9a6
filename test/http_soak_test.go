package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go/http3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"fieldgate/test/port"
)

const soakContract = `
openapi: 3.1.0
info: {title: Soak, version: 1.0.0}
security: []
x-fieldgate: {upstreams: {main: {ref: env/main}, calls: {ref: env/calls}}, upstream: main}
paths:
  /plain: {get: {operationId: plain, responses: &ok {'200': {description: ok}}}}
  /retried/plain: {get: {operationId: retried, x-fieldgate: {policies: [{retry: {attempts: 2, per-try-timeout: 2s, on: [connect, reset, 5xx, timeout]}}, {hedge: 100ms}]}, responses: *ok}}
  /checked:
    post:
      operationId: checked
      requestBody: {content: {application/json: {schema: {type: object, required: [n], properties: {n: {type: integer, minimum: 0}}}}}}
      responses: *ok
  /cached: {get: {operationId: cached, x-fieldgate: {policies: [{cache: {ttl: 1s, stale-while-revalidate: 1m, for: everyone}}]}, responses: *ok}}
  /idempotent:
    post:
      operationId: idempotent
      x-fieldgate: {policies: [{idempotency: {required: true}}]}
      requestBody: {content: {application/json: {schema: {type: object}}}}
      responses: *ok
  /upload: {post: {operationId: upload, x-fieldgate: {policies: [{max-body: 2MiB}]}, requestBody: {content: {application/octet-stream: {}}}, responses: *ok}}
  /download: {get: {operationId: download, responses: *ok}}
  /watch: {get: {operationId: watch, responses: *ok}}
  /chat: {get: {operationId: chat, x-fieldgate: {websocket: true}, responses: {'101': {description: ok}}}}
  /checked/chat:
    get:
      operationId: checked-chat
      x-fieldgate: {websocket: {from-client: &message {type: object, required: [n], properties: {n: {type: integer}}}, from-service: *message}}
      responses: {'101': {description: ok}}
  /grpc.testing.TestService/UnaryCall: {post: {operationId: unary, x-fieldgate: {upstream: calls}, requestBody: {content: {application/grpc: {}}}, responses: *ok}}
`

// soak is a node under a load of everything, by clients that count what they do.
type soak struct {
	*node
	ctx      context.Context
	services []*process
	operations
	faults atomic.Int64 // told so far
}

// operations are counted by their ids.
type operations struct {
	sync.Map // of *tally
}

// tally is what clients know of an operation: exchanges that were answered leave one Record each, those that broke off one at the most.
type tally struct{ answered, brokenOff atomic.Int64 }

func (o *operations) of(operation string) *tally {
	t, _ := o.LoadOrStore(operation, new(tally))
	return t.(*tally)
}

func (s *soak) fault(format string, arguments ...any) {
	if s.faults.Add(1) <= 10 {
		s.t.Errorf(format, arguments...)
	}
}

// call sends a request, and counts it. It gives the answer's status and content, whole if err is nil; status 0: there was no answer.
func (s *soak) call(client *http.Client, url, operation, method, path string, body []byte, fields ...string) (status int, content []byte, err error) {
	attempts := 0 // the client's library sends some requests again by itself
	ctx := httptrace.WithClientTrace(s.ctx, &httptrace.ClientTrace{WroteHeaders: func() { attempts++ }})
	request, err := http.NewRequestWithContext(ctx, method, url+path, bytes.NewReader(body))
	if err != nil {
		s.fault("%v", err)
		return 0, nil, err
	}
	for i := 0; i < len(fields); i += 2 {
		request.Header.Set(fields[i], fields[i+1])
	}
	response, err := client.Do(request)
	t := s.of(operation)
	t.brokenOff.Add(int64(max(attempts-1, 0)))
	if err != nil {
		t.brokenOff.Add(1)
		return 0, nil, err
	}
	t.answered.Add(1)
	defer response.Body.Close()
	content, err = io.ReadAll(response.Body)
	switch response.StatusCode {
	case 200, 502, 503, 504: // services are killed and stopped
	case 409, 422: // asked for
	default:
		s.fault("%s %s: %d %s", method, path, response.StatusCode, content)
	}
	return response.StatusCode, content, err
}

// requests sends one request after the other, of each sort.
func (s *soak) requests(client *http.Client, url string) {
	for i := 0; s.ctx.Err() == nil; i++ {
		s.call(client, url, "plain", "GET", "/plain", nil)
		s.call(client, url, "retried", "GET", "/retried/plain", nil)
		want := i%10 != 0
		body := fmt.Sprintf(`{"n": %d}`, i)
		if !want {
			body = `{"n": -1}`
		}
		if status, _, _ := s.call(client, url, "checked", "POST", "/checked", []byte(body), "Content-Type", "application/json"); status == 422 && want || status == 200 && !want {
			s.fault("%s: %d", body, status)
		}
		s.call(client, url, "cached", "GET", "/cached?n="+strconv.Itoa(i%5), nil)
		s.call(client, url, "idempotent", "POST", "/idempotent", []byte("{}"), "Content-Type", "application/json", "Idempotency-Key", strconv.Itoa(rand.IntN(2000)))
		if i%20 == 0 {
			upload := make([]byte, 1<<20)
			status, content, err := s.call(client, url, "upload", "POST", "/upload", upload, "Content-Type", "application/octet-stream")
			var received struct{ Received int }
			if status == 200 && err == nil && (json.Unmarshal(content, &received) != nil || received.Received != len(upload)) {
				s.fault("of 1 MiB the service got %s", content)
			}
			status, content, err = s.call(client, url, "download", "GET", "/download?bytes=10485760", nil)
			if status == 200 && err == nil && len(content) != 10<<20 {
				s.fault("%d bytes of 10 MiB are taken for whole", len(content))
			}
		}
	}
}

// webSockets opens one after the other, exchanges some messages and closes it, or lets it break off.
func (s *soak) webSockets(path, operation string, invalid bool) {
	t := s.of(operation)
	for i := 0; s.ctx.Err() == nil; i++ {
		link, response, err := websocket.Dial(s.ctx, "ws://"+s.http+path, nil)
		switch {
		case err == nil, response != nil:
			t.answered.Add(1)
		default:
			t.brokenOff.Add(1)
		}
		if err != nil {
			continue
		}
		for k := range 20 {
			message := fmt.Sprintf(`{"n": %d}`, k)
			if invalid && i%3 == 0 && k == 10 {
				message = `{}`
			}
			if link.Write(s.ctx, websocket.MessageText, []byte(message)) != nil {
				break
			}
			if _, got, err := link.Read(s.ctx); err != nil {
				if message == `{}` && s.ctx.Err() == nil && websocket.CloseStatus(err) != websocket.StatusPolicyViolation && websocket.CloseStatus(err) != -1 {
					s.fault("a message that breaks the contract: %v", err)
				}
				break
			} else if string(got) != message || message == `{}` {
				s.fault("%s became %s", message, got)
			}
		}
		if i%2 == 0 {
			link.Close(websocket.StatusNormalClosure, "")
		}
		link.CloseNow()
	}
}

// events follows streams for a while, and leaves.
func (s *soak) events() {
	t := s.of("watch")
	for s.ctx.Err() == nil {
		request, _ := http.NewRequestWithContext(s.ctx, "GET", "http://"+s.http+"/watch", nil)
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.brokenOff.Add(1)
			continue
		}
		t.answered.Add(1)
		io.CopyN(io.Discard, response.Body, 40)
		response.Body.Close()
	}
}

func (s *soak) remoteCalls(client *grpc.ClientConn) {
	t, service := s.of("unary"), grpc_testing.NewTestServiceClient(client)
	for s.ctx.Err() == nil {
		_, err := service.UnaryCall(s.ctx, &grpc_testing.SimpleRequest{ResponseSize: 1000, Payload: &grpc_testing.Payload{Body: make([]byte, 1000)}})
		if err == nil {
			t.answered.Add(1)
		} else { // from the gateway, or never sent
			t.brokenOff.Add(1)
			if text := status.Convert(err).Message(); strings.Contains(text, "unexpected HTTP") {
				s.fault("%v", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// leavers break off in the middle of everything.
func (s *soak) leavers() {
	for i := 0; s.ctx.Err() == nil; i++ {
		link, err := net.Dial("tcp", s.http)
		if err != nil {
			s.fault("%v", err)
			return
		}
		operation, size := "upload", 200_000
		switch i % 4 {
		case 0:
			fmt.Fprintf(link, "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: 1048576\r\n\r\n")
			link.Write(make([]byte, size))
		case 1:
			operation = "download"
			fmt.Fprintf(link, "GET /download?bytes=10485760 HTTP/1.1\r\nHost: a\r\n\r\n")
			io.CopyN(io.Discard, link, int64(size))
		case 2:
			operation = "plain"
			fmt.Fprintf(link, "GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
		case 3:
			operation = "" // no contract's: half a head
			fmt.Fprintf(link, "GET /plain HTTP/1.1\r\nHo")
		}
		s.of(operation).brokenOff.Add(1)
		if i%3 == 0 {
			link.(*net.TCPConn).SetLinger(0)
		}
		link.Close()
		time.Sleep(5 * time.Millisecond)
	}
}

// troubles kills and stops services, publishes contracts and changes the environment.
func (s *soak) troubles(environment string) {
	pause := func(d time.Duration) {
		select {
		case <-s.ctx.Done():
		case <-time.After(d):
		}
	}
	for i := 0; s.ctx.Err() == nil; i++ {
		p := s.services[i%len(s.services)]
		if i%4 < 2 {
			p.kill()
			pause(300 * time.Millisecond)
			p.start()
		} else {
			p.pause()
			pause(300 * time.Millisecond)
			p.resume()
		}
		s.publish(fmt.Sprintf("openapi: 3.1.0\ninfo: {title: Other, version: 1.0.0, description: change %d}\nsecurity: []\npaths:\n  /other/%d: {get: {operationId: other, responses: {'200': {description: ok, content: {application/json: {example: 1}}}}}}\n", i, i%5))
		if err := os.WriteFile(s.config, []byte(strings.Replace(environment, "timeout: 10s", fmt.Sprintf("timeout: %ds", 10+i%3), 1)), 0o600); err != nil {
			s.fault("%v", err)
		}
		s.process.Process.Signal(syscall.SIGHUP)
		pause(time.Second)
	}
}

// run puts the node under load for so long, and returns when no client is left.
func (s *soak) run(duration time.Duration, environment string, authority *x509.CertPool, secure string) {
	ctx, cancel := context.WithTimeout(s.t.Context(), duration)
	defer cancel()
	s.ctx = ctx
	calls, err := grpc.NewClient("passthrough:///"+s.http, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	trust := &tls.Config{RootCAs: authority}
	quic := &http3.Transport{TLSClientConfig: trust}
	plain, h2, secured := protocols["HTTP/1.1"](), protocols["HTTP/2"](), &http.Client{Transport: &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}}
	var clients sync.WaitGroup
	for _, work := range []func(){
		func() { s.requests(plain, "http://"+s.http) }, func() { s.requests(plain, "http://"+s.http) },
		func() { s.requests(h2, "http://"+s.http) }, func() { s.requests(secured, "https://"+secure) },
		func() { s.requests(&http.Client{Transport: quic}, "https://"+secure) },
		func() { s.webSockets("/chat", "chat", false) }, func() { s.webSockets("/checked/chat", "checked-chat", true) },
		s.events, s.leavers, func() { s.remoteCalls(calls) }, func() { s.troubles(environment) },
	} {
		clients.Go(work)
	}
	clients.Wait()
	for _, client := range []*http.Client{plain, h2, secured, http.DefaultClient} {
		client.CloseIdleConnections()
	}
	if err := errors.Join(quic.Close(), calls.Close()); err != nil {
		s.t.Error(err)
	}
}

// A load of everything that HTTP has, with services that are killed and stopped, callers that leave, contracts and settings that change:
// afterwards nothing is left of it but the Records, one for each exchange. FIELDGATE_SOAK_HTTP says how long (default 6s).
func TestHTTPSoak(t *testing.T) {
	t.Parallel() // it mostly waits
	duration, long := 6*time.Second, false
	if text := os.Getenv("FIELDGATE_SOAK_HTTP"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		long = true
	}
	s := &soak{node: newNode(t, nil), services: []*process{startProcess(t), startProcess(t)}}
	secure := port.Free(t)
	addresses := fmt.Sprintf("addresses: ['http://%s', 'http://%s']", s.services[0].address, s.services[1].address)
	var environment string
	s.rewrite(func(text string) string {
		text = strings.Replace(text, "listen: {", fmt.Sprintf("listen: {https: '%s', http3: '%s', ", secure, secure), 1)
		environment = strings.Replace(text, "upstreams:\n  {}\n", fmt.Sprintf("tls: {internal-ca: {names: [127.0.0.1]}}\nupstreams:\n  main: {%s, timeout: 10s, connect-timeout: 1s, health: {http: /plain, interval: 1s}}\n  calls: {%[1]s, timeout: 10s, protocol: http2}\n", addresses), 1)
		return environment
	})
	s.start()
	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM([]byte(s.node.run("tls", "ca"))) {
		t.Fatal("the authority has no certificate")
	}
	s.node.run("api", "publish", writeDocument(t, "soak.yaml", soakContract))
	http.DefaultClient.CloseIdleConnections()
	start := s.figures()

	// quiet waits until the node has given up what it had open. The upstreams' connections are closed after a minute without use; a short
	// test takes the addresses away instead.
	quiet := func() (f figures) {
		t.Helper()
		if !long {
			if err := os.WriteFile(s.config, []byte(strings.ReplaceAll(environment, addresses, "addresses: ['http://127.0.0.1:9']")), 0o600); err != nil {
				t.Fatal(err)
			}
			s.process.Process.Signal(syscall.SIGHUP)
		}
		end := time.Now().Add(2 * patience)
		for f = s.figures(); f.goroutines > start.goroutines+5 || f.sockets > start.sockets || f.files > start.files+10; f = s.figures() {
			if time.Now().After(end) {
				s.process.Process.Signal(syscall.SIGQUIT) // it tells what its goroutines are
				<-s.ended
				s.process = nil
				t.Fatalf("left behind: %+v, at the start %+v\n%s", f, start, s.log)
			}
			time.Sleep(100 * time.Millisecond)
		}
		return f
	}
	s.run(duration/4, environment, authority, secure)
	warm := quiet()
	t.Logf("at the start %+v, after a quarter %+v", start, warm)
	if err := os.WriteFile(s.config, []byte(environment), 0o600); err != nil {
		t.Fatal(err)
	}
	s.process.Process.Signal(syscall.SIGHUP)
	for range 3 {
		s.run(duration/4, environment, authority, secure)
		t.Logf("with the last client gone %+v", s.figures())
	}
	after := quiet()
	t.Logf("afterwards %+v", after)
	// Memory may not grow with the load: the first quarter has filled what is bounded.
	if most := warm.resident + 48; after.resident > most {
		wait(t, "the memory to be given back", func() bool { return s.memory()>>20 <= most })
	}
	s.compare()
}

// compare holds the Records against what clients counted.
func (s *soak) compare() {
	s.t.Helper()
	var report strings.Builder
	wait(s.t, "the records to agree", func() bool {
		var summary struct {
			Operations []struct {
				Operation string
				Exchanges int64
			}
		}
		s.adminGet("/api/v1/traffic/summary?minutes=1440", &summary)
		recorded := make(map[string]int64)
		for _, o := range summary.Operations {
			recorded[o.Operation] += o.Exchanges
		}
		report.Reset()
		agree := true
		s.Range(func(key, value any) bool {
			operation, t := key.(string), value.(*tally)
			least, most := t.answered.Load(), t.answered.Load()+t.brokenOff.Load()
			if operation == "" {
				least = 0
			}
			fmt.Fprintf(&report, "%s: %d records, %d answered, %d broken off\n", operation, recorded[operation], least, most-least)
			agree = agree && recorded[operation] >= least && recorded[operation] <= most
			return true
		})
		return agree
	})
	s.t.Log("\n" + report.String())
}
