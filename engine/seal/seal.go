// Package seal keeps the installation's secret key, by which secrets are sealed that the gateways have to know in clear: in the
// database, on the bus and in the gateways' files they are readable only to a node that has the key.
//
// It owns the key's file. A node without the key, or with another one, can do all else: Keyring.Problem says why it cannot open what
// is sealed.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

const (
	keyBytes   = 32 // AES-256
	nameBytes  = 8
	nonceBytes = 12 // NIST SP 800-38D section 8.2.2: chosen at random, for at most 2^32 sealings
	tagBytes   = 16
)

// Overhead is how many bytes what is sealed is longer than the secret.
const Overhead = nameBytes + nonceBytes + tagBytes

// Key seals and opens. It is safe for concurrent use.
type Key struct {
	aead cipher.AEAD
	name [nameBytes]byte
}

func newKey(secret []byte) (*Key, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	k := &Key{}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte("fieldgate secrets key\x00"), secret...))
	copy(k.name[:], sum[:])
	return k, nil
}

// Name tells the key from others, and nothing of the key itself: 16 hexadecimal digits.
func (k *Key) Name() string { return hex.EncodeToString(k.name[:]) }

// Seal makes a secret readable only to who has the key, and only as long as it stays with its owner, any text: name of the key, nonce,
// ciphertext and tag of AES-256-GCM.
func (k *Key) Seal(secret []byte, owner string) []byte {
	sealed := make([]byte, nameBytes+nonceBytes, Overhead+len(secret))
	copy(sealed, k.name[:])
	nonce := sealed[nameBytes:]
	rand.Read(nonce) // which never fails
	return k.aead.Seal(sealed, nonce, secret, []byte(owner))
}

var (
	// ErrOtherKey says that something was sealed by another key.
	ErrOtherKey = errors.New("it was sealed by another secrets key")
	// ErrAltered says that something is not what Seal made, or not its owner's.
	ErrAltered = errors.New("what is sealed was altered")
)

// Open gives the secret that Seal was given for the same owner, or ErrOtherKey or ErrAltered.
func (k *Key) Open(sealed []byte, owner string) ([]byte, error) {
	if len(sealed) < Overhead {
		return nil, ErrAltered
	}
	if [nameBytes]byte(sealed) != k.name {
		return nil, ErrOtherKey
	}
	secret, err := k.aead.Open(nil, sealed[nameBytes:nameBytes+nonceBytes], sealed[nameBytes+nonceBytes:], []byte(owner))
	if err != nil {
		return nil, ErrAltered
	}
	return secret, nil
}

// KeyName is the name of the key that sealed something; empty if nothing did.
func KeyName(sealed []byte) string {
	if len(sealed) < Overhead {
		return ""
	}
	return hex.EncodeToString(sealed[:nameBytes])
}
