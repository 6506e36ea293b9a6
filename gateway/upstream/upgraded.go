package upstream

import (
	"crypto/tls"
	"net"
)

// Upgraded is the socket of the upgraded connection, and the TLS above it, nil if there is none.
func (c *Call) Upgraded() (*net.TCPConn, *tls.Conn) {
	secured, _ := c.conn.Conn.(*tls.Conn)
	return c.conn.tcp, secured
}

// GiveAway leaves the upgraded connection to somebody who has duplicated its socket: End closes this one, and says nothing over TLS.
func (c *Call) GiveAway() { c.conn.Conn = c.conn.socket }
