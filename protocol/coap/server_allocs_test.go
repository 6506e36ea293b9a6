//go:build !race

package coap

import (
	"context"
	"net"
	"testing"
)

// Socket, locks and message layer take no memory from the heap for a request that is answered at once.
func TestUDPAllocatesNothing(t *testing.T) {
	body := []byte("21.5")
	u := startUDP(t, Config{}, func(_ *Request, response *Response) func(context.Context) {
		response.Options.AddUint(ContentFormat, TextPlain)
		response.Body = body
		return nil
	})
	client, err := net.Dial("udp", u.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	datagram, answer := request(Confirmable, GET, 0, "/v1/devices/d7/readings"), make([]byte, 100)
	id := 0
	exchange := func() {
		id++
		datagram[2], datagram[3] = byte(id>>8), byte(id)
		if _, err := client.Write(datagram); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Read(answer); err != nil || Code(answer[1]) != Content || n < 8 {
			t.Fatal(n, err)
		}
	}
	for range 2000 { // until memory is used again
		exchange()
	}
	if n := testing.AllocsPerRun(2000, exchange); n != 0 {
		t.Errorf("%v allocations for each request", n)
	}
}
