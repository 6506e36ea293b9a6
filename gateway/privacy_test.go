package gateway

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/gateway/coapfront"
	"fieldgate/protocol/coap"
	"fieldgate/protocol/mqtt"
)

// cars: whoever lacks the scope cars.exact sees neither driver nor plate, and roughly where and when.
const cars = `
asyncapi: 3.0.0
info: {title: Cars, version: %s}
x-fieldgate: {principal: {as: carId}}
servers: {fleet: {host: 'fleet.example', protocol: mqtt, security: [{type: userPassword}]}}
channels:
  position:
    address: 'cars/{carId}/position'
    parameters: {carId: {}}
    messages: {position: {payload: {type: object, properties: {ts: {type: string}, lat: {type: number}, plate: {type: string}, driver: {properties: {name: {}, shift: {}}}}}}}
operations:
  report:
    action: receive
    channel: {$ref: '#/channels/position'}
    bindings: {mqtt: {qos: 1, retain: true}}
    x-fieldgate: {on-invalid: shadow}
    x-fieldgate-bindings: {http: {path: '/cars/{carId}/position'}}
  watch:
    action: send
    channel: {$ref: '#/channels/position'}
    bindings: {mqtt: {qos: 1}}
    x-fieldgate:
      access: [app]
      policies: [%s]
    x-fieldgate-bindings: {http: {path: '/cars/{carId}/position'}, coap: {path: '/cars/{carId}/position'}}
`

const carsPrivacy = `{privacy: {except: {scopes: [cars.exact]}, remove: [driver/name], mask: [plate], coarsen: {lat: 0.1, ts: 1h}}}`

func carsContract(t *testing.T, version, policies string) *fieldgate.Contract {
	t.Helper()
	k, diagnostics, err := contract.Compile("cars.yaml", fmt.Appendf(nil, cars, version, policies))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range diagnostics {
		t.Error(d)
	}
	return k
}

type garage struct {
	*running
	control *plane
	tokens  map[string]string
	hashes  map[string][]fieldgate.CredentialHash
	coap    *coap.UDP
}

func openGarage(t *testing.T) *garage {
	b := openBus(t)
	p := &plane{}
	p.publish(t, carsContract(t, "1.0.0", carsPrivacy))
	g := &garage{control: p, tokens: make(map[string]string), hashes: make(map[string][]fieldgate.CredentialHash)}
	for id, scopes := range map[string][]string{"c1": nil, "map": nil, "police": {"cars.exact"}} {
		g.tokens[id], g.hashes[id] = newToken(t)
		g.principal(t, id, scopes...)
	}
	p.open(t, b)
	t.Cleanup(p.close)
	g.running = run(t, t.TempDir(), b)
	g.get("/cars/c1/position", g.tokens["police"], 204, "")

	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if g.coap, err = coap.NewUDP(conn.(*net.UDPConn), coap.Config{}, 0, nil, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.coap.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return g
}

func (g *garage) principal(t *testing.T, id string, scopes ...string) {
	t.Helper()
	kind := fieldgate.PrincipalApp
	if id == "c1" {
		kind = fieldgate.PrincipalDevice
	}
	g.control.change(t, fieldgate.DirectoryChange{Kind: kind, ID: id, Scopes: scopes, Credentials: g.hashes[id]})
}

func (g *garage) connect(who, client string, o mqtt.ClientOptions) *mqtt.Client {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.Addresses()["mqtt"])
	if err != nil {
		g.t.Fatal(err)
	}
	o.ClientID, o.Password = client, g.tokens[who]
	c, err := mqtt.Dial(g.t.Context(), conn, o)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return c
}

// hear subscribes over a protocol and gives what is heard.
func (g *garage) hear(protocol, who string) <-chan string {
	g.t.Helper()
	heard := make(chan string, 100)
	fail := func(err error) {
		if err != nil {
			g.t.Fatal(protocol, who, err)
		}
	}
	path := "/cars/c1/position"
	switch protocol {
	case "mqtt", "mqtt-shared", "mqtt-0":
		client := g.connect(who, protocol+who, mqtt.ClientOptions{Receive: func(p *mqtt.Publish) { heard <- string(p.Payload) }})
		filter := mqtt.Filter{Filter: []byte("cars/+/position"), QoS: 1}
		if protocol == "mqtt-shared" {
			filter.Filter = []byte("$share/" + who + "/cars/+/position")
		}
		if protocol == "mqtt-0" {
			filter.QoS = 0
		}
		if reasons, err := client.Subscribe(g.t.Context(), filter); err != nil || reasons[0].Failed() {
			g.t.Fatal(protocol, who, reasons, err)
		}
	case "sse":
		request, err := http.NewRequestWithContext(g.t.Context(), "GET", "http://"+g.Addresses()["http"]+path, nil)
		fail(err)
		request.Header.Set("Authorization", "Bearer "+g.tokens[who])
		request.Header.Set("Accept", "text/event-stream")
		answer, err := http.DefaultClient.Do(request)
		fail(err)
		if answer.StatusCode != 200 {
			g.t.Fatal(who, answer.Status)
		}
		go func() {
			defer answer.Body.Close()
			for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
				if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
					heard <- data
				}
			}
		}()
	case "websocket":
		conn, _, err := websocket.Dial(g.t.Context(), "ws://"+g.Addresses()["http"]+path, &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + g.tokens[who]}}})
		fail(err)
		go func() {
			defer conn.CloseNow()
			for {
				_, message, err := conn.Read(g.t.Context())
				if err != nil {
					return
				}
				heard <- string(message)
			}
		}()
	case "coap":
		address, err := netip.ParseAddrPort(g.Addresses()["coap"])
		fail(err)
		call := &coap.Call{Code: coap.GET}
		for segment := range strings.SplitSeq(path[1:], "/") {
			call.Options.AddString(coap.URIPath, segment)
		}
		call.Options.AddString(coapfront.OptionCredential, g.tokens[who])
		go g.coap.Observe(g.t.Context(), address, call, func(r *coap.Reply) bool {
			heard <- string(r.Body)
			return true
		})
	}
	return heard
}

var hearers = []string{"mqtt", "mqtt-0", "mqtt-shared", "sse", "websocket", "coap"}

// Whoever a contract shows less gets less of each message, over every protocol, retained or not, queued or not; the others get it as it
// was published. What is no JSON is for them alone. What changes of contracts and scopes counts for the next message.
func TestPrivacy(t *testing.T) {
	g := openGarage(t)
	car := g.connect("c1", "car", mqtt.ClientOptions{})
	say := func(payload string) {
		t.Helper()
		if err := car.Publish(t.Context(), &mqtt.Publish{Topic: []byte("cars/c1/position"), Payload: []byte(payload), QoS: 1, Retain: true}); err != nil {
			t.Fatal(err)
		}
	}
	message := func(hour int) (exact, rough string) {
		return fmt.Sprintf(`{"ts":"2026-11-22T%02d:41:05Z","lat":52.5163,"plate":"B-FG 1","driver":{"name":"Ann","shift":2}}`, hour),
			fmt.Sprintf(`{"ts":"2026-11-22T%02d:00:00Z","lat":52.5,"plate":"***","driver":{"shift":2}}`, hour)
	}
	want := func(what string, heard <-chan string, message string) {
		t.Helper()
		select {
		case got := <-heard:
			if got != message {
				t.Errorf("%s hears %s, want %s", what, got, message)
			}
		case <-time.After(patience):
			t.Fatalf("%s hears nothing, want %s", what, message)
		}
	}

	exact, rough := message(1)
	say(exact)
	g.get("/cars/c1/position", g.tokens["police"], 200, exact)
	g.get("/cars/c1/position", g.tokens["map"], 200, rough)

	// A client that is away, whose messages wait in the store.
	var options mqtt.ClientOptions
	options.Properties.SetNumber(mqtt.SessionExpiryInterval, 100)
	away := g.connect("map", "away", options)
	if _, err := away.Subscribe(t.Context(), mqtt.Filter{Filter: []byte("cars/+/position"), QoS: 1, RetainHandling: 2}); err != nil {
		t.Fatal(err)
	}
	away.Close()

	all, few := make(map[string]<-chan string), make(map[string]<-chan string)
	for _, protocol := range hearers {
		all[protocol], few[protocol] = g.hear(protocol, "police"), g.hear(protocol, "map")
		if protocol != "mqtt-shared" { // which gets nothing retained (MQTT 5 section 4.8.2)
			want("retained: police over "+protocol, all[protocol], exact)
			want("retained: map over "+protocol, few[protocol], rough)
		}
	}
	exact, rough = message(2)
	say(exact)
	for _, protocol := range hearers {
		want("live: police over "+protocol, all[protocol], exact)
		want("live: map over "+protocol, few[protocol], rough)
	}

	before := g.pipeline.Unprojected.Load()
	say(`{"plate": "B-FG 1"`) // which the contract lets pass, and records
	for _, protocol := range hearers {
		want("invalid: police over "+protocol, all[protocol], `{"plate": "B-FG 1"`)
	}
	// For all that see it the same way, once.
	until(t, "the message that could not be projected is not counted", func() bool { return g.pipeline.Unprojected.Load() > before })
	if failed := g.pipeline.Unprojected.Load() - before; failed != 1 {
		t.Errorf("%d messages could not be projected, want 1", failed)
	}
	g.get("/cars/c1/position", g.tokens["map"], 502, "cannot be shown")
	exact, rough = message(3)
	say(exact)
	for _, protocol := range hearers {
		want("after it: police over "+protocol, all[protocol], exact)
		want("after it: map over "+protocol, few[protocol], rough)
	}

	waiting := make(chan string, 10)
	options.Resume = true
	options.Receive = func(p *mqtt.Publish) { waiting <- string(p.Payload) }
	g.connect("map", "away", options)
	for hour := 2; hour <= 3; hour++ {
		_, rough := message(hour)
		want("map, which was away", waiting, rough)
	}

	// map and police change sides.
	g.principal(t, "map", "cars.exact")
	g.principal(t, "police")
	g.get("/cars/c1/position", g.tokens["map"], 200, exact)
	g.get("/cars/c1/position", g.tokens["police"], 200, rough)
	exact, rough = message(4)
	say(exact)
	for _, protocol := range hearers {
		want("other scopes: police over "+protocol, all[protocol], rough)
		want("other scopes: map over "+protocol, few[protocol], exact)
	}
	// Nobody is to see anything less.
	g.control.publish(t, carsContract(t, "1.0.1", ""))
	g.get("/cars/c1/position", g.tokens["police"], 200, exact)
	exact, _ = message(5)
	say(exact)
	for _, protocol := range hearers {
		want("another contract: police over "+protocol, all[protocol], exact)
	}
}

// Who is quarantined or revoked is disconnected, over every protocol that keeps a connection open. How long it takes from the control plane's
// change to the end that the client sees is printed; it is to be within 100 ms on a machine that has time.
func TestConnectionsEndWithTheirCaller(t *testing.T) {
	for _, state := range []fieldgate.PrincipalState{fieldgate.StateQuarantined, fieldgate.StateRevoked} {
		g := openGarage(t)
		ended := make(chan string, 10)
		client := g.connect("map", "watched", mqtt.ClientOptions{})
		if _, err := client.Subscribe(t.Context(), mqtt.Filter{Filter: []byte("cars/+/position")}); err != nil {
			t.Fatal(err)
		}
		go func() { <-client.Done(); ended <- "mqtt" }()
		request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+g.Addresses()["http"]+"/cars/c1/position", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+g.tokens["map"])
		request.Header.Set("Accept", "text/event-stream")
		events, err := http.DefaultClient.Do(request)
		if err != nil || events.StatusCode != 200 {
			t.Fatal(err, events)
		}
		go func() {
			defer events.Body.Close()
			bufio.NewReader(events.Body).ReadString('\n')
			ended <- "sse"
		}()
		socket, _, err := websocket.Dial(t.Context(), "ws://"+g.Addresses()["http"]+"/cars/c1/position", &websocket.DialOptions{HTTPHeader: request.Header})
		if err != nil {
			t.Fatal(err)
		}
		defer socket.CloseNow()
		go func() { socket.Read(t.Context()); ended <- "websocket" }()

		began := time.Now()
		g.control.change(t, fieldgate.DirectoryChange{Kind: fieldgate.PrincipalApp, ID: "map", State: state, Credentials: g.hashes["map"]})
		for range 3 {
			select {
			case protocol := <-ended:
				t.Logf("%v: %s ended after %v", state, protocol, time.Since(began).Round(time.Millisecond/10))
			case <-time.After(patience):
				t.Fatal("a connection goes on")
			}
		}
	}
}
