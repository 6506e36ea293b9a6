//go:build !(linux && (amd64 || arm64))

package mqttfront

import (
	"crypto/tls"
	"errors"
	"net"
)

// loop is not there on this system: streams serve all connections.
type loop struct{}

type polled struct{}

type secured struct{ net.Conn }

func newSecured(conn net.Conn, config *tls.Config) net.Conn { return tls.Server(conn, config) }

func below(*tls.Conn) *secured { return nil }

func newLoop(*Front) (*loop, error) { return nil, errors.ErrUnsupported }

func (l *loop) take(*connection, *net.TCPConn, *secured) error { return errors.ErrUnsupported }

func (l *loop) attend(*connection) {}

func (l *loop) drain() {}

func (l *loop) run() error { return nil }

func (l *loop) send(*connection, *batch) {}
