package coap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"
)

func heapInUse() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// store is a small origin server for tests: it keeps what is PUT, counts what is POSTed and notifies observers.
type store struct {
	mu        sync.Mutex
	bodies    map[string][]byte
	formats   map[string]uint32
	posts     int
	observers map[*Observation]string
	udp       *UDP
	slow      chan struct{} // GET /slow waits for it
}

func (s *store) set(path string, body []byte) {
	s.mu.Lock()
	s.bodies[path] = body
	s.mu.Unlock()
}

// serve leaves to workers what waits, and every other POST.
func (s *store) serve(r *Request, response *Response) func(context.Context) {
	if r.Path() == "/slow" || r.Code == POST && r.MessageID%2 == 0 {
		return func(ctx context.Context) { s.handle(ctx, r, response) }
	}
	s.handle(context.Background(), r, response)
	return nil
}

func (s *store) handle(ctx context.Context, r *Request, response *Response) {
	path := r.Path()
	if path == "/slow" {
		select {
		case <-s.slow:
		case <-ctx.Done():
		}
		response.Body = []byte("at last")
		return
	}
	if path == "/panic" {
		panic("as asked")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Code {
	case GET:
		body, ok := s.bodies[path]
		if !ok {
			response.Code = NotFound
			return
		}
		response.Body = body
		response.Options.AddUint(ContentFormat, s.formats[path])
		if r.Registers() {
			o := &Observation{}
			o.Ended = func() {
				s.mu.Lock()
				delete(s.observers, o)
				s.mu.Unlock()
			}
			s.observers[o] = path
			response.Observation = o
		}
	case PUT:
		_, existed := s.bodies[path]
		s.bodies[path] = bytes.Clone(r.Body)
		s.formats[path], _ = r.Uint(ContentFormat)
		response.Code = Changed
		if !existed {
			response.Code = Created
		}
		for o, observed := range s.observers {
			if observed == path {
				go s.udp.Notify(o, &Response{Body: bytes.Clone(r.Body)})
			}
		}
	case POST, FETCH, PATCH, IPATCH:
		s.posts++
		response.Code = Changed
		if r.Code == FETCH {
			response.Code = Content
		}
		response.Body = bytes.Clone(r.Body)
	case DELETE:
		delete(s.bodies, path)
		response.Code = Deleted
	}
}

// startUDP runs a UDP on a loopback port until the test ends.
const testWorkers = 8

func startUDP(t testing.TB, config Config, handler Handler) *UDP {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	u, err := NewUDP(conn, config, testWorkers, handler, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return u
}

func startStore(t testing.TB, config Config) *store {
	s := &store{bodies: map[string][]byte{}, formats: map[string]uint32{}, observers: map[*Observation]string{}, slow: make(chan struct{})}
	s.mu.Lock() // a handler may read it
	defer s.mu.Unlock()
	s.udp = startUDP(t, config, s.serve)
	return s
}

func get(path string) *Call { return call(GET, path, nil) }

func call(code Code, path string, body []byte) *Call {
	c := &Call{Code: code, Body: body}
	for _, segment := range bytes.Split([]byte(path[1:]), []byte("/")) {
		c.Options.Add(URIPath, segment)
	}
	return c
}

func TestUDPBothRoles(t *testing.T) {
	s := startStore(t, Config{})
	client := startUDP(t, Config{}, nil)
	ctx := t.Context()
	body := pattern(64 << 10)
	put := call(PUT, "/big", body)
	put.BlockSize = 512
	if r, err := client.Do(ctx, s.udp.LocalAddr(), put); err != nil || r.Code != Created {
		t.Fatalf("PUT: %v %v", r, err)
	}
	r, err := client.Do(ctx, s.udp.LocalAddr(), get("/big"))
	if err != nil || r.Code != Content || sha256.Sum256(r.Body) != sha256.Sum256(body) {
		t.Fatalf("GET: %v, or the body differs", err)
	}
	echo := call(POST, "/x", pattern(5000))
	if r, err = client.Do(ctx, s.udp.LocalAddr(), echo); err != nil || !bytes.Equal(r.Body, pattern(5000)) {
		t.Fatalf("POST with bodies in both directions: %v, or it differs", err)
	}
	if r, err = client.Do(ctx, s.udp.LocalAddr(), get("/panic")); err != nil || r.Code != InternalServerError {
		t.Fatalf("a handler that panics: %v %v", r, err)
	}
	if r, err = startUDP(t, Config{}, nil).Do(ctx, client.LocalAddr(), get("/")); err != nil || r.Code != NotImplemented {
		t.Fatalf("asking a client: %v %v", r, err)
	}
}

func TestUDPSlowHandler(t *testing.T) {
	s := startStore(t, Config{})
	s.set("/fast", []byte("fast"))
	greedy, other := startUDP(t, Config{NStart: 100}, nil), startUDP(t, Config{}, nil)
	ctx := t.Context()
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			r, err := greedy.Do(ctx, s.udp.LocalAddr(), get("/slow"))
			if err != nil || string(r.Body) != "at last" {
				t.Errorf("slow: %v %v", r, err)
			}
		})
	}
	// All slots of the greedy peer are taken before the other asks.
	for {
		n := 0
		for _, sh := range s.udp.shards {
			sh.mu.Lock()
			n += sh.endpoint.requests
			sh.mu.Unlock()
		}
		if n == 12 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for range 20 {
		if r, err := other.Do(ctx, s.udp.LocalAddr(), get("/fast")); err != nil || string(r.Body) != "fast" {
			t.Fatalf("another peer: %v %v", r, err)
		}
	}
	// The handlers end only now: had the other waited for one of them, it would have waited for ever.
	close(s.slow)
	all.Wait()
}

// When the server ends, a request that it has begun is answered.
func TestUDPAnswersWhatItHasBegun(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	begun, goOn := make(chan struct{}), make(chan struct{})
	server, err := NewUDP(conn, Config{}, 4, Waiting(func(ctx context.Context, _ *Request, response *Response) {
		close(begun)
		<-goOn
		if ctx.Err() == nil {
			response.Code = Changed
		}
	}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	client := startUDP(t, Config{}, nil)
	answered := make(chan *Reply, 1)
	go func() {
		r, err := client.Do(t.Context(), server.LocalAddr(), call(POST, "/x", []byte("x")))
		if err != nil {
			t.Error(err)
		}
		answered <- r
	}()
	<-begun
	end()
	for closed := false; !closed; time.Sleep(time.Millisecond) {
		server.mu.Lock()
		closed = server.closed
		server.mu.Unlock()
	}
	close(goOn)
	if r := <-answered; r == nil || r.Code != Changed {
		t.Errorf("answered %+v", r)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestUDPObserve(t *testing.T) {
	s := startStore(t, Config{})
	s.set("/t", []byte("0"))
	client, other := startUDP(t, Config{}, nil), startUDP(t, Config{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var seen []string
	err := client.Observe(ctx, s.udp.LocalAddr(), get("/t"), func(r *Reply) bool {
		seen = append(seen, string(r.Body))
		if len(seen) == 4 {
			cancel()
			return true
		}
		next := call(PUT, "/t", []byte{'0' + byte(len(seen))})
		go other.Do(t.Context(), s.udp.LocalAddr(), next)
		return true
	})
	if !errors.Is(err, context.Canceled) || len(seen) != 4 || seen[0] != "0" || seen[3] != "3" {
		t.Errorf("saw %v, ended with %v", seen, err)
	}
	for s.udp.Stats().Observations != 0 {
		time.Sleep(time.Millisecond)
	}
}

func TestUDPUnreachable(t *testing.T) {
	client := startUDP(t, Config{AckTimeout: time.Millisecond}, nil)
	closed := netip.MustParseAddrPort("127.0.0.1:9")
	if _, err := client.Do(t.Context(), closed, get("/")); !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Do(ctx, closed, get("/")); !errors.Is(err, context.Canceled) && !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v", err)
	}
}
