// Package commands asks devices that have registered with the gateways' resource directory, and keeps commands for those that sleep. What
// is registered and what waits is on the bus, where the gateways see it; nothing of it is in the database. Who may ask, and that somebody
// did, is for the caller to check and to audit.
package commands

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"fieldgate"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
	"fieldgate/engine/devices"
)

const busPatience = 2 * time.Second

// Commands is safe for concurrent use.
type Commands struct {
	bus    *bus.Bus
	shared *devices.Devices
}

// New makes Commands on the bus. It starts nothing.
func New(b *bus.Bus) *Commands { return &Commands{bus: b, shared: devices.New(b)} }

// Registration is what a device has registered; nil: nothing, or its lifetime is over.
func (c *Commands) Registration(ctx context.Context, device string) (*fieldgate.DeviceRegistration, error) {
	ctx, cancel := context.WithTimeout(ctx, busPatience)
	defer cancel()
	return c.shared.Registration(ctx, device)
}

// List is what waits for a device and what has become of the newest commands, the oldest first.
func (c *Commands) List(ctx context.Context, device string) ([]fieldgate.DeviceCommand, error) {
	ctx, cancel := context.WithTimeout(ctx, busPatience)
	defer cancel()
	all, err := c.shared.Commands(ctx, device)
	if err != nil {
		return nil, err
	}
	return all.Commands, nil
}

// Find is one command of a device.
func (c *Commands) Find(ctx context.Context, device, id string) (*fieldgate.DeviceCommand, error) {
	list, err := c.List(ctx, device)
	if err != nil {
		return nil, err
	}
	if command := (&fieldgate.DeviceCommands{Commands: list}).Find(id); command != nil {
		return command, nil
	}
	return nil, notFound(device, id)
}

func notFound(device, id string) error {
	return refusal.NotFound("The device %q has no command %.40q: the newest %d that have ended are kept. See the list of its commands.", device, id, fieldgate.KeptDeviceCommands)
}

// Queue keeps a request until the device is heard, for wait at the longest. It is durable when it returns.
func (c *Commands) Queue(ctx context.Context, device, by string, request fieldgate.DeviceRequest, wait time.Duration) (*fieldgate.DeviceCommand, error) {
	command := fieldgate.NewDeviceCommand(by, "", request, wait)
	err := c.change(ctx, device, func(all *fieldgate.DeviceCommands) error { return all.Add(command) })
	if errors.Is(err, fieldgate.ErrCommandsFull) {
		return nil, refusal.Conflict("For the device %q %d commands, or %s of bodies, wait already: cancel some, or wait until it is heard.", device,
			fieldgate.MaxDeviceCommands, fieldgate.SizeText(fieldgate.MaxDeviceCommandBytes))
	}
	return &command, err
}

// Cancel ends a command that has not been sent.
func (c *Commands) Cancel(ctx context.Context, device, id string) (cancelled *fieldgate.DeviceCommand, err error) {
	err = c.change(ctx, device, func(all *fieldgate.DeviceCommands) error {
		command := all.Find(id)
		switch {
		case command == nil:
			return notFound(device, id)
		case command.State != fieldgate.CommandQueued:
			return refusal.Conflict("The command %q is %s: only one that is queued can be cancelled.", id, command.State)
		}
		command.End(fieldgate.CommandCancelled, time.Now())
		copied := *command
		cancelled = &copied
		return nil
	})
	return cancelled, err
}

func (c *Commands) change(ctx context.Context, device string, change func(*fieldgate.DeviceCommands) error) error {
	ctx, cancel := context.WithTimeout(ctx, busPatience)
	defer cancel()
	return c.shared.Change(ctx, device, change)
}

// Ask has a request carried out now, by the gateway that heard the device last. Nobody sends it a second time.
func (c *Commands) Ask(ctx context.Context, device string, request fieldgate.DeviceRequest) (*fieldgate.DeviceAnswer, error) {
	registration, err := c.Registration(ctx, device)
	if err != nil {
		return nil, err
	}
	if registration == nil {
		return nil, refusal.Conflict("The device %q has not registered with the resource directory of a gateway, or its registration has ended. What is queued waits until it does.", device)
	}
	question, err := json.Marshal(&fieldgate.DeviceQuestion{Device: device, Request: request})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, request.Timeout+busPatience)
	defer cancel()
	given, err := c.bus.Ask(ctx, fieldgate.SubjectDeviceAsk+registration.Node, question)
	var refused *bus.Refusal
	switch {
	case errors.Is(err, bus.ErrNoResponder):
		return nil, refusal.Conflict("The gateway %s, which heard the device last, does not answer.", registration.Node)
	case errors.As(err, &refused):
		return nil, refusal.Conflict("The gateway %s: %s.", registration.Node, refused.Reason)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, refusal.Conflict("The gateway %s does not say what has become of the request: it may have been carried out.", registration.Node)
	case err != nil:
		return nil, err
	}
	var reply fieldgate.DeviceReply
	if err := json.Unmarshal(given.Data, &reply); err != nil {
		return nil, err
	}
	switch {
	case reply.Problem != nil:
		return nil, refusal.Conflict("%s: %s", reply.Problem.Title(), reply.Problem.Detail)
	case reply.Answer == nil:
		return nil, errors.New("a gateway's answer is empty")
	}
	return reply.Answer, nil
}
