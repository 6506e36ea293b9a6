package coap

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// StreamConfig holds the limits of a Stream. Zero values take the default that the comment names.
type StreamConfig struct {
	Config // whose Send, Seed, Connections and MaxPeers are not used

	MaxConnections int           // beyond it connections are closed at once. Default 100,000
	GreetTimeout   time.Duration // until the first message of the peer, which is its CSM. Default 5 s
	MessageTimeout time.Duration // for a message to come whole once it has begun. Default 60 s
	IdleTimeout    time.Duration // of silence, after which the peer is pinged. Default 10 min
	PongTimeout    time.Duration // of silence after that, when the connection ends. Default 30 s
	WriteTimeout   time.Duration // for the peer to take 64 KiB, or less where there is no more. Default 30 s
	UnsentBytes    int           // that peers have not taken, all together; beyond it those that take nothing are cut off. Default 64 MiB
}

func (c StreamConfig) withDefaults() StreamConfig {
	duration := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	duration(&c.GreetTimeout, 5*time.Second)
	duration(&c.MessageTimeout, time.Minute)
	duration(&c.IdleTimeout, 10*time.Minute)
	duration(&c.PongTimeout, 30*time.Second)
	duration(&c.WriteTimeout, 30*time.Second)
	if c.MaxConnections == 0 {
		c.MaxConnections = 100_000
	}
	if c.UnsentBytes == 0 {
		c.UnsentBytes = 64 << 20
	}
	return c
}

const (
	shortRead = 512       // bytes read at once while little comes: all that a silent connection holds for reading
	longRead  = 16 << 10  // while much comes
	paused    = 64 << 10  // bytes unsent, above which a peer is not read
	congested = 8 << 10   // and above which its notifications wait
	writeSize = 64 << 10  // bytes written at once
	keptOut   = 128 << 10 // bytes of a buffer for writing that is kept

	lastWords = time.Second // that a connection which ends has to take what it is told
)

// Stream is a Server on connections that carry bytes in order, such as TCP and TLS (RFC 8323). Each has a goroutine, which reads; what
// others have to say to its peer is written by another one, so that nobody waits for a peer but its own connection. Peers are
// named by addresses of no network; Origin says where they are. It is safe for concurrent use.
type Stream struct {
	*Server
	config  StreamConfig
	started chan struct{}
	serving sync.WaitGroup // connections and their writers

	taking      sync.RWMutex // guards connections, number and stopping
	connections map[netip.AddrPort]*connection
	number      uint64 // of the newest connection
	stopping    bool   // there will be no more

	unsent  atomic.Int64 // bytes that peers have not taken
	cut     atomic.Int64 // bytes of messages that have not come whole
	refused atomic.Uint64
	broken  atomic.Uint64 // connections whose bytes are no messages
}

// NewStream makes a Stream without connections. Handler and workers are those of NewServer.
func NewStream(config StreamConfig, workers int, handler Handler, logger *slog.Logger) (*Stream, error) {
	s := &Stream{config: config.withDefaults(), started: make(chan struct{}), connections: make(map[netip.AddrPort]*connection)}
	s.config.Config = s.config.Config.withDefaults()
	s.config.Connections, s.config.MaxPeers = s, math.MaxInt32
	var err error
	s.Server, err = NewServer(s.config.Config, workers, handler, logger, func() Outgoing { return &streamOut{stream: s} })
	return s, err
}

// Run serves until ctx ends. Then peers are told so (RFC 8323 §5.5), requests that were received are answered, and Run returns when
// all connections and goroutines have ended.
func (s *Stream) Run(ctx context.Context) error {
	return s.Server.Run(ctx, func() error {
		close(s.started)
		<-ctx.Done()
		for _, c := range s.stop() {
			c.locked((*Endpoint).Release)
		}
		s.awaitGoodbyes()
		for _, c := range s.stop() {
			c.hangUp(lastWords)
		}
		s.serving.Wait()
		return nil
	})
}

// stop lets no more connections in, and gives those that there are.
func (s *Stream) stop() (all []*connection) {
	s.taking.Lock()
	defer s.taking.Unlock()
	s.stopping = true
	for _, c := range s.connections {
		all = append(all, c)
	}
	return all
}

// awaitGoodbyes gives peers a second to close their connections, and longer while requests are in hand.
func (s *Stream) awaitGoodbyes() {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); time.Since(began) < shutdownGrace; <-ticker.C {
		busy := s.unsent.Load() > 0
		for _, sh := range s.shards {
			sh.mu.Lock()
			busy = busy || sh.endpoint.requests > 0
			sh.mu.Unlock()
		}
		if len(s.stop()) == 0 || !busy && time.Since(began) >= lastWords {
			return
		}
	}
}

// Serve serves a connection until it ends, and closes it. What is there to be done before CoAP, such as a TLS handshake, is done.
// origin is what Origin says of it. It waits until Run runs.
func (s *Stream) Serve(conn net.Conn, origin any) {
	<-s.started
	if c := s.open(conn, origin); c != nil {
		c.serve()
	}
}

// open takes a connection in; when that cannot be, it is closed, and nil returned.
func (s *Stream) open(conn net.Conn, origin any) *connection {
	c := &connection{stream: s, conn: conn, origin: origin, opened: time.Now(), frames: frames{limit: s.config.MaxMessage}}
	s.taking.Lock()
	taken := !s.stopping && len(s.connections) < s.config.MaxConnections
	if taken {
		s.number++
		c.name = connectionName(s.number)
		c.shard = s.shard(c.name)
		s.connections[c.name] = c
		s.serving.Add(1)
	}
	s.taking.Unlock()
	if !taken {
		s.refused.Add(1)
		conn.Close()
		return nil
	}
	c.extend()
	c.locked((*Endpoint).Open)
	return c
}

// connectionName is an address of the range that is discarded (RFC 6666): where a connection comes from may be what a proxy says, and
// need not be unique.
func connectionName(number uint64) netip.AddrPort {
	address := [16]byte{0: 1}
	binary.BigEndian.PutUint64(address[8:], number)
	return netip.AddrPortFrom(netip.AddrFrom16(address), 1)
}

func (s *Stream) find(peer netip.AddrPort) *connection {
	s.taking.RLock()
	defer s.taking.RUnlock()
	return s.connections[peer]
}

// Origin is what Serve was given for the connection of a peer; nil if that has ended.
func (s *Stream) Origin(peer netip.AddrPort) any {
	if c := s.find(peer); c != nil {
		return c.origin
	}
	return nil
}

// Opened is when the connection of a peer began; zero if that has ended.
func (s *Stream) Opened(peer netip.AddrPort) (at time.Time) {
	if c := s.find(peer); c != nil {
		at = c.opened
	}
	return at
}

// End ends the connection of a peer, which is told why (RFC 8323 §5.6). It says whether there was one.
func (s *Stream) End(peer netip.AddrPort, why string) bool {
	c := s.find(peer)
	if c != nil {
		c.locked(func(e *Endpoint, peer netip.AddrPort) { e.Abort(peer, why) })
	}
	return c != nil
}

// Stats is Server.Stats, with the connections among Refused and Malformed.
func (s *Stream) Stats() Stats {
	all := s.Server.Stats()
	all.Refused += s.refused.Load()
	all.Malformed += s.broken.Load()
	return all
}

// Hangup is for the Endpoints.
func (s *Stream) Hangup(peer netip.AddrPort) {
	if c := s.find(peer); c != nil {
		c.hangUp(s.config.WriteTimeout)
	}
}

// Congested is for the Endpoints.
func (s *Stream) Congested(peer netip.AddrPort) bool {
	c := s.find(peer)
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = c.held || len(c.out) > congested
	return c.held
}

// Full is for the Endpoints.
func (s *Stream) Full(peer netip.AddrPort, full bool) {
	if c := s.find(peer); c != nil {
		c.mu.Lock()
		c.full = full
		c.resume()
		c.mu.Unlock()
	}
}
