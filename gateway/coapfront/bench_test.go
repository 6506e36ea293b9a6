package coapfront

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"fieldgate/protocol/coap"
)

// BenchmarkRequest is a request through protocol and pipeline, without a socket: a GET that the mock answers, and a
// CBOR POST that is checked by its schema and published.
func BenchmarkRequest(b *testing.B) {
	g := newGateway(b)
	g.records.discard = true
	for _, test := range []struct {
		name string
		call *coap.Call
		want coap.Code
	}{
		{"GET with credential, own id and limit, from mock", call(coap.GET, "/state", nil, token(g.token)), coap.Content},
		{"POST CBOR with credential, checked and published", call(coap.POST, "/temperature", cbor(b, `{"t":21.5,"u":"C"}`), token(g.token), number(coap.ContentFormat, coap.CBOR)), coap.Changed},
	} {
		b.Run(test.name, func(b *testing.B) {
			now := time.Now()
			endpoint := coap.NewEndpoint(coap.Config{Send: func(netip.AddrPort, []byte) {}}, now)
			peer := netip.MustParseAddrPort("192.0.2.1:5683")
			datagram := coap.AppendMessage(nil, coap.Confirmable, test.call.Code, 0, []byte("tokn"), &test.call.Options, test.call.Body)
			var response coap.Response
			ctx := context.Background()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				datagram[2], datagram[3] = byte(i>>8), byte(i)
				endpoint.Feed(peer, datagram, now)
				request := endpoint.Next()
				response.Reset()
				if wait := g.front.serve(g.front.listeners[0], request, &response); wait != nil {
					wait(ctx)
				}
				if response.Code != test.want {
					b.Fatalf("got %v", response.Code)
				}
				endpoint.Respond(request, &response, now)
			}
		})
	}
}
