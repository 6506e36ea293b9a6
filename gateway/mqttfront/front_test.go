package mqttfront

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/protocol/mqtt"
)

func TestConnectIsRefusedWithTheReason(t *testing.T) {
	g := newGateway(t, nil)
	mistyped := g.tokens["d1"][:len(g.tokens["d1"])-1] + "_"
	unknown, err := fieldgate.NewToken(fieldgate.PrefixDevice)
	if err != nil {
		t.Fatal(err)
	}
	g.add(fieldgate.PrincipalDevice, "gone")
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "gone", State: fieldgate.StateRevoked})
	g.add(fieldgate.PrincipalDevice, "sick")
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "sick", State: fieldgate.StateQuarantined,
		Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(g.tokens["sick"]))}})
	foreignWill := publish("d/d2/status", "gone", 0)
	for _, test := range []struct {
		name    string
		options mqtt.ClientOptions
		want    mqtt.Reason
	}{
		{"mistyped token", mqtt.ClientOptions{Password: mistyped}, mqtt.BadUserNameOrPassword},
		{"unknown token", mqtt.ClientOptions{Password: unknown}, mqtt.BadUserNameOrPassword},
		{"revoked", mqtt.ClientOptions{Password: g.tokens["gone"]}, mqtt.BadUserNameOrPassword},
		{"another's user name", mqtt.ClientOptions{Username: "d2", Password: g.tokens["d1"]}, mqtt.BadUserNameOrPassword},
		{"quarantined", mqtt.ClientOptions{Password: g.tokens["sick"]}, mqtt.NotAuthorized},
		{"will on another's topic", mqtt.ClientOptions{Password: g.tokens["d1"], Will: &foreignWill}, mqtt.NotAuthorized},
	} {
		for _, v := range versions {
			test.options.Version = v
			_, err := g.dial("", test.options)
			var refusal *mqtt.ReasonError
			if !errors.As(err, &refusal) || refusal.Packet != mqtt.CONNACK || refusal.Reason != test.want {
				t.Errorf("%s, %v: %v, want %v", test.name, v, err, test.want)
			}
		}
	}
	for _, v := range versions {
		g.connect("d1", mqtt.ClientOptions{Version: v, Username: "d1"}).Disconnect(0)
	}
	waitFor(t, "8 records of failed logins", func() bool {
		return g.records.count(func(r *fieldgate.Record) bool { return r.Findings&fieldgate.FindingUnauthenticated != 0 }) == 8
	})
}

// A deny is a deny at every QoS and version, with aliases, and nothing refused reaches anybody.
func TestRefusedMessagesReachNobody(t *testing.T) {
	g := newGateway(t, nil)
	ear := g.connect("dash", mqtt.ClientOptions{})
	for _, filter := range []string{"d/+/telemetry", "d/+/raw", "d/+/status", "d/+/low", "d/+/store"} {
		ear.hear(filter, 2)
	}
	retained := publish("d/d1/telemetry", `{"temp":1}`, 1)
	retained.Retain = true
	format := publish("d/d1/raw", "\xff", 1)
	format.Properties.SetNumber(mqtt.PayloadFormatIndicator, 1)
	tests := []struct {
		name string
		p    mqtt.Publish
		want mqtt.Reason
	}{
		{"unknown topic", publish("nobody/knows", "x", 1), mqtt.TopicNameInvalid},
		{"$-topic", publish("$SYS/x", "x", 1), mqtt.TopicNameInvalid},
		{"another device's topic", publish("d/d2/telemetry", `{"temp":1}`, 1), mqtt.NotAuthorized},
		{"not for devices", publish("d/d1/command", "x", 1), mqtt.NotAuthorized},
		{"payload breaks the schema", publish("d/d1/telemetry", `{"temp":900}`, 1), mqtt.PayloadFormatInvalid},
		{"payload is no JSON", publish("d/d1/telemetry", `{"temp"`, 1), mqtt.PayloadFormatInvalid},
		{"retain not allowed", retained, mqtt.NotAuthorized},
		{"QoS not allowed", publish("d/d1/low", "x", 1), mqtt.NotAuthorized},
		{"payload format", format, mqtt.PayloadFormatInvalid},
		{"upstream operation, bad payload", publish("d/d1/store", `{"temp":900}`, 1), mqtt.PayloadFormatInvalid},
	}
	for _, v := range versions {
		c := g.connect("d1", mqtt.ClientOptions{Version: v})
		for _, test := range tests {
			for qos := range byte(3) {
				if test.name == "payload format" && v == mqtt.V311 || test.name == "QoS not allowed" && qos == 0 {
					continue
				}
				test.p.QoS = qos
				want := test.want
				if v == mqtt.V311 || qos == 0 {
					want = mqtt.Success // acknowledged and dropped: there is no word for more
				}
				if got := c.send(test.p); got != want {
					t.Errorf("%s, %v, QoS %d: %v, want %v", test.name, v, qos, got, want)
				}
			}
		}
		if v == mqtt.V5 {
			alias := publish("d/d2/raw", "x", 1)
			alias.Properties.SetNumber(mqtt.TopicAlias, 1)
			if got := c.send(alias); got != mqtt.NotAuthorized {
				t.Errorf("setting an alias: %v", got)
			}
			alias.Topic = nil
			conn := rawDial(t, g, "d1", "raw")
			alias.Topic, alias.PacketID = []byte("d/d2/raw"), 1
			conn.write(alias.Append(nil, mqtt.V5))
			conn.expect(mqtt.PUBACK, "0001 87")
			alias.Topic, alias.PacketID = nil, 2
			conn.write(alias.Append(nil, mqtt.V5))
			conn.expect(mqtt.PUBACK, "0002 87")
		}
		if got := c.send(publish("d/d1/raw", "the only one", 1)); got != mqtt.Success {
			t.Fatal(got)
		}
		if r := ear.next(); r.payload != "the only one" {
			t.Fatalf("heard %+v", r)
		}
	}
	waitFor(t, "records of all attempts on another's topic", func() bool {
		return g.records.count(func(r *fieldgate.Record) bool { return r.Findings&fieldgate.FindingNotOwner != 0 }) >= 8
	})
}

func TestRateLimit(t *testing.T) {
	g := newGateway(t, nil)
	c := g.connect("d1", mqtt.ClientOptions{})
	var got []mqtt.Reason
	for range 3 {
		got = append(got, c.send(publish("d/d1/limited", "x", 1)))
	}
	if want := []mqtt.Reason{mqtt.Success, mqtt.Success, mqtt.QuotaExceeded}; !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
}

func TestSubscriptionsStayWithinTheContract(t *testing.T) {
	g := newGateway(t, nil)
	for _, test := range []struct {
		principal, filter string
		want              mqtt.Reason
	}{
		{"d1", "d/d1/command", mqtt.GrantedQoS1},
		{"d1", "$share/g/d/d1/command", mqtt.GrantedQoS1},
		{"d1", "d/d2/command", mqtt.NotAuthorized},
		{"d1", "d/+/command", mqtt.NotAuthorized},
		{"d1", "$share/g/d/+/command", mqtt.NotAuthorized},
		{"d1", "d/d1/telemetry", mqtt.NotAuthorized},
		{"d1", "#", mqtt.NotAuthorized},
		{"d1", "$SYS/#", mqtt.NotAuthorized},
		{"d1", "fg/d1/replies", mqtt.GrantedQoS1},
		{"d1", "fg/d2/replies", mqtt.NotAuthorized},
		{"dash", "d/+/telemetry", mqtt.GrantedQoS1},
		{"dash", "d/d1/telemetry", mqtt.GrantedQoS1},
		{"dash", "d/#", mqtt.NotAuthorized},
		{"dash", "#", mqtt.NotAuthorized},
		{"dash", "+/+/telemetry", mqtt.NotAuthorized},
	} {
		c := g.connect(test.principal, mqtt.ClientOptions{})
		if got := c.subscribe(mqtt.Filter{Filter: []byte(test.filter), QoS: 1}); got[0] != test.want {
			t.Errorf("%s subscribes %s: %v, want %v", test.principal, test.filter, got, test.want)
		}
		c.Close()
		c = g.connect(test.principal, mqtt.ClientOptions{Version: mqtt.V311})
		want := test.want
		if want.Failed() {
			want = 0x80
		}
		if got := c.subscribe(mqtt.Filter{Filter: []byte(test.filter), QoS: 1}); got[0] != want {
			t.Errorf("3.1.1: %s subscribes %s: %v, want %v", test.principal, test.filter, got, want)
		}
		c.Close()
	}
}

func TestNobodyTakesOverAnothersSession(t *testing.T) {
	g := newGateway(t, nil)
	first := g.connect("d1", mqtt.ClientOptions{ClientID: "same"})
	first.hear("d/d1/command", 1)
	other := g.connect("d2", mqtt.ClientOptions{ClientID: "same"})
	app := g.connect("dash", mqtt.ClientOptions{})
	app.send(publish("d/d1/command", "on", 1))
	if r := first.next(); r.payload != "on" {
		t.Fatal("the first client lost its session")
	}
	second := g.connect("d1", mqtt.ClientOptions{ClientID: "same"})
	if reason := first.ended(); reason != mqtt.SessionTakenOver { // [MQTT-3.1.4-3]
		t.Fatalf("ended with %v", reason)
	}
	if other.Err() != nil || second.Err() != nil {
		t.Fatal("another connection was closed too")
	}
}

func TestRevocationAndQuarantineCloseExactlyThatCaller(t *testing.T) {
	g := newGateway(t, nil)
	first, second := g.connect("d1", mqtt.ClientOptions{}), g.connect("d1", mqtt.ClientOptions{ClientID: "two"})
	other := g.connect("d2", mqtt.ClientOptions{})
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "d1", State: fieldgate.StateQuarantined,
		Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(g.tokens["d1"]))}})
	for _, c := range []*client{first, second} {
		if reason := c.ended(); reason != mqtt.NotAuthorized {
			t.Fatalf("quarantine: %v", reason)
		}
	}
	if got := other.send(publish("d/d2/raw", "x", 1)); got != mqtt.Success {
		t.Fatal(got)
	}
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "d2", State: fieldgate.StateRevoked})
	if reason := other.ended(); reason != mqtt.NotAuthorized {
		t.Fatalf("revocation: %v", reason)
	}
}

func TestShutdownSaysSo(t *testing.T) {
	g := newGateway(t, nil)
	c := g.connect("d1", mqtt.ClientOptions{})
	g.stopRun()
	if reason := c.ended(); reason != mqtt.ServerShuttingDown {
		t.Fatalf("ended with %v", reason)
	}
}

func TestDeliveryOptions(t *testing.T) {
	g := newGateway(t, nil)
	device := g.connect("d1", mqtt.ClientOptions{})
	app := g.connect("dash", mqtt.ClientOptions{})
	m := publish("d/d1/raw", "one", 1)
	m.Properties.SetText(mqtt.ContentType, []byte("text/plain"))
	m.Properties.AddUser("k", "v")
	m.Retain = true
	device.send(m)

	app.subscribe(mqtt.Filter{Filter: []byte("d/d1/raw"), QoS: 1})
	if r := app.next(); !r.retain || r.payload != "one" || r.contentType != "text/plain" || r.user["k"] != "v" || r.qos != 1 {
		t.Fatalf("[MQTT-3.3.1-9] retained message: %+v", r)
	}
	app.subscribe(mqtt.Filter{Filter: []byte("d/d1/raw"), QoS: 1, RetainHandling: 1}) // [MQTT-3.3.1-10]
	app.subscribe(mqtt.Filter{Filter: []byte("d/d1/raw"), QoS: 0, RetainHandling: 2}) // [MQTT-3.3.1-11]
	device.send(m)
	if r := app.next(); r.retain || r.qos != 0 {
		t.Fatalf("[MQTT-3.3.1-12] [MQTT-3.8.4-8]: %+v", r)
	}
	app.subscribe(mqtt.Filter{Filter: []byte("d/+/raw"), QoS: 2, RetainAsPublished: true, RetainHandling: 2})
	m.QoS = 2
	device.send(m)
	if r := app.next(); !r.retain || r.qos != 2 {
		t.Fatalf("[MQTT-3.3.1-13] [MQTT-3.3.4-2]: one copy at the highest QoS, RETAIN as published: %+v", r)
	}
	// No Local: a client does not hear itself, another of the same principal does.
	device.subscribe(mqtt.Filter{Filter: []byte("d/d1/raw"), QoS: 1, NoLocal: true, RetainHandling: 2})
	twin := g.connect("d1", mqtt.ClientOptions{ClientID: "twin"})
	twin.subscribe(mqtt.Filter{Filter: []byte("d/d1/raw"), QoS: 1, NoLocal: true, RetainHandling: 2})
	device.send(publish("d/d1/raw", "mine", 1))
	twin.send(publish("d/d1/raw", "twin's", 1))
	if r := device.next(); r.payload != "twin's" {
		t.Fatalf("[MQTT-3.8.3-3]: %+v", r)
	}
	if r := twin.next(); r.payload != "mine" {
		t.Fatalf("[MQTT-3.8.3-3]: %+v", r)
	}
	// An empty retained message removes.
	m.Payload = nil
	device.send(m)
	late := g.connect("other", mqtt.ClientOptions{})
	late.subscribe(mqtt.Filter{Filter: []byte("d/d1/raw"), QoS: 1})
	device.send(publish("d/d1/raw", "after", 1))
	if r := late.next(); r.payload != "after" {
		t.Fatalf("[MQTT-3.3.1-7]: %+v", r)
	}
}

func TestOverlappingSubscriptionsCarryAllIdentifiers(t *testing.T) {
	g := newGateway(t, nil)
	conn := rawDial(t, g, "dash", "raw")
	for i, filter := range []string{"d/d1/raw", "d/+/raw"} {
		s := mqtt.Subscribe{PacketID: uint16(i + 1), Filters: []mqtt.Filter{{Filter: []byte(filter), QoS: 0}}}
		s.Properties.SubscriptionIDs = []uint32{uint32(i + 7)}
		conn.write(s.Append(nil, mqtt.V5))
		conn.packet(mqtt.SUBACK)
	}
	g.connect("d1", mqtt.ClientOptions{}).send(publish("d/d1/raw", "x", 1))
	var p mqtt.Publish
	if err := p.Decode(0, conn.packet(mqtt.PUBLISH), mqtt.V5); err != nil {
		t.Fatal(err)
	}
	slices.Sort(p.Properties.SubscriptionIDs)
	if !slices.Equal(p.Properties.SubscriptionIDs, []uint32{7, 8}) {
		t.Fatalf("[MQTT-3.3.4-4] identifiers %v", p.Properties.SubscriptionIDs)
	}
}

func TestWills(t *testing.T) {
	g := newGateway(t, nil)
	ear := g.connect("dash", mqtt.ClientOptions{})
	ear.hear("d/+/status", 1)
	will := publish("d/d1/status", "gone", 1)
	for _, v := range versions {
		c := g.connect("d1", mqtt.ClientOptions{Version: v, Will: &will, ClientID: "polite"})
		c.Disconnect(0) // [MQTT-3.14.4-3]
		c = g.connect("d1", mqtt.ClientOptions{Version: v, Will: &will})
		c.Close()
		if r := ear.next(); r.payload != "gone" || r.topic != "d/d1/status" {
			t.Fatalf("[MQTT-3.1.2-8] %+v", r)
		}
	}
	// A delayed will of a client that comes back in time is not sent [MQTT-3.1.3-9]; when it does not, it is.
	will.Properties.SetNumber(mqtt.WillDelayInterval, 1)
	var properties mqtt.Properties
	properties.SetNumber(mqtt.SessionExpiryInterval, 60)
	options := mqtt.ClientOptions{Will: &will, Properties: properties, Resume: true, ClientID: "delayed"}
	c := g.connect("d1", options)
	c.Close()
	quiet := options
	quiet.Will = nil
	c = g.connect("d1", quiet)
	c.Disconnect(0)
	c = g.connect("d1", options)
	c.Close()
	if r := ear.next(); r.payload != "gone" {
		t.Fatalf("%+v", r)
	}
	if len(ear.received) != 0 {
		t.Fatalf("a will was sent twice: %+v", ear.next())
	}
}

// A client that takes nothing loses its own messages, and nobody else waits.
func TestSlowConsumerSlowsNobody(t *testing.T) {
	g := newGateway(t, func(c *Config) { c.MaxQueued = 10 })
	slow := rawDial(t, g, "dash", "slow")
	slow.write((&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/+/raw"), QoS: 1}}}).Append(nil, mqtt.V5))
	slow.packet(mqtt.SUBACK) // and reads nothing from now on
	fast := g.connect("other", mqtt.ClientOptions{})
	fast.hear("d/+/raw", 1)
	device := g.connect("d1", mqtt.ClientOptions{})
	payload := strings.Repeat("x", 50_000)
	for i := range 400 { // 20 MB: more than any socket buffer
		if got := device.send(publish("d/d1/raw", payload, byte(i%2))); got != mqtt.Success {
			t.Fatal(got)
		}
		fast.next()
	}
	if g.Counters.DroppedOverflow.Load() == 0 || g.Counters.DroppedQoS0.Load() == 0 {
		t.Fatal("drops are not counted")
	}
}

func TestRequestsReachTheService(t *testing.T) {
	g := newGateway(t, nil)
	for _, v := range versions {
		c := g.connect("d1", mqtt.ClientOptions{Version: v})
		if got := c.send(publish("d/d1/store", `{"temp":1}`, 1)); got != mqtt.Success {
			t.Fatalf("%v: %v", v, got)
		}
		if got := <-g.bodies; got != `/devices/d1/store {"temp":1}` {
			t.Fatalf("the service got %q", got)
		}
		want := mqtt.ImplementationSpecificError
		if v == mqtt.V311 {
			want = mqtt.Success
		}
		if got := c.send(publish("d/d1/store", `{"temp":99}`, 1)); got != want {
			t.Fatalf("%v, failing service: %v", v, got)
		}
		<-g.bodies
	}
	c := g.connect("d1", mqtt.ClientOptions{})
	request := func(payload string, qos byte) (status, body, location string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		p := publish("d/d1/store", payload, qos)
		reply, err := c.Request(ctx, &p, "fg/d1/replies")
		if err != nil {
			t.Fatal(err)
		}
		var properties mqtt.Properties
		if err := reply.Properties(&properties); err != nil {
			t.Fatal(err)
		}
		value := func(key string) string { v, _ := properties.UserValue(key); return string(v) }
		return value("status"), string(reply.Payload), value("location")
	}
	if status, body, location := request(`{"temp":2}`, 1); status != "201" || body != `{"stored":true}` || location != "/stored/1" {
		t.Fatal(status, body, location)
	}
	<-g.bodies
	if status, body, _ := request(`{"temp":900}`, 0); status != "422" || !strings.Contains(body, "urn:fieldgate:problem:invalid-payload") {
		t.Fatal(status, body)
	}
	if status, _, _ := request(`{"temp":99}`, 1); status != "500" {
		t.Fatal(status)
	}
	<-g.bodies
	// Who asks in CBOR is answered in CBOR; the service got JSON all the same.
	cbor := publish("d/d1/store", "\xa1\x64temp\x05", 1)
	cbor.Properties.SetText(mqtt.ContentType, []byte("application/cbor"))
	reply, err := c.Request(t.Context(), &cbor, "fg/d1/replies")
	if err != nil || string(reply.Payload) != "\xa1\x66stored\xf5" {
		t.Fatalf("%+v, %v", reply, err)
	}
	if got := <-g.bodies; got != `/devices/d1/store {"temp":5}` {
		t.Fatalf("the service got %q", got)
	}
	// An answer to another's topic is refused before the service is called.
	p := publish("d/d1/store", `{"temp":3}`, 1)
	p.Properties.SetText(mqtt.ResponseTopic, []byte("fg/d2/replies"))
	if got := c.send(p); got != mqtt.NotAuthorized || len(g.bodies) != 0 {
		t.Fatal(got, len(g.bodies))
	}
}

// A pass-through API for every topic opens neither others' answers nor a way to forge them.
func TestPassThroughDoesNotReachReplies(t *testing.T) {
	g := newGateway(t, nil)
	g.install(everything())
	spy := g.connect("d2", mqtt.ClientOptions{})
	spy.hear("#", 1)
	c := g.connect("d1", mqtt.ClientOptions{})
	p := publish("d/d1/store", `{"temp":3}`, 1)
	if _, err := c.Request(t.Context(), &p, "fg/d1/replies"); err != nil {
		t.Fatal(err)
	}
	if got := spy.send(publish("fg/d1/replies", "forged", 1)); got != mqtt.NotAuthorized {
		t.Fatal(got)
	}
	if got := c.send(publish("any/topic", "passes", 1)); got != mqtt.Success {
		t.Fatal(got)
	}
	for {
		r := spy.next()
		if strings.HasPrefix(r.topic, "fg/") {
			t.Fatalf("heard another's answer: %+v", r)
		}
		if r.topic == "any/topic" {
			return
		}
	}
}

// Streams of other protocols hear devices, and what comes by other protocols reaches MQTT subscribers.
func TestBrokerJoinsProtocols(t *testing.T) {
	g := newGateway(t, nil)
	heard := make(chan *broker.Message, 1)
	defer g.pipeline.Broker.Subscribe("d/d1/raw", 1, listener(heard))()
	g.connect("d1", mqtt.ClientOptions{}).send(publish("d/d1/raw", "hello", 1))
	if m := <-heard; string(m.Payload) != "hello" || m.Publisher.ID != "d1" {
		t.Fatalf("%+v", m)
	}
	c := g.connect("dash", mqtt.ClientOptions{})
	c.hear("d/+/telemetry", 1)
	g.pipeline.Broker.Publish(&broker.Message{Topic: "d/d1/telemetry", Payload: []byte("{}"), ContentType: "application/json", QoS: 1}, nil)
	if r := c.next(); r.payload != "{}" || r.contentType != "application/json" {
		t.Fatalf("%+v", r)
	}
}

type listener chan *broker.Message

func (s listener) Deliver(m *broker.Message, _ byte) { s <- m }

func TestTLS(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	g := newGateway(t, func(c *Config) {
		c.Listeners[0].TLS = &tls.Config{Certificates: certified.TLS.Certificates}
	})
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	conn, err := tls.Dial("tcp", g.address, &tls.Config{RootCAs: roots, ServerName: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := mqtt.Dial(t.Context(), conn, mqtt.ClientOptions{ClientID: "c", Password: g.tokens["d1"]})
	if err != nil {
		t.Fatal(err)
	}
	p := publish("d/d1/raw", "x", 1)
	if err := c.Publish(t.Context(), &p); err != nil {
		t.Fatal(err)
	}
	g.stopRun()
	<-c.Done()
	var refusal *mqtt.ReasonError
	if !errors.As(c.Err(), &refusal) || refusal.Reason != mqtt.ServerShuttingDown {
		t.Fatalf("ended with %v", c.Err())
	}
}

func TestConnectDeadlineAndMalformedPackets(t *testing.T) {
	hurried := newGateway(t, func(c *Config) { c.ConnectTimeout = 50 * time.Millisecond })
	g := newGateway(t, nil)
	for name, bytes := range map[string]string{"silence": "", "half a CONNECT": "\x10\x20\x00\x04MQ", "another protocol": "GET / HTTP/1.1\r\n\r\n"} {
		g := g
		if name != "another protocol" { // which is to be read, not to come too late
			g = hurried
		}
		conn, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(bytes))
		conn.SetReadDeadline(time.Now().Add(patience))
		if got, err := io.ReadAll(conn); err != nil || len(got) > 0 {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		conn.Close()
	}
	malformed := func(r *fieldgate.Record) bool { return r.Findings&fieldgate.FindingMalformed != 0 }
	waitFor(t, "the record of a malformed packet", func() bool { return g.records.count(malformed) == 1 })
	if n := hurried.records.count(malformed); n != 0 {
		t.Errorf("%d records of malformed packets where none was", n)
	}
}

// draft-ietf-httpapi-idempotency-key-header-07 section 2.6: a message that is sent again with its key is acknowledged again, and not heard again.
func TestMessageWithKeyIsHeardOnce(t *testing.T) {
	g := newGateway(t, nil)
	device, app := g.connect("d1", mqtt.ClientOptions{}), g.connect("dash", mqtt.ClientOptions{})
	app.subscribe(mqtt.Filter{Filter: []byte("d/+/once"), QoS: 1})
	for i, key := range []string{"k1", "k1", "k1", "k2"} {
		m := publish("d/d1/once", "open", byte(i%3))
		m.Properties.AddUser("idempotency-key", key)
		device.send(m)
	}
	for _, key := range []string{"k1", "k2"} {
		if r := app.next(); r.user["idempotency-key"] != key {
			t.Fatalf("heard %+v, want %s", r, key)
		}
	}
}
