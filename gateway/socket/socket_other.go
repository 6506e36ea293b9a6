//go:build !(linux && (amd64 || arm64))

package socket

import "net"

// New is the connection itself: elsewhere package net reads and writes.
func New(connection *net.TCPConn) net.Conn { return connection }
