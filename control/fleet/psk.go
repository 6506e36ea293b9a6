package fleet

import (
	"cmp"
	"context"
	"crypto/rand"

	"fieldgate"
	"fieldgate/control/directory"
	"fieldgate/control/once"
	"fieldgate/control/refusal"
	"fieldgate/engine/seal"
	"fieldgate/engine/store"
)

// NewPSK is a pre-shared key that a device is to have.
type NewPSK struct {
	Identity string // empty: the device's id
	Key      []byte
}

// madePSK is how many random bytes a key has that Fieldgate makes.
const madePSK = 32

func (n *NewPSK) validate(id string) error {
	if !fieldgate.ValidPSKIdentity(cmp.Or(n.Identity, id)) {
		return refusal.Invalid("The identity of a pre-shared key has 1 to %d bytes of printable text in UTF-8.", fieldgate.MaxPSKIdentity)
	}
	if len(n.Key) < fieldgate.MinPSK || len(n.Key) > fieldgate.MaxPSK {
		return refusal.Invalid("A pre-shared key has %d to %d bytes, which are %d to %d hexadecimal digits.",
			fieldgate.MinPSK, fieldgate.MaxPSK, 2*fieldgate.MinPSK, 2*fieldgate.MaxPSK)
	}
	return nil
}

// sealed is the key as a device has it. n was validated.
func (n *NewPSK) sealed(id string, sealing *seal.Key) *fieldgate.SealedPSK {
	psk := &fieldgate.SealedPSK{Identity: cmp.Or(n.Identity, id)}
	psk.Sealed = sealing.Seal(n.Key, psk.Binding(fieldgate.PrincipalDevice, id))
	return psk
}

// IssuedPSK is a device with a pre-shared key that is shown only once.
type IssuedPSK struct {
	Device *Device
	Key    []byte
}

// SetPSK gives a device a pre-shared key in place of the one that it had, whose sessions end. Without a key one is made.
func (f *Fleet) SetPSK(ctx context.Context, id string, psk NewPSK, basis directory.Basis) (issued IssuedPSK, err error) {
	if psk.Key == nil {
		psk.Key = make([]byte, madePSK)
		rand.Read(psk.Key) // which never fails
	}
	if err := psk.validate(id); err != nil {
		return IssuedPSK{}, err
	}
	sealing, err := f.sealingKey(ctx)
	if err != nil {
		return IssuedPSK{}, err
	}
	err = f.store.Update(ctx, func(tx *store.Tx) error {
		return once.Do(ctx, tx, &issued, func() error {
			issued.Key = psk.Key
			issued.Device, _, err = decide(ctx, tx, "device.psk", id, basis, func(device *Device) (change, error) {
				if device.State == fieldgate.StateRevoked {
					return change{}, errRevoked(id)
				}
				device.PSK = psk.sealed(id, sealing)
				return change{made: true}, nil
			})
			return err
		})
	})
	if err != nil {
		return IssuedPSK{}, err
	}
	f.directory.Nudge()
	return issued, nil
}

// RemovePSK takes a device's pre-shared key away; sessions that were made by it end.
func (f *Fleet) RemovePSK(ctx context.Context, id string, basis directory.Basis) (*Device, error) {
	return f.decide(ctx, "device.psk", id, basis, func(device *Device) (change, error) {
		had := device.PSK != nil
		device.PSK = nil
		return change{made: had}, nil
	})
}

// sealingKeyFor is the key by which those of the devices are sealed; nil if none of them has one.
func (f *Fleet) sealingKeyFor(ctx context.Context, devices ...NewDevice) (*seal.Key, error) {
	for i := range devices {
		if devices[i].PSK != nil {
			return f.sealingKey(ctx)
		}
	}
	return nil, nil
}

// sealingKey is the installation's secrets key, which is made if none is needed yet. It is a refusal if this node has not the one that the
// keys there are were sealed by.
func (f *Fleet) sealingKey(ctx context.Context) (*seal.Key, error) {
	var name string
	err := f.store.View(ctx, func(tx *store.Tx) (err error) {
		name, err = directory.SealedBy(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if name != "" && name != f.secrets.Name() {
		return nil, refusal.Conflict("This node does not have the secrets key %s by which the installation's pre-shared keys are sealed: give it the same file as the other nodes, or that of a backup.", name)
	}
	key, err := f.secrets.Need()
	if err != nil {
		return nil, refusal.Conflict("No pre-shared key can be kept: %v.", err)
	}
	return key, nil
}
