//go:build linux && (amd64 || arm64)

package mqttfront

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"fieldgate/protocol/mqtt"
)

// newSecuredGateway is newGateway with TLS on its listener.
func newSecuredGateway(t testing.TB) *gateway {
	t.Helper()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	t.Cleanup(certified.Close)
	return newGateway(t, func(c *Config) { c.Listeners[0].TLS = &tls.Config{Certificates: certified.TLS.Certificates} })
}

// securedDial connects over TLS, and waits until a loop serves the connection.
func securedDial(t testing.TB, g *gateway, principal, clientID string) *raw {
	t.Helper()
	conn, err := tls.Dial("tcp", g.address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	c := newRaw(t, conn)
	connect := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte(clientID), Password: []byte(g.tokens[principal])}
	c.write(connect.Append(nil))
	c.packet(mqtt.CONNACK)
	for g.streaming() > 0 {
		runtime.Gosched()
	}
	return c
}

func (g *gateway) streaming() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.streams)
}

// Packets of all sizes, in pieces and many at once, pass both ways through TLS that a loop serves.
func TestSecuredPackets(t *testing.T) {
	g := newSecuredGateway(t)
	ear := securedDial(t, g, "dash", "ear")
	ear.write((&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/+/raw"), QoS: 1}}}).Append(nil, mqtt.V5))
	ear.packet(mqtt.SUBACK)
	device := securedDial(t, g, "d1", "device")
	hear := func(payload string) {
		t.Helper()
		if body := ear.packet(mqtt.PUBLISH); !bytes.HasSuffix(body, []byte(payload)) {
			t.Fatalf("%d bytes came instead of %d", len(body), len(payload))
		}
	}
	small := publish("d/d1/raw", "small", 0)
	for _, b := range small.Append(nil, mqtt.V5) {
		device.write([]byte{b}) // a record each
	}
	hear("small")
	for _, size := range []int{1, 400, 1 << 10, 16 << 10, 17 << 10, 200 << 10} {
		p := publish("d/d1/raw", strings.Repeat("x", size), 0)
		device.write(small.Append(p.Append(small.Append(nil, mqtt.V5), mqtt.V5), mqtt.V5))
		hear("small")
		hear(string(p.Payload))
		hear("small")
	}
	device.write(bytes.Repeat(small.Append(nil, mqtt.V5), 2000))
	for range 2000 {
		hear("small")
	}
	for id := range uint16(200) { // with answers
		p := publish("d/d1/raw", "acknowledged", 1)
		p.PacketID = id + 1
		device.write(p.Append(nil, mqtt.V5))
		device.packet(mqtt.PUBACK)
	}
}

// A client over TLS that never reads holds up nobody, and what waits for it is bounded.
func TestSecuredReceiverThatNeverReads(t *testing.T) {
	g := newSecuredGateway(t)
	subscribe := (&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/+/raw")}}}).Append(nil, mqtt.V5)
	deaf, ear := securedDial(t, g, "dash", "deaf"), securedDial(t, g, "dash", "ear")
	for _, c := range []*raw{deaf, ear} {
		c.write(subscribe)
		c.packet(mqtt.SUBACK)
	}
	device := securedDial(t, g, "d1", "device")
	p := publish("d/d1/raw", strings.Repeat("x", 32<<10), 0)
	packet := p.Append(nil, mqtt.V5)
	for range 1000 { // more than the sockets' buffers and OutSize hold
		device.write(packet)
		ear.packet(mqtt.PUBLISH)
	}
	if g.Counters.DroppedQoS0.Load() == 0 {
		t.Error("nothing was dropped")
	}
	for range 100 { // what was not dropped is sound
		if body := deaf.packet(mqtt.PUBLISH); !bytes.HasSuffix(body, p.Payload) {
			t.Fatalf("%d bytes", len(body))
		}
	}
}

// Either side ends the connection in good order (RFC 8446 §6.1).
func TestSecuredEnd(t *testing.T) {
	g := newSecuredGateway(t)
	refused := securedDial(t, g, "d1", "refused")
	refused.write([]byte{0, 0}) // no packet
	if body := refused.packet(mqtt.DISCONNECT); mqtt.Reason(body[0]) != mqtt.MalformedPacket {
		t.Errorf("DISCONNECT %x", body)
	}
	if _, err := refused.r.ReadByte(); err != io.EOF { // not io.ErrUnexpectedEOF: TLS says that nothing follows
		t.Errorf("after DISCONNECT: %v", err)
	}
	refused.conn.Close()
	leaving := securedDial(t, g, "d1", "leaving")
	leaving.write((&mqtt.Disconnect{Type: mqtt.DISCONNECT}).Append(nil, mqtt.V5))
	if _, err := leaving.r.ReadByte(); err != io.EOF {
		t.Errorf("after the client's DISCONNECT: %v", err)
	}
	leaving.conn.Close()
	abrupt := securedDial(t, g, "d1", "abrupt")
	abrupt.conn.(*tls.Conn).NetConn().Close()
	forger := securedDial(t, g, "d1", "forger")
	forger.conn.(*tls.Conn).NetConn().Write([]byte("\x17\x03\x03\x00\x20this is no record that was sealed"))
	for g.Counters.Connections.Load() > 0 {
		runtime.Gosched()
	}
}
