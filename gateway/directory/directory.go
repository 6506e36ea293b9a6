// Package directory is the gateway's own copy of who exists: devices and apps, their states and credentials.
//
// It owns a compact table in memory and a log on disk that a restart reads back. It promises that a look-up takes no lock, no
// allocation and no network, that changes are applied in the order of their sequence and each at most once, and that
// watchers hear of every applied change. Its memory is about 110 bytes for a device with one credential, besides its id.
package directory

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"fieldgate"
)

// Ref names a principal of this Directory for as long as the process lives. The zero Ref names none.
type Ref uint32

// Directory is safe for concurrent use.
type Directory struct {
	principals  chunked[principal]
	credentials chunked[credential]
	byHash      index // of credentials, by the first bytes of the hash
	byName      index // of principals, by the hash of kind and id
	words       words // models, firmware versions, scope lists

	mu           sync.Mutex // held by Apply and Follow
	sequence     atomic.Uint64
	installation uint64 // whose changes these are; 0: none yet
	log          *changeLog
	watchers     []func(*fieldgate.DirectoryChange)
}

type principal struct {
	id       string
	kind     kind
	state    atomic.Uint32
	model    atomic.Uint32 // numbers in words
	firmware atomic.Uint32
	scopes   atomic.Uint32

	// first of the principal's credentials, a list by next; only Apply touches it
	credential uint32
}

// kind is a PrincipalKind in one byte.
type kind uint8

const (
	kindDevice kind = iota
	kindApp
)

func kindOf(k fieldgate.PrincipalKind) kind {
	if k == fieldgate.PrincipalApp {
		return kindApp
	}
	return kindDevice
}

func (k kind) name() fieldgate.PrincipalKind {
	if k == kindApp {
		return fieldgate.PrincipalApp
	}
	return fieldgate.PrincipalDevice
}

// credential keeps half of the SHA-256: 128 bits are beyond any search for a second token with the same hash.
type credential struct {
	hash  [16]byte
	owner atomic.Uint32 // 0: dropped
	next  uint32
}

// Open reads the copy in a folder, which it creates when needed. A torn tail of the log, as a crash leaves it, is cut off; a log that
// is damaged otherwise is set aside and the directory starts empty, to be filled from the control plane again.
func Open(folder string, logger *slog.Logger) (*Directory, error) {
	for {
		d := &Directory{}
		d.principals.init()
		d.credentials.init()
		d.byHash.reset(1 << 10)
		d.byName.reset(1 << 10)
		d.words.init()
		log, err := openLog(folder, logger, d.apply)
		if errors.Is(err, fieldgate.ErrCorrupt) {
			err = setAside(folder, logger)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		d.log, d.installation = log, log.installation
		return d, nil
	}
}

// Close ends the log. The Directory goes on answering look-ups.
func (d *Directory) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.close()
}

// Sequence is that of the newest change applied.
func (d *Directory) Sequence() uint64 { return d.sequence.Load() }

// Watch calls a function after each applied change, in order, from the goroutine that applies. To be called before changes come.
func (d *Directory) Watch(watcher func(*fieldgate.DirectoryChange)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watchers = append(d.watchers, watcher)
}

// Apply takes in changes in the order of their sequence and returns once they are on disk. Changes that are not newer than
// Sequence are passed over. On an error (a full disk) nothing is lost: they hold in memory, and the next Apply that succeeds
// writes them too.
func (d *Directory) Apply(changes []fieldgate.DirectoryChange) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range changes {
		if changes[i].Sequence <= d.sequence.Load() {
			continue
		}
		d.apply(&changes[i])
		d.log.append(&changes[i])
		for _, watcher := range d.watchers {
			watcher(&changes[i])
		}
	}
	if err := d.log.flush(); err != nil {
		return err
	}
	if d.log.wasteful(d.principals.length()) {
		return d.compact()
	}
	return nil
}

// Follow makes sure that the changes to come belong to those applied. A directory that follows another installation, or has gone
// further than its newest change (the database was restored from a backup), begins anew: everybody is shut out until the
// changes, from the first one on, say otherwise. began says so.
func (d *Directory) Follow(installation, newest uint64) (began bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.installation == installation && d.sequence.Load() <= newest {
		return false, nil
	}
	began = d.sequence.Load() != 0
	for ref := uint32(1); ref <= d.principals.length(); ref++ {
		p := d.Principal(Ref(ref))
		change := fieldgate.DirectoryChange{Kind: p.Kind, ID: p.ID, State: fieldgate.StateRevoked}
		d.apply(&change)
		for _, watcher := range d.watchers {
			watcher(&change)
		}
	}
	d.sequence.Store(0)
	d.installation = installation
	return began, d.log.rewrite(installation, func(func(*fieldgate.DirectoryChange)) {})
}

// compact rewrites the log as the present value of each principal.
func (d *Directory) compact() error {
	return d.log.rewrite(d.installation, func(write func(*fieldgate.DirectoryChange)) {
		for ref := uint32(1); ref <= d.principals.length(); ref++ {
			write(d.value(ref))
		}
	})
}

// value is a principal's present value as a change with the sequence of the whole directory.
func (d *Directory) value(ref uint32) *fieldgate.DirectoryChange {
	p := d.Principal(Ref(ref))
	change := &fieldgate.DirectoryChange{Sequence: d.sequence.Load(), Kind: p.Kind, ID: p.ID, State: p.State, Model: p.Model, Firmware: p.Firmware, Scopes: p.Scopes}
	for c := d.principals.at(ref).credential; c != 0; c = d.credentials.at(c).next {
		if entry := d.credentials.at(c); entry.owner.Load() == ref {
			change.Credentials = append(change.Credentials, fieldgate.CredentialHash{})
			copy(change.Credentials[len(change.Credentials)-1][:], entry.hash[:])
		}
	}
	return change
}

// apply puts a change into the table.
func (d *Directory) apply(change *fieldgate.DirectoryChange) {
	ref := d.find(change.Kind, change.ID)
	if ref == 0 {
		ref = d.principals.add()
		p := d.principals.at(ref)
		p.id, p.kind = strings.Clone(change.ID), kindOf(change.Kind)
		d.byName.insert(nameHash(p.kind, p.id), ref, d.principalName)
	}
	p := d.principals.at(ref)
	p.model.Store(d.words.number(change.Model))
	p.firmware.Store(d.words.number(change.Firmware))
	p.scopes.Store(d.words.number(strings.Join(change.Scopes, " ")))
	d.setCredentials(ref, p, change.Credentials)
	p.state.Store(uint32(change.State))
	d.sequence.Store(change.Sequence)
}

func (d *Directory) setCredentials(ref uint32, p *principal, hashes []fieldgate.CredentialHash) {
	have := make([]bool, len(hashes))
	for c := p.credential; c != 0; c = d.credentials.at(c).next {
		entry := d.credentials.at(c)
		at := slices.IndexFunc(hashes, func(h fieldgate.CredentialHash) bool { return [16]byte(h[:16]) == entry.hash })
		if at < 0 {
			entry.owner.Store(0)
			continue
		}
		entry.owner.Store(ref)
		have[at] = true
	}
	for i := range hashes {
		if have[i] {
			continue
		}
		c := d.credentials.add()
		entry := d.credentials.at(c)
		entry.hash = [16]byte(hashes[i][:16])
		entry.next, p.credential = p.credential, c
		entry.owner.Store(ref)
		d.byHash.insert(binary.LittleEndian.Uint64(entry.hash[:]), c, d.credentialHash)
	}
}

// principalName and credentialHash give an index the key of an entry, when it grows.
func (d *Directory) principalName(ref uint32) uint64 {
	p := d.principals.at(ref)
	return nameHash(p.kind, p.id)
}

func (d *Directory) credentialHash(c uint32) uint64 {
	return binary.LittleEndian.Uint64(d.credentials.at(c).hash[:])
}

// Lookup finds the principal that a credential belongs to. The zero Ref: nobody.
func (d *Directory) Lookup(hash *fieldgate.CredentialHash) Ref {
	key := binary.LittleEndian.Uint64(hash[:])
	for probe := d.byHash.start(key); ; {
		c, more := d.byHash.next(&probe, key)
		if !more {
			return 0
		}
		if entry := d.credentials.at(c); entry.hash == [16]byte(hash[:16]) {
			if owner := entry.owner.Load(); owner != 0 {
				return Ref(owner)
			}
		}
	}
}

// Find is the principal of that name. The zero Ref: nobody.
func (d *Directory) Find(kind fieldgate.PrincipalKind, id string) Ref { return Ref(d.find(kind, id)) }

func (d *Directory) find(of fieldgate.PrincipalKind, id string) uint32 {
	kind := kindOf(of)
	key := nameHash(kind, id)
	for probe := d.byName.start(key); ; {
		ref, more := d.byName.next(&probe, key)
		if !more {
			return 0
		}
		if p := d.principals.at(ref); p.kind == kind && p.id == id {
			return ref
		}
	}
}

// Principal is the present value of a principal. Its texts are shared: no allocation, unless it has scopes.
func (d *Directory) Principal(ref Ref) fieldgate.Principal {
	p := d.principals.at(uint32(ref))
	value := fieldgate.Principal{Kind: p.kind.name(), ID: p.id, State: fieldgate.PrincipalState(p.state.Load()),
		Model: d.words.text(p.model.Load()), Firmware: d.words.text(p.firmware.Load())}
	if scopes := d.words.text(p.scopes.Load()); scopes != "" {
		value.Scopes = strings.Fields(scopes)
	}
	return value
}

// State is a principal's present state.
func (d *Directory) State(ref Ref) fieldgate.PrincipalState {
	return fieldgate.PrincipalState(d.principals.at(uint32(ref)).state.Load())
}

// Length is how many principals there are, revoked ones included.
func (d *Directory) Length() int { return int(d.principals.length()) }
