package mqttfront

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/mqttproxy"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
	"fieldgate/test/mosquittotest"
)

// Which tests of conformance a proxy is not asked, by what stands behind it, and why. All others hold.
const (
	aliasesToClient = "topic aliases to the client are the broker's, which the proxy resolves and does not give anew"
	brokersOrder    = "the broker sends a QoS 2 message when it was released, or is on disk, and others before it"
	brokersReasons  = "the broker answers with other reason codes that the standard allows"
	brokersOverlap  = "the broker sends a message once for each of overlapping subscriptions"
	brokersWill     = "the broker keeps a delayed will beyond the session's end"
	brokersShares   = "the broker gives a shared message that was not finished to another member, or the identifier of another"
	brokersRefused  = "the broker sends again what the client refused"
	uplinkOptions   = "uplinks know no No Local and no Retain As Published, and overlapping filters are heard once each"
	uplinkTime      = "acknowledgements take the way to the broker and back: who exceeds Receive Maximum is cut off before"
)

func TestConformanceThroughProxies(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, *gateway){"Malformed": conformMalformed, "Filters": conformFilters, "ConnectMalformed": conformConnectMalformed, "Sessions": conformSessions,
		"Wills": conformWills, "Handshakes": conformHandshakes, "Resending": conformResending, "Order": conformOrder, "Retained": conformRetained, "Subscriptions": conformSubscriptions,
		"SharedSubscriptions": conformSharedSubscriptions, "FlowControl": conformFlowControl, "Properties": conformProperties, "ClientIdentifiers": conformClientIdentifiers}
	own := func(t *testing.T) string { return openGateway(t, nil).address }
	mosquitto := func(t *testing.T) string { return mosquittotest.Start(t).Address }
	for name, way := range map[string]struct {
		open   func(t *testing.T, address string) *gateway
		behind func(t *testing.T) string
		not    map[string]string
	}{
		"own connections, own broker": {openProxied, own, map[string]string{"Properties": aliasesToClient}},
		"own connections, mosquitto": {openProxied, mosquitto, map[string]string{"Properties": aliasesToClient, "Order": brokersOrder, "Handshakes": brokersReasons, "Retained": brokersReasons,
			"Subscriptions": brokersOverlap, "Wills": brokersWill, "SharedSubscriptions": brokersShares, "Resending": brokersRefused, "Sessions": brokersReasons, "FlowControl": brokersReasons}},
		"uplinks, own broker": {openPooled, own, map[string]string{"Order": brokersOrder, "Retained": uplinkOptions, "Subscriptions": uplinkOptions, "FlowControl": uplinkTime}},
		"uplinks, mosquitto":  {openPooled, mosquitto, map[string]string{"Order": brokersOrder, "Resending": brokersOrder, "Retained": uplinkOptions, "Subscriptions": uplinkOptions, "FlowControl": uplinkTime}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for name, test := range tests {
				if way.not[name] == "" {
					t.Run(name, func(t *testing.T) { test(t, way.open(t, way.behind(t))) })
				}
			}
		})
	}
}

// openPipeline lets everybody publish and hear everything.
func openPipeline(t *testing.T) *pipeline.Pipeline {
	t.Helper()
	known, err := directory.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { known.Close() })
	upstreams, err := upstream.NewSet(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := pipeline.New(pipeline.Config{Node: "n1", Directory: known, Upstreams: upstreams, Broker: broker.New(), Recorder: &records{discard: true}})
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{{API: "open", Version: "1", Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{{ID: "all", PassThrough: true, MaxBody: 1 << 20, Access: fieldgate.Access{Anonymous: true},
			MQTT: &fieldgate.MQTTBinding{Topic: "#", Action: fieldgate.ActionBoth, QoS: 2, Retain: true}}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Install(program)
	return p
}

// running runs something until the test ends.
func running(t *testing.T, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func openProxied(t *testing.T, behind string) *gateway {
	t.Helper()
	listener := listen(t)
	p, err := mqttproxy.New(mqttproxy.Config{Pipeline: openPipeline(t), Listeners: []mqttproxy.Listener{{Listener: listener}}, Settings: mqttproxy.Settings{Addresses: []string{"mqtt://" + behind}},
		Logger: slog.New(slog.DiscardHandler), ProbeInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	running(t, p.Run)
	return &gateway{t: t, address: listener.Addr().String()}
}

func openPooled(t *testing.T, behind string) *gateway {
	t.Helper()
	listener := listen(t)
	pool, err := mqttproxy.NewPool(mqttproxy.PoolConfig{Settings: mqttproxy.Settings{Addresses: []string{"mqtt://" + behind}, Uplinks: 2}, Logger: slog.New(slog.DiscardHandler), ProbeInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	f, err := New(Config{Pipeline: openPipeline(t), Listeners: []*Listener{{Listener: listener}}, Folder: t.TempDir(), Backbone: pool, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	running(t, func(ctx context.Context) error { pool.Run(ctx, f.Receive); return nil })
	running(t, f.Run)
	for pool.State().Addresses[0].Open < 2 { // a message of QoS 0 whose uplink is not there yet would be dropped
		time.Sleep(time.Millisecond)
	}
	return &gateway{t: t, address: listener.Addr().String()}
}
