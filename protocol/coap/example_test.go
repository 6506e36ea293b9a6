package coap_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"fieldgate/protocol/coap"
)

// A server that answers every request, and a client that asks it.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	open := func(handler coap.Handler) *coap.UDP {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			panic(err)
		}
		u, err := coap.NewUDP(conn, coap.Config{}, 16, handler, slog.Default())
		if err != nil {
			panic(err)
		}
		go u.Run(ctx)
		return u
	}
	server := open(func(request *coap.Request, response *coap.Response) func(context.Context) {
		response.Options.AddUint(coap.ContentFormat, coap.TextPlain)
		response.Body = []byte("you asked for " + request.Path())
		return nil // nothing has to be waited for
	})
	client := open(nil)

	var call coap.Call
	call.Code = coap.GET
	call.Options.AddString(coap.URIPath, "temperature")
	reply, err := client.Do(ctx, server.LocalAddr(), &call)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%v %s\n", reply.Code, reply.Body)
	// Output: 2.05 you asked for /temperature
}
