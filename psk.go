package fieldgate

import (
	"crypto/sha256"
	"unicode"
	"unicode/utf8"
)

// Bounds of a device's pre-shared key and of the identity by which a client names it in a handshake, in bytes. RFC 4279 section 5.3
// wants at least identities of 128 bytes and keys of 64 to work.
const (
	MinPSK         = 16
	MaxPSK         = 64
	MaxPSKIdentity = 128
)

// MaxCertificates is how many certificates of its own a device may have at once (for rotation).
const MaxCertificates = 4

// SealedPSK is a device's pre-shared key. Gateways have to know it in clear to make a handshake; everywhere else it is sealed by the
// installation's secret key, package engine/seal.
type SealedPSK struct {
	Identity string `json:"identity"` // by which clients name it
	Sealed   []byte `json:"sealed"`
}

// MaxSealedPSK bounds SealedPSK.Sealed, in bytes.
const MaxSealedPSK = MaxPSK + 64

// Hash is what the key is known by, as a token is by its hash. It tells nothing of the key, not even whether it is the same as another:
// no two sealings are the same.
func (k *SealedPSK) Hash() CredentialHash {
	return sha256.Sum256(append([]byte("fieldgate PSK\x00"), k.Sealed...))
}

// Binding is what a sealed key is tied to: moved to another device or identity it cannot be opened.
func (k *SealedPSK) Binding(kind PrincipalKind, id string) string {
	return string(kind) + "\x00" + id + "\x00" + k.Identity
}

// ValidPSKIdentity says whether an identity is 1 to MaxPSKIdentity bytes of printable UTF-8.
func ValidPSKIdentity(identity string) bool {
	if identity == "" || len(identity) > MaxPSKIdentity || !utf8.ValidString(identity) {
		return false
	}
	for _, r := range identity {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// HashCertificate is the hash that a certificate is known by: the SHA-256 of its DER form, which tools call its fingerprint.
func HashCertificate(der []byte) CredentialHash { return sha256.Sum256(der) }
