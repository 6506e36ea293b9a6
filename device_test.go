package fieldgate

import (
	"fmt"
	"testing"
	"time"
)

func TestDeviceCommandsAreBounded(t *testing.T) {
	var all DeviceCommands
	for i := range MaxDeviceCommands {
		if err := all.Add(NewDeviceCommand("app a1", "", DeviceRequest{}, time.Hour)); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := all.Add(DeviceCommand{}); err != ErrCommandsFull {
		t.Error(err)
	}
	all.Commands[0].End(CommandAnswered, time.Now())
	if err := all.Add(DeviceCommand{Request: DeviceRequest{Body: make([]byte, MaxDeviceCommandBytes+1)}}); err != ErrCommandsFull {
		t.Error(err)
	}
	if err := all.Add(DeviceCommand{Request: DeviceRequest{Body: make([]byte, MaxDeviceCommandBytes)}}); err != nil {
		t.Error(err)
	}
}

func TestDeviceCommandsPass(t *testing.T) {
	var all DeviceCommands
	now := time.Now()
	for i := range 3 {
		if err := all.Add(NewDeviceCommand(fmt.Sprint(i), "", DeviceRequest{Body: []byte("x")}, time.Duration(i+1)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	all.Commands[1].State = CommandSent
	all.Pass(2*time.Minute, now)
	for i, want := range []DeviceCommandState{CommandExpired, CommandSent, CommandQueued} {
		if got := all.Commands[i]; got.State != want || (len(got.Request.Body) == 0) != (want == CommandExpired) {
			t.Errorf("%d: %s, %d bytes", i, got.State, len(got.Request.Body))
		}
	}
	if first := all.First(); first.By != "1" {
		t.Errorf("%+v", first)
	}
	// What nobody answered is sent again only where that does no harm, and only in its time.
	for _, test := range []struct {
		idempotent bool
		left       time.Duration
		want       DeviceCommandState
	}{{false, time.Hour, CommandUnanswered}, {true, time.Hour, CommandQueued}, {true, 0, CommandExpired}} {
		c := DeviceCommand{State: CommandSent, Left: test.left, Request: DeviceRequest{Idempotent: test.idempotent}}
		if c.Unanswered(now); c.State != test.want {
			t.Errorf("%+v: %s", test, c.State)
		}
	}
	// The oldest that have ended are forgotten; none that waits is.
	for range 2 * KeptDeviceCommands {
		all.Commands = append(all.Commands, DeviceCommand{State: CommandAnswered})
	}
	all.Pass(0, now)
	if len(all.Commands) != KeptDeviceCommands+2 || all.Find(all.First().ID) == nil {
		t.Errorf("%d are left", len(all.Commands))
	}
}
