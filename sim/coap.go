package sim

import (
	"context"
	"fmt"
	"net"
	"strings"

	"fieldgate/protocol/coap"
)

// optionCredential is the option in which the gateway expects the token.
const optionCredential coap.OptionNumber = 65002

// formatCBOR is a Content-Format of the registry that RFC 7252 section 12.3 opened.
const formatCBOR = 60

// coapLink is a device's own socket: a gateway tells CoAP devices apart by their addresses.
type coapLink struct {
	fleet *Fleet
	token string
	udp   *coap.UDP
	stop  context.CancelFunc
	ended chan struct{}
}

func (f *Fleet) connectCoAP(token string) (*coapLink, error) {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, err
	}
	udp, err := coap.NewUDP(conn, coap.Config{MaxPeers: 4, MaxBody: maxAnswer}, 0, nil, f.config.Log)
	if err != nil {
		conn.Close()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &coapLink{fleet: f, token: token, udp: udp, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		if err := udp.Run(ctx); err != nil {
			f.config.Log.Error("a simulated device lost its socket", "error", err)
		}
	}()
	return l, nil
}

var coapMethods = map[string]coap.Code{"GET": coap.GET, "POST": coap.POST}

func (l *coapLink) send(ctx context.Context, r *request) verdict {
	call := &coap.Call{Code: coapMethods[r.method]}
	path, query, _ := strings.Cut(r.path, "?")
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		call.Options.AddString(coap.URIPath, segment)
	}
	if query != "" {
		call.Options.AddString(coap.URIQuery, query)
	}
	call.Options.AddString(optionCredential, l.token)
	if r.method != "GET" && r.payload != nil {
		call.Options.AddUint(coap.ContentFormat, formatCBOR)
		call.Body = r.payload.appendCBOR(nil)
	}
	reply, err := l.udp.Do(ctx, l.fleet.coap, call)
	if err != nil {
		return verdict{Unanswered, "no answer"}
	}
	return verdict{outcomeOf(int(reply.Code >> 5)), fmt.Sprintf("%d.%02d", reply.Code>>5, reply.Code&31)}
}

func (l *coapLink) broken() <-chan struct{} { return l.ended }

func (l *coapLink) close() {
	l.stop()
	<-l.ended
}
