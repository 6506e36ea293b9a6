package upstream

import (
	"context"
	"os"
	"sync"
	"time"

	"fieldgate/protocol/coap"
	"fieldgate/protocol/h1"
)

// coapExchange is a try over CoAP: one call of the link's endpoint, with all its messages and blocks. Content goes out when all of it is here, since a
// block has to be sent again when the network or the service asks for it.
type coapExchange struct {
	link     *coapLink
	call     coap.Call
	method   string
	deadline *time.Timer
	unwatch  func() bool // the context

	gathered []byte // content that was written
	sentAs   uint64 // messages of the link with the first one of this

	once  sync.Once
	ended chan struct{} // closed when reply or err is set
	reply *coap.Reply
	err   error

	response h1.Response
	body     h1.Body
}

// openCoAP sends the request to an address, or as much as is known of it.
func (c *Call) openCoAP(a *address, now time.Time) error {
	x := &coapExchange{method: string(c.Method), ended: make(chan struct{})}
	if problem := c.coapRequest(a, &x.call); problem != nil {
		return problem
	}
	if c.Framing == h1.Length && c.Length > MaxBufferedAnswer {
		return errCoAPTooLarge
	}
	link, err := a.coapLink(c.context(), c.tryBy)
	if err != nil {
		return err
	}
	x.link = link
	x.deadline = time.AfterFunc(c.tryBy.Sub(now), x.cut)
	x.unwatch = context.AfterFunc(c.context(), func() { x.fail(context.Cause(c.context())) })
	c.sent, c.other = true, x
	c.Handle.hold(nil, x)
	if c.inMemory() {
		x.call.Body = c.Content
		link.do(x)
	}
	return nil
}

// finish notes the outcome, of which there is one.
func (x *coapExchange) finish(reply *coap.Reply, err error) {
	x.once.Do(func() {
		x.reply, x.err = reply, err
		close(x.ended)
	})
}

// fail ends the exchange before there was an answer.
func (x *coapExchange) fail(err error) {
	x.finish(nil, err)
	x.link.cancel(x)
}

func (x *coapExchange) cut() { x.fail(os.ErrDeadlineExceeded) }

func (x *coapExchange) usedBefore() bool { return false }

func (x *coapExchange) write(p []byte) error {
	select {
	case <-x.ended:
		return x.err
	default:
	}
	if len(x.gathered)+len(p) > MaxBufferedAnswer {
		x.fail(errCoAPTooLarge)
		return errCoAPTooLarge
	}
	x.gathered = append(x.gathered, p...)
	return nil
}

func (x *coapExchange) endContent(h1.Fields) error { // of trailers CoAP has none
	x.call.Body = x.gathered
	x.link.do(x)
	return nil
}

func (x *coapExchange) stopContent() {} // write never waits

func (x *coapExchange) endsBy(then time.Time) bool {
	timer := time.NewTimer(time.Until(then))
	defer timer.Stop()
	select {
	case <-x.ended:
		return true
	case <-timer.C:
		return false
	}
}

func (x *coapExchange) head([]byte) (*h1.Response, error) {
	<-x.ended
	if x.err != nil {
		return nil, x.err
	}
	_, validates := x.call.Options.Get(coap.ETag)
	return &x.response, coapAnswer(x.method, validates, x.reply, &x.response, &x.body)
}

func (x *coapExchange) content() *h1.Body { return &x.body }

func (x *coapExchange) extend(deadline time.Time) { x.deadline.Reset(time.Until(deadline)) }

func (x *coapExchange) lastForever() { x.deadline.Stop() }

func (x *coapExchange) end() {
	x.deadline.Stop()
	x.unwatch()
	x.fail(context.Canceled)
	x.link.leave()
}
