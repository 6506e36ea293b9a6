package test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"fieldgate/engine/bus"
	"fieldgate/gateway"
)

// clusterStatus is what the status says of Records.
type clusterStatus struct {
	Exchanges int
	Gateways  []struct {
		Node                           string
		RecordsWaiting, RecordsDropped int
		RecordsSince                   time.Time
	}
	Warnings []struct{ Code, Message string }
}

func (n *node) status() (s clusterStatus) {
	n.t.Helper()
	if err := json.Unmarshal([]byte(n.run("status", "--output", "json")), &s); err != nil {
		n.t.Fatal(err)
	}
	return s
}

// The bus is away for so long that the Records of a gateway do not fit its outbox. Traffic does not notice; what was dropped is lost
// once, and the status says how much; what was kept is counted.
func TestFaultOutbox(t *testing.T) {
	t.Parallel() // it mostly waits
	e := newEngines(t)
	c1 := e.member(t, "control", "c1")
	c := newCluster(t, e, []*node{c1}, nil)
	log := slog.New(slog.DiscardHandler)
	own, err := bus.Connect(bus.Cluster{URLs: e.nats.URLs(), Name: "g1", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	g, err := gateway.New(gateway.Config{Node: "g1", Folder: t.TempDir(), HTTP: "127.0.0.1:0", Bus: own, Logger: log, OutboxMaxBytes: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(running) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	g1 := &node{t: t, name: "g1", http: g.Addresses()["http"]}
	waitForGateways(t, c1, 1)
	wait(t, "the contract on g1", func() bool { status, err := c.greet(g1, c.token); return err == nil && status == http.StatusOK })
	c1.waitForExchanges(c.total)
	e.nats.Stop()
	for range 1000 {
		if status, err := c.greet(g1, c.token); err != nil || status != http.StatusOK {
			t.Fatalf("%d %v", status, err)
		}
		http.DefaultClient.CloseIdleConnections() // calls of one connection would share Records
	}
	for i := range e.nats.Size() {
		e.nats.Start(i)
	}
	e.nats.Ready()
	began := time.Now()
	var s clusterStatus
	lost := func() (lost int) {
		for _, w := range s.Warnings {
			if w.Code == "records-lost" {
				fmt.Sscanf(w.Message, "%d records of exchanges never arrived", &lost)
			}
		}
		return lost
	}
	wait(t, "all to be counted or lost", func() bool { s = c1.status(); return s.Exchanges+lost() == c.total })
	if lost() == 0 {
		t.Fatalf("1000 exchanges fit into 16 KiB: %+v", s)
	}
	if len(s.Gateways) != 1 || s.Gateways[0].RecordsDropped != lost() {
		wait(t, "the gateway to say what it dropped", func() bool { s = c1.status(); return s.Gateways[0].RecordsDropped == lost() })
	}
	if text := c1.run("status"); !strings.Contains(text, fmt.Sprintf("has dropped %d records", lost())) {
		t.Error(text)
	}
	for range 20 {
		c.greet(g1, c.token)
	}
	wait(t, "what follows to be counted once", func() bool { s = c1.status(); return s.Exchanges+lost() == c.total })
	t.Logf("%d of 1000 lost, %d counted, %v after the bus was back", lost(), s.Exchanges, time.Since(began).Round(time.Millisecond))
}

// Two gateways that call themselves by one name are told, on the gateways and to operators, until one of them has another name.
func TestFaultSameName(t *testing.T) {
	t.Parallel() // it mostly waits
	e := newEngines(t)
	c1, one, other := e.member(t, "control", "c1"), e.member(t, "gateway", "g1"), e.member(t, "gateway", "g1")
	c := newCluster(t, e, []*node{c1}, []*node{one})
	other.start()
	says := func() bool {
		for _, w := range c1.status().Warnings {
			if w.Code == "gateway-behind" && strings.Contains(w.Message, "two gateways call themselves g1") {
				return true
			}
		}
		return false
	}
	wait(t, "the status to say that two gateways have one name", says)
	if text, _ := c1.try("doctor"); !strings.Contains(text, "two gateways call themselves g1") {
		t.Error(text)
	}
	wait(t, "the event that two gateways have one name", func() bool {
		item, is := c.watchers[c1].find("gateway", "g1")
		return is && strings.Contains(item.Message, "two gateways")
	})
	// Their Records are told apart all the same.
	for _, g := range []*node{one, other} {
		for range 10 {
			if status, err := c.greet(g, c.token); err != nil || status != http.StatusOK {
				t.Fatalf("%d %v", status, err)
			}
		}
	}
	c1.waitForExchanges(c.total)
	other.stop()
	wait(t, "the name to be free again", func() bool { return !says() && len(c.watchers[c1].health()) == 0 })
}
