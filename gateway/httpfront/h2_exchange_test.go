package httpfront

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// newH2 is a client that speaks HTTP/2 to the gateway without TLS (RFC 9113 §3.3).
func newH2(t testing.TB, g *gateway) (*http.Client, string) {
	t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, "http://" + g.address
}

// A client that leaves an event stream ends it, and the connection carries on.
func TestHTTP2Cancelled(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	client, url := newH2(t, g)
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", url+"/events/thermo-1", nil)
	r.Header.Set("Accept", "text/event-stream")
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	g.waitForStreams(t, 1)
	cancel()
	answer.Body.Close()
	g.waitForStreams(t, 0)
	answer, err = client.Get(url + "/mock")
	if err != nil || answer.StatusCode != 200 {
		t.Fatalf("%v %v", answer, err)
	}
	answer.Body.Close()
	if n := g.Stats().Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
}

// An answer that the upstream breaks off is never taken for a whole one.
func TestHTTP2CutShort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	begun := make(chan struct{}) // the answer, at the client
	go func() {
		for {
			link, err := listener.Accept()
			if err != nil {
				return
			}
			link.Read(make([]byte, 4096))
			io.WriteString(link, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			<-begun
			link.Close()
		}
	}()
	g := newGateway(t, "http://"+listener.Addr().String(), nil)
	client, url := newH2(t, g)
	answer, err := client.Get(url + "/items/1")
	close(begun)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if content, err := io.ReadAll(answer.Body); err == nil {
		t.Errorf("%q is taken for whole", content)
	}
}

// A request under way is answered when the gateway shuts down, and the connection ends then.
func TestHTTP2Drain(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-release
		io.WriteString(w, "late")
	})}
	go service.Serve(listener)
	defer service.Close()
	g := newGateway(t, "http://"+listener.Addr().String(), nil)
	client, url := newH2(t, g)
	type result struct {
		content string
		err     error
	}
	answered := make(chan result, 1)
	go func() {
		answer, err := client.Get(url + "/items/1")
		if err != nil {
			answered <- result{"", err}
			return
		}
		defer answer.Body.Close()
		content, err := io.ReadAll(answer.Body)
		answered <- result{string(content), err}
	}()
	<-begun
	stopped := make(chan struct{})
	go func() {
		g.stop()
		close(stopped)
	}()
	for !g.draining.Load() {
		time.Sleep(time.Millisecond)
	}
	close(release)
	if got := <-answered; got.err != nil || got.content != "late" {
		t.Errorf("%+v", got)
	}
	<-stopped
}
