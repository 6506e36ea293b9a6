package httpfront

import (
	"errors"
	"net/netip"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/proxyprotocol"
)

var (
	errNoProxy     = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "only the proxies may connect")
	errProxyHeader = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "no sound PROXY header")
)

// readProxyHeader reads what the proxy says of the connection before anything else is read (proxy-protocol.txt §2), and says whether it
// goes on. Otherwise it is closed without an answer.
func (c *connection) readProxyHeader() bool {
	if !c.proxied {
		return true
	}
	c.socket.SetReadDeadline(time.Now().Add(c.front.config.HeadTimeout))
	header, err := proxyprotocol.Read(c.socket)
	if err != nil {
		if errors.Is(err, proxyprotocol.ErrMalformed) {
			c.front.refuseProxy(c.origin.peer, errProxyHeader)
		}
		return false
	}
	c.socket.SetReadDeadline(time.Time{})
	c.origin.claimed = header.Source
	c.origin.adopt(c.origin.settings)
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	return c.front.count(c)
}

// refuseProxy records a connection that was not let in.
func (f *Front) refuseProxy(peer netip.AddrPort, problem *fieldgate.Problem) {
	f.refusedProxy.Add(1)
	f.pipeline.Malformed(&pipeline.Exchange{Protocol: fieldgate.ProtocolHTTP, Method: fieldgate.MethodOther, Source: peer}, problem)
}
