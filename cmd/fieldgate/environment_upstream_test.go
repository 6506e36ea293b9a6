package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"fieldgate"
)

func readText(t *testing.T, text string) (*environment, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fieldgate.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return readEnvironment(path)
}

func TestUpstreamSettings(t *testing.T) {
	e, err := readText(t, `
zone: hall-3
upstreams:
  ingest:
    addresses: [http://10.0.0.1:9000]
    targets:
      - {address: "https://10.0.0.2:9000", zone: hall-3, priority: 1, weight: 5}
    discover: {srv: http://_ingest._tcp.internal, dns-server: 10.0.0.2:53, registered: true}
    balance: hash
    hash-by: header:X-Device
    hash-load: 1.5
    sticky: {cookie: service, max-age: 1h, secure: true}
    slow-start: 30s
    overprovision: 1.2
    panic-percent: 0
    server-errors: true
    health: {grpc: "", interval: 5s, timeout: 1s, healthy: 1, unhealthy: 2}
    outlier: {consecutive: 0, failure-percent: 40, minimum-calls: 10, window: 20s, ejection: 1s, max-ejection: 10s, max-ejected: 30}
    circuit: {failure-percent: 60, minimum-calls: 30, window: 5s, open: 2s}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []fieldgate.Upstream{{Name: "ingest", Addresses: []string{"http://10.0.0.1:9000"},
		Targets:   []fieldgate.Target{{Address: "https://10.0.0.2:9000", Zone: "hall-3", Priority: 1, Weight: 5}},
		Discovery: fieldgate.Discovery{SRV: "http://_ingest._tcp.internal", Server: "10.0.0.2:53", Registered: true},
		Algorithm: fieldgate.AlgorithmHash, HashBy: fieldgate.HashBy{Kind: fieldgate.HashHeader, Name: "x-device"}, HashLoad: 1.5,
		Sticky:    fieldgate.Sticky{Cookie: "service", MaxAge: time.Hour, Secure: true},
		SlowStart: 30 * time.Second, Zone: "hall-3", Overprovisioning: 1.2, PanicPercent: -1, CountServerErrors: true,
		Health: fieldgate.HealthCheck{Kind: fieldgate.HealthGRPC, Interval: 5 * time.Second, Timeout: time.Second, Healthy: 1, Unhealthy: 2},
		Outlier: fieldgate.Outlier{Consecutive: -1, FailurePercent: 40, MinimumCalls: 10, Window: 20 * time.Second, Ejection: time.Second,
			MaxEjection: 10 * time.Second, MaxEjected: 30},
		Circuit: fieldgate.Circuit{FailurePercent: 60, MinimumCalls: 30, Window: 5 * time.Second, Open: 2 * time.Second}}}
	if got := e.upstreamList(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestUpstreamSettingsRefused(t *testing.T) {
	for settings, want := range map[string]string{
		`{}`:                 "addresses are missing",
		`{addresses: [a:1]}`: "give http://HOST:PORT",
		`{targets: [{address: "http://a", weight: 3}]}`:                         "write balance: weighted",
		`{balance: weighted, targets: [{address: "http://a", weight: 0}]}`:      "write 1 to 1000",
		`{targets: [{address: "http://a", priority: 16}]}`:                      "write 0 to 15",
		`{addresses: ["http://a"], balance: random}`:                            "write round-robin, weighted, least-requests, two-choices, peak-ewma or hash",
		`{addresses: ["http://a"], balance: hash}`:                              "hash-by",
		`{addresses: ["http://a"], hash-by: path}`:                              "balance: hash and hash-by go together",
		`{addresses: ["http://a"], balance: hash, hash-by: header}`:             "write principal, source, host, path, header:NAME",
		`{addresses: ["http://a"], balance: hash, hash-by: path, hash-load: 1}`: "write 1.01 to 100",
		`{addresses: ["http://a"], sticky: {max-age: 1h}}`:                      "sticky.cookie: the name is missing",
		`{addresses: ["http://a"], sticky: {cookie: "a b"}}`:                    "is no name of a cookie",
		`{addresses: ["http://a"], sticky: {cookie: a, secret-file: nowhere}}`:  "sticky.secret-file",
		`{addresses: ["http://a"], slow-start: 1ms}`:                            "write 1s to 1h0m0s",
		`{addresses: ["http://a"], overprovision: 0.5}`:                         "write 1 to 10",
		`{addresses: ["http://a"], panic-percent: 101}`:                         "write 0 to 100",
		`{addresses: ["http://a"], health: {interval: 1s}}`:                     "give one of {http: /PATH}",
		`{addresses: ["http://a"], health: {http: /, tcp: true}}`:               "give one of {http: /PATH}",
		`{addresses: ["http://a"], health: {http: healthz}}`:                    "is no path",
		`{addresses: ["http://a"], health: {http: /, statuses: [20]}}`:          "of the form 204 or 200-299",
		`{addresses: ["http://a"], health: {tcp: true, interval: 1ms}}`:         "write 100ms to 1h0m0s",
		`{addresses: ["http://a"], outlier: {consecutive: -1}}`:                 "or 0 to leave it off",
		`{addresses: ["http://a"], outlier: {max-ejected: 200}}`:                "write 1 to 100",
		`{addresses: ["http://a"], circuit: {open: 1s}}`:                        "circuit.failure-percent: it is missing",
		`{discover: {dns: "ingest:80"}}`:                                        "give http://NAME:PORT",
		`{discover: {dns: "http://a", srv: "http://b"}}`:                        "not both",
		`{discover: {dns: "http://a", dns-server: ns1}}`:                        "such as 10.0.0.2:53",
	} {
		if _, err := readText(t, "upstreams:\n  x: "+settings+"\n"); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q", settings, err, want)
		}
	}
}
