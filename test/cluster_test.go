package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate/test/nats"
	"fieldgate/test/port"
	"fieldgate/test/postgres"
)

// engines are a PostgreSQL server and a NATS cluster of three that nodes share.
type engines struct {
	postgres *postgres.Server
	database string
	nats     *nats.Cluster
}

func newEngines(t testing.TB) *engines {
	server := postgres.New(t)
	return &engines{server, server.Database(t), nats.New(t, 3, "")}
}

// Nodes need no more on the bus than the documentation allows them.
func TestBusPermissions(t *testing.T) {
	t.Parallel() // it mostly waits
	document, err := os.ReadFile("../docs/bus.md")
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := os.ReadFile("../engine/bus/testdata/accounts.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(document), string(accounts)) {
		t.Error("docs/bus.md shows other permissions than the bus is tested with")
	}
	server := postgres.New(t)
	e := &engines{server, server.Database(t), nats.New(t, 3, "SYS_PASSWORD: a\nCONTROL_PASSWORD: b\nGATEWAY_PASSWORD: c\n"+string(accounts))}
	control, gateway := e.member(t, "control", "control-1"), e.member(t, "gateway", "gateway-1")
	for n, account := range map[*node][2]string{control: {"control", "b"}, gateway: {"gateway-1", "c"}} {
		text, err := os.ReadFile(n.config)
		if err != nil {
			t.Fatal(err)
		}
		with := strings.Replace(string(text), "bus: {", fmt.Sprintf("bus: {user: %s, password-file: bus.password, ", account[0]), 1)
		for path, content := range map[string]string{n.config: with, filepath.Join(n.folder, "bus.password"): account[1]} {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		n.start()
	}
	waitForGateways(t, control, 1)
	control.publishGreeting(1)
	token := control.run("device", "add", "d1", "--quiet")
	var capture struct{ ID string }
	control.adminPost("/api/v1/captures", `{"principal": "d1"}`, &capture)
	wait(t, "a captured exchange", func() bool {
		greetAll(t, []*node{gateway}, token, 1)
		var got struct{ Exchanges []any }
		control.adminGet("/api/v1/captures/"+capture.ID, &got)
		return len(got.Exchanges) > 0
	})
	wait(t, "a counted exchange", func() bool { return control.exchanges() > 0 })
	wait(t, "the gateway says what it has of MQTT", func() bool {
		var sessions struct{ Missing []string }
		control.adminGet("/api/v1/mqtt/sessions", &sessions)
		return len(sessions.Missing) == 0
	})
	for _, n := range []*node{control, gateway} {
		if strings.Contains(strings.ToLower(n.log.String()), "permissions violation") {
			t.Errorf("%s may not do what it has to:\n%s", n.name, n.log)
		}
	}
}

// member prepares a node with one role.
func (e *engines) member(t testing.TB, role, name string) *node {
	t.Helper()
	folder := t.TempDir()
	n := &node{t: t, name: name, role: role, folder: folder, config: filepath.Join(folder, "fieldgate.yaml")}
	text := fmt.Sprintf("node: %s\nrole: %s\ndata: data\nbus: {url: '%s'}\n", name, role, e.nats.URLs())
	if role == "control" {
		n.admin = port.Free(t)
		text += fmt.Sprintf("store: {url: '%s'}\nlisten: {admin: '%s'}\n", e.database, n.admin)
	} else {
		n.http, n.mqtt, n.coap, n.health = port.Free(t), port.Free(t), port.Free(t), port.Free(t)
		text += fmt.Sprintf("listen: {http: '%s', mqtt: '%s', coap: '%s', health: '%s'}\n", n.http, n.mqtt, n.coap, n.health)
	}
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

const greeting = `openapi: 3.1.0
info: {title: Greeting, version: 1.0.%d}
paths:
  /greeting:
    get:
      operationId: greet
      responses: {'200': {description: ok, content: {application/json: {example: {version: %[1]d}}}}}
components:
  securitySchemes: {token: {type: http, scheme: bearer}}
security: [{token: []}]
`

func (n *node) publishGreeting(version int) {
	n.t.Helper()
	path := filepath.Join(n.folder, "greeting.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, greeting, version), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.run("api", "publish", path)
}

// greet calls the gateway once, and gives the status and the version that answered.
func (n *node) greet(token string) (status, version int, err error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+n.http+"/greeting", nil)
	if err != nil {
		return 0, 0, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	var body struct{ Version int }
	if response.StatusCode == http.StatusOK {
		err = json.NewDecoder(response.Body).Decode(&body)
	}
	return response.StatusCode, body.Version, err
}

// greetAll calls the gateways in turn, so many times in all, and demands an answer of the contract each time.
func greetAll(t testing.TB, gateways []*node, token string, times int) {
	t.Helper()
	for i := range times {
		if status, _, err := gateways[i%len(gateways)].greet(token); err != nil || status != http.StatusOK {
			t.Fatalf("call %d of gateway %s: %d %v", i, gateways[i%len(gateways)].name, status, err)
		}
	}
}

// exchanges is how many Records the control node says were counted.
func (n *node) exchanges() int {
	var status struct{ Exchanges int }
	if text, err := n.try("status", "--output", "json"); err != nil || json.Unmarshal([]byte(text), &status) != nil {
		return -1
	}
	return status.Exchanges
}

func (n *node) waitForExchanges(want int) {
	n.t.Helper()
	got := 0
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got = n.exchanges(); got == want {
			return
		}
	}
	n.t.Fatalf("%s counted %d exchanges, not %d", n.name, got, want)
}

// Three gateways and two control nodes are one Fieldgate: whichever control node an operator asks, what was decided is in force on
// every gateway when the answer comes, and every exchange is counted once.
func TestCluster(t *testing.T) {
	t.Parallel() // it mostly waits
	e := newEngines(t)
	c1, c2 := e.member(t, "control", "c1"), e.member(t, "control", "c2")
	gateways := []*node{e.member(t, "gateway", "g1"), e.member(t, "gateway", "g2"), e.member(t, "gateway", "g3")}
	for _, n := range append([]*node{c1, c2}, gateways...) {
		n.start()
	}
	waitForGateways(t, c1, 3)
	waitForGateways(t, c2, 3)

	c1.publishGreeting(1)
	token := c2.run("device", "add", "d1", "--quiet")
	greetAll(t, gateways, token, 300)
	c1.waitForExchanges(300)
	c2.waitForExchanges(300)

	// One of the two counts. Whichever that is, the other goes on when it is killed.
	c1.kill()
	greetAll(t, gateways, token, 90)
	c2.waitForExchanges(390)
	c1.start()
	c2.kill()
	greetAll(t, gateways, token, 90)
	c1.waitForExchanges(480)
	c2.start()

	c2.publishGreeting(2)
	c1.run("device", "revoke", "d1")
	for _, g := range gateways {
		if status, _, err := g.greet(token); err != nil || status != http.StatusUnauthorized {
			t.Errorf("gateway %s answers a revoked device with %d %v", g.name, status, err)
		}
	}
	if text := c2.run("status"); !strings.Contains(text, "c2") {
		t.Error(text)
	}
}

func waitForGateways(t testing.TB, control *node, count int) {
	t.Helper()
	wait(t, "the gateways to be known to "+control.name, func() bool {
		var status struct{ Gateways []struct{ Behind string } }
		text, err := control.try("status", "--output", "json")
		if err != nil || json.Unmarshal([]byte(text), &status) != nil || len(status.Gateways) != count {
			return false
		}
		for _, g := range status.Gateways {
			if g.Behind != "" {
				return false
			}
		}
		return true
	})
}

// A gateway needs nobody: with the control plane, the database and the bus gone, traffic goes on, and a gateway that is restarted
// serves from its own disk. When they are back, each exchange of the meantime is counted once.
func TestGatewayAlone(t *testing.T) {
	t.Parallel() // it mostly waits
	e := newEngines(t)
	control, gateway := e.member(t, "control", "c1"), e.member(t, "gateway", "g1")
	control.start()
	gateway.start()
	waitForGateways(t, control, 1)
	control.publishGreeting(1)
	token := control.run("device", "add", "d1", "--quiet")
	greetAll(t, []*node{gateway}, token, 20)
	control.waitForExchanges(20)

	control.kill()
	e.nats.Stop()
	e.postgres.Stop()
	greetAll(t, []*node{gateway}, token, 50)
	gateway.stop()
	gateway.start()
	greetAll(t, []*node{gateway}, token, 50)
	gateway.kill()
	gateway.start()
	greetAll(t, []*node{gateway}, token, 50)

	e.postgres.Start(t)
	for i := range e.nats.Size() {
		e.nats.Start(i)
	}
	e.nats.Ready()
	control.start()
	// The Record of an answer is written right after it; a kill in between is the one moment that can lose it.
	wait(t, "the exchanges of the meantime", func() bool { return control.exchanges() >= 169 })
	counted := control.exchanges() // to which the last of them may still have to come
	greetAll(t, []*node{gateway}, token, 10)
	wait(t, "the last exchanges", func() bool { return control.exchanges() >= counted+10 })
	if counted = control.exchanges(); counted > 180 {
		t.Errorf("%d exchanges were counted, 180 took place", counted)
	}
}
