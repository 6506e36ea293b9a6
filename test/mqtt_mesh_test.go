package test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Three gateways are one MQTT broker: whatever comes to one, over whatever protocol, is heard at the others, once, and one that is killed
// takes nobody with it.
func TestMQTTMesh(t *testing.T) {
	t.Parallel() // it mostly waits
	e := newEngines(t)
	control := e.member(t, "control", "c1")
	g := []*node{e.member(t, "gateway", "g1"), e.member(t, "gateway", "g2"), e.member(t, "gateway", "g.3")}
	for _, n := range append([]*node{control}, g...) {
		n.start()
	}
	waitForGateways(t, control, 3)
	control.run("api", "publish", "../examples/tracker.asyncapi.yaml")
	device := control.run("device", "add", "v1", "--quiet")
	app := control.run("app", "add", "map", "--scope", "positions.read", "--scope", "commands.send", "--quiet")
	const topic = "tracker/v1/position"
	mqtt := func(n *node, user, secret string, more ...string) []string {
		host, port, _ := net.SplitHostPort(n.mqtt)
		return append([]string{"-V", "mqttv5", "-h", host, "-p", port, "-u", user, "-P", secret}, more...)
	}
	subscribe := func(n *node, client, filter string) *listener {
		l := listen(t, "mosquitto_sub", mqtt(n, "map", app, "-d", "-i", client, "-q", "1", "-t", filter)...)
		l.hears("Subscribed")
		return l
	}
	stream := func(n *node) *listener {
		l := listen(t, "curl", "-sSN", "-i", "-H", "Accept: text/event-stream", "-H", "Authorization: Bearer "+app, "http://"+n.http+"/trackers/v1/position")
		l.hears("text/event-stream")
		return l
	}
	// filters waits until a gateway knows so many of the others' filters, each once for each gateway.
	filters := func(n *node, count int) {
		t.Helper()
		line := fmt.Sprintf("fieldgate_gateway_mqtt_nodes_filters{node=%q} %d\n", n.name, count)
		wait(t, line, func() bool { return strings.Contains(control.metrics(), line) })
	}
	number := 0
	position := func() (body, lat string) {
		number++
		lat = fmt.Sprintf("52.%04d", number)
		return `{"ts":"2026-11-22T18:11:05Z","lat":` + lat + `,"lon":13.3777}`, lat
	}
	post := func(n *node) string {
		body, lat := position()
		mustTool(t, "curl", "-sSf", "-H", "Authorization: Bearer "+device, "-H", "Content-Type: application/json", "-d", body, "http://"+n.http+"/trackers/v1/position")
		return lat
	}
	send := func(n *node, qos int) string {
		body, lat := position()
		mustTool(t, "mosquitto_pub", mqtt(n, "v1", device, "-q", fmt.Sprint(qos), "-t", topic, "-m", body)...)
		return lat
	}

	events := stream(g[1])
	ear := subscribe(g[2], "ear", "tracker/+/position")
	observer := listen(t, "coap-client-notls", "-v", "6", "-s", "600", "-B", "600", "-m", "get", "-O", "65002,"+app, "coap://"+g[1].coap+"/trackers/v1/position")
	observer.hears("c:2.05") // libcoap shows its own request too
	first, second := subscribe(g[1], "first", "$share/maps/tracker/+/position"), subscribe(g[2], "second", "$share/maps/tracker/+/position")
	obey := listen(t, "mosquitto_sub", mqtt(g[0], "v1", device, "-d", "-q", "1", "-t", "tracker/v1/commands")...)
	obey.hears("Subscribed")
	for i, count := range []int{4, 3, 3} {
		filters(g[i], count)
	}
	for _, lat := range []string{post(g[0]), send(g[0], 0), send(g[0], 1), post(g[0])} {
		events.hears(lat)
		observer.hears(lat)
		ear.hears(lat)
	}
	lat := send(g[2], 1) // where it is published, it is heard as ever
	ear.hears(lat)
	events.hears(lat)
	mustTool(t, "curl", "-sSf", "-H", "Authorization: Bearer "+app, "-H", "Content-Type: application/json", "-d", `{"command":"geofence","radius":500}`, "http://"+g[1].http+"/trackers/v1/commands")
	obey.hears(`"radius":500`)

	// Of two that share a subscription one has heard each message: in turn, and where it was published.
	turns := map[*listener]int{}
	wait(t, "all turns", func() bool {
		for _, l := range []*listener{first, second} {
			for len(l.lines) > 0 {
				if line := <-l.lines; strings.HasPrefix(line, "{") {
					turns[l]++
				}
			}
		}
		return turns[first]+turns[second] >= number
	})
	if turns[first] != 2 || turns[second] != 3 {
		t.Errorf("of 5 messages one heard %d, the other %d", turns[first], turns[second])
	}

	// An operator sees the sessions of all gateways, and at which each is.
	list := control.run("mqtt", "session", "list")
	for _, want := range []string{"g1", "g2", "g.3", "ear", "first"} {
		if !strings.Contains(list, want) {
			t.Errorf("%s is not among the sessions:\n%s", want, list)
		}
	}

	// A gateway is killed: the others go on, and when it is back, its clients are.
	g[2].kill()
	lat = send(g[0], 1)
	events.hears(lat)
	lat = post(g[1])
	events.hears(lat)
	filters(g[0], 2)
	g[2].start()
	filters(g[0], 4)
	lat = send(g[0], 1)
	ear.hears(lat)
	events.hears(lat)
}

// metrics is what the control node shows Prometheus.
func (n *node) metrics() string {
	n.t.Helper()
	token, err := os.ReadFile(filepath.Join(n.folder, "data", "operator.token"))
	if err != nil {
		n.t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodGet, "http://"+n.admin+"/metrics", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return string(body)
}
