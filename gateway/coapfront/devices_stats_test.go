package coapfront

import (
	"testing"
	"time"

	"fieldgate"
	"fieldgate/engine/devices"
)

// What is registered and waits is counted as it is now; a command that has waited for too long expires once.
func TestDevicesStats(t *testing.T) {
	d := NewDevices(DevicesConfig{Node: "n1"})
	d.learn(devices.News{Device: "d1", Registration: &fieldgate.DeviceRegistration{Left: time.Hour}})
	d.learn(devices.News{Device: "d2", Registration: &fieldgate.DeviceRegistration{Left: -time.Second}}) // its lifetime is over
	d.learn(devices.News{Device: "d1", Commands: &fieldgate.DeviceCommands{Commands: []fieldgate.DeviceCommand{
		{ID: "a", State: fieldgate.CommandAnswered}, {ID: "b", State: fieldgate.CommandSent, Left: time.Hour},
		{ID: "c", State: fieldgate.CommandQueued, Left: time.Hour}, {ID: "d", State: fieldgate.CommandQueued, Left: -time.Second},
	}}})
	d.commands.count(nil)
	d.commands.count(fieldgate.NewProblem(fieldgate.ProblemUpstreamTimeout, ""))
	d.commands.count(fieldgate.NewProblem(fieldgate.ProblemUpstreamInvalid, ""))
	d.commands.count(errBusy) // it never left, and waits still
	for range 2 {
		s := d.Stats()
		if s.Registered != 1 || s.Waiting != 1 {
			t.Errorf("%+v", s)
		}
		for state, want := range map[fieldgate.DeviceCommandState]uint64{fieldgate.CommandAnswered: 1, fieldgate.CommandUnanswered: 1, fieldgate.CommandRejected: 1,
			fieldgate.CommandExpired: 1, fieldgate.CommandQueued: 0, fieldgate.CommandSent: 0} {
			if s.Commands[state] != want {
				t.Errorf("%s: %d, want %d", state, s.Commands[state], want)
			}
		}
	}
	d.learn(devices.News{Device: "d1"})
	d.learn(devices.News{Device: "d1", Commands: &fieldgate.DeviceCommands{}})
	if s := d.Stats(); s.Registered != 0 || s.Waiting != 0 || s.Commands[fieldgate.CommandExpired] != 1 {
		t.Errorf("nothing is left: %+v", s)
	}
}
