package upstream

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/test/certtest"
)

// Each side proves itself to the other; a certificate that is replaced on disk is the one of the next connection, and one that is
// broken does not take the place of the last that was not.
func TestMutualTLS(t *testing.T) {
	ca := certtest.NewAuthority(t)
	folder := t.TempDir()
	certFile, keyFile := filepath.Join(folder, "client.pem"), filepath.Join(folder, "client.key")
	put := func(name string) { certtest.Write(t, ca.Issue(t, -time.Hour, time.Hour, name), certFile, keyFile) }
	put("first")

	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, -time.Hour, time.Hour, "service.example")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}
	server.StartTLS()
	defer server.Close()

	settings := fieldgate.UpstreamTLS{CAFile: ca.File, CertFile: certFile, KeyFile: keyFile, ServerName: "service.example"}
	u := newSet(t, fieldgate.Upstream{Addresses: []string{server.URL}, TLS: &settings})
	name := func() string {
		t.Helper()
		u.addresses()[0].closeIdle(time.Now().Add(time.Hour), false)
		u.tls.checked = time.Time{} // the files are looked at again
		answer, err := get(u)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer.Body)
	}
	if got := name(); got != "first" {
		t.Errorf("the service knows the gateway as %q", got)
	}
	put("second")
	if got := name(); got != "second" {
		t.Errorf("after the certificate was replaced the service knows the gateway as %q", got)
	}
	if err := os.WriteFile(keyFile, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := name(); got != "second" || u.state(time.Now()).Problem == "" {
		t.Errorf("with a broken key the service knows the gateway as %q, %v", got, u.tls.failure)
	}
	put("third")
	if got := name(); got != "third" || u.state(time.Now()).Problem != "" {
		t.Errorf("with a new key the service knows the gateway as %q, %v", got, u.tls.failure)
	}

	for what, change := range map[string]func(*fieldgate.UpstreamTLS){
		"no client certificate":        func(s *fieldgate.UpstreamTLS) { s.CertFile, s.KeyFile = "", "" },
		"another name":                 func(s *fieldgate.UpstreamTLS) { s.ServerName = "other.example" },
		"the host of the address":      func(s *fieldgate.UpstreamTLS) { s.ServerName = "" },
		"an authority of the system's": func(s *fieldgate.UpstreamTLS) { s.CAFile = "" },
	} {
		changed := settings
		change(&changed)
		if _, err := get(newSet(t, fieldgate.Upstream{Addresses: []string{server.URL}, TLS: &changed})); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

// Connections after the first resume its session (RFC 8446 §2.2).
func TestTLSResumption(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		if r.TLS.DidResume {
			io.WriteString(w, "resumed")
		}
	}))
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, ca, "CERTIFICATE", server.Certificate().Raw)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{server.URL}, TLS: &fieldgate.UpstreamTLS{CAFile: ca}})
	for _, want := range []string{"", "resumed", "resumed"} {
		if answer, err := get(u); err != nil || string(answer.Body) != want {
			t.Errorf("%v, %v", answer, err)
		}
	}
}

// RFC 8996: versions before 1.2 are not spoken.
func TestTLSVersion(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{MaxVersion: tls.VersionTLS11}
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, ca, "CERTIFICATE", server.Certificate().Raw)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{server.URL}, TLS: &fieldgate.UpstreamTLS{CAFile: ca}})
	_, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/"})
	if codeOf(err) != fieldgate.ProblemUpstreamUnreachable {
		t.Errorf("%v", err)
	}
}

func TestTLSSettings(t *testing.T) {
	folder := t.TempDir()
	empty := filepath.Join(folder, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(folder, "client.pem"), filepath.Join(folder, "client.key")
	certtest.Write(t, certtest.NewAuthority(t).Issue(t, -time.Hour, time.Hour, "a"), certFile, keyFile)
	for _, test := range []struct {
		settings fieldgate.UpstreamTLS
		want     string
	}{
		{fieldgate.UpstreamTLS{CAFile: filepath.Join(folder, "none.pem")}, "no such file"},
		{fieldgate.UpstreamTLS{CAFile: empty}, "holds no certificate"},
		{fieldgate.UpstreamTLS{CertFile: certFile}, "needs both"},
		{fieldgate.UpstreamTLS{KeyFile: keyFile}, "needs both"},
		{fieldgate.UpstreamTLS{CertFile: certFile, KeyFile: certFile}, "private key"},
	} {
		_, err := NewSet([]fieldgate.Upstream{{Name: "x", Addresses: []string{"https://a"}, TLS: &test.settings}})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test.settings, err)
		}
	}
	if _, err := NewSet([]fieldgate.Upstream{{Name: "x", Addresses: []string{"https://a"}, Protocol: "spdy"}}); err == nil || !strings.Contains(err.Error(), "http2") {
		t.Errorf("a protocol that is not known: %v", err)
	}
}
