package mqttfront

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"fieldgate/protocol/mqtt"
	"fieldgate/test/smalldisk"
)

// kill goes on with what a kill would have left.
func (g *gateway) kill() {
	g.t.Helper()
	left := g.t.TempDir()
	if err := os.CopyFS(left, os.DirFS(g.folder)); err != nil {
		g.t.Fatal(err)
	}
	g.stopRun()
	g.folder = left
	g.start(nil)
}

// resume connects to a session that lasts, present or not.
func (g *gateway) resume(principal, client string) *raw {
	g.t.Helper()
	return rawDialWith(g.t, g, principal, client, func(p *mqtt.Connect) {
		p.CleanStart = false
		p.Properties.SetNumber(mqtt.SessionExpiryInterval, 3600)
	})
}

func (c *raw) publish(id uint16, topic, payload string, dup bool) {
	c.t.Helper()
	p := publish(topic, payload, 2)
	p.PacketID, p.Dup = id, dup
	c.write(p.Append(nil, mqtt.V5))
}

func (c *raw) ack(kind mqtt.PacketType, id uint16) {
	c.t.Helper()
	c.write((&mqtt.Ack{Type: kind, PacketID: id}).Append(nil, mqtt.V5))
}

func (c *raw) subscribe(filter string) {
	c.t.Helper()
	c.write((&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte(filter), QoS: 2}}}).Append(nil, mqtt.V5))
	if suback := c.packet(mqtt.SUBACK); suback[len(suback)-1] != 2 {
		c.t.Fatalf("SUBACK %x", suback)
	}
}

// settle returns when the server has handled what was sent.
func (c *raw) settle() {
	c.t.Helper()
	c.write([]byte{0xC0, 0})
	c.packet(mqtt.PINGRESP)
}

// delivery reads a PUBLISH of this payload and gives its identifier.
func (c *raw) delivery(payload string) uint16 {
	c.t.Helper()
	body := c.packet(mqtt.PUBLISH)
	if !strings.HasSuffix(string(body), payload) {
		c.t.Fatalf("got %q, want %q", body, payload)
	}
	return binary.BigEndian.Uint16(body[2+binary.BigEndian.Uint16(body):])
}

// hexID is a packet identifier as expect takes it.
func hexID(id uint16) string { return hex.EncodeToString(binary.BigEndian.AppendUint16(nil, id)) }

// [MQTT-4.3.3-10] [MQTT-4.3.3-12] over kills: what was answered with PUBREC is published once, whether anybody hears it or not, and the
// identifier is free after PUBCOMP.
func TestReceivedQoS2SurvivesKills(t *testing.T) {
	g := newGateway(t, nil)
	ear := g.connect("dash", persistent(mqtt.V5, "ear"))
	ear.hear("d/d1/raw", 2)
	ear.Disconnect(0)
	device := g.resume("d1", "device")
	device.publish(7, "d/d1/raw", "first", false)
	device.expect(mqtt.PUBREC, "0007")
	device.publish(8, "d/d1/status", "for nobody", false)
	device.expect(mqtt.PUBREC, "0008")
	device.publish(9, "d/d1/store", `{"temp":20}`, false)
	device.expect(mqtt.PUBREC, "0009")
	if got := <-g.bodies; got != `/devices/d1/store {"temp":20}` {
		t.Fatal(got)
	}
	g.kill()
	ear = g.connect("dash", persistent(mqtt.V5, "other ear"))
	ear.hear("d/d1/status", 2)
	ear.Disconnect(0)
	device = g.resume("d1", "device")
	for _, again := range []struct {
		id             uint16
		topic, payload string
	}{{7, "d/d1/raw", "first"}, {8, "d/d1/status", "for nobody"}, {9, "d/d1/store", `{"temp":20}`}} {
		device.publish(again.id, again.topic, again.payload, true)
		device.expect(mqtt.PUBREC, hexID(again.id))
		device.ack(mqtt.PUBREL, again.id)
		device.expect(mqtt.PUBCOMP, hexID(again.id))
	}
	g.kill()
	device = g.resume("d1", "device")
	device.publish(7, "d/d1/raw", "second", false)
	device.expect(mqtt.PUBREC, "0007")
	device.publish(8, "d/d1/status", "for somebody", false)
	device.expect(mqtt.PUBREC, "0008")
	ear = g.connect("dash", persistent(mqtt.V5, "other ear"))
	if r := ear.next(); r.payload != "for somebody" {
		t.Errorf("heard %q", r.payload)
	}
	ear = g.connect("dash", persistent(mqtt.V5, "ear"))
	if first, second := ear.next(), ear.next(); first.payload != "first" || second.payload != "second" || len(ear.received) > 0 {
		t.Errorf("heard %q, %q and %d more", first.payload, second.payload, len(ear.received))
	}
	if len(g.bodies) > 0 {
		t.Error("the service was called again")
	}
}

// [MQTT-4.3.3-1] to [MQTT-4.3.3-6] over kills: PUBLISH with the same identifier until PUBREC, then PUBREL until PUBCOMP, then nothing.
func TestDeliveredQoS2SurvivesKills(t *testing.T) {
	g := newGateway(t, nil)
	device := g.resume("d1", "device")
	device.subscribe("d/d1/command")
	app := g.connect("dash", mqtt.ClientOptions{})
	for _, payload := range []string{"one", "two"} {
		if got := app.send(publish("d/d1/command", payload, 2)); got != mqtt.Success {
			t.Fatal(got)
		}
	}
	one, two := device.delivery("one"), device.delivery("two")
	g.kill()
	device = g.resume("d1", "device")
	device.expect(mqtt.PUBLISH, "000c "+hex.EncodeToString([]byte("d/d1/command"))+hexID(one))
	device.expect(mqtt.PUBLISH, "000c "+hex.EncodeToString([]byte("d/d1/command"))+hexID(two))
	device.ack(mqtt.PUBREC, one)
	device.expect(mqtt.PUBREL, hexID(one))
	g.kill()
	device = g.resume("d1", "device")
	device.expect(mqtt.PUBREL, hexID(one))
	if got := device.delivery("two"); got != two {
		t.Errorf("identifier %d, was %d", got, two)
	}
	device.ack(mqtt.PUBREC, two)
	device.expect(mqtt.PUBREL, hexID(two))
	device.ack(mqtt.PUBCOMP, one)
	device.ack(mqtt.PUBCOMP, two)
	device.settle()
	g.restart() // nobody waits for the disk after PUBCOMP
	device = g.resume("d1", "device")
	app = g.connect("dash", mqtt.ClientOptions{})
	app.send(publish("d/d1/command", "three", 2))
	device.delivery("three")
}

// Retained messages are delivered as others are.
func TestRetainedQoS2SurvivesKills(t *testing.T) {
	g := newGateway(t, nil)
	app := g.connect("dash", mqtt.ClientOptions{})
	m := publish("d/d1/command", "retained", 2)
	m.Retain = true
	app.send(m)
	device := g.resume("d1", "device")
	device.subscribe("d/d1/command")
	id := device.delivery("retained")
	g.kill()
	device = g.resume("d1", "device")
	if got := device.delivery("retained"); got != id {
		t.Errorf("identifier %d, was %d", got, id)
	}
	device.ack(mqtt.PUBREC, id)
	device.expect(mqtt.PUBREL, hexID(id))
	device.ack(mqtt.PUBCOMP, id)
	device.settle()
	g.restart()
	device = g.resume("d1", "device")
	app = g.connect("dash", mqtt.ClientOptions{})
	app.send(publish("d/d1/command", "next", 2))
	device.delivery("next")
}

// What is refused because the disk is full is heard by nobody: its publisher will send it again.
func TestQoS2IsNotHeardBeforeItIsStored(t *testing.T) {
	folder := t.TempDir()
	smalldisk.Mount(t, folder, 64)
	g := newGatewayIn(t, folder, nil)
	kept := g.connect("dash", persistent(mqtt.V5, "kept"))
	kept.hear("d/d1/raw", 2)
	other := g.connect("other", mqtt.ClientOptions{})
	other.hear("d/d1/raw", 1)
	device := g.connect("d1", persistent(mqtt.V5, "device"))
	give := smalldisk.Fill(t, g.folder)
	if got := device.send(publish("d/d1/raw", "during", 2)); got != mqtt.QuotaExceeded {
		t.Fatal(got)
	}
	give()
	if got := device.send(publish("d/d1/raw", "after", 2)); got != mqtt.Success {
		t.Fatal(got)
	}
	for _, c := range []*client{kept, other} {
		if r := c.next(); r.payload != "after" {
			t.Errorf("heard %q", r.payload)
		}
	}
	if n := g.findWaiting("kept"); n > 1 {
		t.Errorf("%d messages are said to wait", n)
	}
}

func (g *gateway) findWaiting(client string) (messages int) {
	g.t.Helper()
	g.eachSession(func(s *session) {
		s.mu.Lock()
		if s.key.client == client {
			messages = s.waiting.messages
		}
		s.mu.Unlock()
	})
	return messages
}
