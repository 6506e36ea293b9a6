package coap

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/rand/v2"
	"net/netip"
	"time"
)

// echoKey makes and checks Echo values without keeping any (RFC 9175 §2.3, §2.4): four bytes of time and
// eight of a MAC over it and the peer's address.
type echoKey struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

const (
	echoLength   = 12
	echoLifetime = 5 * time.Minute
)

func (k *echoKey) init(random *rand.ChaCha8) {
	var secret [32]byte
	random.Read(secret[:])
	k.mac = hmac.New(sha256.New, secret[:])
}

func (k *echoKey) value(peer netip.AddrPort, now instant) [echoLength]byte {
	var input [4 + 16 + 2]byte
	binary.BigEndian.PutUint32(input[:], uint32(now/time.Second))
	addr := peer.Addr().As16()
	copy(input[4:], addr[:])
	binary.BigEndian.PutUint16(input[20:], peer.Port())
	k.mac.Reset()
	k.mac.Write(input[:])
	var value [echoLength]byte
	copy(value[:], input[:4])
	copy(value[4:], k.mac.Sum(k.sum[:0]))
	return value
}

func (k *echoKey) valid(peer netip.AddrPort, value []byte, now instant) bool {
	if len(value) != echoLength {
		return false
	}
	made := time.Duration(binary.BigEndian.Uint32(value)) * time.Second
	if made > now || now-made > echoLifetime {
		return false
	}
	want := k.value(peer, made)
	return hmac.Equal(want[:], value)
}
