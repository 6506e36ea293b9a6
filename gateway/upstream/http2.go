package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"fieldgate/protocol/h1"
)

// HTTP/2 connections to an upstream are those of package net/http, one Transport for each address. A stream is a protocolExchange whose
// h1.Body ends with it.

const (
	pingAfter   = 15 * time.Second // without a frame of the upstream
	pingTimeout = 5 * time.Second
)

// newTransport makes the HTTP/2 connections of an address: over TLS if the address has TLS, else in the clear from the first byte
// (RFC 9113 §3.3).
func newTransport(a *address) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP2(a.tls != nil)
	protocols.SetUnencryptedHTTP2(a.tls == nil)
	return &http.Transport{
		Protocols:              &protocols,
		DialContext:            a.dialHTTP2,
		DialTLSContext:         a.dialHTTP2,
		DisableCompression:     true, // content passes as it is
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: int64(answerLimits.Head),
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
}

var errNotHTTP2 = &connectError{errors.New("the upstream does not speak HTTP/2 over TLS (ALPN h2)")}

// dialHTTP2 opens a connection that counts among those of the address. What it is asked to dial is the address. While there is no
// place for one it waits, and the call for which it does may get a connection that another one has opened.
func (a *address) dialHTTP2(ctx context.Context, _, _ string) (net.Conn, error) {
	a.mu.Lock()
	switch {
	case a.open < a.maxOpen:
		a.open++
		a.mu.Unlock()
	case len(a.waiting) >= a.maxWaiting:
		a.mu.Unlock()
		return nil, errNoConnectionFree
	default:
		c, err := a.wait(ctx, time.Now().Add(a.connectTimeout))
		if err != nil {
			return nil, err
		}
		if c != nil { // it spoke HTTP/1.1, to upgrade; its place is taken over
			c.Close()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, a.connectTimeout)
	defer cancel()
	tcp, err := dial(ctx, a.dial)
	if err != nil {
		a.giveUpPlace()
		return nil, err
	}
	link := &countedConn{Conn: tcp, address: a}
	if a.tls == nil {
		return link, nil
	}
	secured, err := a.secure(ctx, link, "h2")
	if err != nil {
		return nil, err
	}
	if secured.ConnectionState().NegotiatedProtocol != "h2" {
		secured.Close()
		return nil, errNotHTTP2
	}
	return secured, nil
}

// countedConn frees its place among the connections of its address when it is closed.
type countedConn struct {
	net.Conn
	address *address
	once    sync.Once
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.address.giveUpPlace)
	return err
}

// stream is one exchange over HTTP/2.
type stream struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	deadline *time.Timer // ends the exchange

	request *http.Request
	memory  *memory        // the request's content, or
	pipe    *io.PipeWriter // where it is written; nil: it has none, or all of it is in memory

	reused bool          // the connection carried an exchange before
	ended  chan struct{} // closed when answer or err is set
	answer *http.Response
	err    error

	reader   *h1.Reader
	response h1.Response
	body     h1.Body
}

// openStream sends the head of the call's request to an address. It returns when a connection has taken it, so that an address that
// cannot be reached is found out here.
func (c *Call) openStream(a *address, now time.Time) error {
	s := &stream{ended: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(c.context())
	connected := make(chan struct{})
	var once sync.Once
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		once.Do(func() {
			s.reused = info.Reused
			close(connected)
		})
	}}
	s.request = c.http2Request(a, s).WithContext(httptrace.WithClientTrace(s.ctx, trace))
	s.deadline = time.AfterFunc(c.tryBy.Sub(now), s.cut)
	c.sent = true
	go func() {
		s.answer, s.err = a.http2.RoundTrip(s.request)
		close(s.ended)
	}()
	select {
	case <-connected:
	case <-s.ended:
		if s.err != nil { // otherwise it is answered already
			err := s.failure(s.err, errNoAnswer)
			s.end()
			return err
		}
	}
	c.other = s
	c.Handle.hold(nil, s)
	return nil
}

// http2Request is the call's request in net/http's shape, its content coming from s.
func (c *Call) http2Request(a *address, s *stream) *http.Request {
	r := &http.Request{Method: string(c.Method), URL: &url.URL{Scheme: "http", Host: a.dial}, Host: a.authority,
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{"User-Agent": nil, "Te": {"trailers"}}} // RFC 9110 §10.1.4; no agent of our own
	if a.tls != nil {
		r.URL.Scheme = "https"
	}
	if c.Host != nil {
		r.Host = string(c.Host)
	}
	path, query, queried := c.Path, c.Query, c.Query != nil
	if !queried {
		path, query, queried = bytes.Cut(path, []byte{'?'})
	}
	if bytes.HasPrefix(path, []byte("//")) { // which Opaque would take for an authority
		r.URL.RawPath = string(path)
		r.URL.Path, _ = url.PathUnescape(r.URL.RawPath)
	} else {
		r.URL.Opaque = string(path)
	}
	r.URL.RawQuery, r.URL.ForceQuery = string(query), queried
	for line := range bytes.SplitSeq(c.Fields, []byte("\r\n")) {
		name, value, found := bytes.Cut(line, []byte(": "))
		if found && h1.KindOf(name) == h1.KindOther { // RFC 9113 §8.2.2: nothing about the connection
			r.Header.Add(string(name), string(value))
		}
	}
	switch {
	case c.Framing == h1.NoBody:
	case c.inMemory():
		s.memory = &memory{content: c.Content}
		r.Body, r.ContentLength = s.memory, int64(len(c.Content))
		if len(c.Content) == 0 {
			r.Body = http.NoBody
			break
		}
		// Without it the transport does not send content again that the upstream says it has not looked at (RFC 9113 §8.7).
		r.GetBody = func() (io.ReadCloser, error) {
			s.memory.Close()
			s.memory = &memory{content: c.Content}
			return s.memory, nil
		}
	default:
		var in *io.PipeReader
		in, s.pipe = io.Pipe()
		r.Body, r.ContentLength, r.Trailer = in, -1, http.Header{} // a Trailer that is not nil may be filled later
		if c.Framing == h1.Length {
			r.ContentLength = c.Length
		}
	}
	return r
}

// memory is content that is taken away from the transport, which may want to read it still, when the call ends.
type memory struct {
	mu      sync.Mutex
	content []byte
}

func (m *memory) Read(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := copy(p, m.content)
	m.content = m.content[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.content = nil
	return nil
}

// cut ends the exchange as a time-out. The transport does not look at the context while it waits for content.
func (s *stream) cut() {
	s.cancel(os.ErrDeadlineExceeded)
	if s.pipe != nil {
		s.pipe.CloseWithError(os.ErrDeadlineExceeded)
	}
}

func (s *stream) usedBefore() bool { return s.reused }

func (s *stream) content() *h1.Body { return &s.body }

func (s *stream) extend(deadline time.Time) { s.deadline.Reset(time.Until(deadline)) }

func (s *stream) lastForever() { s.deadline.Stop() }

func (s *stream) stopContent() { s.pipe.CloseWithError(net.ErrClosed) }

func (s *stream) endsBy(then time.Time) bool {
	timer := time.NewTimer(time.Until(then))
	defer timer.Stop()
	select {
	case <-s.ended:
		return true
	case <-timer.C:
		return false
	}
}

func (s *stream) head(method []byte) (*h1.Response, error) {
	<-s.ended
	if s.err != nil {
		return nil, s.failure(s.err, errNoAnswer)
	}
	return &s.response, s.parse(method)
}

// failure is why the exchange failed: it was cut, or there was no connection, or else what broke it.
func (s *stream) failure(err, otherwise error) error {
	switch {
	case context.Cause(s.ctx) != nil:
		return context.Cause(s.ctx)
	case notConnected(err), errors.Is(err, errNoConnectionFree):
		return err
	}
	return errors.Join(otherwise, err)
}

// parse makes the answer's head an h1.Response.
func (s *stream) parse(method []byte) error {
	r := &s.response
	*r = h1.Response{Status: s.answer.StatusCode, Minor: 1, ContentLength: s.answer.ContentLength}
	count := 0
	for _, values := range s.answer.Header {
		count += len(values)
	}
	if count > answerLimits.Fields || r.Status < 200 || r.Status > 599 {
		return h1.ErrStatusLine
	}
	r.Fields = make(h1.Fields, 0, count)
	for name, values := range s.answer.Header {
		kind := h1.KindOf(name)
		for _, value := range values {
			if !h1.ValidName(name) || !h1.ValidValue(value) {
				return h1.ErrFieldValue
			}
			r.Fields = append(r.Fields, h1.Field{Name: []byte(name), Value: []byte(value), Kind: kind, Hop: kind != h1.KindOther})
		}
	}
	switch {
	case r.Status == http.StatusNoContent || r.Status == http.StatusNotModified || string(method) == http.MethodHead:
		r.Framing = h1.NoBody
		if length, err := strconv.ParseInt(s.answer.Header.Get("Content-Length"), 10, 64); err == nil {
			r.ContentLength = length
		}
	case r.ContentLength >= 0 && len(s.answer.Trailer) == 0:
		r.Framing, r.Length = h1.Length, r.ContentLength
	default:
		r.Framing = h1.UntilClose
	}
	s.reader = h1.NewReader(s, h1.DefaultBuffer)
	s.body.Reset(s.reader, r.Framing, r.Length)
	if r.Framing == h1.Length && r.Length <= h1.DefaultBuffer { // small content goes on together with the head
		for int64(len(s.reader.Buffered())) < r.Length && s.reader.Fill() == nil {
		}
	}
	return nil
}

// Read reads the answer's content for s.body. Its end brings the trailers.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.answer.Body.Read(p)
	if n > 0 || err == nil {
		return n, nil // an error comes again
	}
	if err != io.EOF {
		return 0, s.failure(err, io.ErrUnexpectedEOF)
	}
	for name, values := range s.answer.Trailer {
		for _, value := range values {
			if err := s.body.AddTrailer([]byte(strings.ToLower(name)), []byte(value)); err != nil {
				return 0, err
			}
		}
	}
	s.answer.Trailer = nil
	return 0, io.EOF
}

func (s *stream) write(p []byte) error {
	_, err := s.pipe.Write(p)
	return err
}

func (s *stream) endContent(trailers h1.Fields) error {
	for i := range trailers {
		s.request.Trailer.Add(string(trailers[i].Name), string(trailers[i].Value))
	}
	return s.pipe.Close()
}

func (s *stream) end() {
	s.deadline.Stop()
	s.cancel(context.Canceled)
	<-s.ended
	if s.answer != nil {
		s.answer.Body.Close()
	}
	if s.memory != nil {
		s.memory.Close()
	}
	if s.pipe != nil {
		s.pipe.CloseWithError(net.ErrClosed)
	}
}
