package socket

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"

	"fieldgate"
	"fieldgate/protocol/proxyprotocol"
)

var (
	errNoProxy     = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "only the proxies may connect")
	errProxyHeader = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "no sound PROXY header")
)

// ReadProxyHeader reads what a proxy says of a connection before anything else is read, a TLS handshake too (proxy-protocol.txt §2), and gives
// the source of the connection: what the header says, or the peer itself where the proxy speaks for itself. A peer that is none of the proxies,
// or that sends no header, is a *fieldgate.Problem; otherwise it is the network that failed.
func ReadProxyHeader(conn net.Conn, peer netip.AddrPort, proxies []netip.Prefix) (source netip.AddrPort, err error) {
	known := false
	for _, prefix := range proxies {
		known = known || prefix.Contains(peer.Addr())
	}
	if !known {
		return peer, errNoProxy
	}
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	header, err := proxyprotocol.Read(conn)
	switch {
	case errors.Is(err, proxyprotocol.ErrMalformed):
		return peer, errProxyHeader
	case err != nil || !header.Source.IsValid():
		return peer, err
	}
	return header.Source, nil
}
