//go:build !linux

package socket

import "net"

// LimitUnsent does nothing on this system.
func LimitUnsent(*net.TCPConn) {}
