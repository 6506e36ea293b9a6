// Package tunnel passes WebSockets through to services, so that thousands of them may idle, and looks at their messages where a
// contract says what those are.
//
// A Relay takes over the two sockets of a WebSocket after its upgrade and moves bytes between them in one goroutine for all, woken
// by the kernel: a tunnel that idles has no goroutine, and no buffer but what TLS keeps. It works on Linux; Copy does the same with two
// goroutines for everything else. Either promises that nothing is read from one side that the other does not take (back-pressure),
// that a side which ends lets the other one finish, that a tunnel which is ended by the gateway is told why where that is possible
// between two frames (RFC 6455 §5.5.1), and that its Owner hears of the end once, when both sockets are closed.
//
// With pipeline.Messages, frames are held back until their message is whole and checked; control frames pass at once (RFC 6455 §5.4).
package tunnel

import (
	"crypto/rand"
	"crypto/tls"
	"net"
	"time"

	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/h1"
)

const (
	// stalled is how long a side may take nothing, or say nothing after the other one has ended, or send a message that is checked.
	stalled = 30 * time.Second
	// closeTime is how long both sides have to take the close frame and end by themselves.
	closeTime = 2 * time.Second
	// readSize is how much is read at once, and so how much may wait for a side that does not take it, unless a longer message does.
	readSize = 32 << 10
	// pingEvery is how often the client of a Feed is asked whether it is there; it may be silent for three times as long.
	pingEvery = 25 * time.Second
	// maxFeedMessage bounds what the client of a Feed may send; all of it is dropped.
	maxFeedMessage = 4 << 10
)

// Link is one end of a WebSocket.
type Link struct {
	TCP *net.TCPConn
	TLS *tls.Conn // above a socket.Conn of TCP; nil: there is none
}

// Owner hears of the end of a tunnel.
type Owner interface {
	// Ended is called once, and must not block.
	Ended(end End)
}

// Feed is the Owner of a WebSocket that has no service, but messages of the gateway's own.
type Feed interface {
	Owner
	// Next appends the frames of all that waits to be sent. It is called after Wake, and when the client has taken what came before.
	Next(dst []byte) []byte
}

// End is how a tunnel ended.
type End struct {
	FromClient, FromService uint64 // bytes, frames and all
	Code                    int    // of the close frame if it was the gateway that ended it (RFC 6455 §7.4.1), else 0
	// What was first wrong in each direction; "" if nothing was. Refused says that the tunnel was ended for it.
	InvalidClient, InvalidService string
	Refused                       bool
}

// The two sides of a tunnel, and the directions by the side that speaks.
const (
	client = iota
	service
)

// silent is what a WebSocket is told in which nobody has said anything for too long.
const silent = "idle for too long"

// speech is what one side says.
type speech struct {
	bytes     uint64 // looked at
	follower         // of what is not inspected
	inspector *inspector
}

func newSpeech(side int, messages *pipeline.Messages) speech {
	if messages == nil {
		return speech{}
	}
	expected := messages.FromClient
	if side == service {
		expected = messages.FromService
	}
	if expected == nil {
		return speech{}
	}
	return speech{inspector: &inspector{schema: expected, max: messages.Max, fromClient: side == client, shadow: messages.Shadow}}
}

// pass is inspector.pass for a direction that may be inspected or not. out is valid until the next use of w.
func (s *speech) pass(w *work, data []byte) (out, rest []byte, due bool, broken *breach) {
	out = data
	if s.inspector == nil {
		s.skip(data)
	} else {
		w.out = w.out[:0]
		rest, due, broken = s.inspector.pass(w, data)
		out = w.out
	}
	s.bytes += uint64(len(data) - len(rest))
	return out, rest, due, broken
}

// interrupts says whether a close frame of ours may follow what was passed on.
func (s *speech) interrupts() bool {
	if s.inspector != nil { // it passes on whole frames
		return !s.inspector.closed
	}
	return s.between() && !s.closed
}

// due is when the message under way has to be whole, so that nobody fills the memory with beginnings; zero: none is.
func (s *speech) due() time.Time {
	if s.inspector == nil || s.inspector.since.IsZero() {
		return time.Time{}
	}
	return s.inspector.since.Add(stalled)
}

// invalid is what was let through though it is not what the schema says.
func (s *speech) invalid() string {
	if s.inspector == nil || s.inspector.invalid == nil {
		return ""
	}
	return s.inspector.invalid.detail
}

// appendClose appends the gateway's own close frame towards a side.
func appendClose(dst []byte, to, code int, reason string) []byte {
	if to == client {
		return h1.AppendClose(dst, code, reason)
	}
	var key [4]byte
	rand.Read(key[:]) // which never fails
	return h1.AppendMaskedClose(dst, code, reason, key)
}

// refuse notes what ended the tunnel.
func (e *End) refuse(side int, broken *breach) {
	e.Refused = true
	if side == client {
		e.InvalidClient = broken.detail
	} else {
		e.InvalidService = broken.detail
	}
}
