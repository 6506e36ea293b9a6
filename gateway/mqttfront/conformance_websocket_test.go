package mqttfront

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"fieldgate/protocol/mqtt"
)

// frame is a masked WebSocket frame of a client (RFC 6455 §5.2) with less than 126 bytes.
func frame(opcode byte, payload []byte) []byte {
	mask := [4]byte{1, 2, 3, 4}
	out := append([]byte{opcode, 0x80 | byte(len(payload))}, mask[:]...)
	for i, b := range payload {
		out = append(out, b^mask[i&3])
	}
	return out
}

// Packets travel in binary frames however they are cut; a frame of another kind ends the connection (MQTT 5 §6).
func TestConformanceWebSocket(t *testing.T) {
	t.Parallel()
	g := openGateway(t, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	open := func() (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		other, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		g.OpenWebSocket(other, nil, netip.AddrPort{}, nil)
		return conn, bufio.NewReader(conn)
	}
	read := func(r *bufio.Reader, kind byte) []byte {
		t.Helper()
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil || head[0] != kind {
			t.Fatalf("frame %x, %v, want %x", head, err, kind)
		}
		payload := make([]byte, head[1])
		if _, err := io.ReadFull(r, payload); err != nil {
			t.Fatal(err)
		}
		return payload
	}
	conn, r := open()
	connect := (&mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("ws")}).Append(nil)
	conn.Write(frame(0x82, connect[:5])) // a packet in two frames, with a PINGREQ in the second
	conn.Write(frame(0x82, append(connect[5:], 0xC0, 0)))
	answer := read(r, 0x82)
	for !bytes.HasSuffix(answer, []byte{0xD0, 0}) {
		answer = append(answer, read(r, 0x82)...)
	}
	if answer[0] != 0x20 {
		t.Fatalf("answered %x", answer)
	}
	conn.Write(frame(0x81, []byte{0xC0, 0})) // text
	if last := read(r, 0x82); last[0] != 0xE0 {
		t.Fatalf("told %x", last)
	}
	if code := read(r, 0x88); !bytes.HasPrefix(code, []byte{0x03, 0xEB}) { // 1003: data that is not accepted (RFC 6455 §7.4.1)
		t.Fatalf("closed with %x", code)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Fatalf("not closed: %v", err)
	}
}
