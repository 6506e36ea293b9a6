package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	paho311 "github.com/eclipse/paho.mqtt.golang"
)

// clientsContract has a channel each way, one for states that are retained, and an operation that answers.
const clientsContract = `asyncapi: 3.0.0
info: {title: Clients, version: 1.0.0}
x-fieldgate: {api: clients, principal: {from: [token, mqtt.username], as: deviceId}}
channels:
  up: {address: 'c/{deviceId}/up', parameters: {deviceId: {$ref: '#/components/parameters/deviceId'}}, messages: {any: {contentType: application/octet-stream}}}
  down: {address: 'c/{deviceId}/down', parameters: {deviceId: {$ref: '#/components/parameters/deviceId'}}, messages: {any: {contentType: application/octet-stream}}}
  status: {address: 'c/{deviceId}/status', parameters: {deviceId: {$ref: '#/components/parameters/deviceId'}}, messages: {any: {contentType: application/octet-stream}}}
operations:
  report: {action: receive, channel: {$ref: '#/channels/up'}, bindings: {mqtt: {qos: 2}}, x-fieldgate: {access: [device], policies: [{max-body: 512KiB}]}}
  hear: {action: send, channel: {$ref: '#/channels/up'}, bindings: {mqtt: {qos: 2}}, x-fieldgate: {access: [app]}}
  tell: {action: receive, channel: {$ref: '#/channels/down'}, bindings: {mqtt: {qos: 2}}, x-fieldgate: {access: [app]}}
  obey: {action: send, channel: {$ref: '#/channels/down'}, bindings: {mqtt: {qos: 2}}, x-fieldgate: {access: [device]}}
  state: {action: receive, channel: {$ref: '#/channels/status'}, bindings: {mqtt: {qos: 1, retain: true}}, x-fieldgate: {access: [device]}}
  watch: {action: send, channel: {$ref: '#/channels/status'}, bindings: {mqtt: {qos: 1}}, x-fieldgate: {access: [app]}}
components:
  parameters: {deviceId: {x-fieldgate-bind: principal}}
  securitySchemes: {token: {type: userPassword}}
`

const askContract = `openapi: 3.1.0
info: {title: Ask, version: 1.0.0}
security: [{token: []}]
paths:
  /ask/{deviceId}:
    parameters: [{name: deviceId, in: path, required: true, x-fieldgate-bind: principal, schema: {type: string}}]
    post:
      operationId: ask
      x-fieldgate-bindings: {mqtt: {topic: 'ask/{deviceId}', action: publish, qos: 1}}
      requestBody: {required: true, content: {application/json: {schema: {type: object}}}}
      responses: {'200': {description: ok, content: {application/json: {example: {number: 4711}}}}}
components: {securitySchemes: {token: {type: http, scheme: bearer}}}
`

// pagesContract has the gateway serve pages.
const pagesContract = `fieldgate: pass-through
info: {title: Pages, version: 1.0.0}
access: anonymous
http: [{prefix: /page, upstream: pages}]
`

// heard is a message that a client has received.
type heard struct {
	topic, payload, status, correlation string
	qos                                 byte
	retained                            bool
}

// message is one that a client publishes.
type message struct {
	topic, payload, answer string // answer: the response topic
	qos                    byte
	retain                 bool
}

// peer is a connection of a client library.
type peer struct {
	publish   func(m message) (reason string, err error)
	subscribe func(filter string, qos byte) error
	leave     func()
	cut       func() // without a DISCONNECT
	received  chan heard
}

// dialer connects a client library.
type dialer func(ctx context.Context, address, client, user, secret string, persistent bool, will *message) (*peer, error)

// clientTest is one client library with a device and an app of its own.
type clientTest struct {
	*testing.T
	n                       *node
	dial                    dialer
	reasons                 bool // it speaks MQTT 5
	device, token, app, key string
}

func (c *clientTest) connect(client, user, secret string, persistent bool, will *message) *peer {
	c.Helper()
	p, err := c.dial(c.Context(), c.n.mqtt, client, user, secret, persistent, will)
	if err != nil {
		c.Fatalf("%s as %s: %v", user, client, err)
	}
	return p
}

func (c *clientTest) subscribe(p *peer, filter string, qos byte) {
	c.Helper()
	if err := p.subscribe(filter, qos); err != nil {
		c.Fatalf("subscribe to %s: %v", filter, err)
	}
}

func (c *clientTest) publish(p *peer, m message) {
	c.Helper()
	if reason, err := p.publish(m); err != nil {
		c.Fatalf("publish to %s: %v %s", m.topic, err, reason)
	}
}

func (c *clientTest) hears(p *peer, want heard) heard {
	c.Helper()
	select {
	case got := <-p.received:
		if got.topic != want.topic || got.payload != want.payload || got.qos != want.qos || got.retained != want.retained {
			c.Fatalf("heard %.200v, not %.200v", got, want)
		}
		return got
	case <-time.After(patience):
		c.Fatalf("did not hear %.200v", want)
	}
	return heard{}
}

func (c *clientTest) topic(word string) string { return "c/" + c.device + "/" + word }

// scenario is what each library does, up to the kill of the broker.
func (c *clientTest) scenario() {
	device := c.connect(c.device, c.device, c.token, false, nil)
	app := c.connect("", c.app, c.key, false, nil)
	c.subscribe(app, c.topic("up"), 2)
	c.subscribe(device, c.topic("down"), 2)
	for qos := range byte(3) {
		for _, way := range []struct {
			from, to *peer
			word     string
		}{{device, app, "up"}, {app, device, "down"}} {
			text := fmt.Sprint(way.word, " at ", qos)
			c.publish(way.from, message{topic: c.topic(way.word), payload: text, qos: qos})
			c.hears(way.to, heard{topic: c.topic(way.word), payload: text, qos: qos})
		}
	}
	large := strings.Repeat("0123456789abcdef", 20_000)
	c.publish(device, message{topic: c.topic("up"), payload: large, qos: 1})
	c.hears(app, heard{topic: c.topic("up"), payload: large, qos: 1})

	// A retained message waits; the will of a device that is cut off takes its place.
	c.publish(device, message{topic: c.topic("status"), payload: "online", qos: 1, retain: true})
	c.subscribe(app, c.topic("status"), 1)
	c.hears(app, heard{topic: c.topic("status"), payload: "online", qos: 1, retained: true})
	doomed := c.connect(c.device+"-doomed", c.device, c.token, false, &message{topic: c.topic("status"), payload: "offline", qos: 1, retain: true})
	doomed.cut()
	c.hears(app, heard{topic: c.topic("status"), payload: "offline", qos: 1})
	app.leave()

	// Of a shared subscription each message goes to one.
	var members []*peer
	for i := range 2 {
		members = append(members, c.connect(fmt.Sprint(c.app, "-", i), c.app, c.key, false, nil))
		c.subscribe(members[i], "$share/group/"+c.topic("up"), 1)
	}
	const shared = 20
	for i := range shared {
		c.publish(device, message{topic: c.topic("up"), payload: fmt.Sprint(i), qos: 1})
	}
	once := map[string]int{}
	for range shared {
		select {
		case got := <-members[0].received:
			once[got.payload]++
		case got := <-members[1].received:
			once[got.payload]++
		case <-time.After(patience):
			c.Fatalf("of %d messages the group heard %d", shared, len(once))
		}
	}
	if len(once) != shared {
		c.Errorf("the group heard %v", once)
	}
	for _, member := range members {
		member.leave()
	}

	// Another device's topic is refused; version 5 says why, 3.1.1 has no word for it.
	reason, err := device.publish(message{topic: "c/other/up", payload: "x", qos: 1})
	if c.reasons != (err != nil) || c.reasons && !strings.Contains(reason, "its own id") {
		c.Errorf("publish to another's topic: %q, %v", reason, err)
	}
	if c.reasons {
		c.subscribe(device, "fg/"+c.device+"/answers", 1)
		c.publish(device, message{topic: "ask/" + c.device, payload: `{}`, answer: "fg/" + c.device + "/answers", qos: 1})
		select {
		case got := <-device.received:
			if got.status != "200" || got.correlation != "again" || !strings.Contains(got.payload, "4711") {
				c.Errorf("the answer is %+v", got)
			}
		case <-time.After(patience):
			c.Fatal("no answer")
		}
	}
	device.leave()

	persistent := c.connect(c.device+"-kept", c.device, c.token, true, nil)
	c.subscribe(persistent, c.topic("down"), 1)
	persistent.leave()
	app = c.connect("", c.app, c.key, false, nil)
	c.publish(app, message{topic: c.topic("down"), payload: "while away", qos: 1})
	app.leave()
}

// resumed is what each library does when the broker was killed and is back.
func (c *clientTest) resumed() {
	persistent := c.connect(c.device+"-kept", c.device, c.token, true, nil)
	c.hears(persistent, heard{topic: c.topic("down"), payload: "while away", qos: 1})
	persistent.leave()
}

// refused is what each library sees when its device is in quarantine.
func (c *clientTest) refused() {
	wait(c, "the device to be refused", func() bool {
		p, err := c.dial(c.Context(), c.n.mqtt, c.device+"-kept", c.device, c.token, true, nil)
		if err == nil {
			p.leave()
			return false
		}
		if text := strings.ToLower(err.Error()); !strings.Contains(text, "not authorized") && !strings.Contains(text, "release the device") { // the reason, where there is one
			c.Fatal(err)
		}
		return true
	})
}

// script runs the same steps with the npm package, in Node or, with a page, in Chromium, where it speaks over WebSocket.
func (c *clientTest) script(step string, version int, page string) {
	c.Helper()
	runner, address := "clients/node.mjs", "mqtt://"+c.n.mqtt
	if page != "" {
		runner, address = "clients/chromium.mjs", "ws://"+c.n.http+"/mqtt"
	}
	settings, err := json.Marshal(map[string]any{"url": address, "page": page, "version": version, "device": c.device, "token": c.token, "app": c.app, "key": c.key})
	if err != nil {
		c.Fatal(err)
	}
	mustTool(c, "node", runner, step, string(settings))
}

// servePage serves a page that has the npm package and the scenario.
func servePage(t *testing.T) (address string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /page/{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<!doctype html><title>A page</title>") })
	for name, folder := range map[string]string{"mqtt.esm.js": "clients/node_modules/mqtt/dist/", "scenario.mjs": "clients/"} {
		mux.HandleFunc("GET /page/"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, folder+name) })
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// mosquitto runs one of Debian's commands.
func (c *clientTest) mosquitto(command, user, secret string, more ...string) (string, error) {
	host, port, _ := net.SplitHostPort(c.n.mqtt)
	return tool(c, "mosquitto_"+command, append([]string{"-V", "mqttv5", "-h", host, "-p", port, "-u", user, "-P", secret}, more...)...)
}

// Client libraries that people use do all that a contract lets them do, through the built binary: three qualities of service both ways, retained
// messages, wills, large payloads, shared subscriptions, requests, refusals, sessions that outlive a kill of the broker, and quarantine.
func TestMQTTClients(t *testing.T) {
	t.Parallel() // it mostly waits
	if _, err := os.Stat("clients/node_modules/mqtt"); err != nil {
		t.Fatal(`the npm package is missing: run "make test-clients"`)
	}
	pages := servePage(t)
	n := newNode(t, map[string]string{"pages": pages})
	own := "http://" + n.http
	n.extend("mqtt: {websocket-origins: ['%s', '%s']}", own, pages)
	n.start()
	n.run("api", "publish", writeDocument(t, "clients.yaml", clientsContract), writeDocument(t, "ask.yaml", askContract), writeDocument(t, "pages.yaml", pagesContract))
	type library struct {
		name                       string
		dial                       dialer
		reasons                    bool
		scenario, resumed, refused func(c *clientTest)
	}
	ours := func(name string, reasons bool, dial dialer) library {
		return library{name, dial, reasons, (*clientTest).scenario, (*clientTest).resumed, (*clientTest).refused}
	}
	npm := func(name string, version int, page string) library {
		step := func(step string) func(c *clientTest) { return func(c *clientTest) { c.script(step, version, page) } }
		return library{name: name, scenario: step("main"), resumed: step("resumed"), refused: step("refused")}
	}
	libraries := []library{ours("paho5", true, dialPaho5), ours("paho311", false, dialPaho311), npm("npm5", 5, ""), npm("npm311", 4, ""),
		npm("chromium5", 5, own+"/page/"), npm("chromium311", 4, pages+"/page/"), // a page that the gateway serves, and one of another origin
		{name: "mosquitto", scenario: (*clientTest).mosquittoScenario, resumed: (*clientTest).mosquittoResumed, refused: (*clientTest).mosquittoRefused}}
	tests := make([]*clientTest, len(libraries))
	for i, l := range libraries {
		tests[i] = &clientTest{n: n, dial: l.dial, reasons: l.reasons, device: "d-" + l.name, app: "a-" + l.name}
		tests[i].token, tests[i].key = n.run("device", "add", tests[i].device, "--quiet"), n.run("app", "add", tests[i].app, "--quiet")
	}
	each := func(name string, step func(l library, c *clientTest)) {
		t.Run(name, func(t *testing.T) {
			for i, l := range libraries {
				t.Run(l.name, func(t *testing.T) {
					t.Parallel()
					c := *tests[i]
					c.T = t
					step(l, &c)
				})
			}
		})
		if t.Failed() {
			t.FailNow()
		}
	}
	each("scenario", func(l library, c *clientTest) { l.scenario(c) })
	stranger := *tests[0]
	stranger.T = t
	stranger.script("strange", 5, strings.Replace(pages, "127.0.0.1", "localhost", 1)+"/page/") // which is an origin that may not
	n.kill()
	n.start()
	each("resumed", func(l library, c *clientTest) { l.resumed(c) })
	for _, c := range tests {
		n.run("device", "quarantine", c.device)
	}
	each("refused", func(l library, c *clientTest) { l.refused(c) })
}

// mosquittoScenario is what Debian's commands can do of the scenario, besides what TestChannels has them do.
func (c *clientTest) mosquittoScenario() {
	host, port, _ := net.SplitHostPort(c.n.mqtt)
	must := func(command, user, secret string, more ...string) string {
		c.Helper()
		output, err := c.mosquitto(command, user, secret, more...)
		if err != nil {
			c.Fatalf("mosquitto_%s %v: %v\n%s", command, more, err, output)
		}
		return output
	}
	ear := listen(c, "mosquitto_sub", "-V", "mqttv311", "-d", "-h", host, "-p", port, "-u", c.app, "-P", c.key, "-q", "2", "-t", c.topic("up"))
	ear.hears("Subscribed")
	for qos := range 3 {
		must("pub", c.device, c.token, "-q", fmt.Sprint(qos), "-t", c.topic("up"), "-m", fmt.Sprint("at ", qos))
		ear.hears(fmt.Sprint("at ", qos))
	}
	file := filepath.Join(c.TempDir(), "large")
	if err := os.WriteFile(file, bytes.Repeat([]byte("0123456789abcdef"), 20_000), 0o600); err != nil {
		c.Fatal(err)
	}
	must("pub", c.device, c.token, "-q", "1", "-t", c.topic("up"), "-f", file)
	ear.hears("... (320000 bytes)")
	if output, _ := c.mosquitto("pub", c.device, c.token, "-d", "-q", "1", "-t", "c/other/up", "-m", "x"); !strings.Contains(output, "RC:135") {
		c.Errorf("publish to another's topic:\n%s", output)
	}
	if output := must("rr", c.device, c.token, "-q", "1", "-t", "ask/"+c.device, "-e", "fg/"+c.device+"/answers", "-m", "{}", "-W", "20", "-F", "%P %p"); !strings.Contains(output, "status:200") || !strings.Contains(output, "4711") {
		c.Errorf("the answer: %s", output)
	}
	kept := []string{"-i", c.device + "-kept", "-c", "-x", "3600", "-q", "1", "-t", c.topic("down")}
	must("sub", c.device, c.token, append(kept, "-E")...)
	must("pub", c.app, c.key, "-q", "1", "-t", c.topic("down"), "-m", "while away")
}

func (c *clientTest) mosquittoResumed() {
	output, err := c.mosquitto("sub", c.device, c.token, "-i", c.device+"-kept", "-c", "-x", "3600", "-q", "1", "-t", c.topic("down"), "-C", "1", "-W", "20")
	if err != nil || output != "while away\n" {
		c.Errorf("%v %q", err, output)
	}
}

func (c *clientTest) mosquittoRefused() {
	wait(c, "the device to be refused", func() bool {
		output, err := c.mosquitto("sub", c.device, c.token, "-i", c.device+"-kept", "-c", "-x", "3600", "-q", "1", "-t", c.topic("down"), "-E")
		return err != nil && strings.Contains(strings.ToLower(output), "not authorized")
	})
}

// dialPaho5 connects the Go client for version 5.
func dialPaho5(ctx context.Context, address, id, user, secret string, persistent bool, will *message) (*peer, error) {
	link, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	received := make(chan heard, 100)
	client := paho.NewClient(paho.ClientConfig{Conn: link, PacketTimeout: patience, OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
		received <- heard{topic: r.Packet.Topic, payload: string(r.Packet.Payload), qos: r.Packet.QoS, retained: r.Packet.Retain,
			status: r.Packet.Properties.User.Get("status"), correlation: string(r.Packet.Properties.CorrelationData)}
		return true, nil
	}}})
	connect := &paho.Connect{ClientID: id, Username: user, UsernameFlag: true, Password: []byte(secret), PasswordFlag: true, CleanStart: !persistent, KeepAlive: 60}
	if persistent {
		expiry := uint32(3600)
		connect.Properties = &paho.ConnectProperties{SessionExpiryInterval: &expiry}
	}
	if will != nil {
		connect.WillMessage = &paho.WillMessage{Topic: will.topic, Payload: []byte(will.payload), QoS: will.qos, Retain: will.retain}
	}
	if _, err := client.Connect(ctx, connect); err != nil {
		link.Close()
		return nil, err
	}
	return &peer{received: received,
		publish: func(m message) (reason string, err error) {
			p := &paho.Publish{Topic: m.topic, Payload: []byte(m.payload), QoS: m.qos, Retain: m.retain, Properties: &paho.PublishProperties{}}
			if m.answer != "" {
				p.Properties = &paho.PublishProperties{ContentType: "application/json", ResponseTopic: m.answer, CorrelationData: []byte("again")}
			}
			answer, err := client.Publish(ctx, p)
			if answer != nil && answer.Properties != nil {
				reason = answer.Properties.ReasonString
			}
			return reason, err
		},
		subscribe: func(filter string, qos byte) error {
			_, err := client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}})
			return err
		},
		leave: func() { client.Disconnect(&paho.Disconnect{}) },
		cut:   func() { link.Close() },
	}, nil
}

// dialPaho311 connects the Go client for version 3.1.1.
func dialPaho311(_ context.Context, address, id, user, secret string, persistent bool, will *message) (*peer, error) {
	received := make(chan heard, 100)
	var link net.Conn
	options := paho311.NewClientOptions().SetClientID(id).SetUsername(user).SetPassword(secret).SetProtocolVersion(4).SetCleanSession(!persistent).
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(patience).AddBroker("tcp://" + address).
		SetCustomOpenConnectionFn(func(*url.URL, paho311.ClientOptions) (net.Conn, error) {
			var err error
			link, err = net.Dial("tcp", address)
			return link, err
		}).
		SetDefaultPublishHandler(func(_ paho311.Client, m paho311.Message) {
			received <- heard{topic: m.Topic(), payload: string(m.Payload()), qos: m.Qos(), retained: m.Retained()}
		})
	if will != nil {
		options.SetBinaryWill(will.topic, []byte(will.payload), will.qos, will.retain)
	}
	client := paho311.NewClient(options)
	done := func(token paho311.Token) error {
		if !token.WaitTimeout(patience) {
			return errors.New("no acknowledgement")
		}
		return token.Error()
	}
	if err := done(client.Connect()); err != nil {
		return nil, err
	}
	return &peer{received: received,
		publish:   func(m message) (string, error) { return "", done(client.Publish(m.topic, m.qos, m.retain, m.payload)) },
		subscribe: func(filter string, qos byte) error { return done(client.Subscribe(filter, qos, nil)) },
		leave:     func() { client.Disconnect(100) },
		cut:       func() { link.Close() },
	}, nil
}
