package dtls

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
)

// selfTest does a handshake and an echo with ourselves, once in a process: what pion.go relies on is in no API of pion's.
var selfTest = sync.OnceValue(func() error {
	const greeting = "fieldgate"
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	address := netip.MustParseAddrPort("[100::]:1")
	client := &testClient{pipe: newPipe(address), address: address}
	psk := func([]byte) ([]byte, error) { return []byte(greeting), nil }
	client.server = newServer(Config{
		Send:    func(_ netip.AddrPort, datagram []byte) { client.in <- slices.Clone(datagram) },
		Receive: client.echo,
		PSK:     func([]byte) ([]byte, bool) { return []byte(greeting), true },
		Admit:   func(Identity) (any, error) { return nil, nil },
	}, time.Now())
	defer client.server.Close()
	conn, err := dtls.ClientWithOptions(client, client.peer, dtls.WithPSK(psk), dtls.WithPSKIdentityHint([]byte(greeting)), dtls.WithCipherSuites(pskCCM8),
		dtls.WithLoggerFactory(silent{}))
	if err != nil {
		return fmt.Errorf("dtls: %w", err)
	}
	defer conn.Close()
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write([]byte(greeting)); err != nil {
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	var answer [2 * len(greeting)]byte
	n, err := conn.Read(answer[:])
	if err == nil && string(answer[:n]) != greeting {
		err = errors.New("another answer than expected")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	return nil
})

// testClient is the client's side of selfTest.
type testClient struct {
	pipe
	address netip.AddrPort
	server  *Server
}

// WriteTo implements net.PacketConn.
func (c *testClient) WriteTo(datagram []byte, _ net.Addr) (int, error) {
	c.server.Open(c.address, slices.Clone(datagram), c.echo)
	return len(datagram), nil
}

func (c *testClient) echo(peer netip.AddrPort, message []byte) {
	if _, datagram, ok := c.server.Seal(nil, peer, message); ok {
		c.in <- datagram
	}
}
