package httpfront

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/protocol/h1"
)

// keepAlive is how often something is sent on a quiet stream, so that both sides notice a connection that is gone.
const keepAlive = 25 * time.Second

// subscription is a stream that hears the operation's topic.
type subscription struct {
	*stream
	queue       *queue
	unsubscribe func()
	end         func()
}

// subscribe hears the operation's topic, beginning with what is retained.
func (c *connection) subscribe() (*subscription, *fieldgate.Problem) {
	x := &c.exchange
	filter, problem := x.Filter()
	if problem != nil {
		return nil, problem
	}
	x.Enter(fieldgate.StageForward)
	defer x.Leave()
	s := &subscription{stream: c.openStream(), queue: newQueue(c.front, c.front.pipeline.Hear(x, filter))}
	s.queue.stream = s.stream
	unsubscribe := c.front.pipeline.Attend(x, filter, x.Operation.MQTT.QoS, s.queue, true)
	s.queue.begin(c.front.pipeline.Broker.ReadRetained(filter))
	s.unsubscribe = func() {
		unsubscribe()
		s.queue.end()
	}
	s.end = func() {
		s.unsubscribe()
		c.closeStream(s.stream)
		if s.queue.lost() {
			x.Findings |= fieldgate.FindingDropped
		}
	}
	return s, nil
}

// subscribeEvents serves the operation's topic as server-sent events (WHATWG HTML §9.2): one event a message, its payload as data
// and its topic as id.
func (c *connection) subscribeEvents() {
	x := &c.exchange
	if !c.body.Ended() {
		c.answerProblem(fieldgate.NewProblem(fieldgate.ProblemBadRequest, "A subscription has no body."))
		return
	}
	x.Protocol = fieldgate.ProtocolSSE
	s, problem := c.subscribe()
	if problem != nil {
		c.answerProblem(problem)
		return
	}
	defer s.end()
	c.keep = false
	x.Answer.Status = http.StatusOK
	out := h1.AppendStatusLine(c.out[:0], http.StatusOK, nil)
	out = appendDate(out)
	out = append(out, "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n"...)
	out = c.appendVerdict(out)
	chunked := c.stream == nil && c.request.Minor == 1
	if chunked {
		out = h1.AppendFraming(out, h1.Chunked, 0)
	}
	out = c.appendConnection(out)
	if c.write(append(out, "\r\n"...)) != nil {
		return
	}
	gone, stopWatching := c.watchClient()
	defer stopWatching()
	ticker := time.NewTicker(keepAlive)
	defer ticker.Stop()

	event := make([]byte, 0, h1.DefaultBuffer)
	var messages []*broker.Message
	for {
		event = append(event[:0], make([]byte, h1.ChunkRoom)...)
		select {
		case <-s.queue.ready:
			messages = s.queue.take(messages)
			for _, m := range messages {
				event = appendEvent(event, m)
			}
			clear(messages)
		case <-ticker.C:
			event = append(event, ":\n\n"...)
		case <-gone:
			return
		case <-s.closed:
			if problem := s.queue.why(); problem != nil {
				event = append(event, "event: problem\ndata: "...)
				event = append(problem.AppendJSON(event, c.front.pipeline.Instance(x)), "\n\n"...)
				c.writeEvents(event, chunked)
			}
			c.endEvents(chunked)
			return
		case <-c.front.ending:
			c.endEvents(chunked)
			return
		}
		if c.writeEvents(event, chunked) != nil {
			return
		}
		if cap(event) > relayBuffer {
			event = nil
		}
	}
}

// writeEvents writes events that begin at h1.ChunkRoom.
func (c *connection) writeEvents(event []byte, chunked bool) error {
	n := len(event) - h1.ChunkRoom
	piece := event[h1.ChunkRoom:]
	if chunked {
		piece = h1.Chunk(append(event, make([]byte, h1.ChunkTail)...), n)
	}
	if err := c.write(piece); err != nil {
		return err
	}
	c.exchange.BytesOut += uint64(n)
	return nil
}

func (c *connection) endEvents(chunked bool) {
	var last []byte
	if chunked {
		last = []byte(h1.LastChunk)
	}
	c.finishWrite(last)
}

// appendEvent appends one event. A payload that is no text is sent in base64, as an event of that name.
func appendEvent(out []byte, m *broker.Message) []byte {
	out = append(out, "id: "...)
	for i := range len(m.Topic) {
		if b := m.Topic[i]; b >= 0x20 {
			out = append(out, b)
		}
	}
	out = append(out, '\n')
	if !utf8.Valid(m.Payload) {
		out = append(out, "event: base64\ndata: "...)
		out = base64.StdEncoding.AppendEncode(out, m.Payload)
		return append(out, "\n\n"...)
	}
	// Each line of the payload is a data field: CR, LF and CRLF all end lines there.
	for payload := m.Payload; ; {
		line, rest := payload, []byte(nil)
		end := bytes.IndexAny(payload, "\r\n")
		if end >= 0 {
			line, rest = payload[:end], payload[end+1:]
			if payload[end] == '\r' && len(rest) > 0 && rest[0] == '\n' {
				rest = rest[1:]
			}
		}
		out = append(append(append(out, "data: "...), line...), '\n')
		if end < 0 {
			break
		}
		payload = rest
	}
	return append(out, '\n')
}

// watchClient notices that the client has gone while nothing is read from it. gone is closed then. stop ends the watch.
func (c *connection) watchClient() (gone <-chan struct{}, stop func()) {
	if c.stream != nil {
		return c.stream.gone(), func() {}
	}
	c.link.SetReadDeadline(time.Time{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var dropped [512]byte
		for { // nothing is expected; what comes is dropped, since the connection closes after a stream
			if _, err := c.link.Read(dropped[:]); err != nil {
				return
			}
		}
	}()
	return ended, func() {
		c.link.SetReadDeadline(longAgo)
		<-ended
	}
}

func (c *connection) noDeadlines() {
	c.link.SetDeadline(time.Time{})
	c.readBy, c.writeBy = 0, 0
}

// relayEvents relays an upstream's event stream, whose head is in c.out: it has no end of its own, and each piece goes out at once.
func (c *connection) relayEvents(framing h1.Framing) {
	x := &c.exchange
	x.Protocol = fieldgate.ProtocolSSE
	if err := c.call.Stream(); err != nil {
		c.cutShort(err)
		return
	}
	if c.flush() != nil {
		return
	}
	s := c.openStream()
	defer c.closeStream(s)
	gone, stopWatching := c.watchClient()
	defer stopWatching()
	finished := make(chan struct{})
	var ender sync.WaitGroup
	ender.Go(func() {
		select {
		case <-finished:
			return
		case <-gone:
		case <-s.closed:
		case <-c.front.ending:
		}
		c.handle.Cut()
	})
	defer ender.Wait()
	defer close(finished)

	body := c.call.Body()
	buf := make([]byte, h1.ChunkRoom+h1.DefaultBuffer+h1.ChunkTail)
	for {
		n, err := body.Read(buf[h1.ChunkRoom : h1.ChunkRoom+h1.DefaultBuffer])
		if n > 0 {
			piece := buf[h1.ChunkRoom : h1.ChunkRoom+n]
			if framing == h1.Chunked {
				piece = h1.Chunk(buf, n)
			}
			if c.write(piece) != nil {
				return
			}
			x.BytesOut += uint64(n)
		}
		if err == io.EOF || body.Ended() {
			c.relayEnd(framing)
			return
		}
		if err != nil { // the client has gone, the stream was ended, or the upstream broke off
			if framing != h1.Chunked { // otherwise the missing last chunk says so
				c.reset()
			}
			return
		}
	}
}
