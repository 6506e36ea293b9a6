package fleet

import (
	"context"
	"crypto/rand"

	"fieldgate"
	"fieldgate/control/directory"
	"fieldgate/control/once"
	"fieldgate/control/refusal"
	"fieldgate/engine/seal"
	"fieldgate/engine/store"
)

// OSCOREContext is an OSCORE security context (RFC 8613 section 3.2) as the device has it.
type OSCOREContext struct {
	MasterSecret []byte
	MasterSalt   []byte // may be empty
	IDContext    []byte // empty: none
	SenderID     []byte // the device's
	RecipientID  []byte // the gateway's
}

func (c *OSCOREContext) validate() error {
	switch {
	case len(c.MasterSecret) < fieldgate.MinOSCORESecret || len(c.MasterSecret) > fieldgate.MaxOSCORESecret:
		return refusal.Invalid("A master secret has %d to %d bytes, which are %d to %d hexadecimal digits.",
			fieldgate.MinOSCORESecret, fieldgate.MaxOSCORESecret, 2*fieldgate.MinOSCORESecret, 2*fieldgate.MaxOSCORESecret)
	case len(c.MasterSalt) > fieldgate.MaxOSCORESalt:
		return refusal.Invalid("A master salt has at most %d bytes.", fieldgate.MaxOSCORESalt)
	case len(c.IDContext) > fieldgate.MaxOSCOREIDContext:
		return refusal.Invalid("An id context has at most %d bytes.", fieldgate.MaxOSCOREIDContext)
	case len(c.SenderID) > fieldgate.MaxOSCOREID || len(c.RecipientID) > fieldgate.MaxOSCOREID:
		return refusal.Invalid("Sender id and recipient id have at most %d bytes.", fieldgate.MaxOSCOREID)
	case string(c.SenderID) == string(c.RecipientID):
		return refusal.Invalid("Sender id and recipient id are the same: the gateway needs another one than the device.")
	}
	return nil
}

func (c *OSCOREContext) sealed(id string, sealing *seal.Key) *fieldgate.SealedOSCORE {
	sealed := &fieldgate.SealedOSCORE{SenderID: c.SenderID, RecipientID: c.RecipientID, IDContext: c.IDContext}
	sealed.Sealed = sealing.Seal(fieldgate.JoinOSCORESecrets(c.MasterSecret, c.MasterSalt), sealed.Binding(fieldgate.PrincipalDevice, id))
	return sealed
}

// Sizes of what Fieldgate makes: sender ids at random are hardly ever another device's already, which is a refusal.
const (
	madeOSCORESecret = 16
	madeOSCORESalt   = 8
	madeOSCOREID     = 5
)

func makeOSCORE() OSCOREContext {
	c := OSCOREContext{MasterSecret: make([]byte, madeOSCORESecret), MasterSalt: make([]byte, madeOSCORESalt), SenderID: make([]byte, madeOSCOREID), RecipientID: []byte{0}}
	for _, b := range [...][]byte{c.MasterSecret, c.MasterSalt, c.SenderID} {
		rand.Read(b) // which never fails
	}
	return c
}

// IssuedOSCORE is a device with an OSCORE context that is shown only once.
type IssuedOSCORE struct {
	Device  *Device
	Context OSCOREContext
}

// SetOSCORE gives a device an OSCORE context in place of the one that it had; nil: one is made.
func (f *Fleet) SetOSCORE(ctx context.Context, id string, given *OSCOREContext, basis directory.Basis) (issued IssuedOSCORE, err error) {
	if given == nil {
		made := makeOSCORE()
		given = &made
	}
	if err := given.validate(); err != nil {
		return IssuedOSCORE{}, err
	}
	sealing, err := f.sealingKey(ctx)
	if err != nil {
		return IssuedOSCORE{}, err
	}
	err = f.store.Update(ctx, func(tx *store.Tx) error {
		return once.Do(ctx, tx, &issued, func() error {
			issued.Context = *given
			issued.Device, _, err = decide(ctx, tx, "device.oscore", id, basis, func(device *Device) (change, error) {
				if device.State == fieldgate.StateRevoked {
					return change{}, errRevoked(id)
				}
				device.OSCORE = given.sealed(id, sealing)
				return change{made: true}, nil
			})
			return err
		})
	})
	if err != nil {
		return IssuedOSCORE{}, err
	}
	f.directory.Nudge()
	return issued, nil
}

// RemoveOSCORE takes a device's OSCORE context away; observations by it end.
func (f *Fleet) RemoveOSCORE(ctx context.Context, id string, basis directory.Basis) (*Device, error) {
	return f.decide(ctx, "device.oscore", id, basis, func(device *Device) (change, error) {
		had := device.OSCORE != nil
		device.OSCORE = nil
		return change{made: had}, nil
	})
}
