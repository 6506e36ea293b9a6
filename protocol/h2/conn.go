package h2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"
)

// Conn is a client's connection.
type Conn struct {
	link   net.Conn
	config Config
	handle func(*Stream)

	// Of the reading goroutine only.
	buf        []byte // buf[start:end] is read but not used yet
	start, end int
	frameBegan time.Time // when the first byte of a frame came that is not whole yet
	decoder    *hpack.Decoder
	target     *section // that decoded fields go to; nil: nowhere
	block      fieldBlock
	begun      bool // the client's first SETTINGS came

	handlers sync.WaitGroup

	mu      sync.Mutex
	now     time.Time // of the last read
	streams map[uint32]*Stream
	last    uint32    // the highest stream of the client's
	running int       // handlers
	quiet   time.Time // when the last stream ended
	readBy  time.Time // deadline in force
	err     error     // why the connection is over

	settingsBy time.Time // when the client has to have acknowledged our settings; zero: it has
	draining   drainState
	drainBegan time.Time

	out, spare []byte    // frames to write; the buffer that is being written, or the next
	writing    bool      // somebody writes
	written    sync.Cond // signalled after each write
	writeBy    time.Time // deadline in force
	waiting    []*Stream // that wait for room in out or for the connection's window

	encoder    encoder
	recvWindow int // what the client may send
	credited   int // of it, what was read since we last told
	sendWindow int
	sendStream int // initial window of streams that we send on

	dropped      dropped
	idle, resets budget
}

// fieldBlock is a field section of which CONTINUATION frames are still to come.
type fieldBlock struct {
	frame  frame // HEADERS that began it
	open   bool
	text   []byte
	frames int
	began  time.Time
	onSelf bool // the stream was said to depend on itself
}

type drainState uint8

const (
	serving  drainState = iota
	leaving             // the client was told; streams that it opens before it knows are served
	lastCall            // none is served any more
)

// smallBuffer is enough for most requests, and what an idle connection keeps.
const smallBuffer = 4 << 10

// drainTime is how long an idle client has to hear that the connection ends.
const drainTime = time.Second

// NewConn makes a Conn of a connection of which the bytes received were read already. The handler is called for each request, each time in a
// goroutine of its own; when it returns without having ended the answer, the stream is reset.
func NewConn(link net.Conn, received []byte, config *Config, handle func(*Stream)) *Conn {
	c := &Conn{link: link, config: config.WithDefaults(), handle: handle, streams: make(map[uint32]*Stream),
		recvWindow: initialWindow, sendWindow: initialWindow, sendStream: initialWindow,
		idle: newBudget(idleFrames, idlePerSecond), resets: newBudget(resets, resetsPerSecond)}
	c.buf = make([]byte, max(smallBuffer, len(received)))
	c.end = copy(c.buf, received)
	c.written.L = &c.mu
	c.encoder.init()
	c.decoder = hpack.NewDecoder(maxTable, c.decoded)
	c.appendSettings() // here, since GoAway may come before Serve
	return c
}

// Serve serves the connection until it ends, and closes it. It returns when all handlers have. The error is nil when either side ended the
// connection in peace, a *ConnError when the client broke a rule.
func (c *Conn) Serve() error {
	c.mu.Lock()
	c.now = time.Now()
	c.quiet = c.now
	c.settingsBy = c.now.Add(c.config.SettingsTimeout)
	c.mu.Unlock()
	err := c.read()
	var broken *ConnError
	if !errors.As(err, &broken) {
		broken = nil
	}
	c.finish(err, broken)
	c.handlers.Wait()
	c.link.Close()
	if broken != nil {
		return broken
	}
	if errors.Is(err, io.EOF) || errors.Is(err, errOver) {
		return nil
	}
	return err
}

// appendSettings is our connection preface (RFC 9113 §3.4).
func (c *Conn) appendSettings() {
	settings := appendSetting(nil, settingMaxConcurrentStreams, uint32(c.config.MaxStreams))
	settings = appendSetting(settings, settingMaxHeaderListSize, uint32(c.config.MaxHead))
	if c.config.StreamWindow != initialWindow {
		settings = appendSetting(settings, settingInitialWindowSize, uint32(c.config.StreamWindow))
	}
	c.out = appendFrame(c.out, len(settings), frameSettings, 0, 0)
	c.out = append(c.out, settings...)
	if more := c.config.ConnWindow - initialWindow; more > 0 {
		c.out = appendWindowUpdate(c.out, 0, more)
		c.recvWindow += more
	}
}

// errOver ends a connection that nobody uses any more.
var errOver = errors.New("h2: the connection is not used any more")

// finish tells the client why, and ends what still goes on.
func (c *Conn) finish(err error, broken *ConnError) {
	c.mu.Lock()
	if c.err == nil {
		code, reason := NoError, ""
		if broken != nil {
			code, reason = broken.Code, broken.Reason
			if c.config.Malformed != nil {
				c.config.Malformed(reason)
			}
		}
		if broken != nil || errors.Is(err, errOver) {
			c.out = appendGoAway(c.out, c.last, code, reason)
		}
		c.fail(ErrConnClosed)
	}
	for c.writing { // what is being written may be the last answer
		c.written.Wait()
	}
	c.writeBy = time.Now().Add(time.Hour) // stays as it is set here
	c.link.SetWriteDeadline(time.Now().Add(drainTime))
	c.flush()
	c.mu.Unlock()
	if broken != nil {
		c.linger()
	}
	c.link.SetDeadline(longAgo)
}

// linger lets the client read our GOAWAY: closing with bytes unread would reset the connection.
func (c *Conn) linger() {
	type halfCloser interface{ CloseWrite() error }
	if half, ok := c.link.(halfCloser); !ok || half.CloseWrite() != nil {
		return
	}
	c.link.SetReadDeadline(time.Now().Add(drainTime))
	for total := 0; total < 1<<20; {
		n, err := c.link.Read(c.buf)
		if err != nil {
			return
		}
		total += n
	}
}

// fail ends all streams. c.mu is held.
func (c *Conn) fail(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	for _, s := range c.streams {
		s.fail(err)
	}
	clear(c.streams)
	c.wakeWaiting()
}

// GoAway lets the streams under way end, and those that the client opens before it knows, and then the connection (RFC 9113 §6.8). It does
// not wait.
func (c *Conn) GoAway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining != serving || c.err != nil {
		return
	}
	c.draining, c.drainBegan = leaving, time.Now()
	c.out = appendGoAway(c.out, maxStream, NoError, "")
	c.out = appendFrame(c.out, len(drainPing), framePing, 0, 0)
	c.out = append(c.out, drainPing...)
	c.flushApart()
	if len(c.streams) == 0 {
		c.endReadBy(c.drainBegan.Add(drainTime))
	}
}

// endReadBy moves the deadline of a read that goes on. c.mu is held.
func (c *Conn) endReadBy(by time.Time) {
	c.readBy = by
	c.link.SetReadDeadline(by)
}

// drainPing comes back when the client knows that the connection ends.
var drainPing = []byte("fieldend")

// Close cuts the connection.
func (c *Conn) Close() {
	c.mu.Lock()
	c.fail(ErrConnClosed)
	c.mu.Unlock()
	c.link.Close()
}

// read handles frame after frame.
func (c *Conn) read() error {
	if err := c.need(len(Preface)); err != nil {
		return err
	}
	if string(c.buf[c.start:][:len(Preface)]) != Preface {
		return connError(ProtocolError, "no connection preface")
	}
	c.start += len(Preface)
	for {
		if err := c.need(frameHeader); err != nil {
			return err
		}
		f := parseFrame(c.buf[c.start:])
		if f.length > maxFrame {
			return connError(FrameSizeError, "frame too large") // RFC 9113 §4.2
		}
		if err := c.need(frameHeader + f.length); err != nil {
			return err
		}
		payload := c.buf[c.start+frameHeader:][:f.length]
		c.start += frameHeader + f.length
		c.frameBegan = time.Time{}
		if err := c.frame(f, payload); err != nil {
			return err
		}
	}
}

// need reads until n bytes are buffered. What was to be written meanwhile is written first.
func (c *Conn) need(n int) error {
	for c.end-c.start < n {
		c.makeRoom(n)
		if err := c.beforeRead(); err != nil {
			return err
		}
		n, err := c.link.Read(c.buf[c.end:])
		now := time.Now()
		c.mu.Lock()
		c.now = now
		late := !c.settingsBy.IsZero() && now.After(c.settingsBy)
		c.mu.Unlock()
		if late {
			return connError(SettingsTimeout, "settings not acknowledged in time") // RFC 9113 §6.5.3
		}
		if n > 0 {
			c.end += n
			continue
		}
		if err == nil {
			return io.ErrNoProgress
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			if err == io.EOF && (c.end > c.start || c.block.open) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
		if err := c.late(now); err != nil {
			return err
		}
	}
	return nil
}

// makeRoom sees to it that n bytes fit. A buffer that one large frame needed is given up when the connection is idle.
func (c *Conn) makeRoom(n int) {
	if c.start == c.end {
		c.start, c.end = 0, 0
		if len(c.buf) > smallBuffer && n <= smallBuffer && c.openStreams() == 0 {
			c.buf = make([]byte, smallBuffer)
		}
	}
	switch {
	case c.end < len(c.buf) && c.start+n <= len(c.buf):
	case n <= len(c.buf) && c.start > 0:
		c.end = copy(c.buf, c.buf[c.start:c.end])
		c.start = 0
	default:
		larger := make([]byte, frameHeader+maxFrame+smallBuffer)
		c.end = copy(larger, c.buf[c.start:c.end])
		c.buf, c.start = larger, 0
	}
}

func (c *Conn) openStreams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// beforeRead writes what frames of the client brought about, and sets the deadline of the next read.
func (c *Conn) beforeRead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushApart()
	for len(c.out) > maxQueued && c.err == nil { // the client does not read: nor do we
		c.written.Wait()
	}
	if c.err != nil {
		return c.err
	}
	if c.end > c.start && c.frameBegan.IsZero() {
		c.frameBegan = c.now
	}
	by := c.deadline()
	// A deadline at most an eighth late need not be set anew for each read.
	if slack := by.Sub(c.now) / 8; c.readBy.Before(by) || c.readBy.After(by.Add(slack)) {
		c.endReadBy(by.Add(slack))
	}
	return nil
}

// deadline is when the read that comes has to have brought something. c.mu is held.
func (c *Conn) deadline() time.Time {
	by := c.now.Add(c.config.IdleTimeout)
	if len(c.streams) == 0 {
		by = c.quiet.Add(c.config.IdleTimeout)
	}
	earlier := func(t time.Time) {
		if t.Before(by) {
			by = t
		}
	}
	switch {
	case c.block.open:
		earlier(c.block.began.Add(c.config.HeadTimeout))
	case !c.begun:
		earlier(c.quiet.Add(c.config.HeadTimeout))
	case !c.frameBegan.IsZero():
		earlier(c.frameBegan.Add(c.config.FrameTimeout))
	}
	if !c.settingsBy.IsZero() {
		earlier(c.settingsBy)
	}
	if c.draining != serving && len(c.streams) == 0 {
		earlier(c.drainBegan.Add(drainTime))
	}
	return by
}

// late says what becomes of the connection when nothing came in time.
func (c *Conn) late(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readBy = time.Time{}
	switch {
	case c.err != nil:
		return c.err
	case c.block.open && now.After(c.block.began.Add(c.config.HeadTimeout)):
		return connError(EnhanceYourCalm, "field section not received in time")
	case !c.begun && now.After(c.quiet.Add(c.config.HeadTimeout)):
		return errOver
	case !c.frameBegan.IsZero() && now.After(c.frameBegan.Add(c.config.FrameTimeout)):
		return connError(EnhanceYourCalm, "frame not received in time")
	case len(c.streams) > 0:
		return nil
	case c.draining == lastCall, c.draining == leaving && now.After(c.drainBegan.Add(drainTime)):
		return errOver
	case now.After(c.quiet.Add(c.config.IdleTimeout)):
		return errOver
	}
	return nil
}

// frame handles one frame (RFC 9113 §6).
func (c *Conn) frame(f frame, payload []byte) error {
	if !c.begun && (f.kind != frameSettings || f.has(flagAck)) {
		return connError(ProtocolError, "the first frame is not SETTINGS") // RFC 9113 §3.4
	}
	if c.block.open && (f.kind != frameContinuation || f.stream != c.block.frame.stream) {
		return connError(ProtocolError, "field section interrupted") // RFC 9113 §4.3
	}
	switch f.kind {
	case frameHeaders:
		return c.headers(f, payload)
	case frameContinuation:
		return c.continuation(f, payload)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f.kind {
	case frameData:
		return c.data(f, payload)
	case framePriority:
		return c.priority(f, payload)
	case frameReset:
		return c.resetByClient(f, payload)
	case frameSettings:
		return c.settings(f, payload)
	case framePushPromise:
		return connError(ProtocolError, "PUSH_PROMISE from a client") // RFC 9113 §8.4
	case framePing:
		return c.ping(f, payload)
	case frameGoAway:
		if f.stream != 0 {
			return connError(ProtocolError, "GOAWAY on a stream")
		}
		if f.length < 8 {
			return connError(FrameSizeError, "GOAWAY of the wrong size")
		}
		return c.drawIdle() // its streams end, and so does the connection
	case frameWindowUpdate:
		return c.windowUpdate(f, payload)
	}
	return c.drawIdle() // RFC 9113 §4.1: unknown frames are ignored
}

// priority checks what is otherwise ignored (RFC 9113 §5.3.2, §6.3).
func (c *Conn) priority(f frame, payload []byte) error {
	switch {
	case f.stream == 0:
		return connError(ProtocolError, "PRIORITY without a stream")
	case f.length != 5:
		return c.streamError(f.stream, FrameSizeError)
	case binary.BigEndian.Uint32(payload)&maxStream == f.stream: // RFC 7540 §5.3.1
		return c.streamError(f.stream, ProtocolError)
	}
	return c.drawIdle()
}

// resetByClient is RST_STREAM (RFC 9113 §6.4).
func (c *Conn) resetByClient(f frame, payload []byte) error {
	switch {
	case f.stream == 0:
		return connError(ProtocolError, "RST_STREAM without a stream")
	case f.length != 4:
		return connError(FrameSizeError, "RST_STREAM of the wrong size")
	case f.stream > c.last || f.stream&1 == 0:
		return connError(ProtocolError, "RST_STREAM of an idle stream")
	}
	s := c.streams[f.stream]
	if s == nil {
		return c.drawIdle()
	}
	answered := s.localEnd
	s.fail(&ResetError{ErrorCode(binary.BigEndian.Uint32(payload))})
	c.forget(s)
	if answered {
		return c.drawIdle()
	}
	return c.drawReset()
}

// settings is SETTINGS (RFC 9113 §6.5).
func (c *Conn) settings(f frame, payload []byte) error {
	switch {
	case f.stream != 0:
		return connError(ProtocolError, "SETTINGS on a stream")
	case f.has(flagAck):
		if f.length != 0 {
			return connError(FrameSizeError, "SETTINGS acknowledgement with content")
		}
		c.settingsBy = time.Time{}
		return c.drawIdle()
	case f.length%6 != 0:
		return connError(FrameSizeError, "SETTINGS of the wrong size")
	}
	if f.length > 6*maxSettings {
		return connError(EnhanceYourCalm, "too many settings at once")
	}
	c.begun = true
	for ; len(payload) > 0; payload = payload[6:] {
		if err := c.setting(binary.BigEndian.Uint16(payload), binary.BigEndian.Uint32(payload[2:])); err != nil {
			return err
		}
	}
	c.out = appendFrame(c.out, 0, frameSettings, flagAck, 0)
	return c.drawIdle()
}

// setting is one of the client's settings (RFC 9113 §6.5.2). Those that are unknown are ignored.
func (c *Conn) setting(id uint16, value uint32) error {
	switch id {
	case settingHeaderTableSize:
		c.encoder.setLimit(value)
	case settingEnablePush:
		if value > 1 {
			return connError(ProtocolError, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
		}
	case settingInitialWindowSize:
		if value > maxWindow {
			return connError(FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE too large")
		}
		return c.moveWindows(int(value))
	case settingMaxFrameSize: // at least what we send at most
		if value < maxFrame || value > 1<<24-1 {
			return connError(ProtocolError, "SETTINGS_MAX_FRAME_SIZE out of range")
		}
	}
	return nil
}

// ping is PING (RFC 9113 §6.7).
func (c *Conn) ping(f frame, payload []byte) error {
	switch {
	case f.stream != 0:
		return connError(ProtocolError, "PING on a stream")
	case f.length != 8:
		return connError(FrameSizeError, "PING of the wrong size")
	case !f.has(flagAck):
		c.out = appendFrame(c.out, 8, framePing, flagAck, 0)
		c.out = append(c.out, payload...)
	case c.draining == leaving && bytes.Equal(payload, drainPing):
		c.draining = lastCall
		if len(c.streams) == 0 {
			return errOver
		}
		c.out = appendGoAway(c.out, c.last, NoError, "")
	}
	return c.drawIdle()
}
