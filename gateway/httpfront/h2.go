package httpfront

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/h1"
	"fieldgate/protocol/h2"
)

// h2Head is the request head that an HTTP/2 client's preface looks like (RFC 9113 §3.4): what it knew beforehand.
const h2Head = "PRI * HTTP/2.0\r\n\r\n"

// speaksH2 reports whether that was agreed on in the TLS handshake (RFC 9113 §3.2).
func (c *connection) speaksH2() bool {
	secured, ok := c.link.(*tls.Conn)
	return ok && secured.ConnectionState().NegotiatedProtocol == "h2"
}

// serveH2 serves HTTP/2 on the connection, of which those bytes were read already.
func (c *connection) serveH2(received []byte) {
	f := c.front
	config := f.config.HTTP2
	config.MaxHead, config.MaxFields = f.config.Limits.Head, f.config.Limits.Fields
	config.IdleTimeout, config.HeadTimeout = f.config.IdleTimeout, f.config.HeadTimeout
	config.FrameTimeout, config.WriteTimeout = f.config.BodyTimeout, f.config.WriteTimeout
	config.Malformed = func(reason string) { f.malformed(c.origin.client(), reason) }
	c.origin.speak("2")
	session := h2.NewConn(c.link, received, &config, c.serveStream)
	f.mu.Lock()
	c.session = session
	f.mu.Unlock()
	if f.draining.Load() {
		session.GoAway()
	}
	if err := session.Serve(); err != nil {
		f.logger.Debug("HTTP/2 connection failed", "error", err, "source", c.origin.source)
	}
}

// malformed records what was no request, over HTTP/2 or HTTP/3.
func (f *Front) malformed(source netip.AddrPort, reason string) {
	f.pipeline.Malformed(&pipeline.Exchange{Protocol: fieldgate.ProtocolHTTP, Method: fieldgate.MethodOther, Source: source, Started: time.Now()},
		fieldgate.NewProblem(fieldgate.ProblemBadRequest, reason))
}

// serveStream serves one request of a connection.
func (c *connection) serveStream(stream *h2.Stream) {
	carried := h2Carriers.Get().(*h2Carrier)
	defer c.front.survive(carried.connection)
	carried.carry(c, stream)
	h2Carriers.Put(carried) // not after a fault
}

// h2Carrier carries exchanges of HTTP/2.
type h2Carrier struct {
	*h2.Stream
	connection *connection
	head       bool // was sent
	fields     []h2.Field
	split      h1.Fields
	watch
	broken func()
	parent *connection
}

var h2Carriers = sync.Pool{New: func() any {
	s := &h2Carrier{}
	s.connection = newCarried(s)
	s.broken = func() {
		s.breaks()
		s.connection.handle.Cut()
	}
	return s
}}

func (s *h2Carrier) carry(parent *connection, stream *h2.Stream) {
	s.Stream, s.parent, s.head = stream, parent, false
	s.begin()
	s.connection.handle = upstream.Handle{} // a stream that broke has cut it
	stream.OnBroken(s.broken)
	s.connection.carry(parent, s.set)
	stream.OnBroken(nil)
	s.Stream, s.parent = nil, nil
}

// set makes the stream's head the request.
func (s *h2Carrier) set(r *h1.Request) error {
	if s.TooLarge {
		r.Method, r.Target = nil, nil // which may be beyond the bound
		return h1.ErrHeadTooLarge
	}
	r.Method, r.Target = s.Method, s.Path // for the Record of one that is refused
	fields := r.Fields[:0]
	for i := range s.Fields {
		fields = append(fields, h1.Field{Name: s.Fields[i].Name, Value: s.Fields[i].Value})
	}
	err := r.Set(s.Method, s.Scheme, s.Authority, s.Path, fields, &s.parent.front.config.Limits)
	if err == nil && s.Empty {
		r.Framing = h1.NoBody
	}
	return err
}

// Write implements carrier.
func (s *h2Carrier) Write(p []byte) (int, error) {
	if err := s.send(p, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *h2Carrier) finish(p []byte) error { return s.send(p, true) }

func (s *h2Carrier) send(p []byte, end bool) error {
	if s.head {
		return s.Send(0, nil, p, end)
	}
	status, split, content := splitHead(p, s.split[:0])
	s.split = split
	s.fields = appendH2(s.fields[:0], split)
	s.head = status >= 200
	return s.Send(status, s.fields, content, end && s.head)
}

func appendH2(to []h2.Field, fields h1.Fields) []h2.Field {
	for i := range fields {
		to = append(to, h2.Field{Name: fields[i].Name, Value: fields[i].Value})
	}
	return to
}

func (s *h2Carrier) finishWith(trailers h1.Fields) error {
	s.fields = appendH2(s.fields[:0], trailers)
	return s.SendTrailers(s.fields)
}

func (s *h2Carrier) reset() { s.Reset(h2.InternalError) }

func (s *h2Carrier) eachTrailer(take func(name, value []byte) error) error {
	for _, field := range s.Trailers() {
		if err := take(field.Name, field.Value); err != nil {
			return err
		}
	}
	return nil
}

// Close implements net.Conn.
func (s *h2Carrier) Close() error {
	s.Reset(h2.Cancel)
	return nil
}

// SetDeadline implements net.Conn.
func (s *h2Carrier) SetDeadline(t time.Time) error {
	s.Stream.SetReadDeadline(t)
	s.Stream.SetWriteDeadline(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (s *h2Carrier) SetReadDeadline(t time.Time) error {
	s.Stream.SetReadDeadline(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (s *h2Carrier) SetWriteDeadline(t time.Time) error {
	s.Stream.SetWriteDeadline(t)
	return nil
}

// LocalAddr implements net.Conn.
func (s *h2Carrier) LocalAddr() net.Addr { return s.parent.link.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *h2Carrier) RemoteAddr() net.Addr { return s.parent.link.RemoteAddr() }
