package rollout

import (
	"strings"
	"testing"
	"time"

	"fieldgate"
)

func TestIlls(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	certificate := func(source fieldgate.CertificateSource, left time.Duration, problem string) fieldgate.GatewayState {
		return fieldgate.GatewayState{Certificates: []fieldgate.CertificateState{{Names: []string{"gateway.example", "other"}, Source: source, NotAfter: now.Add(left), Problem: problem}}}
	}
	for name, test := range map[string]struct {
		state fieldgate.GatewayState
		want  string // "kind upstream: message", by ;, with ! before what is bad
	}{
		"nothing":      {fieldgate.GatewayState{}, ""},
		"all is well":  {fieldgate.GatewayState{Upstreams: []fieldgate.UpstreamState{{Name: "therapy", Healthy: 3, Circuit: fieldgate.CircuitClosed}}, AccessLog: &fieldgate.AccessLogState{Written: 7}}, ""},
		"unhealthy":    {fieldgate.GatewayState{Upstreams: []fieldgate.UpstreamState{{Name: "therapy", Healthy: 1, Unhealthy: 2}}}, "upstream therapy: 2 of 3 addresses of therapy are unhealthy on g1"},
		"one":          {fieldgate.GatewayState{Upstreams: []fieldgate.UpstreamState{{Name: "therapy", Unhealthy: 1}}}, "!upstream therapy: 1 of 1 addresses of therapy is unhealthy on g1"},
		"circuit":      {fieldgate.GatewayState{Upstreams: []fieldgate.UpstreamState{{Name: "therapy", Healthy: 1, Circuit: fieldgate.CircuitOpen}}}, "!circuit therapy: the circuit of therapy is open on g1"},
		"half-open":    {fieldgate.GatewayState{Upstreams: []fieldgate.UpstreamState{{Name: "therapy", Healthy: 1, Circuit: fieldgate.CircuitHalfOpen}}}, "!circuit therapy: the circuit of therapy is open on g1"},
		"discovery":    {fieldgate.GatewayState{Upstreams: []fieldgate.UpstreamState{{Name: "therapy", Problem: "DNS has no address"}}}, "!upstream therapy: upstream therapy on g1: DNS has no address"},
		"in order":     {certificate(fieldgate.CertificateFile, 31*24*time.Hour, ""), ""},
		"six days":     {certificate(fieldgate.CertificateFile, 6*24*time.Hour+time.Hour, ""), "certificate : the certificate of gateway.example on g1 expires in 6 days"},
		"a day":        {certificate(fieldgate.CertificateFile, 30*time.Hour, ""), "certificate : the certificate of gateway.example on g1 expires in 30 hours"},
		"hours":        {certificate(fieldgate.CertificateFile, 3*time.Hour, ""), "certificate : the certificate of gateway.example on g1 expires in 3 hours"},
		"minutes":      {certificate(fieldgate.CertificateFile, 40*time.Minute+time.Second, ""), "certificate : the certificate of gateway.example on g1 expires in 40 minutes"},
		"renews":       {certificate(fieldgate.CertificateInternal, 5*24*time.Hour, ""), ""},
		"cannot renew": {certificate(fieldgate.CertificateACME, 5*24*time.Hour, "connection refused"), "certificate : the certificate of gateway.example on g1 expires in 5 days, and cannot be replaced: connection refused"},
		"new is bad":   {certificate(fieldgate.CertificateFile, 5*24*time.Hour, "the key does not fit"), "certificate : the certificate of gateway.example on g1 expires in 5 days, and cannot be replaced: the key does not fit"},
		"expired":      {certificate(fieldgate.CertificateFile, -49*time.Hour, ""), "!certificate : the certificate of gateway.example on g1 expired 2 days ago"},
		"problem":      {certificate(fieldgate.CertificateFile, 90*24*time.Hour, "the key does not fit"), "certificate : the certificate of gateway.example on g1: the key does not fit"},
		"none yet": {fieldgate.GatewayState{Certificates: []fieldgate.CertificateState{{Names: []string{"a.example"}, Source: fieldgate.CertificateACME, Problem: "refused"}}},
			"!certificate : there is no certificate of a.example on g1: refused"},
		"MQTT store": {fieldgate.GatewayState{MQTT: fieldgate.MQTTState{StoreProblem: "the disk is full"}},
			"!mqtt-store : the MQTT broker of g1 takes no messages of QoS 1 and 2, and none to be retained: the disk is full"},
		"disk": {fieldgate.GatewayState{AccessLog: &fieldgate.AccessLogState{Dropped: 3, Problem: "no space left on device"}}, "!access-log : the access log of g1 is not written: no space left on device"},
	} {
		test.state.Node = "g1"
		g := Gateway{GatewayState: test.state, Seen: now}
		var got []string
		for _, ill := range g.Ills(now) {
			bad := ""
			if ill.Bad {
				bad = "!"
			}
			got = append(got, bad+string(ill.Kind)+" "+ill.Upstream+": "+ill.Message)
			if ill.Remedy == "" {
				t.Errorf("%s: %s says nothing to do", name, ill.Message)
			}
		}
		if all := strings.Join(got, ";"); all != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, all, test.want)
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for left, want := range map[time.Duration]string{
		30 * 24 * time.Hour: "expires in 30 days", 48 * time.Hour: "expires in 2 days", 48*time.Hour - 1: "expires in 47 hours", time.Hour: "expires in 1 hour",
		time.Hour - 1: "expires in 59 minutes", 90 * time.Second: "expires in 1 minute", 59 * time.Second: "expires in less than a minute",
		0: "expired less than a minute ago", -2 * time.Minute: "expired 2 minutes ago", -3 * time.Hour: "expired 3 hours ago", -60 * time.Hour: "expired 2 days ago",
	} {
		if got := Expiry(now.Add(left), now); got != want {
			t.Errorf("%v: %q, want %q", left, got, want)
		}
	}
}

// A state without upstreams leaves those that this start of the gateway said; one of another start does not.
func TestUpstreamsStay(t *testing.T) {
	r := New(nil, nil)
	turned := r.Turned()
	hear := func(epoch uint64, upstreams []fieldgate.UpstreamState) []fieldgate.UpstreamState {
		r.heard(fieldgate.GatewayState{Node: "g1", Epoch: epoch, Upstreams: upstreams}, time.Now())
		return r.List()[0].Upstreams
	}
	has := func(want bool) {
		t.Helper()
		select {
		case <-turned:
			if !want {
				t.Error("nothing has turned, and it is told")
			}
			turned = r.Turned()
		default:
			if want {
				t.Error("it is not told that something has turned")
			}
		}
	}
	well := []fieldgate.UpstreamState{{Name: "therapy", Healthy: 2}}
	if len(hear(1, well)) != 1 || len(hear(1, nil)) != 1 {
		t.Error("the upstreams are gone")
	}
	has(true)
	hear(1, nil)
	hear(1, well)
	has(false)
	hear(1, []fieldgate.UpstreamState{{Name: "therapy", Healthy: 1, Unhealthy: 1}})
	has(true)
	if len(hear(1, []fieldgate.UpstreamState{})) != 0 {
		t.Error("there are upstreams still")
	}
	has(true)
	hear(1, well)
	if len(hear(2, nil)) != 0 {
		t.Error("another start of the gateway has the upstreams of the one before")
	}
}

// A decision about registered addresses waits for gateways that take them only.
func TestAwaitTargets(t *testing.T) {
	takes := Gateway{GatewayState: fieldgate.GatewayState{Targets: 3, Upstreams: []fieldgate.UpstreamState{{Name: "a"}, {Name: "b", Registered: true}}}, Seen: time.Now()}
	takesNone := Gateway{GatewayState: fieldgate.GatewayState{Upstreams: []fieldgate.UpstreamState{{Name: "a"}}}, Seen: time.Now()}
	if takes.has(Wanted{Targets: 4}) || !takes.has(Wanted{Targets: 3}) || !takesNone.has(Wanted{Targets: 4}) {
		t.Error("who waits for whom is wrong")
	}
}
