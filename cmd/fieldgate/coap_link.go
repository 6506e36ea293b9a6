package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"fieldgate/gateway/coapsocket"
	"fieldgate/protocol/coap"
)

// coapClient sends requests to one server, in the way that the scheme says.
type coapClient interface {
	Do(context.Context, *coap.Call) (*coap.Reply, error)
	Observe(context.Context, *coap.Call, func(*coap.Reply) bool) error
	Close()
}

// coapLink is the way to one server.
type coapLink struct {
	coapClient
	target  *coapTarget
	timeout time.Duration
}

func (f *coapFlags) open(ctx context.Context, target *coapTarget) (*coapLink, error) {
	key, config, err := f.security.load()
	if err != nil {
		return nil, err
	}
	l := &coapLink{target: target, timeout: f.timeout}
	connecting, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	switch target.scheme {
	case "coap":
		l.coapClient, err = openCoAP(connecting, target.address)
	case "coaps":
		var session net.Conn
		if session, err = coapsocket.DialDTLS(connecting, target.address, key, config); err == nil {
			l.coapClient, err = clientOfSession(session)
		}
	default:
		stream := coap.StreamConfig{Config: coap.Config{MaxBody: maxPublished}}
		l.coapClient, err = coapsocket.Dial(connecting, target.scheme, target.address, coapsocket.Config{TLS: config, Stream: stream})
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, l.explainOpening(ctx, err, &f.security)
	}
	return l, nil
}

// explainOpening says what to do about a way to the server that did not come about.
func (l *coapLink) explainOpening(ctx context.Context, err error, security *coapSecurity) error {
	name := new(net.DNSError)
	switch {
	case errors.As(err, &name):
		return fmt.Errorf("%s has no address: %w", name.Name, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return l.refused()
	case isUntrusted(err):
		return fmt.Errorf("the certificate of %s is not trusted (%w): name the authority that has issued it with --ca, and the host as the certificate does; \"fieldgate tls ca\" prints the gateway's own authority", l.target, err)
	case (errors.Is(err, coapsocket.ErrHalfWay) || errors.Is(err, coapsocket.ErrHandshake)) && security.pskFile != "":
		return fmt.Errorf("%s does not come to the end of the handshake, as for a wrong key and for an identity that nobody has: \"fieldgate traffic --filter protocol:coap\" says which, and \"fieldgate device psk\" sets another key", l.target)
	case errors.Is(err, coapsocket.ErrHalfWay), errors.Is(err, coapsocket.ErrHandshake):
		return fmt.Errorf("%w: %s. %s", err, l.target, security.remedy())
	case errors.Is(err, coapsocket.ErrSilence):
		if speaksPlainCoAP(ctx, l.target.address) {
			return fmt.Errorf("%s has CoAP without DTLS: write coap:// for it; \"fieldgate status\" says where the gateway has coaps", l.target)
		}
		return l.silence("UDP")
	case errors.Is(err, context.DeadlineExceeded):
		return l.silence("TCP")
	case l.target.scheme == "coap" || l.target.scheme == "coaps":
		return fmt.Errorf("no way to %s: %w", l.target, err)
	}
	other := strings.Replace(l.target.scheme, "coap+", "coaps+", 1)
	if other == l.target.scheme {
		other = strings.Replace(l.target.scheme, "coaps+", "coap+", 1)
	}
	return fmt.Errorf("%s does not speak CoAP in this way (%w): is it %s://, or another protocol? \"fieldgate status\" says what the gateway has where", l.target, err, other)
}

// remedy is for a handshake that the server ends.
func (s *coapSecurity) remedy() string {
	switch {
	case s.certificate != "":
		return `Is the certificate still valid, and does the gateway know it? "fieldgate traffic --filter protocol:coap" says what is wrong with it`
	case s.pskFile != "":
		return `Is it the key and the identity that "fieldgate device psk" has set?`
	}
	return `A gateway wants to know who comes by DTLS: give --psk-identity and --psk-file, or --certificate and --key`
}

func isUntrusted(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError)) || errors.As(err, new(x509.HostnameError)) ||
		errors.As(err, new(x509.CertificateInvalidError))
}

func (l *coapLink) refused() error {
	return fmt.Errorf("nobody listens at %s: \"fieldgate status\" says where the gateway does", l.target)
}

func (l *coapLink) silence(protocol string) error {
	return fmt.Errorf("%s does not answer within %s: is it the address of a gateway's port for it? \"fieldgate status\" says which; a firewall may hold back %s", l.target, l.timeout, protocol)
}

// errSilence is why a request is given up.
var errSilence = errors.New("silence")

// vigil watches over a request: it is given up when nothing comes for too long, or the system says that nobody is there.
type vigil struct {
	cancel  context.CancelCauseFunc
	silence *time.Timer
	over    atomic.Bool // something has come
	probing chan struct{}
	stop    context.CancelFunc // of probing
}

func (l *coapLink) keepVigil(ctx context.Context, call *coap.Call, notes io.Writer) (context.Context, *vigil) {
	v := &vigil{probing: make(chan struct{})}
	ctx, v.cancel = context.WithCancelCause(ctx)
	v.silence = time.AfterFunc(l.timeout, func() { v.cancel(errSilence) })
	p := progress{notes: notes}
	call.Progress = func(sent, received, size int) {
		if !v.over.Load() {
			v.silence.Reset(l.timeout)
			p.show(call, sent, received, size)
		}
	}
	probed, stop := context.WithCancel(ctx)
	v.stop = func() {
		stop()
		<-v.probing
		p.end()
	}
	go func() {
		defer close(v.probing)
		if l.target.scheme == "coap" && errors.Is(pingCoAP(probed, l.target.address), syscall.ECONNREFUSED) {
			v.cancel(syscall.ECONNREFUSED)
		}
	}()
	return ctx, v
}

// heard ends it.
func (v *vigil) heard() {
	if !v.over.Swap(true) {
		v.silence.Stop()
		v.stop()
	}
}

// pingCoAP pings a server from a socket of its own (RFC 7252 section 4.3), which hears from the system when no program listens there.
func pingCoAP(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte{0x40, 0, 0, 1}); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 16))
	return err
}

// probeTimeout is how long a server is asked by another protocol why it is silent.
const probeTimeout = 2 * time.Second

// speaksPlainCoAP says whether somebody answers a ping.
func speaksPlainCoAP(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return pingCoAP(ctx, address) == nil
}

// speaksDTLS says whether somebody answers a handshake, with whatever.
func speaksDTLS(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	session, err := coapsocket.DialDTLS(ctx, address, &coapsocket.PSK{Identity: []byte("probe"), Key: make([]byte, 16)}, nil)
	if err == nil {
		session.Close()
	}
	return err == nil || errors.Is(err, coapsocket.ErrHalfWay) || errors.Is(err, coapsocket.ErrHandshake)
}

// request sends a request and waits for its answer.
func (l *coapLink) request(ctx context.Context, call *coap.Call, notes io.Writer) (*coap.Reply, error) {
	listening, v := l.keepVigil(ctx, call, notes)
	defer v.cancel(nil)
	defer v.heard()
	reply, err := l.Do(listening, call)
	if err != nil {
		return nil, l.explain(ctx, context.Cause(listening), err)
	}
	return reply, nil
}

// explain says what to do about a request without an answer, of which cause is the reason where it was given up.
func (l *coapLink) explain(ctx context.Context, cause, err error) error {
	switch {
	case errors.Is(cause, syscall.ECONNREFUSED):
		return l.refused()
	case errors.Is(cause, errSilence), errors.Is(err, coap.ErrTimeout):
		if l.target.scheme == "coap" && speaksDTLS(ctx, l.target.address) {
			return fmt.Errorf("%s has CoAP over DTLS: write coaps:// for it, with --psk-identity and --psk-file, or --certificate and --key", l.target)
		}
		return l.silence("UDP")
	case errors.Is(err, coap.ErrReset):
		return fmt.Errorf("%s rejects the message: it does not understand it, or is no server", l.target)
	case errors.Is(err, coap.ErrClosed):
		return fmt.Errorf("%s has ended the connection: \"fieldgate status\" says whether the gateway is there", l.target)
	case errors.Is(err, coap.ErrBodyTooBig):
		return fmt.Errorf("the answer of %s is longer than %s", l.target, bytesText(maxPublished))
	case errors.Is(err, coap.ErrBlocks):
		return fmt.Errorf("%s sends blocks that do not fit together, perhaps because the resource changes faster than it is fetched: try again", l.target)
	}
	return err
}

var (
	datagramConfig = coap.Config{MaxPeers: 4, MaxBody: maxPublished}
	discard        = slog.New(slog.DiscardHandler)
)

// datagramClient is a coapClient over UDP, or over a DTLS session.
type datagramClient struct {
	server *coap.Server
	peer   netip.AddrPort
	over   context.Context // ends when nothing more can come
	stop   context.CancelFunc
}

// newDatagramClient has run serve until the client is closed.
func newDatagramClient(server *coap.Server, peer netip.AddrPort, run func(context.Context) error) *datagramClient {
	c := &datagramClient{server: server, peer: peer}
	running, stop := context.WithCancel(context.Background())
	over, end := context.WithCancel(context.Background())
	c.over, c.stop = over, stop
	go func() {
		defer end()
		_ = run(running) // that the peer has ended it is told by over
	}()
	return c
}

// openCoAP opens a socket for the server at address.
func openCoAP(ctx context.Context, address string) (coapClient, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	peer := conn.RemoteAddr().(*net.UDPAddr).AddrPort()
	conn.Close()
	socket, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, err
	}
	udp, err := coap.NewUDP(socket, datagramConfig, 1, nil, discard)
	if err != nil {
		socket.Close()
		return nil, err
	}
	return newDatagramClient(udp.Server, peer, udp.Run), nil
}

// clientOfSession is a client over a DTLS session.
func clientOfSession(session net.Conn) (coapClient, error) {
	server, err := coap.NewServer(datagramConfig, 1, nil, discard, func() coap.Outgoing { return sessionOut{session} })
	if err != nil {
		session.Close()
		return nil, err
	}
	peer := session.RemoteAddr().(*net.UDPAddr).AddrPort()
	return newDatagramClient(server, peer, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { session.Close() })()
		return server.Run(ctx, func() error {
			buffer := make([]byte, 8<<10)
			for {
				n, err := session.Read(buffer)
				if err != nil {
					return err
				}
				server.Feed(peer, buffer[:n])
			}
		})
	}), nil
}

// sessionOut puts messages into a DTLS session.
type sessionOut struct{ session net.Conn }

func (o sessionOut) Add(_ netip.AddrPort, message []byte) { o.session.Write(message) } // what is lost is sent again
func (o sessionOut) Flush()                               {}

func (c *datagramClient) Do(ctx context.Context, call *coap.Call) (*coap.Reply, error) {
	ctx, cancel := c.while(ctx)
	defer cancel(nil)
	reply, err := c.server.Do(ctx, c.peer, call)
	return reply, closedError(ctx, err)
}

func (c *datagramClient) Observe(ctx context.Context, call *coap.Call, each func(*coap.Reply) bool) error {
	ctx, cancel := c.while(ctx)
	defer cancel(nil)
	return closedError(ctx, c.server.Observe(ctx, c.peer, call, each))
}

// while is a context that ends with the session, too.
func (c *datagramClient) while(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	context.AfterFunc(c.over, func() { cancel(coap.ErrClosed) })
	return ctx, cancel
}

func closedError(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), coap.ErrClosed) {
		return coap.ErrClosed
	}
	return err
}

func (c *datagramClient) Close() {
	c.stop()
	<-c.over.Done()
}
