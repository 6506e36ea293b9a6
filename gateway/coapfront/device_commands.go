package coapfront

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/pipeline"
)

const (
	settlePause = time.Second
	settleFor   = time.Minute      // that the bus is asked again to take what has become of a command
	sendMargin  = 10 * time.Second // after a command's time its gateway is taken for gone
)

var errQueueFull = &fieldgate.Problem{Code: fieldgate.ProblemOverloaded, Detail: "As many commands as may be wait for the device; send it again later.", RetryAfter: time.Minute}

// keep stores a command until the device is heard. It is answered 202 once it is durable.
func (d *Devices) keep(ctx context.Context, device *device, call *pipeline.DeviceCall) (*pipeline.Answer, *fieldgate.Problem) {
	command := fieldgate.NewDeviceCommand(call.By, call.Operation, call.Request, call.Queue)
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	err := d.shared.Change(ctx, device.id, func(all *fieldgate.DeviceCommands) error { return all.Add(command) })
	if errors.Is(err, fieldgate.ErrCommandsFull) {
		return nil, errQueueFull
	}
	if problem := stored(err); problem != nil {
		return nil, problem
	}
	d.commands.queued.Add(1)
	body, err := json.Marshal(map[string]any{"command": command.ID, "state": command.State, "device": device.id, "waitsSeconds": int64(call.Queue / time.Second)})
	if err != nil {
		return nil, &fieldgate.Problem{Code: fieldgate.ProblemInternal, Cause: err}
	}
	return &pipeline.Answer{Status: 202, ContentType: "application/json", Body: body}, nil
}

// deliver sends what waits for a device, one command after the other. It returns at once.
func (d *Devices) deliver(device *device) {
	r := device.present(time.Now())
	if r == nil {
		return
	}
	device.mu.Lock()
	begun := device.sending
	device.sending, device.again = true, true
	device.mu.Unlock()
	if begun {
		return
	}
	if !d.begin(func(ctx context.Context) { d.deliverAll(ctx, device) }) {
		device.mu.Lock()
		device.sending = false // it is tried again when the device is heard
		device.mu.Unlock()
	}
}

func (d *Devices) deliverAll(ctx context.Context, device *device) {
	for {
		device.mu.Lock()
		if !device.again || !device.awake(time.Now()) || ctx.Err() != nil {
			device.sending = false
			device.mu.Unlock()
			return
		}
		device.again = false
		device.mu.Unlock()
		r := device.present(time.Now())
		switch {
		case r == nil:
		case r.Node != d.node: // the gateway that reaches it is told
			if _, err := d.askNode(ctx, r.Node, &fieldgate.DeviceQuestion{Device: device.id, Heard: true}); err != nil {
				d.logger.Debug("a gateway does not hear that a device was heard", "device", device.id, "node", r.Node, "error", err)
			}
		default:
			for d.deliverOne(ctx, device, r) {
			}
		}
	}
}

// deliverOne sends the command that is first, and says whether the next may follow.
func (d *Devices) deliverOne(ctx context.Context, device *device, r *registration) (next bool) {
	if ref := d.directory.Find(fieldgate.PrincipalDevice, device.id); ref == 0 || d.directory.State(ref) != fieldgate.StateActive {
		return false
	}
	if l, _ := d.way(r); l == nil {
		device.unheard(r, time.Now())
		return false
	}
	command, other, err := d.claim(ctx, device, "")
	if other != "" && d.ended(ctx, device, other) {
		command, _, err = d.claim(ctx, device, other)
	}
	if err != nil {
		d.logger.Warn("commands that wait for a device cannot be read; they are tried when it is heard again", "device", device.id, "error", err)
		return false
	}
	if command == nil {
		return false
	}
	timeout := command.Request.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	d.commands.sent.Add(1)
	sending, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, problem := d.send(sending, device, r, &command.Request)
	d.commands.count(problem)
	d.end(ctx, device, command.ID, answer, problem)
	return problem == nil || !neverLeft(problem) && problem.Code != fieldgate.ProblemUpstreamTimeout
}

// ended says whether a gateway that sends a command is known to have ended. Until then its command may be under way.
func (d *Devices) ended(ctx context.Context, device *device, node string) bool {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	_, err := d.askNode(ctx, node, &fieldgate.DeviceQuestion{Device: device.id}) // it asks for nothing: whatever is answered, somebody is there
	return errors.Is(err, bus.ErrNoResponder)
}

// claim marks the first command as sent, so that nobody else sends it; nil: none is to be sent now, perhaps as another gateway is at it, which
// is named. gone is a gateway that has ended.
func (d *Devices) claim(ctx context.Context, device *device, gone string) (claimed *fieldgate.DeviceCommand, other string, err error) {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	var nothing = errors.New("nothing is to be sent")
	err = d.shared.Change(ctx, device.id, func(all *fieldgate.DeviceCommands) error {
		claimed, other = nil, ""
		changed := false
		for {
			first := all.First()
			switch {
			case first == nil && changed:
				return nil
			case first == nil:
				return nothing
			case first.State == fieldgate.CommandSent && first.Node != d.node && first.Node != gone && first.SentAt-first.Left < first.Request.Timeout+sendMargin:
				other = first.Node
				if changed {
					return nil
				}
				return nothing
			case first.State == fieldgate.CommandSent: // by a gateway that has ended since, maybe this one
				first.Unanswered(time.Now())
				changed = true
				continue
			}
			first.State, first.Node, first.Epoch, first.SentAt, first.Changed = fieldgate.CommandSent, d.node, d.epoch, first.Left, time.Now()
			first.Attempts++
			copied := *first
			claimed = &copied
			return nil
		}
	})
	if errors.Is(err, nothing) {
		err = nil
	}
	return claimed, other, err
}

// end stores what has become of a command, before the next one is sent.
func (d *Devices) end(ctx context.Context, device *device, id string, answer *fieldgate.DeviceAnswer, problem *fieldgate.Problem) {
	giveUp := time.Now().Add(settleFor)
	for {
		// What was sent was sent, whether or not the gateway ends.
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), storePatience)
		err := d.shared.Change(attempt, device.id, func(all *fieldgate.DeviceCommands) error {
			if c := all.Find(id); c != nil && c.State == fieldgate.CommandSent && c.Node == d.node && c.Epoch == d.epoch {
				settleCommand(c, answer, problem)
			}
			return nil
		})
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() != nil || time.Now().After(giveUp) {
			d.logger.Error("what became of a command could not be stored", "device", device.id, "command", id, "error", err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(settlePause):
		}
	}
}

func settleCommand(c *fieldgate.DeviceCommand, answer *fieldgate.DeviceAnswer, problem *fieldgate.Problem) {
	now := time.Now()
	switch {
	case problem == nil:
		kept := *answer
		c.Bytes = len(kept.Body)
		kept.Body = kept.Body[:min(len(kept.Body), fieldgate.MaxDeviceAnswer)]
		c.Answer = &kept
		c.End(fieldgate.CommandAnswered, now)
	case problem.Code == fieldgate.ProblemUpstreamTimeout:
		c.Unanswered(now)
	case neverLeft(problem):
		c.State, c.Attempts, c.Changed = fieldgate.CommandQueued, c.Attempts-1, now
	default: // the device rejects it, or CoAP cannot carry it
		c.End(fieldgate.CommandRejected, now)
	}
}
