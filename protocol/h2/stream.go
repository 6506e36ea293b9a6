package h2

import (
	"io"
	"os"
	"sync"
	"time"
)

// Stream is one request with its answer. One goroutine may read while another one writes.
type Stream struct {
	Head
	conn    *Conn
	id      uint32
	section section

	// All that follows is guarded by conn.mu.
	in         []byte // in[at:] came and was not read yet
	at         int
	left       int64 // of the announced content; -1: not announced
	recvWindow int   // what the client may send
	recvMost   int   // how large that may be at most, at present
	credited   int   // what was read since the client was last told
	sendWindow int
	remoteEnd  bool // the client has sent all
	localEnd   bool // so have we
	trailers   []Field
	err        error // why the stream ended before its time
	waiting    bool  // is in conn.waiting

	reading, writing turn
	broken           func() // called once when the client resets the stream or the connection breaks
}

// turn is where one goroutine waits for its stream.
type turn struct {
	wake     chan struct{} // holds one token
	deadline time.Time
	timer    *time.Timer
}

func (t *turn) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

var streams = sync.Pool{New: func() any {
	return &Stream{reading: turn{wake: make(chan struct{}, 1)}, writing: turn{wake: make(chan struct{}, 1)}}
}}

func newStream(c *Conn, id uint32) *Stream {
	s := streams.Get().(*Stream)
	s.conn, s.id = c, id
	s.recvWindow, s.recvMost = c.config.StreamWindow, c.config.StreamWindow
	return s
}

// recycle gives the Stream's memory to another one. Nobody knows it any more.
func (s *Stream) recycle() {
	s.Head, s.broken, s.conn, s.trailers, s.err = Head{}, nil, nil, nil, nil
	s.at, s.left, s.credited, s.remoteEnd, s.localEnd, s.waiting = 0, 0, 0, false, false, false
	if s.in = s.in[:0]; cap(s.in) > keepOut {
		s.in = nil
	}
	if cap(s.section.text) > keepOut {
		s.section = section{}
	}
	for _, t := range [...]*turn{&s.reading, &s.writing} {
		t.deadline = time.Time{}
		select {
		case <-t.wake:
		default:
		}
	}
	streams.Put(s)
}

// run is the goroutine of a stream.
func (c *Conn) run(s *Stream) {
	defer c.handlers.Done()
	defer c.ended(s)
	c.handle(s)
}

// ended settles what becomes of a stream whose handler has returned.
func (c *Conn) ended(s *Stream) {
	c.mu.Lock()
	c.running--
	if unread := len(s.in) - s.at; unread > 0 { // RFC 9113 §6.9: or the connection would lose it for good
		s.in, s.at = s.in[:0], 0
		c.credit(unread)
		c.flushApart()
	}
	switch {
	case s.err != nil:
	case s.localEnd && s.remoteEnd:
		c.resets.refund(1)
	default:
		code := InternalError // the answer must not be taken for a whole one
		if s.localEnd {
			code = NoError // RFC 9113 §8.1: what is left of the request is not wanted
		}
		s.err = ErrClosed
		c.forget(s)
		c.reset(s.id, code)
		c.flush()
	}
	c.mu.Unlock()
	s.recycle()
}

// fail ends the stream before its time. conn.mu is held.
func (s *Stream) fail(err error) {
	if s.err != nil || s.localEnd && s.remoteEnd {
		return
	}
	s.err = err
	s.reading.signal()
	s.writing.signal()
	if s.broken != nil {
		s.broken()
		s.broken = nil
	}
}

// OnBroken sets what is called once when the client resets the stream or the connection breaks before both sides have ended. It is
// called at once when that has happened already. It must not block and must not use the Stream.
func (s *Stream) OnBroken(broken func()) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.err != nil && broken != nil {
		broken()
		return
	}
	s.broken = broken
}

// received takes content. conn.mu is held.
func (s *Stream) received(content []byte) {
	if s.at > 0 && len(s.in)+len(content) > cap(s.in) {
		s.in = s.in[:copy(s.in, s.in[s.at:])]
		s.at = 0
	}
	s.in = append(s.in, content...)
	s.reading.signal()
}

// endRemote notes that the client has sent all. conn.mu is held.
func (s *Stream) endRemote() {
	s.remoteEnd = true
	s.reading.signal()
	if s.localEnd {
		s.conn.forget(s)
	}
}

// Read reads the request's content. io.EOF is its clean end; a client that resets the stream is an error.
func (s *Stream) Read(p []byte) (int, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case s.err != nil:
			return 0, s.err
		case s.at < len(s.in):
			n := copy(p, s.in[s.at:])
			if s.at += n; s.at == len(s.in) {
				s.in, s.at = s.in[:0], 0
			}
			c.credit(n)
			s.credit(n)
			c.flushApart()
			return n, nil
		case s.remoteEnd:
			return 0, io.EOF
		}
		if err := s.wait(&s.reading); err != nil {
			return 0, err
		}
	}
}

// Trailers are the fields behind the request's content, after Read returned io.EOF; nil: none.
func (s *Stream) Trailers() []Field {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.trailers
}

// Send sends the head of the answer, if status is not 0, and content behind it; end says that nothing follows. It waits for the
// client's windows, until the deadline for writing. Statuses below 200 are interim responses, which may come before the head. Fields must not
// be those of an HTTP/1.1 connection (RFC 9113 §8.2.2); their names may have capitals.
func (s *Stream) Send(status int, fields []Field, content []byte, end bool) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.sendable(); err != nil {
		return err
	}
	if status > 0 {
		whole := end && len(content) == 0
		c.appendSection(s.id, status, fields, whole)
		if whole {
			s.endLocal()
		}
	} else if end && len(content) == 0 {
		c.out = appendFrame(c.out, 0, frameData, flagEndStream, s.id)
		s.endLocal()
	}
	for len(content) > 0 {
		room := min(len(content), maxFrame, s.sendWindow, c.sendWindow)
		if room <= 0 || len(c.out) >= maxOut {
			if s.sendWindow > 0 && !s.waiting {
				s.waiting = true
				c.waiting = append(c.waiting, s)
			}
			c.flush()
			if err := s.wait(&s.writing); err != nil {
				return err
			}
			if err := s.sendable(); err != nil {
				return err
			}
			continue
		}
		flags := byte(0)
		if end && room == len(content) {
			flags = flagEndStream
		}
		c.out = append(appendFrame(c.out, room, frameData, flags, s.id), content[:room]...)
		content = content[room:]
		s.sendWindow -= room
		c.sendWindow -= room
		c.idle.refund(idleRefund)
		if flags != 0 {
			s.endLocal()
		}
	}
	c.flush()
	return nil
}

// SendTrailers ends the answer with fields behind its content.
func (s *Stream) SendTrailers(fields []Field) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.sendable(); err != nil {
		return err
	}
	c.appendSection(s.id, 0, fields, true)
	s.endLocal()
	c.flush()
	return nil
}

func (s *Stream) sendable() error {
	switch {
	case s.err != nil:
		return s.err
	case s.localEnd:
		return ErrClosed
	}
	return nil
}

func (s *Stream) endLocal() {
	s.localEnd = true
	if s.remoteEnd {
		s.conn.forget(s)
	}
}

// Reset ends the stream so that its client cannot take what it got for a whole answer.
func (s *Stream) Reset(code ErrorCode) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.err != nil || s.localEnd && s.remoteEnd {
		return
	}
	s.broken = nil
	s.fail(ErrClosed)
	c.forget(s)
	c.reset(s.id, code)
	c.flush()
}

// SetReadDeadline and SetWriteDeadline are as those of net.Conn, for the stream alone.
func (s *Stream) SetReadDeadline(t time.Time) { s.setDeadline(&s.reading, t) }

// SetWriteDeadline bounds how long Send may wait for the client.
func (s *Stream) SetWriteDeadline(t time.Time) { s.setDeadline(&s.writing, t) }

func (s *Stream) setDeadline(of *turn, t time.Time) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	of.deadline = t
	of.signal()
}

// wait waits for something to happen to the stream. conn.mu is held, and let go meanwhile.
func (s *Stream) wait(t *turn) error {
	c := s.conn
	if t.deadline.IsZero() {
		c.mu.Unlock()
		<-t.wake
		c.mu.Lock()
		return nil
	}
	left := time.Until(t.deadline)
	if left <= 0 {
		return os.ErrDeadlineExceeded
	}
	if t.timer == nil {
		t.timer = time.NewTimer(left)
	} else {
		t.timer.Reset(left)
	}
	c.mu.Unlock()
	select {
	case <-t.wake:
	case <-t.timer.C:
	}
	t.timer.Stop()
	c.mu.Lock()
	return nil
}
