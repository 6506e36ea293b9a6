package coapsocket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/pion/dtls/v3"
)

// Why a DTLS handshake ended without a word of the server. Each wraps the cause.
var (
	ErrSilence   = errors.New("nobody answers a DTLS handshake there")
	ErrHalfWay   = errors.New("the server does not go on with the DTLS handshake")
	ErrHandshake = errors.New("the server refuses the DTLS handshake")
)

// PSK is a pre-shared key, by which both sides of a DTLS session prove who they are (RFC 4279).
type PSK struct{ Identity, Key []byte }

// Cipher suites with ephemeral keys where there are certificates; CCM-8 is what constrained servers must have (RFC 7252 §9.1.3).
var (
	pskSuites = []dtls.CipherSuiteID{dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CCM,
		dtls.TLS_PSK_WITH_AES_128_CCM_8}
	certificateSuites = []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM, dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8}
)

// DialDTLS opens a DTLS session with a server at address, as host:port (RFC 7252 section 9). With a key both sides prove who they are by it; without
// one the server does by a certificate, of which config's RootCAs, Certificates and ServerName count. The session has a Connection ID (RFC 9146) where
// the server offers one, and so survives a change of our address. The context is for connecting only.
func DialDTLS(ctx context.Context, address string, key *PSK, config *tls.Config) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", address) // connected, so that a refusal of the network is heard
	if err != nil {
		return nil, err
	}
	socket := &connected{Conn: conn}
	session, err := dtls.ClientWithOptions(socket, conn.RemoteAddr(), dtlsOptions(address, key, config)...)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if err := session.HandshakeContext(ctx); err != nil {
		session.Close()
		conn.Close()
		return nil, handshakeError(err, socket.heard.Load())
	}
	return session, nil
}

func dtlsOptions(address string, key *PSK, config *tls.Config) []dtls.ClientOption {
	options := []dtls.ClientOption{dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator())}
	if key != nil {
		return append(options, dtls.WithPSKIdentityHint(key.Identity), dtls.WithCipherSuites(pskSuites...),
			dtls.WithPSK(func([]byte) ([]byte, error) { return key.Key, nil }))
	}
	name := config.ServerName
	if name == "" {
		name, _, _ = net.SplitHostPort(address)
	}
	options = append(options, dtls.WithServerName(name), dtls.WithCipherSuites(certificateSuites...))
	if config.RootCAs != nil {
		options = append(options, dtls.WithRootCAs(config.RootCAs))
	}
	if len(config.Certificates) > 0 {
		options = append(options, dtls.WithCertificates(config.Certificates...))
	}
	return options
}

// handshakeError says what of the server was heard.
func handshakeError(err error, heard bool) error {
	var alert interface{ IsFatalOrCloseNotify() bool } // which is all that pion shows of its type
	timeout, _ := errors.AsType[net.Error](err)
	switch {
	case errors.As(err, &alert):
		return fmt.Errorf("%w (%w)", ErrHandshake, err)
	case !errors.Is(err, context.DeadlineExceeded) && (timeout == nil || !timeout.Timeout()):
		return err
	case heard:
		return fmt.Errorf("%w (%w)", ErrHalfWay, err)
	}
	return fmt.Errorf("%w (%w)", ErrSilence, err)
}

// connected is a connected socket in the shape that DTLS wants.
type connected struct {
	net.Conn
	heard atomic.Bool // something has come
	ended atomic.Bool // we have sent an alert
}

// Content types of records: alerts (RFC 5246 §6.2.1), and what is behind a Connection ID (RFC 9146 §4), as which pion sends even an alert in clear text.
const (
	recordAlert = 21
	recordCID   = 25
)

// ReadFrom reads nothing more once we have sent an alert: the alert by which a server may answer it would hide why we did.
func (c *connected) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, err := c.Read(p)
		if err == nil && c.ended.Load() {
			continue
		}
		if n > 0 {
			c.heard.Store(true)
		}
		return n, c.RemoteAddr(), err
	}
}

func (c *connected) WriteTo(p []byte, _ net.Addr) (int, error) {
	if len(p) > 4 && (p[0] == recordAlert || p[0] == recordCID && p[3] == 0 && p[4] == 0) { // of epoch 0
		c.ended.Store(true)
	}
	return c.Write(p)
}
