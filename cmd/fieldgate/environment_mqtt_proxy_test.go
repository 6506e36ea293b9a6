package main

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"fieldgate/gateway/mqttproxy"
	"fieldgate/protocol/mqtt"
)

func TestMQTTProxySettings(t *testing.T) {
	e, err := readText(t, `
tls: {internal-ca: {names: [gateway.lan]}}
mqtt:
  max-connections: 7
  max-packet-size: 4MiB
  proxy:
    listen: {mqtt: '127.0.0.1:1885', mqtts: '0.0.0.0:8885'}
    addresses: ['mqtts://a.example', 'mqtts://b.example:8884']
    ca: broker-ca.pem
    client-certificate: client.pem
    client-key: client-key.pem
    credentials: {user: 'fg-{principal}', password-file: broker.password}
    client-id: '{principal}-{client-id}'
    prefix: plant1/
    version: 3.1.1
`)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(filepath.Dir(e.path), name) }
	got := e.mqttProxy()
	want := mqttproxy.Settings{Addresses: []string{"mqtts://a.example", "mqtts://b.example:8884"}, CA: file("broker-ca.pem"), Certificate: file("client.pem"), Key: file("client-key.pem"),
		User: "fg-{principal}", PasswordFile: file("broker.password"), ClientID: "{principal}-{client-id}", Prefix: "plant1/", Version: mqtt.V311}
	if settings := e.gatewaySettings().MQTT.Proxy; !reflect.DeepEqual(settings, want) {
		t.Errorf("%+v\nwant %+v", settings, want)
	}
	if got.MQTT != "127.0.0.1:1885" || got.MQTTS != "0.0.0.0:8885" || got.Terms.MaxConnections != 7 || got.Terms.Limits.PacketSize != 4<<20 {
		t.Errorf("%+v", got)
	}
	if e, err = readText(t, "mqtt: {proxy: {listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], credentials: pass-through}}"); err != nil || !e.gatewaySettings().MQTT.Proxy.PassThrough {
		t.Error(err)
	}
	if e, err = readText(t, ""); err != nil || e.mqttProxy() != nil {
		t.Error("there is a proxy that nobody asked for", err)
	}
}

// Bad settings are refused with a sentence that says what to write.
func TestMQTTProxySettingsThatAreRefused(t *testing.T) {
	for proxy, want := range map[string]string{
		"addresses: ['mqtt://a']":                                                                                   "write an address, such as {mqtt: '127.0.0.1:1885'}",
		"listen: {mqtt: '127.0.0.1:1885'}":                                                                          "addresses: name 1 to 64, such as mqtt://broker.example:1883",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['http://a']":                                                 "write mqtt://HOST:PORT or mqtts://HOST:PORT",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://u:p@a']":                                             "write mqtt://HOST:PORT or mqtts://HOST:PORT",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a', 'mqtt://a:1883']":                                "is there twice",
		"listen: {mqtt: nowhere}, addresses: ['mqtt://a']":                                                          "mqtt.proxy.listen.mqtt",
		"listen: {mqtts: '127.0.0.1:1885'}, addresses: ['mqtt://a']":                                                "set tls.certificates",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], prefix: a":                                      `write levels that end with "/"`,
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], prefix: 'a/+/'":                                 `write levels that end with "/"`,
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], client-id: x":                                   "write a text with {client-id} in it",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], version: 4":                                     "write auto, 5 or 3.1.1",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], credentials: mine":                              "write pass-through, or {user: NAME, password-file: FILE}",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], credentials: {pw: x}":                           "write pass-through, or {user: NAME, password-file: FILE}",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], credentials: {password-file: x}":                "user: it is missing",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], uplinks: 65":                                    "uplinks: write 0 to 64",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], uplinks: 2, credentials: pass-through":          "not pass-through",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], uplinks: 2, credentials: {user: '{principal}'}": "leave {principal} out",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], uplinks: 2, client-id: x":                       "such as gateway-{uplink}",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], websocket: broker":                              "write one such as /mqtt, or off",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], proxy-protocol: {mqtt: [proxy]}":                "is no address: write one",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtts://a'], client-key: x":                                 "it needs client-key, and the other way round",
		"listen: {mqtt: '127.0.0.1:1885'}, addresses: ['mqtt://a'], client-certificate: x, client-key: x":           "write mqtts://",
	} {
		if _, err := readText(t, "mqtt: {proxy: {"+proxy+"}}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", proxy, err, want)
		}
	}
	if _, err := readText(t, "upstreams: {mqtt-proxy: {addresses: ['http://a']}}"); err == nil || !strings.Contains(err.Error(), "choose another name") {
		t.Error(err)
	}
}
