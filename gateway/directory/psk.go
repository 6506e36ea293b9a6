package directory

import (
	"hash/maphash"

	"fieldgate"
)

// psk is one pre-shared key. It never changes; whose it is says its credential.
type psk struct {
	sealed     fieldgate.SealedPSK
	credential uint32
}

func identityHash(identity string) uint64 { return maphash.String(nameSeed, identity) }

// pskIdentity gives the index the key of an entry, when it grows.
func (d *Directory) pskIdentity(n uint32) uint64 { return identityHash(d.psks.at(n).sealed.Identity) }

func (d *Directory) addPSK(credential uint32, sealed *fieldgate.SealedPSK) uint32 {
	n := d.psks.add()
	*d.psks.at(n) = psk{*sealed, credential}
	return n
}

// Proven is whom a credential of a handshake is of, and the hash that it is known by.
type Proven struct {
	Ref  Ref
	Hash fieldgate.CredentialHash
}

// PSK is the key that an identity of a handshake stands for (RFC 4279 §2). Not ok: nobody has that identity, or the key cannot be opened,
// because this node does not have the installation's secrets key.
func (d *Directory) PSK(identity []byte) (key []byte, who Proven, ok bool) {
	secrets := d.Secrets.Key()
	if secrets == nil || len(identity) > fieldgate.MaxPSKIdentity {
		return nil, Proven{}, false
	}
	hash := maphash.Bytes(nameSeed, identity)
	for probe := d.byIdentity.start(hash); ; {
		n, more := d.byIdentity.next(&probe, hash)
		if !more {
			return nil, Proven{}, false
		}
		one := d.psks.at(n)
		owner := Ref(d.credentials.at(one.credential).owner.Load())
		if owner == 0 || one.sealed.Identity != string(identity) {
			continue
		}
		p := d.principals.at(uint32(owner))
		key, err := secrets.Open(one.sealed.Sealed, one.sealed.Binding(p.kind.name(), p.id))
		if err != nil {
			return nil, Proven{}, false
		}
		return key, Proven{owner, one.sealed.Hash()}, true
	}
}
