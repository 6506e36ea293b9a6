package coapfront

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/mqttstore/storetest"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/coap"
	"fieldgate/test/port"
)

// records collects what the pipeline records.
type records struct {
	mu      sync.Mutex
	list    []fieldgate.Record
	discard bool // for benchmarks
}

func (r *records) Add(record *fieldgate.Record) (ticket uint64) {
	r.mu.Lock()
	if !r.discard {
		r.list = append(r.list, *record)
	}
	r.mu.Unlock()
	return 0
}

// Fold implements pipeline.Recorder: each exchange has a Record of its own.
func (*records) Fold(uint64, time.Duration, uint64, uint64) bool { return false }

// take returns the records since the last take, once there are n; further ones would show the next time.
func (r *records) take(t *testing.T, n int) []fieldgate.Record {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		r.mu.Lock()
		list := r.list
		if len(list) >= n {
			r.list = nil
			r.mu.Unlock()
			if len(list) != n {
				t.Fatalf("%d records, want %d: %+v", len(list), n, list)
			}
			return list
		}
		r.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatalf("%d records, want %d", len(list), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// seen is what the upstream was asked.
type seen struct{ method, target, contentType, body, principal string }

// gateway is a front with a real pipeline, directory, broker and HTTP upstream.
type gateway struct {
	testing.TB
	front     *Front
	pipeline  *pipeline.Pipeline
	records   *records
	asked     chan seen
	hang      chan struct{}
	address   netip.AddrPort
	token     string // of device d7
	appKey    string
	sequence  uint64
	client    *coap.UDP
	anonymous *coap.UDP
}

const schemas = `{"$defs": {
	"Reading": {"type": "object", "required": ["t"], "additionalProperties": false,
		"properties": {"t": {"type": "number", "maximum": 85}, "u": {"type": "string", "maxLength": 8}}},
	"Blob": {"type": "object", "properties": {"blob": {"type": "string"}}}
}}`

// testContracts are an OpenAPI contract, an AsyncAPI contract and a pass-through API as their compiler makes them.
func testContracts() []*fieldgate.Contract {
	reading := &fieldgate.Payload{Required: true, Media: []fieldgate.MediaType{{Type: "application/json", Schema: "#/$defs/Reading"}}}
	device := fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice, fieldgate.PrincipalApp}}
	id := fieldgate.Parameter{Name: "id", In: fieldgate.InPath, Required: true, Bound: true}
	operation := func(name string, method fieldgate.Method, path string) fieldgate.Operation {
		return fieldgate.Operation{ID: name, Summary: "Summary of " + name, Access: device, MaxBody: 4096, OnInvalid: fieldgate.InvalidReject,
			Timeout: 30 * time.Second, Upstream: "service", Parameters: []fieldgate.Parameter{id},
			HTTP: &fieldgate.HTTPBinding{Method: method, Path: "/v1/devices/{id}" + path},
			CoAP: &fieldgate.CoAPBinding{Method: method, Path: path}}
	}
	add := operation("addReading", fieldgate.MethodPost, "/readings")
	add.Request = reading
	read := operation("getReading", fieldgate.MethodGet, "/readings")
	read.Responses = []fieldgate.Response{{Status: "200", Media: []fieldgate.MediaType{{Type: "application/json"}}}}
	large := operation("putBlob", fieldgate.MethodPut, "/blob")
	large.Request = &fieldgate.Payload{Media: []fieldgate.MediaType{{Type: "application/json", Schema: "#/$defs/Blob"}}}
	large.MaxBody = 200_000
	getLarge := operation("getBlob", fieldgate.MethodGet, "/blob")
	remove := operation("remove", fieldgate.MethodDelete, "/readings")
	limited := operation("limited", fieldgate.MethodGet, "/limited")
	limited.Limits = []fieldgate.Limit{{Count: 1, Period: 30 * time.Second, Burst: 1, Key: fieldgate.LimitPrincipal}}
	hang := operation("hang", fieldgate.MethodGet, "/hang")
	hang.Timeout = 200 * time.Millisecond
	dead := operation("dead", fieldgate.MethodGet, "/dead")
	dead.Upstream = "dead"
	mock := operation("mock", fieldgate.MethodGet, "/mock")
	mock.Upstream, mock.Access.Anonymous, mock.Parameters = "", true, nil
	mock.Responses = []fieldgate.Response{{Status: "200", Media: []fieldgate.MediaType{{Type: "application/json", Example: json.RawMessage(`{"t":21.5}`)}}}}
	state := operation("state", fieldgate.MethodGet, "/state")
	state.Upstream, state.Responses = "", mock.Responses
	state.Limits = []fieldgate.Limit{{Count: 1_000_000, Period: time.Second, Burst: 1_000_000, Key: fieldgate.LimitPrincipal}}
	kept := operation("kept", fieldgate.MethodGet, "/kept")
	kept.Limits, kept.Policies = state.Limits, &fieldgate.Policies{Cache: &fieldgate.Cache{TTL: time.Hour}}
	other := operation("other", fieldgate.MethodGet, "/devices/{id}/other")
	meters := &fieldgate.Contract{API: "meters", Version: "1", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive,
		Schemas: json.RawMessage(schemas), Operations: []fieldgate.Operation{add, read, large, getLarge, remove, limited, hang, dead, mock, state, kept, other}}

	watch := operation("hear", fieldgate.MethodGet, "/temperature")
	watch.Upstream, watch.HTTP = "", nil
	watch.CoAP.Observe = true
	watch.MQTT = &fieldgate.MQTTBinding{Topic: "t/{id}", Action: fieldgate.ActionSubscribe}
	watch.Message = &fieldgate.Payload{Media: reading.Media}
	publish := operation("say", fieldgate.MethodPost, "/temperature")
	publish.Upstream, publish.HTTP, publish.Request = "", nil, reading
	publish.MQTT = &fieldgate.MQTTBinding{Topic: "t/{id}", Action: fieldgate.ActionPublish, Retain: true}
	events := &fieldgate.Contract{API: "events", Version: "1", Kind: fieldgate.KindAsyncAPI, State: fieldgate.LifecycleActive,
		Schemas: json.RawMessage(schemas), Operations: []fieldgate.Operation{watch, publish}}

	old := operation("old", fieldgate.MethodGet, "/old")
	retired := &fieldgate.Contract{API: "old", Version: "1", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleRetired, Operations: []fieldgate.Operation{old}}

	through := fieldgate.Operation{ID: "legacy", PassThrough: true, Access: fieldgate.Access{Anonymous: true}, MaxBody: 4096, Upstream: "service",
		Timeout: 30 * time.Second, CoAP: &fieldgate.CoAPBinding{Method: fieldgate.MethodOther, Path: "/legacy"}}
	legacy := &fieldgate.Contract{API: "legacy", Version: "1", Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive, Operations: []fieldgate.Operation{through}}
	return []*fieldgate.Contract{meters, events, retired, legacy}
}

// newGateway starts a gateway that listens to UDP, and to what change adds.
func newGateway(t testing.TB, change ...func(*Config)) *gateway {
	g := &gateway{TB: t, records: &records{}, asked: make(chan seen, 100), hang: make(chan struct{})}
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	service := httptest.NewServer(http.HandlerFunc(g.upstream))
	t.Cleanup(service.Close)
	t.Cleanup(func() { close(g.hang) })
	upstreams, err := upstream.NewSet([]fieldgate.Upstream{{Name: "service", Addresses: []string{service.URL}, ConnectTimeout: time.Minute}, {Name: "dead", Addresses: []string{"http://" + port.Free(t)}}})
	if err != nil {
		t.Fatal(err)
	}
	devices, err := directory.Open(t.TempDir(), logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { devices.Close() })
	g.pipeline = pipeline.New(pipeline.Config{Node: "n1", Directory: devices, Upstreams: upstreams, Broker: broker.New(), Recorder: g.records})
	storetest.Attach(t, g.pipeline.Broker)
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: testContracts()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(program)
	config := Config{UDP: "127.0.0.1:0", Pipeline: g.pipeline, Logger: logger}
	for _, add := range change {
		add(&config)
	}
	if g.front, err = Listen(config); err != nil {
		t.Fatal(err)
	}
	g.address = g.front.Addresses()["coap"]
	g.token, g.appKey = newToken(t, fieldgate.PrefixDevice), newToken(t, fieldgate.PrefixApp)
	g.change(fieldgate.PrincipalDevice, "d7", fieldgate.StateActive, g.token)
	g.change(fieldgate.PrincipalApp, "app", fieldgate.StateActive, g.appKey)
	run(t, g.front.Run)
	g.client, g.anonymous = newClient(t), newClient(t)
	return g
}

func newToken(t testing.TB, prefix string) string {
	token, err := fieldgate.NewToken(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (g *gateway) change(kind fieldgate.PrincipalKind, id string, state fieldgate.PrincipalState, tokens ...string) {
	g.Helper()
	g.sequence++
	change := fieldgate.DirectoryChange{Sequence: g.sequence, Kind: kind, ID: id, State: state}
	for _, token := range tokens {
		change.Credentials = append(change.Credentials, fieldgate.HashToken([]byte(token)))
	}
	if err := g.pipeline.Directory.Apply([]fieldgate.DirectoryChange{change}); err != nil {
		g.Fatal(err)
	}
}

// run runs something until the test ends.
func run(t testing.TB, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func newClient(t testing.TB) *coap.UDP {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	u, err := coap.NewUDP(conn, coap.Config{NStart: 64}, 0, nil, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	run(t, u.Run)
	return u
}

// upstream is the service behind the gateway.
func (g *gateway) upstream(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	g.asked <- seen{r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), string(body), r.Header.Get(pipeline.FieldPrincipal)}
	switch {
	case strings.HasSuffix(r.URL.Path, "/hang"):
		select {
		case <-g.hang:
		case <-r.Context().Done():
		}
	case r.Method == http.MethodPost:
		w.Header().Set("Location", "/v1/devices/d7/readings/918?x=1")
		w.Header().Set("ETag", `"5f1c"`)
		w.WriteHeader(http.StatusCreated)
	case strings.HasSuffix(r.URL.Path, "/blob") && r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"blob":%q}`, strings.Repeat("x", 50_000))
	case r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("ETag", `"5f1c"`)
		w.Header().Set("Cache-Control", "max-age=30")
		io.WriteString(w, `{"t":21.5,"u":"C"}`)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// call makes a request with options given as functions.
func call(code coap.Code, path string, body []byte, add ...func(*coap.Options)) *coap.Call {
	c := &coap.Call{Code: code, Body: body}
	for segment := range strings.SplitSeq(path[1:], "/") {
		c.Options.AddString(coap.URIPath, segment)
	}
	for _, f := range add {
		f(&c.Options)
	}
	return c
}

func token(value string) func(*coap.Options) {
	return func(o *coap.Options) { o.AddString(OptionCredential, value) }
}

func number(option coap.OptionNumber, value uint32) func(*coap.Options) {
	return func(o *coap.Options) { o.AddUint(option, value) }
}

func text(option coap.OptionNumber, value string) func(*coap.Options) {
	return func(o *coap.Options) { o.AddString(option, value) }
}

func (g *gateway) do(c *coap.Call) *coap.Reply {
	g.Helper()
	r, err := g.client.Do(g.Context(), g.address, c)
	if err != nil {
		g.Fatal(err)
	}
	return r
}

// cbor is the CBOR form of a JSON text.
func cbor(t testing.TB, json string) []byte {
	b, err := schema.CBORFromJSON(nil, []byte(json), nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// problemOf reads problem details back.
func problemOf(t *testing.T, r *coap.Reply) map[string]any {
	t.Helper()
	if format, _ := r.Uint(coap.ContentFormat); format != coap.ConciseProblemCBOR {
		t.Fatalf("RFC 9290 section 6.3: content format %d", format)
	}
	text, err := schema.JSONFromCBOR(nil, r.Body, nil)
	if err != nil {
		t.Fatalf("the problem is no CBOR: %v: %x", err, r.Body)
	}
	var problem map[string]any
	if err := json.Unmarshal(text, &problem); err != nil {
		t.Fatal(err)
	}
	if problem["-4"] != float64(r.Code) {
		t.Errorf("RFC 9290 section 2.1: response-code %v in a %v", problem["-4"], r.Code)
	}
	return problem
}
