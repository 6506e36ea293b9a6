package main

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"fieldgate/gateway/httpfront"
)

// Each bad value is refused with what to write.
func TestWebSettingsAreRefused(t *testing.T) {
	const ca = "tls: {internal-ca: {names: [gateway.lan]}}\n"
	for text, want := range map[string]string{
		"listen: {https: '127.0.0.1:8443'}":                                   "listen.https: there is no certificate: set tls.certificates, tls.internal-ca or tls.acme",
		"listen: {https: 8443}":                                               `listen.https: "8443" is no address: give HOST:PORT`,
		"tls: {min-version: 1.1}":                                             `tls.min-version: "1.1" is none: write "1.2" or "1.3"`,
		"tls: {certificates: [{certificate: a.pem}]}":                         "tls.certificates: number 1 needs certificate and key",
		"tls: {internal-ca: {names: ['a b']}}":                                `tls.internal-ca.names: "a b" is none: write host names, *.HOST or addresses`,
		"tls: {internal-ca: {names: [a, a]}}":                                 `"a" is there twice`,
		"tls: {internal-ca: {names: [Gateway.lan]}}":                          `"Gateway.lan" is none`,
		"tls: {acme: {names: ['*.example.com']}}":                             "wildcards and addresses cannot be proved",
		"tls: {acme: {names: [192.0.2.1]}}":                                   "",
		"tls: {acme: {names: [localhost]}}":                                   "write whole host names, such as gateway.example.com",
		"tls: {acme: {email: ops@example.com}}":                               "tls.acme.names: they are missing",
		"tls: {acme: {names: [a.test], directory: 'http://ca/'}}":             `tls.acme.directory: "http://ca/" is no address`,
		"tls: {acme: {names: [a.test], email: 'Ops <ops@a.test>'}}":           "tls.acme.email:",
		"tls: {acme: {name: [a.test]}}":                                       `there is no setting "name" here`,
		ca + "http: {redirect-to-https: true}":                                "http.redirect-to-https: this needs both listen.http and listen.https",
		"http: {https-port: 70000}":                                           "",
		"http: {trusted-proxies: [10.0.0.0/33]}":                              `http.trusted-proxies: "10.0.0.0/33" is no address: write one, such as 10.0.0.5, or a network`,
		"http: {trusted-proxies: [10.0.0.1/8]}":                               `http.trusted-proxies: "10.0.0.1/8" is no address`,
		"http: {trusted-proxies: [proxy.lan]}":                                `http.trusted-proxies: "proxy.lan" is no address`,
		"http: {trusted-proxies: ['fe80::1%eth0']}":                           `is no address`,
		"http: {proxy-protocol: {https: [any]}}":                              `http.proxy-protocol.https: "any" is no address`,
		"http: {proxy-protocol: true}":                                        "",
		"http: {forwarded-in: both}":                                          "http.forwarded-in: \"both\" is none: write x-forwarded or forwarded",
		"http: {websocket-idle: 5s}":                                          "http.websocket-idle: 5s is too short: write at least 10s, such as 1h, or 0s for ever",
		"http: {forwarded-out: none}":                                         "http.forwarded-out: \"none\" is none: write x-forwarded, forwarded or both",
		"http: {trusted-proxies: [" + strings.Repeat("10.0.0.1,", 101) + "]}": "http.trusted-proxies: at most 100",
	} {
		path := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readEnvironment(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestWebSettings(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "f.yaml")
	text := `listen: {https: "127.0.0.1:8443"}
tls:
  min-version: "1.3"
  certificates: [{certificate: a.pem, key: /etc/a-key.pem}]
  internal-ca: {names: [gateway.lan, "*.gateway.lan", "2001:db8::1"]}
  acme: {directory: "https://ca.lan/acme/acme/directory", ca-file: ca.pem, names: [gateway.example.com]}
http:
  redirect-to-https: true
  https-port: 443
  proxy-protocol: {http: [10.0.0.5], https: ["fd00::/8"]}
  trusted-proxies: [10.0.0.0/8, 192.0.2.1]
  forwarded-in: forwarded
  forwarded-out: both
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := readEnvironment(path)
	if err != nil {
		t.Fatal(err)
	}
	s := e.gatewaySettings()
	if s.TLS.MinVersion != tls.VersionTLS13 || s.TLS.Files[0].Certificate != filepath.Join(folder, "a.pem") || s.TLS.Files[0].Key != "/etc/a-key.pem" ||
		len(s.TLS.InternalCA) != 3 || s.TLS.ACME.CAFile != filepath.Join(folder, "ca.pem") || s.TLS.ACME.Names[0] != "gateway.example.com" {
		t.Errorf("%+v %+v", s.TLS, s.TLS.ACME)
	}
	w := s.Web
	var got []string
	for _, p := range append(append(w.ProxyProtocol, w.ProxyProtocolTLS...), w.TrustedProxies...) {
		got = append(got, p.String())
	}
	if want := []string{"10.0.0.5/32", "fd00::/8", "10.0.0.0/8", "192.0.2.1/32"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !w.RedirectToHTTPS || w.HTTPSPort != 443 || w.ForwardedIn != httpfront.Forwarded || w.ForwardedOut != httpfront.BothForwarded {
		t.Errorf("%+v", w)
	}
}
