package httpfront

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"fieldgate/gateway/pipeline"
)

// A WebSocket for MQTT is one whose client offers the subprotocol "mqtt", which is selected (MQTT 5 §6).
func TestMQTTSubprotocol(t *testing.T) {
	opened := make(chan string, 1)
	g := newGateway(t, newService(t), func(c *Config) {
		c.Subprotocols = map[string]*Subprotocol{"/mqtt": {Name: "mqtt", Serve: func(link net.Conn, early []byte, _ netip.AddrPort, _ *pipeline.Caller) {
			opened <- string(early)
			link.Close()
		}}}
	})
	for offered, selected := range map[string]bool{"mqtt": true, "mqttv3.1, mqtt": true, "mqttv3.1": false, "chat": false, "": false} {
		field := ""
		if offered != "" {
			field = "Sec-WebSocket-Protocol: " + offered + "\r\n"
		}
		answer := g.raw(t, "GET /mqtt HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+field+"\r\n")
		if selected != strings.HasPrefix(answer, "HTTP/1.1 101 ") || selected != strings.Contains(answer, "Sec-WebSocket-Protocol: mqtt\r\n") {
			t.Errorf("offered %q: %q", offered, answer)
		}
		if selected {
			if early := <-opened; early != "" {
				t.Errorf("early bytes %q", early)
			}
		}
	}
}

// Pages of origins that are not named are refused, so that nobody's page reaches into a network by its visitor's browser (RFC 6455 §10.2). Clients
// that are no browsers name none.
func TestMQTTOrigins(t *testing.T) {
	for allowed, passes := range map[string]map[string]bool{
		"":                      {"": true, "https://app.example": true, "null": true},
		"https://app.example":   {"": true, "https://app.example": true, "https://app.example:8443": false, "http://app.example": false, "https://app.example.evil": false, "null": false},
		"http://127.0.0.1:8080": {"http://127.0.0.1:8080": true, "http://localhost:8080": false},
	} {
		g := newGateway(t, newService(t), func(c *Config) {
			c.Subprotocols = map[string]*Subprotocol{"/mqtt": {Name: "mqtt", Origins: strings.Fields(allowed),
				Serve: func(link net.Conn, _ []byte, _ netip.AddrPort, _ *pipeline.Caller) { link.Close() }}}
		})
		for origin, passes := range passes {
			field := ""
			if origin != "" {
				field = "Origin: " + origin + "\r\n"
			}
			want := map[bool]string{true: "HTTP/1.1 101 ", false: "HTTP/1.1 403 "}[passes]
			if answer := g.raw(t, "GET /mqtt HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n"+field+"\r\n"); !strings.HasPrefix(answer, want) {
				t.Errorf("allowed %q, a page of %q: %q", allowed, origin, answer)
			}
		}
	}
}
