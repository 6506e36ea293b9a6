package coapfront

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/coapsocket"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/socket"
	"fieldgate/protocol/coap"
)

// StreamListener is where TCP connections with CoAP come in (RFC 8323 section 3). Run closes it.
type StreamListener struct {
	net.Listener
	Name    string                // as in the settings
	TLS     *tls.Config           // nil: plain
	Proxies func() []netip.Prefix // peers that begin each connection with a PROXY header; where there are any, nobody else is let in; nil: none
}

// StreamBounds are what connections may take. Zero values mean the defaults.
type StreamBounds struct {
	MaxConnections       int           // of a listener; 0: 100,000
	MaxConnectionsSource int           // from one address (IPv6: one /64) at a listener; 0: 5,000
	IdleTimeout          time.Duration // of silence, after which a client is pinged; 0: 10 min
}

const (
	defaultConnectionsSource = 5000

	// handshakeTimeout is for what comes before CoAP: a PROXY header and TLS.
	handshakeTimeout = 5 * time.Second
)

// nameWebSocket is the listener of WebSockets, which HTTP's listeners bring.
const nameWebSocket = "coap-ws"

// streams is the transport of a listener whose peers are connections.
type streams struct {
	*coap.Stream
	front    *Front
	listener *StreamListener // nil: WebSockets
	bounds   StreamBounds
	opening  sync.WaitGroup

	mu      sync.Mutex
	sources socket.Sources
}

// origin is where a connection comes from, and who its client has shown to be by TLS.
type origin struct {
	source netip.AddrPort
	caller *pipeline.Caller // nil: each request says it
	cipher string           // of TLS; empty: none, or that of the HTTP listener
}

// listenStream adds a listener of connections; nil: WebSockets.
func (f *Front) listenStream(tcp *StreamListener, bounds StreamBounds) error {
	if bounds.MaxConnectionsSource == 0 {
		bounds.MaxConnectionsSource = defaultConnectionsSource
	}
	s := &streams{front: f, listener: tcp, bounds: bounds, sources: make(socket.Sources)}
	l := &listener{name: nameWebSocket, transport: s, who: s.who}
	if tcp != nil {
		l.name = tcp.Name
	}
	config := coap.StreamConfig{Config: f.endpoint(l),
		MaxConnections: bounds.MaxConnections, IdleTimeout: bounds.IdleTimeout}
	var err error
	if s.Stream, err = coap.NewStream(config, workers, f.handler(l), f.logger); err != nil {
		return err
	}
	f.listeners = append(f.listeners, l)
	if tcp == nil {
		f.webSockets = s
	}
	return nil
}

func (s *streams) who(peer netip.AddrPort) (netip.AddrPort, *pipeline.Caller) {
	if o, ok := s.Origin(peer).(*origin); ok {
		return o.source, o.caller
	}
	return netip.AddrPort{}, nil // the connection has ended meanwhile
}

// LocalAddr is zero for WebSockets.
func (s *streams) LocalAddr() netip.AddrPort {
	if s.listener == nil {
		return netip.AddrPort{}
	}
	return s.listener.Addr().(*net.TCPAddr).AddrPort()
}

// Run accepts and serves connections.
func (s *streams) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed error
	if s.listener != nil {
		defer context.AfterFunc(ctx, func() { s.listener.Close() })()
		s.opening.Go(func() {
			if failed = socket.Accept(ctx, s.listener, s.front.logger, s.accept); failed != nil {
				failed = fmt.Errorf("coap: listen on %s: %w", s.listener.Addr(), failed)
			}
			cancel()
		})
	}
	err := s.Stream.Run(ctx)
	s.opening.Wait()
	return errors.Join(err, failed)
}

func (s *streams) accept(conn net.Conn) {
	source := socket.Peer(conn)
	var proxies []netip.Prefix
	if s.listener.Proxies != nil {
		proxies = s.listener.Proxies()
	}
	if len(proxies) == 0 && !s.take(source) {
		conn.Close()
		return
	}
	s.opening.Go(func() {
		conn.SetDeadline(time.Now().Add(handshakeTimeout))
		if len(proxies) > 0 {
			var err error
			if source, err = socket.ReadProxyHeader(conn, source, proxies); err != nil {
				s.refuse(source, err)
				conn.Close()
				return
			}
			if !s.take(source) { // only now it is known
				conn.Close()
				return
			}
		}
		defer s.release(source)
		s.serve(conn, source)
	})
}

// refuse records a connection that is not let in because of its PROXY header.
func (s *streams) refuse(source netip.AddrPort, err error) {
	var problem *fieldgate.Problem
	if errors.As(err, &problem) { // otherwise it said nothing
		s.front.pipeline.Malformed(&pipeline.Exchange{Protocol: fieldgate.ProtocolCoAP, Method: fieldgate.MethodConnect, Source: source}, problem)
	}
}

// serve has CoAP spoken on a connection once what comes before is done.
func (s *streams) serve(conn net.Conn, source netip.AddrPort) {
	o := &origin{source: source}
	if tcp, ok := conn.(*net.TCPConn); ok {
		socket.LimitUnsent(tcp) // otherwise old notifications fill the kernel's buffer
		conn = socket.New(tcp)
	}
	if s.listener.TLS != nil {
		secured := tls.Server(conn, s.listener.TLS)
		if secured.Handshake() != nil {
			conn.Close()
			return
		}
		state := secured.ConnectionState()
		o.cipher = tls.CipherSuiteName(state.CipherSuite)
		if chain := state.PeerCertificates; len(chain) > 0 {
			var err error
			if o.caller, err = s.front.pipeline.Certified(chain); err != nil {
				conn.Close()
				return
			}
		}
		conn = secured
	}
	conn.SetDeadline(time.Time{})
	s.Serve(conn, o)
}

// take counts a connection; false: its source has too many.
func (s *streams) take(source netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sources.Take(source.Addr(), s.bounds.MaxConnectionsSource)
}

func (s *streams) release(source netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources.Release(source.Addr())
}

// OpenWebSocket serves CoAP over a WebSocket whose opening handshake is done. early is what the client has sent behind it, and is copied;
// caller is whose certificate it has shown, nil if none.
func (f *Front) OpenWebSocket(conn net.Conn, early []byte, source netip.AddrPort, caller *pipeline.Caller) {
	s := f.webSockets
	if !s.take(source) {
		conn.Close()
		return
	}
	webSocket := coapsocket.New(conn, early, coap.DefaultMaxMessage)
	go func() {
		defer s.release(source)
		s.Serve(webSocket, &origin{source: source, caller: caller})
	}()
}
