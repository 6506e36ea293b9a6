package httpfront

import (
	"bytes"
	"errors"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/protocol/h1"
)

// maxClientMessage bounds what a subscriber may send; all of it is dropped.
const maxClientMessage = 4 << 10

// Browsers cannot set header fields of a WebSocket. They offer the subprotocol "fieldgate", which is the one chosen, and beside it
// one that carries the token.
const (
	webSocketProtocol    = "fieldgate"
	webSocketTokenPrefix = "fieldgate.token."
)

// webSocketToken is the token among the offered subprotocols; nil without one.
func webSocketToken(r *h1.Request) []byte {
	for offered := range r.Fields.All("Sec-WebSocket-Protocol") {
		for protocol := range bytes.SplitSeq(offered, []byte{','}) {
			if token, ok := bytes.CutPrefix(bytes.TrimSpace(protocol), []byte(webSocketTokenPrefix)); ok {
				return token
			}
		}
	}
	return nil
}

// subscribeWebSocket serves the operation's topic over a WebSocket (RFC 6455): one message each, as text if its payload is text.
func (c *connection) subscribeWebSocket() {
	x := &c.exchange
	if err := c.request.CheckWebSocket(); err != nil {
		c.keep = false
		refusal := err.(*h1.Error)
		x.Fail(fieldgate.NewProblem(fieldgate.ProblemBadRequest, refusal.Reason))
		c.answerRefusal(refusal.Status, refusal.Reason)
		return
	}
	x.Protocol = fieldgate.ProtocolWebSocket
	s, problem := c.subscribe()
	if problem != nil {
		c.answerProblem(problem)
		return
	}
	defer s.end()
	c.keep = false
	x.Answer.Status = http.StatusSwitchingProtocols
	subprotocol := ""
	if c.request.Fields.Has("Sec-WebSocket-Protocol", webSocketProtocol) {
		subprotocol = webSocketProtocol
	}
	if c.write(h1.AppendWebSocketAccept(c.out[:0], &c.request, subprotocol)) != nil {
		return
	}

	pongs := make(chan []byte, 1)
	closed := make(chan error, 1)
	var reading sync.WaitGroup
	reading.Go(func() { closed <- c.readMessages(pongs) })
	defer reading.Wait()
	defer c.link.Close() // RFC 6455 §7.1.1: the server closes first
	ticker := time.NewTicker(keepAlive)
	defer ticker.Stop()

	out := make([]byte, 0, h1.DefaultBuffer)
	var messages []*broker.Message
	for {
		out = out[:0]
		select {
		case <-s.queue.ready:
			messages = s.queue.take(messages)
			for _, m := range messages {
				opcode := h1.OpBinary
				if utf8.Valid(m.Payload) {
					opcode = h1.OpText
				}
				out = h1.AppendFrame(out, opcode, m.Payload)
				x.BytesOut += uint64(len(m.Payload))
			}
			clear(messages)
		case ping := <-pongs:
			out = h1.AppendFrame(out, h1.OpPong, ping)
		case <-ticker.C:
			out = h1.AppendFrame(out, h1.OpPing, nil)
		case err := <-closed:
			var end *h1.CloseError
			if errors.As(err, &end) { // RFC 6455 §5.5.1: a close is answered by one
				c.write(h1.AppendClose(out, end.Code, ""))
			}
			return
		case <-s.closed:
			c.write(h1.AppendClose(out, h1.ClosePolicy, revoked))
			return
		case <-c.front.ending:
			c.write(h1.AppendClose(out, h1.CloseGoingAway, ""))
			return
		}
		if c.write(out) != nil {
			return
		}
		if cap(out) > relayBuffer {
			out = nil
		}
	}
}

// readMessages reads what the client sends until the WebSocket ends. Pings are handed on; one that comes before the last was
// answered is dropped (RFC 6455 §5.5.3 allows to answer the newest only).
func (c *connection) readMessages(pongs chan<- []byte) error {
	reader := h1.NewMessageReader(c.reader, maxClientMessage)
	for {
		c.setReadBy(3 * keepAlive)
		opcode, payload, err := reader.Next()
		if err != nil {
			return err
		}
		if opcode == h1.OpPing {
			select {
			case pongs <- append([]byte(nil), payload...):
			default:
			}
		}
	}
}
