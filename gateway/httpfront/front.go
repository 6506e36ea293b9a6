// Package httpfront is the gateway's HTTP front: it frames requests on connections of clients, and on streams of HTTP/2 and HTTP/3, runs them
// through the pipeline, relays them to upstreams and writes the verdict in HTTP's words. It also serves what devices publish to
// WebSocket and server-sent-events subscribers, and passes WebSockets through to upstreams.
//
// It owns the client connections: one goroutine for each, or for each stream, which reads a request, calls the upstream and relays the
// answer itself; WebSockets go over to package tunnel.
// It promises that every request leaves one Record, that a body which has to be checked is read up to its bound only, that
// content is framed anew on both sides, and that no change of contracts closes a connection. A credential that is revoked
// ends the streams it opened within a second.
package httpfront

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/socket"
	"fieldgate/gateway/tunnel"
	"fieldgate/protocol/h1"
	"fieldgate/protocol/h2"
)

// Config is all that a Front works with. Zero values of limits and times mean their defaults.
type Config struct {
	Pipeline *pipeline.Pipeline
	Logger   *slog.Logger
	Settings Settings
	Limits   h1.Limits // of request heads
	HTTP2    h2.Config // of which the front sets limits of heads and times; streams and windows count for HTTP/3 too

	HTTP3Port uint16 // that answers over TLS tell clients to try HTTP/3 on; 0: none

	Subprotocols map[string]*Subprotocol // by path

	IdleTimeout   time.Duration // between requests on a connection; default 75 s
	HeadTimeout   time.Duration // for a request head from its first byte, and for a TLS handshake; default 10 s
	BodyTimeout   time.Duration // for a body that is buffered, and between two pieces of one that is streamed; default 30 s
	WriteTimeout  time.Duration // for a client to take what is written at once; default 30 s
	ShutdownGrace time.Duration // for exchanges under way when Serve is told to end; default 10 s

	MaxConnections       int // open at once; default 50,000
	MaxConnectionsSource int // from one address (IPv6: one /64); default 5,000
}

func (c Config) withDefaults() Config {
	fill := func(value *time.Duration, fallback time.Duration) {
		if *value == 0 {
			*value = fallback
		}
	}
	fill(&c.IdleTimeout, 75*time.Second)
	fill(&c.HeadTimeout, 10*time.Second)
	fill(&c.BodyTimeout, 30*time.Second)
	fill(&c.WriteTimeout, 30*time.Second)
	fill(&c.ShutdownGrace, 10*time.Second)
	if c.MaxConnections == 0 {
		c.MaxConnections = 50_000
	}
	if c.MaxConnectionsSource == 0 {
		c.MaxConnectionsSource = 5_000
	}
	c.Limits = c.Limits.WithDefaults()
	return c
}

// Front serves HTTP on any number of listeners.
type Front struct {
	config   Config
	pipeline *pipeline.Pipeline
	logger   *slog.Logger
	settings atomic.Pointer[Settings]

	draining atomic.Bool
	ending   chan struct{}   // closed when draining begins
	changed  chan struct{}   // one token: the directory has changed
	context  context.Context // ends when draining is over its grace
	cut      context.CancelFunc
	endOnce  sync.Once

	mu          sync.Mutex
	connections map[*connection]struct{}
	streams     map[*stream]struct{}
	passages    int // WebSockets that the relay has, in place of their connections
	sources     socket.Sources
	tunnels     *tunnel.Relay

	besideMu sync.Mutex
	beside   sync.WaitGroup // what runs beside the connections; nothing begins when the front drains

	accepted, refused, refusedSource, refusedProxy atomic.Uint64
}

// New makes a front that listens nowhere yet.
func New(config Config) *Front {
	config = config.withDefaults()
	ctx, cut := context.WithCancel(context.Background())
	f := &Front{context: ctx, cut: cut, config: config, pipeline: config.Pipeline, logger: config.Logger, ending: make(chan struct{}), changed: make(chan struct{}, 1),
		connections: make(map[*connection]struct{}), streams: make(map[*stream]struct{}), sources: make(socket.Sources), tunnels: tunnel.New(config.Logger)}
	f.Replace(config.Settings)
	f.pipeline.Directory.Watch(f.callerChanged)
	return f
}

// Stats are counters since New, and what is open now.
type Stats struct {
	Accepted      uint64 // connections
	Refused       uint64 // connections beyond MaxConnections
	RefusedSource uint64 // connections beyond MaxConnectionsSource
	RefusedProxy  uint64 // connections to a listener behind proxies that came from none, or had no sound PROXY header
	Connections   int    // open
	Streams       int    // WebSockets and event streams open
}

// Stats is safe for concurrent use.
func (f *Front) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Stats{Accepted: f.accepted.Load(), Refused: f.refused.Load(), RefusedSource: f.refusedSource.Load(), RefusedProxy: f.refusedProxy.Load(),
		Connections: len(f.connections) + f.passages, Streams: len(f.streams)}
}

// Serve accepts connections until ctx ends, then lets exchanges under way finish for ShutdownGrace, and returns when all
// connections of the front have ended. The listener gives TCP connections.
func (f *Front) Serve(ctx context.Context, listener net.Listener) error {
	return f.serve(ctx, listener, nil)
}

// ServeTLS serves TLS as Serve does without it.
func (f *Front) ServeTLS(ctx context.Context, listener net.Listener, config *tls.Config) error {
	return f.serve(ctx, listener, config)
}

func (f *Front) serve(ctx context.Context, listener net.Listener, secure *tls.Config) error {
	var running sync.WaitGroup
	accepting, stop := context.WithCancel(ctx)
	defer stop()
	running.Go(func() { f.checkStreams(accepting) })
	running.Go(func() { f.runTunnels(accepting) })
	closed := context.AfterFunc(ctx, func() { listener.Close() })
	defer closed()

	failure := socket.Accept(ctx, listener, f.logger, func(link net.Conn) { f.accept(link, secure, &running) })
	listener.Close()
	stop()
	f.drain(&running)
	return failure
}

func (f *Front) accept(link net.Conn, secure *tls.Config, running *sync.WaitGroup) {
	f.accepted.Add(1)
	proxies := f.settings.Load().proxies(secure != nil)
	proxied := len(proxies) > 0
	if proxied && !contains(proxies, socket.Peer(link).Addr()) {
		f.refuseProxy(socket.Peer(link), errNoProxy)
		link.Close()
		return
	}
	c := newConnection(f, link, secure)
	c.proxied = proxied
	if !f.take(c) {
		link.Close()
		return
	}
	running.Go(func() {
		defer f.remove(c)
		defer f.survive(c)
		c.serve()
	})
}

// take finds room for a connection.
func (f *Front) take(c *connection) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.connections)+f.passages >= f.config.MaxConnections {
		f.refused.Add(1)
		return false
	}
	if !c.proxied && !f.count(c) {
		return false
	}
	f.connections[c] = struct{}{}
	return true
}

// count counts the connection for its source, unless that forwards for many others. To be called with mu held.
func (f *Front) count(c *connection) bool {
	if c.origin.trusted {
		return true
	}
	address := c.origin.client().Addr()
	if !f.sources.Take(address, f.config.MaxConnectionsSource) {
		f.refusedSource.Add(1)
		return false
	}
	c.counted = address
	return true
}

// survive confines a fault of ours to the connection that met it: thousands of devices depend on the process.
func (f *Front) survive(c *connection) {
	if fault := recover(); fault != nil {
		f.logger.Error("fault while serving a connection", "fault", fault, "source", c.origin.source, "stack", string(debug.Stack()))
	}
}

func (f *Front) remove(c *connection) {
	c.cut()
	f.forget(c)
}

// forget gives up the connection's place, once.
func (f *Front) forget(c *connection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := f.connections[c]; !there {
		return
	}
	delete(f.connections, c)
	if c.counted.IsValid() {
		f.sources.Release(c.counted)
	}
}

// drain ends idle connections and streams at once, the others with their exchange, and cuts what is left after the grace.
func (f *Front) drain(running *sync.WaitGroup) {
	f.besideMu.Lock()
	f.draining.Store(true)
	f.besideMu.Unlock()
	f.endOnce.Do(func() { close(f.ending) })
	f.each(func(c *connection) {
		switch {
		case c.session != nil:
			c.session.GoAway()
		case c.idle.Load():
			c.link.SetReadDeadline(longAgo)
		}
	})
	cut := time.AfterFunc(f.config.ShutdownGrace, func() {
		f.cut()
		f.each(func(c *connection) {
			c.cut()
		})
	})
	defer cut.Stop()
	running.Wait()
	f.beside.Wait()
}

func (f *Front) each(do func(*connection)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.connections {
		do(c)
	}
}

// longAgo is a deadline that ends a read at once.
var longAgo = time.Unix(1, 0)
