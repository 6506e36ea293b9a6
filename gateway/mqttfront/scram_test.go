package mqttfront

import (
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"fieldgate"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/protocol/mqtt"
)

// addScram adds a principal whose tokens SCRAM can prove.
func (g *gateway) addScram(kind fieldgate.PrincipalKind, id string, tokens ...string) {
	g.t.Helper()
	change := fieldgate.DirectoryChange{Kind: kind, ID: id}
	for _, token := range tokens {
		v, err := fieldgate.NewScramVerifier(id, token)
		if err != nil {
			g.t.Fatal(err)
		}
		change.Credentials = append(change.Credentials, fieldgate.HashToken([]byte(token)))
		change.Verifiers = append(change.Verifiers, v)
	}
	g.change(change)
}

func newToken(t *testing.T, prefix string) string {
	t.Helper()
	token, err := fieldgate.NewToken(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// prover is a client of the SCRAM library, which is not ours.
func prover(t *testing.T, id, token string) *scram.ClientConversation {
	t.Helper()
	client, err := scram.SHA256.NewClient(id, token, "")
	if err != nil {
		t.Fatal(err)
	}
	return client.WithMinIterations(4096).NewConversation()
}

func step(t *testing.T, c *scram.ClientConversation, message []byte) []byte {
	t.Helper()
	answer, err := c.Step(string(message))
	if err != nil {
		t.Fatalf("the client does not believe the server: %v", err)
	}
	return []byte(answer)
}

func auth(reason mqtt.Reason, data []byte) []byte {
	p := mqtt.Disconnect{Type: mqtt.AUTH, Reason: reason}
	p.Properties.SetText(mqtt.AuthenticationMethod, []byte(mqttexchange.ScramMethod))
	p.Properties.SetText(mqtt.AuthenticationData, data)
	return p.Append(nil, mqtt.V5)
}

func (p *peer) challenge(want mqtt.Reason) []byte {
	p.t.Helper()
	var challenge mqtt.Disconnect
	if err := challenge.Decode(mqtt.AUTH, p.packet(mqtt.AUTH), mqtt.V5); err != nil || challenge.Reason != want ||
		string(challenge.Properties.Text(mqtt.AuthenticationMethod)) != mqttexchange.ScramMethod {
		p.t.Fatalf("AUTH %+v, %v", challenge, err)
	}
	return challenge.Properties.Text(mqtt.AuthenticationData)
}

// prove connects as that id with that token; a refusal is what the CONNACK says.
func (g *gateway) prove(t *testing.T, id, token string, set func(*mqtt.Connect)) (*peer, mqtt.Reason) {
	t.Helper()
	p, c := g.open(t, mqtt.V5), prover(t, id, token)
	connect := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("prover")}
	connect.Properties.SetText(mqtt.AuthenticationMethod, []byte(mqttexchange.ScramMethod))
	connect.Properties.SetText(mqtt.AuthenticationData, step(t, c, nil))
	if set != nil {
		set(&connect)
	}
	p.write(connect.Append(nil))
	answer := p.next()
	if answer[0]>>4 == byte(mqtt.AUTH) {
		var challenge mqtt.Disconnect
		if err := challenge.Decode(mqtt.AUTH, answer[2:], mqtt.V5); err != nil {
			t.Fatal(err)
		}
		p.write(auth(mqtt.ContinueAuthentication, step(t, c, challenge.Properties.Text(mqtt.AuthenticationData))))
		answer = p.next()
	}
	if err := p.connack.Decode(answer[2:], mqtt.V5); err != nil {
		t.Fatalf("%x: %v", answer, err)
	}
	if p.connack.Reason == mqtt.Success {
		step(t, c, p.connack.Properties.Text(mqtt.AuthenticationData))
		if !c.Valid() {
			t.Fatal("the server did not prove itself")
		}
	}
	return p, p.connack.Reason
}

// A client proves with SCRAM-SHA-256 (RFC 7677) that it knows a token of its id, and hears the gateway's proof in the CONNACK.
func TestScram(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil)
	first, second, app := newToken(t, fieldgate.PrefixDevice), newToken(t, fieldgate.PrefixDevice), newToken(t, fieldgate.PrefixApp)
	g.addScram(fieldgate.PrincipalDevice, "s1", first, second)
	g.addScram(fieldgate.PrincipalApp, "s1", app) // of the same name
	ear := g.connect("dash", mqtt.ClientOptions{})
	ear.hear("d/+/raw", 1)
	for _, known := range []string{first, second} {
		p, reason := g.prove(t, "s1", known, func(c *mqtt.Connect) { c.Username = []byte("s1") })
		if reason != mqtt.Success {
			t.Fatal(reason)
		}
		p.publish("d/s1/raw", known, 1, nil) // what only this device may
		if r := ear.next(); r.payload != known {
			t.Fatalf("heard %+v", r)
		}
	}
	p, reason := g.prove(t, "s1", app, nil)
	if reason != mqtt.Success {
		t.Fatal(reason)
	}
	p.publish("d/s1/command", "x", 1, nil) // what only apps may

	// The gateway may be asked to begin.
	late, c := g.open(t, mqtt.V5), prover(t, "s1", first)
	connect := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("late")}
	connect.Properties.SetText(mqtt.AuthenticationMethod, []byte(mqttexchange.ScramMethod))
	late.write(connect.Append(nil))
	if data := late.challenge(mqtt.ContinueAuthentication); data != nil {
		t.Fatalf("asked with %q", data)
	}
	late.write(auth(mqtt.ContinueAuthentication, step(t, c, nil)))
	late.write(auth(mqtt.ContinueAuthentication, step(t, c, late.challenge(mqtt.ContinueAuthentication))))
	if err := late.connack.Decode(late.packet(mqtt.CONNACK), mqtt.V5); err != nil || late.connack.Reason != mqtt.Success {
		t.Fatalf("%+v, %v", late.connack, err)
	}
}

func TestScramRefusals(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil)
	own := newToken(t, fieldgate.PrefixDevice)
	g.addScram(fieldgate.PrincipalDevice, "s1", own)
	sick := newToken(t, fieldgate.PrefixDevice)
	g.addScram(fieldgate.PrincipalDevice, "sick", sick)
	v, _ := fieldgate.NewScramVerifier("sick", sick)
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "sick", State: fieldgate.StateQuarantined,
		Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(sick))}, Verifiers: []fieldgate.ScramVerifier{v}})
	for _, test := range []struct {
		name, id, token string
		set             func(*mqtt.Connect)
		want            mqtt.Reason
	}{
		{"another's token", "s1", sick, nil, mqtt.BadUserNameOrPassword},
		{"nobody of that name", "nobody", own, nil, mqtt.BadUserNameOrPassword},
		{"no verifier", "d1", g.tokens["d1"], nil, mqtt.BadAuthenticationMethod},
		{"quarantined", "sick", sick, nil, mqtt.NotAuthorized},
		{"another user name", "s1", own, func(c *mqtt.Connect) { c.Username = []byte("d2") }, mqtt.BadUserNameOrPassword},
		{"no SCRAM", "s1", own, func(c *mqtt.Connect) { c.Properties.SetText(mqtt.AuthenticationData, []byte("hello")) }, mqtt.BadUserNameOrPassword},
		{"channel binding", "s1", own, func(c *mqtt.Connect) {
			c.Properties.SetText(mqtt.AuthenticationData, []byte("p=tls-exporter,,n=s1,r=abc"))
		}, mqtt.BadUserNameOrPassword},
		{"in another's name", "s1", own, func(c *mqtt.Connect) { c.Properties.SetText(mqtt.AuthenticationData, []byte("n,a=d2,n=s1,r=abc")) }, mqtt.BadUserNameOrPassword},
		{"another method", "s1", own, func(c *mqtt.Connect) { c.Properties.SetText(mqtt.AuthenticationMethod, []byte("SCRAM-SHA-1")) }, mqtt.BadAuthenticationMethod},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, reason := g.prove(t, test.id, test.token, test.set)
			if reason != test.want {
				t.Errorf("%v, want %v", reason, test.want)
			}
			p.wantEnd(0)
		})
	}
}

// A client authenticates again while messages flow, also with its next token; one that fails is disconnected (MQTT 5 §4.12.1).
func TestScramAgain(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil)
	first, second := newToken(t, fieldgate.PrefixDevice), newToken(t, fieldgate.PrefixDevice)
	g.addScram(fieldgate.PrincipalDevice, "s1", first, second)
	other := newToken(t, fieldgate.PrefixDevice)
	g.addScram(fieldgate.PrincipalDevice, "s2", other)
	again := func(p *peer, id, token string) *scram.ClientConversation {
		c := prover(t, id, token)
		p.write(auth(mqtt.Reauthenticate, step(t, c, nil)))
		challenge := p.challenge(mqtt.ContinueAuthentication)
		p.publish("d/s1/raw", "meanwhile", 1, nil)
		p.write(auth(mqtt.ContinueAuthentication, step(t, c, challenge)))
		return c
	}
	p, _ := g.prove(t, "s1", first, nil)
	c := again(p, "s1", second)
	step(t, c, p.challenge(mqtt.Success))
	if !c.Valid() {
		t.Fatal("the server did not prove itself")
	}
	g.addScram(fieldgate.PrincipalDevice, "s1", second) // the first one is revoked: the connection has another by now
	p.publish("d/s1/raw", "still here", 1, nil)
	again(p, "s1", first)
	p.wantEnd(mqtt.NotAuthorized)
	p, _ = g.prove(t, "s1", second, nil)
	again(p, "s2", other) // somebody else, if truly
	p.wantEnd(mqtt.NotAuthorized)
}

// Who goes silent in the middle of its authentication is held by the deadline for the CONNECT.
func TestScramDeadline(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(c *Config) { c.ConnectTimeout = 3 * time.Second }) // for the challenge too, on a slow machine
	p, c := g.open(t, mqtt.V5), prover(t, "nobody", "x")
	connect := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("silent")}
	connect.Properties.SetText(mqtt.AuthenticationMethod, []byte(mqttexchange.ScramMethod))
	connect.Properties.SetText(mqtt.AuthenticationData, step(t, c, nil))
	p.write(connect.Append(nil))
	p.challenge(mqtt.ContinueAuthentication)
	p.wantEnd(0)
}

// FuzzScram feeds what a client says about itself: whatever that is, nobody is let in who does not know the token.
func FuzzScram(f *testing.F) {
	g := newGateway(f, nil)
	g.addScram(fieldgate.PrincipalDevice, "prover", "fgd_right", "fgd_next")
	f.Add("n,,n=prover,r=fyko+d2lbbFgONRv9qkxdawL", "c=biws,r=fyko+d2lbbFgONRv9qkxdawL,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=") // RFC 5802 section 5
	f.Add("n,a=other,n=prover,r=x", "c=biws,r=x,p=")
	f.Add("y,,n=nobody,r=x", "")
	f.Add("p=tls-unique,,n=prover,r=x", "c=,r=,p==")
	f.Fuzz(func(t *testing.T, first, final string) {
		e := new(mqttexchange.Scram)
		if _, err := e.First(g.pipeline.Directory, first); err != nil {
			return
		}
		if caller, _ := e.Final(g.pipeline, final); caller != nil {
			t.Fatalf("%q, %q: %s is let in", first, final, caller.ID)
		}
	})
}
