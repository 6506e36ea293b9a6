package h2

import (
	"runtime"
	"slices"
	"time"
)

// flush writes what waits in out, unless somebody else does already. c.mu is held, and let go meanwhile.
func (c *Conn) flush() {
	if c.writing || len(c.out) == 0 {
		return
	}
	c.writing = true
	c.mu.Unlock()
	runtime.Gosched() // streams whose answers are there add them, so that one system call serves all
	c.mu.Lock()
	c.writeOut()
	if len(c.out) > 0 && c.err == nil { // others go on adding: their exchanges are not this one's business
		go c.writeOn()
		return
	}
	c.writing = false
	c.written.Broadcast()
}

// flushApart does the same without making the caller wait for the client.
func (c *Conn) flushApart() {
	if c.writing || len(c.out) == 0 {
		return
	}
	c.writing = true
	go c.writeOn()
}

func (c *Conn) writeOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 0 && c.writeOut() {
	}
	c.writing = false
	c.written.Broadcast()
}

// writeOut writes all that out holds once.
func (c *Conn) writeOut() bool {
	out := c.out
	c.out = c.spare[:0]
	if now := time.Now(); c.writeBy.Before(now.Add(c.config.WriteTimeout)) {
		c.writeBy = now.Add(c.config.WriteTimeout + c.config.WriteTimeout/8)
		c.link.SetWriteDeadline(c.writeBy)
	}
	c.mu.Unlock()
	_, err := c.link.Write(out)
	c.mu.Lock()
	c.spare = out[:0]
	if cap(out) > keepOut {
		c.spare = nil
	}
	if err != nil {
		c.fail(ErrConnClosed)
		c.out = c.out[:0]
		c.endReadBy(longAgo)
	}
	c.wakeWaiting()
	c.written.Broadcast()
	return err == nil
}

// longAgo is a deadline that ends a read at once.
var longAgo = time.Unix(1, 0)

// keepOut is what a buffer may have to be used again: idle connections are most of all.
const keepOut = 16 << 10

// wakeWaiting lets streams that wait for the connection look again.
func (c *Conn) wakeWaiting() {
	for i, s := range c.waiting {
		s.waiting = false
		s.writing.signal()
		c.waiting[i] = nil
	}
	c.waiting = c.waiting[:0]
}

// streamError resets a stream whose client broke a rule, or which is not there (RFC 9113 §5.4.2).
func (c *Conn) streamError(id uint32, code ErrorCode) error {
	if s := c.streams[id]; s != nil {
		s.fail(&StreamError{code, "the client broke a rule of HTTP/2"})
		c.forget(s)
	}
	c.reset(id, code)
	return c.drawReset()
}

// reset tells the client that a stream has ended before its time.
func (c *Conn) reset(id uint32, code ErrorCode) {
	c.out = appendReset(c.out, id, code)
	c.dropped.add(id)
}

// dropped are the streams that we reset last: frames that the client sent before it knew are ignored (RFC 9113 §5.1).
type dropped struct {
	ids  [32]uint32
	next int
}

func (d *dropped) add(id uint32) {
	d.ids[d.next] = id
	d.next = (d.next + 1) % len(d.ids)
}

func (d *dropped) has(id uint32) bool { return slices.Contains(d.ids[:], id) }

// forget takes a stream off the table: it is closed.
func (c *Conn) forget(s *Stream) {
	if c.streams[s.id] != s {
		return
	}
	delete(c.streams, s.id)
	if unread := len(s.in) - s.at; unread > 0 && s.err != nil {
		c.credit(unread)
		s.in, s.at = s.in[:0], 0
	}
	if len(c.streams) == 0 {
		c.quiet = time.Now()
		switch c.draining {
		case leaving:
			c.endReadBy(c.drainBegan.Add(drainTime))
		case lastCall:
			c.endReadBy(longAgo)
		}
	}
}

// appendSection appends HEADERS, and CONTINUATION where they are long (RFC 9113 §4.3). status 0: trailers.
func (c *Conn) appendSection(id uint32, status int, fields []Field, end bool) {
	at := len(c.out)
	flags := byte(flagEndHeaders)
	if end {
		flags |= flagEndStream
	}
	c.out = appendFrame(c.out, 0, frameHeaders, flags, id)
	start := len(c.out)
	c.out = c.encoder.begin(c.out)
	if status > 0 {
		c.out = c.encoder.status(c.out, status)
	}
	for i := range fields {
		c.out = c.encoder.field(c.out, fields[i].Name, fields[i].Value)
	}
	if length := len(c.out) - start; length <= maxFrame {
		c.out[at], c.out[at+1], c.out[at+2] = byte(length>>16), byte(length>>8), byte(length)
		return
	}
	text := append([]byte(nil), c.out[start:]...)
	c.out = c.out[:at]
	for kind := frameHeaders; len(text) > 0; kind = frameContinuation {
		piece := text[:min(len(text), maxFrame)]
		text = text[len(piece):]
		flags &^= flagEndHeaders
		if len(text) == 0 {
			flags |= flagEndHeaders
		}
		c.out = append(appendFrame(c.out, len(piece), kind, flags, id), piece...)
		flags = 0
	}
}
