package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate/gateway/mqttfront"
	"fieldgate/protocol/mqtt"
)

func TestMQTTSettings(t *testing.T) {
	e, err := readText(t, `
listen: {mqtts: '0.0.0.0:8883'}
tls: {internal-ca: {names: [gateway.lan]}}
mqtt:
  websocket: /ws
  proxy-protocol: {mqtt: [10.0.0.5], mqtts: [10.0.0.0/8]}
  redirect: {server: 'b.example:1883', permanent: true}
  max-connections: 7
  max-connect-size: 2KiB
  max-packet-size: 4MiB
  max-unsent: 1MiB
  receive-maximum: 10
  max-inflight: 20
  topic-alias-maximum: 0
  send-aliases: 4
  max-keep-alive: 90s
  max-subscriptions: 5
  max-filters: 6
  max-queued: 8
  max-queued-size: 3KiB
  max-session-expiry: 1h
  max-message-rate: 21
  max-byte-rate: 22KiB
  connect-timeout: 2s
  write-timeout: 3s
  max-sessions: 9
  max-sessions-of-caller: 2
  max-connections-source: 12
  max-handshakes-source: 13
  max-handshakes: 14
  max-upstream-calls: 3
  max-stored-size: 1GiB
  max-retained: 12
  on-ramp:
    listen: {mqtt: '127.0.0.1:1883', mqtts: off}
    password-file: passwords
    deny: {publish: ['admin/#', '$dev/+'], subscribe: [test/nosubscribe]}
    proxy-protocol: {mqtt: [10.0.0.6]}
    max-packet-size: 8MiB
    max-connections: 11
`)
	if err != nil {
		t.Fatal(err)
	}
	if e.Listen.MQTTS != "0.0.0.0:8883" || e.MQTT.WebSocket != "/ws" {
		t.Errorf("%+v", e.Listen)
	}
	b := e.mqttBounds()
	limits := mqtt.Limits{ConnectSize: 2 << 10, PacketSize: 4 << 20, ReceiveMaximum: 10, SendWindow: 20, TopicAliasMaximum: 0, SendAliases: 4, FiltersPerPacket: 6, OutSize: 1 << 20}
	if b.Limits != limits || b.MaxKeepAlive != 90 || b.MaxConnections != 7 || b.MaxSubscriptions != 5 || b.MaxQueued != 8 || b.MaxQueuedBytes != 3<<10 || b.MaxSessionExpiry != 3600 || b.MaxMessageRate != 21 || b.MaxByteRate != 22<<10 ||
		b.ConnectTimeout != 2*time.Second || b.WriteTimeout != 3*time.Second || b.MaxSessions != 9 || b.MaxSessionsOfCaller != 2 || b.MaxConnectionsSource != 12 || b.MaxHandshakesSource != 13 || b.MaxHandshakes != 14 || b.Workers != 3 || b.MaxStored != 1<<30 || b.MaxRetained != 12 {
		t.Errorf("%+v", b)
	}
	if *b.Redirect != (mqttfront.Redirect{Reason: mqtt.ServerMoved, Server: "b.example:1883"}) {
		t.Errorf("%+v", b.Redirect)
	}
	ramp := e.onRampListeners()
	if ramp.MQTT != "127.0.0.1:1883" || ramp.MQTTS != "" || ramp.Terms.MaxConnections != 11 || ramp.Terms.Limits.PacketSize != 8<<20 || ramp.Terms.Limits.ReceiveMaximum != 10 || ramp.Terms.MaxKeepAlive != 90 || ramp.Terms.Redirect != nil {
		t.Errorf("%+v", ramp)
	}
	s := e.gatewaySettings().MQTT
	if len(s.Proxies) != 1 || len(s.ProxiesTLS) != 1 || len(s.OnRampProxies) != 1 || filepath.Base(s.OnRamp.PasswordFile) != "passwords" || !filepath.IsAbs(s.OnRamp.PasswordFile) ||
		len(s.OnRamp.Deny) != 3 || !s.OnRamp.Deny[0].Publish || s.OnRamp.Deny[0].Subscribe || s.OnRamp.Deny[2].Filter != "test/nosubscribe" || !s.OnRamp.Deny[2].Subscribe {
		t.Errorf("%+v", s)
	}
}

// What nobody has set is safe: no TLS without a certificate, no on-ramp, and one at the loopback address where none is given.
func TestMQTTDefaults(t *testing.T) {
	e, err := readText(t, "node: a")
	if err != nil {
		t.Fatal(err)
	}
	if e.Listen.MQTT != "127.0.0.1:1883" || e.Listen.MQTTS != "" || e.MQTT.WebSocket != "/mqtt" || e.onRampListeners() != nil || e.MQTT.OnRamp.isOpen() {
		t.Errorf("%+v", e.MQTT)
	}
	for settings, want := range map[string]struct {
		mqtt string
		open bool
	}{
		"{anonymous: true}": {"127.0.0.1:1884", false},
		"{anonymous: true, listen: {mqtt: '0.0.0.0:1883'}}":    {"0.0.0.0:1883", true},
		"{anonymous: true, listen: {mqtt: ':1883'}}":           {":1883", true},
		"{anonymous: true, listen: {mqtt: '[::1]:1883'}}":      {"[::1]:1883", false},
		"{password-file: p, listen: {mqtt: '10.0.0.1:1883'}}":  {"10.0.0.1:1883", false},
		"{anonymous: true, listen: {mqtt: 'localhost:18830'}}": {"localhost:18830", false},
	} {
		e, err := readText(t, "mqtt: {websocket: off, on-ramp: "+settings+"}")
		if err != nil {
			t.Fatal(err)
		}
		if ramp := e.onRampListeners(); ramp.MQTT != want.mqtt || ramp.MQTTS != "" || e.MQTT.OnRamp.isOpen() != want.open || e.MQTT.WebSocket != "" {
			t.Errorf("%s: %+v", settings, ramp)
		}
	}
}

func TestMQTTSettingsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"listen: {mqtts: '127.0.0.1:8883'}":                                      "listen.mqtts: there is no certificate: set tls.certificates, tls.internal-ca or tls.acme",
		"mqtt: {websocket: mqtt}":                                                `mqtt.websocket: "mqtt" is no path: write one such as /mqtt, or off`,
		"mqtt: {websocket: '/a b'}":                                              "is no path",
		"mqtt: {websocket-origins: ['https://a.example/']}":                      `mqtt.websocket-origins: "https://a.example/" is no origin: write one such as https://app.example.com`,
		"mqtt: {websocket-origins: ['*']}":                                       "is no origin",
		"mqtt: {websocket-origins: 'https://a.example'}":                         "write a list",
		"mqtt: {proxy-protocol: {mqtts: [proxy]}}":                               `mqtt.proxy-protocol.mqtts: "proxy" is no address: write one, such as 10.0.0.5`,
		"mqtt: {redirect: {server: b}}":                                          `mqtt.redirect: server: "b" is no server: write HOST:PORT`,
		"mqtt: {redirect: {permanent: true}}":                                    "mqtt.redirect: server: it is missing",
		"mqtt: {max-message-rate: -1}":                                           "mqtt.max-message-rate: -1 is out of range: write 1 to 1000000",
		"mqtt: {max-byte-rate: 2GiB}":                                            "mqtt.max-byte-rate: it is out of range: write 1KiB to 1GiB",
		"mqtt: {max-connections: -1}":                                            "mqtt.max-connections: -1 is out of range: write 1 to 10000000",
		"mqtt: {max-packet-size: 256MiB}":                                        "mqtt.max-packet-size: it is out of range: write 1KiB to 255MiB",
		"mqtt: {max-connect-size: 2MiB}":                                         "write 1KiB to 1MiB",
		"mqtt: {max-packet-size: 1000}":                                          `"1000" is no size: write it like 100MiB`,
		"mqtt: {receive-maximum: 70000}":                                         "write a whole number, 0 to 65535",
		"mqtt: {max-inflight: 65536}":                                            "mqtt.max-inflight: 65536 is out of range: write 1 to 65535",
		"mqtt: {max-keep-alive: 1500ms}":                                         "mqtt.max-keep-alive: 1.5s is no number of seconds: write one, such as 60s",
		"mqtt: {max-keep-alive: 24h}":                                            "mqtt.max-keep-alive: 24h0m0s is out of range",
		"mqtt: {max-subscriptions: 1000001}":                                     "mqtt.max-subscriptions: 1000001 is out of range",
		"mqtt: {max-session-expiry: 1ms}":                                        "mqtt.max-session-expiry: 1ms is out of range",
		"mqtt: {connect-timeout: 1h}":                                            "mqtt.connect-timeout: 1h0m0s is out of range: write 100ms to 5m0s",
		"mqtt: {max-queue: 5}":                                                   `there is no setting "max-queue" here`,
		"mqtt: {on-ramp: {}}":                                                    "mqtt.on-ramp: nobody could connect: write password-file, or anonymous: true",
		"mqtt: {on-ramp: true}":                                                  "write a group of settings",
		"mqtt: {on-ramp: {anonymous: true, listen: {mqtt: off}}}":                "mqtt.on-ramp: listen: it listens nowhere",
		"mqtt: {on-ramp: {anonymous: true, listen: {mqtt: 1883}}}":               `mqtt.on-ramp.listen.mqtt: "1883" is no address: give HOST:PORT`,
		"mqtt: {on-ramp: {anonymous: true, listen: {mqtts: 'a:1'}}}":             "mqtt.on-ramp: listen: mqtts: there is no certificate",
		"mqtt: {on-ramp: {anonymous: true, deny: {publish: ['a/#/b']}}}":         `mqtt.on-ramp: deny.publish: "a/#/b" is no topic filter: write one such as admin/#`,
		"mqtt: {on-ramp: {anonymous: true, deny: {subscribe: ['$share/g/a']}}}":  "is no topic filter",
		"mqtt: {on-ramp: {anonymous: true, max-queued: -5}}":                     "mqtt.on-ramp: max-queued: -5 is out of range",
		"mqtt: {on-ramp: {anonymous: true, proxy-protocol: {mqtt: ['10.1/8']}}}": "mqtt.on-ramp: proxy-protocol.mqtt:",
	} {
		if _, err := readText(t, text+"\n"); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s\ngot %v\nwant %q", text, err, want)
		}
	}
}
