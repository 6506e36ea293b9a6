package coap

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// echo answers with the peer's address and the path; what begins with "/wait" a worker answers.
func echo(r *Request, response *Response) func(context.Context) {
	answer := func(context.Context) { response.Body = []byte(r.Peer.Addr().String() + r.Path()) }
	switch path := r.Path(); {
	case path == "/wait/panic":
		return func(context.Context) { panic("as asked") }
	case bytes.HasPrefix([]byte(path), []byte("/wait")):
		return answer
	}
	answer(nil)
	return nil
}

// One socket serves IPv4 and IPv6, and each peer has the address that it sends from.
// TestStrangersHaveHalfTheWorkers has strangers ask for what takes long; whoever is known does not wait for that.
func TestStrangersHaveHalfTheWorkers(t *testing.T) {
	release := make(chan struct{})
	var waiting atomic.Int32
	u := startUDP(t, Config{Known: func(_ netip.AddrPort, m Message) bool { return m.Code == PUT }}, Waiting(func(ctx context.Context, r *Request, _ *Response) {
		if r.Code == PUT {
			return
		}
		waiting.Add(1)
		select {
		case <-release:
		case <-ctx.Done():
		}
	}))
	var group sync.WaitGroup
	for range 3 * testWorkers {
		client := startUDP(t, Config{}, nil)
		group.Go(func() {
			if _, err := client.Do(t.Context(), u.LocalAddr(), get("/slow")); err != nil {
				t.Error(err)
			}
		})
	}
	for waiting.Load() < testWorkers/2 {
		time.Sleep(time.Millisecond)
	}
	for range testWorkers {
		if _, err := startUDP(t, Config{}, nil).Do(t.Context(), u.LocalAddr(), call(PUT, "/x", nil)); err != nil {
			t.Error(err)
		}
	}
	if n := waiting.Load(); n != testWorkers/2 {
		t.Errorf("strangers have %d of %d workers", n, testWorkers)
	}
	close(release)
	group.Wait()
	if n := waiting.Load(); n != 3*testWorkers {
		t.Errorf("%d were served", n)
	}
}

func TestUDPDualStack(t *testing.T) {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := NewUDP(conn, Config{}, 4, echo, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	port := int(u.LocalAddr().Port())
	for _, from := range []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(127, 9, 8, 7), net.IPv6loopback} {
		to := net.IPv4(127, 0, 0, 1)
		if from.To4() == nil {
			to = net.IPv6loopback
		}
		client, err := net.DialUDP("udp", &net.UDPAddr{IP: from}, &net.UDPAddr{IP: to, Port: port})
		if err != nil {
			t.Fatal(err)
		}
		for id, path := range []string{"/a", "/wait/b"} {
			client.Write(request(Confirmable, GET, uint16(id), path))
			if m := readMessage(t, client); m.Type != Acknowledgement || string(m.Payload) != from.String()+path {
				t.Errorf("from %v: %v %v %q", from, m.Type, m.Code, m.Payload)
			}
		}
		client.Close()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func readMessage(t *testing.T, conn *net.UDPConn) Message {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	buffer := make([]byte, 2048)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(buffer[:n])
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Of a burst longer than what is read at a time, with what is no CoAP in it and what is too long, each request is answered once.
func TestUDPBurst(t *testing.T) {
	u := startUDP(t, Config{}, echo)
	client, err := net.Dial("udp", u.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const requests = 100
	for id := range uint16(requests) {
		client.Write([]byte("?"))
		client.Write(request(Confirmable, GET, id, "/a"))
		if id%10 == 0 {
			client.Write(make([]byte, maxDatagram+10))
		}
	}
	answered := map[uint16]int{}
	for range requests {
		answered[readMessage(t, client.(*net.UDPConn)).MessageID]++
	}
	if len(answered) != requests {
		t.Errorf("%d of %d requests were answered", len(answered), requests)
	}
	if stats := u.Stats(); stats.Malformed != requests || stats.Sent != requests {
		t.Errorf("%+v", stats)
	}
}

// A panic on a worker costs one request, like one of the goroutine that reads.
func TestUDPWorkerPanics(t *testing.T) {
	u, client := startUDP(t, Config{}, echo), startUDP(t, Config{}, nil)
	for path, want := range map[string]Code{"/wait/panic": InternalServerError, "/wait/a": Content, "/a": Content} {
		if r, err := client.Do(t.Context(), u.LocalAddr(), get(path)); err != nil || r.Code != want {
			t.Errorf("%s: %v %v", path, r, err)
		}
	}
}

// What is notified while the request that registers is still being answered comes behind the answer.
func TestUDPNotifyBeforeAnswer(t *testing.T) {
	var server atomic.Pointer[UDP]
	server.Store(startUDP(t, Config{}, func(r *Request, response *Response) func(context.Context) {
		o := &Observation{}
		response.Observation, response.Body, response.Trusted = o, []byte("old"), true
		server.Load().Notify(o, &Response{Body: []byte("new"), Trusted: true})
		return nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	var seen []string
	startUDP(t, Config{}, nil).Observe(ctx, server.Load().LocalAddr(), get("/t"), func(r *Reply) bool {
		if seen = append(seen, string(r.Body)); string(r.Body) == "new" {
			cancel()
		}
		return true
	})
	if len(seen) == 0 || seen[len(seen)-1] != "new" {
		t.Errorf("saw %v", seen)
	}
}
