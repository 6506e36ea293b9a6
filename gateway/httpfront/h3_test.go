package httpfront

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"fieldgate"
)

// serveH3 serves the front by HTTP/3 as well, and returns a client of it and its address.
func (g *gateway) serveH3(t testing.TB) (*http.Client, string) {
	t.Helper()
	certificate := httptest.NewTLSServer(nil)
	certificate.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- g.ServeHTTP3(ctx, udp, &tls.Config{Certificates: certificate.TLS.Certificates})
	}()
	transport := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, QUICConfig: &quic.Config{}}
	t.Cleanup(func() {
		transport.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}, "https://" + udp.LocalAddr().String()
}

func TestHTTP3(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	client, url := g.serveH3(t)

	t.Run("relayed", func(t *testing.T) {
		answer, err := client.Get(url + "/items/1?a=b")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var got seen
		if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != 200 || answer.ProtoMajor != 3 || got.Target != "/items/1?a=b" || len(got.Encoding) > 0 || got.Fields["Via"] != "3 fieldgate" ||
			got.Fields["X-Forwarded-Proto"] != "https" || got.Fields["X-Forwarded-For"] != "127.0.0.1" {
			t.Errorf("%d %+v", answer.StatusCode, got)
		}
		if record := g.records.next(t, 0); record.Status != 200 || record.Operation != "getItem" || record.Protocol != fieldgate.ProtocolHTTP || record.Source.String() != "127.0.0.1" {
			t.Errorf("%+v", record)
		}
	})
	t.Run("content of unknown length", func(t *testing.T) {
		content := strings.Repeat("0123456789", 50_000)
		request, _ := http.NewRequest("PUT", url+"/items/1", io.MultiReader(strings.NewReader(content))) // hides the length
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var got seen
		if err := json.NewDecoder(answer.Body).Decode(&got); err != nil || got.Content != content || len(got.Encoding) != 1 {
			t.Errorf("%d bytes, %v, %v", len(got.Content), got.Encoding, err)
		}
	})
	t.Run("checked", func(t *testing.T) {
		request, _ := http.NewRequest("POST", url+"/devices/thermo-1/telemetry", strings.NewReader(`{"temp":"warm"}`))
		request.Header.Set("Authorization", "Bearer "+g.token)
		request.Header.Set("Content-Type", "application/json")
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != 422 || answer.Header.Get("Content-Type") != fieldgate.ProblemMediaType {
			t.Errorf("%d %v", answer.StatusCode, answer.Header)
		}
	})
	t.Run("CONNECT", func(t *testing.T) {
		request, _ := http.NewRequest("CONNECT", url, nil)
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != 405 {
			t.Errorf("%d", answer.StatusCode)
		}
	})
	t.Run("events, until the device is revoked", func(t *testing.T) {
		request, _ := http.NewRequest("GET", url+"/events/thermo-1", nil)
		request.Header.Set("Authorization", "Bearer "+g.token)
		request.Header.Set("Accept", "text/event-stream")
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		g.waitForStreams(t, 1)
		g.publish("d/thermo-1/t", "hot", false)
		lines := bufio.NewScanner(answer.Body)
		for lines.Scan() && lines.Text() != "data: hot" {
		}
		if lines.Text() != "data: hot" {
			t.Fatalf("%q, %v", lines.Text(), lines.Err())
		}
		g.revoke(t)
		for lines.Scan() { // until it ends
		}
		if lines.Err() != nil {
			t.Error(lines.Err())
		}
	})
}

// A client that is told of HTTP/3 is told so on TLS only.
func TestAltSvc(t *testing.T) {
	g := newGateway(t, newService(t), func(c *Config) { c.HTTP3Port = 8443 })
	address := g.serveTLS(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	for url, want := range map[string]string{"https://" + address: `h3=":8443"; ma=86400`, "http://" + g.address: ""} {
		answer, err := client.Get(url + "/items/1")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if got := answer.Header.Get("Alt-Svc"); got != want {
			t.Errorf("%s: %q", url, got)
		}
	}
}
