package devices

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
)

func open(t *testing.T) *Devices {
	t.Helper()
	b, err := bus.Open(bus.Config{Directory: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if _, err := b.Keep(t.Context(), Stream); err != nil {
		t.Fatal(err)
	}
	return New(b)
}

func TestRegistration(t *testing.T) {
	d, ctx := open(t), t.Context()
	if r, err := d.Registration(ctx, "d.7"); r != nil || err != nil {
		t.Fatal(r, err)
	}
	register := func(lifetime time.Duration) {
		t.Helper()
		err := d.Register(ctx, "d.7", func(*fieldgate.DeviceRegistration) (*fieldgate.DeviceRegistration, error) {
			return &fieldgate.DeviceRegistration{Device: "d.7", Lifetime: lifetime, Left: lifetime, Links: "</a>"}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	register(time.Hour)
	if r, err := d.Registration(ctx, "d.7"); err != nil || r.Links != "</a>" || r.Left > time.Hour || r.Left < 59*time.Minute {
		t.Fatal(r, err)
	}
	refused := errors.New("no")
	if err := d.Register(ctx, "d.7", func(*fieldgate.DeviceRegistration) (*fieldgate.DeviceRegistration, error) { return nil, refused }); err != refused {
		t.Error(err)
	}
	remove := func(before *fieldgate.DeviceRegistration) (*fieldgate.DeviceRegistration, error) {
		if before == nil {
			return nil, refused
		}
		return nil, nil
	}
	if err := d.Register(ctx, "d.7", remove); err != nil {
		t.Error(err)
	}
	if err := d.Register(ctx, "d.7", remove); err != refused {
		t.Error("a removed registration is still there:", err)
	}
	register(time.Millisecond)
	time.Sleep(2 * time.Millisecond)
	if r, err := d.Registration(ctx, "d.7"); r != nil || err != nil {
		t.Error("a lifetime that is over counts:", r, err)
	}
}

// Of many who claim the same command one gets it, and no change of another is lost.
func TestChangesAreSwapped(t *testing.T) {
	d := open(t)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			err := d.Change(t.Context(), "d7", func(c *fieldgate.DeviceCommands) error {
				return c.Add(fieldgate.NewDeviceCommand(fmt.Sprint(i), "", fieldgate.DeviceRequest{Method: "GET", Path: "/"}, time.Hour))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	nothing := errors.New("nothing")
	var got, none atomic.Int32
	for range 6 {
		all.Go(func() {
			err := d.Change(t.Context(), "d7", func(c *fieldgate.DeviceCommands) error {
				for i := range c.Commands {
					if c.Commands[i].State == fieldgate.CommandQueued {
						c.Commands[i].State = fieldgate.CommandSent
						return nil
					}
				}
				return nothing
			})
			switch err {
			case nil:
				got.Add(1)
			case nothing:
				none.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got.Load() != 4 || none.Load() != 2 {
		t.Errorf("%d got one, %d none", got.Load(), none.Load())
	}
	commands, err := d.Commands(t.Context(), "d7")
	if err != nil || len(commands.Commands) != 4 {
		t.Fatal(commands, err)
	}
	for _, c := range commands.Commands {
		if c.State != fieldgate.CommandSent || c.Left > time.Hour {
			t.Errorf("%+v", c)
		}
	}
}

// What all devices have together is bounded: what there is no room for is refused, and what is there stays.
func TestStreamIsFull(t *testing.T) {
	b, err := bus.Open(bus.Config{Directory: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	small := Stream
	small.MaxBytes = 20 << 10
	if _, err := b.Keep(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	d := New(b)
	queue := func(device string) error {
		return d.Change(t.Context(), device, func(c *fieldgate.DeviceCommands) error {
			return c.Add(fieldgate.NewDeviceCommand("", "", fieldgate.DeviceRequest{Method: "PUT", Path: "/", Body: make([]byte, 4<<10)}, time.Hour))
		})
	}
	kept := 0
	for ; kept < 10; kept++ {
		if err = queue(fmt.Sprint(kept)); err != nil {
			break
		}
	}
	if !errors.Is(err, bus.ErrFull) || kept == 0 {
		t.Fatalf("%d are kept, then %v", kept, err)
	}
	for i := range kept {
		if commands, err := d.Commands(t.Context(), fmt.Sprint(i)); err != nil || len(commands.Commands) != 1 {
			t.Errorf("%d: %+v %v", i, commands, err)
		}
	}
	// What ends takes less room than what waits, so that there is room again.
	if err := d.Change(t.Context(), "0", func(c *fieldgate.DeviceCommands) error {
		c.Commands[0].End(fieldgate.CommandAnswered, time.Now())
		return nil
	}); err != nil {
		t.Errorf("a command cannot end: %v", err)
	}
	if err := queue("another"); err != nil {
		t.Errorf("there is no room again: %v", err)
	}
}

func TestFollow(t *testing.T) {
	d := open(t)
	register := func(id string, r *fieldgate.DeviceRegistration) {
		t.Helper()
		if err := d.Register(t.Context(), id, func(*fieldgate.DeviceRegistration) (*fieldgate.DeviceRegistration, error) { return r, nil }); err != nil {
			t.Fatal(err)
		}
	}
	register("d1", &fieldgate.DeviceRegistration{Device: "d1", Left: time.Hour})
	if err := d.Change(t.Context(), "d2", func(c *fieldgate.DeviceCommands) error {
		return c.Add(fieldgate.NewDeviceCommand("", "", fieldgate.DeviceRequest{}, time.Hour))
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var heard []string
	err := d.Follow(ctx, func(n News) {
		switch {
		case n.Commands != nil:
			heard = append(heard, fmt.Sprint(n.Device, " commands ", len(n.Commands.Commands)))
			go func() {
				remove := func(*fieldgate.DeviceRegistration) (*fieldgate.DeviceRegistration, error) { return nil, nil }
				if err := d.Register(ctx, "d1", remove); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}()
		case n.Registration == nil:
			heard = append(heard, n.Device+" gone")
			cancel()
		default:
			heard = append(heard, n.Device+" registered")
		}
	})
	if err != context.Canceled || fmt.Sprint(heard) != "[d1 registered d2 commands 1 d1 gone]" {
		t.Error(err, heard)
	}
}
