package coapfront

import (
	"sync/atomic"
	"time"

	"fieldgate"
)

// commandCounts are what has become of commands since the gateway started.
type commandCounts struct {
	queued, sent, answered, rejected, unanswered, expired atomic.Uint64
}

// Stats are the registrations and commands as this gateway knows them, and what it has done about them.
func (d *Devices) Stats() fieldgate.ResourceDirectoryState {
	now := time.Now()
	state := fieldgate.ResourceDirectoryState{}
	d.mu.RLock()
	for _, device := range d.all {
		device.mu.Lock()
		if device.registration != nil && now.Before(device.registration.until) {
			state.Registered++
		}
		d.commands.expired.Add(device.expire(now))
		state.Waiting += len(device.queued)
		device.mu.Unlock()
	}
	d.mu.RUnlock()
	c := &d.commands
	state.Commands = map[fieldgate.DeviceCommandState]uint64{
		fieldgate.CommandQueued: c.queued.Load(), fieldgate.CommandSent: c.sent.Load(), fieldgate.CommandAnswered: c.answered.Load(),
		fieldgate.CommandRejected: c.rejected.Load(), fieldgate.CommandUnanswered: c.unanswered.Load(), fieldgate.CommandExpired: c.expired.Load(),
	}
	return state
}

// expire forgets the queued commands whose time is over, and says how many these are. With the lock held.
func (d *device) expire(now time.Time) (expired uint64) {
	left := d.queued[:0]
	for _, until := range d.queued {
		if now.Before(until) {
			left = append(left, until)
		}
	}
	expired = uint64(len(d.queued) - len(left))
	d.queued = left
	return expired
}

// queuedUntil is until when each of the commands waits that has not been sent.
func queuedUntil(commands *fieldgate.DeviceCommands, now time.Time) (until []time.Time) {
	for i := range commands.Commands {
		if c := &commands.Commands[i]; c.State == fieldgate.CommandQueued {
			until = append(until, now.Add(c.Left))
		}
	}
	return until
}

// count counts what has become of a command that was sent.
func (c *commandCounts) count(problem *fieldgate.Problem) {
	switch {
	case problem == nil:
		c.answered.Add(1)
	case problem.Code == fieldgate.ProblemUpstreamTimeout:
		c.unanswered.Add(1)
	case !neverLeft(problem):
		c.rejected.Add(1)
	}
}
