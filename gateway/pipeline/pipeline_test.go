package pipeline

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/upstream"
)

// fixture is a pipeline with two devices, two apps and the contracts of contracts().
type fixture struct {
	*Pipeline
	records           records
	device, app, poor string // tokens
	calls             chan *http.Request
	bodies            chan string
}

type records struct {
	mu      sync.Mutex
	list    []fieldgate.Record
	folds   bool
	discard bool // for benchmarks
}

func (r *records) Add(record *fieldgate.Record) (ticket uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.discard {
		return 0
	}
	r.list = append(r.list, *record)
	return uint64(len(r.list))
}

// Fold implements Recorder.
func (r *records) Fold(ticket uint64, duration time.Duration, bytesIn, bytesOut uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.folds {
		return false
	}
	record := &r.list[ticket-1]
	record.Others = append(record.Others, uint32(duration/time.Microsecond))
	record.BytesIn += bytesIn
	record.BytesOut += bytesOut
	return true
}

func (r *records) last() fieldgate.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list[len(r.list)-1]
}

func token(t testing.TB, prefix string) string {
	t.Helper()
	token, err := fieldgate.NewToken(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{calls: make(chan *http.Request, 100), bodies: make(chan string, 100)}
	d, err := directory.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	f.device, f.app, f.poor = token(t, fieldgate.PrefixDevice), token(t, fieldgate.PrefixApp), token(t, fieldgate.PrefixApp)
	credentials := func(token string) []fieldgate.CredentialHash {
		return []fieldgate.CredentialHash{fieldgate.HashToken([]byte(token))}
	}
	if err := d.Apply([]fieldgate.DirectoryChange{
		{Sequence: 1, Kind: fieldgate.PrincipalDevice, ID: "d7", Model: "T2", Firmware: "1.8.3", Credentials: credentials(f.device)},
		{Sequence: 2, Kind: fieldgate.PrincipalApp, ID: "dash", Scopes: []string{"live"}, Credentials: credentials(f.app)},
		{Sequence: 3, Kind: fieldgate.PrincipalApp, ID: "poor", Credentials: credentials(f.poor)},
	}); err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		f.calls <- r
		f.bodies <- string(body)
		w.Header().Set("ETag", `"5f1c"`)
		w.Header().Set("Cache-Control", "private, max-age=60")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(201)
		w.Write([]byte(`{"stored":true}`))
	}))
	t.Cleanup(service.Close)
	upstreams, err := upstream.NewSet([]fieldgate.Upstream{{Name: "ingest", Addresses: []string{service.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	f.Pipeline = New(Config{Node: "n1", Directory: d, Upstreams: upstreams, Broker: broker.New(), Recorder: &f.records})
	program, err := Link(&fieldgate.Snapshot{Version: 1, Contracts: contracts()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Install(program)
	return f
}

const telemetrySchemas = `{"$defs":{
	"T":{"type":"object","additionalProperties":false,"required":["seq","temp"],"properties":{"seq":{"type":"integer","minimum":0},"temp":{"type":"number","maximum":125}}},
	"Id":{"type":"string","pattern":"^[a-z][0-9]+$"},
	"N":{"type":"integer","maximum":100}}}`

func contracts() []*fieldgate.Contract {
	devices := fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}}
	apps := fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalApp}, Scopes: []string{"live"}}
	deviceID := fieldgate.Parameter{Name: "deviceId", In: fieldgate.InPath, Required: true, Bound: true, Schema: "#/$defs/Id"}
	body := &fieldgate.Payload{Required: true, Media: []fieldgate.MediaType{{Type: "application/json", Schema: "#/$defs/T"}}}
	operation := func(o fieldgate.Operation) fieldgate.Operation {
		o.MaxBody, o.Timeout = 1024, 30*time.Second
		if o.OnInvalid == "" {
			o.OnInvalid = fieldgate.InvalidReject
		}
		return o
	}
	thermo := &fieldgate.Contract{API: "thermo", Version: "2.4.0", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive,
		Schemas: json.RawMessage(telemetrySchemas),
		Operations: []fieldgate.Operation{
			operation(fieldgate.Operation{ID: "send", Access: devices, Parameters: []fieldgate.Parameter{deviceID}, Request: body, Upstream: "ingest",
				HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodPost, Path: "/devices/{deviceId}/telemetry"},
				CoAP: &fieldgate.CoAPBinding{Method: fieldgate.MethodPost, Path: "/t"},
				MQTT: &fieldgate.MQTTBinding{Topic: "d/{deviceId}/telemetry", Action: fieldgate.ActionPublish, QoS: 1}}),
			operation(fieldgate.Operation{ID: "watch", Access: apps, Parameters: []fieldgate.Parameter{{Name: "deviceId", In: fieldgate.InPath, Required: true, Schema: "#/$defs/Id"}},
				HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/devices/{deviceId}/telemetry"},
				MQTT: &fieldgate.MQTTBinding{Topic: "d/{deviceId}/telemetry", Action: fieldgate.ActionSubscribe, QoS: 1}}),
			operation(fieldgate.Operation{ID: "limited", Access: fieldgate.Access{Anonymous: true}, HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/limited"},
				Limits:     []fieldgate.Limit{{Count: 3, Period: time.Minute, Burst: 3, Key: fieldgate.LimitSource}},
				Parameters: []fieldgate.Parameter{{Name: "n", In: fieldgate.InQuery, Schema: "#/$defs/N"}},
				Responses:  []fieldgate.Response{{Status: "404"}, {Status: "200", Media: []fieldgate.MediaType{{Type: "application/json", Example: json.RawMessage(`{"mock":1}`)}}}}}),
			operation(fieldgate.Operation{ID: "shadow", Access: fieldgate.Access{Anonymous: true}, OnInvalid: fieldgate.InvalidShadow, Request: body,
				HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodPut, Path: "/shadow"}}),
			operation(fieldgate.Operation{ID: "key", Access: fieldgate.Access{Kinds: apps.Kinds, Headers: []string{"x-key"}},
				HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/key"}}),
		}}
	old := &fieldgate.Contract{API: "old", Version: "1.0.0", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleRetired, Successor: "2.0.0",
		Operations: []fieldgate.Operation{operation(fieldgate.Operation{ID: "gone", HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/old"}})}}
	tracker := &fieldgate.Contract{API: "tracker", Version: "1.0.0", Kind: fieldgate.KindAsyncAPI, State: fieldgate.LifecycleDeprecated, Schemas: json.RawMessage(telemetrySchemas),
		Operations: []fieldgate.Operation{
			operation(fieldgate.Operation{ID: "status", Access: devices, Parameters: []fieldgate.Parameter{deviceID}, Request: body,
				HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodPost, Path: "/trackers/{deviceId}/status"},
				MQTT: &fieldgate.MQTTBinding{Topic: "tracker/{deviceId}/status", Action: fieldgate.ActionPublish, QoS: 0, Retain: true}}),
			operation(fieldgate.Operation{ID: "commands", Access: devices, Parameters: []fieldgate.Parameter{deviceID},
				HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/trackers/{deviceId}/status"},
				MQTT: &fieldgate.MQTTBinding{Topic: "tracker/{deviceId}/status", Action: fieldgate.ActionSubscribe, QoS: 1}}),
		}}
	legacy := &fieldgate.Contract{API: "legacy", Version: "1", Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{
			{ID: "http-1", PassThrough: true, Access: fieldgate.Access{Anonymous: true}, Upstream: "ingest", HTTP: &fieldgate.HTTPBinding{Path: "/legacy"}},
			{ID: "mqtt-1", PassThrough: true, Access: fieldgate.Access{Anonymous: true}, MQTT: &fieldgate.MQTTBinding{Topic: "legacy/#", Action: fieldgate.ActionBoth, QoS: 1, Retain: true}},
		}}
	return []*fieldgate.Contract{thermo, old, tracker, legacy}
}

type fields map[string]string

func (f fields) Field(name string) ([]byte, bool) {
	value, found := f[name]
	return []byte(value), found
}

// do takes an exchange through the pipeline as a front does.
func (f *fixture) do(x *Exchange) *fieldgate.Problem {
	defer f.Finish(x)
	if problem := f.Begin(x); problem != nil {
		return problem
	}
	if problem := f.Check(x); problem != nil {
		return problem
	}
	return f.Forward(context.Background(), x)
}

func (f *fixture) http(method fieldgate.Method, path, secret, body string) *Exchange {
	path, query, _ := strings.Cut(path, "?")
	x := &Exchange{Protocol: fieldgate.ProtocolHTTP, Method: method, Path: []byte(path), Query: []byte(query), Secret: []byte(secret), Body: []byte(body), Source: netip.MustParseAddrPort("127.0.0.1:9")}
	if body != "" {
		x.ContentType = []byte("application/json; charset=utf-8")
	}
	return x
}

func TestVerdicts(t *testing.T) {
	f := newFixture(t)
	const good, hot = `{"seq":7,"temp":21.5}`, `{"seq":7,"temp":900}`
	get, post, put := fieldgate.MethodGet, fieldgate.MethodPost, fieldgate.MethodPut
	foreign := f.http(get, "/legacy/x", "somebody-elses", "")
	foreign.Username = []byte("bob")
	withField := f.http(get, "/key", "", "")
	withField.Fields = fields{"x-key": f.app}
	wrongType := f.http(post, "/devices/d7/telemetry", f.device, good)
	wrongType.ContentType = []byte("text/plain")
	for _, c := range []struct {
		name     string
		x        *Exchange
		status   int
		problem  fieldgate.ProblemCode
		findings fieldgate.Findings
	}{
		{"good", f.http(post, "/devices/d7/telemetry", f.device, good), 201, "", 0},
		{"breaks the schema", f.http(post, "/devices/d7/telemetry", f.device, hot), 422, "invalid-payload", fieldgate.FindingInvalidRequest},
		{"no body", f.http(post, "/devices/d7/telemetry", f.device, ""), 422, "invalid-payload", fieldgate.FindingInvalidRequest},
		{"too large", f.http(post, "/devices/d7/telemetry", f.device, strings.Repeat(" ", 1025)), 413, "too-large", fieldgate.FindingInvalidRequest},
		{"wrong media type", wrongType, 415, "unsupported-media-type", fieldgate.FindingInvalidRequest},
		{"another device's path", f.http(post, "/devices/d8/telemetry", f.device, good), 403, "not-owner", fieldgate.FindingNotOwner},
		{"no credential", f.http(post, "/devices/d7/telemetry", "", good), 401, "unauthenticated", fieldgate.FindingUnauthenticated},
		{"wrong credential", f.http(post, "/devices/d7/telemetry", token(t, fieldgate.PrefixDevice), good), 401, "unauthenticated", fieldgate.FindingUnauthenticated},
		{"an app where devices belong", f.http(post, "/devices/d7/telemetry", f.app, good), 403, "forbidden", fieldgate.FindingForbidden},
		{"an app without the scope", f.http(get, "/devices/d7/telemetry", f.poor, ""), 403, "forbidden", fieldgate.FindingForbidden},
		{"unknown path", f.http(get, "/nowhere", "", ""), 404, "not-found", fieldgate.FindingUnmatched},
		{"empty segment", f.http(post, "/devices//telemetry", f.device, good), 404, "not-found", fieldgate.FindingUnmatched},
		{"unknown method", f.http(put, "/devices/d7/telemetry", f.device, good), 405, "method-not-allowed", fieldgate.FindingUnmatched},
		{"retired", f.http(get, "/old", "", ""), 410, "gone", fieldgate.FindingRetired},
		{"deprecated, to the topic", f.http(post, "/trackers/d7/status", f.device, good), 204, "", fieldgate.FindingDeprecated},
		{"invalid, but only watched", f.http(put, "/shadow", "", hot), 204, "", fieldgate.FindingShadowed | fieldgate.FindingInvalidRequest},
		{"body that nobody declared", f.http(get, "/limited", "", "{}"), 422, "invalid-payload", fieldgate.FindingInvalidRequest},
		{"query parameter out of bounds", f.http(get, "/limited?n=101", "", ""), 400, "invalid-parameter", fieldgate.FindingInvalidRequest},
		{"malformed percent-encoding", f.http(get, "/devices/d%7/telemetry", f.app, ""), 400, "bad-request", fieldgate.FindingMalformed},
		{"key in the contract's own field", withField, 204, "", 0},
		{"pass-through with a foreign credential", foreign, 201, "", fieldgate.FindingUndocumented},
		{"pass-through beside the prefix", f.http(get, "/legacyx", "", ""), 404, "not-found", fieldgate.FindingUnmatched},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.do(c.x)
			r := f.records.last()
			if r.Status != c.status || r.Problem != c.problem || r.Findings != c.findings || c.x.Status() != c.status {
				t.Fatalf("got %d %q %v, problem %v", r.Status, r.Problem, r.Findings.Names(), c.x.Problem)
			}
		})
	}
	if r := f.records.list[1]; r.Detail != "/temp /properties/temp/maximum" || r.API != "thermo" || r.Operation != "send" || r.Principal != "d7" || r.Model != "T2" || r.Route != "" {
		t.Errorf("record %+v", r)
	}
}

// Who asks for what is not there, or no longer, is in the Record.
func TestRefusedCallersAreRecognised(t *testing.T) {
	f := newFixture(t)
	caller, problem := f.Identify(nil, []byte(f.device))
	if problem != nil {
		t.Fatal(problem)
	}
	for _, x := range []*Exchange{
		f.http(fieldgate.MethodGet, "/nowhere", f.device, ""),
		f.http(fieldgate.MethodGet, "/old", f.device, ""),
		{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodPublish, Path: []byte("nowhere"), Caller: caller},
	} {
		f.do(x)
		if r := f.records.last(); r.Principal != "d7" || r.Firmware != "1.8.3" || r.Problem == "" {
			t.Errorf("%s: %+v", x.Path, r)
		}
	}
}

// What the upstream sees does not depend on the protocol: method, path, JSON body, who called.
func TestOneOperationThreeProtocols(t *testing.T) {
	f := newFixture(t)
	const body = `{"seq":7,"temp":21.5}`
	cbor := []byte("\xa2cseq\x07dtemp\xf9\x4d\x60")
	caller, problem := f.Identify([]byte("d7"), []byte(f.device))
	if problem != nil {
		t.Fatal(problem)
	}
	for name, x := range map[string]*Exchange{
		"http": f.http(fieldgate.MethodPost, "/devices/d7/telemetry", f.device, body),
		"coap": {Protocol: fieldgate.ProtocolCoAP, Method: fieldgate.MethodPost, Path: []byte("/t"), Secret: []byte(f.device), ContentType: []byte("application/cbor"), Body: cbor},
		"mqtt": {Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodPublish, Path: []byte("d/d7/telemetry"), Caller: caller, QoS: 1, Body: []byte(body)},
	} {
		heard := make(chan *broker.Message, 1)
		stop := f.Broker.Subscribe("d/+/telemetry", 1, &ear{heard})
		if problem := f.do(x); problem != nil {
			t.Fatalf("%s: %v", name, problem)
		}
		call, got := <-f.calls, <-f.bodies
		if call.Method != "POST" || call.URL.Path != "/devices/d7/telemetry" || got != body {
			t.Errorf("%s: the upstream saw %s %s %s", name, call.Method, call.URL, got)
		}
		for field, want := range map[string]string{FieldPrincipal: "d7", FieldPrincipalKind: "device", FieldProtocol: name, FieldOperation: "thermo 2.4.0 send", "Content-Type": "application/json"} {
			if value := call.Header.Get(field); !strings.HasPrefix(value, want) {
				t.Errorf("%s: %s is %q, want %q", name, field, value, want)
			}
		}
		if m := <-heard; m.Topic != "d/d7/telemetry" || m.QoS != 1 || !slices.Equal(m.Payload, x.Body) {
			t.Errorf("%s: subscribers heard %+v", name, m)
		}
		if x.Answer.Status != 201 || x.Answer.ETag != "5f1c" || x.Answer.MaxAge != time.Minute {
			t.Errorf("%s: answer %+v", name, x.Answer)
		}
		if r := f.records.last(); r.Protocol != x.Protocol || r.Status != 201 || r.Upstream <= 0 || r.Principal != "d7" {
			t.Errorf("%s: record %+v", name, r)
		}
		stop()
	}
}

type ear struct{ heard chan *broker.Message }

func (e *ear) Deliver(m *broker.Message, _ byte) { e.heard <- m }

func TestRateLimit(t *testing.T) {
	f := newFixture(t)
	for n := range 5 {
		x := f.http(fieldgate.MethodGet, "/limited", "", "")
		problem := f.do(x)
		switch {
		case n < 3 && (problem != nil || x.Limit.Remaining != 2-n || string(x.Answer.Body) != `{"mock":1}`):
			t.Fatalf("call %d: %v, %+v", n, problem, x.Limit)
		case n >= 3 && (problem == nil || problem.Code != fieldgate.ProblemRateLimited || problem.RetryAfter <= 0 || problem.RetryAfter > 20*time.Second):
			t.Fatalf("call %d: %+v", n, problem)
		}
	}
	other := f.http(fieldgate.MethodGet, "/limited", "", "")
	other.Source = netip.MustParseAddrPort("127.0.0.2:9")
	if problem := f.do(other); problem != nil {
		t.Fatalf("another source shares the limit: %v", problem)
	}
	for i, source := range []string{"[2001:db8:0:1::1]:9", "[2001:db8:0:1:ffff::2]:9", "[2001:db8:0:1::3]:9", "[2001:db8:0:1::4]:9"} { // one /64
		x := f.http(fieldgate.MethodGet, "/limited", "", "")
		x.Source = netip.MustParseAddrPort(source)
		if problem := f.do(x); (problem != nil) != (i == 3) {
			t.Fatalf("%s: %v", source, problem)
		}
	}
	// The limit's state outlives a new snapshot.
	program, err := Link(&fieldgate.Snapshot{Version: 2, Contracts: contracts()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Install(program)
	if problem := f.do(f.http(fieldgate.MethodGet, "/limited", "", "")); problem == nil {
		t.Fatal("a publish resets the limits")
	}
}

// GCRA against a plain simulation of it: over any time, no more than burst + elapsed/interval pass.
func TestLimiterNeverExceeds(t *testing.T) {
	l := newLimiter()
	limit := linkLimit(fieldgate.Limit{Count: 10, Period: time.Second, Burst: 4, Key: fieldgate.LimitPrincipal}, 1)
	now, passed := time.Duration(0), 0
	for range 10_000 {
		now += 7 * time.Millisecond
		if _, wait := l.take(&limit, 99, limit.interval, now); wait == 0 {
			passed++
		} else if _, again := l.take(&limit, 99, limit.interval, now+wait); again != 0 {
			t.Fatalf("after the time that it names (%v) there is still no room", wait)
		} else {
			now += wait
			passed++
		}
		if most := 4 + int(now/(100*time.Millisecond)); passed > most {
			t.Fatalf("%d passed in %v, at most %d may", passed, now, most)
		}
	}
}

func TestSubscribe(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		secret, filter string
		problem        fieldgate.ProblemCode
	}{
		{f.app, "d/d7/telemetry", ""},
		{f.app, "d/+/telemetry", ""},
		{f.app, "d/#", "forbidden"},
		{f.app, "#", "forbidden"},
		{f.app, "+/d7/telemetry", "forbidden"},
		{f.app, "d/NO/telemetry", "invalid-parameter"},
		{f.poor, "d/+/telemetry", "forbidden"},
		{f.device, "d/d7/telemetry", "forbidden"},
		{f.device, "tracker/d7/status", ""},
		{f.device, "tracker/d8/status", "not-owner"},
		{f.device, "tracker/+/status", "not-owner"},
		{f.device, "legacy/a/+", ""},
		{f.device, "legacy/#", ""},
		{f.device, "+/#", "forbidden"},
		{f.device, "$SYS/#", "forbidden"},
		{f.device, "fg/d7/reply", ""},
		{f.device, "fg/d7/#", ""},
		{f.device, "fg/d77/reply", "forbidden"},
		{f.device, "fg/+/reply", "forbidden"},
		{"", "legacy/x", ""},
		{"", "fg//reply", "forbidden"},
		{"", "d/d7/telemetry", "unauthenticated"},
	} {
		caller, problem := f.Identify(nil, []byte(c.secret))
		if problem != nil {
			t.Fatal(problem)
		}
		x := &Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodSubscribe, Path: []byte(c.filter), Caller: caller}
		_, problem = f.Subscribe(x)
		f.Finish(x)
		if got := f.records.last().Problem; got != c.problem {
			t.Errorf("%s %s: %q, want %q (%v)", caller.ID, c.filter, got, c.problem, problem)
		}
	}
}

func TestMQTTPublishRules(t *testing.T) {
	f := newFixture(t)
	caller, _ := f.Identify(nil, []byte(f.device))
	const body = `{"seq":7,"temp":21.5}`
	for _, c := range []struct {
		topic, body string
		qos         byte
		retain      bool
		problem     fieldgate.ProblemCode
	}{
		{"tracker/d7/status", body, 0, true, ""},
		{"tracker/d7/status", "", 0, true, ""}, // removes the retained message
		{"tracker/d7/status", "", 0, false, "invalid-payload"},
		{"tracker/d7/status", body, 1, false, "qos-not-allowed"},
		{"d/d7/telemetry", body, 1, true, "retain-not-allowed"},
		{"tracker/d8/status", body, 0, false, "not-owner"},
		{"tracker/d7/status", "\xa2cseq\x07dtemp\xf9\x4d\x60", 0, false, ""},
		{"tracker/d7/status", "\xa2cseq\x07dtemp\xf9\x64\x00", 0, false, "invalid-payload"}, // 1024 degrees
		{"tracker/d7/status/x", body, 0, false, "not-found"},
		{"$SYS/x", body, 0, false, "not-found"},
		{"legacy/anything", "\x00\x01", 1, true, ""},
	} {
		x := &Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodPublish, Path: []byte(c.topic), Caller: caller, QoS: c.qos, Retain: c.retain, Body: []byte(c.body)}
		f.do(x)
		if r := f.records.last(); r.Problem != c.problem {
			t.Errorf("%s %q: %q, want %q (%v)", c.topic, c.body, r.Problem, c.problem, x.Problem)
		}
	}
}

// A revocation or quarantine counts for callers that are connected.
func TestCallerLosesItsStanding(t *testing.T) {
	f := newFixture(t)
	caller, _ := f.Identify(nil, []byte(f.device))
	publish := func() fieldgate.ProblemCode {
		x := &Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodPublish, Path: []byte("tracker/d7/status"), Caller: caller, Body: []byte(`{"seq":7,"temp":21.5}`)}
		f.do(x)
		return f.records.last().Problem
	}
	hash := fieldgate.HashToken([]byte(f.device))
	for i, c := range []struct {
		state       fieldgate.PrincipalState
		credentials []fieldgate.CredentialHash
		want        fieldgate.ProblemCode
	}{
		{fieldgate.StateActive, []fieldgate.CredentialHash{hash}, ""},
		{fieldgate.StateQuarantined, []fieldgate.CredentialHash{hash}, "quarantined"},
		{fieldgate.StateActive, []fieldgate.CredentialHash{hash}, ""},
		{fieldgate.StateActive, nil, "unauthenticated"}, // the token was replaced
		{fieldgate.StateRevoked, nil, "unauthenticated"},
	} {
		if err := f.Directory.Apply([]fieldgate.DirectoryChange{{Sequence: uint64(10 + i), Kind: fieldgate.PrincipalDevice, ID: "d7", State: c.state, Credentials: c.credentials}}); err != nil {
			t.Fatal(err)
		}
		if got := publish(); got != c.want {
			t.Errorf("%v with %d credentials: %q, want %q", c.state, len(c.credentials), got, c.want)
		}
	}
	if _, problem := f.Identify(nil, []byte(f.device)); problem == nil {
		t.Error("a revoked token connects")
	}
	if _, problem := f.Identify([]byte("somebody"), []byte(f.app)); problem == nil {
		t.Error("a token connects under another's name")
	}
}

// Two contracts on one route are no program; a retired one gives way.
func TestLinkConflicts(t *testing.T) {
	contract := func(api string, state fieldgate.Lifecycle) *fieldgate.Contract {
		return &fieldgate.Contract{API: api, Version: "1", Kind: fieldgate.KindOpenAPI, State: state, Operations: []fieldgate.Operation{{ID: "o",
			HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/a/{x}"}, Access: fieldgate.Access{Anonymous: true}}}}
	}
	if _, err := Link(&fieldgate.Snapshot{Contracts: []*fieldgate.Contract{contract("a", "active"), contract("b", "active")}}, nil); err == nil || !strings.Contains(err.Error(), "a 1, operation o") {
		t.Fatalf("got %v", err)
	}
	for _, order := range [][]*fieldgate.Contract{{contract("a", "retired"), contract("b", "active")}, {contract("b", "active"), contract("a", "retired")}} {
		f := newFixture(t)
		program, err := Link(&fieldgate.Snapshot{Contracts: order}, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.Install(program)
		if problem := f.do(f.http(fieldgate.MethodGet, "/a/1", "", "")); problem != nil {
			t.Fatal(problem)
		}
	}
}

func BenchmarkPipeline(b *testing.B) {
	f := newFixture(b)
	f.recorder = discard{}
	b.Run("key, limit and schema", func(b *testing.B) {
		b.ReportAllocs()
		x := new(Exchange)
		body, path, secret, contentType := []byte(`{"seq":7,"temp":21.5}`), []byte("/devices/d7/telemetry"), []byte(f.device), []byte("application/json")
		for b.Loop() {
			x.Reset()
			x.Protocol, x.Method, x.Path, x.Secret, x.ContentType = fieldgate.ProtocolHTTP, fieldgate.MethodPost, path, secret, contentType
			if problem := f.Begin(x); problem != nil {
				b.Fatal(problem)
			}
			x.Body = body
			if problem := f.Check(x); problem != nil {
				b.Fatal(problem)
			}
			x.Answer.Status = 204
			f.Finish(x)
		}
	})
}

type discard struct{}

func (discard) Add(*fieldgate.Record) uint64                    { return 0 }
func (discard) Fold(uint64, time.Duration, uint64, uint64) bool { return false }
