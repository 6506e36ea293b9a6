package httpfront

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"

	"github.com/coder/websocket"
)

// newEcho is a service that sends back each message, and says which extensions it was offered.
func newEcho(t testing.TB) string {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Offered", r.Header.Get("Sec-WebSocket-Extensions"))
		socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer socket.CloseNow()
		for {
			kind, message, err := socket.Read(r.Context())
			if err != nil {
				return
			}
			if socket.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	}))
	t.Cleanup(service.Close)
	return service.URL
}

// checkMessages publishes the contract anew, with an operation /checked whose messages from the client are checked.
func (g *gateway) checkMessages(t testing.TB, invalid fieldgate.OnInvalid) {
	t.Helper()
	snapshot := snapshot()
	checked := fieldgate.Operation{ID: "checked", HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/checked", WebSocket: true},
		Access: fieldgate.Access{Anonymous: true}, MaxBody: 1024, Timeout: 30 * time.Second, OnInvalid: invalid, Upstream: "service",
		WebSocket: &fieldgate.WebSocketMessages{FromClient: "#/$defs/Telemetry", MaxMessage: 100}}
	snapshot.Contracts[0].Operations = append(snapshot.Contracts[0].Operations, checked)
	program, err := pipeline.Link(snapshot, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(program)
}

func dial(t testing.TB, ctx context.Context, url string) (*websocket.Conn, *http.Response) {
	t.Helper()
	socket, answer, err := websocket.Dial(ctx, url, &websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.CloseNow() })
	return socket, answer
}

func TestMessagesAreChecked(t *testing.T) {
	for _, test := range []struct {
		name, message string
		invalid       fieldgate.OnInvalid
		code          websocket.StatusCode // 0: it passes
		reason        string
		status        int
		problem       fieldgate.ProblemCode
		findings      fieldgate.Findings
		detail        string
	}{
		{"valid", `{"temp":1}`, fieldgate.InvalidReject, 0, "", 101, "", 0, ""},
		{"invalid", `{"temp":126}`, fieldgate.InvalidReject, 1008, "/temp maximum", 422, fieldgate.ProblemInvalidPayload, fieldgate.FindingInvalidRequest, "/temp /properties/temp/maximum"},
		{"too long", `{"temp":1` + strings.Repeat(" ", 100) + "}", fieldgate.InvalidReject, 1009, "message too big", 413, fieldgate.ProblemTooLarge, fieldgate.FindingInvalidRequest, "message too big"},
		{"shadowed", `{"temp":126}`, fieldgate.InvalidShadow, 0, "", 101, "", fieldgate.FindingInvalidRequest | fieldgate.FindingShadowed, "/temp /properties/temp/maximum"},
		{"no UTF-8", "\"\xff\"", fieldgate.InvalidShadow, 1007, "text is not UTF-8", 400, fieldgate.ProblemBadRequest, fieldgate.FindingInvalidRequest | fieldgate.FindingMalformed, "text is not UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGateway(t, newEcho(t), nil)
			g.checkMessages(t, test.invalid)
			ctx := within(t)
			socket, answer := dial(t, ctx, "ws://"+g.address+"/checked")
			if answer.Header.Get("Sec-WebSocket-Extensions") != "" || answer.Header.Get("X-Offered") != "" {
				t.Error("what is compressed cannot be checked")
			}
			if err := socket.Write(ctx, websocket.MessageText, []byte(test.message)); err != nil {
				t.Fatal(err)
			}
			_, got, err := socket.Read(ctx)
			var closed websocket.CloseError
			switch errors.As(err, &closed); {
			case test.code == 0 && (err != nil || string(got) != test.message):
				t.Errorf("%q, %v", got, err)
			case test.code != 0 && (closed.Code != test.code || closed.Reason != test.reason):
				t.Errorf("%q, %v", got, err)
			}
			socket.Close(websocket.StatusNormalClosure, "")
			record := g.records.next(t, 0)
			if record.Operation != "checked" || record.Status != test.status || record.Problem != test.problem || record.Findings != test.findings ||
				record.Detail != test.detail || record.BytesIn < uint64(len(test.message)) || record.Duration <= 0 {
				t.Errorf("record %+v", record)
			}
			if test.problem != "" && (record.Decided != fieldgate.StageCheck || record.Rule != test.detail) {
				t.Errorf("decided by %v %q", record.Decided, record.Rule)
			}
		})
	}
}

// Where nothing is checked, the extensions are between client and service (RFC 6455 §9).
func TestUncheckedWebSocketMayCompress(t *testing.T) {
	g := newGateway(t, newEcho(t), nil)
	ctx := within(t)
	socket, answer := dial(t, ctx, "ws://"+g.address+"/chat")
	if !strings.Contains(answer.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
		t.Errorf("fields %v", answer.Header)
	}
	message := strings.Repeat("compressible ", 500)
	socket.Write(ctx, websocket.MessageText, []byte(message))
	if _, got, err := socket.Read(ctx); err != nil || string(got) != message {
		t.Errorf("%q, %v", got, err)
	}
}

// RFC 6455 §9.1: an extension that nobody offered fails the handshake.
func TestUnaskedExtensionIsRefused(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		link, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			io.WriteString(link, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
			link.Close()
		}
	}))
	defer service.Close()
	g := newGateway(t, service.URL, nil)
	g.checkMessages(t, fieldgate.InvalidReject)
	answer := g.raw(t, "GET /checked HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 502 ") {
		t.Errorf("%s", answer)
	}
}

// A WebSocket that idles has no goroutine, but a place: in what is open, in the bounds, and in what ends the front.
func TestPassedThroughWebSocketCounts(t *testing.T) {
	g := newGateway(t, newEcho(t), func(c *Config) { c.MaxConnections, c.MaxConnectionsSource = 3, 2 })
	ctx := within(t)
	first, _ := dial(t, ctx, "ws://"+g.address+"/chat")
	second, _ := dial(t, ctx, "ws://"+g.address+"/chat")
	g.waitForConnections(t, 2)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) { // their goroutines end
		if !runs("httpfront.(*connection).serve(") {
			break
		}
	}
	if runs("httpfront.(*connection).serve(") {
		t.Error("a connection is served while its WebSocket is elsewhere")
	}
	if link, err := net.Dial("tcp", g.address); err == nil { // the source has two already
		if n, err := link.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes from a third connection", n)
		}
		link.Close()
	}
	if stats := g.Stats(); stats.RefusedSource != 1 || stats.Streams != 2 {
		t.Errorf("%+v", stats)
	}
	first.Close(websocket.StatusNormalClosure, "")
	g.waitForConnections(t, 1)
	third, _ := dial(t, ctx, "ws://"+g.address+"/chat")
	g.waitForStreams(t, 2)
	go g.stop()
	for _, socket := range []*websocket.Conn{second, third} {
		if _, _, err := socket.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway { // RFC 6455 §7.4.1
			t.Errorf("draining: %v", err)
		}
	}
	g.stop()
	if stats := g.Stats(); stats.Connections != 0 || stats.Streams != 0 || len(g.sources) != 0 || g.records.count() != 3 {
		t.Errorf("%+v, %d sources, %d records", stats, len(g.sources), g.records.count())
	}
}

func (g *gateway) waitForConnections(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if g.Stats().Connections == n {
			return
		}
	}
	t.Fatalf("%d connections, want %d", g.Stats().Connections, n)
}

// runs says whether a function of that name is on the stack of a goroutine.
func runs(function string) bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), function)
}

// A captured exchange keeps its connection: the copy is finished with it.
func TestCapturedWebSocketIsPassedThrough(t *testing.T) {
	g := newGateway(t, newEcho(t), nil)
	g.checkMessages(t, fieldgate.InvalidReject)
	captured := make(chan fieldgate.Record, 1)
	g.pipeline.SetTap(tap(captured))
	ctx := within(t)
	socket, _ := dial(t, ctx, "ws://"+g.address+"/checked")
	if err := socket.Write(ctx, websocket.MessageText, []byte(`{"temp":126}`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := socket.Read(ctx); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Error(err)
	}
	socket.CloseNow()
	for _, record := range []fieldgate.Record{<-captured, g.records.next(t, 0)} {
		if record.Problem != fieldgate.ProblemInvalidPayload || record.Status != 422 || record.Detail != "/temp /properties/temp/maximum" || record.BytesIn == 0 {
			out, _ := json.Marshal(record)
			t.Errorf("record %s", out)
		}
	}
}

// tap copies every exchange, and hands on its record.
type tap chan fieldgate.Record

func (t tap) Copy(*pipeline.Exchange) pipeline.Copy                 { return t }
func (t tap) RequestField(name, value []byte)                       {}
func (t tap) Request([]byte)                                        {}
func (t tap) ResponseField(name, value []byte)                      {}
func (t tap) Response([]byte)                                       {}
func (t tap) Finish(_ *pipeline.Exchange, record *fieldgate.Record) { t <- *record }

// Over TLS on either side a WebSocket is the relay's as well.
func TestSecuredWebSockets(t *testing.T) {
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		socket, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer socket.CloseNow()
		for {
			kind, message, err := socket.Read(r.Context())
			if err != nil || socket.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	}))
	t.Cleanup(service.Close)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, newEcho(t), nil)
	secure := "wss://" + g.serveTLS(t)
	ctx := within(t)
	trusting := &websocket.DialOptions{CompressionMode: websocket.CompressionDisabled, HTTPHeader: http.Header{"Authorization": {"Bearer " + g.token}},
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}}}}
	echoes := func(t *testing.T, address string) *websocket.Conn {
		t.Helper()
		socket, _, err := websocket.Dial(ctx, address, trusting)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { socket.CloseNow() })
		for _, n := range []int{1, 1000, 30_000} {
			message := strings.Repeat("m", n)
			if err := socket.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
				t.Fatal(err)
			}
			if _, got, err := socket.Read(ctx); err != nil || string(got) != message {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
		}
		if runs("tunnel.Copy(") || runs("subscribeWebSocket(") {
			t.Error("it has goroutines of its own")
		}
		return socket
	}
	t.Run("client", func(t *testing.T) {
		echoes(t, secure+"/chat").Close(websocket.StatusNormalClosure, "")
	})
	services := []fieldgate.Upstream{{Name: "service", Addresses: []string{service.URL}, TLS: &fieldgate.UpstreamTLS{CAFile: authority, ServerName: "example.com"}}}
	if err := g.pipeline.Upstreams.Replace(services); err != nil {
		t.Fatal(err)
	}
	t.Run("service", func(t *testing.T) {
		echoes(t, "ws://"+g.address+"/chat").Close(websocket.StatusNormalClosure, "")
	})
	both := echoes(t, secure+"/chat")
	subscribed, _, err := websocket.Dial(ctx, secure+"/events/thermo-1", trusting)
	if err != nil {
		t.Fatal(err)
	}
	defer subscribed.CloseNow()
	g.waitForStreams(t, 2)
	g.publish("d/thermo-1/t", "hot", false)
	if _, got, err := subscribed.Read(ctx); err != nil || string(got) != "hot" {
		t.Fatalf("%q, %v", got, err)
	}
	if runs("subscribeWebSocket(") {
		t.Error("a subscription has goroutines of its own")
	}
	g.revoke(t)
	if _, _, err := subscribed.Read(ctx); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Error(err)
	}
	both.CloseNow()
	g.waitForConnections(t, 0)
}
