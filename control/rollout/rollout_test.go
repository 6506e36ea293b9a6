package rollout

import (
	"context"
	"encoding/json"
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
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
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

func TestBehind(t *testing.T) {
	now := time.Now()
	for want, gateway := range map[string]Gateway{
		"":                                {fieldgate.GatewayState{Node: "a", Snapshot: 5, Directory: 5}, now},
		"snapshot 4 of 5":                 {fieldgate.GatewayState{Node: "a", Snapshot: 4, Directory: 5}, now},
		"change 4 of 5":                   {fieldgate.GatewayState{Node: "a", Snapshot: 5, Directory: 4}, now},
		"goes on with snapshot 4: no fit": {fieldgate.GatewayState{Node: "a", Snapshot: 4, Directory: 5, Problem: "no fit"}, now},
		"two gateways call themselves a":  {fieldgate.GatewayState{Node: "a", Snapshot: 5, Directory: 5, NameTaken: true}, now},
		"was last heard":                  {fieldgate.GatewayState{Node: "a", Snapshot: 5, Directory: 5}, now.Add(-time.Minute)},
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
		gateway := Gateway{fieldgate.GatewayState{Node: "a", OutboxBytes: 77, OutboxOldest: c.oldest}, now}
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
	tell(t, g, b, fieldgate.GatewayState{Node: "a", Snapshot: 3, Connections: map[string]int{"mqtt": 12, "invented": 1}, MessagesDropped: 4})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(g)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP fieldgate_gateway_connections Connections open; of CoAP peers known.
# TYPE fieldgate_gateway_connections gauge
fieldgate_gateway_connections{node="a",protocol="mqtt"} 12
# HELP fieldgate_gateway_messages_dropped_total Messages that some subscriber did not get.
# TYPE fieldgate_gateway_messages_dropped_total counter
fieldgate_gateway_messages_dropped_total{node="a"} 4
# HELP fieldgate_gateway_up 1 while the gateway is heard.
# TYPE fieldgate_gateway_up gauge
fieldgate_gateway_up{node="a"} 1
`), "fieldgate_gateway_connections", "fieldgate_gateway_messages_dropped_total", "fieldgate_gateway_up"); err != nil {
		t.Error(err)
	}
}
