package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"fieldgate"
	"fieldgate/engine/bus"
)

func open(t *testing.T) (*Rollout, *bus.Bus) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	b, err := bus.Open(bus.Config{Directory: t.TempDir(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	g := New(b, log)
	stop, err := g.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return g, b
}

func tell(t *testing.T, g *Rollout, b *bus.Bus, state fieldgate.GatewayState) {
	t.Helper()
	data, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(fieldgate.SubjectGatewayState, data); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		for _, have := range g.List() {
			if reflect.DeepEqual(have.GatewayState, state) {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the state was not heard")
		}
	}
}

// A decision waits for every gateway that is there, and for none that has said why it cannot follow.
func TestAwait(t *testing.T) {
	g, b := open(t)
	g.Await(t.Context(), Wanted{7, 7, 0}) // there is no gateway
	tell(t, g, b, fieldgate.GatewayState{Node: "a", Snapshot: 7, Directory: 9})
	tell(t, g, b, fieldgate.GatewayState{Node: "b", Snapshot: 6, Directory: 9})
	tell(t, g, b, fieldgate.GatewayState{Node: "c", Snapshot: 1, Directory: 9, Problem: "cannot be linked"})
	done := make(chan struct{})
	go func() {
		g.Await(t.Context(), Wanted{7, 9, 0})
		close(done)
	}()
	select {
	case <-done:
		t.Fatal("it did not wait for b")
	case <-time.After(50 * time.Millisecond):
	}
	tell(t, g, b, fieldgate.GatewayState{Node: "b", Snapshot: 7, Directory: 9})
	<-done

	// Who asks may give up, and nobody waits for long.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	g.Await(ended, Wanted{8, 9, 0})
	g.Await(t.Context(), Wanted{8, 9, 0})
}

// Who publishes as soon as the admin API answers finds the contract in force on the gateway that starts beside it.
func TestAwaitOwn(t *testing.T) {
	g, b := open(t)
	g.Expect("n1")
	answered, began := make(chan struct{}), time.Now()
	go func() {
		defer close(answered)
		g.Await(t.Context(), Wanted{7, 7, 0})
	}()
	tell(t, g, b, fieldgate.GatewayState{Node: "n2", Snapshot: 7, Directory: 7})
	select {
	case <-answered:
		if time.Since(began) < awaitTimeout {
			t.Fatal("it did not wait for the gateway that has said nothing yet")
		}
	default:
	}
	tell(t, g, b, fieldgate.GatewayState{Node: "n1", Snapshot: 7, Directory: 7})
	<-answered
}

func TestBehind(t *testing.T) {
	now := time.Now()
	for want, gateway := range map[string]Gateway{
		"":                                {GatewayState: fieldgate.GatewayState{Node: "a", Snapshot: 5, Directory: 5}, Seen: now},
		"snapshot 4 of 5":                 {GatewayState: fieldgate.GatewayState{Node: "a", Snapshot: 4, Directory: 5}, Seen: now},
		"change 4 of 5":                   {GatewayState: fieldgate.GatewayState{Node: "a", Snapshot: 5, Directory: 4}, Seen: now},
		"goes on with snapshot 4: no fit": {GatewayState: fieldgate.GatewayState{Node: "a", Snapshot: 4, Directory: 5, Problem: "no fit"}, Seen: now},
		"two gateways call themselves a":  {GatewayState: fieldgate.GatewayState{Node: "a", Snapshot: 5, Directory: 5, NameTaken: true}, Seen: now},
		"serves no persistent MQTT":       {GatewayState: fieldgate.GatewayState{Node: "a", Snapshot: 5, Directory: 5, MQTTLog: &fieldgate.MQTTLogState{Problem: "no copy"}}, Seen: now},
		"1001 entries of the log":         {GatewayState: fieldgate.GatewayState{Node: "a", Snapshot: 5, Directory: 5, MQTTLog: &fieldgate.MQTTLogState{Joined: true, Behind: 1001}}, Seen: now},
		"was last heard":                  {GatewayState: fieldgate.GatewayState{Node: "a", Snapshot: 5, Directory: 5}, Seen: now.Add(-time.Minute)},
	} {
		if got := gateway.Behind(Wanted{5, 5, 0}, now); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%+v: %q, want %q", gateway, got, want)
		}
	}
}

// Records that have waited for long are told, with how many bytes and since when.
func TestLate(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		oldest time.Time
		want   bool
	}{{time.Time{}, false}, {now.Add(-time.Second), false}, {now.Add(time.Hour), false}, {now.Add(-2 * time.Minute), true}} {
		gateway := Gateway{GatewayState: fieldgate.GatewayState{Node: "a", OutboxBytes: 77, OutboxOldest: c.oldest}, Seen: now}
		if got := gateway.Late(now); (got != "") != c.want || c.want && !strings.Contains(got, "77 bytes") {
			t.Errorf("oldest %v: %q", c.oldest, got)
		}
	}
}

// What is no state, or comes from too many nodes, is passed over.
func TestHostileStates(t *testing.T) {
	g, b := open(t)
	for _, data := range []string{"", "{", `{"node":""}`, `{"node":"` + strings.Repeat("x", 200) + `"}`} {
		if err := b.Publish(fieldgate.SubjectGatewayState, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	tell(t, g, b, fieldgate.GatewayState{Node: "a"})
	if len(g.List()) != 1 {
		t.Error(g.List())
	}
	for i := range maxGateways + 10 {
		g.heard(fieldgate.GatewayState{Node: strings.Repeat("n", 1+i%100) + string(rune('0'+i/100))}, time.Now())
	}
	if n := len(g.List()); n > maxGateways {
		t.Errorf("%d gateways are kept", n)
	}
}

// A scrape shows each gateway's state.
func TestMetrics(t *testing.T) {
	g, b := open(t)
	tell(t, g, b, fieldgate.GatewayState{Node: "a", Snapshot: 3, Connections: map[string]int{"mqtt": 12, "invented": 1}, MessagesDropped: 4,
		CoAP:              map[string]fieldgate.CoAPListenerState{"coap": {Peers: 7, Limited: 2}, "coaps-tcp": {Peers: 1}, "invented": {Peers: 9}},
		ResourceDirectory: &fieldgate.ResourceDirectoryState{Registered: 5, Commands: map[fieldgate.DeviceCommandState]uint64{"answered": 3, "invented": 1}}})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(g)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP fieldgate_gateway_coap_limited_total CoAP answers that were cut down, or challenged, for peers whose address is not verified.
# TYPE fieldgate_gateway_coap_limited_total counter
fieldgate_gateway_coap_limited_total{listener="coap",node="a"} 2
fieldgate_gateway_coap_limited_total{listener="coaps-tcp",node="a"} 0
# HELP fieldgate_gateway_coap_peers CoAP peers known; of connections open.
# TYPE fieldgate_gateway_coap_peers gauge
fieldgate_gateway_coap_peers{listener="coap",node="a"} 7
fieldgate_gateway_coap_peers{listener="coaps-tcp",node="a"} 1
# HELP fieldgate_gateway_connections Connections open; of CoAP peers known.
# TYPE fieldgate_gateway_connections gauge
fieldgate_gateway_connections{node="a",protocol="mqtt"} 12
# HELP fieldgate_gateway_messages_dropped_total Messages that some subscriber did not get.
# TYPE fieldgate_gateway_messages_dropped_total counter
fieldgate_gateway_messages_dropped_total{node="a"} 4
# HELP fieldgate_gateway_rd_commands_total Commands that came to a state: at this gateway; expired ones at all of the bus.
# TYPE fieldgate_gateway_rd_commands_total counter
fieldgate_gateway_rd_commands_total{node="a",state="answered"} 3
fieldgate_gateway_rd_commands_total{node="a",state="expired"} 0
fieldgate_gateway_rd_commands_total{node="a",state="queued"} 0
fieldgate_gateway_rd_commands_total{node="a",state="rejected"} 0
fieldgate_gateway_rd_commands_total{node="a",state="sent"} 0
fieldgate_gateway_rd_commands_total{node="a",state="unanswered"} 0
# HELP fieldgate_gateway_up 1 while the gateway is heard.
# TYPE fieldgate_gateway_up gauge
fieldgate_gateway_up{node="a"} 1
`), "fieldgate_gateway_rd_commands_total", "fieldgate_gateway_coap_limited_total", "fieldgate_gateway_coap_peers", "fieldgate_gateway_connections", "fieldgate_gateway_messages_dropped_total", "fieldgate_gateway_up"); err != nil {
		t.Error(err)
	}
}

// One scrape shows what an upstream, the cache, the certificates and the access log of a gateway come to.
func TestMetricsOfUpstreams(t *testing.T) {
	g := New(nil, nil)
	soon := time.Now().Add(time.Hour)
	g.heard(fieldgate.GatewayState{Node: "a", OutboxBytes: 9, Unprojected: 21, MQTT: fieldgate.MQTTState{RefusedSource: 22, RefusedRate: 23, Throttled: 24, ThrottledMessages: 25, ThrottledBytes: 26, StoreProblem: "full"}, Cache: fieldgate.CacheState{Hits: 8, Bytes: 700},
		AccessLog:    &fieldgate.AccessLogState{Written: 5, Dropped: 6},
		MQTTCluster:  &fieldgate.MQTTClusterState{Nodes: 3, Filters: 20, Sent: 21, Received: 22, Lost: 23, Repeated: 24, Malformed: 25},
		Certificates: []fieldgate.CertificateState{{Names: []string{"a.example", "b"}, NotAfter: soon.Add(time.Hour)}, {Names: []string{"a.example"}, NotAfter: soon}, {Names: []string{"none"}}, {NotAfter: soon}},
		Upstreams: []fieldgate.UpstreamState{{Name: "plain"}, {Name: "full", Circuit: fieldgate.CircuitOpen, Healthy: 2, Unhealthy: 1, Panic: true,
			CallStats: fieldgate.CallStats{Calls: 100, Failures: 10, InFlight: 4, Latency: 250, UnderWay: 3, Limit: 30, Shed: [3]uint64{1, 2, 3}, Retries: 11, RetriesRefused: 12,
				Hedges: 13, HedgesWon: 14, Mirroring: 15, MirrorsDropped: 16}}}}, time.Now())
	g.heard(fieldgate.GatewayState{Node: "gone", Upstreams: []fieldgate.UpstreamState{{Name: "old"}}}, time.Now().Add(-time.Hour))
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(g)
	got := scrape(t, registry)
	for series, want := range map[string]float64{
		`fieldgate_gateway_unprojected_total{node="a"}`:                                  21,
		`fieldgate_gateway_mqtt_refused_connections_total{limit="source",node="a"}`:      22,
		`fieldgate_gateway_mqtt_refused_connections_total{limit="rate",node="a"}`:        23,
		`fieldgate_gateway_mqtt_throttled_connections{node="a"}`:                         24,
		`fieldgate_gateway_mqtt_throttled_total{node="a",of="messages"}`:                 25,
		`fieldgate_gateway_mqtt_throttled_total{node="a",of="bytes"}`:                    26,
		`fieldgate_gateway_mqtt_store_refuses{node="a"}`:                                 1,
		`fieldgate_upstream_calls_total{node="a",upstream="full"}`:                       100,
		`fieldgate_upstream_failures_total{node="a",upstream="full"}`:                    10,
		`fieldgate_upstream_calls_in_flight{node="a",upstream="full"}`:                   4,
		`fieldgate_upstream_latency_seconds{node="a",upstream="full"}`:                   .25,
		`fieldgate_upstream_addresses{node="a",state="healthy",upstream="full"}`:         2,
		`fieldgate_upstream_addresses{node="a",state="unhealthy",upstream="full"}`:       1,
		`fieldgate_upstream_circuit{node="a",state="open",upstream="full"}`:              1,
		`fieldgate_upstream_circuit{node="a",state="closed",upstream="full"}`:            0,
		`fieldgate_upstream_panic{node="a",upstream="full"}`:                             1,
		`fieldgate_upstream_limit{node="a",upstream="full"}`:                             30,
		`fieldgate_upstream_shed_total{node="a",priority="normal",upstream="full"}`:      1,
		`fieldgate_upstream_shed_total{node="a",priority="critical",upstream="full"}`:    2,
		`fieldgate_upstream_shed_total{node="a",priority="background",upstream="full"}`:  3,
		`fieldgate_upstream_shed_total{node="a",priority="background",upstream="plain"}`: 0,
		`fieldgate_upstream_retries_total{node="a",upstream="full"}`:                     11,
		`fieldgate_upstream_retries_refused_total{node="a",upstream="full"}`:             12,
		`fieldgate_upstream_hedges_total{node="a",upstream="full"}`:                      13,
		`fieldgate_upstream_hedges_won_total{node="a",upstream="full"}`:                  14,
		`fieldgate_upstream_mirrors_in_flight{node="a",upstream="full"}`:                 15,
		`fieldgate_upstream_mirrors_dropped_total{node="a",upstream="full"}`:             16,
		`fieldgate_gateway_cache_hits_total{node="a"}`:                                   8,
		`fieldgate_gateway_cache_bytes{node="a"}`:                                        700,
		`fieldgate_gateway_access_log_lines_total{node="a"}`:                             5,
		`fieldgate_gateway_access_log_dropped_lines_total{node="a"}`:                     6,
		`fieldgate_gateway_mqtt_nodes{node="a"}`:                                         3,
		`fieldgate_gateway_mqtt_nodes_filters{node="a"}`:                                 20,
		`fieldgate_gateway_mqtt_nodes_sent_total{node="a"}`:                              21,
		`fieldgate_gateway_mqtt_nodes_received_total{node="a"}`:                          22,
		`fieldgate_gateway_mqtt_nodes_lost_total{node="a"}`:                              23,
		`fieldgate_gateway_mqtt_nodes_repeated_total{node="a"}`:                          24,
		`fieldgate_gateway_mqtt_nodes_malformed_total{node="a"}`:                         25,
		`fieldgate_gateway_outbox_bytes{node="a"}`:                                       9,
		`fieldgate_gateway_up{node="gone"}`:                                              0,
	} {
		if value, is := got[series]; !is || value != want {
			t.Errorf("%s is %v, want %v", series, value, want)
		}
	}
	if left := got[`fieldgate_gateway_certificate_expiry_seconds{name="a.example",node="a"}`]; left < 3000 || left > 3600 {
		t.Errorf("the certificate that expires first has %v s left", left)
	}
	for series := range got {
		if strings.Contains(series, `"old"`) || strings.Contains(series, "circuit") && strings.Contains(series, "plain") || strings.Contains(series, "limit") && strings.Contains(series, "plain") ||
			strings.Contains(series, "certificate") && !strings.Contains(series, "a.example") {
			t.Errorf("%s is there", series)
		}
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// scrape is each series with its value; labels are in the order of their names.
func scrape(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			series[family.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return series
}

// Gateways that name what they like make a scrape no larger than its bound, break none, and take no other gateway's place.
func TestMetricsAreBounded(t *testing.T) {
	g := New(nil, nil)
	hostile := fieldgate.GatewayState{Connections: map[string]int{"invented": 1}}
	for i := range 5_000 {
		name := fmt.Sprint("u", i%4_900) // some twice
		hostile.Upstreams = append(hostile.Upstreams, fieldgate.UpstreamState{Name: name, Circuit: "invented"})
		hostile.Certificates = append(hostile.Certificates, fieldgate.CertificateState{Names: []string{name}, NotAfter: time.Now()})
	}
	for _, name := range []string{"", "a b", "a\nb", "\"", strings.Repeat("n", 200), "ü\x00"} {
		hostile.Upstreams = append(hostile.Upstreams, fieldgate.UpstreamState{Name: name})
	}
	hostile.Certificates = append(hostile.Certificates, fieldgate.CertificateState{Names: []string{strings.Repeat("n", 300)}, NotAfter: time.Now()})
	for i := range 3 {
		hostile.Node = fmt.Sprint("hostile", i)
		g.heard(hostile, time.Now())
	}
	g.heard(fieldgate.GatewayState{Node: "honest", Upstreams: []fieldgate.UpstreamState{{Name: "therapy"}},
		Certificates: []fieldgate.CertificateState{{Names: []string{"gateway.example"}, NotAfter: time.Now()}}}, time.Now())
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(g)
	upstreams, certificates, honest := 0, 0, 0
	for series := range scrape(t, registry) {
		switch {
		case strings.HasPrefix(series, "fieldgate_upstream_calls_total"):
			upstreams++
			if strings.Contains(series, `"therapy"`) {
				honest++
			}
		case strings.HasPrefix(series, "fieldgate_gateway_certificate_expiry_seconds"):
			certificates++
			if strings.Contains(series, `"gateway.example"`) {
				honest++
			}
		case strings.Contains(series, "invented"):
			t.Errorf("%s is there", series)
		}
	}
	if upstreams > maxMetricUpstreams || upstreams < maxMetricUpstreams-3 || certificates > maxMetricCertificates || honest != 2 {
		t.Errorf("%d upstreams and %d certificates have series, %d of 2 of the honest gateway", upstreams, certificates, honest)
	}
}

// Calls and retries that an upstream refused are told for a minute, and what was counted before a gateway was heard is not.
func TestOverload(t *testing.T) {
	g := New(nil, nil)
	now := time.Now()
	hear := func(after time.Duration, epoch uint64, shed, refused uint64) (told string) {
		t.Helper()
		g.heard(fieldgate.GatewayState{Node: "a", Epoch: epoch, Upstreams: []fieldgate.UpstreamState{{Name: "therapy", Healthy: 1,
			CallStats: fieldgate.CallStats{Shed: [3]uint64{0, 0, shed}, RetriesRefused: refused}}}}, now.Add(after))
		for _, ill := range g.List()[0].Ills(now.Add(after)) {
			told += string(ill.Kind) + " " + ill.Message + ";"
		}
		return told
	}
	const shed = "overload therapy had more calls on a than it can carry, and some were refused within the last minute;"
	const refused = "overload the retry budget of therapy on a was used up within the last minute;"
	for i, step := range []struct {
		after         time.Duration
		epoch         uint64
		shed, refused uint64
		want          string
		turns         bool
	}{
		{0, 1, 7, 7, "", true}, // of before; the first state turns
		{5 * time.Second, 1, 7, 7, "", false},
		{10 * time.Second, 1, 8, 7, shed, true},
		{15 * time.Second, 1, 9, 8, shed + refused, true},
		{65 * time.Second, 1, 9, 8, shed + refused, false},
		{75 * time.Second, 1, 9, 8, "", true},
		{80 * time.Second, 2, 3, 3, "", false}, // it was started anew
		{85 * time.Second, 2, 4, 3, shed, true},
	} {
		turned := g.Turned()
		if got := hear(step.after, step.epoch, step.shed, step.refused); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
		select {
		case <-turned:
			if !step.turns {
				t.Errorf("step %d: nothing has turned, and it is told", i)
			}
		default:
			if step.turns {
				t.Errorf("step %d: it is not told that something has turned", i)
			}
		}
	}
}
