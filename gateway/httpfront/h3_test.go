package httpfront

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// serveH3 serves the front by HTTP/3 as well, and returns a client of it and its address.
func (g *gateway) serveH3(t testing.TB) (*http.Client, string) {
	t.Helper()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- g.ServeHTTP3(ctx, udp, h3Certificate(t))
	}()
	transport := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, QUICConfig: &quic.Config{}}
	t.Cleanup(func() {
		transport.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &http.Client{Transport: transport, Timeout: time.Minute}, "https://" + udp.LocalAddr().String()
}

func h3Certificate(t testing.TB) *tls.Config {
	t.Helper()
	certificate := httptest.NewTLSServer(nil)
	certificate.Close()
	return &tls.Config{Certificates: certificate.TLS.Certificates}
}

func TestHTTP3Connect(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	client, url := g.serveH3(t)
	request, _ := http.NewRequest("CONNECT", url, nil)
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != 405 {
		t.Errorf("%d", answer.StatusCode)
	}
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
