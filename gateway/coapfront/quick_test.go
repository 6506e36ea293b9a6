package coapfront

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"fieldgate/protocol/coap"
)

// TestQuickBlocks moves a body up and down by Q-Block (RFC 9177), in datagrams that are written here.
func TestQuickBlocks(t *testing.T) {
	g := newGateway(t)
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(g.address))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	id := uint16(0)
	send := func(code coap.Code, payload string, add ...func(*coap.Options)) {
		t.Helper()
		id++
		var options coap.Options
		options.AddString(coap.URIPath, "blob")
		for _, f := range append(add, token(g.token)) {
			f(&options)
		}
		if _, err := conn.Write(coap.AppendMessage(nil, coap.NonConfirmable, code, id, binary.BigEndian.AppendUint16(nil, id), &options, []byte(payload))); err != nil {
			t.Fatal(err)
		}
	}
	buffer := make([]byte, 4096)
	receive := func() coap.Message {
		t.Helper()
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		m, err := coap.Decode(buffer[:n])
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	await := func(code coap.Code) {
		t.Helper()
		m := receive()
		for m.Code == coap.RequestEntityIncomplete { // it took long
			m = receive()
		}
		if m.Code != code {
			t.Fatalf("%v, want %v", m.Code, code)
		}
	}
	block := func(num, size int) func(*coap.Options) {
		return number(coap.QBlock1, coap.Block{Num: uint32(num), More: (num+1)*1024 < size, SZX: 6}.Uint())
	}

	blob := fmt.Sprintf(`{"blob":%q}`, strings.Repeat("y", 15_000))
	put := func(num int) {
		send(coap.PUT, blob[num*1024:min((num+1)*1024, len(blob))], block(num, len(blob)), number(coap.Size1, uint32(len(blob))),
			number(coap.RequestTag, 7), number(coap.ContentFormat, coap.JSON))
	}
	for num := range 10 {
		if num != 4 { // which is lost
			put(num)
		}
	}
	put(10)
	if m := receive(); m.Code != coap.RequestEntityIncomplete || string(m.Payload) != "\x04" {
		t.Fatalf("%v %x", m.Code, m.Payload)
	}
	put(4)
	await(coap.Continue)
	for num := 11; num*1024 < len(blob); num++ {
		put(num)
	}
	await(coap.Changed)
	if asked := <-g.asked; asked.body != blob {
		t.Errorf("%d bytes came, of %d", len(asked.body), len(blob))
	}
	put(3)
	if await(coap.Changed); len(g.asked) != 0 {
		t.Errorf("a block came once more, and the service was asked %d times more", len(g.asked))
	}

	var got []byte
	send(coap.GET, "", number(coap.QBlock2, coap.Block{More: true, SZX: 6}.Uint()))
	for {
		m := receive()
		b, ok := m.Uint(coap.QBlock2)
		size, _ := m.Uint(coap.Size2)
		if m.Code != coap.Content || !ok || int(b>>4)*1024 > len(got) {
			t.Fatalf("%v, Q-Block2 %#x after %d bytes", m.Code, b, len(got))
		}
		if int(b>>4)*1024 < len(got) {
			continue // a set that went by itself since this took long
		}
		if got = append(got, m.Payload...); len(got) == int(size) {
			break
		}
		if len(got)%10_240 == 0 {
			send(coap.GET, "", number(coap.QBlock2, coap.Block{Num: uint32(len(got) / 1024), More: true, SZX: 6}.Uint()))
		}
	}
	if want := fmt.Sprintf(`{"blob":%q}`, strings.Repeat("x", 50_000)); string(got) != want {
		t.Errorf("%d bytes came, of %d, or they differ", len(got), len(want))
	}
	g.records.take(t, 2)
}
