//go:build !(linux && (amd64 || arm64))

package coap

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// socket is a UDP socket that is read and written one datagram at a time.
type socket struct {
	conn     *net.UDPConn
	logger   *slog.Logger
	security Security // nil: none
}

func newSocket(conn *net.UDPConn, logger *slog.Logger) (*socket, error) {
	return &socket{conn: conn, logger: logger}, nil
}

func (s *socket) close() { s.conn.Close() }

// end ends the reading.
func (s *socket) end() { s.conn.SetReadDeadline(time.Unix(1, 0)) }

// receive reads and answers until ctx ends.
func (u *UDP) receive(ctx context.Context) error {
	buffer := make([]byte, maxDatagram+1)
	receiver := u.Receiver(u.socket.outgoing())
	feed := func(from netip.AddrPort, datagram []byte) { receiver.Feed(from, datagram, time.Now()) }
	for {
		n, from, err := u.socket.conn.ReadFromUDPAddrPort(buffer)
		switch {
		case err == nil && n <= maxDatagram && u.socket.security != nil:
			u.socket.security.Open(canonical(from), buffer[:n], feed)
		case err == nil && n <= maxDatagram:
			feed(canonical(from), buffer[:n])
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			u.socket.logger.Debug("coap: read", "error", err) // an ICMP message about something sent earlier; the socket lives on
		}
	}
}

func (s *socket) outgoing() Outgoing { return s }

// Add implements Outgoing.
func (s *socket) Add(to netip.AddrPort, datagram []byte) {
	if s.security != nil {
		var ok bool
		if to, datagram, ok = s.security.Seal(nil, to, datagram); !ok {
			return
		}
	}
	s.send(to, datagram)
}

// send puts one datagram on the network. Errors are ignored: it may be lost anyway, and retransmission is the remedy for that.
func (s *socket) send(to netip.AddrPort, datagram []byte) {
	if _, err := s.conn.WriteToUDPAddrPort(datagram, to); err != nil && !errors.Is(err, net.ErrClosed) {
		s.logger.Debug("coap: write", "error", err)
	}
}

// Flush implements Outgoing.
func (*socket) Flush() {}

// canonical is the one form that an address has here: one of IPv4 is none of IPv6.
func canonical(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
