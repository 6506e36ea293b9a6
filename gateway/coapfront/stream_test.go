package coapfront

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"fieldgate"
	"fieldgate/gateway/coapsocket"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/httpfront"
	"fieldgate/protocol/coap"
)

// authority issues certificates for tests.
type authority struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

func (a *authority) issue(t testing.TB, template *x509.Certificate) (tls.Certificate, *authority) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if a != nil {
		parent, signer = a.Certificate, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, &authority{leaf, key}
}

func newAuthority(t testing.TB) *authority {
	var none *authority
	_, a := none.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	return pool
}

// connected is a gateway that is reached by connections, too.
type connected struct {
	*gateway
	streams   *Front
	authority *authority
	addresses map[string]string // by scheme
}

func newConnected(t testing.TB, change func(*Config)) *connected {
	g := &connected{gateway: newGateway(t), authority: newAuthority(t), addresses: make(map[string]string)}
	listen := func(scheme string) net.Listener {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		g.addresses[scheme] = listener.Addr().String()
		return listener
	}
	certificate, _ := g.authority.issue(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	asks := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"coap"}, ClientAuth: tls.RequestClientCert}
	logger := slog.New(slog.DiscardHandler)
	config := Config{Pipeline: g.pipeline, Logger: logger, WebSocket: true,
		Streams: []*StreamListener{{Listener: listen("coap+tcp"), Name: "coap-tcp"}, {Listener: listen("coaps+tcp"), Name: "coaps-tcp", TLS: asks}}}
	if change != nil {
		change(&config)
	}
	var err error
	if g.streams, err = Listen(config); err != nil {
		t.Fatal(err)
	}
	run(t, g.streams.Run)
	web := httpfront.New(httpfront.Config{Pipeline: g.pipeline, Logger: logger,
		Subprotocols: map[string]*httpfront.Subprotocol{coapsocket.WellKnown: {Name: coapsocket.Subprotocol, Serve: g.streams.OpenWebSocket}}})
	plain, secure := listen("coap+ws"), listen("coaps+ws")
	run(t, func(ctx context.Context) error { return web.Serve(ctx, plain) })
	run(t, func(ctx context.Context) error {
		return web.ServeTLS(ctx, secure, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}})
	})
	return g
}

// dial connects; certificates may be empty.
func (g *connected) dial(scheme string, certificates ...tls.Certificate) *coap.Client {
	g.Helper()
	c, err := coapsocket.Dial(g.Context(), scheme, g.addresses[scheme], coapsocket.Config{TLS: &tls.Config{RootCAs: g.authority.pool(), Certificates: certificates}})
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(c.Close)
	return c
}

var connectionSchemes = []string{"coap+tcp", "coaps+tcp", "coap+ws", "coaps+ws"}

// Operations are served by connections as over UDP.
func TestOperationsOverConnections(t *testing.T) {
	g := newConnected(t, nil)
	for _, scheme := range connectionSchemes {
		t.Run(scheme, func(t *testing.T) {
			c := g.dial(scheme)
			if strings.HasSuffix(scheme, "ws") {
				g.records.take(t, 1) // of the WebSocket's opening
			}
			do := func(call *coap.Call) *coap.Reply {
				t.Helper()
				r, err := c.Do(t.Context(), call)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			r := do(call(coap.POST, "/readings", cbor(t, `{"t":21.5,"u":"C"}`), token(g.token), number(coap.ContentFormat, coap.CBOR)))
			if r.Code != coap.Created || r.Location() != "/v1/devices/d7/readings/918" {
				t.Errorf("%v, location %s", r.Code, r.Location())
			}
			if s := <-g.asked; s.target != "/v1/devices/d7/readings" || s.body != `{"t":21.5,"u":"C"}` {
				t.Errorf("the service was asked %+v", s)
			}
			record := g.records.take(t, 1)[0]
			if record.Protocol != fieldgate.ProtocolCoAP || record.Principal != "d7" || !record.Source.IsLoopback() || record.Status != 201 {
				t.Errorf("record %+v", record)
			}
			r = do(call(coap.GET, "/readings", nil))
			if problemOf(t, r); r.Code != coap.Unauthorized {
				t.Errorf("without a token: %v", r.Code)
			}
			g.records.take(t, 1)
			blob := fmt.Appendf(nil, `{"blob":%q}`, strings.Repeat("y", 150_000))
			if r := do(call(coap.PUT, "/blob", blob, token(g.token), number(coap.ContentFormat, coap.JSON))); r.Code != coap.Changed {
				t.Errorf("a large body: %v %s", r.Code, r.Body)
			}
			if s := <-g.asked; s.body != string(blob) {
				t.Errorf("the service was sent %d bytes", len(s.body))
			}
			if r := do(call(coap.GET, "/blob", nil, token(g.token))); r.Code != coap.Content || len(r.Body) != 50_011 {
				t.Errorf("a large answer: %v, %d bytes", r.Code, len(r.Body))
			}
			<-g.asked
			g.records.take(t, 2)
			if r := do(call(coap.GET, "/.well-known/core", nil)); r.Code != coap.Content || !bytes.Contains(r.Body, []byte("/readings")) {
				t.Errorf("links: %v", r.Code)
			}
			if r := do(call(31, "/readings", nil)); r.Code != coap.MethodNotAllowed {
				t.Errorf("an unknown method: %v", r.Code)
			}
			if record := g.records.take(t, 1)[0]; !record.Source.IsLoopback() {
				t.Errorf("a refusal's source is %v", record.Source)
			}
		})
	}
	if peers := total(g.streams).Peers; peers != 4 {
		t.Errorf("%d peers", peers)
	}
}

func TestObserveOverConnections(t *testing.T) {
	g := newConnected(t, nil)
	for _, scheme := range connectionSchemes {
		t.Run(scheme, func(t *testing.T) {
			g.change(fieldgate.PrincipalDevice, "d7", fieldgate.StateActive, g.token)
			c := g.dial(scheme)
			heard := make(chan *coap.Reply, 10)
			ended := make(chan error, 1)
			go func() {
				ended <- c.Observe(t.Context(), call(coap.GET, "/temperature", nil, token(g.token)), func(r *coap.Reply) bool {
					heard <- r
					return true
				})
			}()
			<-heard
			if r := g.do(call(coap.POST, "/temperature", []byte(`{"t":33}`), token(g.token), number(coap.ContentFormat, coap.JSON))); r.Code != coap.Changed {
				t.Fatalf("publish over UDP: %v", r.Code)
			}
			if r := <-heard; string(r.Body) != `{"t":33}` {
				t.Errorf("heard %s", r.Body)
			}
			g.change(fieldgate.PrincipalDevice, "d7", fieldgate.StateQuarantined, g.token)
			if r := <-heard; r.Code != coap.Forbidden || !r.Last {
				t.Errorf("quarantined: %v, last %v", r.Code, r.Last)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	for total(g.streams).Observations > 0 {
		time.Sleep(time.Millisecond)
	}
}

// A client certificate says who the client is; one of nobody ends the connection.
func TestClientCertificates(t *testing.T) {
	g := newConnected(t, nil)
	g.pipeline.Directory.SetAuthorities(directory.NewAuthorities([]*x509.Certificate{g.authority.Certificate}, false))
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	device, _ := g.authority.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "d7"}, ExtKeyUsage: usage})
	c := g.dial("coaps+tcp", device)
	r, err := c.Do(t.Context(), call(coap.GET, "/readings", nil))
	if err != nil || r.Code != coap.Content {
		t.Fatalf("a device with its certificate: %+v, %v", r, err)
	}
	if record := g.records.take(t, 1)[0]; record.Principal != "d7" {
		t.Errorf("the record is of %q", record.Principal)
	}
	g.change(fieldgate.PrincipalDevice, "d7", fieldgate.StateQuarantined, g.token)
	if r, err := c.Do(t.Context(), call(coap.GET, "/readings", nil)); err != nil || r.Code != coap.Forbidden {
		t.Errorf("quarantined: %+v, %v", r, err)
	}
	stranger, _ := newAuthority(t).issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "d7"}, ExtKeyUsage: usage})
	if _, err := coapsocket.Dial(t.Context(), "coaps+tcp", g.addresses["coaps+tcp"],
		coapsocket.Config{TLS: &tls.Config{RootCAs: g.authority.pool(), Certificates: []tls.Certificate{stranger}}}); err == nil {
		t.Error("a certificate of another authority was let in")
	}
}

// Connections from proxies have the source that their PROXY header says; nobody else is let in.
func TestProxiedConnections(t *testing.T) {
	var proxies atomic.Pointer[[]netip.Prefix]
	proxies.Store(&[]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")})
	g := newConnected(t, func(c *Config) {
		for _, l := range c.Streams {
			l.Proxies = func() []netip.Prefix { return *proxies.Load() }
		}
	})
	open := func(header string) net.Conn {
		conn, err := net.Dial("tcp", g.addresses["coap+tcp"])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, header); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	c, err := coap.NewClient(t.Context(), open("PROXY TCP4 198.51.100.7 192.0.2.1 4000 5683\r\n"), coap.StreamConfig{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Do(t.Context(), call(coap.GET, "/readings", nil, token(g.token))); err != nil {
		t.Fatal(err)
	}
	if record := g.records.take(t, 1)[0]; record.Source.String() != "198.51.100.7" {
		t.Errorf("the record's source is %v", record.Source)
	}
	if _, err := coap.NewClient(t.Context(), open("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), coap.StreamConfig{}, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a proxy without a header was let in")
	}
	g.records.take(t, 1)
	proxies.Store(&[]netip.Prefix{netip.MustParsePrefix("192.0.2.9/32")})
	if _, err := coap.NewClient(t.Context(), open("PROXY TCP4 198.51.100.7 192.0.2.1 4000 5683\r\n"), coap.StreamConfig{}, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("who is no proxy was let in")
	}
	g.records.take(t, 1)
}

func TestConnectionsOfOneSource(t *testing.T) {
	g := newConnected(t, func(c *Config) { c.Bounds.MaxConnectionsSource = 1 })
	for _, scheme := range connectionSchemes {
		config := coapsocket.Config{TLS: &tls.Config{RootCAs: g.authority.pool()}}
		connect := func() (c *coap.Client) {
			t.Helper()
			var err error
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) { // the one before is counted off a moment after it has ended
				if c, err = coapsocket.Dial(t.Context(), scheme, g.addresses[scheme], config); err == nil {
					return c
				}
			}
			t.Fatalf("%s: after the one before has ended: %v", scheme, err)
			return nil
		}
		first := connect()
		if second, err := coapsocket.Dial(t.Context(), scheme, g.addresses[scheme], config); err == nil {
			second.Close()
			t.Errorf("%s: a second connection was let in", scheme)
		}
		first.Close()
		connect().Close()
	}
}

// A WebSocket client of somebody else's making (RFC 8323 §4).
func TestOtherWebSocketClient(t *testing.T) {
	g := newConnected(t, nil)
	conn, _, err := websocket.Dial(t.Context(), "ws://"+g.addresses["coap+ws"]+coapsocket.WellKnown, &websocket.DialOptions{Subprotocols: []string{"coap"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if conn.Subprotocol() != "coap" {
		t.Errorf("subprotocol %q", conn.Subprotocol())
	}
	for _, message := range [][]byte{{0x00, 0xe1}, append([]byte{0x01, 0x01, 0x42, 0xbb}, ".well-known\x04core"...)} {
		if err := conn.Write(t.Context(), websocket.MessageBinary, message); err != nil {
			t.Fatal(err)
		}
	}
	read := func() []byte {
		kind, message, err := conn.Read(t.Context())
		if err != nil || kind != websocket.MessageBinary {
			t.Fatalf("%v, %v", kind, err)
		}
		return message
	}
	if m := read(); m[0] != 0 || m[1] != byte(coap.CSM) {
		t.Errorf("RFC 8323 §5.3: it begins with %x", m)
	}
	if m := read(); m[0] != 1 || m[1] != byte(coap.Content) || m[2] != 0x42 {
		t.Errorf("answered with %x", m)
	}
	if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("RFC 6455 §7.1.2: %v", err)
	}
}

// What is not CoAP costs its connection only.
func TestHostileConnections(t *testing.T) {
	g := newConnected(t, nil)
	c := g.dial("coap+tcp")
	for _, scheme := range connectionSchemes {
		for _, hostile := range []string{"", "GET / HTTP/1.0\r\n\r\n", strings.Repeat("\xff", 100), "\x00\xe1\xf0\xff\xff\xff\xff\x01"} {
			conn, err := net.Dial("tcp", g.addresses[scheme])
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(conn, hostile)
			if hostile == "" {
				conn.Close()
				continue
			}
			conn.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%s %q: %v", scheme, hostile, err)
			}
			conn.Close()
		}
	}
	if r, err := c.Do(t.Context(), call(coap.GET, "/mock", nil)); err != nil || r.Code != coap.Content {
		t.Errorf("somebody else: %+v, %v", r, err)
	}
}

// total is what all listeners have seen together.
func total(f *Front) (all coap.Stats) {
	for _, stats := range f.Stats() {
		all.Add(stats)
	}
	return all
}
