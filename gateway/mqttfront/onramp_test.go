package mqttfront

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/users"
	"fieldgate/protocol/mqtt"
)

// passwordFile is mosquitto_passwd's: alice has "secret", carol has "six".
const passwordFile = "alice:$7$101$hoj0bZIxwjfaN2hE$EDlOZSjlYhmq4oO0RLZ3PQqtC+AGPdbEwl+/op2u8AQTA/fhHuvJjjGUNjTldLNzQ5CzN02Gxn4S6k6ZX8FNQg==\n" +
	"carol:$6$Ym4E23MAUbMdhAWT$bvTkYgG5XZxcvDiQ/2IL5Ac6Zu2Acy7AvZoDySK63pd7URibXk0bRwMfHl1Tpi10xAhKL6Bx9PuJLCJWPvY3wA==\n"

// newOnRamp is a gateway whose second listener is an on-ramp.
func newOnRamp(t *testing.T, rules pipeline.OnRampRules, terms Terms) (g *gateway, ramp *pipeline.OnRamp, address string) {
	t.Helper()
	ramp, err := pipeline.NewOnRamp()
	if err != nil {
		t.Fatal(err)
	}
	ramp.Replace(rules)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	terms.OnRamp = ramp
	g = newGateway(t, func(c *Config) { c.Listeners = append(c.Listeners, &Listener{Listener: listener, Terms: &terms}) })
	return g, ramp, listener.Addr().String()
}

// at connects by another address than the gateway's own.
func (g *gateway) at(address, username, password, client string, version mqtt.Version) (*client, error) {
	own := g.address
	g.address = address
	defer func() { g.address = own }()
	return g.dial("", mqtt.ClientOptions{Version: version, Username: username, Password: password, ClientID: client})
}

func (g *gateway) mustAt(address, username, password, client string, version mqtt.Version) *client {
	g.t.Helper()
	c, err := g.at(address, username, password, client, version)
	if err != nil {
		g.t.Fatalf("%s: %v", username, err)
	}
	return c
}

func passwords(t *testing.T, content string) (*users.File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := users.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return file, path
}

// On an anonymous on-ramp any topic passes, at any quality of service, retained, as a will and by "#", and is recorded as undocumented;
// what contracts explain stays theirs.
func TestOnRampIsAPlainBroker(t *testing.T) {
	g, _, address := newOnRamp(t, pipeline.OnRampRules{Anonymous: true}, Terms{})
	for _, v := range versions {
		ear := g.mustAt(address, "", "", "ear", v)
		ear.hear("#", 2)
		mouth := g.mustAt(address, "whoever", "whatever", "mouth", v)
		for qos := range byte(3) {
			if reason := mouth.send(publish("plant/7/temp", string('0'+qos), qos)); reason.Failed() {
				t.Fatalf("QoS %d: %v", qos, reason)
			}
			if r := ear.next(); r.topic != "plant/7/temp" || r.qos != qos || r.payload != string('0'+qos) {
				t.Fatalf("heard %+v", r)
			}
		}
		kept := publish("plant/7/state", "on", 1)
		kept.Retain = true
		mouth.send(kept)
		if r := ear.next(); r.payload != "on" {
			t.Fatalf("heard %+v", r)
		}
		late := g.mustAt(address, "", "", "late", v)
		late.hear("plant/+/state", 1)
		if r := late.next(); !r.retain || r.payload != "on" {
			t.Fatalf("retained: %+v", r)
		}
		// A contract's topic: telemetry is for devices to publish and for apps to hear.
		if reason := mouth.send(publish("d/d1/telemetry", `{"temp":1}`, 1)); v == mqtt.V5 && reason != mqtt.NotAuthorized {
			t.Errorf("a stranger published telemetry: %v", reason)
		}
		device := g.mustAt(address, "d1", g.tokens["d1"], "device", v)
		if reason := device.send(publish("d/d1/telemetry", `{"temp":1}`, 1)); reason.Failed() {
			t.Errorf("a device with its token: %v", reason)
		}
		if reason := device.send(publish("plant/7/temp", "again", 1)); reason.Failed() {
			t.Error(reason)
		}
		if r := ear.next(); r.payload != "again" {
			t.Errorf("a contract's message was heard: %+v", r)
		}
		if reason := mouth.send(publish("$SYS/x", "", 1)); v == mqtt.V5 && reason != mqtt.NotAuthorized {
			t.Errorf("$SYS: %v", reason)
		}
		kept.Payload = nil
		mouth.send(kept) // nothing is kept any more
		for _, c := range []*client{ear, mouth, late, device} {
			c.Close()
		}
	}
	waitFor(t, "6 Records of undocumented messages", func() bool {
		return g.records.count(func(r *fieldgate.Record) bool {
			return r.API == pipeline.OnRampName && r.Findings == fieldgate.FindingUndocumented && r.Route == "plant/7/temp" && r.Kind == fieldgate.PrincipalForeign && r.Principal == "whoever"
		}) == 6
	})
}

func TestOnRampUsers(t *testing.T) {
	file, path := passwords(t, passwordFile)
	rules := pipeline.OnRampRules{Users: file}
	g, ramp, address := newOnRamp(t, rules, Terms{})
	for _, c := range []struct {
		name, password string
		right          bool
	}{{"alice", "secret", true}, {"carol", "six", true}, {"alice", "six", false}, {"alice", "", false}, {"nobody", "secret", false}, {"", "", false}} {
		if client, err := g.at(address, c.name, c.password, "c", mqtt.V5); (err == nil) != c.right {
			t.Errorf("%q with %q: %v", c.name, c.password, err)
		} else if err == nil {
			client.Close()
		}
	}
	// Who is not in the file any more is put out; the others stay.
	alice, carol := g.mustAt(address, "alice", "secret", "a", mqtt.V5), g.mustAt(address, "carol", "six", "c", mqtt.V5)
	alone, _, _ := strings.Cut(passwordFile, "\n")
	if err := os.WriteFile(path, []byte(alone+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Look(true); err != nil {
		t.Fatal(err)
	}
	g.OnRampChanged()
	if reason := carol.ended(); reason != mqtt.NotAuthorized {
		t.Errorf("carol: %v", reason)
	}
	if reason := alice.send(publish("x", "1", 1)); reason.Failed() {
		t.Errorf("alice: %v", reason)
	}
	// A device of that name is registered: alice is that device from now on, with its contracts, its quarantine and its end.
	g.add(fieldgate.PrincipalDevice, "alice")
	if reason := alice.ended(); reason != mqtt.NotAuthorized {
		t.Errorf("alice goes on as a stranger: %v", reason)
	}
	alice = g.mustAt(address, "alice", "secret", "a", mqtt.V5)
	if reason := alice.send(publish("d/alice/telemetry", `{"temp":1}`, 1)); reason.Failed() {
		t.Errorf("as a device: %v", reason)
	}
	if reason := alice.send(publish("d/d1/telemetry", `{"temp":1}`, 1)); reason != mqtt.NotAuthorized {
		t.Errorf("as another device: %v", reason)
	}
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "alice", State: fieldgate.StateQuarantined})
	alice.ended()
	if _, err := g.at(address, "alice", "secret", "a", mqtt.V5); err == nil {
		t.Error("in quarantine, and in")
	}
	// An open on-ramp does not take such a name either.
	ramp.Replace(pipeline.OnRampRules{Anonymous: true})
	g.OnRampChanged()
	if _, err := g.at(address, "alice", "x", "a", mqtt.V311); err == nil {
		t.Error("a stopped device's name was taken")
	}
	if _, err := g.at(address, "d1", "x", "a", mqtt.V311); err != nil {
		t.Error(err)
	}
	ramp.Replace(pipeline.OnRampRules{})
	if _, err := g.at(address, "", "", "a", mqtt.V311); err == nil {
		t.Error("nobody is to be let in")
	}
}

// What is denied is denied for messages, wills, subscriptions, "#", retained and shared messages, and those that wait.
func TestOnRampDenials(t *testing.T) {
	deny := []pipeline.Denial{{Filter: "secret/#", Publish: true, Subscribe: true}, {Filter: "test/nosubscribe", Subscribe: true}, {Filter: "read/+/only", Publish: true}}
	g, ramp, address := newOnRamp(t, pipeline.OnRampRules{Anonymous: true, Deny: deny}, Terms{})
	c := g.mustAt(address, "", "", "c", mqtt.V5)
	for filter, want := range map[string]mqtt.Reason{"secret/a": mqtt.NotAuthorized, "secret/#": mqtt.NotAuthorized, "secret": mqtt.NotAuthorized, "test/nosubscribe": mqtt.NotAuthorized,
		"$share/g/secret/+": mqtt.NotAuthorized, "read/a/only": mqtt.GrantedQoS1, "test/+": mqtt.GrantedQoS1} {
		if got := c.subscribe(mqtt.Filter{Filter: []byte(filter), QoS: 1})[0]; got != want {
			t.Errorf("%s: %v, want %v", filter, got, want)
		}
	}
	for topic, want := range map[string]mqtt.Reason{"secret/a": mqtt.NotAuthorized, "secret": mqtt.NotAuthorized, "read/a/only": mqtt.NotAuthorized, "test/nosubscribe": mqtt.Success, "read/a/b": mqtt.Success} {
		p := publish(topic, "x", 1)
		p.Retain = true
		if got := c.send(p); got.Failed() != want.Failed() || want.Failed() && got != want {
			t.Errorf("%s: %v, want %v", topic, got, want)
		}
	}
	if _, err := mqtt.Dial(t.Context(), mustDial(t, address), mqtt.ClientOptions{ClientID: "will", Will: &mqtt.Publish{Topic: []byte("secret/will"), Payload: []byte("x")}}); err == nil {
		t.Error("a will was accepted for a denied topic")
	}
	all := g.mustAt(address, "", "", "all", mqtt.V5)
	all.subscribe(mqtt.Filter{Filter: []byte("#"), QoS: 1}, mqtt.Filter{Filter: []byte("$share/g/#"), QoS: 1})
	c.send(publish("test/nosubscribe", "x", 1))
	c.send(publish("test/heard", "y", 1))
	for range 3 { // retained, then the two subscriptions
		if r := all.next(); r.topic == "test/nosubscribe" {
			t.Errorf("heard %+v", r)
		}
	}
	// Rules that change count for those who are there.
	ramp.Replace(pipeline.OnRampRules{Anonymous: true, Deny: []pipeline.Denial{{Filter: "test/heard", Publish: true}}})
	g.OnRampChanged()
	if got := c.send(publish("test/heard", "z", 1)); got != mqtt.NotAuthorized {
		t.Errorf("after the change: %v", got)
	}
	if got := c.send(publish("secret/a", "z", 1)); got.Failed() {
		t.Errorf("after the change: %v", got)
	}
}

func mustDial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// The on-ramp's limits are its own.
func TestOnRampTerms(t *testing.T) {
	limits := mqtt.DefaultLimits()
	limits.PacketSize, limits.ReceiveMaximum, limits.SendWindow = 2000, 7, 3
	g, _, address := newOnRamp(t, pipeline.OnRampRules{Anonymous: true}, Terms{Limits: limits, MaxKeepAlive: 60, MaxConnections: 2, MaxSubscriptions: 1, MaxQueued: 2, MaxSessionExpiry: 30})
	for asked, want := range map[uint16]uint16{0: 60, 120: 60, 60: 0, 10: 0} {
		terms := Terms{MaxKeepAlive: 60}
		if got := terms.serverKeepAlive(&mqtt.Connect{KeepAlive: asked}); got != want {
			t.Errorf("keep-alive %d: told %d, want %d", asked, got, want)
		}
	}
	first := rawDialWith(t, &gateway{address: address, tokens: g.tokens}, "", "first", func(p *mqtt.Connect) { p.KeepAlive, p.Password = 120, nil })
	first.conn.Close()
	a := g.mustAt(address, "", "", "a", mqtt.V5)
	if reasons := a.subscribe(mqtt.Filter{Filter: []byte("x")}, mqtt.Filter{Filter: []byte("y")}); reasons[1] != mqtt.QuotaExceeded {
		t.Errorf("a second subscription: %v", reasons)
	}
	for deadline := time.Now().Add(patience); g.Counters.Connections.Load() > 1 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	g.mustAt(address, "", "", "b", mqtt.V5)
	if _, err := g.at(address, "", "", "c", mqtt.V5); err == nil {
		t.Error("a third connection")
	}
	g.connect("d1", mqtt.ClientOptions{}) // the other listener has its own
}

// Whoever calls itself the same elsewhere gets no session of the on-ramp.
func TestOnRampSessionsAreItsOwn(t *testing.T) {
	g, _, address := newOnRamp(t, pipeline.OnRampRules{Anonymous: true}, Terms{})
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 2, Contracts: []*fieldgate.Contract{{API: "legacy", Version: "1", Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{{ID: "mqtt-1", PassThrough: true, MaxBody: 1 << 20, Access: fieldgate.Access{Anonymous: true},
			MQTT: &fieldgate.MQTTBinding{Topic: "legacy/#", Action: fieldgate.ActionBoth, QoS: 2, Retain: true}}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(program)
	there := g.mustAt(address, "ann", "x", "same", mqtt.V5)
	here := g.mustAt(g.address, "ann", "y", "same", mqtt.V5)
	there.hear("elsewhere", 1)
	if reason := here.subscribe(mqtt.Filter{Filter: []byte("elsewhere")})[0]; reason != mqtt.NotAuthorized {
		t.Errorf("a listener of contracts is an on-ramp: %v", reason)
	}
	if reason := there.send(publish("elsewhere", "x", 1)); reason.Failed() {
		t.Errorf("taken over: %v", reason)
	}
}

// The will of a user of the file survives a kill, unless the user is gone or has another password.
func TestOnRampWillSurvivesRestart(t *testing.T) {
	for _, password := range []string{"secret", "another"} {
		file, path := passwords(t, passwordFile)
		g, ramp, address := newOnRamp(t, pipeline.OnRampRules{Users: file}, Terms{})
		will := publish("plant/alice", "gone", 1)
		will.Retain = true
		o := mqtt.ClientOptions{ClientID: "mortal", Username: "alice", Password: "secret", Will: &will}
		o.Properties.SetNumber(mqtt.SessionExpiryInterval, 3600)
		if _, err := mqtt.Dial(t.Context(), mustDial(t, address), o); err != nil {
			t.Fatal(err)
		}
		killed := t.TempDir() // what a kill would have left
		if err := os.CopyFS(killed, os.DirFS(g.folder)); err != nil {
			t.Fatal(err)
		}
		g.stopRun()
		if password != "secret" { // carol's password is alice's now
			carol := passwordFile[strings.Index(passwordFile, "carol:")+len("carol"):]
			if err := os.WriteFile(path, []byte("alice"+strings.SplitN(carol, "\n", 2)[0]+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := file.Look(true); err != nil {
				t.Fatal(err)
			}
		}
		g.folder = killed
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		g.start(func(c *Config) {
			c.Listeners = append(c.Listeners, &Listener{Listener: listener, Terms: &Terms{OnRamp: ramp}})
		})
		if password == "secret" {
			hears := g.mustAt(listener.Addr().String(), "carol", "six", "hears", mqtt.V5)
			hears.hear("plant/#", 1)
			if r := hears.next(); r.payload != "gone" {
				t.Errorf("heard %+v", r)
			}
		} else {
			for began := time.Now(); g.Counters.Denied.Total() == 0; time.Sleep(time.Millisecond) {
				if time.Since(began) > patience {
					t.Fatal("the will of somebody else was not refused")
				}
			}
		}
		g.stopRun()
	}
}
