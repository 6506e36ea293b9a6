package dtls

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"time"
)

// Config holds what a Server needs and its limits. Zero values take the default that the comment names. Its functions
// are called from many goroutines at once, and keep no slice that they are given.
type Config struct {
	// Send puts a datagram on the network. Required.
	Send func(to netip.AddrPort, datagram []byte)
	// Receive is given the messages that arrived before their session was there; Open gives out all others. Required.
	Receive Receive

	// PSK is the key of a PSK identity. Identities without one are refused exactly as those with a wrong key are.
	// nil: no pre-shared keys.
	PSK func(identity []byte) (key []byte, found bool)
	// Certificate is what the server shows, with an ECDSA (P-256) or RSA key, to a client that names it so, or not (RFC 6066
	// §3). nil, or a nil certificate for the empty name: clients with certificates are refused.
	Certificate func(serverName string) *tls.Certificate
	// ClientCAs are the authorities that clients are told of, so that they can choose a certificate; nil: they are told of none.
	ClientCAs func() *x509.CertPool
	// Admit is asked whether who has proved to be there may come in, and gives what Owner is to return for the session. Required.
	Admit func(identity Identity) (owner any, err error)
	// Resume is asked whether the owner of an earlier session, as Admit gave it, may come in again by resuming that session. nil: sessions are not resumed.
	Resume func(owner any) bool
	// Opened and Ended, if set, are told of each session. One that ends at once may have Ended called first.
	Opened, Ended func(peer netip.AddrPort, owner any)
	// Refused, if set, is told of each handshake that failed after its cookie was right.
	Refused func(from netip.AddrPort, identity Identity, reason Refusal, err error)

	MaxSessions           int           // above it one that has long been silent ends. Default 100,000
	MaxHandshakes         int           // unfinished ones; further clients wait. Each takes some 40 KB. Default 1,024
	MaxHandshakesOfSource int           // of one IPv4 address or IPv6 /64. Default 64
	HandshakeTimeout      time.Duration // Default 8 s
	IdleTimeout           time.Duration // after which a silent session ends. Default 24 h
}

func (c Config) withDefaults() Config {
	if c.MaxSessions == 0 {
		c.MaxSessions = 100_000
	}
	if c.MaxHandshakes == 0 {
		c.MaxHandshakes = 1024
	}
	if c.MaxHandshakesOfSource == 0 {
		c.MaxHandshakesOfSource = 64
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = 8 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 24 * time.Hour
	}
	return c
}

// Identity is who a client has proved to be, or, in a refusal, claimed to be.
type Identity struct {
	PSK string // identity of its pre-shared key
	Key []byte // for Admit only: the key of that identity that it has proved to have, which may have been replaced since
	// Chain are the certificates that it showed, its own first; nil: it showed none. It has that one's private key. Whether
	// the certificate is valid, and of anybody who counts, is for Admit to find out.
	Chain []*x509.Certificate
}

// Refusal is why a handshake was refused.
type Refusal int

// A wrong key and a lost client look alike until the handshake's time is over.
const (
	RefusedFull        Refusal = iota // MaxHandshakes
	RefusedSource                     // MaxHandshakesOfSource
	RefusedUnknown                    // there is no key for the PSK identity
	RefusedKey                        // the client does not have the identity's key, or was lost on the way
	RefusedCertificate                // there was none, or Admit said no
	RefusedOwner                      // Admit said no to who has the key of a PSK identity
	RefusedTimeout                    // the client did not go on
	RefusedOther                      // no common cipher, a malformed message, an alert
	refusals
)

// String is a word for logs and metrics.
func (r Refusal) String() string {
	return [refusals]string{"full", "source", "unknown", "key", "certificate", "owner", "timeout", "other"}[r]
}

// Stats counts what a Server has seen since it was made.
type Stats struct {
	Sessions   int // now
	Handshakes int // unfinished, now
	Verified   uint64
	Completed  uint64 // handshakes
	Resumed    uint64 // of these: sessions that went on from an earlier one's keys
	Refused    [refusals]uint64
	Discarded  uint64 // datagrams of nobody we know, forged and repeated records, malformed hellos
	Moved      uint64 // sessions that went on from another address
	Resent     uint64 // last flights of a handshake
	Expired    uint64 // sessions that were silent for IdleTimeout
	Evicted    uint64 // sessions that had to make room
}
