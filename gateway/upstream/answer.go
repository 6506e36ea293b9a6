package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"fieldgate"
	"fieldgate/protocol/h1"
)

// Answer waits for the head of the answer. It sends the request again, with Content in memory, as far as Retry allows, and where a
// connection that had been idle broke without a byte of an answer.
func (c *Call) Answer() *fieldgate.Problem {
	err := c.head()
	for c.again(err) {
		if err = c.send(time.Now()); err == nil {
			err = c.head()
		}
	}
	if err == nil && c.tryBy.Before(c.deadline) { // the answer has begun, and nothing will replace it
		err = c.endBy(c.deadline)
	}
	if err != nil {
		if c.inMemory() { // else somebody may be writing still, until End
			c.abandon()
		}
		return c.problem(err)
	}
	return nil
}

// problem is that of a try that failed and is not followed by another.
func (c *Call) problem(err error) *fieldgate.Problem {
	if c.outOfTime() {
		return &fieldgate.Problem{Code: fieldgate.ProblemUpstreamTimeout, Cause: err}
	}
	return problem(err)
}

// outOfTime reports whether the caller's own deadline has passed.
func (c *Call) outOfTime() bool { return !c.Until.IsZero() && !time.Now().Before(c.Until) }

// head waits for the head of the answer to a try, and notes how that went.
func (c *Call) head() (err error) {
	if c.Hedge > 0 && c.Idempotent && c.inMemory() && c.Upgrade == nil {
		err = c.hedgedHead()
	} else {
		err = c.readHead()
	}
	c.note(err)
	return err
}

func (c *Call) note(err error) {
	c.took = time.Since(c.sentAt)
	switch {
	case c.Handle.isCut() || errors.Is(err, context.Canceled) || err != nil && c.outOfTime():
		c.outcome = cancelled
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.outcome, c.cause = timedOut, cause{err: err, after: c.took}
	case notConnected(err): // over CoAP, where only the answer to a message tells that nobody listens
		c.outcome, c.cause = unreachable, cause{err: err, after: c.took}
	case err != nil:
		c.outcome, c.cause = broken, cause{err: err}
	case c.Response.Status >= 500:
		c.outcome, c.cause = failed, cause{status: c.Response.Status}
	default:
		c.outcome = answered
	}
	if l := c.upstream.load; l != nil && (c.outcome == answered || c.outcome == timedOut) {
		l.answered(c.sentAt.Add(c.took), c.took)
	}
}

// errNoAnswer is a connection that ended before the first byte of an answer.
var errNoAnswer = errors.New("the connection ended without an answer")

var errInterim = errors.New("too many interim responses, or a protocol switch that nobody asked for")

// readHead waits for the head until the deadline of the try.
func (c *Call) readHead() error {
	if c.other != nil {
		response, err := c.other.head(c.Method)
		if err == nil {
			c.Response = response
		}
		return err
	}
	link := c.conn
	for i := range maxInterim {
		head, err := link.reader.ReadAnswerHead(answerLimits.Head)
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
			link.heard.Store(true)
			c.Response = &link.response
			link.body.Reset(link.reader, link.response.Framing, link.response.Length)
			return nil
		}
	}
	return errInterim // RFC 9110 §15.2
}

// endBy gives the try under way another deadline.
func (c *Call) endBy(deadline time.Time) error {
	if c.other != nil {
		c.other.extend(deadline)
		return nil
	}
	return c.stillCut(c.conn.endBy(time.Now(), deadline))
}

// stillCut follows each change of the connection's deadline: a Cut that came before has to count.
func (c *Call) stillCut(err error) error {
	if err == nil && c.Handle.isCut() {
		return c.conn.SetDeadline(pastDeadline)
	}
	return err
}

// Body is the content of the answer.
func (c *Call) Body() *h1.Body {
	if c.other != nil {
		return c.other.content()
	}
	return &c.conn.body
}

// Progress gives the upstream the whole time-out again, for content that may take longer than it. It may be called while content
// is written and while it is read.
func (c *Call) Progress() error { return c.endBy(time.Now().Add(c.timeout())) }

// Stream lifts the deadline, for answers that have no end of their own. The call is no load of the upstream any more, whatever it
// lasts.
func (c *Call) Stream() error {
	c.uncount()
	if c.other != nil {
		c.other.lastForever()
		return nil
	}
	return c.stillCut(c.conn.noEnd())
}

// Connection is the upgraded connection. Bytes that were read from it already are in Buffered of the reader.
func (c *Call) Connection() (net.Conn, *h1.Reader) { return c.conn.Conn, c.conn.reader }

// Splice is the connection's socket if content may be moved to or from it in the kernel, else nil.
func (c *Call) Splice() *net.TCPConn {
	if c.conn == nil || !c.conn.plain {
		return nil
	}
	return c.conn.tcp
}

// Broke notes that the answer's content did not come to its end, for what the upstream is worth, and says what that is to the caller.
func (c *Call) Broke(err error) *fieldgate.Problem {
	switch {
	case c.Handle.isCut() || errors.Is(err, context.Canceled):
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.outcome, c.cause = timedOut, cause{err: err, after: time.Since(c.sentAt)}
	default:
		c.outcome, c.cause = broken, cause{err: err}
	}
	return Failure(err)
}

// Failure is the problem of an error that reading the answer's content gave.
func Failure(err error) *fieldgate.Problem { return problem(err) }

// Unsent says whether a Problem of a call means that no service has seen anything of the request.
func Unsent(problem *fieldgate.Problem) bool {
	return problem.Cause == nil || notConnected(problem.Cause) || errors.Is(problem.Cause, errNoConnectionFree)
}

// problem makes an error of a call a Problem: 503, 504 or 502.
func problem(err error) *fieldgate.Problem {
	var invalid *h1.Error
	if refusal, ok := errors.AsType[*fieldgate.Problem](err); ok {
		return refusal
	}
	p := &fieldgate.Problem{Cause: err}
	switch {
	case errors.Is(err, errNoConnectionFree):
		p.Code, p.RetryAfter = fieldgate.ProblemOverloaded, time.Second
	case notConnected(err), errors.Is(err, errNoAnswer): // not to be reached in time is not to be reached
		p.Code = fieldgate.ProblemUpstreamUnreachable
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		p.Code = fieldgate.ProblemUpstreamTimeout
	case errors.As(err, &invalid), errors.Is(err, errInterim), errors.Is(err, io.ErrUnexpectedEOF):
		p.Code = fieldgate.ProblemUpstreamInvalid
	default:
		p.Code = fieldgate.ProblemUpstreamUnreachable
	}
	return p
}
