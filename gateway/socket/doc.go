// Package socket reads and writes TCP connections at less cost than package net.
//
// Package net tells the scheduler of each system call, since it may block. Reading and writing a socket that does not block takes
// a few microseconds, which the scheduler's bookkeeping, and its thread that watches over system calls, cost again. A Conn
// leaves that out, and calls recv(2) and send(2), which reach a socket by a shorter way than read(2) and write(2). Waiting is that
// of package net: deadlines, Close and all other methods work as ever.
//
// Beside it stands what all that accept connections need.
package socket
