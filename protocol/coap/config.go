package coap

import (
	"net/netip"
	"time"
)

// Config holds what an Endpoint needs and its limits. Zero values take the default that the comment names.
type Config struct {
	// Send puts a datagram on the network. It is called inside the Endpoint's methods and must neither keep
	// the datagram nor call the Endpoint. Required.
	Send func(peer netip.AddrPort, datagram []byte)
	// Connections, if set, carry the messages (RFC 8323): peers are connections, which Open and Close begin and end, there is no message
	// layer, and what a message may hold is agreed on. Datagrams of Send and Feed have version, type and message ID nevertheless.
	Connections Connections
	// MaxMessage is how long a message on a connection may be, in either direction, in bytes: the Max-Message-Size of our CSM. Default
	// DefaultMaxMessage.
	MaxMessage int
	// Refused, if set, is told of every request that is answered with an error without reaching the application. It is
	// called inside the Endpoint's methods and must neither keep the request nor call the Endpoint nor block.
	Refused func(peer netip.AddrPort, request Message, code Code)
	// Known, if set, tells whether the application knows who has sent a request, by a credential in it. It is asked for peers that are not
	// known yet, of whom less is taken than of others. It is called inside the Endpoint's methods
	// and must neither keep the request nor call the Endpoint nor block.
	Known func(peer netip.AddrPort, request Message) bool
	// ObjectSecurity, if set, opens requests that are protected by OSCORE.
	ObjectSecurity ObjectSecurity
	// Seed makes tokens, message IDs, Echo values and timeouts unpredictable. Required; tests give a fixed one.
	Seed [32]byte

	// Transmission parameters of RFC 7252 §4.8, with its defaults: 2 s, 1.5, 4, 1, 247 s.
	AckTimeout       time.Duration
	AckRandomFactor  float64
	MaxRetransmit    int
	NStart           int // calls of ours that one peer has in hand at a time
	ExchangeLifetime time.Duration
	// ProcessingDelay is how long a Confirmable request waits for its response before it is acknowledged by
	// an empty message (RFC 7252 §5.2.2). Default 250 ms.
	ProcessingDelay time.Duration

	MaxPeers          int // addresses remembered; the least recently heard idle one is forgotten. Default 100,000
	MaxRequests       int // requests not answered yet, all peers together, of strangers three quarters; above it 5.03. Default 4,096
	MaxRequestsOfPeer int // requests of one peer not answered yet; above it 5.03. Default 16
	MaxRunningOfPeer  int // requests of one peer given out by Next and not answered yet. Default 4

	// MaxTransmissions is how many Confirmable messages of ours may be unacknowledged. Above it the separate
	// response to an unverified peer goes Non-confirmable, so that requests with a false sender cannot fill the
	// memory with what nobody will acknowledge. Default 20,000
	MaxTransmissions int

	// Deduplication (RFC 7252 §4.5). Above a limit the oldest are forgotten early, first the peer's own.
	MaxReceptionsOfPeer int // messages remembered of one peer. Default 512
	ReceptionBytes      int // replies and bookkeeping, all peers together. Default 16 MiB

	// Block-wise transfer (RFC 7959, RFC 9177).
	MaxBody         int // bytes of a body, in either direction of ours to receive. Default 1 MiB
	BlockSize       int // largest block offered and sent, 16 to 1,024. Default 1,024
	TransferBytes   int // bodies in transfer, all peers together. Default 64 MiB
	TransfersOfPeer int // bodies of one peer in transfer, in each direction. Default 4

	// MaxPayloads is how many blocks go at a time by Q-Block (RFC 9177 §7.2: MAX_PAYLOADS, which clients have to share). Default 10. Its
	// NON_TIMEOUT is AckTimeout, NON_RECEIVE_TIMEOUT twice that, NON_MAX_RETRANSMIT is MaxRetransmit, and NON_PARTIAL_TIMEOUT ExchangeLifetime.
	MaxPayloads int

	MaxObservations       int // of those without a credential three quarters. Default 100,000
	MaxObservationsOfPeer int // Default 32

	// Verified says that every peer has shown to be where its messages come from: whatever carries them has seen to that.
	Verified bool

	// An unverified peer, one that has returned neither an Echo value nor the token of a call of ours, is sent at
	// most AmplificationFactor times the bytes that it has sent, in one answer and in all (RFC 9175 §2.4 without its
	// floor of 136 bytes). Default 3. A larger response is cut into smaller blocks that carry an Echo value, which
	// every client survives. Where the request is so short that not even a block of 16 bytes may be sent, a GET or
	// FETCH is answered 4.01 with Echo, which fails clients that do not know RFC 9175; with Challenge that is done at
	// once, because it costs one round trip instead of many.
	AmplificationFactor int
	Challenge           bool
}

// DefaultMaxMessage is 64 KiB of payload with its options.
const DefaultMaxMessage = 64<<10 + 512

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	duration := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	duration(&c.AckTimeout, 2*time.Second)
	duration(&c.ExchangeLifetime, 247*time.Second)
	duration(&c.ProcessingDelay, 250*time.Millisecond)
	if c.AckRandomFactor == 0 {
		c.AckRandomFactor = 1.5
	}
	def(&c.MaxRetransmit, 4)
	if c.Connections != nil { // RFC 7252 §4.7 is about congestion, which a connection sees to
		def(&c.NStart, 64)
	}
	def(&c.NStart, 1)
	def(&c.MaxMessage, DefaultMaxMessage)
	def(&c.MaxPeers, 100_000)
	def(&c.MaxRequests, 4096)
	def(&c.MaxRequestsOfPeer, 16)
	def(&c.MaxRunningOfPeer, 4)
	def(&c.MaxTransmissions, 20_000)
	def(&c.MaxReceptionsOfPeer, 512)
	def(&c.ReceptionBytes, 16<<20)
	def(&c.MaxBody, 1<<20)
	def(&c.BlockSize, 1024)
	def(&c.TransferBytes, 64<<20)
	def(&c.TransfersOfPeer, 4)
	def(&c.MaxPayloads, 10)
	def(&c.MaxObservations, 100_000)
	def(&c.MaxObservationsOfPeer, 32)
	def(&c.AmplificationFactor, 3)
	return c
}

// instant is a time on the Endpoint's own clock: since it was made, so that it fits a word and never jumps.
type instant = time.Duration
