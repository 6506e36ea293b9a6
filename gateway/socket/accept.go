package socket

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Accept hands over the connections of a listener until ctx ends, or the listener fails. Whoever ends ctx closes the listener.
func Accept(ctx context.Context, listener net.Listener, logger *slog.Logger, take func(net.Conn)) error {
	for wait := time.Duration(0); ; {
		conn, err := listener.Accept()
		switch {
		case err == nil:
			wait = 0
			take(conn)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		}
		// Out of file descriptors or the like: it passes when connections end.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		logger.Error("accept a connection", "listener", listener.Addr().String(), "error", err, "wait", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// Peer is the other end of a TCP connection; the zero value for another one.
func Peer(conn net.Conn) netip.AddrPort {
	address, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	peer := address.AddrPort()
	return netip.AddrPortFrom(peer.Addr().Unmap().WithZone(""), peer.Port())
}

// Source is by what connections of one subscriber are told from those of others: an IPv4 address, or an IPv6 /64, of which one
// subscriber has all.
func Source(address netip.Addr) netip.Addr {
	if !address.Is6() {
		return address
	}
	prefix, err := address.Prefix(64)
	if err != nil {
		return address
	}
	return prefix.Addr()
}
