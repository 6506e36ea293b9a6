package httpfront

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
	"fieldgate/test/port"
)

// records collects what the pipeline leaves behind.
type records struct {
	mu   sync.Mutex
	all  []fieldgate.Record
	more chan struct{}

	discard bool // of benchmarks
	fault   bool // panics, once
}

func (r *records) Add(record *fieldgate.Record) (ticket uint64) {
	if r.discard {
		return 0
	}
	r.mu.Lock()
	fault := r.fault
	r.fault = false
	r.all = append(r.all, *record)
	r.mu.Unlock()
	if fault {
		panic("fault of the test")
	}
	select {
	case r.more <- struct{}{}:
	default:
	}
	return 0
}

// Fold implements pipeline.Recorder: each exchange has a Record of its own.
func (*records) Fold(uint64, time.Duration, uint64, uint64) bool { return false }

// next waits for the n-th record, counted from 0.
func (r *records) next(t testing.TB, n int) fieldgate.Record {
	t.Helper()
	patience := time.After(time.Minute)
	for {
		r.mu.Lock()
		if len(r.all) > n {
			record := r.all[n]
			r.mu.Unlock()
			return record
		}
		r.mu.Unlock()
		select {
		case <-r.more:
		case <-patience:
			t.Fatalf("record %d was never made", n)
		}
	}
}

func (r *records) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

type gateway struct {
	*Front
	address  string
	records  *records
	pipeline *pipeline.Pipeline
	token    string // of device thermo-1
	stop     func() // returns when Serve has
}

// slowTimeout is the time-out of an operation whose answers take longer. The head of one has to come within it, on a slow machine too.
const slowTimeout = time.Second

// ops are the operations of the API that the tests call.
func ops() []fieldgate.Operation {
	anonymous := fieldgate.Access{Anonymous: true}
	op := func(id string, method fieldgate.Method, path string, access fieldgate.Access) fieldgate.Operation {
		return fieldgate.Operation{ID: id, HTTP: &fieldgate.HTTPBinding{Method: method, Path: path}, Access: access,
			MaxBody: fieldgate.DefaultMaxBody, Timeout: 30 * time.Second, OnInvalid: fieldgate.InvalidReject, Upstream: "service"}
	}
	devices := fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}}
	deviceID := []fieldgate.Parameter{{Name: "deviceId", In: fieldgate.InPath, Required: true, Bound: true}}
	item := []fieldgate.Parameter{{Name: "id", In: fieldgate.InPath, Required: true}}

	telemetry := op("sendTelemetry", fieldgate.MethodPost, "/devices/{deviceId}/telemetry", devices)
	telemetry.Parameters = deviceID
	telemetry.Request = &fieldgate.Payload{Required: true, Media: []fieldgate.MediaType{{Type: "application/json", Schema: "#/$defs/Telemetry"}}}

	state := op("readState", fieldgate.MethodGet, "/devices/{deviceId}/state", devices)
	state.Parameters = deviceID
	state.Access.Headers = []string{"x-api-key"}

	get := op("getItem", fieldgate.MethodGet, "/items/{id}", anonymous)
	get.Parameters, get.Idempotent = item, true
	put := op("putBlob", fieldgate.MethodPut, "/items/{id}", anonymous)
	put.Parameters = item
	patch := op("patchItem", fieldgate.MethodPatch, "/items/{id}", anonymous)
	patch.Parameters = item
	patch.Request = &fieldgate.Payload{Media: []fieldgate.MediaType{{Type: "application/merge-patch+json", Schema: "#/$defs/Telemetry"}}}
	slow := op("slow", fieldgate.MethodGet, "/slow/{id}", anonymous)
	slow.Parameters, slow.Timeout = item, slowTimeout
	limited := op("limited", fieldgate.MethodGet, "/limited", anonymous)
	limited.Limits = []fieldgate.Limit{{Count: 1, Period: time.Hour, Burst: 1, Key: fieldgate.LimitOperation}}
	mock := op("mock", fieldgate.MethodGet, "/mock", anonymous)
	mock.Upstream = ""
	mock.Responses = []fieldgate.Response{{Status: "200", Media: []fieldgate.MediaType{{Type: "application/json", Example: json.RawMessage(`{"mock":true}`)}}}}
	chat := op("chat", fieldgate.MethodGet, "/chat", anonymous)
	chat.HTTP.WebSocket = true
	dead := op("dead", fieldgate.MethodGet, "/dead", anonymous)
	dead.Upstream = "dead"
	hang := op("hang", fieldgate.MethodGet, "/hang", anonymous)
	hang.Timeout = time.Hour
	unnamed := op("unnamed", fieldgate.MethodGet, "/unnamed", anonymous)
	unnamed.Upstream = "unnamed"
	return []fieldgate.Operation{telemetry, state, get, put, patch, slow, limited, mock, chat, dead, hang, unnamed}
}

func snapshot() *fieldgate.Snapshot {
	everyone := fieldgate.Access{Anonymous: true, Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice, fieldgate.PrincipalApp}}
	api := &fieldgate.Contract{API: "thermo", Version: "1.0.0", Title: "Thermo", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive,
		Schemas:    json.RawMessage(`{"$defs":{"Telemetry":{"type":"object","required":["temp"],"properties":{"temp":{"type":"number","maximum":125}}}}}`),
		Operations: ops()}
	events := &fieldgate.Contract{API: "events", Version: "1.0.0", Title: "Events", Kind: fieldgate.KindAsyncAPI, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{{ID: "hear", HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/events/{deviceId}"},
			MQTT:       &fieldgate.MQTTBinding{Topic: "d/{deviceId}/t", Action: fieldgate.ActionSubscribe, QoS: 1},
			Parameters: []fieldgate.Parameter{{Name: "deviceId", In: fieldgate.InPath, Required: true}}, Access: everyone, MaxBody: 1024}}}
	old := &fieldgate.Contract{API: "old", Version: "0.1.0", Title: "Old", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleDeprecated, Sunset: "2027-01-31",
		Operations: []fieldgate.Operation{{ID: "old", HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/old"}, Access: everyone, MaxBody: 1024}}}
	legacy := &fieldgate.Contract{API: "legacy", Version: "1", Title: "Legacy", Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{{ID: "legacy", HTTP: &fieldgate.HTTPBinding{Path: "/legacy"}, Access: everyone,
			PassThrough: true, Upstream: "service", Timeout: 30 * time.Second, MaxBody: fieldgate.DefaultMaxBody}}}
	return &fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{api, events, old, legacy}}
}

// newGateway serves the API above in front of that service.
func newGateway(t testing.TB, service string, change func(*Config)) *gateway {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	people, err := directory.Open(t.TempDir(), logger)
	if err != nil {
		t.Fatal(err)
	}
	token, err := fieldgate.NewToken(fieldgate.PrefixDevice)
	if err != nil {
		t.Fatal(err)
	}
	err = people.Apply([]fieldgate.DirectoryChange{{Sequence: 1, Kind: fieldgate.PrincipalDevice, ID: "thermo-1", Model: "T2",
		Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(token))}}})
	if err != nil {
		t.Fatal(err)
	}
	services, err := upstream.NewSet([]fieldgate.Upstream{{Name: "service", Addresses: []string{service}, ConnectTimeout: time.Minute},
		{Name: "dead", Addresses: []string{"http://" + port.Free(t)}}})
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{records: &records{more: make(chan struct{}, 1)}, token: token}
	g.pipeline = pipeline.New(pipeline.Config{Node: "n1", Directory: people, Upstreams: services, Broker: broker.New(), Recorder: g.records})
	program, err := pipeline.Link(snapshot(), nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(program)
	config := Config{Pipeline: g.pipeline, Logger: logger}
	if change != nil {
		change(&config)
	}
	g.Front = New(config)
	listener, err := net.Listen("tcp", port.Free(t))
	if err != nil {
		t.Fatal(err)
	}
	g.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ctx, listener) }()
	var once sync.Once
	g.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			services.Run(ctx) // closes idle connections, since ctx has ended
			people.Close()
		})
	}
	t.Cleanup(g.stop)
	return g
}

// newService is an upstream that tells what it was asked.
func newService(t testing.TB) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		fields := map[string]string{}
		for name := range r.Header {
			fields[name] = r.Header.Get(name)
		}
		if r.ContentLength > 0 || r.ContentLength == 0 && r.Header.Get("Content-Length") != "" {
			fields["Content-Length"] = fmt.Sprint(r.ContentLength)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Upstream", "yes")
		json.NewEncoder(w).Encode(map[string]any{"method": r.Method, "target": r.RequestURI, "host": r.Host, "fields": fields,
			"content": string(content), "encoding": r.TransferEncoding})
	}))
	t.Cleanup(server.Close)
	return server.URL
}

type seen struct {
	Method, Target, Host, Content string
	Fields                        map[string]string
	Encoding                      []string
}

func (g *gateway) do(t *testing.T, method, path, body string, fields ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+g.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer, string(content)
}

// raw sends bytes and returns all that comes back until the connection ends.
func (g *gateway) raw(t *testing.T, message string) string {
	t.Helper()
	link, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	link.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(link, message); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(link)
	if err != nil {
		t.Fatalf("after %q: %v", answer, err)
	}
	return string(answer)
}

func TestRequestIsRelayed(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	answer, content := g.do(t, "PUT", "/items/a%2Db?x=1", "payload", "X-Own", "kept", "Fieldgate-Principal", "forged", "Fieldgate_Principal", "forged",
		"X-Forwarded-For", "6.6.6.6", "Connection", "X-Hop", "X-Hop", "gone", "Authorization", "")
	if answer.StatusCode != 200 || answer.Header.Get("X-Upstream") != "yes" || answer.Header.Get("Date") == "" {
		t.Errorf("status %d, fields %v", answer.StatusCode, answer.Header)
	}
	var got seen
	if err := json.Unmarshal([]byte(content), &got); err != nil {
		t.Fatal(err)
	}
	if got.Method != "PUT" || got.Target != "/items/a-b?x=1" || got.Content != "payload" || got.Host == g.address {
		t.Errorf("the upstream saw %+v", got)
	}
	for name, want := range map[string]string{"X-Own": "kept", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": g.address,
		"Fieldgate-Principal-Kind": "anonymous", "Fieldgate-Operation": "thermo 1.0.0 putBlob", "X-Hop": "", "Connection": "", "Fieldgate_principal": "", "Fieldgate-Principal": "", "Via": "1.1 fieldgate"} {
		if got.Fields[name] != want {
			t.Errorf("field %s: %q, want %q", name, got.Fields[name], want)
		}
	}
	r := g.records.next(t, 0)
	if r.API != "thermo" || r.Operation != "putBlob" || r.Status != 200 || r.BytesIn != 7 || r.BytesOut != uint64(len(content)) || r.Source.String() != "127.0.0.1" ||
		r.Protocol != fieldgate.ProtocolHTTP || r.Method != fieldgate.MethodPut || r.Upstream <= 0 || r.Duration < r.Upstream {
		t.Errorf("record %+v", r)
	}
}

func TestIdentityReachesTheUpstreamButNoCredential(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	for name, fields := range map[string][]string{
		"bearer": {"Authorization", "Bearer " + g.token},
		"basic":  {"Authorization", basic("thermo-1", g.token)},
		"field":  {"X-Api-Key", g.token},
	} {
		answer, content := g.do(t, "GET", "/devices/thermo-1/state", "", fields...)
		if answer.StatusCode != 200 || !strings.Contains(content, `"Fieldgate-Principal":"thermo-1"`) || strings.Contains(content, g.token) {
			t.Errorf("%s: status %d: %s", name, answer.StatusCode, content)
		}
	}
	answer, content := g.do(t, "GET", "/devices/thermo-2/state", "", "Authorization", "Bearer "+g.token)
	if answer.StatusCode != 403 || !strings.Contains(content, "not-owner") {
		t.Errorf("another device's path: %d %s", answer.StatusCode, content)
	}
	answer, _ = g.do(t, "GET", "/devices/thermo-1/state", "")
	if answer.StatusCode != 401 || answer.Header.Get("WWW-Authenticate") != `Bearer realm="fieldgate"` {
		t.Errorf("no credential: %d %v", answer.StatusCode, answer.Header)
	}
	answer, _ = g.do(t, "GET", "/devices/thermo-1/state", "", "Authorization", "Bearer wrong")
	if answer.StatusCode != 401 || !strings.Contains(answer.Header.Get("WWW-Authenticate"), "invalid_token") {
		t.Errorf("wrong credential: %d %v", answer.StatusCode, answer.Header)
	}
}

func basic(user, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

func TestBodyIsChecked(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	for i, test := range []struct {
		body    string
		status  int
		clause  string
		finding fieldgate.Findings
	}{
		{`{"temp":21.5}`, 200, "", 0},
		{`{"temp":900}`, 422, "maximum", fieldgate.FindingInvalidRequest},
		{`{"temp":`, 422, "", fieldgate.FindingInvalidRequest},
		{strings.Repeat("[", 10_000), 422, "", fieldgate.FindingInvalidRequest},
	} {
		answer, content := g.do(t, "POST", "/devices/thermo-1/telemetry", test.body, "Content-Type", "application/json", "Authorization", "Bearer "+g.token)
		if answer.StatusCode != test.status || !strings.Contains(content, test.clause) {
			t.Errorf("%.20s: %d %s", test.body, answer.StatusCode, content)
		}
		if test.status == 422 && (answer.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(content, `"instance":"n1-`)) {
			t.Errorf("%.20s: %v %s", test.body, answer.Header, content)
		}
		if r := g.records.next(t, i); r.Status != test.status || r.Findings != test.finding || r.Principal != "thermo-1" || r.Model != "T2" || r.BytesIn != uint64(len(test.body)) {
			t.Errorf("%.20s: record %+v", test.body, r)
		}
	}
}

// A checked body goes on with all end-to-end fields, in a framing of its own.
func TestCheckedBodyIsRelayed(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	for _, test := range []struct{ framing, content, want string }{
		{"Content-Length: 10\r\n\r\n{\"temp\":1}", `{"temp":1}`, "10"},
		{"Transfer-Encoding: chunked\r\n\r\n3\r\n{\"t\r\n7\r\nemp\":1}\r\n0\r\n\r\n", `{"temp":1}`, "10"},
		{"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", "0"},
		{"Content-Length: 0\r\n\r\n", "", "0"},
		{"\r\n", "", ""},
	} {
		answer := g.raw(t, "PATCH /items/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nIf-Match: \"x\"\r\n"+test.framing)
		_, content, _ := strings.Cut(answer, "\r\n\r\n")
		content = content[strings.IndexByte(content, '{') : strings.LastIndexByte(content, '}')+1]
		var got seen
		if err := json.Unmarshal([]byte(content), &got); err != nil {
			t.Fatalf("%v: %s", err, answer)
		}
		mediaType := "application/merge-patch+json"
		if test.content == "" {
			mediaType = ""
		}
		if got.Content != test.content || got.Fields["Content-Length"] != test.want || got.Encoding != nil || got.Fields["If-Match"] != `"x"` || got.Fields["Content-Type"] != mediaType {
			t.Errorf("%q: the upstream saw %+v", test.framing, got)
		}
	}
}

func TestVerdicts(t *testing.T) {
	release := make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/slow") {
			<-release
		}
	}))
	defer service.Close()
	defer close(release)
	g := newGateway(t, service.URL, nil)
	for _, test := range []struct {
		method, path string
		status       int
		code         string
		field, value string
	}{
		{"GET", "/nowhere", 404, "not-found", "", ""},
		{"DELETE", "/items/1", 405, "method-not-allowed", "Allow", "GET, PUT, PATCH"},
		{"GET", "/limited", 200, "", "RateLimit", `"default";r=0;t=3600`},
		{"GET", "/limited", 429, "rate-limited", "Retry-After", "3600"},
		{"GET", "/mock", 200, `{"mock":true}`, "Content-Type", "application/json"},
		{"HEAD", "/mock", 200, "", "Content-Length", "13"},
		{"GET", "/old", 204, "", "Sunset", "Sun, 31 Jan 2027 00:00:00 GMT"},
		{"GET", "/slow/1", 504, "upstream-timeout", "", ""},
		{"GET", "/dead", 502, "upstream-unreachable", "", ""},
		{"GET", "/unnamed", 502, "upstream-unreachable", "", ""},
		{"GET", "/legacy/anything//at/./all", 200, "", "", ""},
		{"GET", "/events/thermo-1", 204, "", "", ""},
	} {
		before := g.records.count()
		answer, content := g.do(t, test.method, test.path, "")
		if answer.StatusCode != test.status || !strings.Contains(content, test.code) {
			t.Errorf("%s %s: %d %s", test.method, test.path, answer.StatusCode, content)
		}
		if test.field != "" && answer.Header.Get(test.field) != test.value {
			t.Errorf("%s %s: %s: %q", test.method, test.path, test.field, answer.Header.Get(test.field))
		}
		if r := g.records.next(t, before); r.Status != test.status {
			t.Errorf("%s %s: record %+v", test.method, test.path, r)
		}
	}
}

func TestRejectedOnTheWire(t *testing.T) {
	patient, hurried := newGateway(t, newService(t), nil), newGateway(t, newService(t), func(c *Config) { c.HeadTimeout = time.Second })
	for _, test := range []struct {
		name, message, status string
	}{
		{"garbage", "\x16\x03\x01garbage", "HTTP/1.1 400 "},
		{"smuggling", "POST /items/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /mock HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 400 "},
		{"version", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "HTTP/1.1 505 "},
		{"head too large", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 40<<10) + "\r\n\r\n", "HTTP/1.1 431 "},
		{"slow head", "GET / HTTP/1.1\r\nHost: a\r\nX: ", "HTTP/1.1 408 "},
		{"coding", "POST /items/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501 "},
		{"expectation", "PUT /items/1 HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\n1", "HTTP/1.1 417 "},
		{"tunnel", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close\r\n\r\n", "HTTP/1.1 405 "},
		{"above the root", "GET /items/../../etc HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 400 "},
		{"broken chunk", "PUT /items/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", "HTTP/1.1 400 "},
		{"broken chunk in checked body", "POST /devices/thermo-1/telemetry HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + patient.token + "\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "HTTP/1.1 400 "},
	} {
		g := patient
		if test.name == "slow head" {
			g = hurried
		}
		before := g.records.count()
		answer := g.raw(t, test.message)
		if !strings.HasPrefix(answer, test.status) || !strings.Contains(answer, "Connection: close\r\n") || strings.Count(answer, "HTTP/1.1 ") != 1 {
			t.Errorf("%s: %s", test.name, answer)
		}
		if r := g.records.next(t, before); r.Findings == 0 || r.Status < 400 {
			t.Errorf("%s: record %+v", test.name, r)
		}
	}
	if answer, _ := patient.do(t, "GET", "/mock", ""); answer.StatusCode != 200 {
		t.Error("others are affected")
	}
}

func TestPayloadOfOneGibibyte(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	for _, path := range []string{"PUT /items/1", "POST /devices/thermo-1/telemetry"} {
		answer := g.raw(t, path+" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "+g.token+"\r\nContent-Length: 1073741824\r\n\r\n")
		if strings.HasPrefix(path, "PUT") {
			answer = g.raw(t, path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\nsome of it")
		}
		if !strings.HasPrefix(answer, "HTTP/1.1 413 ") {
			t.Errorf("%s by length: %.100s", path, answer)
		}
		link, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		authorization := "Authorization: Bearer " + g.token + "\r\n"
		if strings.HasPrefix(path, "PUT") {
			authorization = ""
		}
		fmt.Fprintf(link, "%s HTTP/1.1\r\nHost: a\r\n%sTransfer-Encoding: chunked\r\n\r\n40000000\r\n", path, authorization)
		go func() { // until the gateway has had enough
			block := make([]byte, 64<<10)
			for range 1 << 14 {
				if _, err := link.Write(block); err != nil {
					return
				}
			}
			t.Error("all of it was taken")
		}()
		link.SetReadDeadline(time.Now().Add(time.Minute))
		line, err := bufio.NewReader(link).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 413 ") {
			t.Errorf("%s in chunks: %q, %v", path, line, err)
		}
		link.Close()
	}
}

func TestPipelining(t *testing.T) { // RFC 9112 §9.3.2
	g := newGateway(t, newService(t), nil)
	const get = "GET /mock HTTP/1.1\r\nHost: a\r\n\r\n"
	answer := g.raw(t, get+"PUT /items/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst"+
		"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"+
		"PUT /items/2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n6\r\nsecond\r\n0\r\n\r\n"+get)
	first, second := strings.Index(answer, "first"), strings.Index(answer, "second")
	if strings.Count(answer, "HTTP/1.1 200 OK") != 3 || strings.Count(answer, "HTTP/1.1 404 ") != 1 || first < 0 || second < first {
		t.Errorf("answers:\n%s", answer)
	}
	if g.records.next(t, 3); g.records.count() != 4 {
		t.Errorf("%d records", g.records.count())
	}
}

func TestHTTP10(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "in ")
		w.(http.Flusher).Flush()
		io.WriteString(w, "chunks")
	}))
	defer service.Close()
	g := newGateway(t, service.URL, nil)
	answer := g.raw(t, "GET /items/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	if !strings.HasSuffix(answer, "\r\n\r\nin chunks") || strings.Contains(answer, "chunked") || !strings.Contains(answer, "Connection: close\r\n") {
		t.Errorf("HTTP/1.0 has no chunks: %s", answer)
	}
	answer = g.raw(t, "GET /mock HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /mock HTTP/1.0\r\n\r\n")
	if strings.Count(answer, `{"mock":true}`) != 2 || !strings.Contains(answer, "Connection: keep-alive\r\n") {
		t.Errorf("kept alive on demand: %s", answer)
	}
}

// Content of many shapes and sizes comes through unchanged, both ways.
func TestContentIsUnchanged(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Header.Get("X-Flush") != "" {
			w.Write(content[:len(content)/2])
			w.(http.Flusher).Flush()
			content = content[len(content)/2:]
		} else {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		}
		w.Write(content)
	}))
	defer service.Close()
	g := newGateway(t, service.URL, nil)
	pattern := make([]byte, 20<<20)
	for i := range pattern {
		pattern[i] = byte(i * 7 >> 3)
	}
	for _, size := range []int{0, 1, 1000, 4096, 5000, 32 << 10, 100_000, 1 << 20, 20 << 20} {
		path := "/items/1"
		if size > fieldgate.DefaultMaxBody {
			path = "/legacy/big" // passed through, whatever its size
		}
		for _, chunked := range []bool{false, true} {
			for _, flush := range []bool{false, true} {
				var body io.Reader = strings.NewReader(string(pattern[:size]))
				if chunked {
					body = io.MultiReader(body) // of unknown length
				}
				r, err := http.NewRequest("PUT", "http://"+g.address+path, body)
				if err != nil {
					t.Fatal(err)
				}
				if flush {
					r.Header.Set("X-Flush", "yes")
				}
				answer, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				content, err := io.ReadAll(answer.Body)
				answer.Body.Close()
				if err != nil || string(content) != string(pattern[:size]) {
					t.Errorf("%d bytes, chunked %v, flushed %v: %d bytes came back, %v", size, chunked, flush, len(content), err)
				}
			}
		}
	}
	g.records.next(t, 35)
	for _, r := range g.records.all {
		if r.BytesIn != r.BytesOut || r.Problem != "" {
			t.Errorf("record %+v", r)
		}
	}
}

func TestExpectContinue(t *testing.T) { // RFC 9110 §10.1.1
	g := newGateway(t, newService(t), nil)
	dial := func(head string) (net.Conn, *bufio.Reader) {
		link, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { link.Close() })
		link.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(link, head+" HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\nAuthorization: Bearer "+g.token+"\r\nContent-Type: application/json\r\n\r\n")
		return link, bufio.NewReader(link)
	}
	for head, status := range map[string]string{"POST /devices/thermo-1/telemetry": "422", "PUT /legacy/1": "200"} {
		link, in := dial(head)
		if line, err := in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%s: %q, %v", head, line, err)
		}
		in.ReadString('\n')
		io.WriteString(link, "1234")
		if line, _ := in.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 "+status) {
			t.Errorf("%s: %q", head, line)
		}
	}
	_, in := dial("POST /nowhere")
	if line, _ := in.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 404") {
		t.Errorf("refused before the content is asked for: %q", line)
	}
	if rest, err := io.ReadAll(in); err != nil || !strings.Contains(string(rest), "Connection: close") {
		t.Errorf("the connection cannot go on: %s, %v", rest, err)
	}
}

// What an upstream breaks off must not look whole to the client.
func TestUpstreamBreaksOff(t *testing.T) {
	for _, test := range []struct {
		name, answer, status string
	}{
		{"closes", "", "HTTP/1.1 502"},
		{"garbage", "nonsense\r\n\r\n", "HTTP/1.1 502"},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "HTTP/1.1 502"},
		{"broken chunk before any content", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\nyy", "HTTP/1.1 502"},
		{"short content", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "cut"},
		{"chunks without end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "cut"},
		{"short large content", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 500_000), "cut"},
	} {
		t.Run(test.name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go func() {
				for {
					link, err := listener.Accept()
					if err != nil {
						return
					}
					http.ReadRequest(bufio.NewReader(link))
					io.WriteString(link, test.answer)
					link.Close()
				}
			}()
			g := newGateway(t, "http://"+listener.Addr().String(), nil)
			r, _ := http.NewRequest("GET", "http://"+g.address+"/items/1", nil)
			answer, err := http.DefaultTransport.RoundTrip(r)
			if test.status == "cut" {
				if err == nil {
					_, err = io.ReadAll(answer.Body)
				}
				if err == nil && answer.StatusCode != 502 { // which it is where nothing had gone out yet
					t.Error("the client took it for a whole answer")
				}
			} else if err != nil || !strings.HasPrefix("HTTP/1.1 "+answer.Status, test.status) {
				t.Errorf("%v, %v", answer, err)
			}
			if r := g.records.next(t, 0); r.Status != 502 || r.Findings&fieldgate.FindingUpstream == 0 {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// Clients that send their content slowly hold no connection to the upstream, however many they are.
func TestSlowContentHoldsNoUpstream(t *testing.T) {
	g := newGateway(t, newService(t), func(c *Config) { c.BodyTimeout = 200 * time.Millisecond })
	var slow []net.Conn
	for range 600 { // more than connections to an upstream
		link, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer link.Close()
		io.WriteString(link, "PUT /legacy/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\nsome")
		slow = append(slow, link)
	}
	if answer, _ := g.do(t, "PUT", "/legacy/2", "quick"); answer.StatusCode != 200 {
		t.Errorf("others: %d", answer.StatusCode)
	}
	slow[0].SetReadDeadline(time.Now().Add(time.Minute))
	if line, err := bufio.NewReader(slow[0]).ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 400") {
		t.Errorf("%q, %v", line, err)
	}
}

// A piece that has come from the upstream is not held back until the next comes.
func TestPiecesArriveAsTheyCome(t *testing.T) {
	received := make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			io.WriteString(w, "piece\n")
			w.(http.Flusher).Flush()
			<-received
		}
	}))
	defer service.Close()
	g := newGateway(t, service.URL, nil)
	answer, err := http.Get("http://" + g.address + "/items/1")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	in := bufio.NewReader(answer.Body)
	for range 3 {
		if line, err := in.ReadString('\n'); line != "piece\n" {
			t.Fatalf("%q, %v", line, err)
		}
		received <- struct{}{}
	}
	if rest, err := io.ReadAll(in); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestCurl(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	run := func(arguments ...string) string {
		t.Helper()
		out, err := exec.Command("curl", append([]string{"-sS", "--max-time", "10", "-w", "\n%{http_code}"}, arguments...)...).CombinedOutput()
		if err != nil {
			t.Errorf("curl %v: %v: %s", arguments, err, out)
		}
		return string(out)
	}
	url := "http://" + g.address
	if out := run("-H", "Authorization: Bearer "+g.token, "--json", `{"temp":20}`, url+"/devices/thermo-1/telemetry"); !strings.HasSuffix(out, "\n200") {
		t.Errorf("valid: %s", out)
	}
	if out := run("-u", "thermo-1:"+g.token, "--json", `{"temp":900}`, url+"/devices/thermo-1/telemetry"); !strings.HasSuffix(out, "\n422") || !strings.Contains(out, "maximum") {
		t.Errorf("invalid: %s", out)
	}
	if out := run("-I", url+"/mock"); !strings.HasSuffix(out, "\n200") {
		t.Errorf("HEAD: %s", out)
	}
	if out := run("--http1.0", url+"/mock", url+"/mock"); strings.Count(out, `{"mock":true}`) != 2 {
		t.Errorf("HTTP/1.0: %s", out)
	}
	gibibyte := filepath.Join(t.TempDir(), "gibibyte")
	if err := os.WriteFile(gibibyte, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(gibibyte, 1<<30); err != nil { // a hole: no disk is used
		t.Fatal(err)
	}
	for _, file := range []string{gibibyte, "/dev/zero"} { // by length, in chunks
		for _, expect := range []string{"Expect:", "Expect: 100-continue"} {
			if out := run("-T", file, "-H", expect, url+"/items/1"); !strings.HasSuffix(out, "\n413") {
				t.Errorf("endless content, %s, %s: %s", file, expect, out)
			}
		}
	}
	if out := run("--path-as-is", url+"/items/%2e%2e/x"); !strings.HasSuffix(out, "\n400") {
		t.Errorf("dot segments: %s", out)
	}
}

func TestTLS(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	certificate := httptest.NewTLSServer(nil) // only its certificate is wanted
	defer certificate.Close()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- g.ServeTLS(ctx, plain, &tls.Config{Certificates: certificate.TLS.Certificates})
	}()
	client := certificate.Client()
	for range 3 {
		answer, err := client.Post("https://"+plain.Addr().String()+"/items/1", "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != 405 {
			t.Errorf("status %d", answer.StatusCode)
		}
		answer, err = client.Get("https://" + plain.Addr().String() + "/items/1")
		if err != nil {
			t.Fatal(err)
		}
		var got seen
		if err := json.NewDecoder(answer.Body).Decode(&got); err != nil || got.Fields["X-Forwarded-Proto"] != "https" {
			t.Errorf("%+v, %v", got, err)
		}
		answer.Body.Close()
	}
	client.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestConnectionLimits(t *testing.T) {
	g := newGateway(t, newService(t), func(c *Config) { c.MaxConnections, c.MaxConnectionsSource = 5, 3 })
	var open []net.Conn
	for range 3 {
		link, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer link.Close()
		io.WriteString(link, "GET /mock HTTP/1.1\r\nHost: a\r\n\r\n")
		if line, err := bufio.NewReader(link).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%q, %v", line, err)
		}
		open = append(open, link)
	}
	link, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	link.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := link.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("the fourth connection is served")
	}
	if stats := g.Stats(); stats.RefusedSource != 1 || stats.Accepted != 4 || stats.Connections != 3 {
		t.Errorf("%+v", stats)
	}
	open[0].Close()
	for g.Stats().Connections > 2 {
		time.Sleep(time.Millisecond)
	}
	if answer := g.raw(t, "GET /mock HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.Contains(answer, "200 OK") {
		t.Errorf("a place that was freed: %s", answer)
	}
}

func TestShutdown(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		io.WriteString(w, "finished")
	}))
	defer service.Close()
	g := newGateway(t, service.URL, nil)
	idle, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	for g.Stats().Connections < 1 {
		time.Sleep(time.Millisecond)
	}
	answered := make(chan string, 1)
	go func() { answered <- g.raw(t, "GET /items/1 HTTP/1.1\r\nHost: a\r\n\r\n") }()
	<-entered
	stopped := make(chan struct{})
	go func() { g.stop(); close(stopped) }()
	idle.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the idle connection: %v", err)
	}
	if _, err := net.Dial("tcp", g.address); err == nil {
		t.Error("it still listens")
	}
	close(release)
	if answer := <-answered; !strings.HasSuffix(answer, "finished") {
		t.Errorf("the exchange under way: %q", answer)
	}
	<-stopped
	if stats := g.Stats(); stats.Connections != 0 {
		t.Errorf("%+v", stats)
	}
}

// What does not end within the grace is cut, on both sides.
func TestShutdownIsBounded(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
	}))
	defer service.Close()
	defer close(release)
	g := newGateway(t, service.URL, func(c *Config) { c.ShutdownGrace = 20 * time.Millisecond })
	link, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	io.WriteString(link, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n") // its time-out is an hour
	<-entered
	g.stop()
	if r := g.records.next(t, 0); r.Status != 504 {
		t.Errorf("record %+v", r)
	}
}

func TestFaultCostsOneConnection(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	g.records.mu.Lock()
	g.records.fault = true
	g.records.mu.Unlock()
	g.raw(t, "GET /mock HTTP/1.1\r\nHost: a\r\n\r\nGET /mock HTTP/1.1\r\nHost: a\r\n\r\n") // ends
	if answer, _ := g.do(t, "GET", "/mock", ""); answer.StatusCode != 200 {
		t.Errorf("status %d", answer.StatusCode)
	}
}

func TestReloadKeepsConnections(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	link, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	link.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(link)
	ask := func() int {
		io.WriteString(link, "GET /mock HTTP/1.1\r\nHost: a\r\n\r\n")
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		return answer.StatusCode
	}
	if ask() != 200 {
		t.Error("before")
	}
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(program)
	if ask() != 404 {
		t.Error("after")
	}
}
