// Package directory is the gateway's own copy of who exists: devices and apps, their states and credentials.
//
// It owns a compact table in memory and a log on disk that a restart reads back. It promises that a look-up takes no lock, no
// allocation and no network (one for a handshake does allocate), that changes are applied in the order of their sequence and each at most once, and that
// watchers hear of every applied change. Its memory is about 115 bytes for a device with one credential, besides its id.
package directory

import (
	"encoding/binary"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"fieldgate"
	"fieldgate/engine/seal"
)

// Ref names a principal of this Directory for as long as the process lives. The zero Ref names none.
type Ref uint32

// Directory is safe for concurrent use.
type Directory struct {
	Secrets *seal.Keyring // by which pre-shared keys are opened; to be set before the first look-up; nil: none is

	principals   chunked[principal]
	credentials  chunked[credential]
	verifiers    chunked[fieldgate.ScramVerifier]
	psks         chunked[psk]
	contexts     chunked[securityContext]
	byHash       index        // of credentials, by the first bytes of the hash
	byName       index        // of principals, by the hash of kind and id
	byIdentity   index        // of psks, by the hash of the identity
	byContext    index        // of contexts, by the hash of their identifiers
	words        words        // models, firmware versions, scope lists
	certificates atomic.Int64 // pinned ones that are valid
	authorities  atomic.Pointer[Authorities]

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
	version  atomic.Uint32 // counts its changes

	// first of the principal's credentials, a list by next
	credential atomic.Uint32
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
	hash   [16]byte
	owner  atomic.Uint32 // 0: dropped
	next   uint32
	kind   credentialKind
	secret uint32 // of a token its number in verifiers, 0: none; of a pre-shared key that in psks; of a security context that in contexts
}

type credentialKind uint8

const (
	token credentialKind = iota
	preSharedKey
	certificate
	objectSecurity // OSCORE
)

// Open reads the copy in a folder, which it creates when needed. A torn tail of the log, as a crash leaves it, is cut off; a log that
// is damaged otherwise is set aside and the directory starts empty, to be filled from the control plane again.
func Open(folder string, logger *slog.Logger) (*Directory, error) {
	for {
		d := &Directory{}
		d.principals.init()
		d.credentials.init()
		d.verifiers.init()
		d.psks.init()
		d.contexts.init()
		d.byHash.reset(1 << 10)
		d.byName.reset(1 << 10)
		d.byIdentity.reset(1 << 4)
		d.byContext.reset(1 << 4)
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
	for _, one := range d.tokens(ref, nil) {
		change.Credentials = append(change.Credentials, one.Hash)
		change.Verifiers = append(change.Verifiers, one.Verifier)
	}
	if !slices.ContainsFunc(change.Verifiers, func(v fieldgate.ScramVerifier) bool { return v != fieldgate.ScramVerifier{} }) {
		change.Verifiers = nil
	}
	for entry := range d.held(ref) {
		switch entry.kind {
		case preSharedKey:
			change.PSK = &d.psks.at(entry.secret).sealed
		case objectSecurity:
			change.OSCORE = &d.contexts.at(entry.secret).sealed
		case certificate:
			change.Certificates = append(change.Certificates, entry.wholeHash())
		}
	}
	return change
}

// held are the valid credentials of a principal.
func (d *Directory) held(ref uint32) iter.Seq[*credential] {
	return func(yield func(*credential) bool) {
		for c := d.principals.at(ref).credential.Load(); c != 0; c = d.credentials.at(c).next {
			if entry := d.credentials.at(c); entry.owner.Load() == ref && !yield(entry) {
				return
			}
		}
	}
}

func (d *Directory) count(ref uint32, kind credentialKind) (n int) {
	for entry := range d.held(ref) {
		if entry.kind == kind {
			n++
		}
	}
	return n
}

// wholeHash is the hash with zeros for the half that is not kept.
func (c *credential) wholeHash() (hash fieldgate.CredentialHash) {
	copy(hash[:], c.hash[:])
	return hash
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
	d.setCredentials(ref, p, change)
	p.state.Store(uint32(change.State))
	p.version.Add(1)
	d.sequence.Store(change.Sequence)
}

// setCredentials drops those that the change no longer has and adds those that are new.
func (d *Directory) setCredentials(ref uint32, p *principal, change *fieldgate.DirectoryChange) {
	d.certificates.Add(int64(len(change.Certificates) - d.count(ref, certificate)))
	want := wanted(change)
	for c := p.credential.Load(); c != 0; c = d.credentials.at(c).next {
		entry := d.credentials.at(c)
		at := slices.IndexFunc(want, func(w wantedCredential) bool { return w.hash == entry.hash && w.kind == entry.kind })
		if at < 0 {
			entry.owner.Store(0)
		} else {
			entry.owner.Store(ref)
			want[at].there = true
		}
	}
	for i := range want {
		if !want[i].there {
			d.addCredential(ref, p, &want[i])
		}
	}
}

// wantedCredential is one that a principal is to have.
type wantedCredential struct {
	hash     [16]byte
	kind     credentialKind
	there    bool
	verifier fieldgate.ScramVerifier // of a token
	psk      *fieldgate.SealedPSK
	oscore   *fieldgate.SealedOSCORE
}

func wanted(change *fieldgate.DirectoryChange) []wantedCredential {
	want := make([]wantedCredential, 0, len(change.Credentials)+len(change.Certificates)+2)
	for i := range change.Credentials {
		w := wantedCredential{hash: [16]byte(change.Credentials[i][:16]), kind: token}
		if i < len(change.Verifiers) {
			w.verifier = change.Verifiers[i]
		}
		want = append(want, w)
	}
	for i := range change.Certificates {
		want = append(want, wantedCredential{hash: [16]byte(change.Certificates[i][:16]), kind: certificate})
	}
	if change.PSK != nil {
		hash := change.PSK.Hash()
		want = append(want, wantedCredential{hash: [16]byte(hash[:16]), kind: preSharedKey, psk: change.PSK})
	}
	if change.OSCORE != nil {
		hash := change.OSCORE.Hash()
		want = append(want, wantedCredential{hash: [16]byte(hash[:16]), kind: objectSecurity, oscore: change.OSCORE})
	}
	return want
}

func (d *Directory) addCredential(ref uint32, p *principal, w *wantedCredential) {
	c := d.credentials.add()
	entry := d.credentials.at(c)
	entry.hash, entry.kind = w.hash, w.kind
	switch {
	case w.kind == preSharedKey:
		entry.secret = d.addPSK(c, w.psk)
	case w.kind == objectSecurity:
		entry.secret = d.addContext(c, w.oscore)
	case w.verifier != fieldgate.ScramVerifier{}:
		entry.secret = d.verifiers.add()
		*d.verifiers.at(entry.secret) = w.verifier
	}
	entry.next = p.credential.Load()
	p.credential.Store(c)
	entry.owner.Store(ref)
	d.byHash.insert(binary.LittleEndian.Uint64(entry.hash[:]), c, d.credentialHash)
	switch w.kind {
	case preSharedKey:
		d.byIdentity.insert(identityHash(w.psk.Identity), entry.secret, d.pskIdentity)
	case objectSecurity:
		d.byContext.insert(contextHash(w.oscore.SenderID, w.oscore.IDContext), entry.secret, d.contextKey)
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

// Token is a valid token of a principal.
type Token struct {
	Owner    Ref
	Hash     fieldgate.CredentialHash // the first half, which Lookup goes by
	Verifier fieldgate.ScramVerifier  // zero: the token has none
}

// Tokens are those of the device and the app of that id.
func (d *Directory) Tokens(id string) (tokens []Token) {
	for _, kind := range [...]fieldgate.PrincipalKind{fieldgate.PrincipalDevice, fieldgate.PrincipalApp} {
		if ref := d.find(kind, id); ref != 0 {
			tokens = d.tokens(ref, tokens)
		}
	}
	return tokens
}

func (d *Directory) tokens(ref uint32, tokens []Token) []Token {
	for entry := range d.held(ref) {
		if entry.kind != token {
			continue
		}
		one := Token{Owner: Ref(ref), Hash: entry.wholeHash()}
		if entry.secret != 0 {
			one.Verifier = *d.verifiers.at(entry.secret)
		}
		tokens = append(tokens, one)
	}
	return tokens
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

// Version of a principal is another one after each change of it: what was found out about it before it was asked for its version may be
// out of date then.
func (d *Directory) Version(ref Ref) uint32 { return d.principals.at(uint32(ref)).version.Load() }

// State is a principal's present state.
func (d *Directory) State(ref Ref) fieldgate.PrincipalState {
	return fieldgate.PrincipalState(d.principals.at(uint32(ref)).state.Load())
}

// Length is how many principals there are, revoked ones included.
func (d *Directory) Length() int { return int(d.principals.length()) }
