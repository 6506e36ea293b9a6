package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
)

func openBus(t testing.TB) *bus.Bus {
	t.Helper()
	b, err := bus.Open(bus.Config{Directory: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// newNode is a node of the control plane that listens.
func newNode(t testing.TB, b *bus.Bus) *Captures {
	t.Helper()
	c := New(b, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// exchange is what a gateway sends.
func exchange(t testing.TB, id, node string, at time.Time, size int) []byte {
	t.Helper()
	encoded, err := json.Marshal(fieldgate.Captured{Capture: id, Node: node, Path: "/" + node, Record: fieldgate.Record{Time: at},
		Request: fieldgate.CapturedContent{JSON: json.RawMessage(`"` + strings.Repeat("x", size) + `"`)}})
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func code(err error) refusal.Code {
	var refused *refusal.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// A capture that one node begins is known to all, gets what every gateway sends, in the order of the exchanges, and ends with its
// count; the gateways are told.
func TestTwoNodes(t *testing.T) {
	b := openBus(t)
	orders := make(chan fieldgate.CaptureOrder, 100)
	stop, err := b.Subscribe(fieldgate.SubjectCaptureOrder, func(_ string, data []byte) {
		var o fieldgate.CaptureOrder
		if err := json.Unmarshal(data, &o); err != nil {
			t.Error(err)
		}
		orders <- o
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	one, two := newNode(t, b), newNode(t, b)
	id, err := one.Start(fieldgate.CaptureFilter{API: "home", Refused: true}, 3, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	first := <-orders
	if first.ID != id || first.Count != 3 || first.Remaining != time.Minute || first.Filter.API != "home" || !first.Filter.Refused {
		t.Errorf("order %+v", first)
	}
	// It is said again, with less time to go, for gateways and nodes that have missed it.
	if again := <-orders; again.ID != id || again.Remaining >= first.Remaining {
		t.Errorf("then %+v", again)
	}
	eventually(t, "the other node does not know", func() bool { return len(two.List()) == 1 })

	at := time.Unix(1790000000, 0).UTC()
	for i, node := range []string{"n2", "n1", "n3", "n4"} {
		if err := b.Publish(fieldgate.SubjectCaptured, exchange(t, id, node, at.Add(time.Duration(3-i)*time.Second), 10)); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range []*Captures{one, two} {
		eventually(t, "not all have come", func() bool { c, _, err := node.Get(id); return err == nil && c.Ended && c.Exchanges == 3 })
		capture, exchanges, err := node.Get(id)
		if err != nil || capture.Exchanges != 3 || len(exchanges) != 3 || exchanges[0].Node != "n3" || exchanges[2].Node != "n2" {
			t.Errorf("%+v, %+v, %v", capture, exchanges, err)
		}
	}
	for o := range orders {
		if o.Remaining == 0 {
			break
		}
	}
}

// Any node can stop a capture; what comes much later is not held, and the gateway is told again.
func TestStop(t *testing.T) {
	b := openBus(t)
	one, two := newNode(t, b), newNode(t, b)
	id, err := one.Start(fieldgate.CaptureFilter{}, 50, fieldgate.MaxCaptureDuration)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other node does not know", func() bool { return len(two.List()) == 1 })
	if err := two.Stop(id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on", func() bool { return one.List()[0].Ended })
	told := make(chan struct{}, 100)
	stop, err := b.Subscribe(fieldgate.SubjectCaptureOrder, func(string, []byte) { told <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	for i, at := range []time.Time{time.Now(), time.Now().Add(late)} {
		one.received(exchange(t, id, "n1", at, 1), at)
		<-told
		if c, exchanges, err := one.Get(id); err != nil || len(exchanges) != 1 || c.Exchanges != 1 {
			t.Errorf("%d: %+v, %v", i, c, err)
		}
	}
	for _, err := range []error{one.Stop("nothing"), func() error { _, _, err := one.Get("nothing"); return err }()} {
		if code(err) != refusal.CodeNotFound {
			t.Errorf("got %v", err)
		}
	}
}

func TestStartIsBounded(t *testing.T) {
	c := New(openBus(t), slog.New(slog.DiscardHandler))
	for _, wrong := range []struct {
		filter   fieldgate.CaptureFilter
		count    int
		duration time.Duration
	}{
		{fieldgate.CaptureFilter{}, 0, time.Minute},
		{fieldgate.CaptureFilter{}, fieldgate.MaxCaptureExchanges + 1, time.Minute},
		{fieldgate.CaptureFilter{}, 1, 0},
		{fieldgate.CaptureFilter{}, 1, fieldgate.MaxCaptureDuration + 1},
		{fieldgate.CaptureFilter{Protocol: "gopher"}, 1, time.Minute},
		{fieldgate.CaptureFilter{API: strings.Repeat("x", 1000)}, 1, time.Minute},
	} {
		if _, err := c.Start(wrong.filter, wrong.count, wrong.duration); code(err) != refusal.CodeInvalid {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	for range fieldgate.MaxCaptures {
		if _, err := c.Start(fieldgate.CaptureFilter{}, 1, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Start(fieldgate.CaptureFilter{}, 1, time.Minute); code(err) != refusal.CodeConflict {
		t.Errorf("one too many: %v", err)
	}
	oldest := c.List()[fieldgate.MaxCaptures-1].ID
	if err := c.Stop(oldest); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(fieldgate.CaptureFilter{}, 1, time.Minute); err != nil {
		t.Errorf("one has ended, but there is no room: %v", err)
	}
	if _, _, err := c.Get(oldest); code(err) != refusal.CodeNotFound {
		t.Errorf("the one that has ended did not give way: %v", err)
	}
}

// A capture ends with its time, and is forgotten a quarter of an hour later.
func TestForgotten(t *testing.T) {
	c := New(openBus(t), slog.New(slog.DiscardHandler))
	id, err := c.Start(fieldgate.CaptureFilter{}, 2, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.received(exchange(t, id, "n1", now, 100), now)
	for _, step := range []struct {
		after time.Duration
		held  int
		ended bool
	}{{50 * time.Second, 1, false}, {61 * time.Second, 1, true}, {15 * time.Minute, 1, true}, {16*time.Minute + time.Second, 0, false}} {
		c.turn(now.Add(step.after))
		if len(c.captures) != step.held || step.held > 0 && c.captures[id].Ended != step.ended {
			t.Errorf("after %v: %+v", step.after, c.captures[id])
		}
	}
	if c.bytes != 0 {
		t.Errorf("%d bytes are held of nothing", c.bytes)
	}
}

// Captures hold no more than there is room for: those that have ended give way, and what does not fit then is counted.
func TestMemoryIsBounded(t *testing.T) {
	c := New(openBus(t), slog.New(slog.DiscardHandler))
	now := time.Now()
	const size = 200 << 10
	var ids []string
	for i := range 5 {
		id, err := c.Start(fieldgate.CaptureFilter{}, fieldgate.MaxCaptureExchanges, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		for range fieldgate.MaxCaptureExchanges - 1 {
			c.received(exchange(t, id, "n1", now, size), now)
		}
		if i < 1 {
			c.received(exchange(t, id, "n1", now, size), now) // it is full, and has ended
		}
		if c.bytes > maxBytes {
			t.Fatalf("%d bytes are held", c.bytes)
		}
	}
	if _, _, err := c.Get(ids[0]); code(err) != refusal.CodeNotFound {
		t.Errorf("the oldest did not give way: %v", err)
	}
	last, exchanges, err := c.Get(ids[4])
	if err != nil || last.LeftOut == 0 || last.LeftOut+last.Exchanges != fieldgate.MaxCaptureExchanges-1 || len(exchanges) != last.Exchanges {
		t.Errorf("%+v, %d, %v", last, len(exchanges), err)
	}
	held := 0
	for _, capture := range c.captures {
		for _, encoded := range capture.exchanges {
			held += len(encoded)
		}
	}
	if held != c.bytes {
		t.Errorf("%d bytes are held, %d counted", held, c.bytes)
	}
}

// What is malformed, or belongs to no capture, changes nothing.
func TestMalformed(t *testing.T) {
	c := New(openBus(t), slog.New(slog.DiscardHandler))
	now := time.Now()
	for _, data := range [][]byte{nil, []byte("{"), []byte(`{"id":"x","count":99,"remaining":1}`), []byte(`{"id":"","count":1,"remaining":1}`), []byte(`{"id":"gone","count":1,"remaining":0}`)} {
		c.heard(data, now)
	}
	id, err := c.Start(fieldgate.CaptureFilter{}, 2, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{nil, []byte("{"), exchange(t, "another", "n1", now, 1), exchange(t, id, "n1", now, fieldgate.MaxCaptured)} {
		c.received(data, now)
	}
	if len(c.captures) != 1 || c.captures[id].Exchanges != 0 || c.bytes != 0 {
		t.Errorf("%+v", c.captures[id])
	}
	for i := range 2 * fieldgate.MaxCaptures {
		encoded, err := json.Marshal(fieldgate.CaptureOrder{ID: fmt.Sprint("o", i), Count: 1, Remaining: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		c.heard(encoded, now)
	}
	if len(c.captures) != fieldgate.MaxCaptures {
		t.Errorf("%d captures are held", len(c.captures))
	}
}
