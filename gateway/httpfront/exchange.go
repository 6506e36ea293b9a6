package httpfront

import (
	"bytes"
	"errors"
	"io"
	"os"

	"fieldgate"
	"fieldgate/protocol/h1"
)

var (
	errTooLarge   = fieldgate.NewProblem(fieldgate.ProblemTooLarge, "The contract allows a smaller body only.")
	errBodyLate   = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "The body did not arrive in time.")
	errConnect    = &fieldgate.Problem{Code: fieldgate.ProblemMethodNotAllowed, Detail: "The gateway is no tunnel.", Allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}
	errCallerLeft = fieldgate.NewProblem(fieldgate.ProblemCallerLeft, "")
	errBodyShort  = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "The body ended before its announced length.")
)

// exchangeOne runs one request through the pipeline and answers it.
func (c *connection) exchangeOne() {
	p, r, x := c.front.pipeline, &c.request, &c.exchange
	c.body.Reset(c.reader, r.Framing, r.Length)
	c.accepted, c.keep = false, !r.Close && !c.front.draining.Load()
	c.fill()
	defer p.Finish(x)

	if r.Form == h1.AuthorityForm {
		c.keep = false // RFC 9110 §9.3.6: whoever is in front may take what follows for the tunnel's
		p.Refuse(x, errConnect)
		c.answerProblem(errConnect)
		return
	}
	problem := p.Begin(x)
	if x.Copy != nil {
		for i := range r.Fields {
			x.Copy.RequestField(r.Fields[i].Name, r.Fields[i].Value)
		}
	}
	if problem != nil {
		c.answerProblem(problem)
		return
	}
	switch o := x.Operation; {
	case x.Answered():
		c.keep = c.keep && c.mayDiscard()
		c.answerBuffered()
	case o.Subscribes() && r.WantsWebSocket():
		c.subscribeWebSocket()
	case o.Subscribes() && x.Method == fieldgate.MethodGet && r.Fields.Has("Accept", "text/event-stream"):
		c.subscribeEvents()
	case x.Buffered():
		c.exchangeBuffered()
	case o.Upstream != "":
		c.relay()
	default: // it ends at the broker, with nothing to check
		c.exchangeBuffered()
	}
}

// exchangeBuffered reads the whole body, up to its bound, before it is checked and goes anywhere.
func (c *connection) exchangeBuffered() {
	p, x := c.front.pipeline, &c.exchange
	if problem := c.readContent(); problem != nil {
		c.answerProblem(problem)
		return
	}
	if problem := p.Check(x); problem != nil {
		c.answerProblem(problem)
		return
	}
	if !x.Answered() && c.relaysBuffered() {
		c.relay()
		return
	}
	if problem := p.Forward(c.front.context, x); problem != nil {
		c.answerProblem(problem)
		return
	}
	c.answerBuffered()
}

// relaysBuffered says whether a checked body goes to the upstream as it came, and nowhere else. The front then relays it itself:
// all end-to-end fields of request and answer pass, and the answer is streamed.
func (c *connection) relaysBuffered() bool {
	return c.exchange.Operation.Relays() && !c.exchange.NeedsWholeAnswer() && !bytes.Contains(c.exchange.ContentType, []byte("cbor"))
}

func (c *connection) readContent() *fieldgate.Problem {
	x := &c.exchange
	if c.body.Ended() {
		return nil
	}
	limit := x.MaxBody()
	if c.request.Length > limit { // refused before a byte of it is read
		return errTooLarge
	}
	if content := c.body.Rest(); content != nil {
		x.Body, x.BytesIn = content, uint64(len(content))
		return nil
	}
	if err := c.acceptContent(); err != nil {
		return c.contentProblem(err)
	}
	c.setReadBy(c.front.config.BodyTimeout)
	content, err := c.body.ReadAll(c.content[:0], int(limit))
	c.content = content
	x.BytesIn = uint64(len(content))
	if err != nil {
		return c.contentProblem(err)
	}
	x.Body = content
	return nil
}

// contentProblem is what is said to a client whose content could not be read to its end. The connection is lost with it.
func (c *connection) contentProblem(err error) *fieldgate.Problem {
	c.keep = false
	return contentFault(err)
}

func contentFault(err error) *fieldgate.Problem {
	var refusal *h1.Error
	switch {
	case errors.Is(err, h1.ErrBodyTooLarge):
		return errTooLarge
	case errors.As(err, &refusal):
		return fieldgate.NewProblem(fieldgate.ProblemBadRequest, refusal.Reason)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errBodyLate
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errBodyShort
	}
	return &fieldgate.Problem{Code: fieldgate.ProblemBadRequest, Detail: errBodyShort.Detail, Cause: err}
}
