package test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// listener runs a subscribing tool in the background and gives its output line by line.
type listener struct {
	t     testing.TB
	name  string
	lines chan string
	heard []string // lines, up to the one that was waited for last
	stop  func()   // ends the tool
}

func listen(t testing.TB, name string, args ...string) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	// Tools that write to a pipe keep lines back unless stdbuf tells them not to.
	command := exec.CommandContext(ctx, "stdbuf", append([]string{"-oL", name}, args...)...)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	l := &listener{t: t, name: name, lines: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			l.lines <- scanner.Text()
		}
		close(l.lines)
		command.Wait()
	}()
	l.stop = func() { cancel(); <-done }
	t.Cleanup(l.stop)
	return l
}

// hears waits for a line that holds a text.
func (l *listener) hears(text string) {
	l.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, goesOn := <-l.lines:
			if !goesOn {
				l.t.Fatalf("%s has ended and did not hear %q, only %q", l.name, text, l.heard)
			}
			if l.heard = append(l.heard, line); strings.Contains(line, text) {
				return
			}
		case <-deadline:
			l.t.Fatalf("%s did not hear %q, only %q", l.name, text, l.heard)
		}
	}
}

// An AsyncAPI document publishes MQTT channels: 3.1.1 and 5, QoS 0 and 1, retained messages and wills, with schema and ownership; what devices
// publish is heard by MQTT, SSE, WebSocket and CoAP subscribers alike.
func TestChannels(t *testing.T) {
	t.Parallel() // it mostly waits
	n := newNode(t, nil)
	n.start()
	n.run("api", "publish", "../examples/tracker.asyncapi.yaml")
	token := n.run("device", "add", "v1", "--quiet")
	other := n.run("device", "add", "v2", "--quiet")
	app := n.run("app", "add", "map", "--scope", "positions.read", "--scope", "commands.send", "--quiet")
	host, port, _ := net.SplitHostPort(n.mqtt)
	mqtt := func(version, user, secret string, more ...string) []string {
		return append([]string{"-V", version, "-h", host, "-p", port, "-u", user, "-P", secret}, more...)
	}
	const topic = "tracker/v1/position"
	position := func(lat string) string {
		return `{"ts":"2026-11-22T18:11:05Z","lat":` + lat + `,"lon":13.3777}`
	}

	// Subscribers of every kind. mosquitto_sub -d says when its subscription is granted.
	var subscribers []*listener
	for _, version := range []string{"mqttv311", "mqttv5"} {
		s := listen(t, "mosquitto_sub", mqtt(version, "map", app, "-d", "-i", "sub-"+version, "-q", "1", "-t", "tracker/+/position")...)
		s.hears("Subscribed")
		subscribers = append(subscribers, s)
	}
	sse := listen(t, "curl", "-sSN", "-i", "-H", "Accept: text/event-stream", "-H", "Authorization: Bearer "+app, "http://"+n.http+"/trackers/v1/position")
	sse.hears("200")
	sse.hears("text/event-stream")
	observer := listen(t, "coap-client-notls", "-v", "6", "-s", "600", "-B", "600", "-m", "get", "-O", "65002,"+app, "coap://"+n.coap+"/trackers/v1/position")
	observer.hears("c:2.05") // libcoap shows its own request too
	subscribers = append(subscribers, sse, observer)
	socket, _, err := websocket.Dial(t.Context(), "ws://"+n.http+"/trackers/v1/position", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + app}}})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()

	// Devices publish over MQTT 3.1.1 and 5 at QoS 0 and 1, over HTTP and over CoAP; everybody hears it.
	for i, publish := range []func(body string){
		func(body string) {
			mustTool(t, "mosquitto_pub", mqtt("mqttv311", "v1", token, "-q", "0", "-t", topic, "-m", body)...)
		},
		func(body string) {
			mustTool(t, "mosquitto_pub", mqtt("mqttv311", "v1", token, "-q", "1", "-t", topic, "-m", body)...)
		},
		func(body string) {
			mustTool(t, "mosquitto_pub", mqtt("mqttv5", "v1", token, "-q", "0", "-t", topic, "-m", body)...)
		},
		func(body string) {
			mustTool(t, "mosquitto_pub", mqtt("mqttv5", "v1", token, "-q", "1", "-t", topic, "-m", body)...)
		},
		func(body string) {
			mustTool(t, "curl", "-sSf", "-H", "Authorization: Bearer "+token, "-H", "Content-Type: application/json", "-d", body, "http://"+n.http+"/trackers/v1/position")
		},
		func(body string) {
			mustTool(t, "coap-client-notls", "-B", "60", "-m", "post", "-t", "50", "-e", strings.ReplaceAll(body, `"`, "%22"), "-O", "65002,"+token, "coap://"+n.coap+"/position")
		},
	} {
		lat := "52.500" + string(rune('1'+i))
		publish(position(lat))
		for _, s := range subscribers {
			s.hears(lat)
		}
		_, message, err := socket.Read(t.Context())
		if err != nil || !strings.Contains(string(message), lat) {
			t.Fatalf("the WebSocket heard %q, %v", message, err)
		}
	}

	// A command that an app posts reaches the device that subscribed to it.
	device := listen(t, "mosquitto_sub", mqtt("mqttv5", "v1", token, "-d", "-q", "1", "-t", "tracker/v1/commands")...)
	device.hears("Subscribed")
	mustTool(t, "curl", "-sSf", "-H", "Authorization: Bearer "+app, "-H", "Content-Type: application/json", "-d", `{"command":"geofence","radius":500}`, "http://"+n.http+"/trackers/v1/commands")
	device.hears(`{"command":"geofence","radius":500}`)

	// Another device's topic is refused, so is a payload that breaks the schema; neither is heard.
	for _, c := range []struct{ user, secret, body, problem string }{
		{"v2", other, position("1.5"), "not-owner"},
		{"v1", token, position("120"), "invalid-payload"},
	} {
		tool(t, "mosquitto_pub", mqtt("mqttv5", c.user, c.secret, "-q", "1", "-t", topic, "-m", c.body)...)
		wait(t, c.problem, func() bool { records := n.records(""); return len(records) > 0 && records[0].Problem == c.problem })
	}
	if output, _ := tool(t, "mosquitto_sub", mqtt("mqttv5", "v2", other, "-d", "-W", "30", "-t", "tracker/v1/commands")...); !strings.Contains(output, "135") && !strings.Contains(strings.ToLower(output), "denied") && !strings.Contains(output, "not authorized") {
		t.Errorf("a device may subscribe to another's commands:\n%s", output)
	}

	// A retained message waits for those who come later; an empty one removes it.
	mustTool(t, "mosquitto_pub", mqtt("mqttv311", "v1", token, "-q", "1", "-r", "-t", "tracker/v1/status", "-m", `{"state":"online","battery":87}`)...)
	n.run("api", "publish", "testdata/status.asyncapi.yaml")
	late := func(text string) {
		t.Helper()
		wait(t, text+" to be retained", func() bool { // two seconds may be too few for whoever comes late
			output, _ := tool(t, "mosquitto_sub", mqtt("mqttv5", "map", app, "-v", "-W", "2", "-t", "tracker/+/status")...)
			return strings.Contains(output, text)
		})
	}
	late(`tracker/v1/status {"state":"online","battery":87}`)

	// A will is heard when the device is cut off, and is retained as its topic says.
	watcher := listen(t, "mosquitto_sub", mqtt("mqttv5", "map", app, "-d", "-v", "-t", "tracker/+/status")...)
	watcher.hears("Subscribed")
	doomed := exec.Command("stdbuf", append([]string{"-oL", "mosquitto_sub"}, mqtt("mqttv311", "v2", other, "-t", "tracker/v2/commands", "--will-topic", "tracker/v2/status", "--will-payload", `{"state":"offline"}`, "--will-retain", "--will-qos", "1", "-d")...)...)
	output, err := doomed.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := doomed.Start(); err != nil {
		t.Fatal(err)
	}
	for scanner := bufio.NewScanner(output); scanner.Scan() && !strings.Contains(scanner.Text(), "Subscribed"); {
	}
	doomed.Process.Kill()
	io.Copy(io.Discard, output)
	doomed.Wait()
	watcher.hears(`tracker/v2/status {"state":"offline"}`)
	late(`tracker/v2/status {"state":"offline"}`)
	// A will that breaks the contract is refused when the device connects.
	if output, err := tool(t, "mosquitto_sub", mqtt("mqttv5", "v2", other, "-W", "30", "-t", "tracker/v2/commands", "--will-topic", "tracker/v1/status", "--will-payload", `{"state":"offline"}`)...); err == nil {
		t.Errorf("a will on another device's topic is accepted:\n%s", output)
	}
}

// Revocation and quarantine are in force within a second and close the connections of that device only.
func TestRevocation(t *testing.T) {
	n := newNode(t, nil)
	n.start()
	n.run("api", "publish", "../examples/tracker.asyncapi.yaml")
	host, port, _ := net.SplitHostPort(n.mqtt)
	subscribe := func(id, token string) *listener {
		s := listen(t, "mosquitto_sub", "-d", "-V", "mqttv5", "-h", host, "-p", port, "-u", id, "-P", token, "-t", "tracker/"+id+"/commands")
		s.hears("Subscribed")
		return s
	}
	tokens := map[string]string{}
	for _, id := range []string{"v1", "v2", "v3"} {
		tokens[id] = n.run("device", "add", id, "--quiet")
	}
	revoked, quarantined, untouched := subscribe("v1", tokens["v1"]), subscribe("v2", tokens["v2"]), subscribe("v3", tokens["v3"])
	status := func(id string) string {
		return mustTool(t, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Authorization: Bearer "+tokens[id], "-H", "Content-Type: application/json",
			"-d", `{"ts":"2026-11-22T18:11:05Z","lat":1,"lon":2}`, "http://"+n.http+"/trackers/"+id+"/position")
	}
	for id := range tokens {
		if got := status(id); got != "204" {
			t.Fatalf("%s: %s", id, got)
		}
	}
	n.run("device", "revoke", "v1")
	n.run("device", "quarantine", "v2")
	revoked.hears("DISCONNECT")
	quarantined.hears("DISCONNECT")
	wait(t, "the revocation", func() bool { return status("v1") == "401" && status("v2") == "403" })
	if got := status("v3"); got != "204" {
		t.Errorf("an unrelated device: %s", got)
	}
	n.run("device", "release", "v2")
	wait(t, "the release", func() bool { return status("v2") == "204" })
	select {
	case line := <-untouched.lines:
		if strings.Contains(line, "DISCONNECT") || strings.Contains(line, "CONNECT") {
			t.Errorf("an unrelated connection was closed: %s", line)
		}
	default:
	}
}
