package httpfront

import (
	"bytes"
	"cmp"
	"errors"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/tunnel"
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
		x.ProblemStatus = refusal.Status
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
	handed := false
	defer func() {
		if !handed {
			s.end()
		}
	}()
	c.keep = false
	x.Answer.Status = http.StatusSwitchingProtocols
	subprotocol := ""
	if c.request.Fields.Has("Sec-WebSocket-Protocol", webSocketProtocol) {
		subprotocol = webSocketProtocol
	}
	if c.write(h1.AppendWebSocketAccept(c.out[:0], &c.request, subprotocol)) != nil {
		return
	}

	if handed = c.handOverSubscription(s); handed {
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
				out = appendMessage(out, m)
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
			c.write(h1.AppendClose(out, h1.ClosePolicy, cmp.Or(s.why, revoked)))
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

func appendMessage(out []byte, m *broker.Message) []byte {
	if utf8.Valid(m.Payload) {
		return h1.AppendFrame(out, h1.OpText, m.Payload)
	}
	return h1.AppendFrame(out, h1.OpBinary, m.Payload)
}

// handOverSubscription gives the WebSocket to the relay, if that can take it.
func (c *connection) handOverSubscription(s *subscription) bool {
	client, ok := c.tunnelLink()
	if !ok {
		return false
	}
	c.noDeadlines()
	f := c.front
	h := &heard{passage: passage{stream: s.stream, front: f, source: c.counted}, queue: s.queue, unsubscribe: s.unsubscribe}
	f.mu.Lock()
	defer f.mu.Unlock() // Ended waits for it
	if _, goesOn := f.streams[s.stream]; !goesOn {
		return false // its caller was revoked meanwhile
	}
	var err error
	if s.stream.tunnel, err = f.tunnels.TakeFeed(client, c.reader.Buffered(), h); err != nil {
		return false
	}
	c.passOn(&h.passage)
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	s.queue.tunnel = s.stream.tunnel
	s.queue.tunnel.Wake() // for what came before
	return true
}

// heard is a subscription that the relay has, long after its connection has ended.
type heard struct {
	passage
	queue       *queue
	unsubscribe func()
	sent        uint64 // bytes of payloads
}

// Next implements tunnel.Feed.
func (h *heard) Next(out []byte) []byte {
	messages := h.queue.take(nil)
	for _, m := range messages {
		out = appendMessage(out, m)
		h.sent += uint64(len(m.Payload))
	}
	return out
}

// Ended implements tunnel.Owner.
func (h *heard) Ended(tunnel.End) {
	h.unsubscribe()
	record := h.leave()
	record.BytesOut = h.sent
	if h.queue.lost() {
		record.Findings |= fieldgate.FindingDropped
	}
	h.front.pipeline.Release(record)
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
