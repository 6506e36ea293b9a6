package mqttproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	messages "fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/mqtt"
	"fieldgate/test/mosquittotest"
)

// patience bounds every wait for something that has to happen; nothing depends on how long it takes.
const patience = time.Minute

var versions = []mqtt.Version{mqtt.V311, mqtt.V5}

type records struct {
	mu      sync.Mutex
	list    []fieldgate.Record
	discard bool // for benchmarks
}

func (r *records) Add(record *fieldgate.Record) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.discard {
		r.list = append(r.list, *record)
	}
	return 0
}

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

// mosquitto is a broker, which can be killed and started again at its port.
type mosquitto struct {
	*mosquittotest.Broker
	t       testing.TB
	address string
}

// newMosquitto starts a broker with further lines of configuration.
func newMosquitto(t testing.TB, lines ...string) *mosquitto {
	t.Helper()
	b := mosquittotest.Start(t, lines...)
	return &mosquitto{b, t, b.Address}
}

// dial connects to the broker itself, past the gateway.
func (m *mosquitto) dial(o mqtt.ClientOptions) *client { return dial(m.t, m.address, o) }

// gateway is a proxy on a real listener, with its pipeline.
type gateway struct {
	*Proxy
	t         testing.TB
	address   string
	records   *records
	directory *directory.Directory
	pipeline  *pipeline.Pipeline
	tokens    map[string]string
}

var schemas = json.RawMessage(`{"$defs":{
	"T":{"type":"object","additionalProperties":false,"required":["temp"],"properties":{"temp":{"type":"number","maximum":125}}}}}`)

// contracts: devices publish telemetry and raw data below d/<own id> and hear commands there; the app "dash" hears all of it and sends commands.
func contracts() []*fieldgate.Contract {
	devices := fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}}
	apps := fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalApp}}
	id := fieldgate.Parameter{Name: "id", In: fieldgate.InPath, Required: true, Bound: true}
	free := fieldgate.Parameter{Name: "id", In: fieldgate.InPath, Required: true}
	body := &fieldgate.Payload{Required: true, Media: []fieldgate.MediaType{{Type: "application/json", Schema: "#/$defs/T"}}}
	anything := &fieldgate.Payload{Media: []fieldgate.MediaType{{Type: "*/*"}}}
	operation := func(name, topic string, action fieldgate.MQTTAction, access fieldgate.Access, parameter fieldgate.Parameter, payload *fieldgate.Payload) fieldgate.Operation {
		o := fieldgate.Operation{ID: name, Access: access, Parameters: []fieldgate.Parameter{parameter}, MaxBody: 1 << 20, OnInvalid: fieldgate.InvalidReject,
			MQTT: &fieldgate.MQTTBinding{Topic: topic, Action: action, QoS: 2, Retain: true}}
		if action == fieldgate.ActionPublish {
			o.Request = payload
		}
		return o
	}
	limited := operation("limited", "d/{id}/limited", fieldgate.ActionPublish, devices, id, anything)
	limited.Limits = []fieldgate.Limit{{Count: 2, Period: time.Hour, Burst: 2, Key: fieldgate.LimitPrincipal}}
	once := operation("once", "d/{id}/once", fieldgate.ActionPublish, devices, id, anything)
	once.Policies = &fieldgate.Policies{Idempotency: &fieldgate.Idempotency{Field: "idempotency-key", TTL: time.Hour}}
	low := operation("hear-low", "d/{id}/low", fieldgate.ActionSubscribe, apps, free, nil)
	low.MQTT.QoS = 0
	brief := operation("brief", "d/{id}/brief", fieldgate.ActionPublish, devices, id, anything)
	brief.MaxExpiry = time.Minute
	return []*fieldgate.Contract{{API: "thermo", Version: "1", Kind: fieldgate.KindAsyncAPI, State: fieldgate.LifecycleActive, Schemas: schemas, Operations: []fieldgate.Operation{
		operation("telemetry", "d/{id}/telemetry", fieldgate.ActionPublish, devices, id, body),
		operation("raw", "d/{id}/raw", fieldgate.ActionPublish, devices, id, anything),
		operation("command", "d/{id}/command", fieldgate.ActionPublish, apps, free, anything),
		limited, once, brief, low,
		operation("hear-command", "d/{id}/command", fieldgate.ActionSubscribe, devices, id, nil),
		operation("hear-telemetry", "d/{id}/telemetry", fieldgate.ActionSubscribe, apps, free, nil),
		operation("hear-raw", "d/{id}/raw", fieldgate.ActionSubscribe, apps, free, nil),
		operation("hear-once", "d/{id}/once", fieldgate.ActionSubscribe, apps, free, nil),
	}}}
}

// newPipeline is a gateway that nobody can reach yet.
func newPipeline(t testing.TB) *gateway {
	t.Helper()
	g := &gateway{t: t, records: &records{}, tokens: map[string]string{}}
	var err error
	if g.directory, err = directory.Open(t.TempDir(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.directory.Close() })
	upstreams, err := upstream.NewSet(nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline = pipeline.New(pipeline.Config{Node: "n1", Directory: g.directory, Upstreams: upstreams, Broker: messages.New(), Recorder: g.records})
	g.install(contracts()...)
	for _, id := range []string{"d1", "d2"} {
		g.add(fieldgate.PrincipalDevice, id)
	}
	g.add(fieldgate.PrincipalApp, "dash")
	return g
}

func newGateway(t testing.TB, settings Settings, set ...func(*Config)) *gateway {
	t.Helper()
	g := newPipeline(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.address = listener.Addr().String()
	config := Config{Pipeline: g.pipeline, Listeners: []Listener{{Listener: listener}}, Settings: settings, Logger: slog.New(slog.DiscardHandler), ProbeInterval: time.Hour}
	for _, set := range set {
		set(&config)
	}
	if g.Proxy, err = New(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("Run did not return")
		}
		if n := g.Counters.Connections.Load(); n != 0 {
			t.Errorf("%d connections are counted after the end", n)
		}
		for _, b := range g.State().Addresses {
			if b.Open != 0 {
				t.Errorf("%s: %d devices are counted after the end", b.Address, b.Open)
			}
		}
	})
	return g
}

func (g *gateway) install(all ...*fieldgate.Contract) {
	g.t.Helper()
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: all}, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	g.pipeline.Install(program)
}

func (g *gateway) change(c fieldgate.DirectoryChange) {
	g.t.Helper()
	c.Sequence = g.directory.Sequence() + 1
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
	user           string
	response       string
	ids            string
}

func tryDial(t testing.TB, address string, o mqtt.ClientOptions) (*client, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &client{t: t, received: make(chan received, 10_000)}
	o.Receive = func(p *mqtt.Publish) {
		r := received{string(p.Topic), string(p.Payload), p.QoS, p.Retain, "", string(p.Properties.Text(mqtt.ResponseTopic)), ""}
		for _, pair := range p.Properties.User {
			r.user += fmt.Sprintf("%s=%s ", pair.Key, pair.Value)
		}
		if len(p.Properties.SubscriptionIDs) > 0 {
			r.ids = fmt.Sprint(p.Properties.SubscriptionIDs)
		}
		c.received <- r
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if c.Client, err = mqtt.Dial(ctx, conn, o); err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	return c, nil
}

func dial(t testing.TB, address string, o mqtt.ClientOptions) *client {
	t.Helper()
	c, err := tryDial(t, address, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (g *gateway) options(principal string, o mqtt.ClientOptions) mqtt.ClientOptions {
	if o.Password == "" {
		o.Password = g.tokens[principal]
	}
	if o.ClientID == "" {
		o.ClientID = "c-" + principal
	}
	return o
}

func (g *gateway) connect(principal string, o mqtt.ClientOptions) *client {
	g.t.Helper()
	return dial(g.t, g.address, g.options(principal, o))
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

// writeFile makes a file with a text and gives its path.
func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never came about that ", what)
		}
	}
}

// scripted is one end of a connection whose packets a test writes itself.
type scripted struct {
	t  testing.TB
	in packets
}

func newScripted(t testing.TB, conn net.Conn) *scripted {
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &scripted{t, packets{conn: conn, limit: 1 << 20}}
}

func (s *scripted) write(b []byte) {
	s.t.Helper()
	if _, err := s.in.conn.Write(b); err != nil {
		s.t.Fatal(err)
	}
}

// packet gives the body of the next packet but PINGREQ, which must be of the kind.
func (s *scripted) packet(kind mqtt.PacketType) []byte {
	s.t.Helper()
	for {
		h, body, whole, err := s.in.next()
		switch {
		case err != nil:
			s.t.Fatal(err)
		case whole == nil:
			if err := s.in.receive(); err != nil {
				s.t.Fatalf("waiting for %s: %v", kind, err)
			}
		case h.Type == mqtt.PINGREQ:
		case h.Type != kind:
			s.t.Fatalf("%s %x, want %s", h.Type, body, kind)
		default:
			return body
		}
	}
}

func (s *scripted) expect(kind mqtt.PacketType, want string) {
	s.t.Helper()
	if got := fmt.Sprintf("%x", s.packet(kind)); got != want {
		s.t.Fatalf("%s %s, want %s", kind, got, want)
	}
}

// raw connects a principal with packets of its own.
func (g *gateway) raw(principal string, connect mqtt.Connect) *scripted {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	s := newScripted(g.t, conn)
	if connect.Version == 0 {
		connect.Version = mqtt.V5
	}
	connect.ClientID, connect.Username, connect.Password = []byte("c-"+principal), []byte(principal), []byte(g.tokens[principal])
	s.write(connect.Append(nil))
	return s
}

// scriptedBroker is a broker whose packets a test writes itself. Probes are answered.
type scriptedBroker struct {
	address string
	devices chan *scripted
}

// newScriptedBroker answers a CONNECT as connack says; nil: accepts it.
func newScriptedBroker(t testing.TB, connack func(*mqtt.Connect) *mqtt.Connack) *scriptedBroker {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	b := &scriptedBroker{listener.Addr().String(), make(chan *scripted, 10)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			in := packets{conn: conn, limit: 1 << 20}
			var connect mqtt.Connect
			for {
				if err := in.receive(); err != nil {
					break
				}
				if h, body, whole, _ := in.next(); whole != nil {
					if h.Type != mqtt.CONNECT || connect.Decode(body) != nil {
						t.Error("no CONNECT")
					}
					break
				}
			}
			ack := &mqtt.Connack{}
			if connack != nil {
				ack = connack(&connect)
			}
			conn.Write(ack.Append(nil, connect.Version))
			if ack.Reason != mqtt.Success {
				conn.Close()
				continue
			}
			if strings.HasPrefix(string(connect.ClientID), "fg-probe-") {
				conn.Write([]byte{byte(mqtt.PINGRESP) << 4, 0})
				continue
			}
			s := newScripted(t, conn)
			s.in = in
			b.devices <- s
		}
	}()
	return b
}
