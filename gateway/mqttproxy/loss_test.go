package mqttproxy

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate/protocol/mqtt"
	"fieldgate/test/certtest"
)

// Of two brokers one is killed: its devices are told, and come to the other.
func TestFailover(t *testing.T) {
	one, two := newMosquitto(t), newMosquitto(t)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + one.address, "mqtt://" + two.address}})
	at := func(which int) int { return g.State().Addresses[which].Open }
	// A client identifier whose broker is the first.
	id := ""
	for i := 0; ; i++ {
		if id = fmt.Sprint("c", i); g.brokers.Load().order(id)[0].address == one.address {
			break
		}
	}
	five := g.connect("d1", mqtt.ClientOptions{ClientID: id})
	old := g.connect("d1", mqtt.ClientOptions{ClientID: id + "-old", Version: mqtt.V311})
	if at(0)+at(1) != 2 || at(0) == 0 {
		t.Fatalf("%+v", g.State())
	}
	one.Kill()
	if got := five.ended(); got != mqtt.ServerShuttingDown {
		t.Errorf("told %v", got)
	}
	eventually(t, "the gateway knows", func() bool { return !g.State().Addresses[0].Healthy && g.State().Unhealthy == 1 })
	five = g.connect("d1", mqtt.ClientOptions{ClientID: id})
	inside := two.dial(mqtt.ClientOptions{ClientID: "inside"})
	inside.hear("d/#", 1)
	five.send(publish("d/d1/raw", "x", 1))
	if got := inside.next(); got.payload != "x" {
		t.Errorf("%+v", got)
	}
	eventually(t, "nobody is counted at the broker that was killed", func() bool { return at(0) == 0 })
	two.Kill()
	five.ended()
	old.ended()
	_, err := tryDial(t, g.address, g.options("d1", mqtt.ClientOptions{}))
	var refusal *mqtt.ReasonError
	if !errors.As(err, &refusal) || refusal.Reason != mqtt.ServerUnavailable {
		t.Errorf("no broker is left: %v", err)
	}
	if _, err = tryDial(t, g.address, g.options("d1", mqtt.ClientOptions{Version: mqtt.V311})); !errors.As(err, &refusal) || refusal.Reason != mqtt.ServerUnavailable {
		t.Errorf("3.1.1: %v", err)
	}
	one.Restart()
	for _, b := range g.brokers.Load().all {
		b.suspect()
	}
	eventually(t, "the broker is back", func() bool { return g.State().Addresses[0].Healthy })
	g.connect("d1", mqtt.ClientOptions{ClientID: id}).send(publish("d/d1/raw", "x", 1))
}

// Every client has its broker, about as many on each, and keeps it when another goes.
func TestClientsSpreadOverBrokers(t *testing.T) {
	var all []string
	for i := range 4 {
		all = append(all, fmt.Sprintf("mqtt://broker%d:1883", i))
	}
	config := Config{Settings: Settings{Addresses: all}, Changed: func() {}}
	b, err := newBrokers(&config, nil)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	first := map[string]*broker{}
	for i := range 4000 {
		id := fmt.Sprint("client-", i)
		first[id] = b.order(id)[0]
		count[first[id].name]++
	}
	for name, n := range count {
		if n < 800 || n > 1200 {
			t.Errorf("%s has %d of 4000 clients", name, n)
		}
	}
	b.all[2].problem = "gone"
	for id, before := range first {
		if now := b.order(id); before != b.all[2] && now[0] != before || now[3] != b.all[2] {
			t.Fatalf("%s moved from %s to %s", id, before.name, now[0].name)
		}
	}
}

// A device is cut at each step of QoS 2, in both directions: each message arrives once.
func TestQoS2OutlivesACutConnection(t *testing.T) {
	for _, v := range versions {
		m := newMosquitto(t)
		g := newGateway(t, Settings{Addresses: []string{"mqtt://" + m.address}})
		inside := m.dial(mqtt.ClientOptions{ClientID: "inside"})
		inside.hear("d/+/raw", 2)
		connect := mqtt.Connect{Version: v}
		if v == mqtt.V5 {
			connect.Properties.SetNumber(mqtt.SessionExpiryInterval, 3600)
		}
		reconnect := func(device *scripted) *scripted {
			if device != nil {
				device.in.conn.Close()
			}
			device = g.raw("d1", connect)
			device.packet(mqtt.CONNACK)
			return device
		}
		device := reconnect(nil)
		p := publish("d/d1/raw", "up", 2)
		p.PacketID = 7
		device.write(p.Append(nil, v))
		device.packet(mqtt.PUBREC)
		device = reconnect(device)
		p.Dup = true
		device.write(p.Append(nil, v))
		device.packet(mqtt.PUBREC)
		device.write((&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 7}).Append(nil, v))
		device.packet(mqtt.PUBCOMP)
		device = reconnect(device)
		device.write((&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 7}).Append(nil, v))
		device.packet(mqtt.PUBCOMP)

		device.write((&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/d1/command"), QoS: 2}}}).Append(nil, v))
		device.packet(mqtt.SUBACK)
		inside.send(publish("d/d1/command", "down", 2))
		var got mqtt.Publish
		if err := got.Decode(4, device.packet(mqtt.PUBLISH), v); err != nil || string(got.Payload) != "down" {
			t.Fatalf("%+v, %v", got, err)
		}
		device = reconnect(device)
		id := got.PacketID
		if err := got.Decode(12, device.packet(mqtt.PUBLISH), v); err != nil || got.PacketID != id {
			t.Fatalf("%+v, %v", got, err)
		}
		device.write((&mqtt.Ack{Type: mqtt.PUBREC, PacketID: id}).Append(nil, v))
		device.expect(mqtt.PUBREL, fmt.Sprintf("%04x", id))
		device = reconnect(device)
		device.expect(mqtt.PUBREL, fmt.Sprintf("%04x", id))
		device.write((&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: id}).Append(nil, v))

		last := publish("d/d1/raw", "last", 1)
		last.PacketID = 8
		device.write(last.Append(nil, v))
		device.packet(mqtt.PUBACK)
		if first, second := inside.next(), inside.next(); first.payload != "up" || second.payload != "last" {
			t.Errorf("%v: %+v %+v", v, first, second)
		}
	}
}

// A command that the broker has not acknowledged was not carried out: sent again it is, and after that it is answered here.
func TestACommandIsDoneWhenTheBrokerHasIt(t *testing.T) {
	b := newScriptedBroker(t, nil)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}})
	p := publish("d/d1/once", "x", 1)
	p.PacketID = 1
	p.Properties.AddUser("idempotency-key", "k1")
	for round := range 3 {
		device := g.raw("d1", mqtt.Connect{CleanStart: true})
		device.packet(mqtt.CONNACK)
		upstream := <-b.devices
		device.write(p.Append(nil, mqtt.V5))
		if round < 2 {
			upstream.packet(mqtt.PUBLISH)
		}
		if round == 1 {
			upstream.write((&mqtt.Ack{Type: mqtt.PUBACK, PacketID: 1}).Append(nil, mqtt.V5))
		}
		if round > 0 {
			device.expect(mqtt.PUBACK, "0001")
		}
		device.in.conn.Close()
		eventually(t, "the connection is gone", func() bool { return g.Counters.Connections.Load() == 0 })
	}
}

// What a broker says at the end reaches a version 5 device, but for where else to go.
func TestTheBrokersFarewell(t *testing.T) {
	b := newScriptedBroker(t, nil)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}})
	for said, told := range map[mqtt.Reason]mqtt.Reason{mqtt.SessionTakenOver: mqtt.SessionTakenOver, mqtt.ReceiveMaximumExceeded: mqtt.ReceiveMaximumExceeded,
		mqtt.UseAnotherServer: mqtt.ServerShuttingDown, mqtt.ServerBusy: mqtt.ServerShuttingDown} {
		c := g.connect("d1", mqtt.ClientOptions{})
		upstream := <-b.devices
		p := mqtt.Disconnect{Type: mqtt.DISCONNECT, Reason: said}
		upstream.write(p.Append(nil, mqtt.V5))
		if got := c.ended(); got != told {
			t.Errorf("%v becomes %v", said, got)
		}
	}
}

// A device that reads nothing holds up its own connection to the broker, and nobody else's; the other way round, too.
func TestBackPressure(t *testing.T) {
	b := newScriptedBroker(t, nil)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}})
	flood := func(to *scripted, p mqtt.Publish) (sent int) {
		encoded := p.Append(nil, mqtt.V5)
		for {
			to.in.conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			n, err := to.in.conn.Write(encoded)
			sent += n
			if err != nil {
				return sent
			}
		}
	}
	const bound = 64 << 20 // buffers of four sockets, which the kernel sizes
	ear := g.raw("dash", mqtt.Connect{CleanStart: true})
	ear.packet(mqtt.CONNACK)
	if sent := flood(<-b.devices, publish("d/d1/raw", strings.Repeat("x", 10_000), 0)); sent > bound {
		t.Errorf("the gateway took %d bytes for a device that reads none", sent)
	}
	device := g.raw("d1", mqtt.Connect{CleanStart: true})
	device.packet(mqtt.CONNACK)
	<-b.devices
	if sent := flood(device, publish("d/d1/raw", strings.Repeat("x", 10_000), 0)); sent > bound {
		t.Errorf("the gateway took %d bytes for a broker that reads none", sent)
	}
	other := g.raw("d2", mqtt.Connect{CleanStart: true})
	other.packet(mqtt.CONNACK)
	upstream := <-b.devices
	p := publish("d/d2/raw", "x", 0)
	other.write(p.Append(nil, mqtt.V5))
	upstream.packet(mqtt.PUBLISH)
}

// Brokers are called over TLS, and only those that the settings trust.
func TestBrokersOverTLS(t *testing.T) {
	authority := certtest.NewAuthority(t)
	folder := t.TempDir()
	certificate, key, ca := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"), authority.File
	certtest.Write(t, authority.Issue(t, -time.Hour, time.Hour, "localhost"), certificate, key)
	m := newMosquitto(t, "certfile "+certificate, "keyfile "+key, "cafile "+ca, "require_certificate true")
	_, port, _ := net.SplitHostPort(m.address)
	address := "mqtts://localhost:" + port
	g := newGateway(t, Settings{Addresses: []string{address}, CA: ca, Certificate: certificate, Key: key})
	g.connect("d1", mqtt.ClientOptions{}).send(publish("d/d1/raw", "x", 1))
	g = newGateway(t, Settings{Addresses: []string{address}})
	if _, err := tryDial(t, g.address, g.options("d1", mqtt.ClientOptions{})); err == nil {
		t.Error("a broker that nobody vouches for is called")
	}
}
