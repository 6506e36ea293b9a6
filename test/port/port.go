// Package port finds addresses for servers that tests start as programs of their own.
package port

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// Ports below those that systems give to outgoing connections (32768 and up on Linux), so that none of the many connections of
// tests that run at the same time takes one between the choice and the start of the server. Each process of tests has a block of
// them to itself as long as it lives, so that no two choose the same one.
const (
	first  = 10_000
	size   = 500
	blocks = 44
)

// Even ports of this process's block are tried in turn; next is the offset of the one to try.
var (
	mu    sync.Mutex
	block int
	lock  *os.File // holds the block; nil until the first call
	next  int
)

// Free is an address on the loopback interface ("127.0.0.1:20122") on which nobody listens, over TCP or UDP, nor on the port after it, which
// libcoap's server takes for DTLS and TLS. No other test is given it until this process has been given 250.
func Free(t testing.TB) string {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	if lock == nil {
		if err := reserve(); err != nil {
			t.Fatal(err)
		}
	}
	for range size / 2 {
		number := first + block*size + next
		next = (next + 2) % size
		if free(number) && free(number+1) {
			return address(number)
		}
	}
	t.Fatal("no port is free")
	return ""
}

// reserve takes a block that no living process holds.
func reserve() error {
	folder := filepath.Join(os.TempDir(), "fieldgate-test-ports")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for i := range blocks {
		file, err := os.OpenFile(filepath.Join(folder, strconv.Itoa(i)), os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			lock, block = file, i
			return nil
		}
		file.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
	}
	return fmt.Errorf("%d processes of tests hold all ports: see %s", blocks, folder)
}

func free(number int) bool {
	listener, err := net.Listen("tcp", address(number))
	if err != nil {
		return false
	}
	defer listener.Close()
	socket, err := net.ListenPacket("udp", address(number))
	if err != nil {
		return false
	}
	return socket.Close() == nil
}

func address(number int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(number)) }
