// Package devices keeps what gateways and control plane share of devices that register: registrations, and commands that wait. Both are in
// a stream of the bus, where the newest value of each device counts and a change is compared and swapped, so that no two nodes carry a
// command out. Ages are measured by the servers of the bus; no clocks of two nodes are compared.
package devices

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
)

const (
	changeTries = 10                  // when others change the same meanwhile
	removedFor  = time.Minute         // that a removal is known; then nothing is, which is the same
	commandsFor = 14 * 24 * time.Hour // after their last change, longer than any waits
	maxBytes    = 128 << 20
	followBatch = 256
)

// Stream is the stream that the control plane keeps. When it is full, registrations and commands are refused.
var Stream = bus.Stream{Name: fieldgate.StreamDevices, Subjects: []string{fieldgate.SubjectDeviceRegistration + "*", fieldgate.SubjectDeviceCommands + "*"},
	MaxBytes: maxBytes, Latest: true}

// Devices is safe for concurrent use.
type Devices struct{ bus *bus.Bus }

// New makes Devices on the bus.
func New(b *bus.Bus) *Devices { return &Devices{bus: b} }

func subject(prefix, device string) string { return prefix + hex.EncodeToString([]byte(device)) }

// Registration is that of a device, with the lifetime that is left now; nil: there is none.
func (d *Devices) Registration(ctx context.Context, device string) (*fieldgate.DeviceRegistration, error) {
	value, err := d.latest(ctx, fieldgate.SubjectDeviceRegistration, device)
	if err != nil || len(value.Data) == 0 {
		return nil, err
	}
	return decodeRegistration(value.Data, value.Age)
}

// decodeRegistration is nil once its lifetime has passed.
func decodeRegistration(data []byte, age time.Duration) (*fieldgate.DeviceRegistration, error) {
	r := new(fieldgate.DeviceRegistration)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("a device's registration: %w", err)
	}
	if r.Left -= age; r.Left <= 0 {
		return nil, nil
	}
	return r, nil
}

// latest is the newest value of a subject, the zero Value if there is none.
func (d *Devices) latest(ctx context.Context, prefix, device string) (bus.Value, error) {
	value, err := d.bus.Latest(ctx, fieldgate.StreamDevices, subject(prefix, device))
	if errors.Is(err, bus.ErrNone) {
		return bus.Value{}, nil
	}
	value.Age = max(value.Age, 0) // of one that came just as it was asked for
	return value, err
}

// Register changes a device's registration: change gets the present one, nil if there is none, and answers with the one that takes its
// place; nil removes it. change may be called several times. The error of change is returned as it is.
func (d *Devices) Register(ctx context.Context, device string, change func(*fieldgate.DeviceRegistration) (*fieldgate.DeviceRegistration, error)) error {
	return d.swap(ctx, fieldgate.SubjectDeviceRegistration, device, func(value bus.Value) (data []byte, ttl time.Duration, err error) {
		var before *fieldgate.DeviceRegistration
		if len(value.Data) > 0 {
			if before, err = decodeRegistration(value.Data, value.Age); err != nil {
				return nil, 0, err
			}
		}
		after, err := change(before)
		if err != nil {
			return nil, 0, err
		}
		if after == nil {
			return nil, removedFor, nil
		}
		data, err = json.Marshal(after)
		return data, after.Left, err
	})
}

// Commands are those of a device, as of now.
func (d *Devices) Commands(ctx context.Context, device string) (*fieldgate.DeviceCommands, error) {
	value, err := d.latest(ctx, fieldgate.SubjectDeviceCommands, device)
	if err != nil {
		return nil, err
	}
	return decodeCommands(value.Data, value.Age)
}

func decodeCommands(data []byte, age time.Duration) (*fieldgate.DeviceCommands, error) {
	commands := new(fieldgate.DeviceCommands)
	if len(data) == 0 {
		return commands, nil
	}
	if err := json.Unmarshal(data, commands); err != nil {
		return nil, fmt.Errorf("a device's commands: %w", err)
	}
	commands.Pass(age, time.Now())
	return commands, nil
}

// Change changes the commands of a device. When it returns nil the change is durable. change may be called several times; its error is
// returned as it is, and nothing is changed.
func (d *Devices) Change(ctx context.Context, device string, change func(*fieldgate.DeviceCommands) error) error {
	return d.swap(ctx, fieldgate.SubjectDeviceCommands, device, func(value bus.Value) ([]byte, time.Duration, error) {
		commands, err := decodeCommands(value.Data, value.Age)
		if err != nil {
			return nil, 0, err
		}
		if err := change(commands); err != nil {
			return nil, 0, err
		}
		data, err := json.Marshal(commands)
		return data, commandsFor, err
	})
}

// swap puts a value in the place of another that nobody has changed meanwhile.
func (d *Devices) swap(ctx context.Context, prefix, device string, change func(bus.Value) (data []byte, ttl time.Duration, err error)) error {
	for try := 1; ; try++ {
		before, err := d.latest(ctx, prefix, device)
		if err != nil {
			return err
		}
		data, ttl, err := change(before)
		if err != nil {
			return err
		}
		_, err = d.bus.Put(ctx, subject(prefix, device), data, before.Sequence, ttl)
		if err == nil || !errors.Is(err, bus.ErrChanged) || try == changeTries {
			return err
		}
	}
}

// News is what has changed of a device: one of the two, as of now.
type News struct {
	Device       string
	Registration *fieldgate.DeviceRegistration // nil, where Commands is: there is none any more
	Commands     *fieldgate.DeviceCommands
}

// Follow hands all that is known of devices to handle, and then each change, until the context ends. That a lifetime is over is for the
// receiver to notice.
func (d *Devices) Follow(ctx context.Context, handle func(News)) error {
	return d.bus.Follow(ctx, fieldgate.StreamDevices, followBatch, func(entries []bus.Entry) error {
		for i := range entries {
			if news, ok := read(&entries[i]); ok {
				handle(news)
			}
		}
		return nil
	})
}

// read is false for what cannot be read, as nodes of another version may write it.
func read(e *bus.Entry) (news News, ok bool) {
	name, registration := strings.CutPrefix(e.Subject, fieldgate.SubjectDeviceRegistration)
	if !registration {
		name = strings.TrimPrefix(e.Subject, fieldgate.SubjectDeviceCommands)
	}
	device, err := hex.DecodeString(name)
	if err != nil {
		return news, false
	}
	news.Device = string(device)
	switch {
	case !registration:
		news.Commands, err = decodeCommands(e.Data, e.Age)
	case len(e.Data) > 0:
		news.Registration, err = decodeRegistration(e.Data, e.Age)
	}
	return news, err == nil
}
