package httpfront

import (
	"io"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/h1"
)

// lastPiece is how long an upstream that has answered whole is given to take the last piece of the content.
const lastPiece = 100 * time.Millisecond

// upload is content that is on its way to the upstream, in a goroutine of its own, while the answer is awaited and relayed: the
// upstream may answer before it has all of it (RFC 9110 §7.5), or talk while it listens. That goroutine owns the connection's
// body, its reader and its deadline for reading until it has ended.
type upload struct {
	ended   chan struct{}
	taken   atomic.Bool        // all of the client's content was read
	failed  atomic.Bool        // it ends, or has ended, with a problem
	stopped atomic.Bool        // the exchange is over: what comes of the rest does not count
	problem *fieldgate.Problem // what was wrong with the content, once ended
}

// send opens the call and sends the request's content as far as it is here; what is yet to come is sent while the answer is awaited.
func (c *connection) send(service *upstream.Upstream) *fieldgate.Problem {
	c.upload = nil
	if c.body.Ended() {
		c.call.Waits = true
		return c.call.Send(service)
	}
	if err := c.acceptContent(); err != nil {
		return c.contentProblem(err)
	}
	if problem := c.call.Send(service); problem != nil {
		return problem
	}
	for more := true; more && c.body.Ready(); {
		var problem *fieldgate.Problem
		if more, problem = c.sendPiece(); problem != nil {
			c.keep = false
			c.call.Abort()
			return problem
		}
		if !more {
			return nil
		}
	}
	c.upload = &upload{ended: make(chan struct{})}
	go c.upload.run(c)
	return nil
}

func (u *upload) run(c *connection) {
	defer close(u.ended)
	for more := true; more; {
		more, u.problem = c.sendPiece()
	}
	if !c.body.Ended() {
		c.call.Abort()
	}
	if u.problem != nil && !u.stopped.Load() { // nobody needs an answer to half a request
		u.failed.Store(true)
		c.handle.Cut()
	}
}

// sendPiece reads a piece of the content and sends it, the last one with the content's end, and says whether there is more to send. A
// problem is the client's fault. An upstream that takes no more may have answered: the content is left where it is.
func (c *connection) sendPiece() (more bool, problem *fieldgate.Problem) {
	x := &c.exchange
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	c.setContentBy(c.call.Began)
	n, err := c.body.Read((*buf)[h1.ChunkRoom : h1.ChunkRoom+relayBuffer])
	if err != nil && err != io.EOF {
		return false, contentFault(err)
	}
	if c.upload != nil && c.body.Ended() {
		c.upload.taken.Store(true)
	}
	x.BytesIn += uint64(n)
	if !x.Operation.PassThrough && x.BytesIn > uint64(x.MaxBody()) {
		return false, errTooLarge
	}
	if n > 0 {
		if x.Operation.PassThrough || c.grpc {
			if err := c.progress(); err != nil {
				return false, upstream.Failure(err)
			}
		}
		if x.Copy != nil {
			x.Copy.Request((*buf)[h1.ChunkRoom : h1.ChunkRoom+n])
		}
		if c.call.Write(*buf, n) != nil {
			return false, nil
		}
	}
	if !c.body.Ended() {
		return true, nil
	}
	if err := c.takeTrailers(); err != nil {
		return false, contentFault(err)
	}
	c.call.EndContent(c.requestTrailers()) // a failure shows in Answer, as above
	return false, nil
}

// requestTrailers are those that the upstream may see.
func (c *connection) requestTrailers() h1.Fields {
	trailers := c.body.Trailers(c.request.Fields)
	kept := trailers[:0]
	for _, trailer := range trailers {
		if !c.withheld(trailer.Name) {
			kept = append(kept, trailer)
		}
	}
	return kept
}

// setContentBy bounds the wait for the next piece of streamed content, and of all of it: a client that drips must not hold a
// connection of the upstream for as long as it likes. Content that ends with its stream has no length to be slow about.
func (c *connection) setContentBy(began time.Time) {
	if c.grpc { // which may be silent for as long as it likes, and is not told apart before it is answered
		return
	}
	patience := c.front.config.BodyTimeout
	if c.request.Framing != h1.UntilClose {
		earned := time.Duration(min(c.exchange.BytesIn, 1<<40)) * (time.Second / slowestBody)
		patience = max(1, min(patience, time.Until(began.Add(patience+earned))))
	}
	c.setReadBy(patience)
	if c.upload != nil && c.upload.stopped.Load() { // the exchange has ended meanwhile
		c.link.SetReadDeadline(longAgo)
	}
}

// endUpload ends the content where it is if it is still on its way, and returns what was wrong with it before.
func (c *connection) endUpload() *fieldgate.Problem {
	u := c.upload
	if u == nil {
		return nil
	}
	defer func() { c.upload = nil }() // which the other goroutine looks at as long as it runs
	if u.failed.Load() {              // which is why the answer did not come
		<-u.ended
	} else if u.taken.Load() {
		timer := time.NewTimer(lastPiece)
		defer timer.Stop()
		select {
		case <-u.ended:
		case <-timer.C:
		}
	}
	select {
	case <-u.ended:
		if u.problem != nil {
			c.keep = false
		}
		return u.problem
	default:
	}
	u.stopped.Store(true)
	c.call.StopContent()
	if !u.taken.Load() {
		c.keep = false
		c.link.SetReadDeadline(longAgo)
	}
	<-u.ended
	c.readBy = 0
	return nil
}

// contentTaken says whether nothing of the request's content is left, or only what can be dropped, so that the connection may live on.
func (c *connection) contentTaken() bool {
	if c.upload != nil {
		return c.upload.taken.Load()
	}
	return c.mayDiscard()
}
