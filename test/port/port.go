// Package port finds addresses for servers that tests start as programs of their own.
package port

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports below those that systems give to outgoing connections (32768 and up on Linux), so that none of the many connections of
// tests that run at the same time takes one between the choice and the start of the server.
const (
	first = 10_000
	last  = 32_000
)

// Free is an address on the loopback interface ("127.0.0.1:20123") on which nobody listens; network is tcp or udp.
func Free(t testing.TB, network string) string {
	t.Helper()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first)))
		if free(network, address) {
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

func free(network, address string) bool {
	if network == "udp" {
		socket, err := net.ListenPacket(network, address)
		if err != nil {
			return false
		}
		return socket.Close() == nil
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
