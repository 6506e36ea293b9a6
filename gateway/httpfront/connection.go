package httpfront

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"fieldgate"
	"fieldgate/gateway/clock"
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
	front     *Front
	link      net.Conn
	socket    net.Conn     // beneath TLS, or link itself
	tcp       *net.TCPConn // if content may be moved to it in the kernel
	origin    origin
	proxied   bool       // a PROXY header comes first
	counted   netip.Addr // of the source that the connection counts for; invalid: for none
	idle      atomic.Bool
	certified *pipeline.Caller // whose certificate the client has shown; nil: it has shown none
	given     bool             // somebody else serves the link now; guarded by Front.mu

	stream  carrier  // of one exchange of HTTP/2 or HTTP/3; nil: link is a socket of its own
	session *h2.Conn // once the connection speaks HTTP/2; guarded by Front.mu
	quic    *quic.Conn
	carried atomic.Int32 // exchanges of an HTTP/3 connection
	lull    *time.Timer  // ends one that carries none for too long
	resets  *allowance   // of one

	reader   *h1.Reader
	request  h1.Request
	body     h1.Body
	exchange pipeline.Exchange
	place    pipeline.Place
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

	readBy, writeBy time.Duration // deadlines in force, on the clock
}

// newConnection makes a connection that was accepted, with TLS unless secure is nil.
func newConnection(front *Front, link net.Conn, secure *tls.Config) *connection {
	c := &connection{front: front, link: link, socket: link}
	tcp, ok := link.(*net.TCPConn)
	if ok {
		socket.LimitUnsent(tcp)
		c.socket = socket.New(tcp)
		c.origin.peer = socket.Peer(link)
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
			c.refuseHead(c.reader.Buffered(), err)
			return
		}
		err = c.request.Parse(head, &c.front.config.Limits)
		if err == nil {
			err = c.findOrigin()
		}
		if err != nil {
			c.refuseHead(head, err)
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
	err := secured.HandshakeContext(ctx)
	if err == nil {
		err = c.certify(secured.ConnectionState().PeerCertificates)
	}
	if err != nil {
		c.refuseHandshake(err)
		return false
	}
	return secured.ConnectionState().NegotiatedProtocol != challengeProtocol
}

// certify finds out whose certificate the client has shown in the handshake, if it has.
func (c *connection) certify(chain []*x509.Certificate) (err error) {
	if len(chain) > 0 {
		c.certified, err = c.front.pipeline.Certified(chain)
	}
	return err
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
	c.readBy = clock.Now() + c.front.config.HeadTimeout
	c.link.SetReadDeadline(clock.Time(c.readBy))
	return c.reader.ReadHead(limit)
}

// setReadBy and setWriteBy set a deadline of at least d and at most an eighth more, so that busy connections need not set a
// new one for each request.
func (c *connection) setReadBy(d time.Duration) {
	if by := clock.Now() + d; c.readBy < by || c.readBy > by+d/8 {
		c.readBy = by + d/8
		c.link.SetReadDeadline(clock.Time(c.readBy))
	}
}

func (c *connection) setWriteBy(d time.Duration) {
	if by := clock.Now() + d; c.writeBy < by || c.writeBy > by+d/8 {
		c.writeBy = by + d/8
		c.link.SetWriteDeadline(clock.Time(c.writeBy))
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

// fill makes the Exchange of the request.
func (c *connection) fill() {
	r, x := &c.request, &c.exchange
	x.Reset()
	x.Protocol, x.Source, x.Started = fieldgate.ProtocolHTTP, c.origin.source, time.Now()
	x.Place = &c.place
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
	x.Caller = c.certified
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
	if c.stream == nil {
		lingerOn(c.link)
	}
}

func lingerOn(link net.Conn) {
	type halfCloser interface{ CloseWrite() error }
	if half, ok := link.(halfCloser); !ok || half.CloseWrite() != nil {
		return
	}
	link.SetReadDeadline(time.Now().Add(lingerTimeout))
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for total := 0; total < lingerBytes; {
		n, err := link.Read(*buf)
		if err != nil {
			return
		}
		total += n
	}
}

// cut ends a connection at once, and what it asks upstreams.
func (c *connection) cut() {
	switch {
	case c.given:
	case c.quic != nil:
		c.quic.CloseWithError(0, "")
	case c.session != nil:
		c.session.Close()
	case c.link == nil: // its handshake is under way: it ends with its socket
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
