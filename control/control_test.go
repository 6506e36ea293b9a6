package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/api/client"
	"fieldgate/control/access"
	"fieldgate/control/controltest"
	"fieldgate/engine/bus"
	"fieldgate/engine/seal"
)

// node is a control plane that runs, and a client of it.
type node struct {
	*client.ClientWithResponses
	control *Control
	bus     *bus.Bus
	token   string
	socket  string
	stop    func()
}

func start(t *testing.T, data string) *node {
	t.Helper()
	operator, token, err := access.LoadOperator(data)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{bus: controltest.Bus(t, data), token: token, socket: filepath.Join(data, "admin.sock")}
	n.control = New(Config{Store: controltest.Store(t, data), Bus: n.bus, Log: controltest.Log(t), Operator: operator, Listen: "127.0.0.1:0",
		Socket: n.socket, Version: "test", Node: "n1", Secrets: seal.Open(filepath.Join(data, "secrets.key"), true)})
	if err := n.control.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.control.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the control plane ended with %v", err)
		}
	})
	t.Cleanup(n.stop)
	if n.ClientWithResponses, err = client.Open("http://"+n.control.Address(), token); err != nil {
		t.Fatal(err)
	}
	return n
}

// socketDirectory is short enough for a socket file, which t.TempDir need not be.
func socketDirectory(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "fg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	return directory
}

func status(err error) int {
	var problem *api.Problem
	if errors.As(err, &problem) {
		return problem.Status
	}
	return 0
}

const thermo = `openapi: 3.1.0
info: {title: Thermo, version: 2.4.0}
x-fieldgate: {upstreams: {ingest: {ref: env/ingest}}}
security: [{token: []}]
paths:
  /telemetry:
    post:
      operationId: sendTelemetry
      x-fieldgate: {upstream: ingest}
      x-fieldgate-bindings: {mqtt: {topic: 'd/telemetry', action: publish, qos: 1}}
      requestBody: {required: true, content: {application/json: {schema: {type: object, maxProperties: 9}}}}
      responses: {'204': {description: stored}}
components: {securitySchemes: {token: {type: http, scheme: bearer}}}
`

func (n *node) publish(t *testing.T, document string) *client.PublishApiResponse {
	t.Helper()
	answer, err := n.PublishApiWithBodyWithResponse(t.Context(), &api.PublishApiParams{Name: "thermo.yaml"}, "application/yaml", strings.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestPublishOverHTTP(t *testing.T) {
	ctx := t.Context()
	n := start(t, socketDirectory(t))
	dry, err := n.PublishApiWithBodyWithResponse(ctx, &api.PublishApiParams{DryRun: true}, "application/yaml", strings.NewReader(thermo))
	if err != nil || dry.JSON200 == nil || dry.JSON200.Applied || dry.JSON200.Change != api.ChangeNewApi {
		t.Fatalf("%+v %v", dry, err)
	}
	if plan := n.publish(t, thermo).JSON201; plan == nil || plan.Api != "thermo" || !plan.Applied || len(plan.Operations) != 1 {
		t.Fatalf("%+v", plan)
	}
	if plan := n.publish(t, thermo).JSON200; plan == nil || plan.Change != api.ChangeNone {
		t.Fatalf("%+v", plan)
	}
	list, err := n.ListApisWithResponse(ctx, &api.ListApisParams{Filter: "state:active -owner:* thermo"})
	if err != nil || len(list.JSON200.Items) != 1 || list.JSON200.Items[0].Name != "thermo" || list.JSON200.Items[0].Operations != 1 {
		t.Fatalf("%s %v", list.Body, err)
	}
	shown, err := n.GetApiWithResponse(ctx, "thermo")
	if err != nil || len(shown.JSON200.Operations) != 1 {
		t.Fatalf("%v", err)
	}
	if o := shown.JSON200.Operations[0]; o.Http != "POST /telemetry" || o.Mqtt != "publish d/telemetry (QoS 1)" || o.Upstream != "ingest" || o.Anonymous {
		t.Fatalf("%+v", o)
	}
	document, err := n.GetDocumentWithResponse(ctx, "thermo", "2.4.0")
	if err != nil || string(document.Body) != thermo {
		t.Fatalf("%q %v", document.Body, err)
	}

	// Wrong documents are answered with all that is wrong.
	_, err = n.PublishApiWithBodyWithResponse(ctx, &api.PublishApiParams{Name: "x.yaml"}, "application/yaml", strings.NewReader("openapi: 3.1.0\ninfo: {title: X}\npaths: []\n"))
	var problem *api.Problem
	if !errors.As(err, &problem) || problem.Status != 422 || len(problem.Findings) == 0 || problem.Findings[0].File != "x.yaml" || problem.Findings[0].Line == 0 || problem.Findings[0].Remedy == "" {
		t.Fatalf("%+v", err)
	}
	_, err = n.PublishApiWithBodyWithResponse(ctx, nil, "application/yaml", strings.NewReader(strings.Replace(thermo, "Thermo", "Other", 1)))
	if !errors.As(err, &problem) || problem.Status != 409 || len(problem.Findings) != 2 {
		t.Fatalf("%+v", err)
	}
	if _, err = n.PublishApiWithBodyWithResponse(ctx, nil, "application/yaml", io.LimitReader(endless{}, fieldgate.MaxDocumentBytes+1)); status(err) != 413 {
		t.Fatalf("a document of more than 8 MiB: %v", err)
	}

	retired, err := n.RetireVersionWithResponse(ctx, "thermo", "2.4.0", nil)
	if err != nil || retired.JSON200.State != api.LifecycleRetired {
		t.Fatalf("%+v %v", retired, err)
	}
	restored, err := n.RestoreVersionWithResponse(ctx, "thermo", "2.4.0", nil)
	if err != nil || restored.JSON200.State != api.LifecycleActive {
		t.Fatalf("%+v %v", restored, err)
	}
	deprecated, err := n.DeprecateVersionWithResponse(ctx, "thermo", "2.4.0", nil, api.Deprecation{Sunset: time.Date(2027, 6, 30, 15, 0, 0, 0, time.UTC)})
	if err != nil || deprecated.JSON200.State != api.LifecycleDeprecated || !deprecated.JSON200.Sunset.Equal(time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)) {
		t.Fatalf("%s %v", deprecated.Body, err)
	}
	if _, err := n.RetireVersionWithResponse(ctx, "thermo", "9", nil); status(err) != 404 {
		t.Fatal(err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '#'
	}
	return len(p), nil
}

func TestDevicesOverTheSocketFile(t *testing.T) {
	ctx := t.Context()
	n := start(t, socketDirectory(t))
	if info, err := os.Stat(n.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	c, err := client.Open("unix:"+n.socket, n.token)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		added, err := c.AddDeviceWithResponse(ctx, nil, api.NewDevice{Id: fmt.Sprint("d", i), Model: "T2"})
		if err != nil || !fieldgate.WellFormedToken([]byte(added.JSON201.Token)) || added.JSON201.Device.Tokens != 1 {
			t.Fatalf("%+v %v", added, err)
		}
	}
	var ids []string
	params := api.ListDevicesParams{Limit: 2, Filter: "model:T2"}
	for {
		page, err := c.ListDevicesWithResponse(ctx, &params)
		if err != nil {
			t.Fatal(err)
		}
		for _, device := range page.JSON200.Items {
			ids = append(ids, device.Id)
		}
		if params.Cursor = page.JSON200.Next; params.Cursor == "" {
			break
		}
	}
	if strings.Join(ids, " ") != "d0 d1 d2 d3 d4" {
		t.Fatal(ids)
	}
	firmware := "1.9.0"
	if updated, err := c.UpdateDeviceWithResponse(ctx, "d1", nil, api.DeviceUpdate{Firmware: &firmware}); err != nil || updated.JSON200.Firmware != firmware || updated.JSON200.Model != "T2" {
		t.Fatalf("%v", err)
	}
	if kept, err := c.IssueDeviceTokenWithResponse(ctx, "d1", &api.IssueDeviceTokenParams{Keep: true}); err != nil || kept.JSON200.Device.Tokens != 2 {
		t.Fatalf("%v", err)
	}
	if out, err := c.QuarantineDeviceWithResponse(ctx, "d1", nil, api.Reason{}); err != nil || out.JSON200.State != api.PrincipalStateQuarantined {
		t.Fatalf("%v", err)
	}
	if out, err := c.ReleaseDeviceWithResponse(ctx, "d1", nil, api.Reason{}); err != nil || out.JSON200.State != api.PrincipalStateActive {
		t.Fatalf("%v", err)
	}
	if out, err := c.RevokeDeviceWithResponse(ctx, "d1", nil, api.Reason{}); err != nil || out.JSON200.State != api.PrincipalStateRevoked || out.JSON200.Tokens != 0 {
		t.Fatalf("%v", err)
	}
	for want, try := range map[int]func() error{
		400: func() error { _, err := c.AddDeviceWithResponse(ctx, nil, api.NewDevice{Id: "a/b"}); return err },
		404: func() error { _, err := c.GetDeviceWithResponse(ctx, "nobody"); return err },
		409: func() error { _, err := c.AddDeviceWithResponse(ctx, nil, api.NewDevice{Id: "d0"}); return err },
	} {
		if err := try(); status(err) != want {
			t.Errorf("want %d, got %v", want, err)
		}
	}
	audited, err := c.ListAuditWithResponse(ctx, &api.ListAuditParams{Limit: 1})
	if err != nil || audited.JSON200.Items[0].Action != "device.revoke" || audited.JSON200.Next == "" {
		t.Fatalf("%v", err)
	}
}

func TestImportDevices(t *testing.T) {
	n := start(t, socketDirectory(t))
	var lines bytes.Buffer
	for i := range 2500 {
		fmt.Fprintf(&lines, "{\"id\":\"d%d\",\"model\":\"T2\"}\n", i)
	}
	lines.WriteString("\nnot json\n{\"id\":\"d0\"}\n")
	answer, err := n.ImportDevicesWithBody(t.Context(), nil, "application/x-ndjson", &lines)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	results := bufio.NewScanner(answer.Body)
	var statuses []int
	for results.Scan() {
		var result api.ImportLine
		if err := json.Unmarshal(results.Bytes(), &result); err != nil {
			t.Fatal(err)
		}
		if result.Done || result.Id == "" && result.Problem == nil {
			continue
		}
		if result.Problem != nil {
			statuses = append(statuses, result.Problem.Status)
		} else if !fieldgate.WellFormedToken([]byte(result.Token)) {
			t.Fatalf("%+v", result)
		} else {
			statuses = append(statuses, 0)
		}
	}
	if err := results.Err(); err != nil || len(statuses) != 2502 || slices.Max(statuses[:2500]) != 0 || statuses[2500] != 400 || statuses[2501] != 409 {
		t.Fatalf("%d results, %v", len(statuses), err)
	}
}

func TestApps(t *testing.T) {
	ctx := t.Context()
	n := start(t, socketDirectory(t))
	added, err := n.AddAppWithResponse(ctx, nil, api.NewApp{Id: "dash", Name: "Dashboard", Scopes: []string{"telemetry:read"}})
	if err != nil || !strings.HasPrefix(added.JSON201.Key, fieldgate.PrefixApp) {
		t.Fatalf("%v", err)
	}
	if key, err := n.IssueAppKeyWithResponse(ctx, "dash", nil); err != nil || key.JSON200.App.Keys != 1 {
		t.Fatalf("%v", err)
	}
	if revoked, err := n.RevokeAppWithResponse(ctx, "dash", nil, api.Reason{}); err != nil || revoked.JSON200.State != api.PrincipalStateRevoked {
		t.Fatalf("%v", err)
	}
	list, err := n.ListAppsWithResponse(ctx, &api.ListAppsParams{Filter: "state:revoked"})
	if err != nil || len(list.JSON200.Items) != 1 || list.JSON200.Items[0].Scopes[0] != "telemetry:read" {
		t.Fatalf("%v", err)
	}
}

// send appends one batch of records of the gateway n1.
func (n *node) send(t *testing.T, first, last int) {
	t.Helper()
	batch := &fieldgate.RecordBatch{Node: "n1", Epoch: 1, First: uint64(first)}
	for i := first; i <= last; i++ {
		r := fieldgate.Record{Time: time.Now(), Exchange: uint64(i), Duration: time.Millisecond, Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodPost,
			Status: 204, API: "thermo", Version: "2.4.0", Operation: "sendTelemetry", Principal: fmt.Sprint("d", i), Kind: fieldgate.PrincipalDevice}
		if i%10 == 0 {
			r.Status, r.Problem, r.Findings, r.API, r.Version, r.Operation, r.Route = 404, fieldgate.ProblemNotFound, fieldgate.FindingUnmatched, "", "", "", "/admin.php"
		}
		batch.Records = append(batch.Records, r)
	}
	if err := n.bus.Append(t.Context(), fieldgate.SubjectRecords+"n1", fmt.Sprint(first), fieldgate.EncodeRecords(nil, batch)); err != nil {
		t.Fatal(err)
	}
}

func TestTraffic(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n := start(t, socketDirectory(t))
	stream, err := n.StreamTraffic(ctx, &api.StreamTrafficParams{Filter: "status:4xx"})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	n.send(t, 1, 100)
	enough := errors.New("enough")
	seen := 0
	err = client.ReadEvents(stream.Body, func(event string, data []byte) error {
		var record api.TrafficRecord
		if err := json.Unmarshal(data, &record); err != nil || event != "exchange" || record.Route != "/admin.php" || record.Status != 404 {
			t.Fatalf("%s %s %v", event, data, err)
		}
		if seen++; seen == 10 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("after %d: %v", seen, err)
	}
	recent, err := n.ListTrafficWithResponse(ctx, &api.ListTrafficParams{Filter: "principal:d7"})
	if err != nil || len(recent.JSON200.Items) != 1 || recent.JSON200.Items[0].Instance != "n1-1-7" || recent.JSON200.Items[0].Protocol != api.Mqtt {
		t.Fatalf("%s %v", recent.Body, err)
	}
	summary, err := n.GetTrafficSummaryWithResponse(ctx, &api.GetTrafficSummaryParams{Seconds: 300})
	for err == nil && len(summary.JSON200.Operations) == 0 { // counts are written in turn
		summary, err = n.GetTrafficSummaryWithResponse(ctx, &api.GetTrafficSummaryParams{Seconds: 300})
	}
	if err != nil || summary.JSON200.Exchanges != 100 || len(summary.JSON200.Operations) != 2 || summary.JSON200.Operations[0].Exchanges != 90 ||
		summary.JSON200.Protocols[0].Refused != 10 || summary.JSON200.Findings[0].Name != "unmatched" {
		t.Fatalf("%s %v", summary.Body, err)
	}
	routes, err := n.ListUndocumentedWithResponse(ctx, nil)
	if err != nil || len(routes.JSON200.Items) != 1 || routes.JSON200.Items[0].Exchanges != 10 {
		t.Fatalf("%s %v", routes.Body, err)
	}
	for _, params := range []api.ListTrafficParams{{Filter: "protocol:smtp"}, {Filter: "status:9xx"}, {Filter: "finding:fun"}, {Limit: 1001}, {Limit: -1}} {
		if _, err := n.ListTrafficWithResponse(ctx, &params); status(err) != 400 {
			t.Errorf("%+v: %v", params, err)
		}
	}
	metrics := n.get(t, "/metrics", n.token)
	if body := metrics.body; metrics.status != 200 || !strings.Contains(body, "fieldgate_exchanges_total") || !strings.Contains(body, "process_resident_memory_bytes") || strings.Contains(body, "d7") {
		t.Errorf("%d", metrics.status)
	}
}

func TestStatusWarns(t *testing.T) {
	ctx := t.Context()
	n := start(t, socketDirectory(t))
	n.publish(t, strings.Replace(strings.Replace(thermo, "env/ingest", "env/missing", 1), "security: [{token: []}]", "security: [{}]", 1))
	if _, err := n.AddDeviceWithResponse(ctx, nil, api.NewDevice{Id: "d1"}); err != nil {
		t.Fatal(err)
	}
	answer, err := n.GetStatusWithResponse(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := answer.JSON200
	if s.Apis != 1 || s.Devices != 1 || s.Apps != 0 || s.Snapshot != 1 || s.Directory != 1 || s.Node != "n1" || s.Version != "test" || len(s.Listeners) != 1 {
		t.Fatalf("%s", answer.Body)
	}
	var codes []string
	for _, warning := range s.Warnings {
		codes = append(codes, string(warning.Code))
		if warning.Remedy == "" || warning.Api != "thermo" && warning.Code != api.WarningUnclaimed {
			t.Errorf("%+v", warning)
		}
	}
	if strings.Join(codes, " ") != "unclaimed unauthenticated-operations" { // which upstreams there are no gateway has said yet
		t.Fatalf("%s", answer.Body)
	}
	missing := func() bool {
		t.Helper()
		shown, err := n.GetApiWithResponse(ctx, "thermo")
		if err != nil {
			t.Fatal(err)
		}
		return shown.JSON200.Operations[0].UpstreamMissing
	}
	unknown := func() (message string) {
		t.Helper()
		answer, err := n.GetStatusWithResponse(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, warning := range answer.JSON200.Warnings {
			if warning.Code == api.WarningUnknownUpstream && warning.Severity == api.SeverityBad {
				message += warning.Message
			}
		}
		return message
	}
	has := func(names ...string) {
		state := fieldgate.GatewayState{Node: "g1", Epoch: 1, Upstreams: []fieldgate.UpstreamState{}}
		for _, name := range names {
			state.Upstreams = append(state.Upstreams, fieldgate.UpstreamState{Name: name})
		}
		n.say(t, state)
	}
	has("ingest")
	if got := unknown(); !strings.HasSuffix(got, "upstreams that no gateway has: missing") || !missing() {
		t.Errorf("the environment lacks the upstream: %q", got)
	}
	has("ingest", "missing") // its environment file was read again
	if got := unknown(); got != "" || missing() {
		t.Errorf("the environment has the upstream: %q", got)
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (n *node) get(t *testing.T, path, token string) answer {
	return n.request(t, "GET", path, token, "")
}

func (n *node) request(t *testing.T, method, path, token, body string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.control.Address()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(content)}
}

func TestNobodyGetsInWithoutTheToken(t *testing.T) {
	n := start(t, socketDirectory(t))
	other, err := fieldgate.NewToken(fieldgate.PrefixOperator)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"", "x", other, n.token[:len(n.token)-1]} {
		for _, path := range []string{"/api/v1/status", "/api/v1/devices", "/metrics", "/", "/nowhere"} {
			got := n.get(t, path, token)
			if got.status != 401 || got.header.Get("WWW-Authenticate") == "" || got.header.Get("Content-Type") != fieldgate.ProblemMediaType || strings.Contains(got.body, n.token) {
				t.Errorf("%s with %q: %+v", path, token, got)
			}
		}
	}
	if got := n.get(t, "/healthz", ""); got.status != 204 {
		t.Errorf("%+v", got)
	}
}

// The program serves the contract of its own API.
func TestOwnContract(t *testing.T) {
	n := start(t, socketDirectory(t))
	got := n.get(t, "/api/v1/openapi.yaml", n.token)
	if got.status != 200 || got.body != string(api.Document) || got.header.Get("Content-Type") != "application/yaml" {
		t.Errorf("%d %s %.100s", got.status, got.header, got.body)
	}
	if got := n.get(t, "/api/v1/openapi.yaml", ""); got.status != 401 {
		t.Errorf("%d without a token", got.status)
	}
}

func TestRequestsAreChecked(t *testing.T) {
	n := start(t, socketDirectory(t))
	for _, test := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/nowhere", "", 404},
		{"DELETE", "/api/v1/devices", "", 405},
		{"POST", "/api/v1/devices", "{", 400},
		{"POST", "/api/v1/devices", "", 400},
		{"POST", "/api/v1/devices", `{"id":7}`, 400},
		{"POST", "/api/v1/devices", `{"id":"` + strings.Repeat("x", 70_000) + `"}`, 413},
		{"GET", "/api/v1/devices?limit=many", "", 400},
		{"GET", "/api/v1/devices?limit=1001", "", 400},
		{"GET", "/api/v1/devices?filter=state:asleep", "", 400},
		{"GET", "/api/v1/devices?cursor=!", "", 400},
		{"GET", "/api/v1/audit?cursor=eHg", "", 400},
		{"GET", "/api/v1/apis?filter=kind:wsdl", "", 400},
		{"GET", "/api/v1/devices/%2e%2e%2fapps", "", 404},
	} {
		got := n.request(t, test.method, test.path, n.token, test.body)
		var problem api.Problem
		if err := json.Unmarshal([]byte(got.body), &problem); err != nil || got.status != test.want || problem.Status != test.want || problem.Title == "" || got.header.Get("Content-Type") != fieldgate.ProblemMediaType {
			t.Errorf("%s %s: %d %s", test.method, test.path, got.status, got.body)
		}
		if test.want == 405 && got.header.Get("Allow") != "GET, POST" {
			t.Errorf("Allow: %q", got.header.Get("Allow"))
		}
	}
}

func TestAddressInUse(t *testing.T) {
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	data := socketDirectory(t)
	operator, _, err := access.LoadOperator(data)
	if err != nil {
		t.Fatal(err)
	}
	c := New(Config{Store: controltest.Store(t, data), Bus: controltest.Bus(t, data), Log: controltest.Log(t), Operator: operator, Listen: occupied.Addr().String()})
	if err := c.Start(t.Context()); err == nil || !strings.Contains(err.Error(), occupied.Addr().String()) || !strings.Contains(err.Error(), "another program") {
		t.Fatal(err)
	}
}

func TestOnlyLoopbackAddresses(t *testing.T) {
	data := socketDirectory(t)
	operator, _, err := access.LoadOperator(data)
	if err != nil {
		t.Fatal(err)
	}
	config := Config{Store: controltest.Store(t, data), Bus: controltest.Bus(t, data), Log: controltest.Log(t), Operator: operator}
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:80", "example.org:80", "127.0.0.1"} {
		config.Listen = address
		if err := New(config).Start(t.Context()); err == nil {
			t.Errorf("it listens on %s", address)
		}
	}
}

// TestFullDisk: the operator is told what to do, and nothing else breaks.
func TestFullDisk(t *testing.T) {
	n := start(t, socketDirectory(t))
	controltest.FillDisk(t, n.control.config.Store)
	large := strings.Replace(thermo, "components:", "# "+strings.Repeat("x", 1<<20)+"\ncomponents:", 1)
	_, err := n.PublishApiWithBodyWithResponse(t.Context(), nil, "application/yaml", strings.NewReader(large))
	if status(err) != http.StatusInsufficientStorage || !strings.Contains(err.Error(), "free some disk space") {
		t.Fatal(err)
	}
	if answer, err := n.GetStatusWithResponse(t.Context()); err != nil || answer.JSON200.Apis != 0 || answer.JSON200.Snapshot != 0 {
		t.Fatalf("%v", err)
	}
}

func TestSocketFileInTheWay(t *testing.T) {
	data := socketDirectory(t)
	operator, token, err := access.LoadOperator(data)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, "admin.sock")
	config := Config{Store: controltest.Store(t, data), Bus: controltest.Bus(t, data), Log: controltest.Log(t), Operator: operator, Socket: path}

	// Something else of that name is left alone.
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := New(config).Start(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "precious" {
		t.Fatalf("%q %v", content, err)
	}
	os.Remove(path)

	// So is one that somebody listens on.
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := New(config).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatal(err)
	}
	// One that a crash left over is replaced.
	listener.SetUnlinkOnClose(false)
	listener.Close()
	c := New(config)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	over, err := client.Open("unix:"+path, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := over.GetStatusWithResponse(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := over.GetStatusWithResponse(t.Context()); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("after the end: %v", err)
	}
}

// TestStreamsEndWithTheServer: a reader of live traffic does not hold up the end.
func TestStreamsEndWithTheServer(t *testing.T) {
	n := start(t, socketDirectory(t))
	stream, err := n.StreamTraffic(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	n.stop()
	if _, err := io.Copy(io.Discard, stream.Body); err != nil {
		t.Fatalf("the stream was cut: %v", err)
	}
}

// TestRestart: decisions and counts are there after a restart.
func TestRestart(t *testing.T) {
	data := socketDirectory(t)
	t.Run("before", func(t *testing.T) {
		n := start(t, data)
		n.publish(t, thermo)
		if _, err := n.AddDeviceWithResponse(t.Context(), nil, api.NewDevice{Id: "d1"}); err != nil {
			t.Fatal(err)
		}
		n.send(t, 1, 50)
	})
	n := start(t, data)
	for {
		answer, err := n.GetStatusWithResponse(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s := answer.JSON200; s.Apis != 1 || s.Devices != 1 || s.Snapshot != 1 || s.Exchanges > 50 {
			t.Fatalf("%s", answer.Body)
		} else if s.Exchanges == 50 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestParallelOperators(t *testing.T) {
	n := start(t, socketDirectory(t))
	errs := make(chan error, 200)
	var group sync.WaitGroup
	for w := range 50 {
		group.Go(func() {
			for i := range 2 {
				if _, err := n.AddDeviceWithResponse(t.Context(), nil, api.NewDevice{Id: fmt.Sprintf("d%d-%d", w, i)}); err != nil {
					errs <- err
				}
				if _, err := n.ListDevicesWithResponse(t.Context(), nil); err != nil {
					errs <- err
				}
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}
