package mqttcluster

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
	"fieldgate/test/nats"
)

// patience bounds every wait for something that has to happen; nothing depends on how long it takes.
const patience = time.Minute

// node is a Cluster with a connection of its own to a server that all share.
type node struct {
	*Cluster
	t    testing.TB
	ear  *ear
	stop func() // takes its leave
	kill func() // cuts it off without a word
}

// ear is the subscribers of a node.
type ear struct {
	mu    sync.Mutex
	heard []broker.Message
	taken []TakeOver
	held  []TakeOver // by this node
}

// Relay implements Local.
func (e *ear) Relay(next func() *broker.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for m := next(); m != nil; m = next() {
		e.heard = append(e.heard, *m.Lasting())
	}
}

// TakenOver implements Local.
func (e *ear) TakenOver(t TakeOver) {
	e.mu.Lock()
	e.taken = append(e.taken, t)
	e.mu.Unlock()
}

// Clients implements Local.
func (e *ear) Clients(visit func(kind, principal, client string, at time.Time) bool) {
	for _, t := range e.held {
		visit(t.Kind, t.Principal, t.Client, t.At)
	}
}

func (e *ear) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.heard)
}

// take waits for so many messages, and gives them.
func (n *node) take(count int) []broker.Message {
	n.t.Helper()
	wait(n.t, "messages at "+n.config.Node, func() bool { return n.ear.count() >= count })
	n.ear.mu.Lock()
	defer n.ear.mu.Unlock()
	heard := n.ear.heard
	n.ear.heard = nil
	if len(heard) != count {
		n.t.Fatalf("%s heard %d messages, not %d", n.config.Node, len(heard), count)
	}
	return heard
}

// publish publishes a message, and gives what tells its outcome. This node itself has taken it.
func (n *node) publish(m *broker.Message) chan error {
	answer := make(chan error, 10)
	n.Publish(m, func(err error) { answer <- err })(nil)
	return answer
}

func server(t testing.TB) *nats.Cluster {
	t.Helper()
	return nats.New(t, 1, "")
}

func start(t testing.TB, url, name string, incarnation uint64) *node {
	t.Helper()
	connection, err := bus.Connect(bus.Cluster{URLs: url, Name: name, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, ear: new(ear)}
	n.Cluster = New(Config{Node: name, Incarnation: incarnation, Bus: connection, Logger: slog.New(slog.DiscardHandler)})
	n.Attach(n.ear)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	close := sync.OnceFunc(connection.Close)
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		close()
	})
	n.kill = func() {
		close()
		n.stop()
	}
	t.Cleanup(n.stop)
	return n
}

// hear subscribes to filters, and waits until the others know it.
func (n *node) hear(others []*node, filters ...string) {
	n.t.Helper()
	for _, filter := range filters {
		n.Change(filter, Nothing, Everything)
	}
	for _, other := range others {
		wait(n.t, other.config.Node+" to know what "+n.config.Node+" hears", func() bool { return other.knows(n) })
	}
}

// knows says whether the node knows all that another one wants.
func (n *node) knows(other *node) bool {
	other.own.mu.Lock()
	all, sequence, pending := len(other.own.filters), other.own.sequence, len(other.own.changed)
	other.own.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[other.config.Node]
	if p == nil || p.dead || p.Incarnation != other.config.Incarnation || p.follow.view == nil || p.follow.growing != nil {
		return false
	}
	return pending == 0 && p.follow.sequence == sequence && len(p.follow.view.filters) == all
}

func wait(t testing.TB, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !yes(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}
