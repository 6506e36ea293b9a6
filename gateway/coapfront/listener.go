package coapfront

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// nameUDP is the listener of plain UDP.
const nameUDP = "coap"

// listener is an address at which CoAP is spoken.
type listener struct {
	name string // as in the settings
	transport
	// who says whom the transport has shown a peer to be, and where it is; nil: a peer is the address that it sends from, and shows
	// with each request who it is.
	who      func(peer netip.AddrPort) (source netip.AddrPort, caller *pipeline.Caller)
	notifier *coap.Receiver       // of the goroutine that runs the observers
	onRamp   *pipeline.CoAPOnRamp // nil: contracts alone say what passes
}

// transport carries the messages of a listener: datagrams, DTLS sessions or connections. Addresses name its peers.
type transport interface {
	// Run serves until the context ends or the listener fails, and returns when all its goroutines have ended.
	Run(ctx context.Context) error
	LocalAddr() netip.AddrPort
	Stats() coap.Stats
	Notifier() *coap.Receiver
	Do(ctx context.Context, to netip.AddrPort, call *coap.Call) (*coap.Reply, error)
}

// sender is where a peer is, and who; nil: the request says it.
func (l *listener) sender(peer netip.AddrPort) (source netip.AddrPort, caller *pipeline.Caller) {
	if l.who == nil {
		return peer, nil
	}
	return l.who(peer)
}

// listenUDP adds plain UDP (RFC 7252).
func (f *Front) listenUDP(name, address string, onRamp *pipeline.CoAPOnRamp) error {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return fmt.Errorf("coap: %w", err)
	}
	l := &listener{name: name, onRamp: onRamp}
	endpoint := f.endpoint(l)
	endpoint.Known = f.knows
	udp, err := coap.NewUDP(conn.(*net.UDPConn), endpoint, workers, f.handler(l), f.logger)
	if err != nil {
		conn.Close()
		return err
	}
	l.transport = udp
	f.listeners = append(f.listeners, l)
	return nil
}

// endpoint is what holds for the peers of every listener.
func (f *Front) endpoint(l *listener) coap.Config {
	return coap.Config{MaxBody: fieldgate.DefaultMaxBody, Refused: f.refusedAt(l), ObjectSecurity: f.objectSecurity(l), MaxPeers: f.bounds.MaxPeers, MaxObservations: f.bounds.MaxObservations,
		TransferBytes: f.bounds.TransferBytes}
}

func (f *Front) handler(l *listener) coap.Handler {
	return func(request *coap.Request, response *coap.Response) func(context.Context) {
		return f.serve(l, request, response)
	}
}
