// Package coapsocket carries CoAP inside WebSockets (RFC 8323 section 4), for both sides, and opens connections for all of CoAP's
// schemes over reliable transports.
package coapsocket

import (
	"fmt"
	"io"
	"net"

	"fieldgate/gateway/websocket"
	"fieldgate/protocol/coap"
	"fieldgate/protocol/h1"
)

// Subprotocol is what clients ask for that speak CoAP (RFC 8323 section 4.1).
const Subprotocol = "coap"

// WellKnown is the path of WebSockets for CoAP (RFC 8323 sections 8.3 and 8.4).
const WellKnown = "/.well-known/coap"

// Conn is a WebSocket whose messages are read and written in the form that they have on a TCP connection: with their length. Each
// Write has to be of whole messages. While nothing comes it has no buffer.
type Conn struct {
	websocket.Conn
	message []byte // as far as it has come
	ready   []byte // messages to be read
	read    int    // bytes of them that were
}

// New makes a server's connection of a WebSocket whose opening handshake is done. Messages have at most limit bytes; early is what the
// client has sent behind the handshake, and is copied.
func New(conn net.Conn, early []byte, limit int) *Conn {
	return &Conn{Conn: websocket.Make(conn, false, int64(limit), early)}
}

// kept is how large a buffer may be that is kept, in bytes.
const kept = 512

// Read gives messages.
func (c *Conn) Read(p []byte) (int, error) {
	for c.read == len(c.ready) {
		if err := c.Receive(p, c.take); err != nil && c.read == len(c.ready) {
			return 0, err
		}
	}
	n := copy(p, c.ready[c.read:])
	if c.read += n; c.read == len(c.ready) {
		if c.ready, c.read = c.ready[:0], 0; cap(c.ready) > kept {
			c.ready = nil
		}
	}
	return n, nil
}

var errNoMessage = &h1.CloseError{Code: h1.CloseInvalidData, Reason: "no CoAP message"}

// take has a whole message read, with the length that it has on a TCP connection (RFC 8323 §3.2) and none here (§4.2).
func (c *Conn) take(piece []byte, last bool) *h1.CloseError {
	c.message = append(c.message, piece...)
	if !last {
		return nil
	}
	m := c.message
	if len(m) < 2 || m[0]>>4 != 0 {
		return errNoMessage
	}
	token, ok := coap.MeasureToken(m[0], m[2:])
	if !ok || len(m) < 2+token {
		return errNoMessage
	}
	c.ready = coap.AppendFrameHeader(c.ready, m[0], len(m)-2-token, coap.Code(m[1]))
	c.ready = append(c.ready, m[2:]...)
	if c.message = m[:0]; cap(m) > kept {
		c.message = nil
	}
	return nil
}

// Write sends each message of p as a binary frame of its own.
func (c *Conn) Write(p []byte) (int, error) {
	err := c.Send(func(dst []byte) ([]byte, error) {
		var payload []byte
		for rest := p; len(rest) > 0; {
			header, size := coap.MeasureFrame(rest)
			if header == 0 || size > uint64(len(rest)) {
				return dst, fmt.Errorf("coapsocket: %w", io.ErrShortWrite)
			}
			payload = append(payload[:0], rest[0]&15, rest[header-1])
			payload = append(payload, rest[header:size]...)
			dst = c.AppendMessage(dst, payload)
			rest = rest[size:]
		}
		return dst, nil
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}
