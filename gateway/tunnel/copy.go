package tunnel

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/h1"
)

// copyBuffer is what each direction of Copy reads at once.
const copyBuffer = 4 << 10

// Ending ends a Copy once When is closed.
type Ending struct {
	When   <-chan struct{}
	Code   int // of the close frame (RFC 6455 §7.4.1)
	Reason string
}

// Copy passes a WebSocket through between connections of any kind, with a goroutine for each direction, and returns when both have
// ended and are closed. It begins with what was read already. A WebSocket in which nobody says anything for that long is closed (0: never).
func Copy(toClient, toService net.Conn, readFromClient, readFromService []byte, messages *pipeline.Messages, patience time.Duration, revoked, draining Ending) End {
	c := new(copying)
	c.heard.Store(time.Now().UnixNano())
	var idles <-chan time.Time
	if patience > 0 {
		ticker := time.NewTicker(max(patience/8, time.Millisecond))
		defer ticker.Stop()
		idles = ticker.C
	}
	for i, link := range []net.Conn{toClient, toService} {
		c.ends[i].link = link
		c.ends[i].says = newSpeech(i, messages)
	}
	done := make(chan any, 2)
	for i, read := range [][]byte{readFromClient, readFromService} {
		go func() {
			defer func() {
				fault := recover()
				if fault != nil {
					toClient.Close()
					toService.Close()
				}
				done <- fault
			}()
			c.move(i, read)
		}()
	}
	var fault any
	for moving := 2; moving > 0; {
		select {
		case <-revoked.When:
			c.close(revoked.Code, revoked.Reason)
			revoked.When = nil
		case <-draining.When:
			c.close(draining.Code, draining.Reason)
			draining.When = nil
		case now := <-idles:
			if now.Sub(time.Unix(0, c.heard.Load())) >= patience {
				c.close(h1.CloseGoingAway, silent)
			}
		case met := <-done:
			if met != nil {
				fault = met
			}
			moving--
		}
	}
	toClient.Close()
	toService.Close()
	if fault != nil {
		panic(fault) // the caller confines it to its connection
	}
	from, to := &c.ends[client].says, &c.ends[service].says
	c.end.FromClient, c.end.FromService = from.bytes, to.bytes
	if c.end.InvalidClient == "" {
		c.end.InvalidClient = from.invalid()
	}
	if c.end.InvalidService == "" {
		c.end.InvalidService = to.invalid()
	}
	return c.end
}

// copying is a Copy under way.
type copying struct {
	ends    [2]endpoint
	closing atomic.Bool  // what comes is dropped
	half    atomic.Bool  // one side has ended
	heard   atomic.Int64 // when somebody said something last, in nanoseconds since 1970
	refusal sync.Mutex   // of end
	end     End
}

type endpoint struct {
	link net.Conn

	writing sync.Mutex // of link, shut, and what the other side says: a close frame of ours must not come between
	shut    bool
	says    speech
}

// move passes on what one side says until it ends.
func (c *copying) move(from int, data []byte) {
	source, target := &c.ends[from], &c.ends[1-from]
	var w work
	buf := make([]byte, copyBuffer)
	var due time.Time // when a message has to be whole
	for {
		if broken := c.pass(&w, from, data); broken != nil {
			c.refusal.Lock()
			c.end.refuse(from, broken)
			c.refusal.Unlock()
			c.close(broken.code, broken.reason)
		}
		w.shrink()
		if next := source.says.due(); !next.Equal(due) {
			due = next
			source.link.SetReadDeadline(due)
			if c.closing.Load() { // it has less time, as has who goes on alone
				source.link.SetReadDeadline(time.Now().Add(closeTime))
			} else if due.IsZero() && c.half.Load() {
				source.link.SetReadDeadline(time.Now().Add(stalled))
			}
		}
		n, err := source.link.Read(buf)
		if n == 0 && err != nil {
			patience := stalled // the other side may have something to say still
			if err != io.EOF || c.closing.Load() {
				patience = closeTime
			}
			c.half.Store(true)
			target.link.SetReadDeadline(time.Now().Add(patience))
			target.writing.Lock()
			target.finish()
			target.writing.Unlock()
			return
		}
		c.heard.Store(time.Now().UnixNano())
		data = buf[:n]
	}
}

// pass passes on what a side said next.
func (c *copying) pass(w *work, from int, data []byte) *breach {
	source, target := &c.ends[from], &c.ends[1-from]
	target.writing.Lock()
	defer target.writing.Unlock()
	for len(data) > 0 {
		target.link.SetWriteDeadline(time.Now().Add(stalled))
		if c.closing.Load() { // which has set another deadline
			return nil
		}
		out, rest, due, broken := source.says.pass(w, data)
		if due {
			if broken = source.says.inspector.judge(w); broken == nil {
				source.says.inspector.release(w)
				out = w.out
			}
		}
		target.write(out)
		if broken != nil {
			return broken
		}
		data = rest
	}
	return nil
}

// close ends both sides in good order: a close frame where it may stand, then the end of what is sent, and time to end by themselves.
func (c *copying) close(code int, reason string) {
	if c.closing.Swap(true) {
		return
	}
	c.end.Code = code
	until := time.Now().Add(closeTime)
	for i := range c.ends {
		c.ends[i].link.SetDeadline(until) // wakes who waits to write
	}
	for i := range c.ends {
		e, other := &c.ends[i], &c.ends[1-i]
		e.writing.Lock()
		if other.says.interrupts() {
			e.write(appendClose(nil, i, code, reason))
		}
		e.finish()
		e.writing.Unlock()
	}
}

// write sends all of p. A connection that fails shows it to its reader.
func (e *endpoint) write(p []byte) {
	if len(p) == 0 || e.shut {
		return
	}
	if _, err := e.link.Write(p); err != nil {
		e.shut = true
		e.link.SetReadDeadline(time.Unix(1, 0))
	}
}

// finish says that nothing follows.
func (e *endpoint) finish() {
	if e.shut {
		return
	}
	e.shut = true
	if half, ok := e.link.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		e.link.Close()
	}
}
