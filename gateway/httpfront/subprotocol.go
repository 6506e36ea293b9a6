package httpfront

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/h1"
)

// Subprotocol is a protocol of the gateway's own inside WebSockets (RFC 6455 §1.9).
type Subprotocol struct {
	Name    string   // that clients ask for: mqtt [MQTT-6.0.0-3] or coap (RFC 8323 §4.1)
	Origins []string // of the pages that may, such as https://app.example.com; empty: all
	// Serve takes over after the opening handshake. early is what the client has sent behind that, and is valid during the call; caller is
	// whose certificate the client has shown, nil if none.
	Serve func(link net.Conn, early []byte, source netip.AddrPort, caller *pipeline.Caller)
}

// openSubprotocol does the opening handshake of a WebSocket for a Subprotocol and gives the connection to those who serve it. It says
// whether the request was for that.
func (c *connection) openSubprotocol() bool {
	r, x := &c.request, &c.exchange
	protocol := c.front.config.Subprotocols[string(r.Path)]
	if protocol == nil || c.stream != nil || !r.WantsWebSocket() {
		return false
	}
	c.beginOurs(http.StatusSwitchingProtocols)
	c.keep = false
	x.Protocol = fieldgate.ProtocolWebSocket
	if err := r.CheckWebSocket(); err != nil {
		refusal := err.(*h1.Error)
		c.refuseSubprotocol(refusal.Status, fieldgate.ProblemBadRequest, refusal.Reason)
		return true
	}
	if !protocol.mayOpen(r) {
		c.refuseSubprotocol(http.StatusForbidden, fieldgate.ProblemForbidden, "Pages of this origin may not open a connection here.")
		return true
	}
	if !r.Fields.Has("Sec-WebSocket-Protocol", protocol.Name) {
		c.refuseSubprotocol(http.StatusBadRequest, fieldgate.ProblemBadRequest, fmt.Sprintf("Ask for the WebSocket subprotocol %q.", protocol.Name))
		return true
	}
	c.front.pipeline.Own(x)
	if c.write(h1.AppendWebSocketAccept(c.out[:0], r, protocol.Name)) != nil {
		return true
	}
	c.noDeadlines()
	c.front.mu.Lock()
	c.given = true
	c.front.mu.Unlock()
	protocol.Serve(c.link, c.reader.Buffered(), c.origin.source, c.certified)
	return true
}

// mayOpen says whether the page that asks is of an origin that may (RFC 6455 §10.2). Who names none is no browser.
func (p *Subprotocol) mayOpen(r *h1.Request) bool {
	if len(p.Origins) == 0 {
		return true
	}
	for origin := range r.Fields.All("Origin") {
		if !slices.Contains(p.Origins, string(origin)) {
			return false
		}
	}
	return true
}

func (c *connection) refuseSubprotocol(status int, code fieldgate.ProblemCode, reason string) {
	c.exchange.ProblemStatus = status
	c.front.pipeline.Malformed(&c.exchange, fieldgate.NewProblem(code, reason))
	c.answerRefusal(status, reason)
}
