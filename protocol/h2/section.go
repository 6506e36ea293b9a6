package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2/hpack"
)

// headers is HEADERS (RFC 9113 §6.2).
func (c *Conn) headers(f frame, payload []byte) error {
	if f.stream&1 == 0 { // RFC 9113 §5.1.1; 0 is no stream
		return connError(ProtocolError, "HEADERS on a stream that no client can open")
	}
	text, broken := f.unpad(payload)
	if broken != nil {
		return broken
	}
	onSelf := false
	if f.has(flagPriority) {
		if len(text) < 5 {
			return connError(FrameSizeError, "HEADERS of the wrong size")
		}
		onSelf = binary.BigEndian.Uint32(text)&maxStream == f.stream // RFC 7540 §5.3.1
		text = text[5:]
	}
	if len(text) > c.maxBlock() {
		return errBlock
	}
	b := &c.block
	b.frame, b.onSelf = f, onSelf
	if f.has(flagEndHeaders) {
		return c.section(text)
	}
	b.open, b.frames, b.began = true, 0, c.now
	b.text = append(b.text[:0], text...)
	return nil
}

var errBlock = connError(EnhanceYourCalm, "field section too large")

// maxBlock bounds a compressed field section. One that is longer than its fields is coded to waste.
func (c *Conn) maxBlock() int { return 2 * c.config.MaxHead }

// continuation is CONTINUATION (RFC 9113 §6.10).
func (c *Conn) continuation(f frame, payload []byte) error {
	b := &c.block
	if !b.open {
		return connError(ProtocolError, "CONTINUATION without HEADERS")
	}
	if b.frames++; b.frames > maxContinuations || len(b.text)+len(payload) > c.maxBlock() {
		return errBlock
	}
	b.text = append(b.text, payload...)
	if !f.has(flagEndHeaders) {
		return nil
	}
	b.open = false
	err := c.section(b.text)
	if cap(b.text) > smallBuffer {
		b.text = nil
	}
	return err
}

// section handles a whole field section: it opens a stream, or is the trailers of one. Whatever becomes of it, it is
// decompressed, since the state of compression is that of the connection (RFC 9113 §4.3).
func (c *Conn) section(text []byte) error {
	f := c.block.frame
	c.mu.Lock()
	s := c.streams[f.stream]
	fresh := f.stream > c.last
	if fresh {
		c.last = f.stream
	}
	ignored := fresh && (c.draining == lastCall || c.err != nil)
	full := len(c.streams) >= c.config.MaxStreams || c.running >= c.config.MaxStreams
	c.mu.Unlock()

	switch {
	case s != nil:
		return c.trailers(s, text)
	case ignored: // RFC 9113 §6.8: the client knows that it is not served
		return c.passOver(text)
	case !fresh && c.dropped.has(f.stream): // RFC 9113 §5.1: the client could not know
		return c.passOver(text)
	case !fresh:
		return connError(StreamClosed, "HEADERS on a closed stream") // RFC 9113 §5.1, §5.1.1
	case c.block.onSelf:
		return c.refuse(text, ProtocolError)
	case full: // RFC 9113 §5.1.2
		return c.refuse(text, RefusedStream)
	}
	s = newStream(c, f.stream)
	if err := c.decode(&s.section, text); err != nil {
		return err
	}
	reason := s.section.head(&s.Head)
	if reason == "" && f.has(flagEndStream) && s.ContentLength > 0 {
		reason = "content shorter than announced" // RFC 9113 §8.1.1
	}
	if reason != "" {
		s.recycle()
		if c.config.Malformed != nil {
			c.config.Malformed(reason)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.streamError(f.stream, ProtocolError)
	}
	s.left, s.remoteEnd, s.Empty = s.ContentLength, f.has(flagEndStream), f.has(flagEndStream)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return c.err
	}
	s.sendWindow = c.sendStream
	c.streams[s.id] = s
	c.running++
	c.mu.Unlock()
	c.handlers.Add(1)
	go c.run(s)
	return nil
}

// decode decompresses a field section into target; nil: nowhere.
func (c *Conn) decode(target *section, text []byte) error {
	c.target = target
	if target != nil {
		target.reset(false)
	}
	return c.decompress(text)
}

func (c *Conn) decompress(text []byte) error {
	_, err := c.decoder.Write(text)
	if err == nil {
		err = c.decoder.Close()
	}
	if err != nil {
		return connError(CompressionError, "field section that cannot be decompressed")
	}
	return nil
}

// decoded takes one field from the decoder.
func (c *Conn) decoded(f hpack.HeaderField) {
	if c.target != nil {
		c.target.add(f, c.config.MaxHead, c.config.MaxFields)
	}
}

// refuse answers a field section that opens no stream.
func (c *Conn) refuse(text []byte, code ErrorCode) error {
	if err := c.decode(nil, text); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streamError(c.block.frame.stream, code)
}

// passOver decompresses a field section of a stream that was reset.
func (c *Conn) passOver(text []byte) error {
	if err := c.decode(nil, text); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drawIdle()
}

// trailers ends the content of a stream (RFC 9113 §8.1).
func (c *Conn) trailers(s *Stream, text []byte) error {
	var trailers section
	trailers.reset(true)
	c.target = &trailers
	if err := c.decompress(text); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.streams[c.block.frame.stream] == s:
	case c.dropped.has(c.block.frame.stream): // it was reset meanwhile, and may be another connection's now
		return nil
	default:
		return connError(StreamClosed, "HEADERS on a closed stream")
	}
	switch {
	case s.remoteEnd:
		return c.streamError(s.id, StreamClosed)
	case c.block.onSelf, !c.block.frame.has(flagEndStream), trailers.malformed != "", s.left > 0:
		return c.streamError(s.id, ProtocolError)
	case trailers.tooLarge:
		return c.streamError(s.id, EnhanceYourCalm)
	}
	s.trailers = trailers.list()
	s.endRemote()
	return nil
}
