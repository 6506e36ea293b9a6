package upstream

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/protocol/h1"
)

// maxInterim bounds the 1xx responses before an answer.
const maxInterim = 8

// answerLimits bound the head of an answer.
var answerLimits = h1.Limits{}.WithDefaults()

// Call is one exchange with an upstream, streamed:
//
//	problem := call.Send(u)      // connect; head, and Content
//	n, err := call.Write(p)      // content that is streamed, framed by the caller as call.Framing says
//	problem = call.Answer()      // until the head of the answer: call.Response
//	n, err := call.Body().Read() // content of the answer
//	call.End()                   // always, once Send has succeeded
//
// Its fields are set before Send and stay as they are until Answer. The zero value is ready, and may be used again after End.
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
	Idempotent          bool      // may be sent again when the connection broke before an answer

	Choice Choice // what the address is chosen by

	Handle *Handle // lets another goroutine cut the call; nil: none does

	Response *h1.Response // after Answer; valid until End

	upstream *Upstream
	conn     *conn
	deadline time.Time
	streamed bool // content was written that cannot be written again
	sent     bool // some of the request may have reached the upstream
	sendErr  error
	early    bool // the upstream answered before it had the whole request: whether it read the rest as content nobody knows

	tried   tried         // addresses of this call
	sentAt  time.Time     // when the exchange that is under way began
	took    time.Duration // until the head of its answer
	outcome outcome       // of it
}

// Handle reaches a Call under way from another goroutine.
type Handle struct{ conn atomic.Pointer[conn] }

// Cut ends the call that goes on at present, if there is one: it fails with upstream-timeout. It is for shutting down: a call that
// takes over the connection at this very moment may be hit too.
func (h *Handle) Cut() {
	if link := h.conn.Load(); link != nil {
		link.SetDeadline(time.Unix(1, 0))
	}
}

func (c *Call) setConn(link *conn) {
	c.conn = link
	if c.Handle != nil {
		c.Handle.conn.Store(link)
	}
}

// Send connects and sends the head, and Content.
func (c *Call) Send(u *Upstream) *fieldgate.Problem {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = u.Config.Timeout
	}
	began := c.Began
	if began.IsZero() {
		began = time.Now()
	}
	c.upstream, c.deadline, c.Response, c.streamed, c.tried = u, began.Add(timeout), nil, false, tried{}
	return c.send(began, false)
}

func (c *Call) send(now time.Time, fresh bool) *fieldgate.Problem {
	link, err := c.connection(now, fresh)
	if err != nil {
		return problem(err)
	}
	c.setConn(link)
	c.sentAt, c.took, c.outcome = now, 0, cancelled
	if err := link.endBy(now, c.deadline); err != nil {
		c.abandon()
		return problem(err)
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
	n, err := link.Write(out)
	c.sent, c.sendErr, c.early = n > 0, err, false
	if c.sendErr == nil && !together {
		c.early = link.plain && !link.quiet()
		_, c.sendErr = link.Write(c.Content)
	}
	// A failure to write is judged in Answer: the upstream may have answered before it stopped reading.
	return nil
}

// connection returns a connection to an address on which a call has begun. Addresses that cannot be reached cost only time.
func (c *Call) connection(now time.Time, fresh bool) (*conn, error) {
	var failure error
	for {
		a := c.upstream.choose(now, &c.Choice, &c.tried)
		if a == nil {
			if failure == nil {
				failure = c.upstream.refusal(now)
			}
			return nil, failure
		}
		a.begin()
		link, err := a.connection(now, c.deadline, fresh)
		if err == nil {
			return link, nil
		}
		o := unreachable
		if errors.Is(err, errNoConnectionFree) {
			o = cancelled
		}
		a.end(now, 0, o)
		failure = err
	}
}

var errNoAddress error = &connectError{errors.New("no address is left")}

// Write sends streamed content.
func (c *Call) Write(p []byte) (int, error) {
	c.streamed = true
	if c.sendErr != nil {
		return 0, c.sendErr
	}
	c.early = c.early || c.conn.plain && !c.conn.quiet()
	n, err := c.conn.Write(p)
	c.sendErr = err
	return n, err
}

// Answer waits for the head of the answer. The request is sent once more, on a new connection, if a connection that had been
// idle broke without a byte of an answer and the request may be repeated or never left (RFC 9112 §9.3.1).
func (c *Call) Answer() *fieldgate.Problem {
	err := c.readHead()
	if errors.Is(err, errNoAnswer) && c.conn.reused && !c.streamed && (c.Idempotent || !c.sent) {
		c.outcome = cancelled // an idle connection ends some time: that is no failure of the address
		c.abandon()
		c.tried = tried{}
		if problem := c.send(time.Now(), true); problem != nil {
			return problem
		}
		err = c.readHead()
	}
	c.took = time.Since(c.sentAt)
	if err != nil {
		problem := problem(err)
		c.outcome = broken
		if problem.Code == fieldgate.ProblemUpstreamTimeout {
			c.outcome = timedOut
		}
		c.abandon()
		return problem
	}
	c.outcome = answered
	if c.Response.Status >= 500 {
		c.outcome = failed
	}
	return nil
}

// errNoAnswer is a connection that ended before the first byte of an answer.
var errNoAnswer = errors.New("the connection ended without an answer")

var errInterim = errors.New("too many interim responses, or a protocol switch that nobody asked for")

func (c *Call) readHead() error {
	link := c.conn
	for i := range maxInterim {
		head, err := link.reader.ReadHead(answerLimits.Head)
		if err != nil {
			if i == 0 && len(link.reader.Buffered()) == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
				return errors.Join(errNoAnswer, err)
			}
			return err
		}
		if err := link.response.Parse(head, c.Method, &answerLimits); err != nil {
			return err
		}
		switch status := link.response.Status; {
		case status == http.StatusSwitchingProtocols:
			if c.Upgrade == nil {
				return errInterim
			}
			fallthrough
		case status >= 200:
			c.Response = &link.response
			link.body.Reset(link.reader, link.response.Framing, link.response.Length)
			return nil
		}
	}
	return errInterim // RFC 9110 §15.2
}

// Body is the content of the answer.
func (c *Call) Body() *h1.Body { return &c.conn.body }

// Progress gives the upstream the whole time-out again, for content that may take longer than it.
func (c *Call) Progress() error {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = c.upstream.Config.Timeout
	}
	now := time.Now()
	c.deadline = now.Add(timeout)
	return c.conn.endBy(now, c.deadline)
}

// Stream lifts the deadline, for answers that have no end of their own (server-sent events, an upgraded connection), and
// returns the connection. Bytes that were read from it already are in Buffered of the reader.
func (c *Call) Stream() (net.Conn, *h1.Reader, error) {
	c.conn.deadline = time.Time{}
	return c.conn.Conn, c.conn.reader, c.conn.SetDeadline(time.Time{})
}

// Splice is the connection's socket if content may be moved to or from it in the kernel, else nil.
func (c *Call) Splice() *net.TCPConn {
	if !c.conn.plain {
		return nil
	}
	return c.conn.tcp
}

// End gives the connection back if both messages were complete, else closes it.
func (c *Call) End() {
	link := c.conn
	if link == nil {
		return
	}
	c.setConn(nil)
	now := time.Now()
	link.address.end(now, c.took, c.outcome)
	r := &link.response
	if c.Response == nil || c.sendErr != nil || c.early || r.Close || r.Status == http.StatusSwitchingProtocols ||
		!link.body.Ended() || len(link.reader.Buffered()) != 0 {
		link.address.discard(link)
		return
	}
	link.address.giveBack(link, now)
}

// Abort makes End close the connection: the request's content did not end as announced.
func (c *Call) Abort() { c.sendErr = net.ErrClosed }

func (c *Call) abandon() {
	if c.conn != nil {
		c.conn.address.end(time.Now(), c.took, c.outcome)
		c.conn.address.discard(c.conn)
		c.setConn(nil)
	}
}

// Failure is the problem of an error that reading the answer's content gave.
func Failure(err error) *fieldgate.Problem { return problem(err) }

// problem makes an error of a call a Problem: 503, 504 or 502.
func problem(err error) *fieldgate.Problem {
	var invalid *h1.Error
	var connect *connectError
	if refusal, ok := errors.AsType[*fieldgate.Problem](err); ok {
		return refusal
	}
	p := &fieldgate.Problem{Cause: err}
	switch {
	case errors.Is(err, errNoConnectionFree):
		p.Code, p.RetryAfter = fieldgate.ProblemOverloaded, time.Second
	case errors.As(err, &connect), errors.Is(err, errNoAnswer): // not to be reached in time is not to be reached
		p.Code = fieldgate.ProblemUpstreamUnreachable
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.Code = fieldgate.ProblemUpstreamTimeout
	case errors.As(err, &invalid), errors.Is(err, errInterim), errors.Is(err, io.ErrUnexpectedEOF):
		p.Code = fieldgate.ProblemUpstreamInvalid
	default:
		p.Code = fieldgate.ProblemUpstreamUnreachable
	}
	return p
}
