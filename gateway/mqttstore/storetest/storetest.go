// Package storetest gives brokers in tests a real store of retained messages, without the MQTT front that has it elsewhere.
package storetest

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttstore"
)

// Attach gives the broker a store that lives as long as the test.
func Attach(t testing.TB, b *broker.Broker) {
	t.Helper()
	s, err := mqttstore.Open(mqttstore.Config{Folder: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := &retainer{s}
	b.Attach(r, r)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx, r) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// retainer keeps what is to be retained; there are no sessions.
type retainer struct{ store *mqttstore.Store }

func (r *retainer) Publish(m *broker.Message, acknowledged func(error)) {
	if m.Retain {
		r.store.Publish(m, nil, mqttstore.Received{}, acknowledged)
	} else if acknowledged != nil {
		acknowledged(nil)
	}
}

func (r *retainer) Retained(filter string, visit func(*broker.Message) bool) error {
	return r.store.EachRetained(context.Background(), filter, "", visit)
}

func (r *retainer) ReadRetained(filter string) broker.RetainedReader { return r.store.Retained(filter) }

func (*retainer) Waiting(uint64, int, int)                     {}
func (*retainer) Expired(uint64, uint64, *broker.Message) bool { return true }
