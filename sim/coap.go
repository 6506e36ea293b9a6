package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/pion/dtls/v3"

	"fieldgate/protocol/coap"
)

// optionCredential is the option in which the gateway expects the token.
const optionCredential coap.OptionNumber = 65002

// maxDatagram bounds what is read at once, in bytes: a block of 1,024 with its options fits.
const maxDatagram = 2048

// coapConn is what carries a client's CoAP to the gateway, and the gateway's back.
type coapConn interface {
	Do(ctx context.Context, call *coap.Call) (*coap.Reply, error)
	Observe(ctx context.Context, call *coap.Call, each func(*coap.Reply) bool) error
	Ended() <-chan struct{}
	Close()
}

// dialCoAP connects by one of the transports. Requests of the gateway go to the handler, which may be nil.
func (f *Fleet) dialCoAP(ctx context.Context, transport Transport, identity string, handler coap.Handler) (coapConn, error) {
	config := coap.Config{MaxPeers: 4, MaxBody: maxAnswer}
	switch transport {
	case TCP:
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", f.config.CoAPTCP)
		if err != nil {
			return nil, err
		}
		return coap.NewClient(ctx, conn, coap.StreamConfig{Config: config}, handler, f.config.Log)
	case DTLS:
		conn, err := dialDTLS(ctx, f.config.CoAPS, identity, f.config.Keys[identity])
		if err != nil {
			return nil, err
		}
		return f.datagrams(conn, config, handler)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "udp", f.config.CoAP)
	if err != nil {
		return nil, err
	}
	return f.datagrams(conn, config, handler)
}

// dialDTLS opens a session by a pre-shared key, with the cipher that constrained devices have (RFC 7252 section 9.1.3.1).
func dialDTLS(ctx context.Context, address, identity string, key []byte) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	session, err := dtls.ClientWithOptions(connected{conn}, conn.RemoteAddr(), dtls.WithPSKIdentityHint([]byte(identity)),
		dtls.WithPSK(func([]byte) ([]byte, error) { return key, nil }), dtls.WithCipherSuites(dtls.TLS_PSK_WITH_AES_128_CCM_8))
	if err == nil {
		if err = session.HandshakeContext(ctx); err == nil {
			return session, nil
		}
		session.Close()
	}
	conn.Close()
	return nil, err
}

// connected is a connected socket in the shape that DTLS wants.
type connected struct{ net.Conn }

func (c connected) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.Read(p)
	return n, c.RemoteAddr(), err
}

func (c connected) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }

// datagrams is a device's own socket, or its session over one: a gateway tells CoAP devices apart by their addresses.
type datagrams struct {
	*coap.Server
	conn  net.Conn
	peer  netip.AddrPort
	stop  context.CancelFunc
	ended chan struct{}
}

func (f *Fleet) datagrams(conn net.Conn, config coap.Config, handler coap.Handler) (coapConn, error) {
	d := &datagrams{conn: conn, ended: make(chan struct{})}
	var err error
	if d.peer, err = netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		d.Server, err = coap.NewServer(config, 0, handler, f.config.Log, func() coap.Outgoing { return d })
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	context.AfterFunc(ctx, func() { conn.Close() })
	go func() {
		defer close(d.ended)
		defer stop()
		if err := d.Run(ctx, d.receive); err != nil {
			f.config.Log.Warn("a simulated device lost its socket or session", "error", err)
		}
	}()
	return d, nil
}

func (d *datagrams) receive() error {
	receiver := d.Receiver(d)
	for buffer := make([]byte, maxDatagram); ; {
		n, err := d.conn.Read(buffer)
		switch {
		case err == nil:
			receiver.Feed(d.peer, buffer[:n], time.Now())
		case !errors.Is(err, syscall.ECONNREFUSED): // which is about something sent earlier; the socket lives on
			return err
		}
	}
}

// Add implements coap.Outgoing. What is lost is sent again.
func (d *datagrams) Add(_ netip.AddrPort, datagram []byte) { d.conn.Write(datagram) }

// Flush implements coap.Outgoing.
func (*datagrams) Flush() {}

func (d *datagrams) Do(ctx context.Context, call *coap.Call) (*coap.Reply, error) {
	return d.Server.Do(ctx, d.peer, call)
}

func (d *datagrams) Observe(ctx context.Context, call *coap.Call, each func(*coap.Reply) bool) error {
	return d.Server.Observe(ctx, d.peer, call, each)
}

func (d *datagrams) Ended() <-chan struct{} { return d.ended }

func (d *datagrams) Close() {
	d.stop()
	<-d.ended
}

// coapLink is a device's way to the gateway.
type coapLink struct {
	conn  coapConn
	token string // "": its session says who it is
}

func (f *Fleet) connectCoAP(ctx context.Context, device Device, token string, t *tally) (link, verdict) {
	var handler coap.Handler
	if device.Product == Lamp {
		handler = newLamp(t).answer
	}
	if device.Transport == DTLS {
		token = ""
	}
	conn, err := f.dialCoAP(ctx, device.Transport, device.ID, handler)
	if err != nil {
		f.config.Log.Warn("a simulated device does not come in", "device", device.ID, "error", err)
		return nil, verdict{Unanswered, "no session"}
	}
	return &coapLink{conn, token}, verdict{}
}

var coapMethods = map[string]coap.Code{"GET": coap.GET, "POST": coap.POST}

// newCall is a request for a path with a query.
func newCall(method coap.Code, target, token string) *coap.Call {
	call := &coap.Call{Code: method}
	path, query, _ := strings.Cut(target, "?")
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		call.Options.AddString(coap.URIPath, segment)
	}
	if query != "" {
		for parameter := range strings.SplitSeq(query, "&") {
			call.Options.AddString(coap.URIQuery, parameter)
		}
	}
	if token != "" {
		call.Options.AddString(optionCredential, token)
	}
	return call
}

func (l *coapLink) send(ctx context.Context, r *request) verdict {
	call := newCall(coapMethods[r.method], r.path, l.token)
	switch {
	case r.links != "":
		call.Options.AddUint(coap.ContentFormat, coap.LinkFormat)
		call.Body = []byte(r.links)
	case r.method != "GET" && r.payload != nil:
		call.Options.AddUint(coap.ContentFormat, coap.CBOR)
		call.Body = r.payload.appendCBOR(nil)
	}
	reply, err := l.conn.Do(ctx, call)
	if err != nil {
		l.conn.Close() // the session may be of a gateway that has forgotten it
		return verdict{Unanswered, "no answer"}
	}
	return verdict{outcomeOf(int(reply.Code >> 5)), fmt.Sprintf("%d.%02d", reply.Code>>5, reply.Code&31)}
}

func (l *coapLink) broken() <-chan struct{} { return l.conn.Ended() }

func (l *coapLink) close() { l.conn.Close() }
