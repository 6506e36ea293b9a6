package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"fieldgate"
	"fieldgate/gateway/clock"
	"fieldgate/protocol/h1"
)

// maxInterim bounds the 1xx responses before an answer.
const maxInterim = 8

// answerLimits bound the head of an answer.
var answerLimits = h1.Limits{}.WithDefaults()

// Call is one exchange with an upstream, streamed, over HTTP/1.1 or HTTP/2, or translated into CoAP:
//
//	problem := call.Send(u)      // connect; head, and Content
//	err := call.Write(buf, n)    // content that is streamed,
//	err = call.EndContent(nil)   // and its end
//	problem = call.Answer()      // until the head of the answer: call.Response
//	n, err := call.Body().Read() // content of the answer
//	call.End()                   // always, once Send has succeeded
//
// Content may be written by another goroutine than that which calls Answer and reads the Body, so that an answer that comes early is
// seen and content may go both ways at once; it must have stopped before End. All else is one goroutine's.
//
// Its fields are set before Send and stay as they are until End. The zero value is ready, and may be used again after End.
type Call struct {
	Method, Path, Query []byte
	Host                []byte // Host field; nil: the address's own authority
	Fields              []byte // further field lines, each ending in CRLF
	Upgrade             []byte // protocols offered, nil: none
	Framing             h1.Framing
	Length              int64
	Content             []byte // with Framing Length: all of the content; it is sent with the head
	Timeout             time.Duration
	Began               time.Time // when Timeout begins; zero: with Send
	Until               time.Time // a deadline that caller and service keep themselves, after which no failure is the service's; zero: none
	Idempotent          bool      // may be sent again when the connection broke before an answer
	HopLimit            uint8     // how many proxies a call over CoAP may pass (RFC 8768); 0: 16
	Waits               bool      // Answer follows Send at once, so that Send may wait for the answer to begin

	Retry    *fieldgate.Retry // nil: only what was sent over a connection that broke while it was idle is sent again
	Hedge    time.Duration    // for an Idempotent call with its content in memory: how late an answer is given company; 0: never
	Priority fieldgate.Priority

	Choice Choice // what the address is chosen by

	Handle  *Handle         // lets another goroutine cut the call; nil: none does
	Context context.Context // ends connecting, waits between tries and exchanges over HTTP/2; nil: nothing does

	Response *h1.Response // after Answer; valid until End

	upstream *Upstream
	deadline time.Time
	tried    tried // addresses of this call
	retries  int
	fresh    bool // only a connection that was never used will do
	counted  bool // among the upstream's load

	// The try under way: all that a hedge may replace.
	try
}

// try is one exchange with one address.
type try struct {
	address *address         // nil: there is no try
	conn    *conn            // over HTTP/1.1, or
	other   protocolExchange // over HTTP/2 or CoAP

	tryBy   time.Time // deadline
	sentAt  time.Time
	sent    bool // some of the request may have reached the upstream
	sendErr error
	early   bool // the upstream answered before it had the whole request: whether it read the rest as content nobody knows

	took    time.Duration // until the head of the answer
	outcome outcome
	cause   cause // of an outcome that is a failure
}

// protocolExchange is a try over another protocol than HTTP/1.1. It brings the answer into the shape that answers over HTTP/1.1 have, so that
// whoever relays it sees no difference.
type protocolExchange interface {
	usedBefore() bool                         // the connection carried an exchange before
	write(p []byte) error                     // a piece of the content
	endContent(trailers h1.Fields) error      // that was written
	stopContent()                             // makes a write under way return
	endsBy(then time.Time) bool               // waits until then for the head of the answer, or a failure
	head(method []byte) (*h1.Response, error) // waits for the head of the answer
	content() *h1.Body                        // of the answer
	extend(deadline time.Time)                // gives it another deadline
	lastForever()                             // lifts the deadline
	cut()                                     // ends it as a time-out; any goroutine may call it
	end()                                     // gives up what is left of it; then nobody reads the call's content any more
}

func (c *Call) context() context.Context {
	if c.Context == nil {
		return context.Background()
	}
	return c.Context
}

func (c *Call) timeout() time.Duration {
	if c.Timeout == 0 {
		return c.upstream.Config.Timeout
	}
	return c.Timeout
}

// inMemory reports whether the request's content can be sent again.
func (c *Call) inMemory() bool {
	return c.Framing == h1.NoBody || c.Framing == h1.Length && int64(len(c.Content)) == c.Length
}

// reused reports whether the try goes over a connection that carried an exchange before.
func (c *Call) reused() bool {
	return c.conn != nil && c.conn.reused || c.other != nil && c.other.usedBefore()
}

// Send connects and sends the head, and Content.
func (c *Call) Send(u *Upstream) *fieldgate.Problem {
	began := c.Began
	if began.IsZero() {
		began = time.Now()
	}
	c.upstream, c.Response, c.tried, c.retries, c.fresh, c.counted = u, nil, tried{}, 0, false, false
	c.deadline = began.Add(c.timeout())
	if u.load != nil {
		if problem := u.load.begin(c.Priority); problem != nil {
			return problem
		}
		c.counted = true
	}
	if c.Retry != nil || c.Hedge > 0 {
		u.budget.call(began)
	}
	err := c.send(began)
	for err != nil && c.again(err) {
		err = c.send(time.Now())
	}
	if err != nil {
		c.uncount()
		return c.problem(err)
	}
	return nil
}

// uncount takes the call out of its upstream's load.
func (c *Call) uncount() {
	if c.counted {
		c.counted = false
		c.upstream.load.end()
	}
}

// send begins a try on the first address that can be reached. Those that cannot cost only time.
func (c *Call) send(now time.Time) error {
	a := c.upstream.choose(now, &c.Choice, &c.tried)
	if a == nil { // each was tried in vain: once more round
		c.tried = tried{}
		a = c.upstream.choose(now, &c.Choice, &c.tried)
	}
	if a == nil {
		return c.upstream.refusal(now)
	}
	var failure error
	for a != nil {
		if failure = c.sendTo(a, now); failure == nil {
			return nil
		}
		if now = time.Now(); !now.Before(c.deadline) || c.context().Err() != nil {
			break
		}
		a = c.upstream.choose(now, &c.Choice, &c.tried)
	}
	return failure
}

var errNoAddress error = &connectError{errors.New("no address is left")}

// sendTo begins a try on that address.
func (c *Call) sendTo(a *address, now time.Time) (err error) {
	c.try = try{address: a, sentAt: now, tryBy: c.deadline, outcome: cancelled}
	if c.Retry != nil && c.Retry.PerTry > 0 {
		c.tryBy = earlier(c.deadline, now.Add(c.Retry.PerTry))
	}
	a.begin()
	switch {
	case a.scheme.CoAP():
		err = c.openCoAP(a, now)
	case a.http2 != nil && c.Upgrade == nil:
		err = c.openStream(a, now)
	default:
		err = c.sendOver(a, now)
	}
	if err != nil {
		if notConnected(err) && !errors.Is(err, context.Canceled) {
			c.outcome, c.cause = unreachable, cause{err: err, after: time.Since(now)}
		}
		c.abandon()
	}
	return err
}

// sendOver takes a connection for HTTP/1.1, and sends the head on it.
func (c *Call) sendOver(a *address, now time.Time) (err error) {
	for {
		if c.conn, err = a.connection(c.context(), now, c.tryBy, c.fresh); err != nil {
			return err
		}
		c.Handle.hold(c.conn, nil)
		if err = c.sendHead(now); !errors.Is(err, errNotQuiet) {
			return err
		}
		a.discard(c.conn)
	}
}

// sendHead writes the head over HTTP/1.1, and Content.
func (c *Call) sendHead(now time.Time) error {
	link := c.conn
	link.heard.Store(false)
	if err := c.stillCut(link.endBy(now, c.tryBy)); err != nil {
		return err
	}
	out := h1.AppendRequestLine(link.out[:0], c.Method, c.Path, c.Query)
	if c.Host != nil {
		out = h1.AppendField(out, "Host", c.Host)
	} else {
		out = h1.AppendField(out, "Host", link.address.authority)
	}
	out = append(out, c.Fields...)
	if c.Upgrade != nil {
		out = h1.AppendField(append(out, "Connection: Upgrade\r\n"...), "Upgrade", c.Upgrade)
	}
	out = h1.AppendFraming(out, c.Framing, c.Length)
	out = append(out, "\r\n"...)
	// Small content goes out with the head, so that most requests are one system call and one segment.
	together := len(c.Content) <= h1.DefaultBuffer
	if together {
		out = append(out, c.Content...)
	}
	link.out = out
	n, err := link.ask(out, c.Waits && together && c.inMemory() && c.Hedge == 0)
	if errors.Is(err, errNotQuiet) {
		return err
	}
	c.sent, c.sendErr = n > 0, err
	if c.sendErr == nil && !together {
		c.early = link.plain && !link.quiet()
		_, c.sendErr = link.Write(c.Content)
	}
	// A failure to write is judged in Answer: the upstream may have answered before it stopped reading.
	return nil
}

// Write sends the n bytes of streamed content at buf[h1.ChunkRoom:], which has h1.ChunkTail bytes behind them.
func (c *Call) Write(buf []byte, n int) error {
	if c.sendErr != nil {
		return c.sendErr
	}
	piece := buf[h1.ChunkRoom : h1.ChunkRoom+n]
	if c.other != nil {
		c.sendErr = c.other.write(piece)
		return c.sendErr
	}
	if c.Framing == h1.Chunked {
		piece = h1.Chunk(buf, n)
	}
	c.early = c.early || c.conn.answering()
	_, c.sendErr = c.conn.Write(piece)
	return c.sendErr
}

// EndContent ends streamed content, with those trailers if its Framing has room for them.
func (c *Call) EndContent(trailers h1.Fields) error {
	if c.sendErr != nil {
		return c.sendErr
	}
	switch {
	case c.other != nil:
		c.sendErr = c.other.endContent(trailers)
	case c.Framing == h1.Chunked:
		c.early = c.early || c.conn.answering()
		_, c.sendErr = c.conn.Write(h1.AppendLastChunk(nil, trailers))
	}
	return c.sendErr
}

// StopContent ends the content where it is, so that a Write under way returns: the upstream has answered and need not take the
// rest. Unlike the rest of Call it may be called while another goroutine writes.
func (c *Call) StopContent() {
	if c.other != nil {
		c.other.stopContent()
	} else {
		c.conn.SetWriteDeadline(pastDeadline)
	}
}

// End gives the connection back if both messages were complete, else closes it.
func (c *Call) End() {
	c.uncount()
	link := c.conn
	if link == nil {
		c.abandon()
		return
	}
	c.Handle.hold(nil, nil)
	now := clock.Time(clock.Now())
	link.address.end(now, c.took, c.outcome, c.cause)
	r := &link.response
	// A Cut that is under way may still hold the connection.
	reusable := c.Response != nil && c.sendErr == nil && !c.early && !c.Handle.isCut() && !r.Close && r.Status != http.StatusSwitchingProtocols &&
		link.body.Ended() && len(link.reader.Buffered()) == 0
	c.try = try{}
	if reusable {
		link.address.giveBack(link, now)
	} else {
		link.address.discard(link)
	}
}

// Abort makes End close the connection: the request's content did not end as announced.
func (c *Call) Abort() { c.sendErr = net.ErrClosed }

// abandon gives up the try under way, if there is one.
func (c *Call) abandon() {
	if c.address == nil {
		return
	}
	c.Handle.hold(nil, nil)
	c.address.end(time.Now(), c.took, c.outcome, c.cause)
	if c.other != nil {
		c.other.end()
	} else if c.conn != nil {
		c.address.discard(c.conn)
	}
	c.try, c.Response = try{}, nil
}

// cutTry ends the try under way. Another goroutine than that of the call may do so as long as the call waits for its answer.
func (t *try) cutTry() {
	if t.other != nil {
		t.other.cut()
	} else {
		t.conn.SetDeadline(pastDeadline)
	}
}
