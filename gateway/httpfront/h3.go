package httpfront

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"fieldgate/protocol/h1"
)

const (
	// freeHandshakes is how many handshakes may begin at once, and freeHandshakesSecond how many in each second, without the client
	// having to show first that it is where its packets say (RFC 9000 §8.1.2).
	freeHandshakes       = 200
	freeHandshakesSecond = 100
	// freeResets is how many streams a client may reset before they are answered, and freeResetsSecond how many in each second
	// (CVE-2023-44487).
	freeResets       = 500
	freeResetsSecond = 50
	// lastWords is how long a client has to take the last answer, and to hear that the connection ends.
	lastWords = time.Second
)

// ServeHTTP3 serves HTTP/3 (RFC 9114) on a UDP socket until ctx ends, as Serve does HTTP/1.1 and HTTP/2 on TCP, and closes the
// socket. The configuration need not name the protocol. Requests are never taken from 0-RTT data, which somebody could repeat (RFC 8470).
func (f *Front) ServeHTTP3(ctx context.Context, udp net.PacketConn, secure *tls.Config) error {
	defer udp.Close()
	handshakes := newAllowance(freeHandshakes, freeHandshakesSecond)
	transport := &quic.Transport{Conn: udp, VerifySourceAddress: func(net.Addr) bool { return !handshakes.take(time.Now()) }, ConnContext: f.beginQUIC}
	defer transport.Close()
	listener, err := transport.Listen(http3.ConfigureTLSConfig(secure), f.quicConfig())
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	accepting, stop := context.WithCancel(ctx)
	defer stop()
	running.Go(func() { f.checkStreams(accepting) })
	for {
		conn, err := listener.Accept(ctx)
		if err != nil {
			stop()
			listener.Close() // nobody else is let in; who already was is drained with the others
			for conn, err := listener.Accept(context.Background()); err == nil; conn, err = listener.Accept(context.Background()) {
				f.accepted.Add(1)
				running.Go(func() { f.serveQUIC(conn) })
			}
			f.drain(&running)
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		f.accepted.Add(1)
		running.Go(func() { f.serveQUIC(conn) })
	}
}

func (f *Front) quicConfig() *quic.Config {
	h2 := f.config.HTTP2.WithDefaults()
	return &quic.Config{
		HandshakeIdleTimeout:           f.config.HeadTimeout / 2, // all of a handshake may take twice that
		MaxIdleTimeout:                 f.config.IdleTimeout,
		InitialStreamReceiveWindow:     uint64(h2.StreamWindow),
		MaxStreamReceiveWindow:         uint64(h2.MaxStreamWindow),
		InitialConnectionReceiveWindow: uint64(h2.ConnWindow),
		MaxConnectionReceiveWindow:     uint64(h2.ConnWindow),
		MaxIncomingStreams:             int64(h2.MaxStreams),
		MaxIncomingUniStreams:          8, // a control stream and two for compression (RFC 9114 §6.2)
	}
}

// begun is the key of a connection in the context of the QUIC connection that it begins with.
type begun struct{}

var errNoPlace = errors.New("too many connections")

// beginQUIC takes a connection, or refuses it, with its first packet: one whose handshake is left half done has its place until it is
// given up.
func (f *Front) beginQUIC(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
	c := &connection{front: f}
	if address, ok := client.RemoteAddr.(*net.UDPAddr); ok {
		peer := address.AddrPort()
		c.origin.peer = netip.AddrPortFrom(peer.Addr().Unmap().WithZone(""), peer.Port())
	}
	c.origin.secure, c.origin.version = true, "3"
	c.origin.adopt(f.settings.Load())
	if !f.take(c) {
		return nil, errNoPlace
	}
	context.AfterFunc(ctx, func() { f.forget(c) })
	return context.WithValue(ctx, begun{}, c), nil
}

// serveQUIC serves one connection whose handshake is done.
func (f *Front) serveQUIC(conn *quic.Conn) {
	c := conn.Context().Value(begun{}).(*connection)
	f.mu.Lock()
	c.quic = conn
	f.mu.Unlock()
	defer f.remove(c)
	if err := c.certify(conn.ConnectionState().TLS.PeerCertificates); err != nil { // which the handshake has checked
		conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeRequestRejected), "")
		return
	}
	c.resets = newAllowance(freeResets, freeResetsSecond)
	// Streams whose head never ends are no exchanges, and keep no connection.
	c.lull = time.AfterFunc(f.config.IdleTimeout, func() {
		if c.carried.Load() == 0 {
			conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		}
	})
	defer c.lull.Stop()
	server := &http3.Server{Handler: (*h3Handler)(c), MaxHeaderBytes: f.config.Limits.Head, Logger: slog.New(slog.DiscardHandler)}
	var ending sync.WaitGroup
	defer ending.Wait()
	ended := make(chan struct{})
	defer close(ended)
	ending.Go(func() {
		select {
		case <-ended:
		case <-f.ending:
			c.endIfIdle()
			server.Shutdown(f.context) // GOAWAY (RFC 9114 §5.2)
		}
	})
	if err := server.ServeQUICConn(conn); err != nil {
		f.logger.Debug("HTTP/3 connection ended", "error", err, "source", c.origin.source)
	}
}

// endIfIdle ends a connection that is draining and carries nothing.
func (c *connection) endIfIdle() {
	if c.carried.Load() > 0 || !c.front.draining.Load() {
		return
	}
	time.AfterFunc(lastWords, func() {
		if c.carried.Load() == 0 {
			c.quic.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		}
	})
}

// h3Handler serves the requests of a connection.
type h3Handler connection

// ServeHTTP implements http.Handler. Streams that the client has reset are bounded with the others, until their exchange has ended.
func (h *h3Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := (*connection)(h)
	defer c.endIfIdle()
	defer func() {
		if c.carried.Add(-1) == 0 {
			c.lull.Reset(c.front.config.IdleTimeout)
		}
	}()
	if int(c.carried.Add(1)) > 2*c.front.config.HTTP2.WithDefaults().MaxStreams {
		c.tooMuch("too many streams at once")
		panic(http.ErrAbortHandler)
	}
	s := &h3Carrier{w: w, r: r, control: http.NewResponseController(w), parent: c}
	whole := s.serve()
	if s.left() && !c.resets.take(time.Now()) {
		c.tooMuch("too many streams reset")
	}
	if !whole {
		panic(http.ErrAbortHandler) // the stream is reset
	}
}

// tooMuch ends an HTTP/3 connection for what it asks for without wanting it.
func (c *connection) tooMuch(reason string) {
	if c.quic.Context().Err() != nil {
		return
	}
	c.quic.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "")
	c.front.malformed(c.origin.client(), reason)
}

// h3Carrier carries one exchange of HTTP/3.
type h3Carrier struct {
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	parent  *connection
	first   []byte // of the content, read to see whether there is any
	head    bool   // was sent
	whole   bool   // the answer
	failed  bool   // it must not look whole
	split   h1.Fields
}

// serve reports whether the answer is whole.
func (s *h3Carrier) serve() bool {
	c := newCarried(s)
	defer s.parent.front.survive(c)
	stop := context.AfterFunc(s.r.Context(), c.handle.Cut)
	defer stop()
	c.carry(s.parent, s.set)
	return s.whole && !s.failed
}

// set makes the stream's head the request.
func (s *h3Carrier) set(r *h1.Request) error {
	fields := make(h1.Fields, 0, len(s.r.Header))
	for name, values := range s.r.Header {
		lower := []byte(strings.ToLower(name))
		for _, value := range values {
			fields = append(fields, h1.Field{Name: lower, Value: []byte(value)})
		}
	}
	scheme, path := []byte("https"), []byte(s.r.RequestURI)
	if s.r.Method == http.MethodConnect {
		scheme, path = nil, nil
	}
	method := []byte(s.r.Method)
	r.Method, r.Target = method, path // for the Record of one that is refused
	if err := r.Set(method, scheme, []byte(s.r.Host), path, fields, &s.parent.front.config.Limits); err != nil {
		return err
	}
	if r.Framing != h1.UntilClose || r.ExpectContinue {
		return nil
	}
	switch s.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions, http.MethodTrace:
		// Mostly without content, which only the end of the stream tells.
		s.SetReadDeadline(time.Now().Add(s.parent.front.config.HeadTimeout))
		var first [1]byte
		n, err := s.r.Body.Read(first[:])
		if s.first = first[:n]; n == 0 && err == io.EOF {
			r.Framing = h1.NoBody
		}
	}
	return nil
}

// Read implements carrier.
func (s *h3Carrier) Read(p []byte) (int, error) {
	if len(s.first) > 0 {
		n := copy(p, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	n, err := s.r.Body.Read(p)
	if n > 0 {
		return n, nil // the error comes again
	}
	return 0, err
}

// Write implements carrier.
func (s *h3Carrier) Write(p []byte) (int, error) {
	if err := s.send(p); err != nil {
		return 0, err
	}
	return len(p), s.control.Flush()
}

func (s *h3Carrier) finish(p []byte) error {
	err := s.send(p)
	s.whole = err == nil
	return err
}

func (s *h3Carrier) send(p []byte) error {
	if !s.head {
		status, split, content := splitHead(p, s.split[:0])
		header := s.w.Header()
		clear(header)
		for _, field := range split {
			header.Add(string(field.Name), string(field.Value))
		}
		s.w.WriteHeader(status)
		s.split, s.head, p = split, status >= 200, content
	}
	if len(p) == 0 {
		return nil
	}
	_, err := s.w.Write(p)
	return err
}

func (s *h3Carrier) finishWith(trailers h1.Fields) error {
	header := s.w.Header()
	for _, field := range trailers {
		header.Add(http.TrailerPrefix+string(field.Name), string(field.Value))
	}
	s.whole = true
	return nil
}

func (s *h3Carrier) reset() { s.failed = true }

func (s *h3Carrier) gone() <-chan struct{} { return s.r.Context().Done() }

func (s *h3Carrier) left() bool { return s.r.Context().Err() != nil }

func (s *h3Carrier) eachTrailer(take func(name, value []byte) error) error {
	for name, values := range s.r.Trailer {
		for _, value := range values {
			if err := take([]byte(strings.ToLower(name)), []byte(value)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close implements net.Conn.
func (s *h3Carrier) Close() error {
	s.failed = true
	return s.SetDeadline(longAgo)
}

// SetDeadline implements net.Conn.
func (s *h3Carrier) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (s *h3Carrier) SetReadDeadline(t time.Time) error { return s.control.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (s *h3Carrier) SetWriteDeadline(t time.Time) error { return s.control.SetWriteDeadline(t) }

// LocalAddr implements net.Conn.
func (s *h3Carrier) LocalAddr() net.Addr { return s.parent.quic.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *h3Carrier) RemoteAddr() net.Addr { return s.parent.quic.RemoteAddr() }

// allowance is a number of free things that time fills up again.
type allowance struct {
	mu        sync.Mutex
	left      float64
	most      float64
	perSecond float64
	filled    time.Time
}

func newAllowance(most, perSecond float64) *allowance {
	return &allowance{left: most, most: most, perSecond: perSecond}
}

func (a *allowance) take(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.filled.IsZero() {
		a.left = min(a.left+now.Sub(a.filled).Seconds()*a.perSecond, a.most)
	}
	a.filled = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}
