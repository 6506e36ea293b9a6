package capture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/contract/schema"
	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/coapfront"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/httpfront"
	"fieldgate/gateway/mqttfront"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
)

const homeContract = `
openapi: 3.1.0
info: {title: Home, version: 1.0.0}
x-fieldgate:
  api: home
  access: [device, app]
  upstreams: {service: {ref: env/service}}
  upstream: service
components:
  schemas:
    Setting:
      type: object
      required: [name]
      properties:
        name: {type: string}
        value: {type: number, maximum: 100}
        wifi:
          type: object
          properties:
            ssid: {type: string}
            joinCode: {type: string, writeOnly: true, x-cbor-key: 7}
        pass_phrase: {type: string}
        code: {type: string, format: password, maxLength: 12}
        owners: {type: array, items: {type: object, properties: {mail: {type: string}, apiKey: {type: string}}}}
      x-cbor-key: 1
paths:
  /devices/{deviceId}/settings:
    post:
      operationId: set
      x-fieldgate-bindings:
        coap: {method: POST, path: /settings}
        mqtt: {topic: "home/{deviceId}/settings", qos: 1}
      parameters:
        - {name: deviceId, in: path, required: true, x-fieldgate-bind: principal, schema: {type: string}}
        - {name: unit, in: query, schema: {type: string}}
        - {name: ticket, in: query, schema: {type: string, format: password}}
      requestBody: {required: true, content: {application/json: {schema: {$ref: "#/components/schemas/Setting"}}}}
      responses: {"200": {description: done, content: {application/json: {schema: {$ref: "#/components/schemas/Setting"}}}}}
  /streamed/{deviceId}:
    put:
      operationId: stream
      parameters:
        - {name: deviceId, in: path, required: true, schema: {type: string}}
      requestBody: {content: {"*/*": {}}}
      responses: {"200": {description: done}}
  /unlock/{pin}:
    get:
      operationId: unlock
      parameters:
        - {name: pin, in: path, required: true, schema: {type: string}}
      responses: {"200": {description: done}}
`

const secretContract = `
openapi: 3.1.0
info: {title: Vault, version: 1.0.0}
x-fieldgate: {api: vault, access: [anonymous], capture: never}
paths:
  /vault:
    get:
      operationId: look
      responses: {"200": {description: done, content: {application/json: {example: {a: vaulted}}}}}
`

// node is a gateway with all its fronts and what captures on it.
type node struct {
	captures         *Captures
	pipeline         *pipeline.Pipeline
	http, mqtt, coap string
	token            string
}

// world is two gateways, a bus, and what the control plane hears on it.
type world struct {
	t     testing.TB
	bus   *bus.Bus
	nodes []*node
	heard chan fieldgate.Captured
	raw   chan []byte
}

type nobody struct{}

func (nobody) Add(*fieldgate.Record) uint64                    { return 0 }
func (nobody) Fold(uint64, time.Duration, uint64, uint64) bool { return false }

func newWorld(t testing.TB, nodes int) *world {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	b, err := bus.Open(bus.Config{Directory: t.TempDir(), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	w := &world{t: t, bus: b, heard: make(chan fieldgate.Captured, 1000), raw: make(chan []byte, 1000)}
	stop, err := b.Subscribe(fieldgate.SubjectCaptured, func(_ string, data []byte) {
		var c fieldgate.Captured
		if err := json.Unmarshal(data, &c); err != nil {
			t.Error(err)
		}
		w.raw <- bytes.Clone(data)
		w.heard <- c
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	service := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		rw.Header().Set("Set-Cookie", "session=answer-cookie")
		rw.Header().Set("Content-Type", "application/json")
		if strings.HasPrefix(r.URL.Path, "/devices/") {
			io.WriteString(rw, `{"name":"stored","accessToken":"answer-token","wifi":{"joinCode":"answer-code"}}`)
		} else { // nobody has described it
			io.WriteString(rw, `{"name":"stored","accessToken":"answer-token"}`)
		}
	}))
	t.Cleanup(service.Close)
	for i := range nodes {
		w.nodes = append(w.nodes, w.newNode(fmt.Sprint("n", i+1), service.URL, quiet))
	}
	return w
}

func (w *world) newNode(name, service string, quiet *slog.Logger) *node {
	t := w.t
	d, err := directory.Open(t.TempDir(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{}
	if n.token, err = fieldgate.NewToken(fieldgate.PrefixDevice); err != nil {
		t.Fatal(err)
	}
	if err := d.Apply([]fieldgate.DirectoryChange{{Sequence: 1, Kind: fieldgate.PrincipalDevice, ID: "d7",
		Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(n.token))}}}); err != nil {
		t.Fatal(err)
	}
	upstreams, err := upstream.NewSet([]fieldgate.Upstream{{Name: "service", Addresses: []string{service}}})
	if err != nil {
		t.Fatal(err)
	}
	n.pipeline = pipeline.New(pipeline.Config{Node: name, Directory: d, Upstreams: upstreams, Broker: broker.New(), Recorder: nobody{}})
	var contracts []*fieldgate.Contract
	for _, document := range []string{homeContract, secretContract} {
		compiled, diagnostics, err := contract.Compile("test.yaml", []byte(document))
		if err != nil {
			t.Fatal(err, diagnostics)
		}
		contracts = append(contracts, compiled)
	}
	contracts = append(contracts, &fieldgate.Contract{API: "legacy", Version: "1", Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive, Operations: []fieldgate.Operation{
		{ID: "http-1", PassThrough: true, Access: fieldgate.Access{Anonymous: true}, Upstream: "service", HTTP: &fieldgate.HTTPBinding{Path: "/legacy"}},
		{ID: "mqtt-1", PassThrough: true, Access: fieldgate.Access{Anonymous: true}, MQTT: &fieldgate.MQTTBinding{Topic: "legacy/#", Action: fieldgate.ActionBoth, QoS: 1, Retain: true}}}})
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: contracts}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n.pipeline.Install(program)
	n.captures = New(name, n.pipeline, w.bus, quiet)

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	run := func(part func(context.Context) error) {
		running.Go(func() {
			if err := part(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	listen := func() net.Listener {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return listener
	}
	web, broker := listen(), listen()
	sessions, err := mqttfront.New(mqttfront.Config{Pipeline: n.pipeline, Folder: t.TempDir(), Logger: quiet, Listeners: []*mqttfront.Listener{{Listener: broker}}})
	if err != nil {
		t.Fatal(err)
	}
	constrained, err := coapfront.Listen(coapfront.Config{UDP: "127.0.0.1:0", Pipeline: n.pipeline, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	front := httpfront.New(httpfront.Config{Pipeline: n.pipeline, Logger: quiet})
	n.http, n.mqtt, n.coap = "http://"+web.Addr().String(), broker.Addr().String(), "coap://"+constrained.Addresses()["coap"].String()
	run(func(ctx context.Context) error { return front.Serve(ctx, web) })
	run(sessions.Run)
	run(constrained.Run)
	run(n.captures.Run)
	t.Cleanup(func() {
		cancel()
		running.Wait()
		d.Close()
	})
	return n
}

// order sends an order and waits until every gateway follows it.
func (w *world) order(o fieldgate.CaptureOrder) {
	w.t.Helper()
	encoded, err := json.Marshal(o)
	if err != nil {
		w.t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for try := 0; ; try++ {
		if try%200 == 0 { // a gateway that only begins to listen may miss the first
			if err := w.bus.Publish(fieldgate.SubjectCaptureOrder, encoded); err != nil {
				w.t.Fatal(err)
			}
		}
		follow := true
		for _, n := range w.nodes {
			n.captures.mu.Lock()
			follow = follow && slices.ContainsFunc(n.captures.orders, func(known *order) bool { return known.ID == o.ID && (o.Remaining > 0 || known.left == 0) })
			n.captures.mu.Unlock()
		}
		if follow {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatal("the order is not followed")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *world) next() (fieldgate.Captured, string) {
	w.t.Helper()
	select {
	case c := <-w.heard:
		return c, string(<-w.raw)
	case <-time.After(time.Minute):
		w.t.Fatal("nothing was captured")
		panic("unreachable")
	}
}

// nothing makes sure that what came before left nothing: the next thing heard is that of a request made now.
func (w *world) nothing(what string) {
	w.t.Helper()
	n := w.nodes[0]
	w.call(n, "GET", "/nothing/marker", "", "", nil)
	if c, _ := w.next(); c.Path != "/nothing/marker" {
		w.t.Errorf("%s: captured %+v", what, c)
	}
}

func (w *world) call(n *node, method, target, contentType, body string, fields map[string]string) {
	w.t.Helper()
	request, err := http.NewRequest(method, n.http+target, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	for name, value := range fields {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
}

func (w *world) run(name string, arguments ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if output, err := exec.CommandContext(ctx, name, arguments...).CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v: %s", name, err, output)
	}
}

func all(id string) fieldgate.CaptureOrder {
	return fieldgate.CaptureOrder{ID: id, Count: fieldgate.MaxCaptureExchanges, Remaining: time.Minute}
}

// The secrets of these exchanges, each of which would give its owner away.
const secretSetting = `{"name":"kitchen","value":21.5,"wifi":{"ssid":"home","joinCode":"s3cret-join"},"pass_phrase":"s3cret-phrase","code":"s3cret-code",` +
	`"owners":[{"mail":"a@example.com","apiKey":"s3cret-key"}],"note":"Bearer s3cret-bearer"}`

// Whatever the protocol, what is secret by the contract, by its name or by its nature never leaves the gateway; the rest does.
func TestSecretsNeverComeOut(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	w.order(all("c1"))
	host, port, err := net.SplitHostPort(n.mqtt)
	if err != nil {
		t.Fatal(err)
	}
	cbor := string(mustCBOR(t, secretSetting))
	numbered := strings.Replace(cbor, "\x68joinCode", "\x07", 1) // the integer that stands for joinCode
	if numbered == cbor {
		t.Fatal("no joinCode in the CBOR")
	}
	bearer := map[string]string{"Authorization": "Bearer " + n.token, "Cookie": "sid=s3cret-cookie", "X-Api-Key": "s3cret-field", "X-Auth": "s3cret-auth", "X-Trace": "shown-trace " + n.token}
	basic := map[string]string{"Authorization": "Basic czNjcmV0LWJhc2lj"}
	const shown = "kitchen"
	for _, c := range []struct {
		name   string
		send   func()
		shown  []string
		status int
	}{
		{"HTTP", func() {
			w.call(n, "POST", "/devices/d7/settings?unit=shown-unit&ticket=s3cret-ticket&access_token=s3cret-query", "application/json", secretSetting, bearer)
		}, []string{shown, `"joinCode":{"redacted":"writeOnly"}`, `"code":{"redacted":"format: password"}`, `"pass_phrase":{"redacted":"name"}`, `"apiKey":{"redacted":"name"}`,
			"a@example.com", "shown-unit", "shown-trace", `"name":"stored"`, `"accessToken":{"redacted":"name"}`}, 200},
		{"HTTP, CBOR", func() { w.call(n, "POST", "/devices/d7/settings", "application/cbor", numbered, bearer) },
			[]string{shown, `"joinCode":{"redacted":"writeOnly"}`, noteCBOR}, 200},
		{"HTTP, refused by its schema", func() {
			w.call(n, "POST", "/devices/d7/settings", "application/json", strings.Replace(secretSetting, "s3cret-code", "s3cret-code-that-is-long", 1), bearer)
		}, []string{shown, "urn:fieldgate:problem:invalid-payload", "maxLength"}, 422},
		{"HTTP, without a credential", func() { w.call(n, "POST", "/devices/d7/settings", "application/json", secretSetting, basic) }, []string{noteNotRead}, 401},
		{"HTTP, a credential that is mistyped", func() {
			w.call(n, "POST", "/devices/d7/settings", "application/json", secretSetting, map[string]string{"Authorization": n.token[:39] + "!"})
		},
			[]string{noteNotRead}, 401},
		{"HTTP, no JSON", func() { w.call(n, "POST", "/devices/d7/settings", "application/json", secretSetting[:80], bearer) }, []string{noteMalformed}, 422},
		{"HTTP, another type", func() { w.call(n, "POST", "/devices/d7/settings", "text/plain", secretSetting, bearer) }, []string{shown}, 415},
		{"HTTP, streamed JSON that nobody described", func() {
			w.call(n, "PUT", "/streamed/d7", "application/json", `{"name":"kitchen","a":[{"apiKey":"s3cret-key"}]}`, bearer)
		},
			[]string{shown, `"apiKey":{"redacted":"name"}`}, 200},
		{"HTTP, streamed form", func() {
			w.call(n, "PUT", "/streamed/d7", "application/x-www-form-urlencoded", "room=kitchen&password=s3cret-form&note="+n.token, bearer)
		}, nil, 200},
		{"HTTP, streamed form with parts", func() {
			w.call(n, "PUT", "/streamed/d7", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=password\r\n\r\ns3cret-part\r\n--x--\r\n", bearer)
		}, []string{noteForm}, 200},
		{"HTTP, a secret in the path", func() { w.call(n, "GET", "/unlock/s3cret-pin", "", "", bearer) }, []string{"/unlock/{pin}"}, 200},
		{"HTTP, a token in the path of nothing", func() { w.call(n, "GET", "/x/"+n.token, "", "", bearer) }, []string{"/x/fgd_" + replacement}, 404},
		{"MQTT", func() {
			w.run("mosquitto_pub", "-V", "5", "-h", host, "-p", port, "-i", "i1", "-u", "d7", "-P", n.token, "-t", "home/d7/settings", "-q", "1", "-m", secretSetting,
				"-D", "publish", "content-type", "application/json", "-D", "publish", "user-property", "auth-key", "s3cret-property",
				"-D", "publish", "user-property", "ticket", "s3cret-ticket", "-D", "publish", "user-property", "unit", "shown-unit")
		}, []string{shown, `"joinCode":{"redacted":"writeOnly"}`, "shown-unit", "home/d7/settings"}, 200},
		{"MQTT, no type said", func() {
			w.run("mosquitto_pub", "-V", "5", "-h", host, "-p", port, "-i", "i1", "-u", "d7", "-P", n.token, "-t", "home/d7/settings", "-q", "1", "-m", secretSetting)
		}, []string{shown, `"joinCode":{"redacted":"writeOnly"}`}, 200},
		{"CoAP", func() {
			w.run("coap-client-notls", "-B", "5", "-m", "post", "-O", "65002,"+n.token, "-t", "json", "-e", secretSetting, n.coap+"/settings?unit=shown-unit&ticket=s3cret-ticket")
		}, []string{shown, `"joinCode":{"redacted":"writeOnly"}`, "shown-unit"}, 200},
		{"CoAP, without a credential", func() {
			w.run("coap-client-notls", "-B", "5", "-m", "post", "-t", "json", "-e", secretSetting, n.coap+"/settings")
		}, []string{noteNotRead}, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.send()
			captured, raw := w.next()
			if captured.Record.Status != c.status || captured.Node != "n1" || captured.Capture != "c1" {
				t.Errorf("status %d of %s", captured.Record.Status, raw)
			}
			data := raw + string(captured.Request.Data) + string(captured.Response.Data)
			for _, secret := range []string{"s3cret", "answer-cookie", "answer-token", "answer-code", n.token, n.token[4:20], "czNjcmV0"} {
				if strings.Contains(data, secret) {
					t.Errorf("%q came out: %s", secret, data)
				}
			}
			for _, text := range c.shown {
				if !strings.Contains(strings.ReplaceAll(raw, `\u0026`, "&"), text) {
					t.Errorf("no %q in %s", text, raw)
				}
			}
			for stage, s := range captured.Record.Stages {
				if s.Ran() && !s.Timed() {
					t.Errorf("%v was not timed", fieldgate.Stage(stage))
				}
			}
		})
	}
	if lost := n.captures.Dropped(); lost != 0 {
		t.Errorf("%d dropped", lost)
	}
}

func mustCBOR(t testing.TB, document string) []byte {
	t.Helper()
	encoded, err := schema.CBORFromJSON(nil, []byte(document), nil)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// What nobody described, and what must not be captured, leaves nothing at all.
func TestNeverCaptured(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	w.order(all("c1"))
	host, port, _ := net.SplitHostPort(n.mqtt)
	for name, send := range map[string]func(){
		"pass-through": func() { w.call(n, "POST", "/legacy/x", "application/json", `{"a":1}`, nil) },
		"foreign credential": func() {
			w.call(n, "POST", "/legacy/x", "", "", map[string]string{"Authorization": "Bearer somebody-elses"})
		},
		"the contract forbids it": func() { w.call(n, "GET", "/vault", "", "", nil) },
		"pass-through over MQTT": func() {
			w.run("mosquitto_pub", "-V", "5", "-h", host, "-p", port, "-i", "i2", "-u", "bob", "-P", "somebody-elses", "-t", "legacy/x", "-q", "1", "-m", "x")
		},
	} {
		send()
		w.nothing(name)
	}
}

// Each part of a filter keeps out what does not fit.
func TestFilters(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	bearer := map[string]string{"Authorization": "Bearer " + n.token}
	good := func() { w.call(n, "POST", "/devices/d7/settings", "application/json", `{"name":"good"}`, bearer) }
	bad := func() { w.call(n, "POST", "/devices/d7/settings", "application/json", `{"name":7}`, bearer) }
	other := func() { w.call(n, "PUT", "/streamed/d7", "text/plain", "other", bearer) }
	anonymous := func() { w.call(n, "POST", "/devices/d7/settings", "application/json", `{"name":"anonymous"}`, nil) }
	coap := func() {
		w.run("coap-client-notls", "-B", "5", "-m", "post", "-O", "65002,"+n.token, "-t", "json", "-e", `{"name":"coap"}`, n.coap+"/settings")
	}
	for i, c := range []struct {
		filter fieldgate.CaptureFilter
		not    []func()
		fits   func()
	}{
		{fieldgate.CaptureFilter{Refused: true}, []func(){good, coap}, bad},
		{fieldgate.CaptureFilter{Operation: "stream"}, []func(){good, coap}, other},
		{fieldgate.CaptureFilter{API: "home"}, []func(){func() { w.call(n, "GET", "/nothing", "", "", nil) }}, good},
		{fieldgate.CaptureFilter{API: "another"}, []func(){good, other}, nil},
		{fieldgate.CaptureFilter{Principal: "d7"}, []func(){anonymous}, good},
		{fieldgate.CaptureFilter{Protocol: "coap"}, []func(){good}, coap},
		{fieldgate.CaptureFilter{Protocol: "http", Operation: "set", Refused: true}, []func(){good, coap, other}, anonymous},
	} {
		o := all(fmt.Sprint("f", i))
		o.Filter, o.Count = c.filter, 1
		w.order(o)
		for _, send := range c.not {
			send()
		}
		if c.fits == nil {
			o.Remaining = 0
			w.order(o)
			continue
		}
		c.fits()
		captured, raw := w.next()
		r := &captured.Record
		if captured.Capture != o.ID || c.filter.Refused && r.Problem == "" || c.filter.Operation != "" && r.Operation != c.filter.Operation ||
			c.filter.Principal != "" && r.Principal != c.filter.Principal || c.filter.Protocol != "" && r.Protocol.String() != c.filter.Protocol {
			t.Errorf("%+v: %s", c.filter, raw)
		}
	}
	select {
	case more := <-w.heard:
		t.Errorf("captured too: %+v", more)
	default:
	}
}

// A capture ends with its count, its time or an order to stop, and then nothing is in the way of exchanges.
func TestCapturesEnd(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	tapped := func() bool {
		x := &pipeline.Exchange{Path: []byte("/nothing")}
		n.pipeline.Begin(x)
		return x.Copy != nil
	}
	get := func() { w.call(n, "GET", "/nothing", "", "", nil) }

	o := all("count")
	o.Count = 2
	w.order(o)
	for range 3 {
		get()
	}
	w.next()
	w.next()
	if tapped() {
		t.Error("the count is reached, but the tap is there")
	}
	w.order(o) // said again: it does not begin anew
	if tapped() {
		t.Error("a repeated order begins a capture anew")
	}

	o = all("stop")
	w.order(o)
	if !tapped() {
		t.Error("no tap")
	}
	o.Remaining = 0
	w.order(o)
	if tapped() {
		t.Error("it was stopped, but the tap is there")
	}

	w.order(all("time"))
	n.captures.expire(time.Now().Add(30 * time.Second))
	if !tapped() {
		t.Error("the time is not over, but the tap is gone")
	}
	n.captures.expire(time.Now().Add(time.Minute))
	if tapped() || len(n.captures.orders) != 0 {
		t.Error("the time is over, but the capture is there")
	}
}

// Orders that break a bound are not followed, and no more than there may be.
func TestOrdersAreBounded(t *testing.T) {
	w := newWorld(t, 1)
	c := w.nodes[0].captures
	for _, o := range []fieldgate.CaptureOrder{
		{ID: "", Count: 1, Remaining: time.Minute},
		{ID: "x", Count: 0, Remaining: time.Minute},
		{ID: "x", Count: fieldgate.MaxCaptureExchanges + 1, Remaining: time.Minute},
		{ID: "x", Count: 1, Remaining: fieldgate.MaxCaptureDuration + 1},
		{ID: "x", Count: 1, Remaining: -1},
		{ID: "x", Count: 1, Remaining: time.Minute, Filter: fieldgate.CaptureFilter{Protocol: "gopher"}},
		{ID: "x", Count: 1, Remaining: time.Minute, Filter: fieldgate.CaptureFilter{Principal: strings.Repeat("x", 200)}},
	} {
		encoded, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if c.receive(encoded); len(c.orders) != 0 {
			t.Fatalf("%+v is followed", o)
		}
	}
	c.receive([]byte("{"))
	for i := range 2 * fieldgate.MaxCaptures {
		encoded, err := json.Marshal(all(fmt.Sprint("c", i)))
		if err != nil {
			t.Fatal(err)
		}
		c.receive(encoded)
	}
	if len(c.orders) != fieldgate.MaxCaptures {
		t.Errorf("%d captures are followed", len(c.orders))
	}
}

// Content is held up to its bound; what is longer is left out whole, since nobody could read what is secret in a part of it.
func TestContentIsBounded(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[0]
	w.order(all("c1"))
	bearer := map[string]string{"Authorization": "Bearer " + n.token}
	for i := range fieldgate.MaxCaptureFields + 10 {
		bearer[fmt.Sprint("X-Field-", i)] = strings.Repeat("v", 10)
	}
	const frame = `{"name":""}`
	for _, c := range []struct {
		size int
		held bool
	}{{fieldgate.MaxCaptureContent, true}, {fieldgate.MaxCaptureContent + 1, false}, {1 << 20, false}} {
		body := `{"name":"` + strings.Repeat("x", c.size-len(frame)) + `"}`
		for _, send := range []func(){
			func() { w.call(n, "POST", "/devices/d7/settings", "application/json", body, bearer) },
			func() { w.call(n, "PUT", "/streamed/d7", "application/json", body, bearer) },
		} {
			send()
			captured, raw := w.next()
			if held := captured.Request.JSON != nil; held != c.held || captured.Request.Bytes != uint64(c.size) || !held && captured.Request.Note != noteTooLarge {
				t.Errorf("%d bytes: %s", c.size, raw[:min(len(raw), 2000)])
			}
			if len(captured.Request.Fields) > fieldgate.MaxCaptureFields || len(raw) > fieldgate.MaxCaptured {
				t.Errorf("%d fields, %d bytes", len(captured.Request.Fields), len(raw))
			}
		}
	}
}

// Two gateways follow one order; each says which it is.
func TestTwoGateways(t *testing.T) {
	w := newWorld(t, 2)
	w.order(all("c1"))
	var from []string
	for _, n := range w.nodes {
		w.call(n, "GET", "/nothing", "", "", nil)
		c, _ := w.next()
		from = append(from, c.Node)
		if !strings.HasPrefix(c.Instance, c.Node+"-") {
			t.Errorf("instance %q of node %q", c.Instance, c.Node)
		}
	}
	if !slices.Equal(from, []string{"n1", "n2"}) {
		t.Errorf("captured by %v", from)
	}
}
