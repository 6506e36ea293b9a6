package mqttfront

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"fieldgate/protocol/mqtt"
)

// raw is a version 5 connection that sends and expects bytes.
type raw struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func rawDial(t testing.TB, g *gateway, principal, clientID string) *raw {
	t.Helper()
	return rawDialWith(t, g, principal, clientID, func(*mqtt.Connect) {})
}

func newRaw(t testing.TB, conn net.Conn) *raw {
	return &raw{t: t, conn: conn, r: bufio.NewReader(conn)}
}

func rawDialWith(t testing.TB, g *gateway, principal, clientID string, set func(*mqtt.Connect)) *raw {
	t.Helper()
	c, _ := rawConnack(t, g, principal, clientID, set)
	return c
}

// rawConnack is rawDialWith with the body of the CONNACK.
func rawConnack(t testing.TB, g *gateway, principal, clientID string, set func(*mqtt.Connect)) (c *raw, connack []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c = newRaw(t, conn)
	connect := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte(clientID), Password: []byte(g.tokens[principal])}
	set(&connect)
	c.write(connect.Append(nil))
	return c, c.packet(mqtt.CONNACK)
}

func (c *raw) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// packet reads the next packet, which must be of this type, and gives its body.
func (c *raw) packet(want mqtt.PacketType) []byte {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(patience))
	var head []byte
	for {
		b, err := c.r.ReadByte()
		if err != nil {
			c.t.Fatalf("waiting for %v: %v", want, err)
		}
		head = append(head, b)
		h, size, err := mqtt.ReadHeader(head)
		if err != nil {
			c.t.Fatal(err)
		}
		if size == 0 {
			continue
		}
		body := make([]byte, h.Length)
		if _, err := io.ReadFull(c.r, body); err != nil {
			c.t.Fatal(err)
		}
		if h.Type != want {
			c.t.Fatalf("got %v %x, want %v", h.Type, body, want)
		}
		return body
	}
}

// expect reads a packet whose body begins with these bytes.
func (c *raw) expect(kind mqtt.PacketType, hexadecimal string) {
	c.t.Helper()
	want, err := hex.DecodeString(strings.ReplaceAll(hexadecimal, " ", ""))
	if err != nil {
		c.t.Fatal(err)
	}
	if got := c.packet(kind); !bytes.HasPrefix(got, want) {
		c.t.Fatalf("%v: got %x, want %x", kind, got, want)
	}
}
