package mqttfront

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttcluster"
	"fieldgate/protocol/mqtt"
	"fieldgate/test/nats"
)

// newGateways are gateways that share a bus.
func newGateways(t *testing.T, count int) []*gateway {
	t.Helper()
	url := nats.New(t, 1, "").URLs()
	var gateways []*gateway
	for i := range count {
		name := fmt.Sprint("g", i+1)
		connection, err := bus.Connect(bus.Cluster{URLs: url, Name: name, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(connection.Close)
		cluster := mqttcluster.New(mqttcluster.Config{Node: name, Incarnation: 1, Bus: connection, Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		gateways = append(gateways, newGateway(t, func(c *Config) {
			c.Cluster = cluster
			c.Pipeline.Broker.Join(cluster)
		}))
		go func() { ended <- cluster.Run(ctx) }()
	}
	for _, g := range gateways {
		until(t, "the gateways to know each other", func() bool { return len(g.cluster.Members()) == count })
	}
	return gateways
}

func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !yes(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// knows waits until the gateway knows so many filters of the others.
func (g *gateway) knows(filters int) {
	g.t.Helper()
	until(g.t.(*testing.T), fmt.Sprint(filters, " filters to be known"), func() bool { return g.cluster.State().Filters == filters })
}

type hearer chan *broker.Message

func (s hearer) Deliver(m *broker.Message, _ byte) { s <- m }

// What is published at one gateway is heard at the others as it is at that one: at the granted quality of service, by MQTT sessions and
// streams, and by nobody who may not.
func TestHeardElsewhere(t *testing.T) {
	g := newGateways(t, 3)
	ear := g[1].connect("dash", mqtt.ClientOptions{ClientID: "ear"})
	ear.subscribe(mqtt.Filter{Filter: []byte("d/+/raw"), QoS: 2, RetainAsPublished: true})
	low := g[2].connect("dash", mqtt.ClientOptions{ClientID: "low", Version: mqtt.V311})
	low.hear("d/d1/raw", 0)
	sse := make(hearer, 100)
	defer g[2].pipeline.Broker.Subscribe("d/#", 1, sse)()
	overheard := make(hearer, 100)
	defer g[2].pipeline.Broker.Overhear("#", overheard)()
	g[0].knows(3)
	device := g[0].connect("d1", mqtt.ClientOptions{})
	for qos := range byte(3) {
		p := publish("d/d1/raw", fmt.Sprint(qos), qos)
		p.Retain = qos == 2
		p.Properties.AddUser("k", "v")
		if reason := device.send(p); reason != mqtt.Success {
			t.Fatal(reason)
		}
		if r := ear.next(); r.payload != fmt.Sprint(qos) || r.qos != qos || r.retain != p.Retain || r.user["k"] != "v" {
			t.Errorf("QoS %d: %+v", qos, r)
		}
		if r := low.next(); r.payload != fmt.Sprint(qos) || r.qos != 0 || r.retain {
			t.Errorf("QoS %d: %+v", qos, r)
		}
		if m := <-sse; string(m.Payload) != fmt.Sprint(qos) || m.Publisher.ID != "d1" {
			t.Errorf("QoS %d: %+v", qos, m)
		}
	}
	// It is retained where it was published, and by nobody else for having heard it.
	for i, want := range []int{1, 0, 0} {
		found := 0
		g[i].Retained("d/d1/raw", func(*broker.Message) bool { found++; return true })
		if found != want {
			t.Errorf("gateway %d has %d retained messages", i, found)
		}
	}
	if device.send(publish("d/d2/raw", "x", 1)) != mqtt.NotAuthorized {
		t.Error("another device's topic")
	}
	g[2].pipeline.Broker.PublishHere(g[2].Front, &broker.Message{Topic: "d/d1/raw", Payload: []byte("here")}, nil)
	if m := <-overheard; string(m.Payload) != "here" {
		t.Errorf("what another gateway tells of anyway was overheard: %s", m.Payload)
	}
	if r := low.next(); r.payload != "here" {
		t.Errorf("%+v", r)
	}

	// A subscriber's grants are checked where it subscribed, at each message.
	g[1].change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalApp, ID: "dash", State: fieldgate.StateRevoked})
	g[0].knows(2)
	if device.send(publish("d/d1/raw", "x", 1)) != mqtt.Success {
		t.Error("a message that one less hears")
	}
	if len(ear.received) != 0 {
		t.Error("a revoked caller hears messages")
	}
}

// Answers reach their caller at whatever gateway its sessions are, and nobody else.
func TestAnswersElsewhere(t *testing.T) {
	g := newGateways(t, 2)
	ear := g[1].connect("d1", mqtt.ClientOptions{ClientID: "ear"})
	ear.hear("fg/d1/#", 1)
	sse := make(hearer, 100)
	defer g[1].pipeline.Broker.Subscribe("#", 1, sse)() // no contract lets a stream do that
	g[0].knows(2)
	device := g[0].connect("d1", mqtt.ClientOptions{})
	device.hear("fg/d1/#", 1)
	p := publish("d/d1/store", `{"temp":1}`, 1)
	p.Properties.SetText(mqtt.ResponseTopic, []byte("fg/d1/a"))
	if reason := device.send(p); reason != mqtt.Success {
		t.Fatal(reason)
	}
	for _, c := range []*client{device, ear} {
		if r := c.next(); r.topic != "fg/d1/a" || r.user["status"] != "201" {
			t.Errorf("%+v", r)
		}
	}
	// Whatever is said to be an answer has to name whom it answers.
	for _, caller := range []broker.Caller{{}, {Kind: fieldgate.PrincipalDevice, ID: "d2"}, {Kind: fieldgate.PrincipalApp, ID: "d1"}} {
		g[0].pipeline.Broker.Publish(&broker.Message{Topic: "fg/d1/a", QoS: 1, Answers: caller}, nil)
	}
	device.send(publish("d/d1/raw", "the end", 1))
	for m := range sse {
		if string(m.Payload) == "the end" {
			break
		}
		if m.Answers != (broker.Caller{}) {
			t.Errorf("a stream hears an answer: %+v", m)
		}
	}
	if len(ear.received) != 0 || len(device.received) != 0 {
		t.Error("an answer to somebody else is heard")
	}
}

// Of those who share a subscription one hears a message, preferably at the gateway where it was published.
func TestSharedElsewhere(t *testing.T) {
	g := newGateways(t, 3)
	var ears []*client
	for i := range 2 {
		for j := range 2 {
			ear := g[i+1].connect("dash", mqtt.ClientOptions{ClientID: fmt.Sprint("ear", i, j)})
			ear.hear("$share/s/d/+/raw", 1)
			ears = append(ears, ear)
		}
	}
	g[0].knows(2)
	device := g[0].connect("d1", mqtt.ClientOptions{})
	for i := range 8 {
		device.send(publish("d/d1/raw", fmt.Sprint(i), byte(i%2)))
	}
	until(t, "the messages", func() bool {
		n := 0
		for _, ear := range ears {
			n += len(ear.received)
		}
		return n == 8
	})
	for i, ear := range ears {
		if len(ear.received) != 2 {
			t.Errorf("ear %d has heard %d of 8", i, len(ear.received))
		}
	}
	here := g[0].connect("dash", mqtt.ClientOptions{ClientID: "here"})
	here.hear("$share/s/d/+/raw", 1)
	for range 4 {
		device.send(publish("d/d1/raw", "x", 1))
		if r := here.next(); r.payload != "x" {
			t.Errorf("%+v", r)
		}
	}
}

// A client that comes to another gateway is disconnected from the one that it was at [MQTT-3.1.4-3]; a principal does not take over another's client.
func TestTakenOverElsewhere(t *testing.T) {
	g := newGateways(t, 2)
	here := mqtt.ClientOptions{ClientID: "c"}
	old := g[0].connect("d1", here)
	other := g[0].connect("d2", here)
	began := time.Now()
	g[1].connect("d1", here)
	if reason := old.ended(); reason != mqtt.SessionTakenOver {
		t.Errorf("it ends with %v", reason)
	}
	t.Logf("taken over in %v", time.Since(began))
	again := g[0].connect("d1", here) // and back
	if other.send(publish("d/d2/raw", "x", 1)) != mqtt.Success || again.send(publish("d/d1/raw", "x", 1)) != mqtt.Success {
		t.Error("it does not serve")
	}
}
