package main

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"fieldgate"
)

func TestCallSettings(t *testing.T) {
	e, err := readText(t, `
upstreams:
  ingest:
    addresses: [https://10.0.0.1:9000]
    protocol: http2
    max-connections: 64
    max-waiting: 100
    max-requests: 500
    adaptive-concurrency: {min: 20, max: 400}
    retry-budget: {percent: 10, per-second: 5}
    tls: {ca: ca.pem, certificate: /etc/gateway.pem, key: /etc/gateway.key, server-name: ingest.internal}
  plain:
    addresses: [http://10.0.0.1:9000]
    protocol: auto
    adaptive-concurrency: {}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []fieldgate.Upstream{{Name: "ingest", Addresses: []string{"https://10.0.0.1:9000"}, MaxConnections: 64, MaxWaiting: 100, MaxRequests: 500,
		Protocol: fieldgate.UpstreamHTTP2, Adaptive: &fieldgate.Adaptive{Min: 20, Max: 400}, RetryBudget: fieldgate.RetryBudget{Percent: 10, PerSecond: 5},
		TLS: &fieldgate.UpstreamTLS{CAFile: filepath.Join(filepath.Dir(e.path), "ca.pem"), CertFile: "/etc/gateway.pem", KeyFile: "/etc/gateway.key", ServerName: "ingest.internal"}},
		{Name: "plain", Addresses: []string{"http://10.0.0.1:9000"}, Adaptive: &fieldgate.Adaptive{}}}
	if got := e.upstreamList(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestCallSettingsRefused(t *testing.T) {
	for settings, want := range map[string]string{
		`protocol: h2`:     "write auto, http1 or http2",
		`max-waiting: -1`:  "write 1 to 1000000",
		`max-requests: -1`: "write 1 to 1000000",
		`adaptive-concurrency: {min: 10, max: 5}`: "min is more than max",
		`adaptive-concurrency: {min: -1}`:         "write 1 to 1000000",
		`retry-budget: {percent: 200}`:            "write 1 to 100",
		`retry-budget: {per-second: -1}`:          "write 1 to 10000",
		`tls: {ca: ca.pem}`:                       "no address begins with https://",
		`tls: {certificate: a.pem}`:               "certificate and key go together",
		`tls: {skip-verify: true}`:                "skip-verify",
	} {
		if _, err := readText(t, "upstreams:\n  x: {addresses: [\"http://a\"], "+settings+"}\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", settings, err, want)
		}
	}
}
