//go:build !race

package coapfront

import (
	"net/netip"
	"testing"
	"time"

	"fieldgate/protocol/coap"
)

// A GET that the gateway answers by itself goes through protocol and pipeline, with credential, own id, limit and Record, without an
// allocation.
func TestGetAllocatesNothing(t *testing.T) {
	g := newGateway(t)
	g.records.discard = true
	for _, path := range []string{"/state", "/kept"} {
		t.Run(path, func(t *testing.T) {
			ask := call(coap.GET, path, nil, token(g.token))
			datagram := coap.AppendMessage(nil, coap.Confirmable, ask.Code, 0, []byte("tokn"), &ask.Options, nil)
			now := time.Now()
			endpoint := coap.NewEndpoint(coap.Config{Send: func(netip.AddrPort, []byte) {}}, now)
			peer := netip.MustParseAddrPort("192.0.2.1:5683")
			var response coap.Response
			id, waits := 0, 0
			get := func() {
				id++
				datagram[2], datagram[3] = byte(id>>8), byte(id)
				endpoint.Feed(peer, datagram, now)
				request := endpoint.Next()
				response.Reset()
				if wait := g.front.serve(g.front.listeners[0], request, &response); wait != nil {
					waits++ // for what is then in the cache
					wait(t.Context())
				}
				if response.Code != coap.Content || waits > 1 {
					t.Fatalf("answered %v, has waited %d times", response.Code, waits)
				}
				endpoint.Respond(request, &response, now)
			}
			for range 1000 { // until memory is used again
				get()
			}
			if n := testing.AllocsPerRun(5000, get); n != 0 {
				t.Errorf("%v allocations for each request", n)
			}
		})
	}
}
