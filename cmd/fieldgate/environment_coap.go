package main

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"fieldgate/gateway"
	"fieldgate/gateway/coapfront"
	"fieldgate/gateway/coapsocket"
)

// coapSettings are how CoAP clients come in by connections, how much these may take, and what a node does besides serving contracts.
type coapSettings struct {
	ResourceDirectory string      `yaml:"resource-directory"` // on or off
	OnRamp            *coapOnRamp `yaml:"on-ramp"`            // nil: there is none

	WebSocket        string      `yaml:"websocket"`         // path on listen.http and listen.https, or off
	WebSocketOrigins []string    `yaml:"websocket-origins"` // of pages that may open one; none: all
	ProxyProtocol    coapProxies `yaml:"proxy-protocol"`

	MaxConnections       int           `yaml:"max-connections"`
	MaxConnectionsSource int           `yaml:"max-connections-source"`
	IdleTimeout          time.Duration `yaml:"idle-timeout"`

	MaxPeers        int      `yaml:"max-peers"`
	MaxObservations int      `yaml:"max-observations"`
	TransferMemory  fileSize `yaml:"transfer-memory"`

	MaxSessions         int           `yaml:"max-sessions"`
	MaxHandshakes       int           `yaml:"max-handshakes"`
	MaxHandshakesSource int           `yaml:"max-handshakes-source"`
	SessionTimeout      time.Duration `yaml:"session-timeout"`
}

// coapProxies begin each connection to a listener with a PROXY header.
type coapProxies struct {
	TCP []string `yaml:"coap-tcp"`
	TLS []string `yaml:"coaps-tcp"`
}

const (
	on              = "on"
	defaultCoAPPath = coapsocket.WellKnown
)

// coapTemplate is the part of the environment file about CoAP.
const coapTemplate = `{{define "coap"}}# CoAP clients: over UDP at listen.coap, over TCP and TLS at listen.coap-tcp and listen.coaps-tcp, and as WebSockets at listen.http and
# listen.https.
coap:
  resource-directory: {{.CoAP.ResourceDirectory}} # devices register at /rd, and are reached by operations and commands
  websocket: {{if .CoAP.WebSocket}}{{.CoAP.WebSocket}}{{else}}off{{end}} # path; off: none. Clients expect this one (RFC 8323)
#  websocket-origins: ['https://app.example.com'] # of the web pages that may; without it those of any, who need a token as everybody does
#  proxy-protocol: {coap-tcp: [10.0.0.5], coaps-tcp: [10.0.0.5]} # proxies that begin each connection with a PROXY header; nobody else is let in
#  max-connections: 100000     # at each listener of connections
#  max-connections-source: 5000 # of these from one address (IPv6: one /64)
#  idle-timeout: 10m           # of silence, after which a client on a connection is asked for a sign of life
#  max-peers: 100000           # addresses that listen.coap remembers, and the on-ramp likewise; the one that was silent the longest is forgotten
#  max-observations: 100000    # at each listener
#  transfer-memory: 64MiB      # for bodies that go in blocks, at each listener
#  max-sessions: 100000        # of DTLS at listen.coaps; above it one that has long been silent ends
#  max-handshakes: 1024        # of DTLS that are not finished; each takes some 40 KB
#  max-handshakes-source: 64   # of these from one address (IPv6: one /64)
#  session-timeout: 24h        # of silence, after which a DTLS session ends
# Another server that speaks CoAP or HTTP, for a fleet that moves in as it is: any path and method, recorded as undocumented; contracts take over theirs.
#  on-ramp:
#    listen: '127.0.0.1:5685'
#    upstream: coap://10.0.0.7:5683 # or coaps://, http://, https://, or the name of one of upstreams
#    deny: [/admin]                 # paths, with all below them
{{end}}`

// check completes the settings and refuses bad ones.
func (c *coapSettings) check(others ...string) error {
	if c.ResourceDirectory != on && c.ResourceDirectory != off {
		return fmt.Errorf("resource-directory: %q is neither: write on or off", c.ResourceDirectory)
	}
	if c.WebSocket == off {
		c.WebSocket = ""
	}
	if err := checkWebSocketPath(c.WebSocket); err != nil {
		return err
	}
	for _, other := range others {
		if c.WebSocket != "" && c.WebSocket == other {
			return fmt.Errorf("websocket: %q is the path of MQTT: write another one", c.WebSocket)
		}
	}
	return cmp.Or(checkOrigins(c.WebSocketOrigins), checkPeers("proxy-protocol.coap-tcp", c.ProxyProtocol.TCP), checkPeers("proxy-protocol.coaps-tcp", c.ProxyProtocol.TLS),
		between("max-connections", c.MaxConnections, 1, 10_000_000), between("max-connections-source", c.MaxConnectionsSource, 1, 10_000_000),
		between("idle-timeout", c.IdleTimeout, time.Second, 24*time.Hour), between("max-peers", c.MaxPeers, 100, 10_000_000),
		between("max-observations", c.MaxObservations, 1, 10_000_000), c.checkTransferMemory(), between("max-sessions", c.MaxSessions, 1, 10_000_000),
		between("max-handshakes", c.MaxHandshakes, 1, 100_000), between("max-handshakes-source", c.MaxHandshakesSource, 1, 100_000),
		between("session-timeout", c.SessionTimeout, time.Minute, 30*24*time.Hour))
}

// checkTransferMemory sees to it that some bodies of 1 MiB fit, of strangers too, who have a fourth.
func (c *coapSettings) checkTransferMemory() error {
	if c.TransferMemory != 0 && (c.TransferMemory < 16<<20 || c.TransferMemory > 64<<30) {
		return errors.New("transfer-memory: it is out of range: write 16MiB to 64GiB")
	}
	return nil
}

// peers are the bounds of what peers of each listener may take.
func (c *coapSettings) peers() coapfront.PeerBounds {
	return coapfront.PeerBounds{MaxPeers: c.MaxPeers, MaxObservations: c.MaxObservations, TransferBytes: int(c.TransferMemory)}
}

// sessions are the bounds of DTLS sessions.
func (c *coapSettings) sessions() coapfront.SessionBounds {
	return coapfront.SessionBounds{MaxSessions: c.MaxSessions, MaxHandshakes: c.MaxHandshakes, MaxHandshakesSource: c.MaxHandshakesSource, IdleTimeout: c.SessionTimeout}
}

// bounds are what connections may take.
func (c *coapSettings) bounds() coapfront.StreamBounds {
	return coapfront.StreamBounds{MaxConnections: c.MaxConnections, MaxConnectionsSource: c.MaxConnectionsSource, IdleTimeout: c.IdleTimeout}
}

// settings are those that can be changed while the gateway serves.
func (c *coapSettings) settings() gateway.CoAP {
	return gateway.CoAP{Proxies: peers(c.ProxyProtocol.TCP), ProxiesTLS: peers(c.ProxyProtocol.TLS), OnRamp: c.OnRamp.settings()}
}

// lasting is what of the settings counts from the start on only.
func (c coapSettings) lasting() coapSettings {
	c.ProxyProtocol = coapProxies{}
	if c.OnRamp != nil {
		c.OnRamp = &coapOnRamp{Listen: c.OnRamp.Listen}
	}
	return c
}
