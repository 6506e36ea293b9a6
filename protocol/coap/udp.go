package coap

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
)

// UDP is a Server on a UDP socket (RFC 7252). It is safe for concurrent use.
type UDP struct {
	*Server
	socket *socket
	local  netip.AddrPort
}

// maxDatagram bounds what is read: blocks of 1,024 bytes with options fit several times over. What is longer
// was cut by the socket and is dropped.
const maxDatagram = 8192

// readBuffer is how many bytes of datagrams may wait to be read, with what the kernel adds to each.
const readBuffer = 4 << 20

// NewUDP puts a Server on conn, which must not be used any more; Run closes it. Arguments are those of NewServer.
func NewUDP(conn *net.UDPConn, config Config, workers int, handler Handler, logger *slog.Logger) (*UDP, error) {
	u := &UDP{local: canonical(conn.LocalAddr().(*net.UDPAddr).AddrPort())}
	conn.SetReadBuffer(readBuffer) // or what the system allows
	var err error
	if u.socket, err = newSocket(conn, logger); err != nil {
		return nil, err
	}
	if u.Server, err = NewServer(config, workers, handler, logger, u.socket.outgoing); err != nil {
		u.socket.close()
		return nil, err
	}
	return u, nil
}

// Security lies between a UDP and its socket: DTLS (RFC 7252 §9). It may name its peers by other addresses than they have.
type Security interface {
	// Open takes a datagram of the network, which it may change, and gives out the messages in it.
	Open(from netip.AddrPort, datagram []byte, receive func(peer netip.AddrPort, message []byte))
	// Seal appends to buffer the datagram for a message, at most sealRoom bytes longer than it, and says where it goes. When
	// it does not, buffer stays as it is. It must not call the UDP.
	Seal(buffer []byte, peer netip.AddrPort, message []byte) (to netip.AddrPort, datagram []byte, ok bool)
	// Close is called when nothing more is received, and all that was is answered.
	Close()
}

const sealRoom = 320

// Secure has all messages go through a Security. To be called before Run.
func (u *UDP) Secure(s Security) { u.socket.security = s }

// Send puts a datagram of the Security's own on the network.
func (u *UDP) Send(to netip.AddrPort, datagram []byte) { u.socket.send(to, datagram) }

// LocalAddr is the address of the socket.
func (u *UDP) LocalAddr() netip.AddrPort { return u.local }

// Run reads and answers until ctx ends, and returns when all its goroutines have. See Server.Run.
func (u *UDP) Run(ctx context.Context) error {
	defer u.socket.close()
	defer context.AfterFunc(ctx, u.socket.end)()
	err := u.Server.Run(ctx, func() error { return u.receive(ctx) })
	if u.socket.security != nil {
		u.socket.security.Close()
	}
	return err
}
