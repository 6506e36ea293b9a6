package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/certificates"
	"fieldgate/gateway/httpfront"
)

// serving runs a gateway until the function is called.
func serving(t *testing.T, g *Gateway) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	}
}

// streamingService answers /items/{id} at once, and /stream with a line each 10 ms until its client is gone.
func streamingService(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			io.WriteString(w, "item")
			return
		}
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, "line\n"); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// Certificates, upstreams and proxies change under load with streams open: no request fails, no stream ends.
func TestReloadUnderLoad(t *testing.T) {
	settings := func(version int, upstream string) Settings {
		return Settings{
			Upstreams: []fieldgate.Upstream{{Name: "ingest", Addresses: []string{upstream}}},
			TLS:       certificates.Settings{InternalCA: []string{"127.0.0.1", fmt.Sprintf("v%d.test", version)}, MinVersion: []uint16{tls.VersionTLS12, tls.VersionTLS13}[version%2]},
			Web:       Web{Settings: httpfront.Settings{ForwardedOut: []httpfront.ForwardedFields{httpfront.XForwarded, httpfront.BothForwarded}[version%2]}},
		}
	}
	first, second := streamingService(t), streamingService(t)
	control := &plane{}
	b := openBus(t)
	control.open(t, b)
	defer control.close()
	anonymous := fieldgate.Access{Anonymous: true}
	operation := func(id, path string) fieldgate.Operation {
		return fieldgate.Operation{ID: id, HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: path}, Access: anonymous, MaxBody: fieldgate.DefaultMaxBody,
			Timeout: time.Minute, OnInvalid: fieldgate.InvalidReject, Upstream: "ingest"}
	}
	item := operation("getItem", "/items/{id}")
	item.Parameters = []fieldgate.Parameter{{Name: "id", In: fieldgate.InPath, Required: true}}
	control.publish(t, &fieldgate.Contract{API: "thermo", Version: "1.0.0", Title: "Thermo", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{item, operation("follow", "/stream")}})
	folder := t.TempDir()
	g, err := New(Config{Node: "n1", Folder: folder, HTTPS: "127.0.0.1:0", Bus: b, Settings: settings(0, first), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer serving(t, g)()
	authority, err := os.ReadFile(filepath.Join(TLSFolder(folder), certificates.AuthorityFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	address := "https://" + g.Addresses()["https"]

	const clients, streams, changes = 4, 20, 50
	var failed atomic.Pointer[error]
	fail := func(err error) { failed.CompareAndSwap(nil, &err) }
	done := make(chan struct{})
	var running sync.WaitGroup
	var requests, lines atomic.Int64
	for i := range clients {
		running.Go(func() {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: i%2 == 0, DisableKeepAlives: i == 1}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}
			for {
				select {
				case <-done:
					return
				default:
				}
				answer, err := client.Get(address + "/items/1")
				if err != nil {
					fail(err)
					return
				}
				text, err := io.ReadAll(answer.Body)
				answer.Body.Close()
				if err != nil || answer.StatusCode != 200 || string(text) != "item" {
					fail(fmt.Errorf("%d %q %w", answer.StatusCode, text, err))
					return
				}
				requests.Add(1)
			}
		})
	}
	for i := range streams {
		running.Go(func() {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: i%2 == 0}
			defer transport.CloseIdleConnections()
			answer, err := (&http.Client{Transport: transport}).Get(address + "/stream")
			if err != nil {
				fail(err)
				return
			}
			defer answer.Body.Close()
			buf := make([]byte, 4096)
			for {
				select {
				case <-done:
					return
				default:
				}
				n, err := answer.Body.Read(buf)
				lines.Add(int64(strings.Count(string(buf[:n]), "\n")))
				if err != nil {
					fail(fmt.Errorf("a stream ended: %w", err))
					return
				}
			}
		})
	}
	for version := range changes {
		if err := g.Reload(settings(version, []string{first, second}[version%2])); err != nil {
			t.Fatal(err)
		}
		// So that there were requests and lines between any two changes.
		for before, began := requests.Load(), lines.Load(); requests.Load() < before+2 || lines.Load() < began+streams; time.Sleep(time.Millisecond) {
			if err := failed.Load(); err != nil {
				t.Fatalf("after change %d: %v", version, *err)
			}
		}
		if state := g.state(); len(state.Certificates) != 1 || state.Certificates[0].Names[0] != fmt.Sprintf("v%d.test", version) || state.Certificates[0].Problem != "" {
			t.Fatalf("after change %d: %+v", version, state.Certificates)
		}
	}
	close(done)
	running.Wait()
	if err := failed.Load(); err != nil {
		t.Error(*err)
	}
	t.Logf("%d requests and %d lines of %d streams over %d changes", requests.Load(), lines.Load(), streams, changes)
}

// Settings with an error in any part change nothing in any other.
func TestReloadIsAllOrNothing(t *testing.T) {
	b := openBus(t)
	good := Settings{Upstreams: []fieldgate.Upstream{{Name: "ingest", Addresses: []string{"http://127.0.0.1:9"}}}, TLS: certificates.Settings{InternalCA: []string{"good.test"}}}
	g, err := New(Config{Node: "n1", Folder: t.TempDir(), HTTP: "127.0.0.1:0", HTTPS: "127.0.0.1:0", Bus: b, Settings: good, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.release()
	other := Settings{Upstreams: []fieldgate.Upstream{{Name: "other", Addresses: []string{"http://127.0.0.1:9"}}}, TLS: certificates.Settings{InternalCA: []string{"other.test"}}}
	badTLS, badUpstream := other, other
	badTLS.TLS.Files = []certificates.File{{Certificate: "nowhere.pem", Key: "nowhere.pem"}}
	badUpstream.Upstreams = []fieldgate.Upstream{{Name: "other", Addresses: []string{"nonsense"}}}
	badUpstream.AccessLog.Path = filepath.Join(t.TempDir(), "access.log")
	for name, settings := range map[string]Settings{"certificate": badTLS, "upstream": badUpstream} {
		if err := g.Reload(settings); err == nil {
			t.Errorf("%s: no error", name)
		}
		if g.pipeline.Upstreams.Upstream("ingest") == nil || g.pipeline.Upstreams.Upstream("other") != nil || g.state().Certificates[0].Names[0] != "good.test" {
			t.Errorf("%s: something changed", name)
		}
	}
	if _, err := os.Stat(badUpstream.AccessLog.Path); err == nil {
		t.Error("the access log was opened")
	}
	if err := g.Reload(other); err != nil {
		t.Fatal(err)
	}
	if g.pipeline.Upstreams.Upstream("ingest") != nil || g.pipeline.Upstreams.Upstream("other") == nil || g.state().Certificates[0].Names[0] != "other.test" {
		t.Error("nothing changed")
	}
}

// Redirects lead to the port that clients reach, and nowhere without a listener for TLS.
func TestRedirectPort(t *testing.T) {
	for name, test := range map[string]struct {
		https string
		port  uint16
		want  func(bound string) string
	}{
		"that of the listener": {"127.0.0.1:0", 0, func(bound string) string { return "https://127.0.0.1:" + bound + "/x" }},
		"another one":          {"127.0.0.1:0", 443, func(string) string { return "https://127.0.0.1/x" }},
		"no listener":          {"", 443, func(string) string { return "" }},
	} {
		t.Run(name, func(t *testing.T) {
			b := openBus(t)
			control := &plane{}
			control.open(t, b)
			defer control.close()
			g, err := New(Config{Node: "n1", Folder: t.TempDir(), HTTP: "127.0.0.1:0", HTTPS: test.https, Bus: b, Logger: slog.New(slog.DiscardHandler),
				Settings: Settings{TLS: certificates.Settings{InternalCA: []string{"127.0.0.1"}}, Web: Web{RedirectToHTTPS: true, HTTPSPort: test.port}}})
			if err != nil {
				t.Fatal(err)
			}
			defer serving(t, g)()
			answer, err := http.DefaultTransport.RoundTrip(httptest.NewRequest("GET", "http://"+g.Addresses()["http"]+"/x", nil))
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			_, bound, _ := net.SplitHostPort(g.Addresses()["https"])
			if got := answer.Header.Get("Location"); got != test.want(bound) {
				t.Errorf("%d %q", answer.StatusCode, got)
			}
		})
	}
}
