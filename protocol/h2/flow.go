package h2

import "encoding/binary"

// data is DATA (RFC 9113 §6.1). c.mu is held, as in all of this file.
func (c *Conn) data(f frame, payload []byte) error {
	if f.stream == 0 || f.stream&1 == 0 || f.stream > c.last {
		return connError(ProtocolError, "DATA on an idle stream") // RFC 9113 §5.1
	}
	content, broken := f.unpad(payload)
	if broken != nil {
		return broken
	}
	// RFC 9113 §6.9: all of the payload counts, padding too, and whatever becomes of the stream.
	if c.recvWindow -= f.length; c.recvWindow < 0 {
		return connError(FlowControlError, "more content than the connection's window allows")
	}
	s := c.streams[f.stream]
	if s == nil || s.remoteEnd {
		c.credit(f.length)
		if c.dropped.has(f.stream) {
			return c.drawIdle()
		}
		return c.streamError(f.stream, StreamClosed)
	}
	if s.recvWindow -= f.length; s.recvWindow < 0 {
		c.credit(f.length)
		return c.streamError(f.stream, FlowControlError)
	}
	if padding := f.length - len(content); padding > 0 {
		c.credit(padding)
		s.credit(padding)
	}
	if s.left >= 0 {
		if s.left -= int64(len(content)); s.left < 0 || s.left > 0 && f.has(flagEndStream) {
			c.credit(len(content))
			return c.streamError(f.stream, ProtocolError) // RFC 9113 §8.1.1
		}
	}
	s.received(content)
	if f.has(flagEndStream) {
		s.endRemote()
		return nil
	}
	if len(content) == 0 {
		return c.drawIdle()
	}
	c.idle.refund(idleRefund)
	return nil
}

// credit notes that n bytes of the connection's window are free again, and tells the client when it is worth a frame.
func (c *Conn) credit(n int) {
	if c.credited += n; c.credited >= c.config.ConnWindow/4 {
		c.out = appendWindowUpdate(c.out, 0, c.credited)
		c.recvWindow += c.credited
		c.credited = 0
	}
}

// credit does it for the stream. One that is read as fast as it comes gets a larger window.
func (s *Stream) credit(n int) {
	if s.credited += n; s.credited < s.recvMost/2 || s.remoteEnd || s.err != nil {
		return
	}
	more := max(min(s.recvMost, s.conn.config.MaxStreamWindow-s.recvMost), 0)
	s.recvMost += more
	more += s.credited
	s.conn.out = appendWindowUpdate(s.conn.out, s.id, more)
	s.recvWindow += more
	s.credited = 0
}

// windowUpdate is WINDOW_UPDATE (RFC 9113 §6.9).
func (c *Conn) windowUpdate(f frame, payload []byte) error {
	if f.length != 4 {
		return connError(FrameSizeError, "WINDOW_UPDATE of the wrong size")
	}
	increment := int(binary.BigEndian.Uint32(payload) & maxWindow)
	if f.stream == 0 {
		if increment == 0 {
			return connError(ProtocolError, "WINDOW_UPDATE of nothing")
		}
		if c.sendWindow += increment; c.sendWindow > maxWindow {
			return connError(FlowControlError, "window larger than allowed") // RFC 9113 §6.9.1
		}
		c.wakeWaiting()
		return c.drawIdle()
	}
	if f.stream&1 == 0 || f.stream > c.last {
		return connError(ProtocolError, "WINDOW_UPDATE of an idle stream")
	}
	s := c.streams[f.stream]
	if s == nil { // RFC 9113 §5.1: it may cross the end of the stream
		return c.drawIdle()
	}
	if increment == 0 {
		return c.streamError(f.stream, ProtocolError)
	}
	if s.sendWindow += increment; s.sendWindow > maxWindow {
		return c.streamError(f.stream, FlowControlError)
	}
	s.writing.signal()
	return c.drawIdle()
}

// moveWindows carries out SETTINGS_INITIAL_WINDOW_SIZE, which may make windows negative (RFC 9113 §6.9.2).
func (c *Conn) moveWindows(initial int) error {
	change := initial - c.sendStream
	c.sendStream = initial
	for _, s := range c.streams {
		if s.sendWindow += change; s.sendWindow > maxWindow {
			return connError(FlowControlError, "window larger than allowed")
		}
		s.writing.signal()
	}
	return nil
}
