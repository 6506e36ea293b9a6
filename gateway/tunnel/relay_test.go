//go:build linux && (amd64 || arm64)

package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/h1"

	"github.com/coder/websocket"
)

// ends receives the End of a tunnel.
type ends chan End

func (e ends) Ended(end End) { e <- end }

func (e ends) next(t testing.TB) End {
	t.Helper()
	select {
	case end := <-e:
		return end
	case <-time.After(2 * time.Minute):
		t.Fatal("the tunnel never ended")
	}
	return End{}
}

// means are the two ways to pass a WebSocket through.
type means struct {
	name string
	// join passes between the near ends of two connections, which it closes; end ends it.
	join func(t testing.TB, near [2]*net.TCPConn, read [2]string, messages *pipeline.Messages) (ended ends, end func(code int, reason string))
}

func allMeans(t testing.TB) []means {
	relay := running(t)
	return []means{{"relay", func(t testing.TB, near [2]*net.TCPConn, read [2]string, messages *pipeline.Messages) (ends, func(int, string)) {
		return join(t, relay, near, read, messages)
	}}, {"relay over TLS", func(t testing.TB, near [2]*net.TCPConn, read [2]string, messages *pipeline.Messages) (ends, func(int, string)) {
		return joinSecured(t, relay, near, read, messages, 0)
	}}, {"copy", func(t testing.TB, near [2]*net.TCPConn, read [2]string, messages *pipeline.Messages) (ends, func(int, string)) {
		ended, when := make(ends, 1), make(chan struct{})
		go func() {
			revoked := Ending{When: when, Code: h1.ClosePolicy, Reason: "revoked"} // what all tests end with
			ended <- Copy(near[0], near[1], []byte(read[0]), []byte(read[1]), messages, 0, revoked, Ending{})
		}()
		return ended, func(int, string) { close(when) }
	}}}
}

func join(t testing.TB, relay *Relay, near [2]*net.TCPConn, read [2]string, messages *pipeline.Messages) (ends, func(int, string)) {
	t.Helper()
	ended := make(ends, 1)
	tunnel, err := relay.Take(Link{TCP: near[0]}, Link{TCP: near[1]}, []byte(read[0]), []byte(read[1]), messages, 0, ended)
	if err != nil {
		t.Fatal(err)
	}
	near[0].Close()
	near[1].Close()
	return ended, tunnel.End
}

// running is a relay that runs until the test has ended.
func running(t testing.TB) *Relay {
	relay, stop := start(t)
	t.Cleanup(stop)
	return relay
}

func start(t testing.TB) (relay *Relay, stop func()) {
	relay = New(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	for ready := false; !ready; runtime.Gosched() {
		relay.mu.RLock()
		ready = len(relay.loops) > 0
		relay.mu.RUnlock()
	}
	return relay, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// pair is one TCP connection.
func pair(t testing.TB) (far, near *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialled, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	far, near = dialled.(*net.TCPConn), accepted.(*net.TCPConn)
	far.SetDeadline(time.Now().Add(2 * time.Minute))
	t.Cleanup(func() { far.Close(); near.Close() })
	return far, near
}

// tunnelled is a client and a service with a tunnel between them.
func tunnelled(t testing.TB, by means, messages *pipeline.Messages) (far [2]*net.TCPConn, ended ends, end func(int, string)) {
	t.Helper()
	var near [2]*net.TCPConn
	for i := range far {
		far[i], near[i] = pair(t)
	}
	ended, end = by.join(t, near, [2]string{}, messages)
	return far, ended, end
}

func expect(t testing.TB, link net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(link, got); err != nil || string(got) != want {
		t.Fatalf("got %.80q, %v; want %.80q", got[:n], err, want)
	}
}

func expectEnd(t testing.TB, link net.Conn) {
	t.Helper()
	if n, err := link.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("%d bytes, %v; want the end", n, err)
	}
}

func eachMeans(t *testing.T, run func(t *testing.T, by means)) {
	for _, by := range allMeans(t) {
		t.Run(by.name, func(t *testing.T) { run(t, by) })
	}
}

func TestBytesPassBothWaysAndAreCounted(t *testing.T) {
	eachMeans(t, func(t *testing.T, by means) {
		var far, near [2]*net.TCPConn
		for i := range far {
			far[i], near[i] = pair(t)
		}
		ended, _ := by.join(t, near, [2]string{"early ", "greeting "}, nil)
		io.WriteString(far[client], "question")
		io.WriteString(far[service], "answer")
		expect(t, far[service], "early question")
		expect(t, far[client], "greeting answer")
		far[client].Close()
		expectEnd(t, far[service])
		far[service].Close()
		if end := ended.next(t); end != (End{FromClient: 14, FromService: 15}) {
			t.Errorf("%+v", end)
		}
	})
}

// A side that has said all may still hear.
func TestHalfClose(t *testing.T) {
	eachMeans(t, func(t *testing.T, by means) {
		for side := range 2 {
			far, ended, _ := tunnelled(t, by, nil)
			one, other := far[side], far[1-side]
			io.WriteString(one, "bye")
			one.CloseWrite()
			expect(t, other, "bye")
			expectEnd(t, other)
			io.WriteString(other, "and more")
			expect(t, one, "and more")
			other.Close()
			expectEnd(t, one)
			ended.next(t)
		}
	})
}

func TestResetEndsBothSides(t *testing.T) {
	eachMeans(t, func(t *testing.T, by means) {
		for side := range 2 {
			far, ended, _ := tunnelled(t, by, nil)
			io.WriteString(far[side], "x")
			expect(t, far[1-side], "x")
			far[side].SetLinger(0)
			far[side].Close()
			if _, err := far[1-side].Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the other side: %v", err)
			}
			far[1-side].Close()
			ended.next(t)
		}
	})
}

// RFC 6455 §5.5.1, §7.4.1: who is cut off is told why, where a frame may stand.
func TestEndSaysWhy(t *testing.T) {
	eachMeans(t, func(t *testing.T, by means) {
		far, ended, end := tunnelled(t, by, nil)
		text := served(0x81, "hello")
		io.WriteString(far[service], text)
		expect(t, far[client], text)
		end(h1.ClosePolicy, "revoked")
		expect(t, far[client], served(0x88, "\x03\xf0revoked"))
		expectEnd(t, far[client])
		heard, err := io.ReadAll(far[service])
		if err != nil || len(heard) != 2+4+9 || heard[0] != 0x88 || heard[1] != 0x80|9 { // §5.1: the gateway is the client there
			t.Errorf("the service: %q, %v", heard, err)
		}
		io.WriteString(far[client], "what comes now is dropped")
		far[client].Close()
		far[service].Close()
		if got := ended.next(t); got.Code != h1.ClosePolicy || got.Refused {
			t.Errorf("%+v", got)
		}
	})
}

// A close frame within another frame would be taken for its payload.
func TestEndWithinAFrameIsSilent(t *testing.T) {
	eachMeans(t, func(t *testing.T, by means) {
		far, ended, end := tunnelled(t, by, nil)
		half := served(0x81, "hello")[:4]
		io.WriteString(far[service], half)
		expect(t, far[client], half)
		end(h1.ClosePolicy, "revoked")
		expectEnd(t, far[client])
		far[client].Close()
		far[service].Close()
		ended.next(t)
	})
}

// Whoever does not end after the gateway's close frame is ended.
func TestEndDoesNotWaitForEver(t *testing.T) {
	eachMeans(t, func(t *testing.T, by means) {
		_, ended, end := tunnelled(t, by, nil)
		end(h1.ClosePolicy, "revoked")
		ended.next(t) // though neither side closes
	})
}

func TestInvalidMessageEndsBothSides(t *testing.T) {
	messages := &pipeline.Messages{FromClient: readings(t), FromService: readings(t), Max: 64 << 10}
	good, bad := frame(0x81, `{"temp":1}`), frame(0x81, `{"temp":126}`)
	long := frame(0x81, `{"note":"`+strings.Repeat("x", 40_000)+`","temp":126}`)
	const reason = "\x03\xf0/temp maximum"
	eachMeans(t, func(t *testing.T, by means) {
		for name, wrong := range map[string]string{"short": bad, "long": long} {
			far, ended, _ := tunnelled(t, by, messages)
			io.WriteString(far[client], good+wrong+good)
			expect(t, far[service], good)
			expect(t, far[client], served(0x88, reason))
			if heard, err := io.ReadAll(far[service]); err != nil || len(heard) != 6+len(reason) {
				t.Errorf("%s: the service heard %q, %v", name, heard, err)
			}
			far[client].Close()
			far[service].Close()
			if end := ended.next(t); !end.Refused || end.Code != h1.ClosePolicy || end.InvalidClient != "/temp /properties/temp/maximum" || end.InvalidService != "" {
				t.Errorf("%s: %+v", name, end)
			}
		}
		far, ended, _ := tunnelled(t, by, messages)
		io.WriteString(far[service], served(0x81, `{}`))
		expect(t, far[client], served(0x88, "\x03\xf0required"))
		far[client].Close()
		far[service].Close()
		if end := ended.next(t); !end.Refused || end.InvalidService != "/required" || end.InvalidClient != "" {
			t.Errorf("%+v", end)
		}
	})
}

func TestShadowedMessagePasses(t *testing.T) {
	messages := &pipeline.Messages{FromClient: readings(t), Max: 64 << 10, Shadow: true}
	eachMeans(t, func(t *testing.T, by means) {
		far, ended, _ := tunnelled(t, by, messages)
		long := frame(0x81, `{"note":"`+strings.Repeat("x", 40_000)+`","temp":126}`)
		io.WriteString(far[client], long+frame(0x81, "{}"))
		expect(t, far[service], long+frame(0x81, "{}"))
		io.WriteString(far[service], "not even a frame: this direction is not checked")
		expect(t, far[client], "not even a frame")
		far[client].Close()
		far[service].Close()
		if end := ended.next(t); end.Refused || end.Code != 0 || end.InvalidClient != "/temp /properties/temp/maximum" {
			t.Errorf("%+v", end)
		}
	})
}

// More than sockets hold waits for its reader, and little of it in the gateway; other tunnels do not wait.
func TestSlowReaderHoldsBackItsSenderOnly(t *testing.T) {
	relay := running(t)
	by := allMeans(t)[0]
	by.join = func(t testing.TB, near [2]*net.TCPConn, read [2]string, messages *pipeline.Messages) (ends, func(int, string)) {
		return join(t, relay, near, read, messages)
	}
	slow, slowEnded, _ := tunnelled(t, by, nil)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 4<<20) // 64 MB
	written := make(chan error, 1)
	go func() {
		_, err := slow[client].Write(sent)
		slow[client].CloseWrite()
		written <- err
	}()
	quick, quickEnded, _ := tunnelled(t, by, nil)
	for i := range 200 {
		text := fmt.Sprintf("message %03d", i)
		io.WriteString(quick[client], text)
		expect(t, quick[service], text)
	}
	select {
	case err := <-written:
		t.Fatalf("64 MB disappeared: %v", err)
	default:
	}
	got, err := io.ReadAll(slow[service])
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	for _, link := range [...]net.Conn{slow[0], slow[1], quick[0], quick[1]} {
		link.Close()
	}
	if end := slowEnded.next(t); end.FromClient != uint64(len(sent)) {
		t.Errorf("%+v", end)
	}
	quickEnded.next(t)
}

// RFC 6455 §7.4.1: 1001 when the gateway goes away. Run returns when all tunnels have ended.
func TestDrain(t *testing.T) {
	relay, stop := start(t)
	defer stop()
	var far [2]*net.TCPConn
	var near [2]*net.TCPConn
	for i := range far {
		far[i], near[i] = pair(t)
	}
	ended, _ := join(t, relay, near, [2]string{}, nil)
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	expect(t, far[client], served(0x88, "\x03\xe9"))
	far[client].Close()
	far[service].Close()
	<-stopped
	if end := ended.next(t); end.Code != h1.CloseGoingAway {
		t.Errorf("%+v", end)
	}
	far[client], near[0] = pair(t)
	if _, err := relay.Take(Link{TCP: near[0]}, Link{TCP: near[0]}, nil, nil, nil, 0, ended); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a relay that does not run took a tunnel: %v", err)
	}
}

// Thousands that open, talk and end in all ways leave no descriptor, no goroutine and no place behind.
func TestNothingLeaks(t *testing.T) {
	relay, stop := start(t)
	defer stop()
	messages := &pipeline.Messages{FromClient: readings(t), Max: 64 << 10}
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 20 {
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				var far, near [2]*net.TCPConn
				for i := range far {
					far[i], near[i] = pair(t)
				}
				ended, end := join(t, relay, near, [2]string{}, []*pipeline.Messages{nil, messages}[i%2])
				io.WriteString(far[client], frame(0x01, "{")[:rand.IntN(7)])
				switch i % 5 {
				case 0:
					far[client].SetLinger(0)
				case 1:
					end(h1.ClosePolicy, "")
				case 2:
					far[service].SetLinger(0)
					far[service].Close()
				case 3:
					io.WriteString(far[client], "no frame at all, that is")
				}
				far[client].Close()
				far[service].Close()
				ended.next(t)
				end(h1.ClosePolicy, "too late")
			})
		}
		all.Wait()
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) { // what was closed at last may be under way
		if openFiles(t) <= files && runtime.NumGoroutine() <= goroutines {
			return
		}
	}
	t.Errorf("%d descriptors, were %d; %d goroutines, were %d", openFiles(t), files, runtime.NumGoroutine(), goroutines)
}

func openFiles(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A message that is checked has to be whole in time, however often a piece of it comes.
func TestUnfinishedMessageIsNotHeldForEver(t *testing.T) {
	messages := &pipeline.Messages{FromClient: readings(t), Max: 64 << 10}
	relay := running(t)
	var far, near [2]*net.TCPConn
	for i := range far {
		far[i], near[i] = pair(t)
	}
	ended := make(ends, 1)
	tunnel, err := relay.Take(Link{TCP: near[0]}, Link{TCP: near[1]}, nil, nil, messages, 0, ended)
	if err != nil {
		t.Fatal(err)
	}
	near[0].Close()
	near[1].Close()
	io.WriteString(far[client], frame(0x01, "{")+frame(0x89, "seen"))
	expect(t, far[service], frame(0x89, "seen"))
	due := make(chan bool, 1)
	tunnel.loop.do(tunnel, func() {
		due <- !tunnel.by.IsZero() && !tunnel.by.After(time.Now().Add(stalled))
		tunnel.sides[client].says.inspector.since = time.Unix(1, 0) // as if it had taken long
	})
	if !<-due {
		t.Error("it has no time to end by")
	}
	io.WriteString(far[client], frame(0x00, " "))
	ended.next(t)
}

// An idle tunnel has no goroutine, and no buffer even after it has been busy.
func TestIdleTunnelHoldsNothing(t *testing.T) {
	relay, stop := start(t)
	messages := &pipeline.Messages{FromClient: readings(t), FromService: readings(t), Max: 64 << 10}
	goroutines := runtime.NumGoroutine()
	tunnels := make([]*Tunnel, 100)
	var links []net.Conn
	for i := range tunnels {
		var far, near [2]*net.TCPConn
		for i := range far {
			far[i], near[i] = pair(t)
		}
		var err error
		if tunnels[i], err = relay.Take(Link{TCP: near[0]}, Link{TCP: near[1]}, nil, nil, messages, 0, make(ends, 1)); err != nil {
			t.Fatal(err)
		}
		near[0].Close()
		near[1].Close()
		stream := frame(0x01, `{"te`) + frame(0x89, "") + frame(0x80, `mp":1}`)
		for _, b := range []byte(stream) {
			far[client].Write([]byte{b})
		}
		expect(t, far[service], frame(0x89, "")+frame(0x01, `{"te`)+frame(0x80, `mp":1}`))
		links = append(links, far[0], far[1])
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines more", n-goroutines)
	}
	for _, link := range links {
		link.Close()
	}
	stop() // the loop has ended: its memory may be read
	for _, tunnel := range tunnels {
		for i := range tunnel.sides {
			if s := &tunnel.sides[i]; s.pending != nil || s.rest != nil || s.says.inspector.held != nil || s.says.inspector.control != nil {
				t.Fatalf("it holds %+v", s)
			}
		}
	}
}

// Messages of any size and fragmentation go through between an independent client and service, checked or not.
func TestAgainstAnotherImplementation(t *testing.T) {
	messages := &pipeline.Messages{FromClient: readings(t), FromService: readings(t), Max: 1 << 20}
	for _, by := range allMeans(t) {
		for name, messages := range map[string]*pipeline.Messages{"plain": nil, "checked": messages} {
			t.Run(by.name+" "+name, func(t *testing.T) { converse(t, by, messages) })
		}
	}
}

func converse(t *testing.T, by means, messages *pipeline.Messages) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		socket, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer socket.CloseNow()
		socket.SetReadLimit(1 << 20)
		for {
			kind, message, err := socket.Read(ctx)
			if err != nil {
				return
			}
			if socket.Write(ctx, kind, message) != nil {
				return
			}
		}
	}))
	defer service.Close()

	// A proxy of one connection: what it joins begins with the handshake, which is no frame, so that is passed first.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	joined := make(chan ends, 1)
	go func() {
		accepted, err := listener.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		dialled, err := net.Dial("tcp", strings.TrimPrefix(service.URL, "http://"))
		if err != nil {
			t.Error(err)
			return
		}
		relayHead(t, dialled, accepted)
		relayHead(t, accepted, dialled)
		ended, _ := by.join(t, [2]*net.TCPConn{accepted.(*net.TCPConn), dialled.(*net.TCPConn)}, [2]string{}, messages)
		joined <- ended
	}()
	socket, _, err := websocket.Dial(ctx, "ws://"+listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	socket.SetReadLimit(1 << 20)
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 100, 125 - 20, 126 - 20, 4 << 10, 65_535 - 20, 65_536, 300_000} {
		message := `{"temp":1,"note":"` + strings.Repeat("n", n) + `"}`
		writer, err := socket.Writer(ctx, websocket.MessageText)
		if err != nil {
			t.Fatal(err)
		}
		for rest := message; len(rest) > 0; { // each write is a fragment or more
			k := 1 + random.IntN(len(rest))
			if _, err := io.WriteString(writer, rest[:k]); err != nil {
				t.Fatal(err)
			}
			rest = rest[k:]
		}
		if err := writer.Close(); err != nil {
			t.Fatal(err)
		}
		if kind, got, err := socket.Read(ctx); err != nil || kind != websocket.MessageText || string(got) != message {
			t.Fatalf("%d bytes: %v, %d bytes came back, %v", n, kind, len(got), err)
		}
	}
	if messages != nil {
		if err := socket.Write(ctx, websocket.MessageText, []byte(`{"temp":126}`)); err != nil {
			t.Fatal(err)
		}
		var closed websocket.CloseError
		if _, _, err := socket.Read(ctx); !errors.As(err, &closed) || closed.Code != websocket.StatusPolicyViolation || closed.Reason != "/temp maximum" {
			t.Errorf("an invalid message: %v", err)
		}
	} else if err := socket.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Error(err)
	}
	(<-joined).next(t)
}

// relayHead passes one HTTP head on, byte by byte.
func relayHead(t testing.TB, to io.Writer, from io.Reader) {
	var head []byte
	for b := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, b[0]) {
		if _, err := from.Read(b); err != nil {
			t.Error(err)
			return
		}
	}
	to.Write(head)
}

func BenchmarkRelay(b *testing.B) {
	for _, by := range allMeans(b) {
		b.Run(by.name, func(b *testing.B) {
			far, _, _ := tunnelled(b, by, nil)
			far[client].SetDeadline(time.Time{})
			far[service].SetDeadline(time.Time{})
			message, got := []byte(served(0x81, "0123456789")), make([]byte, 64)
			b.ReportAllocs()
			for b.Loop() {
				far[client].Write(message)
				if _, err := far[service].Read(got); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
