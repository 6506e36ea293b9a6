package httpfront

import (
	"io"
	"net"
	"strings"
	"sync"

	"fieldgate"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/h1"
)

// tunnel passes a WebSocket through: after the upstream's 101 bytes go both ways until either side ends.
func (c *connection) tunnel() {
	x, response := &c.exchange, c.call.Response
	c.keep = false
	if !strings.EqualFold(string(response.Upgrade), "websocket") {
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
	s := c.openStream()
	defer c.closeStream(s)

	var once sync.Once
	ended := make(chan struct{})
	end := func() {
		once.Do(func() {
			close(ended)
			service.Close()
			c.link.Close()
		})
	}
	var relays sync.WaitGroup
	relays.Go(func() {
		defer end()
		x.BytesIn = copyStream(service, c.link, c.reader)
	})
	relays.Go(func() {
		defer end()
		x.BytesOut = copyStream(c.link, service, reader)
	})
	select {
	case <-ended:
	case <-s.closed:
	case <-c.front.ending:
	}
	end()
	relays.Wait()
}

// copyStream moves what was read already and then all that comes.
func copyStream(to, from net.Conn, read *h1.Reader) uint64 {
	first, err := to.Write(read.Buffered())
	if err != nil {
		return uint64(first)
	}
	rest, _ := io.Copy(to, from) // either side may end a WebSocket at any time: no failure of ours
	return uint64(first) + uint64(rest)
}
