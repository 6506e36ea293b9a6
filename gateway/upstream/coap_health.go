package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/coaphttp"
	"fieldgate/protocol/coap"
)

// checkCoAP sends a ping, which every endpoint answers with a Reset (RFC 7252 §4.3), or gets a path. On a connection the greeting of the
// service says as much as a ping.
func (a *address) checkCoAP(ctx context.Context, check *fieldgate.HealthCheck) error {
	if check.Path == "" && !a.scheme.CoAPStream() {
		conn, err := a.dialCoAP(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		return ping(ctx, conn)
	}
	link, err := a.dialLink(ctx)
	if err != nil {
		return err
	}
	defer link.hangUp()
	if check.Path == "" {
		return nil
	}
	x := &coapExchange{link: link, ended: make(chan struct{})}
	x.call.Code = coap.GET
	path, query, _ := strings.Cut(check.Path, "?")
	if !coaphttp.AddTarget(&x.call.Options, path, query) {
		return errCoAPTarget
	}
	link.do(x)
	select {
	case <-x.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if x.err != nil {
		return x.err
	}
	return checkStatus(check, coaphttp.StatusOf(x.reply.Code, true))
}

// repeatPing is how often a ping is sent until it is answered.
const repeatPing = 500 * time.Millisecond

func ping(ctx context.Context, conn net.Conn) error {
	id := uint16(rand.Uint32())
	message := coap.AppendMessage(nil, coap.Confirmable, coap.Empty, id, nil, nil, nil)
	buffer := make([]byte, maxCoAPDatagram)
	for ctx.Err() == nil {
		if _, err := conn.Write(message); err != nil {
			return err
		}
		until := time.Now().Add(repeatPing)
		if deadline, ok := ctx.Deadline(); ok {
			until = earlier(until, deadline)
		}
		if err := conn.SetReadDeadline(until); err != nil {
			return err
		}
		for {
			n, err := conn.Read(buffer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			if m, err := coap.Decode(buffer[:n]); err == nil && m.Type == coap.Reset && m.MessageID == id {
				return nil
			}
		}
	}
	return os.ErrDeadlineExceeded
}
