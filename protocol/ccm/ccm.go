// Package ccm is the CCM mode of a block cipher (RFC 3610, NIST SP 800-38C), the authenticated encryption of
// constrained devices: AES-CCM in DTLS (RFC 6655) and in OSCORE (RFC 8613).
//
// A [CCM] owns the blocks that it works on, so that sealing and opening allocate nothing; therefore it is not safe for
// concurrent use.
package ccm

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math"
)

const blockSize = 16

// What New refuses, and why Open fails.
var (
	ErrBlockSize = errors.New("ccm: the cipher's blocks are not of 16 bytes")
	ErrNonceSize = errors.New("ccm: nonces have 7 to 13 bytes")
	ErrTagSize   = errors.New("ccm: tags have 4, 6, 8, 10, 12, 14 or 16 bytes")
	ErrOpen      = errors.New("ccm: message authentication failed")
)

// CCM is a cipher.AEAD. Seal and Open may write in place (dst is plaintext[:0] or ciphertext[:0]); any other overlap is
// the caller's mistake.
type CCM struct {
	block     cipher.Block
	nonceSize int
	tagSize   int
	mac       [blockSize]byte // CBC-MAC so far
	counter   [blockSize]byte // A_i of RFC 3610 §2.3
	stream    [blockSize]byte // S_i
}

var _ cipher.AEAD = (*CCM)(nil)

// New makes a CCM of a cipher with blocks of 16 bytes. A shorter nonce allows longer messages: of 2^(8*(15-nonceSize))-1
// bytes.
func New(block cipher.Block, nonceSize, tagSize int) (*CCM, error) {
	switch {
	case block.BlockSize() != blockSize:
		return nil, ErrBlockSize
	case nonceSize < 7 || nonceSize > 13:
		return nil, ErrNonceSize
	case tagSize < 4 || tagSize > 16 || tagSize%2 != 0:
		return nil, ErrTagSize
	}
	return &CCM{block: block, nonceSize: nonceSize, tagSize: tagSize}, nil
}

// NonceSize is the length of a nonce in bytes.
func (c *CCM) NonceSize() int { return c.nonceSize }

// Overhead is the length of a tag in bytes.
func (c *CCM) Overhead() int { return c.tagSize }

// Seal appends ciphertext and tag to dst. It panics when the nonce is of another length or the plaintext too long for
// it, which are the caller's mistakes; a nonce must never be used twice with a key.
func (c *CCM) Seal(dst, nonce, plaintext, additionalData []byte) []byte {
	if len(nonce) != c.nonceSize {
		panic("ccm: nonce of a wrong length")
	}
	if !c.fits(len(plaintext)) {
		panic("ccm: message too long for the length of its nonce")
	}
	dst, out := grow(dst, len(plaintext)+c.tagSize)
	c.authenticate(nonce, plaintext, additionalData)
	c.crypt(out, nonce, plaintext)
	subtle.XORBytes(out[len(plaintext):], c.mac[:c.tagSize], c.stream[:])
	return dst
}

// Open checks the tag and appends the plaintext to dst. When it fails, nothing of the plaintext is left in dst's memory.
func (c *CCM) Open(dst, nonce, ciphertext, additionalData []byte) ([]byte, error) {
	if len(nonce) != c.nonceSize {
		panic("ccm: nonce of a wrong length")
	}
	length := len(ciphertext) - c.tagSize
	if length < 0 || !c.fits(length) {
		return nil, ErrOpen
	}
	dst, out := grow(dst, length)
	var tag [blockSize]byte
	copy(tag[:], ciphertext[length:])
	c.crypt(out, nonce, ciphertext[:length])
	subtle.XORBytes(tag[:], tag[:c.tagSize], c.stream[:])
	c.authenticate(nonce, out, additionalData)
	if subtle.ConstantTimeCompare(tag[:c.tagSize], c.mac[:c.tagSize]) != 1 {
		clear(out)
		return nil, ErrOpen
	}
	return dst, nil
}

// fits tells whether the length field of L = 15 - nonceSize bytes holds n (RFC 3610 §2).
func (c *CCM) fits(n int) bool {
	l := 15 - c.nonceSize
	return l >= 8 || uint64(n)>>(8*l) == 0
}

// authenticate computes the CBC-MAC of B_0, additional data and message (RFC 3610 §2.2).
func (c *CCM) authenticate(nonce, message, additionalData []byte) {
	// B_0: flags (64*Adata + 8*M' + L'), nonce, length of the message.
	c.mac = [blockSize]byte{}
	binary.BigEndian.PutUint64(c.mac[8:], uint64(len(message)))
	c.mac[0] = byte((c.tagSize-2)/2<<3 | (14 - c.nonceSize))
	copy(c.mac[1:], nonce) // the length field begins behind it: fits has shown that its upper bytes are zero
	if len(additionalData) > 0 {
		c.mac[0] |= 1 << 6
	}
	c.block.Encrypt(c.mac[:], c.mac[:])

	if n := len(additionalData); n > 0 {
		// The first block begins with the length of the data, in 2, 6 or 10 bytes.
		var first [blockSize]byte
		used := 2
		switch {
		case n < 0xff00:
			binary.BigEndian.PutUint16(first[:], uint16(n))
		case uint64(n) <= math.MaxUint32:
			binary.BigEndian.PutUint16(first[:], 0xfffe)
			binary.BigEndian.PutUint32(first[2:], uint32(n))
			used = 6
		default:
			binary.BigEndian.PutUint16(first[:], 0xffff)
			binary.BigEndian.PutUint64(first[2:], uint64(n))
			used = 10
		}
		rest := additionalData[copy(first[used:], additionalData):]
		c.chain(first[:])
		c.chain(rest)
	}
	c.chain(message)
}

// chain takes data into the CBC-MAC, its last block filled up with zeros.
func (c *CCM) chain(data []byte) {
	for len(data) >= blockSize {
		xorBlock(&c.mac, &c.mac, (*[blockSize]byte)(data))
		c.block.Encrypt(c.mac[:], c.mac[:])
		data = data[blockSize:]
	}
	if len(data) > 0 {
		subtle.XORBytes(c.mac[:], c.mac[:len(data)], data)
		c.block.Encrypt(c.mac[:], c.mac[:])
	}
}

// crypt writes the message XOR S_1, S_2, … to dst and leaves S_0 in stream (RFC 3610 §2.3).
func (c *CCM) crypt(dst, nonce, message []byte) {
	c.counter = [blockSize]byte{0: byte(14 - c.nonceSize)}
	copy(c.counter[1:], nonce)
	for i := uint64(1); len(message) > 0; i++ {
		c.count(i)
		c.block.Encrypt(c.stream[:], c.counter[:])
		if len(message) < blockSize {
			subtle.XORBytes(dst, message, c.stream[:])
			break
		}
		xorBlock((*[blockSize]byte)(dst), (*[blockSize]byte)(message), &c.stream)
		dst, message = dst[blockSize:], message[blockSize:]
	}
	c.count(0)
	c.block.Encrypt(c.stream[:], c.counter[:])
}

// count writes the counter behind the nonce, into the last 15 - nonceSize bytes.
func (c *CCM) count(i uint64) {
	for at := blockSize - 1; at > c.nonceSize; at-- {
		c.counter[at] = byte(i)
		i >>= 8
	}
}

func xorBlock(dst, a, b *[blockSize]byte) {
	x := binary.NativeEndian.Uint64(a[:]) ^ binary.NativeEndian.Uint64(b[:])
	y := binary.NativeEndian.Uint64(a[8:]) ^ binary.NativeEndian.Uint64(b[8:])
	binary.NativeEndian.PutUint64(dst[:], x)
	binary.NativeEndian.PutUint64(dst[8:], y)
}

// grow makes dst longer by n bytes, which it returns as well.
func grow(dst []byte, n int) (whole, added []byte) {
	if total := len(dst) + n; cap(dst) >= total {
		whole = dst[:total]
	} else {
		whole = make([]byte, total)
		copy(whole, dst)
	}
	return whole, whole[len(dst):]
}
