// Package mqttsocket carries MQTT inside WebSockets, for all that serve clients.
package mqttsocket

import (
	"errors"
	"math"
	"net"

	"fieldgate/gateway/websocket"
	"fieldgate/protocol/h1"
	"fieldgate/protocol/mqtt"
)

// Conn carries MQTT in the binary frames of a WebSocket (MQTT 5 §6), as a server. Frames and packets need not begin or end together
// [MQTT-6.0.0-2]. It has no buffer.
type Conn struct{ websocket.Conn }

// New makes a connection of a WebSocket whose opening handshake is done. early is what the client has sent behind it, and is copied.
func New(conn net.Conn, early []byte) *Conn {
	return &Conn{websocket.Make(conn, false, math.MaxInt64, early)} // packets have a limit, messages need none
}

// Read gives what the binary frames hold. A frame that breaks the protocol is an *mqtt.Error.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		out := p[:0]
		err := c.Receive(p, func(piece []byte, _ bool) *h1.CloseError {
			out = append(out, piece...) // which never reaches what was not read yet
			return nil
		})
		if len(out) > 0 {
			return len(out), nil // an error comes again
		}
		if broken, is := errors.AsType[*h1.CloseError](err); is {
			violation := &mqtt.Error{Reason: mqtt.ProtocolViolation, Text: broken.Reason}
			if broken.Code == h1.CloseUnsupported {
				violation.Clause = "MQTT-6.0.0-1"
			}
			return 0, violation
		}
		if err != nil {
			return 0, err
		}
	}
}

// Write sends p as one binary frame.
func (c *Conn) Write(p []byte) (int, error) {
	err := c.Send(func(dst []byte) ([]byte, error) { return c.AppendMessage(dst, p), nil })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}
