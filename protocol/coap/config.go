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
	// Refused, if set, is told of every request that is answered with an error without reaching the application. It is
	// called inside the Endpoint's methods and must neither keep the request nor call the Endpoint nor block.
	Refused func(peer netip.AddrPort, request Message, code Code)
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
	MaxRequests       int // requests not answered yet, all peers together; above it 5.03. Default 4,096
	MaxRequestsOfPeer int // requests of one peer not answered yet; above it 5.03. Default 16
	MaxRunningOfPeer  int // requests of one peer given out by Next and not answered yet. Default 4

	// MaxTransmissions is how many Confirmable messages of ours may be unacknowledged. Above it the separate
	// response to an unverified peer goes Non-confirmable, so that requests with a false sender cannot fill the
	// memory with what nobody will acknowledge. Default 20,000
	MaxTransmissions int

	// Deduplication (RFC 7252 §4.5). Above a limit the oldest are forgotten early, first the peer's own.
	MaxReceptionsOfPeer int // messages remembered of one peer. Default 512
	ReceptionBytes      int // replies and bookkeeping, all peers together. Default 16 MiB

	// Block-wise transfer (RFC 7959).
	MaxBody         int // bytes of a body, in either direction of ours to receive. Default 1 MiB
	BlockSize       int // largest block offered and sent, 16 to 1,024. Default 1,024
	TransferBytes   int // bodies in transfer, all peers together. Default 64 MiB
	TransfersOfPeer int // bodies of one peer in transfer, in each direction. Default 4

	MaxObservations       int // Default 100,000
	MaxObservationsOfPeer int // Default 32

	// An unverified peer, one that has returned neither an Echo value nor the token of a call of ours, is sent at
	// most AmplificationFactor times the bytes of its request in one message, or AmplificationFloor if that is
	// more (RFC 9175 §2.4). Defaults 3 and 136. An acknowledgement proves nothing here: its 16 bits can be guessed. A larger response is cut into smaller blocks that carry an Echo
	// value, which every client survives; with Challenge it is replaced by 4.01 and Echo, which costs one
	// round trip instead of many, but fails clients that do not know RFC 9175.
	AmplificationFactor int
	AmplificationFloor  int
	Challenge           bool
}

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
	def(&c.NStart, 1)
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
	def(&c.MaxObservations, 100_000)
	def(&c.MaxObservationsOfPeer, 32)
	def(&c.AmplificationFactor, 3)
	def(&c.AmplificationFloor, 136)
	return c
}

// instant is a time on the Endpoint's own clock: since it was made, so that it fits a word and never jumps.
type instant = time.Duration
