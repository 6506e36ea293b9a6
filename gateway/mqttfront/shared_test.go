package mqttfront

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttcluster"
	"fieldgate/gateway/mqttstore"
	"fieldgate/protocol/mqtt"
	"fieldgate/test/nats"
)

// nodes are gateways that share a log, and know the same callers.
type nodes struct {
	*testing.T
	bus   *bus.Bus
	of    []*gateway
	meet  []func() // has a node meet the others
	leave []func() // and take its leave from them
}

func newNodes(t *testing.T, count int) *nodes {
	t.Helper()
	b, err := bus.Open(bus.Config{Directory: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return newNodesOn(t, b, count)
}

func newNodesOn(t *testing.T, b *bus.Bus, count int) *nodes {
	t.Helper()
	t.Cleanup(b.Close)
	if _, err := b.Keep(t.Context(), bus.Stream{Name: fieldgate.StreamMQTT, Subjects: []string{fieldgate.SubjectMQTTLog + ">"}, MaxAge: time.Hour}); err != nil {
		t.Fatal(err)
	}
	n := &nodes{T: t, bus: b}
	for i := range count {
		if i == 0 {
			n.of = append(n.of, newGateway(t, n.share(i)))
			continue
		}
		first := n.of[0]
		g := &gateway{t: t, records: &records{}, directory: first.directory, tokens: first.tokens, bodies: make(chan string, 100), folder: t.TempDir()}
		g.start(n.share(i))
		t.Cleanup(func() { g.stopRun() })
		n.of = append(n.of, g)
	}
	for _, meet := range n.meet {
		meet()
	}
	for _, g := range n.of {
		waitFor(t, "the nodes to know each other", func() bool { return len(g.cluster.Members()) == count })
	}
	return n
}

// share has a gateway take part.
func (n *nodes) share(i int) func(*Config) {
	node, epoch := fmt.Sprint("g", i), uint64(i+1)
	cluster := mqttcluster.New(mqttcluster.Config{Node: node, Incarnation: epoch, Bus: n.bus, Logger: slog.New(slog.DiscardHandler)})
	return func(c *Config) {
		c.Cluster = cluster
		c.Pipeline.Broker.Join(cluster)
		c.Log = &mqttstore.Log{Bus: n.bus, Node: node, Epoch: epoch, Peers: func() []string { return nil }}
		cluster.Watch(func([]mqttcluster.Member) {
			n.of[i].MembersChanged()
		})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		n.leave = append(n.leave, sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				n.Error(err)
			}
		}))
		n.Cleanup(n.leave[i])
		n.meet = append(n.meet, func() { go func() { ended <- cluster.Run(ctx) }() })
	}
}

// settle waits until all nodes have applied the same.
func (n *nodes) settle() {
	n.Helper()
	waitFor(n.T, "all nodes stand at the end of the log", func() bool {
		stream, err := n.bus.State(n.Context(), fieldgate.StreamMQTT)
		if err != nil {
			n.Fatal(err)
		}
		for _, g := range n.of {
			if g.store.LogState().Applied != stream.Last {
				return false
			}
		}
		return true
	})
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain: " + what)
		}
	}
}

// A session is there whichever node its client comes to, with its queue, and what waits for it comes in its order.
func TestSessionIsOnAllNodes(t *testing.T) {
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			n := newNodes(t, 3)
			device := n.of[0].connect("d1", persistent(v, "roams"))
			if device.Connack.SessionPresent {
				t.Fatal("a session before the first")
			}
			device.hear("d/d1/command", 1)
			n.settle()
			app := n.of[1].connect("dash", mqtt.ClientOptions{})
			if got := app.send(publish("d/d1/command", "0", 1)); got != mqtt.Success {
				t.Fatal(got)
			}
			if r := device.next(); r.payload != "0" {
				t.Fatal(r)
			}
			if _, err := device.Unsubscribe(t.Context(), "none"); err != nil { // it comes behind the last acknowledgement
				t.Fatal(err)
			}
			device.Disconnect(0)
			waitFor(t, "the device has gone", func() bool { return n.of[0].Counters.Connections.Load() == 0 })
			for i := 1; i < 4; i++ {
				app.send(publish("d/d1/command", fmt.Sprint(i), 1))
			}
			device = n.of[2].connect("d1", persistent(v, "roams"))
			if !device.Connack.SessionPresent {
				t.Fatal("[MQTT-3.1.2-5] the session is lost")
			}
			for i := 1; i < 4; i++ {
				if r := device.next(); r.payload != fmt.Sprint(i) {
					t.Fatalf("got %q, want %d", r.payload, i)
				}
			}
			// Taken over by another node while it is connected: the first connection is told so.
			again := n.of[0].connect("d1", persistent(v, "roams"))
			if !again.Connack.SessionPresent {
				t.Error("the session is lost")
			}
			if reason := device.ended(); v == mqtt.V5 && reason != mqtt.SessionTakenOver {
				t.Errorf("[MQTT-3.1.4-3] ended with %v", reason)
			}
			n.settle()
			app.send(publish("d/d1/command", "4", 1))
			for r := again.next(); r.payload != "4"; r = again.next() { // what was not acknowledged in time comes again
			}
			// A clean start at another node ends it on all.
			fresh := persistent(v, "roams")
			fresh.Resume = false
			clean := n.of[1].connect("d1", fresh)
			if clean.Connack.SessionPresent {
				t.Error("[MQTT-3.2.2-2] clean start keeps the session")
			}
			again.ended()
			clean.Disconnect(0)
			last := n.of[2].connect("d1", persistent(v, "roams"))
			if v == mqtt.V311 && last.Connack.SessionPresent {
				t.Error("the session of a clean start is still there")
			}
		})
	}
}

// Retained messages are on all nodes.
func TestRetainedIsOnAllNodes(t *testing.T) {
	n := newNodes(t, 2)
	device := n.of[0].connect("d1", mqtt.ClientOptions{})
	p := publish("d/d1/status", "on", 1)
	p.Retain = true
	if got := device.send(p); got != mqtt.Success {
		t.Fatal(got)
	}
	waitFor(t, "the other node has it", func() bool {
		found := false
		if err := n.of[1].Retained("d/d1/status", func(*broker.Message) bool { found = true; return false }); err != nil {
			t.Error(err)
		}
		return found
	})
	app := n.of[1].connect("dash", mqtt.ClientOptions{})
	app.hear("d/d1/status", 1)
	if r := app.next(); r.payload != "on" || !r.retain {
		t.Fatal(r)
	}
}

// With its bus gone a node refuses what the log is needed for, and goes on with all else.
func TestWithoutTheLog(t *testing.T) {
	server := nats.New(t, 1, "")
	b, err := bus.Connect(bus.Cluster{URLs: server.URLs(), Name: "g0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	n := newNodesOn(t, b, 1)
	device := n.of[0].connect("d1", persistent(mqtt.V5, "kept"))
	device.hear("d/d1/command", 1)
	app := n.of[0].connect("dash", mqtt.ClientOptions{})
	app.hear("d/d2/status", 1)
	server.Kill(0)
	waitFor(t, "the node knows", func() bool { return n.of[0].store.Ready() != nil })
	if _, err := n.of[0].dial("d1", persistent(mqtt.V5, "other")); err == nil || !strings.Contains(err.Error(), mqtt.ServerUnavailable.String()) {
		t.Errorf("a CONNECT that needs the log: %v", err)
	}
	other := n.of[0].connect("d2", mqtt.ClientOptions{})
	if got := other.send(publish("d/d2/status", "on", 1)); got != mqtt.Success {
		t.Error(got)
	}
	if r := app.next(); r.payload != "on" {
		t.Error(r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	waiting := publish("d/d1/command", "1", 1)
	if app.Publish(ctx, &waiting) == nil {
		t.Error("a message for a session of the log was acknowledged")
	}
	server.Start(0)
	if r := device.next(); r.payload != "1" {
		t.Error(r)
	}
}

// The first of the nodes that live watches over the sessions of one that has gone: it publishes their wills, once, and ends them when their time
// has come. A node that was only taken for dead gives their clients up.
func TestSessionsOfAGoneNodeAreAdopted(t *testing.T) {
	n := newNodes(t, 3)
	ear := n.of[0].connect("dash", mqtt.ClientOptions{})
	ear.hear("d/+/status", 1)
	will := publish("d/d1/status", "gone", 1)
	var brief, lasting mqtt.Properties
	brief.SetNumber(mqtt.SessionExpiryInterval, 1)
	lasting.SetNumber(mqtt.SessionExpiryInterval, 3600)
	device := n.of[2].connect("d1", mqtt.ClientOptions{Will: &will, Properties: brief, Resume: true, ClientID: "brief"})
	other := n.of[2].connect("d2", mqtt.ClientOptions{Properties: lasting, Resume: true, ClientID: "lasting"})
	n.settle()
	n.leave[2]()
	if members := n.of[2].cluster.Members(); len(members) != 0 {
		t.Errorf("a node that has left adopts what its clients left: it takes %v for the living", members)
	}
	if r := ear.next(); r.payload != "gone" {
		t.Error(r)
	}
	if reason := device.ended(); reason != mqtt.ServerBusy {
		t.Error(reason)
	}
	other.ended()
	for _, g := range n.of {
		waitFor(t, "only the session that lasts is left", func() bool {
			g.mu.Lock()
			defer g.mu.Unlock()
			return len(g.kept) == 1
		})
	}
	if !n.of[1].connect("d2", mqtt.ClientOptions{Properties: lasting, Resume: true, ClientID: "lasting"}).Connack.SessionPresent {
		t.Error("the session is lost")
	}
	if len(ear.received) != 0 {
		t.Errorf("a will was published twice: %+v", ear.next())
	}
}

// A message of a QoS 2 publisher that its client sends again to another node, because the first one did not answer, is published once; so is
// one that was received and not completed delivered once.
func TestQoS2IsOnceOverNodes(t *testing.T) {
	n := newNodes(t, 2)
	ear := n.of[1].connect("dash", mqtt.ClientOptions{})
	ear.hear("d/d1/status", 2)
	n.of[0].knows(1)
	dial := func(g *gateway) *raw {
		return rawDialWith(t, g, "d1", "again", func(p *mqtt.Connect) {
			p.CleanStart = false
			p.Properties.SetNumber(mqtt.SessionExpiryInterval, 3600)
		})
	}
	send := publish("d/d1/status", "once", 2)
	send.PacketID = 7
	first := dial(n.of[0])
	first.write(send.Append(nil, mqtt.V5))
	first.packet(mqtt.PUBREC)
	n.settle()
	second := dial(n.of[1])
	send.Dup = true
	second.write(send.Append(nil, mqtt.V5))
	second.packet(mqtt.PUBREC)
	second.write((&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 7}).Append(nil, mqtt.V5))
	second.packet(mqtt.PUBCOMP)
	if r := ear.next(); r.payload != "once" {
		t.Error(r)
	}
	next := publish("d/d1/status", "next", 2)
	next.PacketID = 7
	second.write(next.Append(nil, mqtt.V5))
	second.packet(mqtt.PUBREC)
	if r := ear.next(); r.payload != "next" {
		t.Errorf("a message came twice: %+v", r)
	}
}
