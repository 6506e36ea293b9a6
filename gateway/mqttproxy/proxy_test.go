package mqttproxy

import (
	"errors"
	"io"
	"net"
	"testing"

	"fieldgate"
	"fieldgate/protocol/mqtt"
)

// Messages of every QoS pass both ways, in both versions.
func TestMessagesPassBothWays(t *testing.T) {
	m := newMosquitto(t)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + m.address}})
	inside := m.dial(mqtt.ClientOptions{ClientID: "inside"})
	inside.hear("d/#", 2)
	for _, v := range versions {
		c := g.connect("d1", mqtt.ClientOptions{Version: v})
		c.hear("d/d1/command", 2)
		for qos := range byte(3) {
			up := publish("d/d1/raw", "up", qos)
			up.Properties.AddUser("k", "v")
			up.Properties.SetText(mqtt.ResponseTopic, []byte("d/d1/answer"))
			if got := c.send(up); got != mqtt.Success {
				t.Fatalf("%v QoS %d: %v", v, qos, got)
			}
			want := received{topic: "d/d1/raw", payload: "up", qos: qos}
			if v == mqtt.V5 {
				want.user, want.response = "k=v ", "d/d1/answer"
			}
			if got := inside.next(); got != want {
				t.Errorf("%v QoS %d: the broker's side got %+v", v, qos, got)
			}
			inside.send(publish("d/d1/command", "down", qos))
			if got := inside.next(); got.payload != "down" {
				t.Fatalf("%+v", got)
			}
			if got := c.next(); got != (received{topic: "d/d1/command", payload: "down", qos: qos}) {
				t.Errorf("%v QoS %d: the device got %+v", v, qos, got)
			}
		}
		c.Disconnect(0)
	}
	if g.Counters.PropertiesDropped.Load() != 0 {
		t.Error("properties were dropped on the way to a broker that knows them")
	}
}

// A session of the broker's lasts over connections of both sides: subscriptions, what came meanwhile, and "session present".
func TestSessionsOutliveConnections(t *testing.T) {
	m := newMosquitto(t)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + m.address}})
	inside := m.dial(mqtt.ClientOptions{ClientID: "inside"})
	for _, v := range versions {
		options := mqtt.ClientOptions{Version: v, Resume: true, ClientID: "lasting" + v.String()}
		if v == mqtt.V5 {
			options.Properties.SetNumber(mqtt.SessionExpiryInterval, 3600)
		}
		c := g.connect("d1", options)
		if c.Connack.SessionPresent {
			t.Error("a new session is present")
		}
		c.hear("d/d1/command", 2)
		c.Close()
		eventually(t, "the gateway notices", func() bool { return g.Counters.Connections.Load() == 0 })
		for qos := byte(1); qos <= 2; qos++ {
			inside.send(publish("d/d1/command", "meanwhile", qos))
		}
		c = g.connect("d1", options)
		if !c.Connack.SessionPresent {
			t.Error("the session is gone")
		}
		for qos := byte(1); qos <= 2; qos++ {
			if got := c.next(); got.payload != "meanwhile" || got.qos != qos {
				t.Errorf("%v: %+v", v, got)
			}
		}
		c.Disconnect(0)
	}
}

func TestWillAndRetained(t *testing.T) {
	m := newMosquitto(t)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + m.address}})
	inside := m.dial(mqtt.ClientOptions{ClientID: "inside"})
	inside.hear("d/+/raw", 1)
	for _, v := range versions {
		will := publish("d/d1/raw", "gone", 1)
		g.connect("d1", mqtt.ClientOptions{Version: v, Will: &will}).Close()
		if got := inside.next(); got.payload != "gone" {
			t.Errorf("%v: %+v", v, got)
		}
		c := g.connect("d1", mqtt.ClientOptions{Version: v, Will: &will})
		kept := publish("d/d1/raw", "kept", 1)
		kept.Retain = true
		c.send(kept)
		c.Disconnect(0) // the will is forgotten
		if got := inside.next(); got.payload != "kept" {
			t.Errorf("%v: %+v", v, got)
		}
		ear := g.connect("dash", mqtt.ClientOptions{Version: v})
		ear.hear("d/+/raw", 1)
		if got := ear.next(); got.payload != "kept" || !got.retain {
			t.Errorf("%v: %+v", v, got)
		}
		ear.Disconnect(0)
	}
	if len(inside.received) != 0 {
		t.Errorf("unexpected %+v", inside.next())
	}
	foreign := publish("d/d2/raw", "x", 0)
	_, err := tryDial(t, g.address, g.options("d1", mqtt.ClientOptions{Will: &foreign}))
	var refusal *mqtt.ReasonError
	if !errors.As(err, &refusal) || refusal.Reason != mqtt.NotAuthorized {
		t.Errorf("a will on another's topic: %v", err)
	}
}

func TestConnectIsRefusedWithTheReason(t *testing.T) {
	b := newScriptedBroker(t, nil)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}})
	g.add(fieldgate.PrincipalDevice, "sick")
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "sick", State: fieldgate.StateQuarantined,
		Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(g.tokens["sick"]))}})
	invalid := publish("d/d1/telemetry", `{"temp":900}`, 0)
	for _, test := range []struct {
		name    string
		options mqtt.ClientOptions
		want    mqtt.Reason
	}{
		{"mistyped token", mqtt.ClientOptions{Password: g.tokens["d1"][1:]}, mqtt.BadUserNameOrPassword},
		{"quarantined", mqtt.ClientOptions{Password: g.tokens["sick"]}, mqtt.NotAuthorized},
		{"another device's id as client identifier", mqtt.ClientOptions{ClientID: "d2", Password: g.tokens["d1"]}, mqtt.ClientIdentifierNotValid},
		{"will that breaks its schema", mqtt.ClientOptions{Password: g.tokens["d1"], Will: &invalid}, mqtt.PayloadFormatInvalid},
	} {
		for _, v := range versions {
			test.options.Version = v
			_, err := tryDial(t, g.address, test.options)
			want := test.want
			if v == mqtt.V311 && want == mqtt.PayloadFormatInvalid {
				want = mqtt.NotAuthorized // 3.1.1 has no word for it
			}
			var refusal *mqtt.ReasonError
			if !errors.As(err, &refusal) || refusal.Reason != want {
				t.Errorf("%s, %v: %v, want %v", test.name, v, err, want)
			}
		}
	}
	if len(b.devices) != 0 {
		t.Error("a refused device has reached the broker")
	}
	first := g.connect("d1", mqtt.ClientOptions{ClientID: "mine"})
	defer first.Close()
	<-b.devices
	if _, err := tryDial(t, g.address, mqtt.ClientOptions{ClientID: "mine", Password: g.tokens["d2"]}); err == nil {
		t.Error("a device may call itself as another one does that is connected")
	}
}

// What the pipeline refuses is answered as mqttfront does, and its packet identifier never reaches the broker.
func TestRefusedMessagesNeverReachTheBroker(t *testing.T) {
	for _, v := range versions {
		b := newScriptedBroker(t, nil)
		g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}})
		device := g.raw("d1", mqtt.Connect{Version: v, CleanStart: true})
		device.packet(mqtt.CONNACK)
		upstream := <-b.devices
		deny := func(id uint16, topic, payload string, qos byte, reason string) {
			t.Helper()
			p := publish(topic, payload, qos)
			p.PacketID = id
			device.write(p.Append(nil, v))
			want := map[mqtt.Version]string{mqtt.V311: "", mqtt.V5: reason}[v]
			kind := map[byte]mqtt.PacketType{1: mqtt.PUBACK, 2: mqtt.PUBREC}[qos]
			if qos == 0 {
				return
			}
			var ack mqtt.Ack
			if err := ack.Decode(kind, device.packet(kind), v); err != nil {
				t.Fatal(err)
			}
			if got := map[bool]string{true: "", false: ack.Reason.String()}[v == mqtt.V311]; ack.PacketID != id || got != want {
				t.Errorf("%v: %s QoS %d: %d %s, want %s", v, topic, qos, ack.PacketID, got, want)
			}
			if qos == 2 && v == mqtt.V311 {
				device.write((&mqtt.Ack{Type: mqtt.PUBREL, PacketID: id}).Append(nil, v))
				device.packet(mqtt.PUBCOMP)
			}
		}
		id := uint16(1)
		for _, test := range []struct{ topic, payload, reason string }{
			{"nobody/knows", "x", mqtt.TopicNameInvalid.String()}, {"d/d2/raw", "x", mqtt.NotAuthorized.String()}, {"d/d1/command", "x", mqtt.NotAuthorized.String()},
			{"d/d1/telemetry", `{"temp":900}`, mqtt.PayloadFormatInvalid.String()}, {"fg/d1/x", "x", mqtt.TopicNameInvalid.String()},
		} {
			for qos := range byte(3) {
				deny(id, test.topic, test.payload, qos, test.reason)
				id++
			}
		}
		// The broker sees what passes, with its identifier, and nothing before it.
		p := publish("d/d1/raw", "first", 1)
		p.PacketID = 999
		device.write(p.Append(nil, v))
		var got mqtt.Publish
		if err := got.Decode(2, upstream.packet(mqtt.PUBLISH), v); err != nil || got.PacketID != 999 || string(got.Payload) != "first" {
			t.Fatalf("%+v, %v", got, err)
		}
		for range 2 {
			q := publish("d/d1/limited", "x", 0)
			device.write(q.Append(nil, v))
			upstream.packet(mqtt.PUBLISH)
		}
		deny(50, "d/d1/limited", "x", 1, mqtt.QuotaExceeded.String())
		if v == mqtt.V311 {
			continue
		}
		// Aliases are the device's own: the broker sees topics, and one of a refused topic helps nobody around the refusal.
		p = publish("d/d2/raw", "x", 1)
		p.PacketID = 51
		p.Properties.SetNumber(mqtt.TopicAlias, 1)
		device.write(p.Append(nil, v))
		device.packet(mqtt.PUBACK)
		p.Topic = nil
		device.write(p.Append(nil, v))
		device.packet(mqtt.PUBACK)
		p.Topic = []byte("d/d1/raw")
		device.write(p.Append(nil, v))
		upstream.packet(mqtt.PUBLISH)
		p.Topic, p.PacketID = nil, 52
		device.write(p.Append(nil, v))
		if err := got.Decode(2, upstream.packet(mqtt.PUBLISH), v); err != nil || string(got.Topic) != "d/d1/raw" || got.Properties.Has(mqtt.TopicAlias) {
			t.Errorf("%+v, %v", got, err)
		}
		eventually(t, "there are records of attempts on another's topic", func() bool {
			return g.records.count(func(r *fieldgate.Record) bool {
				return r.Findings&fieldgate.FindingNotOwner != 0 && r.Principal == "d1"
			}) >= 3
		})
	}
}

// A SUBSCRIBE of which some filters are denied goes upstream with the others; one wholly denied is answered here.
func TestSubscriptionsAreDecidedFilterByFilter(t *testing.T) {
	m := newMosquitto(t)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + m.address}})
	for _, v := range versions {
		c := g.connect("dash", mqtt.ClientOptions{Version: v})
		denied := mqtt.NotAuthorized
		if v == mqtt.V311 {
			denied = mqtt.UnspecifiedError
		}
		got := c.subscribe(mqtt.Filter{Filter: []byte("#"), QoS: 1}, mqtt.Filter{Filter: []byte("d/+/raw"), QoS: 1}, mqtt.Filter{Filter: []byte("d/d1/command")},
			mqtt.Filter{Filter: []byte("d/+/low"), QoS: 2}, mqtt.Filter{Filter: []byte("$share/g/d/+/telemetry"), QoS: 2})
		for i, want := range []mqtt.Reason{denied, mqtt.GrantedQoS1, denied, mqtt.Success, mqtt.GrantedQoS2} {
			if got[i] != want {
				t.Errorf("%v: filter %d: %v, want %v", v, i, got[i], want)
			}
		}
		if got := c.subscribe(mqtt.Filter{Filter: []byte("#")}); got[0] != denied {
			t.Errorf("%v: %v", v, got)
		}
		if _, err := c.Unsubscribe(t.Context(), "d/+/raw", "d/+/none"); err != nil {
			t.Error(err)
		}
		c.Disconnect(0)
	}
}

// A message is heard as long as the contract that let its subscription in stands.
func TestWhatIsHeardFollowsTheContracts(t *testing.T) {
	m := newMosquitto(t)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + m.address}})
	inside := m.dial(mqtt.ClientOptions{ClientID: "inside"})
	for _, v := range versions {
		g.install(contracts()...)
		c := g.connect("dash", mqtt.ClientOptions{Version: v})
		c.hear("d/+/raw", 2)
		c.hear("d/+/telemetry", 2)
		inside.send(publish("d/d1/raw", "1", 2))
		if got := c.next(); got.payload != "1" {
			t.Fatalf("%+v", got)
		}
		narrowed := contracts()[0]
		narrowed.Operations = narrowed.Operations[:len(narrowed.Operations)-2] // without hear-raw and hear-once
		g.install(narrowed)
		for qos := range byte(3) {
			inside.send(publish("d/d1/raw", "withheld", qos))
		}
		inside.send(publish("d/d1/telemetry", "2", 1))
		if got := c.next(); got.payload != "2" {
			t.Errorf("%v: %+v", v, got)
		}
		g.install(contracts()...)
		inside.send(publish("d/d1/raw", "3", 2))
		if got := c.next(); got.payload != "3" {
			t.Errorf("%v: %+v", v, got)
		}
		c.Disconnect(0)
	}
	if n := g.Counters.Withheld.Load(); n != 6 {
		t.Errorf("%d messages withheld, want 6", n)
	}
}

// What the broker sends is shown as far as contracts let it be; what is no JSON is acknowledged in its place.
func TestPrivacy(t *testing.T) {
	m := newMosquitto(t)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + m.address}})
	shown := contracts()[0]
	for i := range shown.Operations {
		if o := &shown.Operations[i]; o.ID == "hear-raw" {
			o.Policies = &fieldgate.Policies{Privacy: []fieldgate.Projection{{Except: &fieldgate.Receivers{Scopes: []string{"all"}}, Remove: []string{"name"}}}}
		}
	}
	g.install(shown)
	inside := m.dial(mqtt.ClientOptions{ClientID: "inside"})
	for _, v := range versions {
		c := g.connect("dash", mqtt.ClientOptions{Version: v})
		c.hear("d/+/raw", 2)
		for qos := range byte(3) {
			inside.send(publish("d/d1/raw", `{"name":`, qos))
			inside.send(publish("d/d1/raw", `{"name": "Ann", "n": 1}`, qos))
			if got := c.next(); got.payload != `{"n":1}` || got.qos != qos {
				t.Errorf("%v: %+v", v, got)
			}
		}
		c.Disconnect(0)
	}
	if n := g.Counters.Withheld.Load(); n != 6 || g.pipeline.Unprojected.Load() != 6 {
		t.Errorf("%d messages withheld, %d of them could not be shown in part; want 6", n, g.pipeline.Unprojected.Load())
	}
}

// A quarantined device's connections close at once, the broker's without its will.
func TestQuarantineEndsTheConnections(t *testing.T) {
	m := newMosquitto(t)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + m.address}})
	inside := m.dial(mqtt.ClientOptions{ClientID: "inside"})
	inside.hear("d/#", 1)
	will := publish("d/d1/raw", "gone", 1)
	five := g.connect("d1", mqtt.ClientOptions{Will: &will})
	old := g.connect("d1", mqtt.ClientOptions{Version: mqtt.V311, ClientID: "old", Will: &will})
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "d1", State: fieldgate.StateQuarantined,
		Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(g.tokens["d1"]))}})
	if got := five.ended(); got != mqtt.NotAuthorized {
		t.Errorf("told %v", got)
	}
	old.ended()
	eventually(t, "the connections are closed", func() bool { return g.Counters.Connections.Load() == 0 })
	inside.send(publish("d/d2/raw", "next", 1))
	if got := inside.next(); got.payload != "next" {
		t.Errorf("heard %+v of a quarantined device", got)
	}
}

// All topics at the broker have a prefix that devices do not see.
func TestPrefix(t *testing.T) {
	m := newMosquitto(t)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + m.address}, Prefix: "plant/1/"})
	inside := m.dial(mqtt.ClientOptions{ClientID: "inside"})
	inside.hear("plant/#", 2)
	for _, v := range versions {
		will := publish("d/d1/raw", "will", 1)
		device := g.connect("d1", mqtt.ClientOptions{Version: v, Will: &will})
		ear := g.connect("dash", mqtt.ClientOptions{Version: v})
		ear.hear("d/+/raw", 2)
		ear.hear("$share/g/d/+/telemetry", 2)
		for qos := range byte(3) {
			p := publish("d/d1/raw", "x", qos)
			p.Properties.SetText(mqtt.ResponseTopic, []byte("d/d1/answer"))
			device.send(p)
			response := ""
			if v == mqtt.V5 {
				response = "d/d1/answer"
			}
			if got := ear.next(); got != (received{topic: "d/d1/raw", payload: "x", qos: qos, response: response}) {
				t.Errorf("%v: %+v", v, got)
			}
			if got := inside.next(); got.topic != "plant/1/d/d1/raw" || v == mqtt.V5 && got.response != "plant/1/d/d1/answer" {
				t.Errorf("%v: %+v", v, got)
			}
		}
		device.send(publish("d/d1/telemetry", `{"temp":1}`, 1))
		if got := ear.next(); got.topic != "d/d1/telemetry" {
			t.Errorf("%v: %+v", v, got)
		}
		inside.next()
		// What lies outside is not heard, though its end would match.
		inside.send(publish("d/d1/raw", "outside", 1))
		device.Close()
		if got := inside.next(); got.topic != "plant/1/d/d1/raw" || got.payload != "will" {
			t.Errorf("%v: %+v", v, got)
		}
		if got := ear.next(); got.topic != "d/d1/raw" || got.payload != "will" {
			t.Errorf("%v: %+v", v, got)
		}
		if _, err := ear.Unsubscribe(t.Context(), "d/+/raw"); err != nil {
			t.Fatal(err)
		}
		ear.Disconnect(0)
	}
}

// The broker gets the user and client identifier that the settings name.
func TestCredentialsAndClientIDs(t *testing.T) {
	seen := make(chan mqtt.Connect, 10)
	b := newScriptedBroker(t, func(c *mqtt.Connect) *mqtt.Connack {
		copied := mqtt.Connect{ClientID: []byte(string(c.ClientID)), Username: []byte(string(c.Username)), Password: []byte(string(c.Password))}
		if len(c.ClientID) < 9 || string(c.ClientID[:9]) != "fg-probe-" {
			seen <- copied
		}
		return &mqtt.Connack{}
	})
	file := writeFile(t, "secret\n")
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}, User: "gate-{principal}", PasswordFile: file, ClientID: "{principal}/{client-id}"})
	for _, v := range versions {
		g.connect("d1", mqtt.ClientOptions{Version: v, ClientID: "x"}).Disconnect(0)
		if got := <-seen; string(got.ClientID) != "d1/x" || string(got.Username) != "gate-d1" || string(got.Password) != "secret" {
			t.Errorf("%v: %s %s %s", v, got.ClientID, got.Username, got.Password)
		}
	}
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	nameless := newScripted(t, conn)
	nameless.write((&mqtt.Connect{Version: mqtt.V5, CleanStart: true, Password: []byte(g.tokens["d1"])}).Append(nil))
	var ack mqtt.Connack
	if err := ack.Decode(nameless.packet(mqtt.CONNACK), mqtt.V5); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; string(got.ClientID) != "d1/"+string(ack.Properties.Text(mqtt.AssignedClientIdentifier)) {
		t.Errorf("the device is told %q, the broker %q", ack.Properties.Text(mqtt.AssignedClientIdentifier), got.ClientID)
	}
	g = newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}, PassThrough: true})
	g.connect("d1", mqtt.ClientOptions{Username: "d1"}).Disconnect(0)
	if got := <-seen; string(got.Username) != "d1" || string(got.Password) != g.tokens["d1"] {
		t.Errorf("passed through: %s %s", got.Username, got.Password)
	}
}

// A 3.1.1 device whose message is refused is cut off where the settings say so, and told what every version can be told.
func TestRefusedMessagesEndA311Connection(t *testing.T) {
	b := newScriptedBroker(t, nil)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}}, func(c *Config) { c.DisconnectDenied = true })
	for qos := range byte(3) {
		device := g.raw("d1", mqtt.Connect{Version: mqtt.V311, CleanStart: true})
		device.packet(mqtt.CONNACK)
		<-b.devices
		p := publish("d/d2/raw", "x", qos)
		if qos > 0 {
			p.PacketID = 1
		}
		device.write(p.Append(nil, mqtt.V311))
		if rest, err := io.ReadAll(device.in.conn); err != nil || len(rest) > 0 {
			t.Errorf("QoS %d: told %x, %v", qos, rest, err)
		}
	}
	five := g.connect("d1", mqtt.ClientOptions{})
	if got := five.send(publish("d/d2/raw", "x", 1)); got != mqtt.NotAuthorized {
		t.Error(got)
	}
	if got := g.Counters.Denied.ByReason()[fieldgate.ProblemNotOwner]; got != 4 {
		t.Errorf("%d refusals are counted, want 4", got)
	}
}
