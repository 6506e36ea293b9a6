package mqttfront

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/mqtt"
)

// patience bounds every wait for something that has to happen; nothing depends on how long it takes.
const patience = time.Minute

type records struct {
	mu      sync.Mutex
	list    []fieldgate.Record
	discard bool // for benchmarks
}

func (r *records) Add(record *fieldgate.Record) (ticket uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.discard {
		r.list = append(r.list, *record)
	}
	return 0
}

// Fold implements pipeline.Recorder: each exchange has a Record of its own.
func (*records) Fold(uint64, time.Duration, uint64, uint64) bool { return false }

func (r *records) count(match func(*fieldgate.Record) bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.list {
		if match(&r.list[i]) {
			n++
		}
	}
	return n
}

// gateway is a front on a real listener, with pipeline, directory and a service behind it.
type gateway struct {
	*Front
	t         testing.TB
	address   string
	records   *records
	directory *directory.Directory
	sequence  uint64
	tokens    map[string]string // by principal
	bodies    chan string       // what the service received
	stopRun   func()
	folder    string
}

var schemas = json.RawMessage(`{"$defs":{
	"T":{"type":"object","additionalProperties":false,"required":["temp"],"properties":{"temp":{"type":"number","maximum":125}}}}}`)

// contracts: devices publish telemetry and status below d/<own id> and hear commands there; the app "dash" hears all
// telemetry and sends commands; "store" is an operation that a service answers.
func contracts() []*fieldgate.Contract {
	devices := fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}}
	apps := fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalApp}}
	id := fieldgate.Parameter{Name: "id", In: fieldgate.InPath, Required: true, Bound: true}
	free := fieldgate.Parameter{Name: "id", In: fieldgate.InPath, Required: true}
	body := &fieldgate.Payload{Required: true, Media: []fieldgate.MediaType{{Type: "application/json", Schema: "#/$defs/T"}}}
	anything := &fieldgate.Payload{Media: []fieldgate.MediaType{{Type: "*/*"}}}
	operation := func(name, topic string, action fieldgate.MQTTAction, access fieldgate.Access, parameter fieldgate.Parameter, payload *fieldgate.Payload, retain bool) fieldgate.Operation {
		o := fieldgate.Operation{ID: name, Access: access, Parameters: []fieldgate.Parameter{parameter}, MaxBody: 1 << 20, OnInvalid: fieldgate.InvalidReject,
			MQTT: &fieldgate.MQTTBinding{Topic: topic, Action: action, QoS: 2, Retain: retain}}
		if action == fieldgate.ActionPublish {
			o.Request = payload
		}
		return o
	}
	q0 := operation("low", "d/{id}/low", fieldgate.ActionPublish, devices, id, anything, false)
	q0.MQTT.QoS = 0
	store := operation("store", "d/{id}/store", fieldgate.ActionPublish, devices, id, body, false)
	store.Upstream, store.Timeout = "service", 30*time.Second
	store.HTTP = &fieldgate.HTTPBinding{Method: fieldgate.MethodPost, Path: "/devices/{id}/store"}
	limited := operation("limited", "d/{id}/limited", fieldgate.ActionPublish, devices, id, anything, false)
	limited.Limits = []fieldgate.Limit{{Count: 2, Period: time.Hour, Burst: 2, Key: fieldgate.LimitPrincipal}}
	once := operation("once", "d/{id}/once", fieldgate.ActionPublish, devices, id, anything, false)
	once.Policies = &fieldgate.Policies{Idempotency: &fieldgate.Idempotency{Field: "idempotency-key", TTL: time.Hour}}
	return []*fieldgate.Contract{
		{API: "thermo", Version: "1", Kind: fieldgate.KindAsyncAPI, State: fieldgate.LifecycleActive, Schemas: schemas, Operations: []fieldgate.Operation{
			operation("telemetry", "d/{id}/telemetry", fieldgate.ActionPublish, devices, id, body, false),
			operation("raw", "d/{id}/raw", fieldgate.ActionPublish, devices, id, anything, true),
			operation("status", "d/{id}/status", fieldgate.ActionPublish, devices, id, anything, true),
			operation("command", "d/{id}/command", fieldgate.ActionPublish, apps, free, anything, true),
			q0, limited, once,
			operation("hear-once", "d/{id}/once", fieldgate.ActionSubscribe, apps, free, nil, false),
			operation("hear-command", "d/{id}/command", fieldgate.ActionSubscribe, devices, id, nil, false),
			operation("hear-telemetry", "d/{id}/telemetry", fieldgate.ActionSubscribe, apps, free, nil, false),
			operation("hear-raw", "d/{id}/raw", fieldgate.ActionSubscribe, apps, free, nil, false),
			operation("hear-own-raw", "d/{id}/raw", fieldgate.ActionSubscribe, devices, id, nil, false),
			operation("hear-status", "d/{id}/status", fieldgate.ActionSubscribe, apps, free, nil, false),
			operation("hear-low", "d/{id}/low", fieldgate.ActionSubscribe, apps, free, nil, false),
			operation("hear-store", "d/{id}/store", fieldgate.ActionSubscribe, apps, free, nil, false),
		}},
		{API: "storage", Version: "1", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive, Schemas: schemas, Operations: []fieldgate.Operation{store}},
	}
}

func newGateway(t testing.TB, set func(*Config)) *gateway {
	t.Helper()
	return newGatewayIn(t, t.TempDir(), set)
}

func newGatewayIn(t testing.TB, folder string, set func(*Config)) *gateway {
	t.Helper()
	g := &gateway{t: t, records: &records{}, tokens: map[string]string{}, bodies: make(chan string, 100), folder: folder}
	var err error
	if g.directory, err = directory.Open(t.TempDir(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.directory.Close() })
	g.start(set)
	for _, id := range []string{"d1", "d2"} {
		g.add(fieldgate.PrincipalDevice, id)
	}
	g.add(fieldgate.PrincipalApp, "dash")
	g.add(fieldgate.PrincipalApp, "other")
	t.Cleanup(func() { g.stopRun() })
	return g
}

// start runs a front with the gateway's folder and directory; restart ends it and starts another.
func (g *gateway) start(set func(*Config)) {
	g.t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		g.bodies <- r.URL.Path + " " + string(body)
		if strings.Contains(string(body), "99") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Location", "/stored/1")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"stored":true}`)
	}))
	upstreams, err := upstream.NewSet([]fieldgate.Upstream{{Name: "service", Addresses: []string{service.URL}, ConnectTimeout: patience}})
	if err != nil {
		g.t.Fatal(err)
	}
	p := pipeline.New(pipeline.Config{Node: "n1", Directory: g.directory, Upstreams: upstreams, Broker: broker.New(), Recorder: g.records})
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: contracts()}, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	p.Install(program)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	g.address = listener.Addr().String()
	config := Config{Pipeline: p, Listeners: []*Listener{{Listener: listener}}, Folder: g.folder, Logger: slog.New(slog.DiscardHandler)}
	if set != nil {
		set(&config)
	}
	if g.Front, err = New(config); err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	front := g.Front
	go func() { ended <- front.Run(ctx) }()
	g.stopRun = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				g.t.Error(err)
			}
		case <-time.After(patience):
			g.t.Error("Run did not return")
		}
		service.Close()
	})
}

func (g *gateway) restart() {
	g.stopRun()
	g.start(nil)
}

func (g *gateway) change(c fieldgate.DirectoryChange) {
	g.t.Helper()
	g.sequence = max(g.sequence, g.directory.Sequence()) + 1
	c.Sequence = g.sequence
	if err := g.directory.Apply([]fieldgate.DirectoryChange{c}); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) add(kind fieldgate.PrincipalKind, id string) {
	prefix := fieldgate.PrefixDevice
	if kind == fieldgate.PrincipalApp {
		prefix = fieldgate.PrefixApp
	}
	token, err := fieldgate.NewToken(prefix)
	if err != nil {
		g.t.Fatal(err)
	}
	g.tokens[id] = token
	g.change(fieldgate.DirectoryChange{Kind: kind, ID: id, Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(token))}})
}

// client is a connected client with what it received.
type client struct {
	*mqtt.Client
	t        testing.TB
	received chan received
}

type received struct {
	topic, payload string
	qos            byte
	retain         bool
	ids            []uint32
	user           map[string]string
	contentType    string
}

func (g *gateway) dial(principal string, o mqtt.ClientOptions) (*client, error) {
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	c := &client{t: g.t, received: make(chan received, 10_000)}
	if o.Password == "" {
		o.Password = g.tokens[principal]
	}
	if o.ClientID == "" {
		o.ClientID = "c-" + principal
	}
	o.Receive = func(p *mqtt.Publish) {
		r := received{topic: string(p.Topic), payload: string(p.Payload), qos: p.QoS, retain: p.Retain, ids: slices.Clone(p.Properties.SubscriptionIDs),
			contentType: string(p.Properties.Text(mqtt.ContentType)), user: map[string]string{}}
		for _, pair := range p.Properties.User {
			r.user[string(pair.Key)] = string(pair.Value)
		}
		c.received <- r
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if c.Client, err = mqtt.Dial(ctx, conn, o); err != nil {
		return nil, err
	}
	g.t.Cleanup(func() { c.Close() })
	return c, nil
}

func (g *gateway) connect(principal string, o mqtt.ClientOptions) *client {
	g.t.Helper()
	c, err := g.dial(principal, o)
	if err != nil {
		g.t.Fatalf("%s: %v", principal, err)
	}
	return c
}

func (c *client) subscribe(filters ...mqtt.Filter) []mqtt.Reason {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	reasons, err := c.Subscribe(ctx, filters...)
	if err != nil {
		c.t.Fatal(err)
	}
	return reasons
}

func (c *client) hear(filter string, qos byte) {
	c.t.Helper()
	if reasons := c.subscribe(mqtt.Filter{Filter: []byte(filter), QoS: qos}); reasons[0].Failed() {
		c.t.Fatalf("subscribe %s: %v", filter, reasons)
	}
}

// send publishes and gives the reason that the server answered.
func (c *client) send(p mqtt.Publish) mqtt.Reason {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := c.Publish(ctx, &p)
	var refusal *mqtt.ReasonError
	switch {
	case err == nil:
		return mqtt.Success
	case errors.As(err, &refusal):
		return refusal.Reason
	}
	c.t.Fatalf("publish %s: %v", p.Topic, err)
	return 0
}

func publish(topic, payload string, qos byte) mqtt.Publish {
	return mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos}
}

func (c *client) next() received {
	c.t.Helper()
	select {
	case r := <-c.received:
		return r
	case <-time.After(patience):
		c.t.Fatal("nothing received")
		return received{}
	}
}

// ended waits for the end of the connection and gives the reason of the server's DISCONNECT.
func (c *client) ended() mqtt.Reason {
	c.t.Helper()
	select {
	case <-c.Done():
	case <-time.After(patience):
		c.t.Fatal("still connected")
	}
	var refusal *mqtt.ReasonError
	if errors.As(c.Err(), &refusal) {
		return refusal.Reason
	}
	return mqtt.Success
}

var versions = []mqtt.Version{mqtt.V311, mqtt.V5}
