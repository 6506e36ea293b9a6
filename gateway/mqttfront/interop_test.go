package mqttfront

import (
	"bytes"
	"context"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"fieldgate/protocol/mqtt"
)

// mosquitto runs one of the mosquitto tools against the gateway and gives what it printed.
func (g *gateway) mosquitto(tool, principal string, arguments ...string) (output string, err error) {
	g.t.Helper()
	command := g.mosquittoCommand(tool, principal, arguments...)
	b, err := command.CombinedOutput()
	return strings.TrimSpace(string(b)), err
}

func (g *gateway) mosquittoCommand(tool, principal string, arguments ...string) *exec.Cmd {
	g.t.Helper()
	path, err := exec.LookPath("mosquitto_" + tool)
	if err != nil {
		g.t.Fatalf("the interoperability tests need the mosquitto clients (apt-get install mosquitto-clients): %v", err)
	}
	host, port, _ := net.SplitHostPort(g.address)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	g.t.Cleanup(cancel)
	return exec.CommandContext(ctx, path, append([]string{"-h", host, "-p", port, "-u", principal, "-P", g.tokens[principal]}, arguments...)...)
}

func TestMosquittoPublishesAndSubscribes(t *testing.T) {
	g := newGateway(t, nil)
	for _, v := range []string{"mqttv311", "mqttv5"} {
		for _, qos := range []string{"0", "1", "2"} {
			subscriber := g.mosquittoCommand("sub", "dash", "-V", v, "-q", qos, "-t", "d/+/telemetry", "-C", "1", "-v", "-i", "sub")
			var out bytes.Buffer
			subscriber.Stdout, subscriber.Stderr = &out, &out
			if err := subscriber.Start(); err != nil {
				t.Fatal(err)
			}
			g.awaitSubscriptions(1)
			if out, err := g.mosquitto("pub", "d1", "-V", v, "-q", qos, "-t", "d/d1/telemetry", "-m", `{"temp":21.5}`); err != nil {
				t.Fatalf("%s QoS %s: pub: %v: %s", v, qos, err, out)
			}
			if err := subscriber.Wait(); err != nil || strings.TrimSpace(out.String()) != `d/d1/telemetry {"temp":21.5}` {
				t.Fatalf("%s QoS %s: sub: %v: %s", v, qos, err, &out)
			}
			g.awaitSubscriptions(0)
		}
	}
	// Retained, and a will: mosquitto_sub is killed and leaves its will.
	for _, v := range []string{"mqttv311", "mqttv5"} {
		if out, err := g.mosquitto("pub", "d1", "-V", v, "-q", "1", "-r", "-t", "d/d1/status", "-m", "up "+v); err != nil {
			t.Fatal(err, out)
		}
		if out, err := g.mosquitto("sub", "dash", "-V", v, "-t", "d/+/status", "-C", "1"); err != nil || out != "up "+v {
			t.Fatalf("%s: retained: %q, %v", v, out, err)
		}
		g.awaitSubscriptions(0)
		leaver := g.mosquittoCommand("sub", "d1", "-V", v, "-t", "d/d1/command", "--will-topic", "d/d1/status", "--will-payload", "left "+v, "--will-qos", "1", "--will-retain")
		if err := leaver.Start(); err != nil {
			t.Fatal(err)
		}
		g.awaitSubscriptions(1)
		ear := g.connect("dash", mqtt.ClientOptions{ClientID: "ear"})
		ear.subscribe(mqtt.Filter{Filter: []byte("d/+/status"), QoS: 1, RetainHandling: 2})
		leaver.Process.Kill()
		leaver.Wait()
		if r := ear.next(); r.payload != "left "+v {
			t.Fatalf("%s: will: %+v", v, r)
		}
		ear.Close()
		g.awaitSubscriptions(0)
	}
}

// awaitSubscriptions waits until that many subscriptions exist.
func (g *gateway) awaitSubscriptions(n int) {
	g.t.Helper()
	for deadline := time.Now().Add(patience); g.tree.Len() != n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			g.t.Fatalf("%d subscriptions, want %d", g.tree.Len(), n)
		}
	}
}

func TestMosquittoIsRefusedClearly(t *testing.T) {
	g := newGateway(t, nil)
	for _, test := range []struct {
		name      string
		arguments []string
		want      string // in the output
	}{
		{"5: payload", []string{"-V", "mqttv5", "-q", "1", "-t", "d/d1/telemetry", "-m", `{"temp":900}`}, "Payload format invalid"},
		{"5: topic", []string{"-V", "mqttv5", "-q", "1", "-t", "d/d2/telemetry", "-m", `{"temp":1}`}, "Not authorized"},
	} {
		out, err := g.mosquitto("pub", "d1", test.arguments...)
		if !strings.Contains(out, test.want) {
			t.Errorf("%s: %q, %v", test.name, out, err)
		}
	}
	g.tokens["stranger"] = "wrong"
	for v, want := range map[string]string{"mqttv311": "bad user name or password", "mqttv5": "Bad user name or password"} {
		if out, err := g.mosquitto("pub", "stranger", "-V", v, "-t", "d/d1/raw", "-m", "x"); err == nil || !strings.Contains(strings.ToLower(out), strings.ToLower(want)) {
			t.Errorf("%s: %q, %v", v, out, err)
		}
	}
}

func TestMosquittoRequestResponse(t *testing.T) {
	g := newGateway(t, nil)
	out, err := g.mosquitto("rr", "d1", "-V", "mqttv5", "-q", "1", "-t", "d/d1/store", "-e", "fg/d1/reply", "-m", `{"temp":3}`, "-F", "%P|%p", "-W", "10")
	if err != nil || !strings.Contains(out, "status:201") || !strings.HasSuffix(out, `|{"stored":true}`) {
		t.Fatalf("%q, %v", out, err)
	}
	out, err = g.mosquitto("rr", "d1", "-V", "mqttv5", "-t", "d/d1/store", "-e", "fg/d1/reply", "-m", `{"temp":900}`, "-F", "%P|%p", "-W", "10")
	if err != nil || !strings.Contains(out, "status:422") || !strings.Contains(out, "invalid-payload") {
		t.Fatalf("%q, %v", out, err)
	}
}

func TestPahoClient(t *testing.T) {
	g := newGateway(t, nil)
	received := make(chan *paho.Publish, 10)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	open := func(principal string) *paho.Client {
		conn, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		c := paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(p paho.PublishReceived) (bool, error) { received <- p.Packet; return true, nil }}})
		if _, err := c.Connect(ctx, &paho.Connect{ClientID: "paho-" + principal, KeepAlive: 5, CleanStart: true,
			UsernameFlag: true, Username: principal, PasswordFlag: true, Password: []byte(g.tokens[principal])}); err != nil {
			t.Fatal(err)
		}
		return c
	}
	app, device := open("dash"), open("d1")
	if _, err := app.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "d/+/raw", QoS: 2}}}); err != nil {
		t.Fatal(err)
	}
	for qos := range byte(3) {
		_, err := device.Publish(ctx, &paho.Publish{QoS: qos, Topic: "d/d1/raw", Payload: []byte{'0' + qos},
			Properties: &paho.PublishProperties{ContentType: "text/plain", User: paho.UserProperties{{Key: "a", Value: "b"}, {Key: "a", Value: "c"}}}})
		if err != nil {
			t.Fatal(err)
		}
		p := <-received
		if p.QoS != qos || p.Properties.ContentType != "text/plain" || len(p.Properties.User) != 2 || p.Properties.User[1].Value != "c" {
			t.Fatalf("QoS %d: %+v", qos, p)
		}
	}
	response, err := device.Publish(ctx, &paho.Publish{QoS: 1, Topic: "d/d2/raw", Payload: []byte("x")})
	if response == nil || response.ReasonCode != 0x87 {
		t.Fatalf("refusal: %+v, %v", response, err)
	}
	for _, c := range []*paho.Client{app, device} {
		if err := c.Disconnect(&paho.Disconnect{}); err != nil {
			t.Error(err)
		}
	}
}
