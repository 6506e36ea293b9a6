package dtls

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	"fieldgate/protocol/ccm"
)

// Cipher suites whose records are protected here: AES-128, explicit nonces, keys from the PRF with SHA-256.
const (
	pskCCM8   = 0xc0a8 // RFC 6655
	pskCCM    = 0xc0a4
	pskGCM    = 0x00a8 // RFC 5487
	ecdsaCCM8 = 0xc0ae // RFC 7251
	ecdsaCCM  = 0xc0ac
	ecdsaGCM  = 0xc02b // RFC 5289
	rsaGCM    = 0xc02f
)

const (
	keyLength = 16
	saltSize  = 4 // implicit part of a nonce
)

// secret is what protects one direction.
type secret struct {
	key  [keyLength]byte
	salt [saltSize]byte
}

// ciphers are the expanded keys of a session with the memory that sealing and opening need. An idle session has none.
type ciphers struct {
	read, write cipher.AEAD
	nonce       [saltSize + nonceExplicit]byte
	data        [23 + 255]byte // additional data; the longest is that of a record with a Connection ID
}

func newCiphers(suite uint16, read, write *secret) *ciphers {
	return &ciphers{read: newAEAD(suite, read.key[:]), write: newAEAD(suite, write.key[:])}
}

// newAEAD panics for a key of another length only: suites are those above.
func newAEAD(suite uint16, key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	var aead cipher.AEAD
	switch suite {
	case pskCCM8, ecdsaCCM8:
		aead, err = ccm.New(block, saltSize+nonceExplicit, 8)
	case pskCCM, ecdsaCCM:
		aead, err = ccm.New(block, saltSize+nonceExplicit, 16)
	default:
		aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		panic(err)
	}
	return aead
}

// nonceOf is the salt and what the record carries (RFC 6655 §3, RFC 5288 §3).
func (c *ciphers) nonceOf(salt *[saltSize]byte, explicit []byte) []byte {
	copy(c.nonce[copy(c.nonce[:], salt[:]):], explicit)
	return c.nonce[:]
}

// additionalData of a record (RFC 6347 §4.1.2.1): epoch and sequence number, type, version, length.
func (c *ciphers) additionalData(header []byte, length int) []byte {
	copy(c.data[:8], header[3:11])
	copy(c.data[8:11], header[:3])
	binary.BigEndian.PutUint16(c.data[11:], uint16(length))
	return c.data[:13]
}

// additionalDataCID is that of a record with a Connection ID (RFC 9146 §5.3): eight bytes of ones, type, length of the ID, type,
// version, epoch and sequence number, ID, length of the inner plaintext.
func (c *ciphers) additionalDataCID(header, id []byte, length int) []byte {
	for i := range 8 {
		c.data[i] = 0xff
	}
	c.data[8], c.data[9], c.data[10] = typeCID, byte(len(id)), typeCID
	copy(c.data[11:13], header[1:3])
	copy(c.data[13:21], header[3:11])
	n := 21 + copy(c.data[21:], id)
	binary.BigEndian.PutUint16(c.data[n:], uint16(length))
	return c.data[:n+2]
}

// window says which records have been received (RFC 6347 §4.1.2.6).
type window struct {
	next uint64 // after the newest
	seen uint64 // bit n: next-1-n was received
}

func (w *window) has(sequence uint64) bool {
	if sequence >= w.next {
		return false
	}
	age := w.next - 1 - sequence
	return age >= 64 || w.seen&(1<<age) != 0
}

// add notes a record that has proved to be genuine; newest says that it is newer than all before it.
func (w *window) add(sequence uint64) (newest bool) {
	if sequence < w.next {
		w.seen |= 1 << (w.next - 1 - sequence)
		return false
	}
	w.seen = w.seen<<(sequence+1-w.next) | 1 // a shift by 64 or more leaves nothing
	w.next = sequence + 1
	return true
}
