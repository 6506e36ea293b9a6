package dtls

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net/netip"
	"sync"
	"time"
)

const (
	cookieLength   = 20
	cookieLifetime = time.Minute // at least; at most twice
)

// cookies makes and checks cookies without keeping any (RFC 6347 §4.2.1): a MAC over the sender's address and what its hello
// must not change.
type cookies struct {
	mu       sync.Mutex
	made     time.Time // of the current secret
	current  hash.Hash
	previous hash.Hash
	input    [16 + 2 + 2 + 32 + 1 + maxSessionID]byte
	sum      [sha256.Size]byte
}

func (c *cookies) init(now time.Time) {
	c.current, c.previous = newMAC(), newMAC()
	c.made = now
}

func newMAC() hash.Hash {
	var secret [32]byte
	rand.Read(secret[:])
	return hmac.New(sha256.New, secret[:])
}

// rotate replaces the secret when it is old. Cookies of the one before still count.
func (c *cookies) rotate(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.made) >= cookieLifetime {
		c.previous, c.current, c.made = c.current, newMAC(), now
	}
}

// compute leaves the cookie in c.sum.
func (c *cookies) compute(mac hash.Hash, from netip.AddrPort, bound []byte) []byte {
	address := from.Addr().As16()
	n := copy(c.input[:], address[:])
	binary.BigEndian.PutUint16(c.input[n:], from.Port())
	n += 2 + copy(c.input[n+2:], bound)
	mac.Reset()
	mac.Write(c.input[:n])
	return mac.Sum(c.sum[:0])[:cookieLength]
}

func (c *cookies) valid(from netip.AddrPort, h *hello) bool {
	if len(h.cookie) != cookieLength {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return hmac.Equal(c.compute(c.current, from, h.bound), h.cookie) || hmac.Equal(c.compute(c.previous, from, h.bound), h.cookie)
}

// make is the cookie for a hello.
func (c *cookies) make(from netip.AddrPort, h *hello) (cookie [cookieLength]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	copy(cookie[:], c.compute(c.current, from, h.bound))
	return cookie
}
