package socket

import (
	"net"
	"syscall"
)

// Alive looks, without waiting, whether something can be read from the connection, or may come yet: it was neither ended by the other
// side nor broken off.
func Alive(tcp *net.TCPConn) bool {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Control(func(fd uintptr) { // not Read: a deadline may have passed
		var peeked [1]byte
		n, _, err := syscall.Recvfrom(int(fd), peeked[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		alive = n > 0 || err == syscall.EAGAIN
	})
	return err == nil && alive
}
