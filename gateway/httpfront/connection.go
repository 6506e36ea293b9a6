package httpfront

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/socket"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/h1"
	"fieldgate/protocol/h2"
)

const (
	relayBuffer   = 32 << 10
	keepOut       = 16 << 10 // a larger output buffer is not kept between requests
	keepContent   = 64 << 10 // nor is a larger content buffer; smaller content is read before the upstream is called
	maxDiscard    = 64 << 10 // unread content that is read and dropped to save the connection
	discardTime   = 2 * time.Second
	lingerBytes   = 16 << 20 // as much as two sockets may hold between them
	lingerTimeout = time.Second
	writePiece    = 64 << 10 // is written within WriteTimeout
	slowestBody   = 256      // bytes a second that streamed content must bring on average, after BodyTimeout
)

// connection is one client connection. Its goroutine owns all of it but idle, handle and the deadlines of link.
type connection struct {
	front   *Front
	link    net.Conn
	socket  net.Conn     // beneath TLS, or link itself
	tcp     *net.TCPConn // if content may be moved to it in the kernel
	origin  origin
	proxied bool       // a PROXY header comes first
	counted netip.Addr // of the source that the connection counts for; invalid: for none
	idle    atomic.Bool

	stream  carrier  // of one exchange of HTTP/2 or HTTP/3; nil: link is a socket of its own
	session *h2.Conn // once the connection speaks HTTP/2; guarded by Front.mu
	quic    *quic.Conn
	carried atomic.Int32 // exchanges of an HTTP/3 connection

	reader   *h1.Reader
	request  h1.Request
	body     h1.Body
	exchange pipeline.Exchange
	call     upstream.Call
	handle   upstream.Handle // of call
	upload   *upload         // content on its way; nil: none is

	out      []byte // what is to be written next
	fields   []byte // of the request to the upstream
	content  []byte // of a buffered request
	scratch  []byte // host in lower case, credentials decoded
	accepted bool   // the client was told to send its content, or did not wait for that
	begun    bool   // some of the upstream's answer was written
	keep     bool   // the connection lives on after this exchange
	trailers bool   // the client takes trailers
	grpc     bool   // the request is a gRPC call
	lasting  lasting

	readBy, writeBy time.Time // deadlines in force
}

// newConnection makes a connection that was accepted, with TLS unless secure is nil.
func newConnection(front *Front, link net.Conn, secure *tls.Config) *connection {
	c := &connection{front: front, link: link, socket: link}
	tcp, ok := link.(*net.TCPConn)
	if ok {
		c.socket = socket.New(tcp)
		c.origin.peer = addressOf(link)
	}
	if c.link = c.socket; secure != nil {
		c.link = tls.Server(c.socket, secure)
	} else {
		c.tcp = tcp
	}
	c.origin.secure, c.origin.version = secure != nil, "1.1"
	c.origin.adopt(front.settings.Load())
	return c
}

// addressOf is the other end of a TCP connection.
func addressOf(link net.Conn) netip.AddrPort {
	address, ok := link.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	peer := address.AddrPort()
	return netip.AddrPortFrom(peer.Addr().Unmap().WithZone(""), peer.Port())
}

// serve carries one exchange after the other.
func (c *connection) serve() {
	if !c.readProxyHeader() || !c.handshake() {
		return
	}
	if c.speaksH2() {
		c.serveH2(nil)
		return
	}
	c.reader = h1.NewReader(c.link, h1.DefaultBuffer)
	for first := true; ; first = false {
		head, err := c.awaitHead()
		if first && string(head) == h2Head { // RFC 9113 §3.3: a client that knows beforehand says so
			c.serveH2(slices.Concat(head, c.reader.Buffered()))
			return
		}
		if err != nil {
			c.refuseHead(err)
			return
		}
		err = c.request.Parse(head, &c.front.config.Limits)
		if err == nil {
			err = c.findOrigin()
		}
		if err != nil {
			c.refuseHead(err)
			return
		}
		if !c.answerOurselves() {
			c.exchangeOne()
		}
		if !c.keep {
			return
		}
		c.shrink()
	}
}

func (c *connection) handshake() bool {
	secured, ok := c.link.(*tls.Conn)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.front.config.HeadTimeout)
	defer cancel()
	if secured.HandshakeContext(ctx) != nil {
		return false
	}
	return secured.ConnectionState().NegotiatedProtocol != challengeProtocol
}

// awaitHead reads the next request head: it may take its time to begin, but not to end.
func (c *connection) awaitHead() ([]byte, error) {
	limit := c.front.config.Limits.Head
	head, err := c.reader.Head(limit)
	if head != nil || err != nil {
		return head, err
	}
	if len(c.reader.Buffered()) == 0 {
		c.setReadBy(c.front.config.IdleTimeout)
		c.idle.Store(true)
		if c.front.draining.Load() {
			return nil, io.EOF
		}
		err := c.reader.Fill()
		c.idle.Store(false)
		if err != nil {
			return nil, io.EOF // nothing was asked, so nothing is answered
		}
		if head, err = c.reader.Head(limit); head != nil || err != nil {
			return head, err
		}
	}
	c.readBy = time.Now().Add(c.front.config.HeadTimeout)
	c.link.SetReadDeadline(c.readBy)
	return c.reader.ReadHead(limit)
}

// setReadBy and setWriteBy set a deadline of at least d and at most an eighth more, so that busy connections need not set a
// new one for each request.
func (c *connection) setReadBy(d time.Duration) {
	if now := time.Now(); c.readBy.Before(now.Add(d)) || c.readBy.After(now.Add(d+d/8)) {
		c.readBy = now.Add(d + d/8)
		c.link.SetReadDeadline(c.readBy)
	}
}

func (c *connection) setWriteBy(d time.Duration) {
	if now := time.Now(); c.writeBy.Before(now.Add(d)) || c.writeBy.After(now.Add(d+d/8)) {
		c.writeBy = now.Add(d + d/8)
		c.link.SetWriteDeadline(c.writeBy)
	}
}

// write gives the client the whole time for each piece: it may be slow, but not stop.
func (c *connection) write(p []byte) error {
	for {
		piece := p[:min(len(p), writePiece)]
		c.setWriteBy(c.front.config.WriteTimeout)
		if _, err := c.link.Write(piece); err != nil {
			c.reset() // otherwise the kernel would keep what the client does not take, for minutes
			return err
		}
		if len(piece) == len(p) {
			return nil
		}
		p = p[len(piece):]
	}
}

// refuseHead answers a head that is no request, and records it. A connection that only ended leaves no trace.
func (c *connection) refuseHead(err error) {
	x := &c.exchange
	x.Reset()
	x.Protocol, x.Method, x.Source = fieldgate.ProtocolHTTP, fieldgate.MethodOther, c.origin.source
	c.keep = false
	c.request.Method = nil
	var refusal *h1.Error
	switch {
	case errors.As(err, &refusal):
		c.front.pipeline.Malformed(x, fieldgate.NewProblem(fieldgate.ProblemBadRequest, refusal.Reason))
		c.answerRefusal(refusal.Status, refusal.Reason)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.front.pipeline.Malformed(x, fieldgate.NewProblem(fieldgate.ProblemBadRequest, "head not received in time"))
		c.answerRefusal(408, "The request head did not arrive in time.") // RFC 9110 §15.5.9
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.front.pipeline.Malformed(x, fieldgate.NewProblem(fieldgate.ProblemBadRequest, "head cut short"))
	}
}

// fill makes the Exchange of the request.
func (c *connection) fill() {
	r, x := &c.request, &c.exchange
	x.Reset()
	x.Protocol, x.Source, x.Started = fieldgate.ProtocolHTTP, c.origin.source, time.Now()
	if x.Method = fieldgate.ParseMethod(r.Method); x.Method == fieldgate.MethodOther {
		x.MethodToken = string(r.Method)
	}
	c.scratch = c.scratch[:0]
	x.Path, x.Query = r.Path, r.Query
	if r.Form == h1.AsteriskForm {
		x.Path = r.Target
	}
	x.Host = c.hostName()
	x.Fields, x.HTTP = (*callerFields)(c), (*callerFields)(c)
	x.ContentType = r.Fields.Joined("Content-Type")
	x.Username, x.Secret = c.credential()
}

// hostName is the request's host in lower case, without port.
func (c *connection) hostName() []byte {
	host := c.request.Host
	if colon := bytes.LastIndexByte(host, ':'); colon >= 0 && bytes.IndexByte(host[colon:], ']') < 0 {
		host = host[:colon]
	}
	start := len(c.scratch)
	for _, b := range host {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		c.scratch = append(c.scratch, b)
	}
	return c.scratch[start:]
}

// credential takes the caller's credential from the Authorization field: RFC 6750 bearer tokens, RFC 7617 user and password; of
// other schemes all that follows the scheme.
func (c *connection) credential() (username, secret []byte) {
	authorization := c.request.Fields.Joined("Authorization")
	if authorization == nil && c.request.WantsWebSocket() {
		return nil, webSocketToken(&c.request)
	}
	scheme, rest, _ := bytes.Cut(authorization, []byte{' '})
	rest = bytes.TrimSpace(rest)
	if !h1.EqualFold(scheme, "Basic") {
		return nil, rest
	}
	start := len(c.scratch)
	decoded, err := base64.StdEncoding.AppendDecode(c.scratch, rest)
	if err != nil {
		return nil, rest
	}
	c.scratch = decoded
	username, secret, _ = bytes.Cut(decoded[start:], []byte{':'})
	return username, secret
}

// acceptContent tells a client that waits for it to send its content (RFC 9110 §10.1.1). To be called before content is read.
func (c *connection) acceptContent() error {
	if !c.request.ExpectContinue || c.accepted || len(c.reader.Buffered()) > 0 {
		return nil
	}
	c.accepted = true
	return c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
}

// mayDiscard says whether content that nobody wants can be read and dropped, so that the connection lives on.
func (c *connection) mayDiscard() bool {
	return c.body.Ended() || !c.accepted && !c.request.ExpectContinue && c.request.Framing == h1.Length && c.request.Length <= maxDiscard
}

// discard drops what is left of the content.
func (c *connection) discard() {
	if c.body.Ended() {
		return
	}
	if int64(len(c.reader.Buffered())) < c.request.Length {
		c.setReadBy(discardTime)
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for !c.body.Ended() {
		if _, err := c.body.Read(*buf); err != nil && err != io.EOF {
			c.keep = false
			return
		}
	}
}

// linger lets the client read the answer before the connection is closed: closing with content unread would reset it
// (RFC 9112 §9.6).
func (c *connection) linger() {
	if c.stream != nil {
		return
	}
	type halfCloser interface{ CloseWrite() error }
	if half, ok := c.link.(halfCloser); !ok || half.CloseWrite() != nil {
		return
	}
	c.link.SetReadDeadline(time.Now().Add(lingerTimeout))
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for total := 0; total < lingerBytes; {
		n, err := c.link.Read(*buf)
		if err != nil {
			return
		}
		total += n
	}
}

// cut ends a connection at once, and what it asks upstreams.
func (c *connection) cut() {
	switch {
	case c.quic != nil:
		c.quic.CloseWithError(0, "")
	case c.session != nil:
		c.session.Close()
	default:
		c.link.Close()
		c.handle.Cut()
	}
}

// reset ends the connection so that the client cannot take what it got for a whole answer: TLS does not say that this is the end
// (RFC 9112 §9.8), nor does TCP.
func (c *connection) reset() {
	c.keep = false
	if c.stream != nil {
		c.stream.reset()
		return
	}
	if tcp, ok := c.socket.(interface{ SetLinger(seconds int) error }); ok {
		tcp.SetLinger(0)
	}
	c.socket.Close()
}

// shrink drops buffers that an unusual request made grow: idle connections are most of all.
func (c *connection) shrink() {
	if cap(c.out) > keepOut {
		c.out = nil
	}
	if cap(c.fields) > keepOut {
		c.fields = nil
	}
	if cap(c.content) > keepContent {
		c.content = nil
	}
}

// buffers are for content on its way: chunk framing fits around relayBuffer bytes.
var buffers = sync.Pool{New: func() any {
	buf := make([]byte, h1.ChunkRoom+relayBuffer+h1.ChunkTail)
	return &buf
}}
