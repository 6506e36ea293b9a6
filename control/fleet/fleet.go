// Package fleet decides about devices: who is registered, with which credentials, and who is cut off. Each decision is one
// transaction with its audit row and its change of the directory; gateways take it over within a second.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/directory"
	"fieldgate/control/once"
	"fieldgate/control/refusal"
	"fieldgate/engine/seal"
	"fieldgate/engine/store"
)

// Device is a registered device.
type Device = directory.Principal

// NewDevice is what a device is registered with.
type NewDevice struct {
	ID       string
	Model    string
	Firmware string
	PSK      *NewPSK // nil: none
}

// Fleet is the devices of one installation.
type Fleet struct {
	store     *store.Store
	directory *directory.Directory
	secrets   *seal.Keyring // by which pre-shared keys are sealed
	bulks     sync.Map      // ids of those that somebody works on here
	others    watched       // those that others work on
}

// New makes a Fleet on its store; the directory tells the gateways, which have the same secrets.
func New(db *store.Store, d *directory.Directory, secrets *seal.Keyring) *Fleet {
	return &Fleet{store: db, directory: d, secrets: secrets, others: watched{seen: make(map[string]sighting)}}
}

func (d *NewDevice) validate() error {
	if err := directory.CheckID(fieldgate.PrincipalDevice, d.ID); err != nil {
		return err
	}
	if err := directory.CheckText("model", d.Model); err != nil {
		return err
	}
	if err := directory.CheckText("firmware", d.Firmware); err != nil {
		return err
	}
	if d.PSK == nil {
		return nil
	}
	return d.PSK.validate(d.ID)
}

// Add registers a device and issues its token, which is shown only here.
func (f *Fleet) Add(ctx context.Context, device NewDevice) (added *Device, token string, err error) {
	sealing, err := f.sealingKeyFor(ctx, device)
	if err != nil {
		return nil, "", err
	}
	var answer directory.Issued
	err = f.store.Update(ctx, func(tx *store.Tx) error {
		return once.Do(ctx, tx, &answer, func() error {
			if answer.Principal, answer.Token, err = add(ctx, tx, device, sealing, issue); err != nil {
				return err
			}
			return audit.Write(ctx, tx, audit.Change{Action: "device.add", Target: device.ID, After: answer.Principal.Facts()})
		})
	})
	if err != nil {
		return nil, "", err
	}
	f.directory.Nudge()
	return answer.Principal, answer.Token, nil
}

// issue makes the token of a device that is registered alone.
func issue(device *Device, prefix string) (string, error) {
	return directory.Issue(device, prefix, false)
}

func add(ctx context.Context, tx *store.Tx, device NewDevice, sealing *seal.Key, issue func(*Device, string) (string, error)) (*Device, string, error) {
	if err := device.validate(); err != nil {
		return nil, "", err
	}
	if err := checkReserved(ctx, tx, device.ID); err != nil {
		return nil, "", err
	}
	added := &Device{Kind: fieldgate.PrincipalDevice, ID: device.ID, Model: device.Model, Firmware: device.Firmware}
	if device.PSK != nil {
		added.PSK = device.PSK.sealed(device.ID, sealing)
	}
	token, err := issue(added, fieldgate.PrefixDevice)
	if err != nil {
		return nil, "", err
	}
	return added, token, directory.Insert(ctx, tx, added)
}

// Imported is what became of one device of an import: its token, or why it was refused.
type Imported struct {
	ID      string
	Token   string
	Refused *refusal.Error
}

// Import registers many devices in one transaction. One that is refused does not hold up the others.
func (f *Fleet) Import(ctx context.Context, devices []NewDevice) (imported []Imported, err error) {
	sealing, err := f.sealingKeyFor(ctx, devices...)
	if err != nil {
		return nil, err
	}
	err = f.store.Update(ctx, func(tx *store.Tx) error {
		imported = nil // the transaction may run again
		first, stored := "", 0
		for _, device := range devices {
			_, token, err := add(ctx, tx, device, sealing, directory.IssueMany)
			var refused *refusal.Error
			if err != nil && !errors.As(err, &refused) {
				return err
			}
			if refused != nil {
				token = ""
			} else if stored++; stored == 1 {
				first = device.ID
			}
			imported = append(imported, Imported{ID: device.ID, Token: token, Refused: refused})
		}
		if stored == 0 {
			return nil
		}
		return audit.Write(ctx, tx, audit.Change{Action: "device.import", Target: first, Detail: count(stored), After: importFacts{stored}})
	})
	if err != nil {
		return nil, err
	}
	f.directory.Nudge()
	return imported, nil
}

// importFacts is what the audit keeps of an import.
type importFacts struct {
	Devices int `json:"devices"`
}

func count(devices int) string {
	if devices == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices from this one on", devices)
}

// Get is one device.
func (f *Fleet) Get(ctx context.Context, id string) (device *Device, err error) {
	err = f.store.View(ctx, func(tx *store.Tx) error {
		device, err = directory.Find(ctx, tx, fieldgate.PrincipalDevice, id)
		return err
	})
	return device, err
}

// List is one page of devices.
func (f *Fleet) List(ctx context.Context, filter directory.Filter) ([]directory.Listed, error) {
	filter.Kind = fieldgate.PrincipalDevice
	return directory.List(ctx, f.store, filter)
}

// IssueToken issues a new token; the older ones stop working unless they are kept.
func (f *Fleet) IssueToken(ctx context.Context, id string, keep bool, basis directory.Basis) (device *Device, token string, err error) {
	detail := ""
	if keep {
		detail = "older ones kept"
	}
	var answer directory.Issued
	err = f.store.Update(ctx, func(tx *store.Tx) error {
		return once.Do(ctx, tx, &answer, func() error {
			answer.Principal, _, err = decide(ctx, tx, "device.token", id, basis, func(device *Device) (change, error) {
				if device.State == fieldgate.StateRevoked {
					return change{}, errRevoked(id)
				}
				answer.Token, err = directory.Issue(device, fieldgate.PrefixDevice, keep)
				return change{made: true, detail: detail}, err
			})
			return err
		})
	})
	if err != nil {
		return nil, "", err
	}
	f.directory.Nudge()
	return answer.Principal, answer.Token, nil
}

// Revoke shuts a device out for good and deletes its credentials.
func (f *Fleet) Revoke(ctx context.Context, id string, basis directory.Basis) (*Device, error) {
	return f.decide(ctx, "device.revoke", id, basis, func(device *Device) (change, error) {
		changed := device.State != fieldgate.StateRevoked
		device.State = fieldgate.StateRevoked
		device.DropCredentials()
		return change{made: changed}, nil
	})
}

// Quarantine cuts a device off until it is released.
func (f *Fleet) Quarantine(ctx context.Context, id string, basis directory.Basis) (*Device, error) {
	return f.enter(ctx, "device.quarantine", id, basis, fieldgate.StateQuarantined)
}

// Release ends a quarantine.
func (f *Fleet) Release(ctx context.Context, id string, basis directory.Basis) (*Device, error) {
	return f.enter(ctx, "device.release", id, basis, fieldgate.StateActive)
}

func (f *Fleet) enter(ctx context.Context, action, id string, basis directory.Basis, state fieldgate.PrincipalState) (*Device, error) {
	return f.decide(ctx, action, id, basis, func(device *Device) (change, error) {
		if device.State == fieldgate.StateRevoked {
			return change{}, errRevoked(id)
		}
		changed := device.State != state
		device.State = state
		return change{made: changed}, nil
	})
}

// Update changes what is registered about a device; nil leaves a value as it is.
func (f *Fleet) Update(ctx context.Context, id string, model, firmware *string, basis directory.Basis) (*Device, error) {
	return f.decide(ctx, "device.update", id, basis, func(device *Device) (change, error) {
		before := NewDevice{Model: device.Model, Firmware: device.Firmware}
		after := NewDevice{ID: id, Model: device.Model, Firmware: device.Firmware}
		if model != nil {
			after.Model = *model
		}
		if firmware != nil {
			after.Firmware = *firmware
		}
		if err := after.validate(); err != nil {
			return change{}, err
		}
		device.Model, device.Firmware = after.Model, after.Firmware
		return change{made: before.Model != after.Model || before.Firmware != after.Firmware}, nil
	})
}

func errRevoked(id string) error {
	return refusal.Conflict("The device %q is revoked for good: register it under another id.", id)
}

// change is what a decision does to a device.
type change struct {
	made   bool   // something is new
	detail string // for the audit
}

// decide carries out one decision about a device.
func (f *Fleet) decide(ctx context.Context, action, id string, basis directory.Basis, alter func(*Device) (change, error)) (device *Device, err error) {
	made := false
	err = f.store.Update(ctx, func(tx *store.Tx) error {
		device, made, err = decide(ctx, tx, action, id, basis, alter)
		return err
	})
	if err != nil {
		return nil, err
	}
	if made {
		f.directory.Nudge()
	}
	return device, nil
}

func decide(ctx context.Context, tx *store.Tx, action, id string, basis directory.Basis, alter func(*Device) (change, error)) (device *Device, made bool, err error) {
	if device, err = directory.Find(ctx, tx, fieldgate.PrincipalDevice, id); err != nil {
		return nil, false, err
	}
	if err := basis.Check(device); err != nil {
		return nil, false, err
	}
	before := device.Facts()
	altered, err := alter(device)
	if err != nil || !altered.made {
		return device, false, err
	}
	if err := directory.Save(ctx, tx, device); err != nil {
		return nil, false, err
	}
	if altered.detail == "" {
		altered.detail = basis.Reason
	}
	return device, true, audit.Write(ctx, tx, audit.Change{Action: action, Target: id, Detail: altered.detail, Before: before, After: device.Facts()})
}
