package control

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/api"
)

// say plays a gateway: the control plane has heard it when say returns.
func (n *node) say(t *testing.T, state fieldgate.GatewayState) {
	t.Helper()
	data, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	said := time.Now()
	if err := n.bus.Publish(fieldgate.SubjectGatewayState, data); err != nil {
		t.Fatal(err)
	}
	for deadline := said.Add(time.Minute); ; time.Sleep(time.Millisecond) {
		for _, g := range n.control.rollout.List() {
			if g.Node == state.Node && !g.Seen.Before(said) {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the gateway was not heard")
		}
	}
}

func TestUpstreamsOverHTTP(t *testing.T) {
	n := start(t, t.TempDir())
	ctx := t.Context()
	since := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	address := func(text string, healthy bool, why string, calls uint64, latency float64) fieldgate.AddressState {
		return fieldgate.AddressState{Address: text, Weight: 1, Healthy: healthy, Why: why, Since: since, InFlight: 2, Calls: calls, Latency: latency}
	}
	// The requests for events must begin before what they tell.
	request, _ := http.NewRequestWithContext(ctx, "GET", "http://"+n.control.Address()+"/api/v1/events", nil)
	request.Header.Set("Authorization", "Bearer "+n.token)
	stream, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	events := bufio.NewScanner(stream.Body)
	if !events.Scan() {
		t.Fatal("there are no events")
	}

	n.say(t, fieldgate.GatewayState{Node: "g1", Epoch: 1, Upstreams: []fieldgate.UpstreamState{
		{Name: "ingest", Algorithm: fieldgate.AlgorithmRoundRobin, Healthy: 1, Addresses: []fieldgate.AddressState{address("http://10.0.1.1:1", true, "", 1, 1)}},
		{Name: "therapy", Algorithm: fieldgate.AlgorithmPeakEWMA, Circuit: fieldgate.CircuitClosed, Healthy: 1, Unhealthy: 1, Registered: true,
			CallStats: fieldgate.CallStats{Calls: 30, InFlight: 4, Latency: 4, UnderWay: 3, Limit: 30, Shed: [3]uint64{2, 1, 3}, Retries: 4, RetriesRefused: 5, Hedges: 6, HedgesWon: 7, Mirroring: 8, MirrorsDropped: 9},
			Addresses: []fieldgate.AddressState{address("http://10.0.0.1:1", true, "", 30, 4), address("http://10.0.0.2:1", false, "check: refused", 0, 0)}}},
		Certificates: []fieldgate.CertificateState{{Names: []string{"gateway.example"}, Source: fieldgate.CertificateFile, File: "/etc/g.pem", NotAfter: time.Now().Add(6*24*time.Hour + time.Hour)}},
		Cache:        fieldgate.CacheState{Hits: 5, Bytes: 600},
		AccessLog:    &fieldgate.AccessLogState{Dropped: 3, Problem: "no space left on device"}})
	n.say(t, fieldgate.GatewayState{Node: "g2", Epoch: 1, Upstreams: []fieldgate.UpstreamState{
		{Name: "therapy", Algorithm: fieldgate.AlgorithmPeakEWMA, Circuit: fieldgate.CircuitOpen, Healthy: 300, CallStats: fieldgate.CallStats{Calls: 90, Failures: 7, InFlight: 300, Latency: 8, Limit: 30}, // of addresses that are not shown, too
			Addresses: []fieldgate.AddressState{address("http://10.0.0.1:1/", true, "", 10, 8)}}}})
	for found := false; !found; {
		if !events.Scan() {
			t.Fatal("it is not told that something has turned")
		}
		found = events.Text() == "event: turned"
	}

	list, err := n.ListUpstreamsWithResponse(ctx, nil)
	if err != nil || len(list.JSON200.Items) != 2 || list.JSON200.Items[0].Name != "ingest" {
		t.Fatalf("%+v, %v", list, err)
	}
	if a := list.JSON200.Items[1].Addresses; a[0].States != nil || a[0].Address != "http://10.0.0.2:1" || a[0].Why != "check: refused" || !a[0].Since.Equal(since) {
		t.Errorf("%+v", a)
	}
	for filter, want := range map[string]string{"": "ingest therapy", "state:unhealthy": "therapy", "state:healthy": "ingest", "circuit:open": "therapy", "-circuit:open": "ingest", "node:g2": "therapy",
		"name:in*": "ingest", "10.0.1.1": "ingest", "algorithm:round-robin": "ingest", "state:unhealthy node:g3": ""} {
		list, err := n.ListUpstreamsWithResponse(ctx, &api.ListUpstreamsParams{Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, u := range list.JSON200.Items {
			names = append(names, u.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q selects %s", filter, got)
		}
	}
	first, err := n.ListUpstreamsWithResponse(ctx, &api.ListUpstreamsParams{Limit: 1})
	if err != nil || len(first.JSON200.Items) != 1 || first.JSON200.Next == "" {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := n.ListUpstreamsWithResponse(ctx, &api.ListUpstreamsParams{Limit: 1, Cursor: first.JSON200.Next})
	if err != nil || len(second.JSON200.Items) != 1 || second.JSON200.Items[0].Name != "therapy" || second.JSON200.Next != "" {
		t.Fatalf("%+v, %v", second, err)
	}

	shown, err := n.GetUpstreamWithResponse(ctx, "therapy")
	if err != nil {
		t.Fatal(err)
	}
	u := shown.JSON200
	if u.Circuit != api.CircuitOpen || u.Healthy != 299 || u.Unhealthy != 1 || u.NotShown != 298 || u.InFlight != 304 || u.Calls != 120 || u.Failures != 7 || u.Latency != 7 || !u.Registered || len(u.Gateways) != 2 {
		t.Errorf("%+v", u)
	}
	if a := u.Addresses[1]; a.Address != "http://10.0.0.1:1" || a.Healthy != 2 || len(a.States) != 2 || a.States[1].Node != "g2" || a.States[1].Latency != 8 {
		t.Errorf("%+v", a)
	}
	if want := (api.UpstreamLoad{UnderWay: 3, Limit: 30, Shed: api.ShedCalls{Critical: 1, Normal: 2, Background: 3}, Retries: 4, RetriesRefused: 5, Hedges: 6, HedgesWon: 7,
		Mirroring: 8, MirrorsDropped: 9}); u.Load.Limit != 60 || u.Load.Shed.Background != 3 || u.Gateways[0].Load != want || u.Load.Retries != 4 {
		t.Errorf("%+v of %+v", u.Gateways[0].Load, u.Load)
	}
	if _, err := n.GetUpstreamWithResponse(ctx, "other"); status(err) != 404 {
		t.Error(err)
	}

	answer, err := n.GetStatusWithResponse(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, w := range answer.JSON200.Warnings {
		if w.Node != "" {
			codes = append(codes, string(w.Code)+" "+w.Upstream+": "+w.Message)
		}
	}
	want := `upstream therapy: 1 of 2 addresses of therapy is unhealthy on g1
certificate : the certificate of gateway.example on g1 expires in 6 days
access-log : the access log of g1 is not written: no space left on device
circuit therapy: the circuit of therapy is open on g2`
	if got := strings.Join(codes, "\n"); got != want {
		t.Errorf("the warnings are\n%s", got)
	}
	g := answer.JSON200.Gateways[0]
	if len(g.Certificates) != 1 || g.Certificates[0].File != "/etc/g.pem" || g.AccessLog == nil || g.AccessLog.Dropped != 3 || g.Cache.Hits != 5 || g.Cache.Bytes != 600 {
		t.Errorf("%+v", g)
	}
}

// A service needs a token with targets.write and nothing else; addresses stand percent-encoded in the path.
func TestTargetsOverHTTP(t *testing.T) {
	n := start(t, t.TempDir())
	ctx := t.Context()
	put, err := n.RegisterTargetWithResponse(ctx, "therapy", "http://10.0.0.7:9000", nil, api.NewTarget{Zone: "hall-3", TtlSeconds: 30})
	if err != nil {
		t.Fatal(err)
	}
	tag := put.HTTPResponse.Header.Get("ETag")
	if r := put.JSON200; tag == "" || r.Address != "http://10.0.0.7:9000" || r.Weight != 1 || r.TtlSeconds != 30 || r.Registrar != "operator local" || !r.ExpiresAt.Equal(r.RenewedAt.Add(30*time.Second)) {
		t.Errorf("%q %+v", tag, r)
	}
	got, err := n.GetTargetWithResponse(ctx, "therapy", "http://10.0.0.7:9000")
	if err != nil || got.HTTPResponse.Header.Get("ETag") != tag || *got.JSON200 != *put.JSON200 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := n.RegisterTargetWithResponse(ctx, "therapy", "http://[::1]:9000", nil, api.NewTarget{}); err != nil {
		t.Error(err)
	}
	shown, err := n.GetUpstreamWithResponse(ctx, "therapy")
	if err != nil || len(shown.JSON200.Addresses) != 2 || shown.JSON200.Addresses[0].Target == nil || shown.JSON200.Registered || len(shown.JSON200.Gateways) != 0 {
		t.Errorf("%+v, %v", shown, err)
	}
	if _, err := n.RegisterTargetWithResponse(ctx, "therapy", "http://10.0.0.7:9000", &api.RegisterTargetParams{IfMatch: `"77"`}, api.NewTarget{Weight: 3}); status(err) != 412 {
		t.Error(err)
	}
	if _, err := n.RegisterTargetWithResponse(ctx, "therapy", "10.0.0.7", nil, api.NewTarget{}); status(err) != 400 {
		t.Error(err)
	}
	if _, err := n.RegisterTargetWithResponse(ctx, "therapy", "http://10.0.0.7:9000", nil, api.NewTarget{TtlSeconds: 5}); status(err) != 400 {
		t.Error(err)
	}

	ask := func(token, method, path, body string) int {
		t.Helper()
		request, _ := http.NewRequestWithContext(ctx, method, "http://"+n.control.Address()+path, strings.NewReader(body))
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	token := func(scope api.Scope) string {
		t.Helper()
		made, err := n.AddTokenWithResponse(ctx, nil, api.NewToken{Name: string(scope), Scopes: []api.Scope{scope}})
		if err != nil {
			t.Fatal(err)
		}
		return made.JSON201.Secret
	}
	service, reader := token(api.ScopeTargetsWrite), token(api.ScopeRead)
	const path = "/api/v1/upstreams/therapy/targets/http%3A%2F%2F10.0.0.8%3A9000"
	for _, test := range []struct {
		token, method, path string
		status              int
	}{
		{service, "PUT", path, 200}, {service, "PUT", path, 200}, {service, "GET", path, 403}, {reader, "GET", path, 200}, {reader, "PUT", path, 403}, {reader, "DELETE", path, 403},
		{service, "GET", "/api/v1/upstreams", 403}, {reader, "GET", "/api/v1/upstreams", 200}, {service, "DELETE", path, 204}, {service, "DELETE", path, 404},
	} {
		if got := ask(test.token, test.method, test.path, `{}`); got != test.status {
			t.Errorf("%s %s: %d, want %d", test.method, test.path, got, test.status)
		}
	}
}
