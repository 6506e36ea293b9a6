package directory

import (
	"bytes"
	"fmt"
	"hash/maphash"

	"fieldgate"
)

// securityContext is one of OSCORE. It never changes; whose it is says its credential.
type securityContext struct {
	sealed     fieldgate.SealedOSCORE
	credential uint32
}

func contextHash(kid, idContext []byte) uint64 {
	return maphash.Bytes(nameSeed, kid)*31 + maphash.Bytes(nameSeed, idContext)
}

// contextKey gives the index the key of an entry, when it grows.
func (d *Directory) contextKey(n uint32) uint64 {
	sealed := &d.contexts.at(n).sealed
	return contextHash(sealed.SenderID, sealed.IDContext)
}

func (d *Directory) addContext(credential uint32, sealed *fieldgate.SealedOSCORE) uint32 {
	n := d.contexts.add()
	*d.contexts.at(n) = securityContext{*sealed, credential}
	return n
}

// HasOSCORE says whether any principal has, or had, a security context.
func (d *Directory) HasOSCORE() bool { return d.contexts.length() > 0 }

// OSCORE finds the security context that a request names by the identifier of its sender and that of the context, empty where there is none
// (RFC 8613 section 8.2), without allocating. Not found: it is nobody's.
func (d *Directory) OSCORE(kid, idContext []byte) (sealed *fieldgate.SealedOSCORE, who Proven, found bool) {
	hash := contextHash(kid, idContext)
	for probe := d.byContext.start(hash); ; {
		n, more := d.byContext.next(&probe, hash)
		if !more {
			return nil, Proven{}, false
		}
		one := d.contexts.at(n)
		entry := d.credentials.at(one.credential)
		if owner := entry.owner.Load(); owner != 0 && bytes.Equal(one.sealed.SenderID, kid) && bytes.Equal(one.sealed.IDContext, idContext) {
			return &one.sealed, Proven{Ref(owner), entry.wholeHash()}, true
		}
	}
}

// OpenOSCORE gives the secrets of a context that OSCORE has found. It fails where this node does not have the installation's secrets key.
func (d *Directory) OpenOSCORE(owner Ref, sealed *fieldgate.SealedOSCORE) (secret, salt []byte, err error) {
	secrets := d.Secrets.Key()
	if secrets == nil {
		return nil, nil, fmt.Errorf("directory: this node does not have the secrets key")
	}
	p := d.principals.at(uint32(owner))
	joined, err := secrets.Open(sealed.Sealed, sealed.Binding(p.kind.name(), p.id))
	if err != nil {
		return nil, nil, fmt.Errorf("directory: %w", err)
	}
	secret, salt, ok := fieldgate.SplitOSCORESecrets(joined)
	if !ok {
		return nil, nil, fmt.Errorf("directory: the secrets of an OSCORE context are cut")
	}
	return secret, salt, nil
}
