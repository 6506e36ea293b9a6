package socket

import (
	"net"
	"syscall"
)

// unsent is how much a connection's send buffer may hold that was not sent yet, and tcpNotsentLowat the option for it
// (include/uapi/linux/tcp.h), which package syscall does not name.
const (
	unsent          = 128 << 10
	tcpNotsentLowat = 25
)

// LimitUnsent bounds what the kernel keeps for a peer that takes slowly what is written. Otherwise the buffer grows to megabytes, and a
// writer is woken only when a third of it is free: nobody can tell a peer that takes little from one that takes nothing. A
// connection that fails shows it when it is used.
func LimitUnsent(tcp *net.TCPConn) {
	if raw, err := tcp.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotsentLowat, unsent) })
	}
}
