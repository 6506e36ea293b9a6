package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldgate/gateway/coapfront"
)

// What CoAP clients may take is set in the environment file, and is otherwise what the packages say.
func TestCoAPLimits(t *testing.T) {
	e, err := readText(t, "coap:\n  max-peers: 300\n  max-observations: 20\n  transfer-memory: 256MiB\n  max-sessions: 7\n  max-handshakes: 8\n  max-handshakes-source: 9\n  session-timeout: 2h\n")
	if err != nil {
		t.Fatal(err)
	}
	if e.CoAP.peers() != (coapfront.PeerBounds{MaxPeers: 300, MaxObservations: 20, TransferBytes: 256 << 20}) {
		t.Errorf("%+v", e.CoAP.peers())
	}
	if e.CoAP.sessions() != (coapfront.SessionBounds{MaxSessions: 7, MaxHandshakes: 8, MaxHandshakesSource: 9, IdleTimeout: 2 * time.Hour}) {
		t.Errorf("%+v", e.CoAP.sessions())
	}
	if e, err = readText(t, "node: n1\n"); err != nil || e.CoAP.peers() != (coapfront.PeerBounds{}) || e.CoAP.sessions() != (coapfront.SessionBounds{}) {
		t.Errorf("by default: %v %+v %+v", err, e.CoAP.peers(), e.CoAP.sessions())
	}
	for setting, want := range map[string]string{
		"max-peers: 99":             "coap.max-peers: 99 is out of range: write 100 to 10000000",
		"max-peers: many":           "many",
		"max-observations: -1":      "coap.max-observations: -1 is out of range: write 1 to",
		"transfer-memory: 1MiB":     "coap.transfer-memory: it is out of range: write 16MiB to 64GiB",
		"transfer-memory: 100":      `"100" is no size`,
		"max-sessions: 20000000":    "coap.max-sessions: 20000000 is out of range",
		"max-handshakes: 100001":    "coap.max-handshakes: 100001 is out of range: write 1 to 100000",
		"max-handshakes-source: -1": "coap.max-handshakes-source: -1 is out of range",
		"session-timeout: 30s":      "coap.session-timeout: 30s is out of range: write 1m0s to 720h0m0s",
	} {
		if _, err := readText(t, "coap:\n  "+setting+"\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", setting, err, want)
		}
	}
}

// What the doctor says of how CoAP clients come in.
func TestDoctorOfCoAP(t *testing.T) {
	folder := t.TempDir()
	key := filepath.Join(folder, "some.key")
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"as it comes", "node: n1", nil},
		{"plain, for others", "listen: {coap: '0.0.0.0:5683'}", []string{"coap-plain listen.coap"}},
		{"plain, twice", "listen: {coap: ':5683', coap-tcp: '10.0.0.1:5683'}", []string{"coap-plain listen.coap, listen.coap-tcp"}},
		{"on-ramp for this machine", "coap: {on-ramp: {upstream: 'coap://10.0.0.7'}}", nil},
		{"on-ramp for others", "coap: {on-ramp: {upstream: 'coap://10.0.0.7', listen: '[::]:5685'}}", []string{"on-ramp-open coap.on-ramp"}},
		{"DTLS without anything", "listen: {coaps: '0.0.0.0:5684'}", []string{"coaps-nobody listen.coaps"}},
		{"DTLS with a certificate to come", "listen: {coaps: '0.0.0.0:5684'}\ntls: {internal-ca: {names: [gateway.lan]}}", nil},
		{"DTLS with a secrets key", "listen: {coaps: '0.0.0.0:5684'}\nsecrets-key-file: " + key, nil},
		{"DTLS with a secrets key that is not there", "listen: {coaps: '0.0.0.0:5684'}\nsecrets-key-file: " + key + "2", []string{"coaps-nobody listen.coaps"}},
		{"directory", "coap: {resource-directory: on}", nil},
		{"directory by DTLS", "listen: {coap: off, http: off, coaps: '127.0.0.1:5684'}\ncoap: {resource-directory: on}\nsecrets-key-file: " + key, nil},
		{"directory that nobody reaches", "listen: {coap: off, http: off}\ncoap: {resource-directory: on}", []string{"resource-directory-unreached coap.resource-directory"}},
		{"directory without WebSockets", "listen: {coap: off}\ncoap: {resource-directory: on, websocket: off}", []string{"resource-directory-unreached coap.resource-directory"}},
	} {
		e, err := readText(t, c.text+"\n")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, d := range e.diagnoseCoAP() {
			got = append(got, d.Code+" "+d.Subject)
			if d.Severity != severityWarning || d.Message == "" || d.Remedy == "" {
				t.Errorf("%s: %+v", c.name, d)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	control := &environment{Role: roleControl, Listen: listen{CoAP: "0.0.0.0:5683"}}
	if found := control.diagnoseCoAP(); found != nil {
		t.Errorf("a node without gateway: %+v", found)
	}
}
