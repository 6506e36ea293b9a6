package mqttproxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/mqttfront"
	"fieldgate/protocol/mqtt"
)

// pooled is a gateway whose devices share a few connections to the brokers.
type pooled struct {
	*gateway
	pool  *Pool
	front *mqttfront.Front
}

func newPooled(t testing.TB, settings Settings, set ...func(*mqttfront.Config)) *pooled {
	t.Helper()
	g := &pooled{gateway: newPipeline(t)}
	if settings.Uplinks == 0 {
		settings.Uplinks = 2
	}
	var err error
	if g.pool, err = NewPool(PoolConfig{Settings: settings, Logger: slog.New(slog.DiscardHandler), ProbeInterval: time.Hour, WriteTimeout: patience}); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.address = listener.Addr().String()
	config := mqttfront.Config{Pipeline: g.pipeline, Listeners: []*mqttfront.Listener{{Listener: listener}}, Folder: t.TempDir(), Backbone: g.pool, Logger: slog.New(slog.DiscardHandler)}
	for _, set := range set {
		set(&config)
	}
	if g.front, err = mqttfront.New(config); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	uplinks, stopUplinks := context.WithCancel(context.Background())
	ended, carried := make(chan error, 1), make(chan struct{})
	go func() {
		g.pool.Run(uplinks, g.front.Receive)
		close(carried)
	}()
	go func() { ended <- g.front.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		stopUplinks()
		<-carried
		for _, b := range g.pool.State().Addresses {
			if b.Open != 0 {
				t.Errorf("%s: %d uplinks are counted after the end", b.Address, b.Open)
			}
		}
	})
	eventually(t, "the uplinks are there", func() bool { return g.linked() == settings.Uplinks })
	return g
}

func (g *pooled) linked() (n int) {
	for _, u := range g.pool.uplinks {
		if u.connected.Load() {
			n++
		}
	}
	return n
}

// Messages of every quality of service pass both ways, as one connection of the device's own would have them.
func TestPoolCarriesMessages(t *testing.T) {
	for _, broker := range versions {
		m := newMosquitto(t)
		g := newPooled(t, Settings{Addresses: []string{"mqtt://" + m.address}, Prefix: "plant/", Version: broker})
		inside := m.dial(mqtt.ClientOptions{ClientID: "inside"})
		inside.hear("plant/#", 2)
		for _, v := range versions {
			device, ear := g.connect("d1", mqtt.ClientOptions{Version: v}), g.connect("dash", mqtt.ClientOptions{Version: v})
			device.hear("d/d1/command", 2)
			ear.hear("d/+/raw", 2)
			for qos := range byte(3) {
				p := publish("d/d1/raw", fmt.Sprint("up", qos), qos)
				p.Properties.AddUser("a", "b")
				p.Properties.SetText(mqtt.ResponseTopic, []byte("d/d1/answer"))
				device.send(p)
				want := received{topic: "d/d1/raw", payload: string(p.Payload), qos: qos}
				if v == mqtt.V5 && broker == mqtt.V5 {
					want.user, want.response = "a=b ", "d/d1/answer"
				}
				if got := ear.next(); got != want {
					t.Errorf("%v over %v: %+v, want %+v", v, broker, got, want)
				}
				if got := inside.next(); got.topic != "plant/d/d1/raw" || got.qos != qos {
					t.Errorf("%v over %v: %+v", v, broker, got)
				}
				inside.send(publish("plant/d/d1/command", "down", qos))
				inside.next()
				if got := device.next(); got != (received{topic: "d/d1/command", payload: "down", qos: qos}) {
					t.Errorf("%v over %v: %+v", v, broker, got)
				}
			}
			if got := device.send(publish("d/d2/raw", "x", 1)); v == mqtt.V5 && got != mqtt.NotAuthorized {
				t.Errorf("another's topic: %v", got)
			}
			device.Disconnect(0)
			ear.Disconnect(0)
		}
		if len(inside.received) != 0 {
			t.Errorf("%+v", inside.next())
		}
		if open := g.pool.State().Addresses[0].Open; open != 2 {
			t.Errorf("%d connections to the broker", open)
		}
	}
}

// Whoever subscribes gets the retained messages, and nobody else gets them again; overlapping filters are heard as each subscriber has them.
func TestPoolRetained(t *testing.T) {
	for _, broker := range versions {
		m := newMosquitto(t)
		g := newPooled(t, Settings{Addresses: []string{"mqtt://" + m.address}, Version: broker, Uplinks: 3})
		device := g.connect("d1", mqtt.ClientOptions{})
		kept := publish("d/d1/raw", "kept", 1)
		kept.Retain = true
		device.send(kept)
		var ears []*client
		for i := range 4 {
			ear := g.connect("dash", mqtt.ClientOptions{ClientID: fmt.Sprint("ear", i)})
			filter := "d/+/raw"
			if i == 3 {
				filter = "d/d1/raw"
			}
			ear.hear(filter, 1)
			if got := ear.next(); got.payload != "kept" || !got.retain {
				t.Errorf("%v: %+v", broker, got)
			}
			ears = append(ears, ear)
		}
		kept.Payload = []byte("newer")
		device.send(kept)
		for _, ear := range ears {
			if got := ear.next(); got.payload != "newer" || got.retain {
				t.Errorf("%v: %+v", broker, got)
			}
		}
		// Both filters at once, and with identifiers where a broker has them.
		both := g.connect("dash", mqtt.ClientOptions{ClientID: "both"})
		both.subscribe(mqtt.Filter{Filter: []byte("d/+/raw"), QoS: 1, RetainHandling: 2}, mqtt.Filter{Filter: []byte("d/+/telemetry"), QoS: 2, RetainHandling: 2})
		device.send(publish("d/d1/telemetry", `{"temp":1}`, 2))
		if got := both.next(); got.topic != "d/d1/telemetry" || got.qos != 2 {
			t.Errorf("%v: %+v", broker, got)
		}
		for _, filter := range []mqtt.Filter{{Filter: []byte("d/+/raw"), NoLocal: true}, {Filter: []byte("d/+/raw"), RetainAsPublished: true}} {
			if got := both.subscribe(filter); got[0] != mqtt.ImplementationSpecificError {
				t.Errorf("%+v: %v", filter, got)
			}
		}
		if _, err := ears[0].Unsubscribe(t.Context(), "d/+/raw"); err != nil {
			t.Fatal(err)
		}
		device.send(publish("d/d1/raw", "last", 1))
		for i, ear := range ears {
			if i == 0 {
				if len(ear.received) != 0 {
					t.Errorf("%v: %+v", broker, ear.next())
				}
			} else if got := ear.next(); got.payload != "last" {
				t.Errorf("%v: %+v", broker, got)
			}
		}
	}
}

// A session outlives its connection, with what waits for it; wills are published by the gateway.
func TestPoolSessionsAndWills(t *testing.T) {
	m := newMosquitto(t)
	g := newPooled(t, Settings{Addresses: []string{"mqtt://" + m.address}})
	inside := m.dial(mqtt.ClientOptions{ClientID: "inside"})
	inside.hear("d/+/raw", 1)
	for _, v := range versions {
		will := publish("d/d1/raw", "gone", 1)
		o := mqtt.ClientOptions{Version: v, Resume: true, Will: &will}
		if v == mqtt.V5 {
			o.Properties.SetNumber(mqtt.SessionExpiryInterval, 3600)
		}
		c := g.connect("d1", o)
		if c.Connack.SessionPresent != (v == mqtt.V5) {
			t.Errorf("%v: session present %v", v, c.Connack.SessionPresent)
		}
		c.hear("d/d1/command", 2)
		c.Close()
		if got := inside.next(); got.payload != "gone" {
			t.Errorf("%v: %+v", v, got)
		}
		for qos := byte(1); qos <= 2; qos++ {
			inside.send(publish("d/d1/command", "meanwhile", qos))
		}
		c = g.connect("d1", o)
		for qos := byte(1); qos <= 2; qos++ {
			if got := c.next(); got.payload != "meanwhile" || got.qos != qos {
				t.Errorf("%v: %+v", v, got)
			}
		}
		c.hear("d/d1/command", 2) // it has read all: closing does not reset the connection
		c.Disconnect(0)
		eventually(t, "the gateway has read that", func() bool { return g.front.Counters.Connections.Load() == 0 })
	}
	if len(inside.received) != 0 {
		t.Errorf("%+v", inside.next())
	}
}

// A broker is killed: its devices stay. What they publish meanwhile arrives when another connection is there, and they hear again.
func TestPoolOutlivesABroker(t *testing.T) {
	m := newMosquitto(t)
	g := newPooled(t, Settings{Addresses: []string{"mqtt://" + m.address}})
	device, ear := g.connect("d1", mqtt.ClientOptions{}), g.connect("dash", mqtt.ClientOptions{})
	ear.hear("d/+/raw", 1)
	m.Kill()
	eventually(t, "the uplinks are lost", func() bool { return g.linked() == 0 })
	if _, err := tryDial(t, g.address, g.options("d2", mqtt.ClientOptions{})); err == nil {
		t.Error("a device is let in without a broker")
	}
	sent := make(chan mqtt.Reason, 1)
	go func() { sent <- device.send(publish("d/d1/raw", "meanwhile", 1)) }()
	eventually(t, "it waits", func() bool {
		for _, u := range g.pool.uplinks {
			u.mu.Lock()
			waits := len(u.waiting) > 0
			u.mu.Unlock()
			if waits {
				return true
			}
		}
		return false
	})
	m.Restart()
	if got := <-sent; got != mqtt.Success {
		t.Error(got)
	}
	eventually(t, "the uplinks are back", func() bool { return g.linked() == 2 })
	eventually(t, "the filter stands", func() bool {
		device.send(publish("d/d1/raw", "now", 1))
		return len(ear.received) > 0
	})
}

// Other settings count at once, and no device is disconnected for them.
func TestPoolSettings(t *testing.T) {
	one, two := newMosquitto(t), newMosquitto(t)
	g := newPooled(t, Settings{Addresses: []string{"mqtt://" + one.address}})
	device, ear := g.connect("d1", mqtt.ClientOptions{}), g.connect("dash", mqtt.ClientOptions{})
	ear.hear("d/+/raw", 1)
	if _, err := g.pool.Prepare(Settings{Addresses: []string{"http://" + two.address}}); err == nil {
		t.Error("an address that is none is taken")
	}
	apply, err := g.pool.Prepare(Settings{Addresses: []string{"mqtt://" + two.address}, Prefix: "p/"})
	if err != nil {
		t.Fatal(err)
	}
	apply()
	inside := two.dial(mqtt.ClientOptions{ClientID: "inside"})
	inside.hear("p/#", 1)
	eventually(t, "messages take the other way", func() bool {
		device.send(publish("d/d1/raw", "x", 1))
		return len(inside.received) > 0
	})
	if got := inside.next(); got.topic != "p/d/d1/raw" {
		t.Errorf("%+v", got)
	}
	eventually(t, "the filter stands", func() bool {
		device.send(publish("d/d1/raw", "x", 1))
		return len(ear.received) > 0
	})
	if state := g.pool.State(); len(state.Addresses) != 1 || state.Addresses[0].Address != "mqtt://"+two.address {
		t.Errorf("%+v", state)
	}
}

// A device that reads nothing holds nobody up.
func TestPoolSlowDevice(t *testing.T) {
	m := newMosquitto(t)
	g := newPooled(t, Settings{Addresses: []string{"mqtt://" + m.address}, Uplinks: 1})
	slow := g.raw("dash", mqtt.Connect{CleanStart: true})
	slow.packet(mqtt.CONNACK)
	slow.write((&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/+/raw"), QoS: 1}}}).Append(nil, mqtt.V5))
	slow.packet(mqtt.SUBACK)
	quick := g.connect("dash", mqtt.ClientOptions{ClientID: "quick"})
	quick.hear("d/+/raw", 1)
	device := g.connect("d1", mqtt.ClientOptions{})
	for i := range 300 { // several windows of the broker's
		device.send(publish("d/d1/raw", fmt.Sprint(i), 1))
		if got := quick.next(); got.payload != fmt.Sprint(i) {
			t.Fatalf("%d: %+v", i, got)
		}
	}
}

// What a broker refuses, the device is told; what it cannot take is not sent to it.
func TestPoolRefusals(t *testing.T) {
	b := newScriptedBroker(t, func(*mqtt.Connect) *mqtt.Connack {
		ack := &mqtt.Connack{}
		ack.Properties.SetNumber(mqtt.MaximumQoS, 1)
		ack.Properties.SetNumber(mqtt.RetainAvailable, 0)
		ack.Properties.SetNumber(mqtt.MaximumPacketSize, 200)
		return ack
	})
	g := newPooled(t, Settings{Addresses: []string{"mqtt://" + b.address}, Uplinks: 1})
	upstream := <-b.devices
	device := g.connect("d1", mqtt.ClientOptions{})
	kept := publish("d/d1/raw", "x", 1)
	kept.Retain = true
	for _, p := range []mqtt.Publish{publish("d/d1/raw", "x", 2), kept, publish("d/d1/raw", string(make([]byte, 200)), 1)} {
		if got := device.send(p); !got.Failed() {
			t.Errorf("%+v is taken", p)
		}
	}
	go func() {
		var p mqtt.Publish
		if err := p.Decode(2, upstream.packet(mqtt.PUBLISH), mqtt.V5); err != nil {
			t.Error(err)
		}
		upstream.write((&mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID, Reason: mqtt.QuotaExceeded}).Append(nil, mqtt.V5))
		var s mqtt.Subscribe
		if err := s.Decode(upstream.packet(mqtt.SUBSCRIBE), mqtt.V5, 1); err != nil {
			t.Error(err)
		}
		upstream.write((&mqtt.SubAck{Type: mqtt.SUBACK, PacketID: s.PacketID, Reasons: []mqtt.Reason{mqtt.NotAuthorized}}).Append(nil, mqtt.V5))
	}()
	if got := device.send(publish("d/d1/raw", "x", 1)); got != mqtt.QuotaExceeded {
		t.Error(got)
	}
	if got := device.subscribe(mqtt.Filter{Filter: []byte("d/d1/command"), QoS: 1}); got[0] != mqtt.NotAuthorized {
		t.Error(got)
	}
	eventually(t, "a record tells of it", func() bool {
		return g.records.count(func(r *fieldgate.Record) bool { return r.Problem != "" }) > 0
	})
}
