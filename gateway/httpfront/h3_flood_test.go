package httpfront

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// h3Head is a HEADERS frame (RFC 9114 §7.2.2) of a request, of fields that the static table has (RFC 9204 appendix A); more is appended
// to its field section.
func h3Head(method byte, path string, more ...byte) []byte {
	section := []byte{0, 0, 0xc0 | method, 0xc0 | 23} // :method, :scheme https
	section = append(append(section, 0x50, 1), "a"...)
	section = append(append(section, 0x51, byte(len(path))), path...)
	section = append(section, more...)
	return append([]byte{1, 0x80, byte(len(section) >> 16), byte(len(section) >> 8), byte(len(section))}, section...)
}

const h3GET, h3PUT = 17, 21

// quicDial connects without HTTP/3's own streams, which no server may insist on.
func quicDial(t *testing.T, url string, config *quic.Config) *quic.Conn {
	t.Helper()
	conn, err := quic.DialAddr(within(t), strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseWithError(0, "") })
	return conn
}

// h3Stream opens a stream that begins with those bytes.
func h3Stream(t *testing.T, conn *quic.Conn, begin []byte) *quic.Stream {
	t.Helper()
	s, err := conn.OpenStreamSync(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(begin); err != nil {
		t.Fatal(err)
	}
	return s
}

// expectH3 expects the others to be served.
func expectH3(t *testing.T, client *http.Client, url string) {
	t.Helper()
	answer, err := client.Get(url + "/mock")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if content, err := io.ReadAll(answer.Body); err != nil || string(content) != `{"mock":true}` {
		t.Fatalf("%q, %v", content, err)
	}
}

// closedWith waits until the gateway has closed the connection, and says how.
func closedWith(t *testing.T, conn *quic.Conn) http3.ErrCode {
	t.Helper()
	select {
	case <-conn.Context().Done():
	case <-time.After(2 * time.Minute): // a bound, no measurement
		t.Fatal("the connection goes on")
	}
	end, ok := errors.AsType[*quic.ApplicationError](context.Cause(conn.Context()))
	if !ok {
		t.Fatalf("it ended with %v", context.Cause(conn.Context()))
	}
	return http3.ErrCode(end.ErrorCode)
}

// deaf hears nothing of what the server says.
type deaf struct{ net.PacketConn }

func (d deaf) ReadFrom([]byte) (int, net.Addr, error) {
	_, _, err := d.PacketConn.ReadFrom(make([]byte, 1)) // until it is closed
	for err == nil {
		_, _, err = d.PacketConn.ReadFrom(make([]byte, 1))
	}
	return 0, nil, err
}

// Handshakes that are begun and left count for their source, and go.
func TestHTTP3HalfOpen(t *testing.T) {
	g := newGateway(t, newService(t), func(c *Config) { c.MaxConnectionsSource, c.HeadTimeout = 20, 5*time.Second })
	client, url := g.serveH3(t)
	address, err := net.ResolveUDPAddr("udp", strings.TrimPrefix(url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for range 40 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer udp.Close()
		go quic.Dial(ctx, deaf{udp}, address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if g.Stats().RefusedSource >= 20 {
			break
		}
	}
	if stats := g.Stats(); stats.Connections != 20 || stats.RefusedSource < 20 {
		t.Errorf("%+v", stats)
	}
	leave()
	g.waitForConnections(t, 0)
	expectH3(t, client, url)
}

// A connection that carries no exchange is idle, whatever else it sends: a head that never ends, and pings.
func TestHTTP3SlowHeads(t *testing.T) {
	g := newGateway(t, newService(t), func(c *Config) { c.IdleTimeout = 3 * time.Second })
	_, url := g.serveH3(t)
	conn := quicDial(t, url, &quic.Config{KeepAlivePeriod: 100 * time.Millisecond})
	head := h3Head(h3GET, "/mock")
	for range 50 {
		h3Stream(t, conn, head[:len(head)-1])
	}
	h3Stream(t, conn, []byte{1, 0xff, 0xff, 0xff}) // a length that does not end
	if code := closedWith(t, conn); code != http3.ErrCodeNoError {
		t.Errorf("closed with %v", code)
	}
	g.waitForConnections(t, 0)
}

// CVE-2023-44487: who opens streams and resets them again and again loses the connection, and nothing of them stays.
func TestHTTP3RapidReset(t *testing.T) {
	var seen atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		io.Copy(io.Discard, r.Body) // or package http would not notice that its client has gone
		<-r.Context().Done()
	}))
	defer service.Close()
	g := newGateway(t, service.URL, nil)
	client, url := g.serveH3(t)
	expectH3(t, client, url)
	before := runtime.NumGoroutine()
	conn := quicDial(t, url, nil)
	// Streams that are reset before their head is read cost nothing: these are seen, many at once, before they are reset.
	for range 1000 {
		var streams []*quic.Stream
		want := seen.Load() + 50
		for range 50 {
			s, err := conn.OpenStreamSync(conn.Context())
			if err != nil {
				break
			}
			s.Write(h3Head(h3GET, "/hang"))
			streams = append(streams, s)
		}
		for patience := 200; patience > 0 && conn.Context().Err() == nil && seen.Load() < want; patience-- {
			time.Sleep(time.Millisecond)
		}
		if conn.Context().Err() != nil {
			break
		}
		for _, s := range streams {
			s.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
			s.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		}
	}
	if code := closedWith(t, conn); code != http3.ErrCodeExcessiveLoad {
		t.Errorf("closed with %v", code)
	}
	expectH3(t, client, url)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if runtime.NumGoroutine() <= before+5 {
			return
		}
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

// Heads that are too large, or decompress to much, are refused, and the connection goes on.
func TestHTTP3HeadBombs(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	_, url := g.serveH3(t)
	conn := quicDial(t, url, nil)
	for name, head := range map[string][]byte{
		"indexed":        h3Head(h3GET, "/mock", bytes.Repeat([]byte{0xff, 85 - 63}, 16_000)...), // each 100 bytes (RFC 9204 §4.5.2)
		"announced":      {1, 0xbf, 0xff, 0xff, 0xff},
		"too many":       h3Head(h3GET, "/mock", bytes.Repeat([]byte{0xc0 | 29}, 200)...),
		"a long literal": h3Head(h3GET, "/mock", append([]byte{0x54, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x07}, make([]byte, 1000)...)...),
		"dynamic table":  h3Head(h3GET, "/mock", 0x80), // which was announced to be empty (RFC 9204 §3.2.3)
	} {
		t.Run(name, func(t *testing.T) {
			s := h3Stream(t, conn, head)
			s.SetReadDeadline(time.Now().Add(time.Minute))
			answer, err := io.ReadAll(s)
			if broken, reset := errors.AsType[*quic.StreamError](err); err != nil && (!reset || !broken.Remote) {
				t.Fatal(err)
			}
			if bytes.Contains(answer, []byte("mock")) {
				t.Errorf("answered with %q", answer)
			}
			s = h3Stream(t, conn, h3Head(h3GET, "/mock"))
			s.Close()
			if answer, err := io.ReadAll(s); err != nil || !bytes.Contains(answer, []byte(`{"mock":true}`)) {
				t.Errorf("the next: %q, %v", answer, err)
			}
		})
	}
}

// Content that drips, or answers that nobody takes, end their stream and free the service.
func TestHTTP3SlowContent(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 8<<20)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(big)
	}))
	defer service.Close()
	g := newGateway(t, service.URL, func(c *Config) { c.BodyTimeout, c.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond })
	client, url := g.serveH3(t)
	conn := quicDial(t, url, &quic.Config{KeepAlivePeriod: 100 * time.Millisecond, InitialStreamReceiveWindow: 64 << 10, MaxStreamReceiveWindow: 64 << 10})
	before := g.records.count()

	dripping := h3Stream(t, conn, h3Head(h3PUT, "/legacy/1", append([]byte{0x54, 6}, "100000"...)...)) // content-length
	go func() {
		for {
			if _, err := dripping.Write([]byte{0, 1, 'x'}); err != nil { // a DATA frame of one byte
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	h3Stream(t, conn, h3Head(h3PUT, "/legacy/1", append([]byte{0x54, 6}, "100000"...)...)) // says nothing more
	deaf := h3Stream(t, conn, h3Head(h3GET, "/legacy/1"))                                  // and is never read
	deaf.Close()
	for i := range 3 {
		g.records.next(t, before+i)
	}
	expectH3(t, client, url)
	short := h3Stream(t, conn, append(h3Head(h3PUT, "/legacy/1", append([]byte{0x54, 1}, "5"...)...), 0, 2, 'a', 'b')) // RFC 9114 §4.1.2
	short.Close()
	long := h3Stream(t, conn, append(h3Head(h3PUT, "/legacy/1", append([]byte{0x54, 1}, "1"...)...), 0, 2, 'a', 'b'))
	long.Close()
	for name, s := range map[string]*quic.Stream{"short": short, "long": long} {
		s.SetReadDeadline(time.Now().Add(time.Minute))
		if answer, err := io.ReadAll(s); err == nil && len(answer) > 1<<20 {
			t.Errorf("%s content was taken for whole", name)
		}
	}
}

// A request under way is answered when the gateway shuts down, what comes later is not, and the connection ends.
func TestHTTP3Drain(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-release
		io.WriteString(w, "late")
	}))
	defer service.Close()
	answerNow := sync.OnceFunc(func() { close(release) })
	defer answerNow()
	g := newGateway(t, service.URL, nil)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.ServeHTTP3(ctx, udp, h3Certificate(t)) }()
	transport := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.Close()
	client, url := &http.Client{Transport: transport}, "https://"+udp.LocalAddr().String()
	idle := quicDial(t, url, nil)
	if _, err := idle.AcceptUniStream(t.Context()); err != nil { // SETTINGS: it is served
		t.Fatal(err)
	}
	answered := make(chan string, 1)
	go func() {
		answer, err := client.Get(url + "/items/1")
		if err != nil {
			answered <- err.Error()
			return
		}
		defer answer.Body.Close()
		content, err := io.ReadAll(answer.Body)
		answered <- fmt.Sprint(string(content), err)
	}()
	<-begun
	stop()
	if code := closedWith(t, idle); code != http3.ErrCodeNoError {
		t.Errorf("an idle connection was closed with %v", code)
	}
	late, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if conn, err := quic.DialAddr(late, udp.LocalAddr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil); err == nil {
		t.Error("a new connection was taken")
		conn.CloseWithError(0, "")
	}
	answerNow()
	if got := <-answered; got != "late<nil>" {
		t.Error(got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if stats := g.Stats(); stats.Connections != 0 {
		t.Errorf("%+v", stats)
	}
}

// RFC 8470: what somebody could repeat is not taken. A resumed connection sends its requests after the handshake.
func TestHTTP3EarlyData(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	_, url := g.serveH3(t)
	tickets := &ticketCache{tls.NewLRUClientSessionCache(1), make(chan struct{}, 10)}
	for i := range 3 {
		conn, err := quic.DialAddrEarly(within(t), strings.TrimPrefix(url, "https://"),
			&tls.Config{InsecureSkipVerify: true, ServerName: "example.com", NextProtos: []string{"h3"}, ClientSessionCache: tickets}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := h3Stream(t, conn, h3Head(h3GET, "/mock"))
		s.Close()
		if answer, err := io.ReadAll(s); err != nil || !bytes.Contains(answer, []byte(`{"mock":true}`)) {
			t.Errorf("%q, %v", answer, err)
		}
		<-conn.HandshakeComplete()
		state := conn.ConnectionState()
		if state.Used0RTT {
			t.Error("early data was taken")
		}
		if resumed := state.TLS.DidResume; i > 0 && !resumed {
			t.Error("the session was not resumed, which shows nothing")
		}
		select {
		case <-tickets.came:
		case <-time.After(time.Minute):
			t.Fatal("no ticket came")
		}
		conn.CloseWithError(0, "")
	}
}

// ticketCache tells when a ticket has come.
type ticketCache struct {
	tls.ClientSessionCache
	came chan struct{}
}

func (c *ticketCache) Put(key string, state *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, state)
	if state != nil {
		c.came <- struct{}{}
	}
}
