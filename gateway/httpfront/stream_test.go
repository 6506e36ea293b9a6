package httpfront

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttstore/storetest"
	"fieldgate/gateway/pipeline"

	"github.com/coder/websocket"
)

func (g *gateway) publish(topic, payload string, retain bool) {
	g.pipeline.Broker.Publish(&broker.Message{Topic: topic, Payload: []byte(payload), Retain: retain}, nil)
}

func (g *gateway) revoke(t *testing.T) {
	t.Helper()
	err := g.pipeline.Directory.Apply([]fieldgate.DirectoryChange{{Sequence: 2, Kind: fieldgate.PrincipalDevice, ID: "thermo-1", State: fieldgate.StateRevoked}})
	if err != nil {
		t.Fatal(err)
	}
}

// waitForStream waits until a stream is open, so that what is published then is heard.
func (g *gateway) waitForStreams(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if g.Stats().Streams == n {
			return
		}
	}
	t.Fatalf("%d streams, want %d", g.Stats().Streams, n)
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestEventStream(t *testing.T) {
	g := newGateway(t, newService(t), func(c *Config) { storetest.Attach(t, c.Pipeline.Broker) })
	g.publish("d/thermo-1/t", "retained", true)
	r, err := http.NewRequestWithContext(within(t), "GET", "http://"+g.address+"/events/thermo-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer "+g.token)
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%v, %v", answer, err)
	}
	defer answer.Body.Close()
	in := bufio.NewReader(answer.Body)
	expect := func(want ...string) {
		t.Helper()
		for _, line := range want {
			if got, err := in.ReadString('\n'); err != nil || got != line+"\n" {
				t.Fatalf("got %q, %v, want %q", got, err, line)
			}
		}
	}
	expect("id: d/thermo-1/t", "data: retained", "")
	g.waitForStreams(t, 1)
	g.publish("d/thermo-1/t", `{"temp":1}`, false)
	expect("id: d/thermo-1/t", `data: {"temp":1}`, "")
	g.publish("d/thermo-2/t", "of another device", false)
	g.publish("d/thermo-1/t", "two\r\nlines\n", false)
	expect("id: d/thermo-1/t", "data: two", "data: lines", "data: ", "")
	g.publish("d/thermo-1/t", "\xff\x00", false)
	expect("id: d/thermo-1/t", "event: base64", "data: /wA=", "")
	g.revoke(t)
	if rest, err := io.ReadAll(in); err != nil || len(rest) != 0 {
		t.Errorf("a stream whose credential was revoked ends cleanly: %q, %v", rest, err)
	}
	if record := g.records.next(t, 0); record.Protocol != fieldgate.ProtocolSSE || record.Status != 200 || record.BytesOut == 0 || record.Principal != "thermo-1" || record.Operation != "hear" {
		t.Errorf("record %+v", record)
	}
	g.waitForStreams(t, 0)
}

func TestEventStreamEndsWithItsClient(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	link, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(link, "GET /events/thermo-1 HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
	g.waitForStreams(t, 1)
	link.Close()
	g.waitForStreams(t, 0)
	g.records.next(t, 0)
}

func TestSlowSubscriberLosesMessagesNotOthers(t *testing.T) {
	g := newGateway(t, newService(t), func(c *Config) { c.ShutdownGrace = 100 * time.Millisecond })
	link, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	io.WriteString(link, "GET /events/thermo-1 HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
	g.waitForStreams(t, 1)
	payload := strings.Repeat("x", 100_000)
	for range 500 { // 50 MB, more than the socket and the queue hold; nobody reads
		g.publish("d/thermo-1/t", payload, false)
	}
	link.Close()
	if record := g.records.next(t, 0); record.Findings&fieldgate.FindingDropped == 0 {
		t.Errorf("record %+v", record)
	}
}

func TestWebSocketSubscriber(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	ctx := within(t)
	for _, protocols := range [][]string{{"fieldgate", "fieldgate.token." + g.token}, nil} {
		before := g.records.count()
		socket, _, err := websocket.Dial(ctx, "ws://"+g.address+"/events/thermo-1", &websocket.DialOptions{Subprotocols: protocols})
		if err != nil {
			t.Fatal(err)
		}
		socket.SetReadLimit(1 << 20)
		g.waitForStreams(t, 1)
		for _, payload := range []string{`{"temp":1}`, strings.Repeat("y", 70_000), "\xff"} {
			g.publish("d/thermo-1/t", payload, false)
			kind, got, err := socket.Read(ctx)
			if err != nil || string(got) != payload || (kind == websocket.MessageText) != (payload != "\xff") {
				t.Fatalf("%v %.20q, %v", kind, got, err)
			}
		}
		pings := socket.CloseRead(ctx)
		if err := socket.Ping(ctx); err != nil {
			t.Errorf("ping: %v", err)
		}
		if protocols != nil { // known by its token
			if socket.Subprotocol() != "fieldgate" {
				t.Errorf("subprotocol %q", socket.Subprotocol())
			}
			g.revoke(t)
			<-pings.Done()
		} else if err := socket.Close(websocket.StatusNormalClosure, "bye"); err != nil {
			t.Errorf("close: %v", err)
		}
		socket.CloseNow()
		record := g.records.next(t, before)
		if record.Protocol != fieldgate.ProtocolWebSocket || record.Status != 101 || record.BytesOut != 70_011 {
			t.Errorf("record %+v", record)
		}
		if want := map[bool]string{true: "thermo-1", false: ""}[protocols != nil]; record.Principal != want {
			t.Errorf("principal %q, want %q", record.Principal, want)
		}
		g.waitForStreams(t, 0)
	}
	answer := g.raw(t, "GET /events/a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 426 ") || !strings.Contains(answer, "Sec-WebSocket-Version: 13\r\n") { // RFC 6455 §4.4
		t.Errorf("another version: %s", answer)
	}
}

func TestWebSocketPassThrough(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer socket.CloseNow()
		for {
			kind, message, err := socket.Read(r.Context())
			if err != nil {
				return
			}
			if socket.Write(r.Context(), kind, append([]byte(r.URL.Path+" "), message...)) != nil {
				return
			}
		}
	}))
	defer service.Close()
	g := newGateway(t, service.URL, nil)
	ctx := within(t)
	for i, path := range []string{"/chat", "/legacy/ws"} {
		socket, _, err := websocket.Dial(ctx, "ws://"+g.address+path, &websocket.DialOptions{Subprotocols: []string{"echo"}})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := socket.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, got, err := socket.Read(ctx); err != nil || string(got) != path+" hello" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if socket.Subprotocol() != "echo" {
			t.Errorf("subprotocol %q", socket.Subprotocol())
		}
		socket.Close(websocket.StatusNormalClosure, "")
		record := g.records.next(t, i)
		if record.Protocol != fieldgate.ProtocolWebSocket || record.Status != 101 || record.BytesIn < 3*11 || record.BytesOut < 3*11 {
			t.Errorf("record %+v", record)
		}
	}
	// Where the contract does not say so, there is no upgrade.
	if _, answer, err := websocket.Dial(ctx, "ws://"+g.address+"/items/1", nil); err == nil || answer.StatusCode == 101 {
		t.Errorf("%v, %v", answer, err)
	}
}

func TestRevocationEndsPassedThroughWebSocket(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if socket, err := websocket.Accept(w, r, nil); err == nil {
			socket.Read(r.Context())
			socket.CloseNow()
		}
	}))
	defer service.Close()
	g := newGateway(t, service.URL, nil)
	ctx := within(t)
	socket, _, err := websocket.Dial(ctx, "ws://"+g.address+"/legacy", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + g.token}}})
	if err != nil {
		t.Fatal(err)
	}
	g.waitForStreams(t, 1)
	g.revoke(t)
	if _, _, err := socket.Read(ctx); websocket.CloseStatus(err) != websocket.StatusPolicyViolation { // RFC 6455 §7.4.1
		t.Errorf("it lives on, or is not told why: %v", err)
	}
	socket.CloseNow()
	g.waitForStreams(t, 0)
	if record := g.records.next(t, 0); record.Principal != "thermo-1" || record.Status != 101 || record.Problem != "" || record.BytesOut != 0 || record.Route != "/legacy" {
		t.Errorf("record %+v", record)
	}
}

func TestUpstreamEventsAreNotBuffered(t *testing.T) {
	next := make(chan string)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		w.(http.Flusher).Flush()
		for {
			select {
			case event, more := <-next:
				if !more {
					return
				}
				fmt.Fprintf(w, "data: %s\n\n", event)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				next <- "client gone"
				return
			}
		}
	}))
	defer service.Close()
	g := newGateway(t, service.URL, nil)
	ctx, cancel := context.WithCancel(within(t))
	open := func() *bufio.Reader {
		r, err := http.NewRequestWithContext(ctx, "GET", "http://"+g.address+"/slow/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(answer.Body)
		for _, event := range []string{"one", "two"} {
			next <- event
			if line, err := in.ReadString('\n'); err != nil || line != "data: "+event+"\n" {
				t.Fatalf("%q, %v", line, err)
			}
			in.ReadString('\n')
			time.Sleep(slowTimeout + 50*time.Millisecond)
		}
		return in
	}
	in := open()
	close(next)
	if _, err := io.ReadAll(in); err != nil {
		t.Errorf("the end: %v", err)
	}
	if record := g.records.next(t, 0); record.Protocol != fieldgate.ProtocolSSE || record.Status != 200 || record.Problem != "" {
		t.Errorf("record %+v", record)
	}
	next = make(chan string)
	open()
	cancel() // the client goes, and the upstream is told
	if said := <-next; said != "client gone" {
		t.Error(said)
	}
}

func TestShutdownEndsStreams(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	ctx := within(t)
	socket, _, err := websocket.Dial(ctx, "ws://"+g.address+"/events/thermo-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	g.waitForStreams(t, 1)
	go g.stop()
	if _, _, err := socket.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("RFC 6455 §7.4.1: %v", err)
	}
	g.stop()
}

// A subscriber gets all retained messages of its topics, however many they are: they are read as it takes them. One that is replaced
// meanwhile is never heard behind the one that replaced it.
func TestRetainedMessagesAreReadAsTheyAreTaken(t *testing.T) {
	const topics = 1500 // many times what may wait
	g := newGateway(t, newService(t), nil)
	storetest.Attach(t, g.pipeline.Broker)
	everything := fieldgate.Operation{ID: "everything", Access: fieldgate.Access{Anonymous: true}, MaxBody: 1, MQTT: &fieldgate.MQTTBinding{Topic: "all/{topic}", Action: fieldgate.ActionSubscribe},
		HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/all"}}
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{{API: "all", Version: "1", Kind: fieldgate.KindAsyncAPI, Operations: []fieldgate.Operation{everything}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(program)
	padding := strings.Repeat("x", 4<<10)
	for i := range topics {
		g.publish(fmt.Sprintf("all/%04d", i), fmt.Sprintf("old %04d %s", i, padding), true)
	}
	for _, protocol := range []string{"sse", "websocket"} {
		t.Run(protocol, func(t *testing.T) {
			next := g.hearAll(t, protocol, "/all")
			g.waitForStreams(t, 1)
			g.publish("all/1499", "new 1499 "+protocol, true) // long before the old one is read
			heard := make(map[string]int)
			newest := ""
			for len(heard) < topics || newest != "new 1499 "+protocol {
				text := next()
				if text[4:8] == "1499" {
					if newest == "new 1499 "+protocol {
						t.Fatalf("%.20q came behind %q", text, newest)
					}
					newest = text
				}
				heard[text[4:8]]++
			}
			for topic, n := range heard {
				if n != 1 && topic != "1499" {
					t.Errorf("%s was heard %d times", topic, n)
				}
			}
		})
	}
}

// hearAll subscribes and gives what hears the next message.
func (g *gateway) hearAll(t *testing.T, protocol, path string) (next func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(within(t))
	t.Cleanup(func() {
		cancel()
		g.waitForStreams(t, 0)
	})
	if protocol == "websocket" {
		conn, _, err := websocket.Dial(ctx, "ws://"+g.address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.CloseNow() })
		return func() string {
			_, message, err := conn.Read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return string(message)
		}
	}
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+g.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	lines := bufio.NewReader(answer.Body)
	return func() string {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if data, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "data: "); ok {
				return data
			}
		}
	}
}
