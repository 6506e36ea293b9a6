package commands

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
	"fieldgate/engine/devices"
)

func open(t *testing.T) *Commands {
	b, err := bus.Open(bus.Config{Directory: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if _, err := b.Keep(t.Context(), devices.Stream); err != nil {
		t.Fatal(err)
	}
	return New(b)
}

// refused says that an operator is told why, in words that begin like that.
func refused(t *testing.T, err error, words string) {
	t.Helper()
	var why *refusal.Error
	if !errors.As(err, &why) || !strings.Contains(err.Error(), words) {
		t.Errorf("%v, want %q", err, words)
	}
}

// A command can be taken back until it is sent, and only then; one that was leaves the others in their order.
func TestCancel(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	var ids []string
	for _, path := range []string{"/a", "/b", "/c"} {
		command, err := c.Queue(ctx, "d7", "operator ann", fieldgate.DeviceRequest{Method: "POST", Path: path, Body: []byte("x")}, time.Hour)
		if err != nil || command.State != fieldgate.CommandQueued {
			t.Fatal(command, err)
		}
		ids = append(ids, command.ID)
	}
	cancelled, err := c.Cancel(ctx, "d7", ids[1])
	if err != nil || cancelled.State != fieldgate.CommandCancelled || cancelled.Request.Body != nil {
		t.Errorf("%+v, %v", cancelled, err)
	}
	_, err = c.Cancel(ctx, "d7", ids[1])
	refused(t, err, "is cancelled")
	_, err = c.Cancel(ctx, "d8", ids[0])
	refused(t, err, "has no command")
	if err := c.shared.Change(ctx, "d7", func(all *fieldgate.DeviceCommands) error {
		all.First().State = fieldgate.CommandSent
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Cancel(ctx, "d7", ids[0])
	refused(t, err, "is sent")
	list, err := c.List(ctx, "d7")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, command := range list {
		got = append(got, command.Request.Path+" "+string(command.State))
	}
	if text := strings.Join(got, ", "); text != "/a sent, /b cancelled, /c queued" {
		t.Error(text)
	}
}

// One device's queue is bounded by commands and bytes, and takes nothing when it is full.
func TestQueueIsBounded(t *testing.T) {
	c := open(t)
	large := fieldgate.DeviceRequest{Method: "PUT", Path: "/a", Body: make([]byte, fieldgate.MaxDeviceCommandBytes/2+1)}
	if _, err := c.Queue(t.Context(), "d7", "operator ann", large, time.Hour); err != nil {
		t.Fatal(err)
	}
	_, err := c.Queue(t.Context(), "d7", "operator ann", large, time.Hour)
	refused(t, err, "wait already")
	if _, err := c.Queue(t.Context(), "d8", "operator ann", large, time.Hour); err != nil {
		t.Errorf("another device's: %v", err)
	}
	// What has expired does not count any more.
	if err := c.shared.Change(t.Context(), "d7", func(all *fieldgate.DeviceCommands) error {
		all.Commands[0].Left = time.Nanosecond
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Queue(t.Context(), "d7", "operator ann", large, time.Hour); err != nil {
		t.Error(err)
	}
	if list, err := c.List(t.Context(), "d7"); err != nil || len(list) != 2 || list[0].State != fieldgate.CommandExpired || list[0].Request.Body != nil {
		t.Errorf("%+v, %v", list, err)
	}
}
