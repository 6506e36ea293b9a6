package main

import (
	"cmp"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v4"

	"fieldgate/gateway"
	"fieldgate/gateway/mqttfront"
	"fieldgate/gateway/mqttproxy"
	"fieldgate/protocol/mqtt"
)

// mqttProxy is a listener before another broker.
type mqttProxy struct {
	Listen struct {
		MQTT  string `yaml:"mqtt"`
		MQTTS string `yaml:"mqtts"`
	} `yaml:"listen"`
	WebSocket     string            `yaml:"websocket"` // path on listen.http and listen.https; off, or empty: none
	ProxyProtocol mqttProxies       `yaml:"proxy-protocol"`
	Addresses     []string          `yaml:"addresses"`
	Uplinks       int               `yaml:"uplinks"`
	CA            string            `yaml:"ca"`
	Certificate   string            `yaml:"client-certificate"`
	Key           string            `yaml:"client-key"`
	Credentials   brokerCredentials `yaml:"credentials"`
	ClientID      string            `yaml:"client-id"`
	Prefix        string            `yaml:"prefix"`
	Version       brokerVersion     `yaml:"version"`
}

// brokerCredentials are what the broker gets: a user with a password, or, as the word pass-through, what the client presents.
type brokerCredentials struct {
	PassThrough  bool   `yaml:"-"`
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password-file"`
}

const passThrough = "pass-through"

// UnmarshalYAML reads either form.
func (c *brokerCredentials) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		if node.Value != passThrough {
			return fmt.Errorf("credentials: %q is not known: write %s, or {user: NAME, password-file: FILE}", node.Value, passThrough)
		}
		c.PassThrough = true
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if key := node.Content[i].Value; key != "user" && key != "password-file" {
			return fmt.Errorf("credentials: %q is not known: write %s, or {user: NAME, password-file: FILE}", key, passThrough)
		}
	}
	type plain brokerCredentials
	return node.Decode((*plain)(c))
}

// brokerVersion is the version of MQTT that brokers speak; 0: it is found out.
type brokerVersion mqtt.Version

// UnmarshalText reads auto, 5 or 3.1.1.
func (v *brokerVersion) UnmarshalText(text []byte) error {
	switch string(text) {
	case "auto":
		*v = 0
	case "5":
		*v = brokerVersion(mqtt.V5)
	case "3.1.1":
		*v = brokerVersion(mqtt.V311)
	default:
		return fmt.Errorf("%q is no version: write auto, 5 or 3.1.1", text)
	}
	return nil
}

func (p *mqttProxy) check() error {
	if p.WebSocket == off {
		p.WebSocket = ""
	}
	if err := cmp.Or(checkWebSocketPath(p.WebSocket), p.ProxyProtocol.check()); err != nil {
		return err
	}
	if p.Listen.MQTT == "" && p.Listen.MQTTS == "" && p.WebSocket == "" {
		return errors.New("listen: it listens nowhere: write an address, such as {mqtt: '127.0.0.1:1885'}, or leave proxy out")
	}
	if p.Credentials.PasswordFile != "" && p.Credentials.User == "" {
		return errors.New("credentials: user: it is missing beside password-file")
	}
	settings := p.settings()
	return settings.Check()
}

func (p *mqttProxy) settings() mqttproxy.Settings {
	return mqttproxy.Settings{Addresses: p.Addresses, CA: p.CA, Certificate: p.Certificate, Key: p.Key, Prefix: p.Prefix, PassThrough: p.Credentials.PassThrough,
		User: p.Credentials.User, PasswordFile: p.Credentials.PasswordFile, ClientID: p.ClientID, Version: mqtt.Version(p.Version), Uplinks: p.Uplinks}
}

// webSocket is the path of the proxy's WebSockets; empty: there are none.
func (p *mqttProxy) webSocket() string {
	if p == nil {
		return ""
	}
	return p.WebSocket
}

// files are those that the settings name.
func (p *mqttProxy) files() []*string {
	if p == nil {
		return nil
	}
	return []*string{&p.CA, &p.Certificate, &p.Key, &p.Credentials.PasswordFile}
}

// mqttProxy is where the proxy listens, and what stands behind it; nil: there is none.
func (e *environment) mqttProxy() *gateway.MQTTProxy {
	p := e.MQTT.Proxy
	if p == nil {
		return nil
	}
	return &gateway.MQTTProxy{MQTT: p.Listen.MQTT, MQTTS: p.Listen.MQTTS, WebSocket: p.WebSocket, Terms: e.MQTT.terms(mqttfront.Terms{})}
}
