package httpfront

import (
	"context"
	"crypto/tls"
	"net/netip"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/socket"
	"fieldgate/gateway/tunnel"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/h1"
)

// tunnel passes a WebSocket through. After the upstream's 101 the relay takes the two sockets, and the connection ends here with all
// its buffers and its goroutine; only captured exchanges stay.
func (c *connection) tunnel() {
	x, response := &c.exchange, c.call.Response
	c.keep = false
	messages := x.Operation.Messages()
	if !strings.EqualFold(string(response.Upgrade), "websocket") ||
		messages != nil && response.Fields.Get("Sec-WebSocket-Extensions") != nil { // RFC 6455 §9.1: nobody offered one
		c.answerProblem(fieldgate.NewProblem(fieldgate.ProblemUpstreamInvalid, ""))
		return
	}
	x.Protocol = fieldgate.ProtocolWebSocket
	out := h1.AppendStatusLine(c.out[:0], response.Status, nil)
	out = h1.AppendEndToEnd(out, response.Fields)
	out = append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"...)
	if err := c.call.Stream(); err != nil {
		c.answerProblem(upstream.Failure(err))
		return
	}
	service, reader := c.call.Connection()
	if c.write(out) != nil {
		return
	}
	c.noDeadlines()
	idle := c.origin.settings.WebSocketIdle
	if c.handOver(reader, messages, idle) {
		return
	}
	s := c.openStream()
	defer c.closeStream(s)
	end := tunnel.Copy(c.link, service, c.reader.Buffered(), reader.Buffered(), messages, idle,
		tunnel.Ending{When: s.closed, Code: h1.ClosePolicy, Reason: revoked}, tunnel.Ending{When: c.front.ending, Code: h1.CloseGoingAway})
	x.BytesIn, x.BytesOut = end.FromClient, end.FromService
	findings, problem := verdict(&end)
	x.Findings |= findings
	x.Detail = detail(&end)
	if problem != nil {
		x.FailBy(x.Detail, problem) // as Ended does
	}
}

// handOver gives the WebSocket to the relay, if that can take it.
func (c *connection) handOver(reader *h1.Reader, messages *pipeline.Messages, idle time.Duration) bool {
	f := c.front
	client, ok := c.tunnelLink()
	if !ok {
		return false
	}
	var service tunnel.Link
	service.TCP, service.TLS = c.call.Upgraded()
	p := &passage{stream: &stream{caller: c.caller()}, front: f, source: c.counted}
	f.mu.Lock()
	defer f.mu.Unlock() // Ended waits for it
	var err error
	if p.stream.tunnel, err = f.tunnels.Take(client, service, c.reader.Buffered(), reader.Buffered(), messages, idle, p); err != nil {
		return false
	}
	c.passOn(p)
	c.call.GiveAway()
	f.enter(p.stream)
	return true
}

// tunnelLink is the client's end of a WebSocket for the relay, which does not take captured exchanges.
func (c *connection) tunnelLink() (link tunnel.Link, ok bool) {
	client, ok := c.socket.(*socket.Conn)
	if !ok || c.exchange.Copy != nil {
		return link, false
	}
	link.TCP = client.TCPConn
	link.TLS, _ = c.link.(*tls.Conn)
	return link, true
}

// passage is a WebSocket that the relay has, long after its connection has ended.
type passage struct {
	stream *stream
	front  *Front
	source netip.Addr // that it counts for; invalid: for none
	record *fieldgate.Record
}

// passOn hands the place that the connection has in the front to the passage. To be called with mu held.
func (c *connection) passOn(p *passage) {
	p.record = c.front.pipeline.Hold(&c.exchange)
	c.front.passages++
	c.counted = netip.Addr{}
	c.link = c.socket // TLS is the relay's
}

// leave gives up the passage's place, and returns its Record.
func (p *passage) leave() *fieldgate.Record {
	f := p.front
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.streams, p.stream)
	f.passages--
	if p.source.IsValid() {
		f.sources.Release(p.source)
	}
	return p.record
}

// Ended implements tunnel.Owner.
func (p *passage) Ended(end tunnel.End) {
	record := p.leave()
	findings, problem := verdict(&end)
	record.BytesIn, record.BytesOut = end.FromClient, end.FromService
	record.Findings |= findings
	record.Detail = detail(&end)
	if problem != nil {
		record.Problem, record.Status, record.Decided, record.Rule = problem.Code, problem.Status(), fieldgate.StageCheck, record.Detail
	}
	p.front.pipeline.Release(record)
}

// verdict is what the messages of a WebSocket mean for its Record.
func verdict(end *tunnel.End) (fieldgate.Findings, *fieldgate.Problem) {
	var findings fieldgate.Findings
	if end.InvalidClient != "" {
		findings |= fieldgate.FindingInvalidRequest
	}
	if end.InvalidService != "" {
		findings |= fieldgate.FindingInvalidResponse
	}
	switch {
	case findings == 0:
		return 0, nil
	case !end.Refused:
		return findings | fieldgate.FindingShadowed, nil
	case end.InvalidClient == "":
		return findings, fieldgate.NewProblem(fieldgate.ProblemUpstreamInvalid, "")
	case end.Code == h1.ClosePolicy:
		return findings, fieldgate.NewProblem(fieldgate.ProblemInvalidPayload, "")
	case end.Code == h1.CloseTooBig:
		return findings, fieldgate.NewProblem(fieldgate.ProblemTooLarge, "")
	}
	return findings | fieldgate.FindingMalformed, fieldgate.NewProblem(fieldgate.ProblemBadRequest, "")
}

func detail(end *tunnel.End) string {
	if end.InvalidClient != "" {
		return end.InvalidClient
	}
	return end.InvalidService
}

// runTunnels runs the relay until ctx ends and all tunnels have.
func (f *Front) runTunnels(ctx context.Context) {
	if err := f.tunnels.Run(ctx); err != nil {
		f.logger.Error("relay of WebSockets; they cost more without it", "error", err)
	}
}
