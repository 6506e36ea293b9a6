package coap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// streamBench is a Stream behind a TCP listener, with a handler that keeps what is put.
type streamBench struct {
	*testing.T
	stream   *Stream
	listener net.Listener
	stop     context.CancelFunc
	ended    chan error

	mu        sync.Mutex
	bodies    map[string][]byte
	observers []*Observation
	slow      chan struct{} // GET /slow waits for it
}

func startStream(t *testing.T, config StreamConfig) *streamBench {
	b := &streamBench{T: t, bodies: make(map[string][]byte), slow: make(chan struct{}), ended: make(chan error, 1)}
	var err error
	if b.stream, err = NewStream(config, 16, Waiting(b.handle), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if b.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	go func() { b.ended <- b.stream.Run(ctx) }()
	go func() {
		for {
			conn, err := b.listener.Accept()
			if err != nil {
				return
			}
			go b.stream.Serve(conn, conn.RemoteAddr())
		}
	}()
	t.Cleanup(func() {
		b.listener.Close()
		stop()
		if err := <-b.ended; err != nil {
			t.Error(err)
		}
		if n := b.stream.unsent.Load(); n != 0 {
			t.Errorf("%d bytes count as unsent that nobody has", n)
		}
		if n := b.stream.cut.Load(); n != 0 {
			t.Errorf("%d bytes count as held that nobody has", n)
		}
	})
	return b
}

func (b *streamBench) handle(ctx context.Context, request *Request, response *Response) {
	path := request.Path()
	switch request.Code {
	case PUT:
		b.mu.Lock()
		b.bodies[path] = bytes.Clone(request.Body)
		b.mu.Unlock()
		response.Code = Changed
	case GET:
		if path == "/slow" {
			select {
			case <-b.slow:
			case <-ctx.Done():
			}
		}
		if path == "/panic" {
			panic("as asked")
		}
		b.mu.Lock()
		body, ok := b.bodies[path]
		if request.Registers() {
			o := &Observation{}
			b.observers = append(b.observers, o)
			response.Observation = o
		}
		b.mu.Unlock()
		if response.Body = body; !ok && response.Observation == nil {
			response.Code = NotFound
		}
	}
}

func (b *streamBench) observer() *Observation {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.observers) == 0 {
		return nil
	}
	return b.observers[len(b.observers)-1]
}

func (b *streamBench) client(config StreamConfig) *Client {
	b.Helper()
	conn, err := net.Dial("tcp", b.listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	c, err := NewClient(b.Context(), conn, config, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// until waits for what has to become true.
func until(t *testing.T, what string, true func() bool) {
	t.Helper()
	for began := time.Now(); !true(); time.Sleep(time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("%s does not come about", what)
		}
	}
}

func TestStreamBodies(t *testing.T) {
	b := startStream(t, StreamConfig{})
	for name, config := range map[string]Config{"as we do": {}, "without BERT": {MaxMessage: 1152}, "short messages": {MaxMessage: 300}, "long ones": {MaxMessage: 1 << 20}} {
		t.Run(name, func(t *testing.T) {
			c := b.client(StreamConfig{Config: config})
			for _, size := range []int{0, 1, 1024, 64 << 10, 1 << 20} {
				path, body := fmt.Sprintf("/%s%d", strings.ReplaceAll(name, " ", ""), size), pattern(size)
				if r, err := c.Do(t.Context(), call(PUT, path, body)); err != nil || r.Code != Changed {
					t.Fatalf("PUT of %d bytes: %+v, %v", size, r, err)
				}
				r, err := c.Do(t.Context(), get(path))
				if err != nil || r.Code != Content || sha256.Sum256(r.Body) != sha256.Sum256(body) {
					t.Fatalf("GET of %d bytes: %v", size, err)
				}
			}
		})
	}
}

func TestStreamManyClients(t *testing.T) {
	b := startStream(t, StreamConfig{})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			conn, err := net.Dial("tcp", b.listener.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			c, err := NewClient(t.Context(), conn, StreamConfig{}, nil, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			var calls sync.WaitGroup
			for j := range 50 { // more than may be in hand, so that it is not read for a while
				calls.Go(func() {
					path, body := fmt.Sprintf("/%d/%d", i, j), pattern(i*100+j)
					if r, err := c.Do(t.Context(), call(PUT, path, body)); err != nil || r.Code != Changed {
						t.Errorf("PUT %s: %+v, %v", path, r, err)
					}
					if r, err := c.Do(t.Context(), get(path)); err != nil || !bytes.Equal(r.Body, body) {
						t.Errorf("GET %s: %+v, %v", path, r, err)
					}
				})
			}
			calls.Wait()
		})
	}
	all.Wait()
	if refused := b.stream.Stats().Refused; refused != 0 {
		t.Errorf("%d requests were refused instead of waiting", refused)
	}
}

// raw is a connection whose client the test plays by hand.
type raw struct {
	*testing.T
	net.Conn
	frames frames
	rest   []byte
}

func (b *streamBench) raw(greet bool) *raw {
	b.Helper()
	conn, err := net.Dial("tcp", b.listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	r := &raw{T: b.T, Conn: conn, frames: frames{limit: 1 << 20}}
	if m := r.next(); m.Code != CSM {
		b.Fatalf("RFC 8323 §5.3: it begins with %v", m.Code)
	}
	if greet {
		r.send(signalOf(CSM, "", takes(1<<20)))
	}
	return r
}

func (r *raw) send(datagram []byte) {
	if _, err := r.Write(appendFrame(nil, datagram)); err != nil {
		r.Error(err)
	}
}

// next gives the next message, with the code 0 at the end of the connection.
func (r *raw) next() (m Message) {
	r.Helper()
	for {
		datagram, rest, err := r.frames.next(r.rest)
		r.rest = rest
		if err != nil {
			r.Fatal(err)
		}
		if datagram != nil {
			if m, err = Decode(bytes.Clone(datagram)); err != nil {
				r.Fatal(err)
			}
			return m
		}
		buffer := make([]byte, 4096)
		n, err := r.Read(buffer)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				r.Fatal("nothing comes")
			}
			return Message{}
		}
		r.rest = buffer[:n]
	}
}

// want checks the codes of the next messages; 0 is the end of the connection.
func (r *raw) want(why string, codes ...Code) (last Message) {
	r.Helper()
	for _, code := range codes {
		if last = r.next(); last.Code != code {
			r.Fatalf("%s: got %v %q, want %v", why, last.Code, last.Payload, code)
		}
	}
	return last
}

// What a hostile client sends costs its own connection, and leaves nothing behind.
func TestStreamHostile(t *testing.T) {
	b := startStream(t, StreamConfig{GreetTimeout: 50 * time.Millisecond, MessageTimeout: 50 * time.Millisecond})
	bystander := b.client(StreamConfig{})
	for _, test := range []struct {
		clause string
		greets bool
		bytes  []byte
		want   []Code
	}{
		{"RFC 8323 §3.3: no CSM", false, nil, []Code{0}},
		{"RFC 8323 §3.3: half a CSM", false, []byte{0x30, 0xe1, 0x22}, []Code{0}},
		{"RFC 8323 §3.3: HTTP", false, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), []Code{Abort, 0}},
		{"RFC 8323 §3.3: TLS", false, []byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03}, []Code{Abort, 0}},
		{"RFC 8323 §3.3: a request first", false, []byte{0x20, 1, 0xb1, 'a'}, []Code{Abort, 0}},
		{"RFC 8323 §3.2: half a message for ever", true, []byte{0xd0, 200, 1, 0xb1, 'a', 0xff, 'x'}, []Code{0}},
		{"RFC 8323 §3.2: half a header for ever", true, []byte{0xf0, 0, 0}, []Code{0}},
		{"RFC 8323 §3.2: 4 GiB", true, []byte{0xf0, 0xff, 0xff, 0xff, 0xff, 1}, []Code{Abort, 0}},
		{"RFC 8323 §3.2: a token of 15 bytes", true, []byte{0x0f, 1}, []Code{Abort, 0}},
		{"RFC 8323 §5.2: a critical option in a Ping", true, []byte{0x10, 0xe2, 0x10}, []Code{Abort, 0}},
		{"RFC 8323 §5.6: an option without an end", true, []byte{0x10, 1, 0xb9}, []Code{Abort, 0}},
		{"RFC 8323 §5.6: an Abort", true, []byte{0x00, 0xe5}, []Code{0}},
		{"RFC 8323 §5.5: a Release", true, []byte{0x00, 0xe4}, []Code{0}},
		{"RFC 8323 §3.4: an Empty message, then a Ping", true, []byte{0x00, 0x00, 0x01, 0xe2, 'p', 0x00, 0xe4}, []Code{Pong, 0}},
	} {
		t.Run(test.clause, func(t *testing.T) {
			r := b.raw(test.greets)
			r.T = t
			r.Write(test.bytes)
			r.want(test.clause, test.want...)
		})
	}
	if _, err := bystander.Do(t.Context(), get("/nothing")); err != nil {
		t.Errorf("somebody else's connection: %v", err)
	}
	until(t, "that only the bystander is left", func() bool { return b.stream.Stats().Peers == 1 })
}

func TestStreamPanic(t *testing.T) {
	b := startStream(t, StreamConfig{})
	c := b.client(StreamConfig{})
	if r, err := c.Do(t.Context(), get("/panic")); err != nil || r.Code != InternalServerError {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.Do(t.Context(), get("/nothing")); err != nil || r.Code != NotFound {
		t.Errorf("afterwards: %+v, %v", r, err)
	}
}

func TestStreamConnectionsAreBounded(t *testing.T) {
	b := startStream(t, StreamConfig{MaxConnections: 2})
	b.client(StreamConfig{})
	b.client(StreamConfig{})
	conn, err := net.Dial("tcp", b.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(t.Context(), conn, StreamConfig{}, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrNoGreeting) {
		t.Errorf("the third: %v", err)
	}
	if n := b.stream.Stats().Refused; n != 1 {
		t.Errorf("%d counted", n)
	}
}

// A connection that is ended is told why (RFC 8323 §5.6), and is gone.
func TestStreamEnd(t *testing.T) {
	b := startStream(t, StreamConfig{})
	before := time.Now()
	c := b.client(StreamConfig{})
	if _, err := c.Do(t.Context(), get("/nothing")); err != nil {
		t.Fatal(err)
	}
	var peers []PeerState
	b.stream.Inspect(func(e *Endpoint) { peers = e.AppendPeers(peers) })
	if len(peers) != 1 || b.stream.Opened(peers[0].Addr).Before(before) {
		t.Fatalf("%+v, opened %v", peers, b.stream.Opened(peers[0].Addr))
	}
	if !b.stream.End(peers[0].Addr, "it is in the way") {
		t.Error("there was no connection")
	}
	until(t, "the end of the connection", func() bool { return b.stream.Opened(peers[0].Addr).IsZero() })
	if b.stream.End(peers[0].Addr, "again") {
		t.Error("there is a connection still")
	}
	if _, err := c.Do(t.Context(), get("/nothing")); err == nil {
		t.Error("the client knows of nothing")
	}
}

// What has come of all messages that are cut is bounded together.
func TestStreamPiecesAreBounded(t *testing.T) {
	b := startStream(t, StreamConfig{Config: Config{TransferBytes: 100_000}})
	var last *raw
	for range 2 {
		last = b.raw(true)
		last.Write(appendFrame(nil, withPayload(request(NonConfirmable, PUT, 0, "/a"), pattern(60_000)))[:59_000])
	}
	until(t, "that one is refused", func() bool { return b.stream.Stats().Refused == 1 && b.stream.Stats().Peers == 1 })
}

func TestStreamIdle(t *testing.T) {
	idle := 20 * time.Millisecond
	dead := startStream(t, StreamConfig{IdleTimeout: idle, PongTimeout: idle}).raw(true)
	dead.want("RFC 8323 §5.4: a silent peer is pinged, and ended when it stays silent", Ping, 0)
	b := startStream(t, StreamConfig{IdleTimeout: idle, PongTimeout: time.Minute})
	c := b.client(StreamConfig{})
	for range 5 {
		time.Sleep(2 * idle)
		if _, err := c.Do(t.Context(), get("/nothing")); err != nil {
			t.Fatalf("RFC 8323 §5.4: a peer that answers lives on: %v", err)
		}
	}
}

// A client that takes nothing gets the newest notification only, costs little, and keeps nobody waiting.
func TestStreamSlowReader(t *testing.T) {
	b := startStream(t, StreamConfig{})
	slow := b.raw(true)
	slow.send(request(NonConfirmable, GET, 7, "/o", withUint(Observe, 0)))
	slow.want("registered", Content)
	o := b.observer()
	body := pattern(32 << 10)
	for i := range 2000 {
		b.stream.Notify(o, &Response{Body: fmt.Appendf(body, "%d", i)})
	}
	if n := b.stream.unsent.Load(); n > 4*(32<<10)+64<<10 {
		t.Errorf("%d bytes wait for it", n)
	}
	quick := b.client(StreamConfig{})
	if _, err := quick.Do(t.Context(), get("/nothing")); err != nil {
		t.Error(err)
	}
	notifications, newest := 0, ""
	for newest != "1999" {
		m := slow.want("RFC 7641 §4.5.2", Content)
		newest = string(m.Payload[len(body):])
		notifications++
	}
	if notifications > 1900 {
		t.Errorf("%d of 2,000 notifications came: none gave way to a newer one", notifications)
	}
	t.Logf("%d of 2,000 notifications came", notifications)
}

// A client that takes no answers is not read, and ended in time; one that had to wait gets all.
func TestStreamAnswersNotTaken(t *testing.T) {
	for _, test := range []struct {
		name  string
		takes bool
		time  time.Duration
	}{{"taken late", true, time.Minute}, {"never taken", false, 100 * time.Millisecond}} {
		t.Run(test.name, func(t *testing.T) {
			b := startStream(t, StreamConfig{WriteTimeout: test.time})
			b.bodies["/big"] = pattern(60_000)
			r := b.raw(true)
			r.T = t
			asked := make(chan int)
			go func() {
				n, frame := 0, appendFrame(nil, request(NonConfirmable, GET, 0, "/big"))
				for ; n < 400; n++ {
					if _, err := r.Write(frame); err != nil {
						break
					}
				}
				asked <- n
			}()
			if test.takes {
				for range <-asked {
					r.want("all are answered", Content)
				}
				r.Close()
				return
			}
			until(t, "that it is ended", func() bool { return b.stream.Stats().Peers == 0 })
			<-asked
			if n := b.stream.unsent.Load(); n != 0 {
				t.Errorf("%d bytes count as unsent", n)
			}
		})
	}
}

// Those who take nothing are cut off when all together have too much unsent.
func TestStreamUnsentIsBounded(t *testing.T) {
	b := startStream(t, StreamConfig{UnsentBytes: 1 << 20})
	b.bodies["/big"] = pattern(60_000)
	for range 8 {
		r := b.raw(true)
		go func() {
			frame := appendFrame(nil, request(NonConfirmable, GET, 0, "/big"))
			for range 400 {
				if _, err := r.Write(frame); err != nil {
					break
				}
			}
		}()
	}
	until(t, "that some are cut off", func() bool { return b.stream.Stats().Refused > 0 })
	if n := b.stream.unsent.Load(); n > 3<<20 {
		t.Errorf("%d bytes are unsent", n)
	}
}

func TestStreamShutdown(t *testing.T) {
	b := startStream(t, StreamConfig{})
	idle, busy := b.raw(true), b.raw(true)
	busy.send(request(NonConfirmable, GET, 0, "/slow"))
	until(t, "that the request runs", func() bool { return b.stream.Stats().Received >= 3 })
	b.stop()
	idle.want("RFC 8323 §5.5: peers are told", Release)
	busy.want("RFC 8323 §5.5: also one who waits", Release)
	close(b.slow)
	busy.want("RFC 8323 §5.5: what was received is answered", NotFound, 0)
	idle.want("the connection ends", 0)
	if c := b.stream.open(mustDial(t, b), nil); c != nil {
		t.Error("a connection is taken in afterwards")
	}
}

func mustDial(t *testing.T, b *streamBench) net.Conn {
	conn, err := net.Dial("tcp", b.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestClientObserves(t *testing.T) {
	b := startStream(t, StreamConfig{})
	c := b.client(StreamConfig{})
	b.bodies["/o"] = []byte("first")
	heard := make(chan string, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- c.Observe(t.Context(), get("/o"), func(r *Reply) bool {
			heard <- string(r.Body)
			return true
		})
	}()
	if got := <-heard; got != "first" {
		t.Fatal(got)
	}
	long := pattern(200_000) // in blocks
	b.mu.Lock()
	b.bodies["/o"] = long
	b.mu.Unlock()
	b.stream.Notify(b.observer(), &Response{Body: long})
	if got := <-heard; got != string(long) {
		t.Fatalf("%d bytes", len(got))
	}
	b.stop()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("RFC 8323 §7.4: %v", err)
	}
	<-c.Ended()
	if _, err := c.Do(t.Context(), get("/o")); !errors.Is(err, ErrClosed) {
		t.Errorf("a request afterwards: %v", err)
	}
}

func TestClientWithoutServer(t *testing.T) {
	near, far := net.Pipe()
	go io.Copy(io.Discard, far)
	if _, err := NewClient(t.Context(), near, StreamConfig{GreetTimeout: 10 * time.Millisecond}, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrNoGreeting) {
		t.Errorf("RFC 8323 §3.3: a server that says nothing: %v", err)
	}
	near, far = net.Pipe()
	go io.Copy(io.Discard, far)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewClient(ctx, near, StreamConfig{}, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// Requests of a server to its client are answered by the client's handler (RFC 8323 §3.3).
func TestServerAsksClient(t *testing.T) {
	b := startStream(t, StreamConfig{})
	conn := mustDial(t, b)
	c, err := NewClient(t.Context(), conn, StreamConfig{}, func(request *Request, response *Response) func(context.Context) {
		response.Body = append([]byte("re: "), request.Body...)
		return nil
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer := connectionName(1)
	if got := b.stream.Origin(peer); fmt.Sprint(got) != conn.LocalAddr().String() {
		t.Errorf("origin %v", got)
	}
	r, err := b.stream.Do(t.Context(), peer, call(POST, "/x", []byte("hello")))
	if err != nil || string(r.Body) != "re: hello" {
		t.Errorf("%+v, %v", r, err)
	}
	c2 := b.client(StreamConfig{})
	_ = c2
	if r, err := b.stream.Do(t.Context(), connectionName(2), get("/x")); err != nil || r.Code != NotImplemented {
		t.Errorf("RFC 8323 §3.3: a client without a handler: %+v, %v", r, err)
	}
	if _, err := b.stream.Do(t.Context(), connectionName(9), get("/x")); !errors.Is(err, ErrClosed) {
		t.Errorf("who is not there: %v", err)
	}
}
