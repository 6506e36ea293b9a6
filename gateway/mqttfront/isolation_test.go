package mqttfront

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// install puts contracts into force besides those that every test has.
func (g *gateway) install(more ...*fieldgate.Contract) {
	g.t.Helper()
	g.installOnly(append(contracts(), more...)...)
}

func (g *gateway) installOnly(contracts ...*fieldgate.Contract) {
	g.t.Helper()
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 2, Contracts: contracts}, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	g.pipeline.Install(program)
}

// everything is a pass-through API for all topics, which callers without credential may use too.
func everything() *fieldgate.Contract {
	return &fieldgate.Contract{API: "legacy", Version: "1", Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{{ID: "all", PassThrough: true, Access: fieldgate.Access{Anonymous: true},
			MQTT: &fieldgate.MQTTBinding{Topic: "#", Action: fieldgate.ActionBoth, QoS: 1, Retain: true}}}}
}

// wide is a contract whose topics happen to match those of answers.
func wide() *fieldgate.Contract {
	parameters := []fieldgate.Parameter{{Name: "site", In: fieldgate.InPath, Required: true}, {Name: "id", In: fieldgate.InPath, Required: true}}
	return &fieldgate.Contract{API: "wide", Version: "1", Kind: fieldgate.KindAsyncAPI, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{{ID: "say", Access: fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}}, Parameters: parameters,
			Request: &fieldgate.Payload{Media: []fieldgate.MediaType{{Type: "*/*"}}}, MaxBody: 1 << 20, OnInvalid: fieldgate.InvalidReject,
			MQTT: &fieldgate.MQTTBinding{Topic: "{site}/{id}/replies", Action: fieldgate.ActionPublish, QoS: 2, Retain: true}}}}
}

// Whatever contracts allow, only the gateway speaks on the topics of answers: not a publisher, not a will.
func TestNobodyForgesAnswers(t *testing.T) {
	for name, contract := range map[string]*fieldgate.Contract{"pass-through": everything(), "contract": wide()} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, nil)
			g.install(contract)
			victim := g.connect("d1", mqtt.ClientOptions{})
			victim.hear("fg/d1/#", 1)
			forger := g.connect("d2", mqtt.ClientOptions{})
			for _, retain := range []bool{false, true} {
				p := publish("fg/d1/replies", "forged", 1)
				p.Retain = retain
				if got := forger.send(p); got != mqtt.NotAuthorized {
					t.Errorf("retain %v: publish was answered %v", retain, got)
				}
			}
			will := publish("fg/d1/replies", "forged by a will", 1)
			if c, err := g.dial("d2", mqtt.ClientOptions{ClientID: "dying", Will: &will}); err == nil {
				t.Error("the will was accepted")
				c.Close()
			}
			p := publish("d/d1/store", `{"temp":3}`, 1)
			if _, err := victim.Request(t.Context(), &p, "fg/d1/mine"); err != nil {
				t.Fatal(err)
			}
			p = publish("d/d1/store", `{"temp":4}`, 1)
			p.Properties.SetText(mqtt.ResponseTopic, []byte("fg/d1/other"))
			victim.send(p)
			if r := victim.next(); r.topic != "fg/d1/other" {
				t.Errorf("heard a forged answer: %+v", r)
			}
		})
	}
}

// Who subscribed under an older contract hears what the newer one lets it hear, connected or coming back to its session.
func TestSubscriptionsFollowContracts(t *testing.T) {
	g := newGateway(t, nil)
	install := func(scopes ...string) {
		changed := contracts()
		for i := range changed[0].Operations {
			if o := &changed[0].Operations[i]; o.ID == "hear-raw" {
				o.Access.Scopes = scopes
			}
		}
		program, err := pipeline.Link(&fieldgate.Snapshot{Version: 3, Contracts: changed}, nil)
		if err != nil {
			t.Fatal(err)
		}
		g.pipeline.Install(program)
	}
	connected := g.connect("dash", persistent(mqtt.V5, "connected"))
	away := g.connect("dash", persistent(mqtt.V5, "away"))
	for _, c := range []*client{connected, away} {
		c.hear("d/+/raw", 1)
		c.hear("d/+/telemetry", 1)
	}
	away.Disconnect(0)
	device := g.connect("d1", mqtt.ClientOptions{})
	device.send(publish("d/d1/raw", "before", 1))
	if r := connected.next(); r.payload != "before" {
		t.Fatal(r)
	}
	install("raw:read")
	away = g.connect("dash", persistent(mqtt.V5, "away"))
	if r := away.next(); r.payload != "before" { // it was for it when it came
		t.Fatal(r)
	}
	device.send(publish("d/d1/raw", "after", 1))
	device.send(publish("d/d1/telemetry", `{"temp":1}`, 1))
	for _, c := range []*client{connected, away} {
		if r := c.next(); r.topic != "d/d1/telemetry" {
			t.Errorf("heard %+v", r)
		}
	}
	install()
	device.send(publish("d/d1/raw", "again", 1))
	for _, c := range []*client{connected, away} {
		if r := c.next(); r.payload != "again" {
			t.Errorf("heard %+v", r)
		}
	}
	// Neither hears again what it was not allowed to hear.
	if _, err := connected.Unsubscribe(t.Context(), "none"); err != nil { // whose answer is read after "again" has been acknowledged
		t.Fatal(err)
	}
	connected.Disconnect(0)
	if c := g.connect("dash", persistent(mqtt.V5, "connected")); !c.Connack.SessionPresent {
		t.Error("the session is gone")
	} else if _, err := c.Unsubscribe(t.Context(), "none"); err != nil || len(c.received) != 0 {
		t.Errorf("heard %d messages late, %v", len(c.received), err)
	}
}

// A pass-through API for every topic does not open what a contract protects; callers hear of it what the contract lets them.
func TestPassThroughHearsWhatNoContractExplains(t *testing.T) {
	g := newGateway(t, nil)
	g.install(everything())
	app, device := g.connect("dash", mqtt.ClientOptions{}), g.connect("d1", mqtt.ClientOptions{})
	kept := publish("d/d1/status", "kept", 1)
	kept.Retain = true
	device.send(kept)
	g.tokens["stranger"] = "a secret of the old fleet"
	stranger, err := g.dial("stranger", mqtt.ClientOptions{Username: "d1"})
	if err != nil {
		t.Fatal(err)
	}
	neighbour := g.connect("d2", mqtt.ClientOptions{})
	own := g.connect("d1", mqtt.ClientOptions{ClientID: "own"})
	ears := []*client{stranger, neighbour, own}
	for _, c := range ears {
		c.hear("#", 1)
	}
	device.send(publish("d/d1/telemetry", `{"temp":1}`, 1))
	app.send(publish("d/d1/command", "for d1", 1))
	device.send(publish("old/topic", "for all", 1))
	if r := own.next(); r.payload != "for d1" {
		t.Errorf("the owner heard %+v", r)
	}
	for _, c := range ears {
		if r := c.next(); r.payload != "for all" {
			t.Errorf("heard %+v", r)
		}
	}
}

// A device and an app of the same id do not hear each other's answers.
func TestAnswersAreForTheirCallerOnly(t *testing.T) {
	g := newGateway(t, nil)
	device := g.connect("d1", mqtt.ClientOptions{})
	g.add(fieldgate.PrincipalApp, "d1")
	app := g.connect("d1", mqtt.ClientOptions{ClientID: "app"})
	app.hear("fg/d1/#", 1)
	p := publish("d/d1/store", `{"temp":3}`, 1)
	if _, err := device.Request(t.Context(), &p, "fg/d1/replies"); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Unsubscribe(t.Context(), "none"); err != nil { // its answer comes behind what was sent before
		t.Fatal(err)
	}
	if len(app.received) != 0 {
		t.Errorf("the app heard %+v", <-app.received)
	}
}

// Revocation closes every connection of the caller and ends its sessions: nothing waits for whoever has the id next.
func TestRevocationEndsAllSessions(t *testing.T) {
	g := newGateway(t, nil)
	first := g.connect("d1", persistent(mqtt.V5, "one"))
	second := g.connect("d1", persistent(mqtt.V311, "two"))
	away := g.connect("d1", persistent(mqtt.V5, "three"))
	for _, c := range []*client{first, second, away} {
		c.hear("d/d1/command", 1)
	}
	away.Disconnect(0)
	bystander := g.connect("d2", mqtt.ClientOptions{})
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "d1", State: fieldgate.StateRevoked})
	if got := first.ended(); got != mqtt.NotAuthorized {
		t.Error(got)
	}
	second.ended()
	if n := g.tree.Len(); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
	g.connect("dash", mqtt.ClientOptions{}).send(publish("d/d1/command", "for the old one", 1))
	g.add(fieldgate.PrincipalDevice, "d1")
	for _, id := range []string{"one", "two", "three"} {
		if c := g.connect("d1", persistent(mqtt.V5, id)); c.Connack.SessionPresent {
			t.Errorf("session %s is still there", id)
		}
	}
	if bystander.Err() != nil {
		t.Error(bystander.Err())
	}
}

// One caller cannot take all the sessions that the gateway may hold.
func TestSessionsOfOneCallerAreBounded(t *testing.T) {
	g := newGateway(t, func(c *Config) { c.MaxSessionsOfCaller = 3 })
	for i := range 3 {
		g.connect("d1", persistent(mqtt.V5, fmt.Sprint("c", i))).Disconnect(0)
	}
	_, err := g.dial("d1", persistent(mqtt.V5, "c3"))
	if refusal, ok := err.(*mqtt.ReasonError); !ok || refusal.Reason != mqtt.QuotaExceeded {
		t.Fatalf("a session too many: %v", err)
	}
	g.connect("d1", persistent(mqtt.V5, "c1")).Close()
	g.connect("d2", persistent(mqtt.V5, "c3"))
}

// A filter is not longer than a topic can be, for sessions keep it.
func TestLongFiltersAreRefused(t *testing.T) {
	g := newGateway(t, nil)
	c := g.connect("dash", mqtt.ClientOptions{})
	long := "d/" + strings.Repeat("x", fieldgate.MaxPathBytes) + "/raw"
	if got := c.subscribe(mqtt.Filter{Filter: []byte(long)}); got[0] != mqtt.TopicFilterInvalid {
		t.Error(got)
	}
}

// What is left to say to a caller that was just refused does not wait for one that takes no bytes.
func TestRevokedClientThatDoesNotReadIsCut(t *testing.T) {
	g := newGateway(t, func(c *Config) { c.WriteTimeout = time.Hour })
	app := rawDial(t, g, "dash", "slow")
	app.write((&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/+/raw"), QoS: 0}}}).Append(nil, mqtt.V5))
	app.packet(mqtt.SUBACK)
	device := g.connect("d1", mqtt.ClientOptions{})
	for range 40 { // more than the kernel takes
		device.send(publish("d/d1/raw", strings.Repeat("x", 500_000), 1))
	}
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalApp, ID: "dash", State: fieldgate.StateRevoked})
	for deadline := time.Now().Add(patience); g.Counters.Connections.Load() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the revoked client's connection waits for the write timeout")
		}
	}
}

// Refusals are attributed to whoever they concern.
func TestRefusalsAreAttributed(t *testing.T) {
	g := newGateway(t, nil)
	find := func(what string, match func(*fieldgate.Record) bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); g.records.count(match) == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%s left no record of its caller", what)
				return
			}
		}
	}
	c := rawDial(t, g, "d1", "broken")
	c.write([]byte{0xF0, 0}) // AUTH
	find("a malformed packet", func(r *fieldgate.Record) bool {
		return r.Findings&fieldgate.FindingMalformed != 0 && r.Principal == "d1" && r.Kind == fieldgate.PrincipalDevice
	})
	will := publish("d/d2/status", "x", 1)
	if _, err := g.dial("d1", mqtt.ClientOptions{Will: &will}); err == nil {
		t.Error("another's will was accepted")
	}
	find("a refused will", func(r *fieldgate.Record) bool {
		return r.Findings&fieldgate.FindingNotOwner != 0 && r.Principal == "d1" && r.Operation == "status"
	})
	g.connect("d1", mqtt.ClientOptions{Version: mqtt.V311}).send(publish("no/such/topic", "x", 1))
	find("a publish that no contract has", func(r *fieldgate.Record) bool {
		return r.Findings&fieldgate.FindingUnmatched != 0 && r.Principal == "d1" && r.Route == "no/such/topic"
	})
	denied := g.Counters.Denied.ByReason()
	if want := map[fieldgate.ProblemCode]uint64{"not-owner": 1, "not-found": 1}; !maps.Equal(denied, want) {
		t.Errorf("counted as denied: %v, want %v", denied, want)
	}
	token := g.tokens["d2"]
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "d2", State: fieldgate.StateQuarantined,
		Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(token))}})
	if _, err := g.dial("d2", mqtt.ClientOptions{}); err == nil {
		t.Error("a quarantined device connects")
	}
	find("a quarantined device's CONNECT", func(r *fieldgate.Record) bool {
		return r.Findings&fieldgate.FindingQuarantined != 0 && r.Principal == "d2"
	})
}
