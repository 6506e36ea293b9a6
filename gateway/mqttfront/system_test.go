package mqttfront

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/protocol/mqtt"
)

// The statistics come by themselves, to who may hear them and asks by name; "#" does not (MQTT 5 §4.7.2), and nobody else publishes there.
func TestSystemTopics(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(c *Config) { c.SystemInterval = 10 * time.Millisecond })
	all := everything()
	system := *all
	system.API, system.Operations = "system", []fieldgate.Operation{all.Operations[0]}
	system.Operations[0].ID, system.Operations[0].MQTT = "system", &fieldgate.MQTTBinding{Topic: "$SYS/#", Action: fieldgate.ActionBoth, QoS: 1, Retain: true}
	g.install(all, &system)
	c := g.connect("dash", mqtt.ClientOptions{})
	c.hear("#", 1)
	for range 20 {
		if got := c.send(publish("other/topic", "x", 1)); got != mqtt.Success {
			t.Fatal(got)
		}
		if r := c.next(); r.topic != "other/topic" {
			t.Fatalf("%q heard as #", r.topic)
		}
	}
	for _, retain := range []bool{false, true} {
		forged := publish("$SYS/broker/uptime", "forged", 1)
		forged.Retain = retain
		if got := c.send(forged); got != mqtt.NotAuthorized {
			t.Fatalf("published there: %v", got)
		}
	}
	c.hear("$SYS/#", 0)
	heard := map[string]bool{}
	for len(heard) < len(g.statistics(time.Now())) {
		r := c.next()
		name, ok := strings.CutPrefix(r.topic, "$SYS/broker/")
		value, err := strconv.ParseUint(r.payload, 10, 64)
		if !ok || err != nil || r.retain || r.qos != 0 || name == "messages/received" && value < 20 || name == "clients/connected" && value != 1 {
			t.Fatalf("heard %+v", r)
		}
		heard[name] = true
	}
}
