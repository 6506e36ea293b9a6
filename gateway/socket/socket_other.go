//go:build !(linux && (amd64 || arm64))

package socket

import (
	"net"
	"syscall"
)

// Conn is a TCP connection, which package net reads and writes.
type Conn struct{ *net.TCPConn }

// New makes a Conn of a connection.
func New(connection *net.TCPConn) net.Conn { return &Conn{connection} }

// Ask writes p if the connection is open and has nothing to read. Otherwise nothing is written, and quiet is false.
func (c *Conn) Ask(p []byte) (n int, quiet bool, err error) {
	if !c.Quiet() {
		return 0, false, nil
	}
	n, err = c.Write(p)
	return n, true, err
}

// TryWrite writes nothing: package net would wait.
func (c *Conn) TryWrite([]byte) (int, error) { return 0, nil }

// Quiet looks, without waiting, whether the connection is open and has nothing to read.
func (c *Conn) Quiet() bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Control(func(fd uintptr) { // not Read: a deadline may have passed
		var peeked [1]byte
		_, _, err := syscall.Recvfrom(int(fd), peeked[:], syscall.MSG_PEEK) // the socket does not block
		quiet = err == syscall.EAGAIN
	})
	return err == nil && quiet
}
