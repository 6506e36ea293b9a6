// Package websocket takes apart and makes the frames of WebSockets whose binary messages carry another protocol (RFC 6455).
package websocket

import (
	"crypto/rand"
	"io"
	"net"
	"sync"
	"time"

	"fieldgate/protocol/h1"
)

// Conn is a WebSocket whose opening handshake is done, for whoever reads by Receive and writes by Send. It has no buffer: frames are
// taken apart in the memory that is read into.
type Conn struct {
	net.Conn
	client bool   // we are: what we send is masked
	limit  int64  // bytes of a message
	early  []byte // what came with the opening handshake

	head    [h1.MaxFrameHead]byte // of the frame under way, as far as it has come
	have    uint8                 // bytes of head; 0 once it is whole
	within  bool                  // a message has begun and not ended
	frame   h1.FrameHead          // whose payload is under way; the mask is turned to where it goes on
	left    int64                 // bytes of that payload still to come
	size    int64                 // of the message under way, with this frame
	control []byte                // payload of the control frame under way
	end     error                 // of reading

	writing sync.Mutex
	code    int  // of the close frame that will be sent (RFC 6455 §7.4.1)
	closed  bool // it was sent: nothing may follow (RFC 6455 §5.5.1)
}

// Make makes a Conn, to be kept in place. client says which side we are; messages have at most limit bytes. early is what the other
// side has sent behind the opening handshake, and is copied.
func Make(conn net.Conn, client bool, limit int64, early []byte) Conn {
	return Conn{Conn: conn, client: client, limit: limit, early: append([]byte(nil), early...), code: h1.CloseNormal}
}

// Receive reads once, into p, and gives take each piece of a binary message that came, which lies in p and must not be kept; last
// says that it ends the message. An error of take ends reading for good, as does a frame that breaks the protocol, which is an
// *h1.CloseError, and a close frame, which is io.EOF. An error of the connection below may come again, or was a deadline.
func (c *Conn) Receive(p []byte, take func(piece []byte, last bool) *h1.CloseError) (err error) {
	if c.end != nil {
		return c.end
	}
	var n int
	if len(c.early) > 0 {
		n = copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
	} else {
		n, err = c.Conn.Read(p)
	}
	for b := p[:n]; len(b) > 0 && c.end == nil; {
		if c.left == 0 {
			if b = c.begin(b); c.have > 0 || c.end != nil {
				break
			}
		}
		piece := b[:min(c.left, int64(len(b)))]
		b = b[len(piece):]
		h1.Mask(piece, c.frame.Mask)
		c.turnMask(len(piece))
		c.left -= int64(len(piece))
		switch isControl := c.frame.Opcode >= h1.OpClose; {
		case !isControl:
			if broken := take(piece, c.left == 0 && c.frame.Final); broken != nil {
				c.fail(broken)
			}
		default:
			if c.control = append(c.control, piece...); c.left == 0 {
				c.answer()
			}
		}
	}
	if c.end != nil {
		return c.end
	}
	return err
}

// begin takes the head of a frame, or what there is of it, and gives what follows.
func (c *Conn) begin(b []byte) []byte {
	n := copy(c.head[c.have:], b)
	head, whole := h1.ParseFrameHead(c.head[:int(c.have)+n])
	if !whole {
		c.have += uint8(n)
		return nil
	}
	b = b[head.Size-int(c.have):]
	c.have, c.frame, c.left = 0, head, head.Length
	broken := head.Check(!c.client, c.within)
	if broken == nil && head.Opcode < h1.OpClose {
		if !c.within {
			c.size = 0
		}
		switch {
		case head.Opcode == h1.OpText:
			broken = &h1.CloseError{Code: h1.CloseUnsupported, Reason: "a WebSocket frame that is not binary"}
		case head.Length > c.limit-c.size:
			broken = &h1.CloseError{Code: h1.CloseTooBig, Reason: "a message that is too long"}
		}
		c.size += head.Length
		c.within = !head.Final
	}
	if broken != nil {
		c.fail(broken)
	}
	return b
}

// turnMask makes the mask begin with the byte for the next one of the payload.
func (c *Conn) turnMask(n int) {
	mask := c.frame.Mask
	for i := range mask {
		c.frame.Mask[i] = mask[(n+i)&3]
	}
}

// fail ends reading, and says in the close frame why.
func (c *Conn) fail(broken *h1.CloseError) {
	c.closeWith(broken.Code)
	c.end = broken
}

func (c *Conn) closeWith(code int) {
	c.writing.Lock()
	c.code = code
	c.writing.Unlock()
}

// answer is what a whole control frame brings about: a ping is answered by a pong, a close by one (RFC 6455 §5.5).
func (c *Conn) answer() {
	switch c.frame.Opcode {
	case h1.OpPing:
		c.writing.Lock()
		if !c.closed {
			c.Conn.SetWriteDeadline(time.Now().Add(pongTimeout))
			if _, err := c.Conn.Write(c.appendFrame(nil, h1.OpPong, c.control)); err != nil {
				c.end = err
			}
		}
		c.writing.Unlock()
	case h1.OpClose:
		if said := h1.ParseClose(c.control); said.Peer {
			c.closeWith(said.Code)
			c.end = io.EOF
		} else {
			c.fail(said)
		}
	}
	c.control = nil
}

// pongTimeout is for a peer that takes no bytes.
const pongTimeout = 30 * time.Second

// AppendMessage appends a binary message of one frame.
func (c *Conn) AppendMessage(dst, payload []byte) []byte {
	return c.appendFrame(dst, h1.OpBinary, payload)
}

func (c *Conn) appendFrame(dst []byte, opcode h1.Opcode, payload []byte) []byte {
	if !c.client {
		return h1.AppendFrame(dst, opcode, payload)
	}
	return h1.AppendMaskedFrame(dst, opcode, payload, newMask())
}

func newMask() (mask [4]byte) {
	rand.Read(mask[:]) // RFC 6455 §5.3: nobody can foresee it
	return mask
}

// buffers are for frames on their way out.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// keepBuffer is how large a buffer may be that is kept.
const keepBuffer = 64 << 10

// Send writes the messages that appendTo appends by AppendMessage, together. It is net.ErrClosed after CloseWrite.
func (c *Conn) Send(appendTo func(dst []byte) ([]byte, error)) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	frames, err := appendTo((*buffer)[:0])
	if *buffer = frames; cap(frames) > keepBuffer {
		*buffer = nil
	}
	if err != nil {
		return err
	}
	_, err = c.Conn.Write(frames)
	return err
}

// CloseWrite says that nothing follows.
func (c *Conn) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	frame := h1.AppendClose(nil, c.code, "")
	if c.client {
		frame = h1.AppendMaskedClose(nil, c.code, "", newMask())
	}
	if _, err := c.Conn.Write(frame); err != nil {
		return err
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && !c.client { // RFC 6455 §7.1.1: the server closes first
		return half.CloseWrite()
	}
	return nil
}
