package mqttfront

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/protocol/mqtt"
)

// A new subscriber gets every retained message, however many its filter matches and however slowly it takes them.
func TestAllRetainedMessagesAreSent(t *testing.T) {
	const count = 300
	for qos := range byte(2) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			g := newGateway(t, func(c *Config) {
				c.MaxQueued, c.Limits = 20, mqtt.DefaultLimits()
				c.Limits.SendWindow = 10
			})
			g.install(everything())
			app := g.connect("dash", mqtt.ClientOptions{})
			for i := range count {
				p := publish(fmt.Sprint("old/", i), strings.Repeat("x", 5000), 1)
				p.Retain = true
				app.send(p)
			}
			ear := g.connect("other", mqtt.ClientOptions{})
			ear.hear("old/#", qos)
			topics := map[string]bool{}
			for range count {
				r := ear.next()
				if !r.retain || r.qos != qos || topics[r.topic] {
					t.Fatalf("%s: retain %v, QoS %d, seen before: %v", r.topic, r.retain, r.qos, topics[r.topic])
				}
				topics[r.topic] = true
			}
		})
	}
}

// What a subscriber misses is counted, and recorded once in a while, not for each message.
func TestDroppedMessagesAreRecorded(t *testing.T) {
	g := newGateway(t, func(c *Config) { c.MaxQueued = 3 })
	device := g.connect("d1", persistent(mqtt.V5, "sleepy"))
	device.hear("d/d1/command", 1)
	device.Disconnect(0)
	for g.Counters.Connections.Load() != 0 {
		time.Sleep(time.Millisecond)
	}
	app := g.connect("dash", mqtt.ClientOptions{})
	for range 10 {
		app.send(publish("d/d1/command", "x", 1))
	}
	if n := g.Counters.DroppedOverflow.Load(); n != 7 {
		t.Errorf("%d dropped, want 7", n)
	}
	n := g.records.count(func(r *fieldgate.Record) bool {
		return r.Findings&fieldgate.FindingDropped != 0 && r.Principal == "d1" && r.Kind == fieldgate.PrincipalDevice && r.Route == "d/d1/command"
	})
	if n != 1 {
		t.Errorf("%d records of dropped messages, want 1", n)
	}
}
