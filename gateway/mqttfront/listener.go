package mqttfront

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"fieldgate"
	"fieldgate/gateway/clock"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/mqttsocket"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/socket"
	"fieldgate/protocol/mqtt"
)

// Listener is where clients come in. Run closes it.
type Listener struct {
	net.Listener                       // of TCP connections
	TLS          *tls.Config           // nil: plain
	Proxies      func() []netip.Prefix // peers that begin each connection with a PROXY header; where there are any, nobody else is let in; nil: none
	Terms        *Terms                // nil: the Config's

	front *Front
}

// Terms are what counts for the clients of a listener. Zero numbers get the default.
type Terms struct {
	Limits           mqtt.Limits // of one connection; zero: mqtt.DefaultLimits
	MaxKeepAlive     uint16      // seconds; who wants a longer one, or none, is told this one where the protocol can say it; 0: any
	MaxConnections   int         // 0: 100,000
	MaxSubscriptions int         // of one session; 0: 256
	MaxQueued        int         // QoS 1 and 2 messages waiting for one session; 0: 1,000
	MaxQueuedBytes   int         // of those messages; 0: 1 MiB
	MaxSessionExpiry uint32      // seconds that a session may outlive its connection; 0: 7 days
	MaxMessageRate   int         // messages a second from one client, which is not read while it sends more; 0: any
	MaxByteRate      int         // bytes a second of all its packets, likewise; 0: any

	// DisconnectDenied ends the connection of a 3.1.1 client whose message is refused; otherwise the message is acknowledged and dropped.
	DisconnectDenied bool

	OnRamp   *pipeline.OnRamp // nil: contracts alone decide who may do what
	Redirect *Redirect        // nil: clients are served here

	open int // connections; guarded by Front.mu
}

// Redirect sends clients to another server (MQTT 5 §4.11); those of 3.1.1 are told that this one is unavailable.
type Redirect struct {
	Reason mqtt.Reason // UseAnotherServer for the time being, ServerMoved for good
	Server string      // the Server Reference: host:port, or several separated by spaces
}

func (t *Terms) setDefaults() {
	if t.Limits == (mqtt.Limits{}) {
		t.Limits = mqtt.DefaultLimits()
	}
	setDefault(&t.MaxConnections, 100_000)
	setDefault(&t.MaxSubscriptions, 256)
	setDefault(&t.MaxQueued, 1000)
	setDefault(&t.MaxQueuedBytes, 1<<20)
	setDefault(&t.MaxSessionExpiry, 7*24*3600)
}

// serverKeepAlive replaces the keep-alive that the client wants; 0: it does not [MQTT-3.1.2-21].
func (t *Terms) serverKeepAlive(p *mqtt.Connect) uint16 {
	if p.KeepAlive == 0 || p.KeepAlive > t.MaxKeepAlive {
		return t.MaxKeepAlive
	}
	return 0
}

func (f *Front) accept(ctx context.Context, l *Listener) error {
	err := socket.Accept(ctx, l, f.logger, func(conn net.Conn) {
		source := socket.Peer(conn)
		if l.TLS != nil {
			conn = newSecured(conn, l.TLS)
		}
		f.open(l, conn, source, nil)
	})
	if err != nil {
		return fmt.Errorf("mqtt: listen on %s: %w", l.Addr(), err)
	}
	return nil
}

// OpenWebSocket serves MQTT over a WebSocket whose opening handshake is done. early is what the client has sent behind it, and is copied;
// caller is who the client has shown to be by a certificate, nil for one that has shown none.
func (f *Front) OpenWebSocket(conn net.Conn, early []byte, source netip.AddrPort, caller *pipeline.Caller) {
	f.open(&f.webSockets, mqttsocket.New(conn, early), source, caller)
}

// open has a connection served: plain TCP by a loop, all else by a stream, to begin with.
func (f *Front) open(l *Listener, conn net.Conn, source netip.AddrPort, caller *pipeline.Caller) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping || l.Terms.open >= l.Terms.MaxConnections {
		f.Counters.Refused.Add(1)
		conn.Close()
		return
	}
	c := newConnection(l, source)
	c.caller = caller
	l.Terms.open++
	f.Counters.Connections.Add(1)
	if !l.behindProxies() {
		if !f.admitLocked(c) {
			f.forget(c)
			conn.Close()
			return
		}
		if tcp, ok := conn.(*net.TCPConn); ok && f.loop(c, tcp, nil) {
			return
		}
	}
	c.stream = newStream(conn)
	f.streams[c] = struct{}{}
	f.running.Go(func() { c.stream.serve(c) })
}

// behindProxies says whether each connection begins with a PROXY header.
func (l *Listener) behindProxies() bool { return l.Proxies != nil && len(l.Proxies()) > 0 }

// loop has a loop serve the connection, if there are loops. f is locked.
func (f *Front) loop(c *connection, tcp *net.TCPConn, s *secured) bool {
	if len(f.loops) == 0 {
		return false
	}
	f.turn++
	stream := c.stream
	c.stream = nil
	if err := f.loops[f.turn%len(f.loops)].take(c, tcp, s); err != nil { // there is no descriptor left
		c.stream = stream
		f.logger.Warn("an MQTT connection is served at higher cost", "error", err)
		return false
	}
	return true
}

// closed gives up a connection's place.
func (f *Front) closed(c *connection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget(c)
}

// forget is closed with f locked.
func (f *Front) forget(c *connection) {
	delete(f.streams, c)
	c.listener.Terms.open--
	if c.counted {
		f.sources.release(c.source.Addr(), clock.Now())
	}
	f.Counters.Connections.Add(-1)
}

// enter does what comes before MQTT, in the time that there is for the CONNECT, and says whether the connection goes on. Otherwise
// it is closed without an answer.
func (s *stream) enter(c *connection) bool {
	if c.listener.Proxies != nil {
		if proxies := c.listener.Proxies(); len(proxies) > 0 && !c.readProxyHeader(s.conn, proxies) {
			return false
		}
	}
	if !c.front().admit(c) { // only now its source is known
		return false
	}
	if secured, ok := s.conn.(*tls.Conn); ok {
		return c.handshake(secured)
	}
	return true
}

// handshake makes TLS, and finds out whose certificate the client has shown, if it has.
func (c *connection) handshake(secured *tls.Conn) bool {
	err := secured.Handshake()
	if err == nil {
		if chain := secured.ConnectionState().PeerCertificates; len(chain) > 0 {
			c.caller, err = c.front().pipeline.Certified(chain)
		}
	}
	if refused := directory.CertificateError(""); errors.As(err, &refused) {
		c.front().Counters.Refused.Add(1)
		c.recordRefusal(fieldgate.NewProblem(fieldgate.ProblemUnauthenticated, refused.Error()))
	}
	return err == nil
}

// readProxyHeader reads what the proxy says of the connection before anything else is read (proxy-protocol.txt §2).
func (c *connection) readProxyHeader(conn net.Conn, proxies []netip.Prefix) bool {
	var err error
	if c.source, err = socket.ReadProxyHeader(conn, c.source, proxies); err == nil {
		return true
	}
	var problem *fieldgate.Problem
	if errors.As(err, &problem) { // otherwise it said nothing
		c.front().Counters.Refused.Add(1)
		c.front().pipeline.Malformed(&pipeline.Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodConnect, Source: c.source}, problem)
	}
	return false
}
