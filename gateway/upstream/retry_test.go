package upstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/clock"
	"fieldgate/protocol/h1"
	"fieldgate/test/port"
)

const everything = fieldgate.RetryConnect | fieldgate.RetryReset | fieldgate.RetryStatus | fieldgate.RetryTimeout

// badThen answers the first n requests badly, in that way, and all others with "ok".
func badThen(t *testing.T, n int32, bad func(link net.Conn)) (address string, requests *atomic.Int32) {
	requests = new(atomic.Int32)
	address, _ = rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		for readRequest(in) != "" {
			if requests.Add(1) <= n {
				bad(link)
				return
			}
			io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	return address, requests
}

func reset(link net.Conn) { link.(*net.TCPConn).SetLinger(0) }

func unavailable(link net.Conn) {
	io.WriteString(link, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")
}

func garbage(link net.Conn) { io.WriteString(link, "SSH-2.0-OpenSSH\r\n\r\n") }

func halfHead(link net.Conn) { io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Le") }

// What fails is sent again only as the contract says, and never what may have been acted upon and is not idempotent.
func TestRetry(t *testing.T) {
	for _, test := range []struct {
		name       string
		bad        func(net.Conn)
		times      int32 // that it is bad
		retry      fieldgate.Retry
		idempotent bool
		sent       int32 // requests at the origin
		want       fieldgate.ProblemCode
		status     int
	}{
		{"reset, idempotent", reset, 1, fieldgate.Retry{Attempts: 2, On: everything}, true, 2, "", 200},
		{"reset twice, idempotent", reset, 2, fieldgate.Retry{Attempts: 2, On: everything}, true, 3, "", 200},
		{"reset more often than attempts", reset, 3, fieldgate.Retry{Attempts: 2, On: everything}, true, 3, fieldgate.ProblemUpstreamUnreachable, 0},
		{"reset, not idempotent", reset, 1, fieldgate.Retry{Attempts: 2, On: everything}, false, 1, fieldgate.ProblemUpstreamUnreachable, 0},
		{"reset, but only statuses are retried", reset, 1, fieldgate.Retry{Attempts: 2, On: fieldgate.RetryStatus}, true, 1, fieldgate.ProblemUpstreamUnreachable, 0},
		{"503, idempotent", unavailable, 1, fieldgate.Retry{Attempts: 1, On: everything}, true, 2, "", 200},
		{"503, not idempotent", unavailable, 1, fieldgate.Retry{Attempts: 1, On: everything}, false, 1, "", 503},
		{"503, but only resets are retried", unavailable, 1, fieldgate.Retry{Attempts: 1, On: fieldgate.RetryReset}, true, 1, "", 503},
		{"503 more often than attempts: the last answer counts", unavailable, 5, fieldgate.Retry{Attempts: 1, On: everything}, true, 2, "", 503},
		{"garbage is no answer that a retry mends", garbage, 1, fieldgate.Retry{Attempts: 2, On: everything}, true, 1, fieldgate.ProblemUpstreamInvalid, 0},
		{"head cut short: an answer had begun", halfHead, 1, fieldgate.Retry{Attempts: 2, On: everything}, true, 1, fieldgate.ProblemUpstreamInvalid, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			address, requests := badThen(t, test.times, test.bad)
			u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
			answer, err := u.Do(context.Background(), &Request{Method: "PUT", Target: "/", Body: []byte("x"), Idempotent: test.idempotent, Retry: &test.retry})
			if codeOf(err) != test.want || err == nil && answer.Status != test.status {
				t.Errorf("%+v, %v", answer, err)
			}
			if n := requests.Load(); n != test.sent {
				t.Errorf("the request was sent %d times, want %d", n, test.sent)
			}
			if n := u.shared.inFlight.Load(); n != 0 {
				t.Errorf("%d tries never ended", n)
			}
		})
	}
}

// A try that takes longer than it may is given up for one on another address.
func TestRetryAfterTimeoutOfATry(t *testing.T) {
	release := make(chan struct{})
	const most = 8 // connections that the slow address may need, so that no try has to wait for one
	slow, slowRequests := hangingLater(t, most, release)
	fast, _ := badThen(t, 0, nil)
	defer close(release)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{slow, fast}})
	connect(t, u, 2*most)
	retry := &fieldgate.Retry{Attempts: 5, PerTry: 200 * time.Millisecond, On: fieldgate.RetryTimeout}
	for range 4 {
		answer, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Timeout: 20 * time.Second, Retry: retry})
		if err != nil || string(answer.Body) != "ok" {
			t.Fatal(answer, err)
		}
	}
	if slowRequests.Load() == most {
		t.Error("nothing was sent to the slow address")
	}
}

// The time of a try is over with the head of its answer: what has begun has the call's time.
func TestAnswerMayTakeLongerThanATry(t *testing.T) {
	overHTTP1, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		readRequest(in)
		io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsl")
		time.Sleep(400 * time.Millisecond)
		io.WriteString(link, "ow")
	})
	overHTTP2, _ := http2Service(t, false, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "sl")
		w.(http.Flusher).Flush()
		time.Sleep(400 * time.Millisecond)
		io.WriteString(w, "ow")
	})
	retry := &fieldgate.Retry{Attempts: 1, PerTry: 200 * time.Millisecond, On: fieldgate.RetryTimeout}
	for _, u := range []*Upstream{newSet(t, fieldgate.Upstream{Addresses: []string{overHTTP1}}), newHTTP2(t, fieldgate.Upstream{Addresses: []string{overHTTP2}}, "")} {
		answer, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Timeout: 20 * time.Second, Retry: retry})
		if err != nil || string(answer.Body) != "slow" {
			t.Errorf("%v, %v", answer, err)
		}
	}
}

// hanging reads requests and answers none before release is closed.
func hanging(t *testing.T, release <-chan struct{}) (address string, requests *atomic.Int32) {
	requests = new(atomic.Int32)
	address, _ = rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		if readRequest(in) != "" {
			requests.Add(1)
			<-release
		}
	})
	return address, requests
}

// hangingLater answers the first so many requests, when all of them have come, and hangs then.
func hangingLater(t *testing.T, first int32, release <-chan struct{}) (address string, requests *atomic.Int32) {
	requests = new(atomic.Int32)
	address, _ = rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		for readRequest(in) != "" {
			if requests.Add(1) > first {
				<-release
				return
			}
			for requests.Load() < first && t.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
			io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	return address, requests
}

// connect makes so many calls at once; their connections are idle then. Calls with little time, which are to be too late for an answer and
// not for a connection, take those, however slow the machine is.
func connect(t *testing.T, u *Upstream, connections int) {
	t.Helper()
	var calls sync.WaitGroup
	for range connections {
		calls.Go(func() {
			if _, err := get(u); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}

// The deadline of the whole call is kept whatever is tried.
func TestRetryKeepsTheDeadline(t *testing.T) {
	release := make(chan struct{})
	const most = 600 / 50 // tries that there is time for
	address, requests := hangingLater(t, most, release)
	defer close(release)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{address}, RetryBudget: fieldgate.RetryBudget{PerSecond: 10_000}})
	connect(t, u, most)
	began := time.Now()
	_, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Timeout: 600 * time.Millisecond,
		Retry: &fieldgate.Retry{Attempts: 10_000, PerTry: 50 * time.Millisecond, On: everything}})
	if codeOf(err) != fieldgate.ProblemUpstreamTimeout || requests.Load() == most {
		t.Errorf("%v after %d tries", err, requests.Load()-most)
	}
	if took := time.Since(began); took > 5*time.Minute { // all tries and the waits between them would take longer
		t.Errorf("it took %v", took)
	}
}

// RFC 9110 §10.2.3: the upstream says when it may be asked again. Beyond the deadline its answer is passed on instead.
func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		value string
		sent  int32
	}{{"1", 2}, {"60", 1}, {"nonsense", 2}, {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), 1}} {
		t.Run(test.value, func(t *testing.T) {
			address, requests := badThen(t, 1, func(link net.Conn) {
				fmt.Fprintf(link, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n", test.value)
			})
			u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
			began := time.Now()
			answer, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Timeout: 20 * time.Second,
				Retry: &fieldgate.Retry{Attempts: 1, On: fieldgate.RetryStatus}})
			if err != nil || requests.Load() != test.sent || (answer.Status == 200) != (test.sent == 2) {
				t.Errorf("%+v, %v after %d requests", answer, err, requests.Load())
			}
			if test.value == "1" && time.Since(began) < time.Second {
				t.Error("it was asked too early")
			}
		})
	}
}

// A retry goes to an address that was not tried, as long as there is one.
func TestRetryOnAnotherAddress(t *testing.T) {
	var addresses []string
	var counts []*atomic.Int32
	for range 4 {
		address, requests := badThen(t, 1000, unavailable)
		addresses, counts = append(addresses, address), append(counts, requests)
	}
	u := newSet(t, fieldgate.Upstream{Addresses: addresses})
	if _, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Retry: &fieldgate.Retry{Attempts: 3, On: everything}}); err != nil {
		t.Fatal(err)
	}
	for i, requests := range counts {
		if requests.Load() != 1 {
			t.Errorf("address %d got %d requests", i, requests.Load())
		}
	}
}

// Half of the pool dead, killed and hanging alike: callers of what may be repeated do not notice.
func TestHalfOfThePoolDead(t *testing.T) {
	release := make(chan struct{})
	hung, _ := hanging(t, release)
	defer close(release)
	good, _ := badThen(t, 0, nil)
	alsoGood, _ := badThen(t, 0, nil)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{"http://" + port.Free(t), good, hung, alsoGood}})
	retry := &fieldgate.Retry{Attempts: 5, PerTry: 200 * time.Millisecond, On: everything}
	for i := range 40 {
		answer, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Timeout: 20 * time.Second, Retry: retry})
		if err != nil || answer.Status != 200 {
			t.Fatalf("call %d: %v, %v", i, answer, err)
		}
	}
}

// Nothing listens: the retry waits and finds the service back.
func TestRetryConnect(t *testing.T) {
	address := port.Free(t)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{"http://" + address}, RetryBudget: fieldgate.RetryBudget{PerSecond: 10_000}})
	request := &Request{Method: "POST", Target: "/", Body: []byte("x"), Timeout: 5 * time.Minute,
		Retry: &fieldgate.Retry{Attempts: 5, On: fieldgate.RetryConnect}}
	if _, err := u.Do(context.Background(), request); codeOf(err) != fieldgate.ProblemUpstreamUnreachable {
		t.Fatal(err)
	}
	request.Retry.Attempts = 10_000 // a slow machine takes its time to start the service
	back := make(chan *http.Server, 1)
	time.AfterFunc(60*time.Millisecond, func() {
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "back") })}
		if listener, err := net.Listen("tcp", address); err == nil {
			go server.Serve(listener)
		}
		back <- server
	})
	answer, err := u.Do(context.Background(), request) // not idempotent, but nothing was sent
	if err != nil || string(answer.Body) != "back" {
		t.Errorf("%v, %v", answer, err)
	}
	(<-back).Close()
}

// Content that is streamed is gone when it was sent.
func TestStreamedContentIsNotRetried(t *testing.T) {
	address, requests := badThen(t, 1, reset)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
	call := Call{Method: []byte("PUT"), Path: []byte("/"), Framing: h1.Chunked, Idempotent: true, Retry: &fieldgate.Retry{Attempts: 3, On: everything}}
	if problem := call.Send(u); problem != nil {
		t.Fatal(problem)
	}
	defer call.End()
	call.Write(make([]byte, h1.ChunkRoom+10+h1.ChunkTail), 10)
	call.EndContent(nil)
	if problem := call.Answer(); problem == nil || problem.Code != fieldgate.ProblemUpstreamUnreachable || requests.Load() != 1 {
		t.Errorf("%v after %d requests", problem, requests.Load())
	}
}

// An outage is not multiplied: retries stay within a share of the calls, and the first answer is passed on.
func TestRetryBudgetInAnOutage(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(503)
	}))
	defer server.Close()
	u := newSet(t, fieldgate.Upstream{Addresses: []string{server.URL}, RetryBudget: fieldgate.RetryBudget{Percent: 20, PerSecond: 1}})
	const calls = 200
	var running sync.WaitGroup
	for range 10 {
		running.Go(func() {
			for range calls / 10 {
				answer, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Retry: &fieldgate.Retry{Attempts: 5, On: everything}})
				if err != nil || answer.Status != 503 {
					t.Errorf("%v, %v", answer, err)
				}
			}
		})
	}
	running.Wait()
	if n := requests.Load(); n <= calls || n > calls+calls/5 {
		t.Errorf("%d requests for %d calls", n, calls)
	}
	if s := u.CallStats(); s.RetriesRefused == 0 || s.Retries != uint64(requests.Load()-calls) {
		t.Errorf("%d retries and %d refused ones are counted, %d were made", s.Retries, s.RetriesRefused, requests.Load()-calls)
	}
}

func TestRetryBudget(t *testing.T) {
	b := newRetryBudget(fieldgate.RetryBudget{})
	at := clock.Time(100 * time.Second)
	take := func(n int) (taken int) {
		for range n {
			if b.take(at) {
				taken++
			}
		}
		return taken
	}
	if n := take(100); n != 30 {
		t.Errorf("without calls %d retries, want 3 a second", n)
	}
	at = at.Add(9 * time.Second)
	for range 1000 {
		b.call(at)
	}
	if n := take(1000); n != 170 {
		t.Errorf("%d retries besides the 30 of before, want a fifth of 1000 calls in all", n)
	}
	at = at.Add(time.Second) // the first 30 are out of the window
	if n := take(1000); n != 30 {
		t.Errorf("%d retries when the window has moved, want 30", n)
	}
	at = at.Add(time.Minute)
	if n := take(100); n != 30 {
		t.Errorf("%d retries after a minute, want 30", n)
	}
	if n := testing.AllocsPerRun(100, func() { b.call(at); b.take(at) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A call that is cut while it waits between tries ends at once.
func TestCutBetweenTries(t *testing.T) {
	address, _ := badThen(t, 1000, func(link net.Conn) {
		io.WriteString(link, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n")
	})
	u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(30*time.Millisecond, cancel)
	began := time.Now()
	_, err := u.Do(ctx, &Request{Method: "GET", Target: "/", Idempotent: true, Timeout: time.Hour, Retry: &fieldgate.Retry{Attempts: 1, On: everything}})
	if time.Since(began) > 5*time.Minute {
		t.Errorf("it waited on: %v", err)
	}
}
