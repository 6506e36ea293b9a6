package oscore

import (
	"crypto/aes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"fieldgate/protocol/ccm"
)

// AES-CCM-16-64-128 (RFC 9053 §4.2), the algorithm that all implementations have (RFC 8613 §3.2): the identifier of COSE, and the
// lengths of key, nonce and tag in bytes.
const (
	algorithm   = 10
	keyLength   = 16
	nonceLength = 13
	tagLength   = 8
)

const (
	// MaxIDLength bounds the identifiers of sender and recipient in bytes (RFC 8613 §3.3).
	MaxIDLength = nonceLength - 6
	// MaxIDContextLength bounds an identifier of a context, whose length has one byte in the option (RFC 8613 §6.1).
	MaxIDContextLength = 255
	// MaxSequence is the last sender sequence number (RFC 8613 §7.2.1).
	MaxSequence = 1<<40 - 1
)

// Config is what both sides have agreed on, and what one of them remembers (RFC 8613 §3.2, §3.1).
type Config struct {
	MasterSecret []byte
	MasterSalt   []byte // may be empty
	IDContext    []byte // nil: none
	SenderID     []byte // at most MaxIDLength bytes, other than RecipientID
	RecipientID  []byte

	// Sequence is the first sender sequence number. None may ever be used twice with a key: after a restart it must be above every
	// one that may have been used before (RFC 8613 §7.2.1, appendix B.1.1).
	Sequence uint64
	// Numbers, if set, gives the sender sequence numbers, in rising order, in the place of Sequence. It fails when there is none.
	Numbers func() (uint64, error)
	// Restarted says that the numbers which were received before are not known any more, so that a request may be a repetition. Each is
	// Unproven until Synchronize (RFC 8613 appendix B.1.2).
	Restarted bool
}

var (
	ErrID     = errors.New("oscore: identifiers have at most 7 bytes, those of contexts 255, and those of sender and recipient differ")
	ErrSecret = errors.New("oscore: a master secret has at least 16 bytes")
)

// Context is a security context (RFC 8613 §3.1).
type Context struct {
	senderID, recipientID []byte
	idContext             []byte
	sender, recipient     *ccm.CCM
	commonIV              [nonceLength]byte
	sequence              uint64 // the next
	numbers               func() (uint64, error)
	received              window
	synchronized          bool
	scratch               []byte
}

// New derives a context (RFC 8613 §3.2.1).
func New(config Config) (*Context, error) {
	if len(config.SenderID) > MaxIDLength || len(config.RecipientID) > MaxIDLength || len(config.IDContext) > MaxIDContextLength ||
		string(config.SenderID) == string(config.RecipientID) {
		return nil, ErrID
	}
	if len(config.MasterSecret) < keyLength {
		return nil, ErrSecret
	}
	c := &Context{senderID: clone(config.SenderID), recipientID: clone(config.RecipientID), idContext: clone(config.IDContext),
		sequence: config.Sequence, numbers: config.Numbers, synchronized: !config.Restarted}
	var err error
	if c.sender, err = config.cipher(config.SenderID); err != nil {
		return nil, err
	}
	if c.recipient, err = config.cipher(config.RecipientID); err != nil {
		return nil, err
	}
	iv, err := config.derive(nil, "IV", nonceLength)
	copy(c.commonIV[:], iv)
	return c, err
}

// clone keeps nil apart from empty.
func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

func (config *Config) cipher(id []byte) (*ccm.CCM, error) {
	key, err := config.derive(id, "Key", keyLength)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("oscore: %w", err)
	}
	return ccm.New(block, nonceLength, tagLength)
}

// derive is HKDF with the info structure [id, id_context, alg_aead, type, L].
func (config *Config) derive(id []byte, what string, length int) ([]byte, error) {
	info := appendBytes([]byte{cborArray | 5}, id)
	if config.IDContext == nil {
		info = append(info, cborNull)
	} else {
		info = appendBytes(info, config.IDContext)
	}
	info = append(info, algorithm, cborText|byte(len(what)))
	info = append(append(info, what...), byte(length))
	key, err := hkdf.Key(sha256.New, config.MasterSecret, config.MasterSalt, string(info), length)
	if err != nil {
		return nil, fmt.Errorf("oscore: %w", err)
	}
	return key, nil
}

// Sequence is the sender sequence number that is used next, to be stored.
func (c *Context) Sequence() uint64 { return c.sequence }

// RecipientID is the identifier by which requests name the context.
func (c *Context) RecipientID() []byte { return c.recipientID }

// nonce of a partial IV that the holder of id has chosen (RFC 8613 §5.2): its length, the id, the partial IV, all of it XOR the common IV.
func (c *Context) nonce(id, partialIV []byte) (n [nonceLength]byte) {
	n[0] = byte(len(id))
	copy(n[nonceLength-5-len(id):], id)
	copy(n[nonceLength-len(partialIV):], partialIV)
	for i := range n {
		n[i] ^= c.commonIV[i]
	}
	return n
}

// next takes a sender sequence number and writes it as a partial IV.
func (c *Context) next() (partialIV, error) {
	if c.numbers != nil {
		var err error
		if c.sequence, err = c.numbers(); err != nil {
			return partialIV{}, err
		}
	}
	if c.sequence > MaxSequence {
		return partialIV{}, ErrExhausted
	}
	p := partialIVOf(c.sequence)
	c.sequence++
	return p, nil
}

// partialIV is a sequence number in as few bytes as hold it, at least one (RFC 8613 §6.1); none has no byte.
type partialIV struct {
	bytes  [5]byte
	length uint8
}

func partialIVOf(sequence uint64) (p partialIV) {
	p.length = 1
	for sequence>>(8*p.length) != 0 {
		p.length++
	}
	for i := range p.length {
		p.bytes[i] = byte(sequence >> (8 * (p.length - 1 - i)))
	}
	return p
}

func (p *partialIV) value() []byte { return p.bytes[:p.length] }

func (p *partialIV) sequence() (n uint64) {
	for _, b := range p.value() {
		n = n<<8 | uint64(b)
	}
	return n
}

// window remembers which of the newest sequence numbers have been received (RFC 8613 §7.4).
type window struct {
	next uint64 // above the highest
	seen uint64 // bit i: next-1-i was received
}

const windowSize = 32

func (w *window) mayAccept(sequence uint64) bool {
	if sequence >= w.next {
		return true
	}
	age := w.next - 1 - sequence
	return age < windowSize && w.seen>>age&1 == 0
}

func (w *window) accept(sequence uint64) {
	if sequence < w.next {
		w.seen |= 1 << (w.next - 1 - sequence)
		return
	}
	if shift := sequence + 1 - w.next; shift < 64 {
		w.seen = w.seen<<shift | 1
	} else {
		w.seen = 1
	}
	w.next = sequence + 1
}

// startAfter accepts nothing up to that sequence number.
func (w *window) startAfter(sequence uint64) { *w = window{next: sequence + 1, seen: ^uint64(0)} }

// What of CBOR the structures need (RFC 8949 §3).
const (
	cborBytes = 2 << 5
	cborText  = 3 << 5
	cborArray = 4 << 5
	cborNull  = 0xf6
)

// appendBytes appends a byte string of at most 255 bytes.
func appendBytes(dst, value []byte) []byte {
	if len(value) < 24 {
		dst = append(dst, cborBytes|byte(len(value)))
	} else {
		dst = append(dst, cborBytes|24, byte(len(value)))
	}
	return append(dst, value...)
}
