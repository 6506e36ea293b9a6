package gateway

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/recorder"
	"fieldgate/test/nats"
)

// arrived reads the stream of Records until they stand for so many exchanges, and counts each Record once, by its number; none may be missing.
func arrived(t *testing.T, b *bus.Bus, want int) map[uint64]uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	next := make(map[uint64]uint64) // by epoch
	count, newest := 0, uint64(0)
	enough := errors.New("enough")
	err := b.Read(ctx, fieldgate.StreamRecords, 1, 100, func(entries []bus.Entry) error {
		for _, entry := range entries {
			batch, err := fieldgate.DecodeRecords(entry.Data)
			if err != nil {
				return err
			}
			if batch.Epoch < newest {
				t.Errorf("epoch %d after %d", batch.Epoch, newest)
			}
			newest = max(newest, batch.Epoch)
			for i := range batch.Records {
				switch number := batch.First + uint64(i); {
				case number == next[batch.Epoch]+1:
					next[batch.Epoch] = number
					count += int(batch.Records[i].Exchanges())
				case number > next[batch.Epoch]:
					t.Errorf("epoch %d: %d after %d", batch.Epoch, number, next[batch.Epoch])
				}
			}
		}
		if count >= want {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || count != want {
		t.Fatalf("records of %d exchanges arrived, want %d: %v", count, want, err)
	}
	return next
}

// Without bus and control plane a gateway serves, also after a restart. When they are back it follows, and all Records arrive once.
func TestBusAway(t *testing.T) {
	c, p, folder := nats.New(t, 1, ""), &plane{}, t.TempDir()
	connect := func() *bus.Bus {
		b, err := bus.Connect(bus.Cluster{URLs: c.URLs(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	control := connect()
	if _, err := control.Keep(t.Context(), bus.Stream{Name: fieldgate.StreamRecords, Subjects: []string{fieldgate.SubjectRecords + ">"}, MaxBytes: 1 << 20, MaxAge: time.Hour}); err != nil {
		t.Fatal(err)
	}
	token, hashes := newToken(t)
	p.change(t, fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "d1", Credentials: hashes})
	p.publish(t, mocked("one", "/one"))
	p.open(t, control)
	g := run(t, folder, connect())
	for state := range p.states { // from here on each get is one exchange
		if state.Snapshot == 1 && state.Directory == 1 {
			break
		}
	}
	requests := 0
	get := func(n int) {
		t.Helper()
		for range n {
			g.get("/one", token, 200, `"one"`)
			requests++
		}
	}
	get(10)

	c.Stop()
	get(20)
	g.end() // for which it waits for the bus, but not long
	g = run(t, folder, connect())
	get(30)
	if _, err := New(Config{Node: "n1", Folder: folder, Bus: control, Logger: slog.New(slog.DiscardHandler)}); !errors.Is(err, recorder.ErrInUse) {
		t.Errorf("a second gateway in the same folder: %v", err)
	}
	until(t, "no records wait for the bus", func() bool {
		state := g.state()
		return state.OutboxBytes > 0 && !state.OutboxOldest.IsZero() && state.RecordsDropped == 0
	})

	c.Start(0)
	if epochs := arrived(t, control, requests); len(epochs) != 2 {
		t.Errorf("%d epochs", len(epochs))
	}
	p.publish(t, mocked("two", "/two"))
	g.get("/two", token, 200, `"two"`)
	for state := range p.states {
		if state.Epoch == g.recorder.Epoch() && state.OutboxBytes == 0 && state.Snapshot == 2 {
			break
		}
	}
	g.end()
	if n := strings.Count(g.log.String(), "cannot be followed"); n > 2 {
		t.Errorf("the log repeats itself:\n%s", g.log)
	}
}

// Two gateways with one name hear of each other and say so.
func TestNameTaken(t *testing.T) {
	b, p := openBus(t), &plane{}
	p.open(t, b)
	run(t, t.TempDir(), b)
	time.Sleep(5 * time.Millisecond) // not in the same millisecond
	run(t, t.TempDir(), b)
	for state := range p.states {
		if state.NameTaken {
			return
		}
	}
}
