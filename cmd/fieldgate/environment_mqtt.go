package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway"
	"fieldgate/gateway/mqttfront"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// mqttSettings are how MQTT clients come in, and how much each may take.
type mqttSettings struct {
	WebSocket        string       `yaml:"websocket"`         // path on listen.http and listen.https, or off
	WebSocketOrigins []string     `yaml:"websocket-origins"` // of pages that may open one; none: all
	ProxyProtocol    mqttProxies  `yaml:"proxy-protocol"`
	Redirect         mqttRedirect `yaml:"redirect"`
	OnRamp           *onRamp      `yaml:"on-ramp"` // nil: there is none
	Proxy            *mqttProxy   `yaml:"proxy"`   // nil: there is none

	mqttLimits           `yaml:",inline"`
	ConnectTimeout       time.Duration `yaml:"connect-timeout"`
	WriteTimeout         time.Duration `yaml:"write-timeout"`
	MaxSessions          int           `yaml:"max-sessions"`
	MaxSessionsOfCaller  int           `yaml:"max-sessions-of-caller"`
	MaxConnectionsSource int           `yaml:"max-connections-source"`
	MaxHandshakesSource  int           `yaml:"max-handshakes-source"`
	MaxHandshakes        int           `yaml:"max-handshakes"`
	MaxUpstreamCalls     int           `yaml:"max-upstream-calls"`
	MaxStoredSize        fileSize      `yaml:"max-stored-size"`
	MaxRetained          int           `yaml:"max-retained"`
}

// mqttProxies begin each connection to a listener with a PROXY header.
type mqttProxies struct {
	MQTT  []string `yaml:"mqtt"`
	MQTTS []string `yaml:"mqtts"`
}

// mqttRedirect sends clients elsewhere.
type mqttRedirect struct {
	Server    string `yaml:"server"`
	Permanent bool   `yaml:"permanent"`
}

// mqttLimits are those of the clients of a listener. What is left out has its default.
type mqttLimits struct {
	Denied            string        `yaml:"denied"` // what becomes of a 3.1.1 client's message that is refused: acknowledge or disconnect
	MaxConnections    int           `yaml:"max-connections"`
	MaxConnectSize    fileSize      `yaml:"max-connect-size"`
	MaxPacketSize     fileSize      `yaml:"max-packet-size"`
	MaxUnsent         fileSize      `yaml:"max-unsent"`
	ReceiveMaximum    uint16        `yaml:"receive-maximum"`
	MaxInflight       int           `yaml:"max-inflight"`
	TopicAliasMaximum *uint16       `yaml:"topic-alias-maximum"` // of the client; nil: the default; 0: none
	SendAliases       *uint16       `yaml:"send-aliases"`        // to the client; likewise
	MaxKeepAlive      time.Duration `yaml:"max-keep-alive"`
	MaxSubscriptions  int           `yaml:"max-subscriptions"`
	MaxFilters        int           `yaml:"max-filters"`
	MaxQueued         int           `yaml:"max-queued"`
	MaxQueuedSize     fileSize      `yaml:"max-queued-size"`
	MaxSessionExpiry  time.Duration `yaml:"max-session-expiry"`
	MaxMessageRate    int           `yaml:"max-message-rate"`
	MaxByteRate       fileSize      `yaml:"max-byte-rate"`
}

// onRamp is a listener that behaves as a plain broker.
type onRamp struct {
	Listen struct {
		MQTT  string `yaml:"mqtt"`
		MQTTS string `yaml:"mqtts"`
	} `yaml:"listen"`
	Anonymous    bool   `yaml:"anonymous"`
	PasswordFile string `yaml:"password-file"`
	Deny         struct {
		Publish   []string `yaml:"publish"`
		Subscribe []string `yaml:"subscribe"`
	} `yaml:"deny"`
	ProxyProtocol mqttProxies `yaml:"proxy-protocol"`

	mqttLimits `yaml:",inline"`
}

const (
	defaultWebSocketPath = "/mqtt"
	defaultOnRamp        = "127.0.0.1:1884"

	// maxDenials bounds each list of filters, which are looked through for each new topic.
	maxDenials = 1000
)

// mqttTemplate is the part of the environment file about MQTT.
const mqttTemplate = `{{define "mqtt"}}# MQTT clients: over TCP at listen.mqtt, over TLS at listen.mqtts, and as WebSockets at listen.http and listen.https.
mqtt:
  websocket: {{if .MQTT.WebSocket}}{{.MQTT.WebSocket}}{{else}}off{{end}} # path; off: none
#  websocket-origins: ['https://app.example.com'] # of the web pages that may; without it those of any, who need a token as everybody does
#  proxy-protocol: {mqtt: [10.0.0.5], mqtts: [10.0.0.5]} # proxies that begin each connection with a PROXY header; nobody else is let in
#  denied: acknowledge        # a refused message of a 3.1.1 client, which cannot be told, is acknowledged and dropped; disconnect: it is cut off
#  redirect: {server: 'b.example.com:1883'}              # clients are sent there; with permanent: true for good
# Limits, of each client where nothing else is said:
#  max-connections: 100000
#  max-connect-size: 64KiB    # of the first packet, before anybody is known
#  max-packet-size: 1MiB
#  receive-maximum: 64        # messages of QoS 1 and 2 from it that wait for their acknowledgement
#  max-inflight: 64           # and to it
#  topic-alias-maximum: 16    # topics that it may give a number; 0: none
#  send-aliases: 16           # and that it is told by number, where it takes that
#  max-keep-alive: 1h         # clients of version 5 that want a longer one, or none, are told this one; without it any goes
#  max-subscriptions: 256
#  max-filters: 64            # of one SUBSCRIBE
#  max-unsent: 256KiB         # beyond it messages of QoS 0 are dropped, others wait
#  max-queued: 1000           # messages of QoS 1 and 2 that wait
#  max-queued-size: 1MiB
#  max-session-expiry: 168h   # of a session whose client is away
#  max-message-rate: 100      # messages a second from it; it is not read while it sends more. Without it any goes
#  max-byte-rate: 256KiB      # bytes a second of all that it sends, likewise
#  connect-timeout: 5s        # from the connection to the CONNECT
#  write-timeout: 30s         # for a client that takes nothing
#  max-sessions: 1000000      # of all clients, connected or not
#  max-sessions-of-caller: 1000
#  max-connections-source: 5000 # from one address (IPv6: one /64)
#  max-handshakes-source: 1000  # new connections a second from one address, after the first 5000
#  max-handshakes: 20000        # and of all; those beyond are closed at once, so that a fleet that comes back does so in good order
#  max-stored-size: 16GiB     # on disk, of sessions, messages that wait for them and retained messages
#  max-retained: 20000000     # retained messages
#  max-upstream-calls: 256    # at once, for all clients
# A plain broker for a fleet that moves in as it is: any topic, recorded as undocumented; contracts take over for theirs. Its limits are
# those above, unless it has its own.
#  on-ramp:
#    listen: {mqtt: '127.0.0.1:1884'} # and mqtts: HOST:PORT
#    anonymous: true           # clients without a user name
#    password-file: passwords  # of mosquitto_passwd; read again when it changes
#    deny: {publish: ['admin/#'], subscribe: ['admin/#']}
# Another broker, before which the gateway stands; contracts decide what passes.
#  proxy:
#    listen: {mqtt: '127.0.0.1:1885'} # and mqtts: HOST:PORT
#    websocket: /broker        # path at listen.http and listen.https; without it none
#    proxy-protocol: {mqtt: [10.0.0.5]} # as above
#    addresses: ['mqtt://10.0.0.7:1883'] # or mqtts://; of several each client has one, as long as that is healthy
#    uplinks: 4                # connections that carry all clients together; without it each client has one of its own
#    ca: broker-ca.pem         # where the system does not trust the certificates
#    client-certificate: client.pem
#    client-key: client-key.pem
#    credentials: {user: fieldgate, password-file: broker.password} # or pass-through: the client's own
#    client-id: '{client-id}'  # that the broker sees; {principal} is the device's or app's id; with uplinks {uplink} tells them apart
#    prefix: plant1/           # of all topics at the broker, which clients do not see
#    version: auto             # that the broker speaks: auto, 5 or 3.1.1
{{end}}`

// check completes the settings and refuses bad ones.
func (m *mqttSettings) check() error {
	switch {
	case m.WebSocket == off:
		m.WebSocket = ""
	case m.WebSocket != "" && m.Proxy != nil && m.WebSocket == m.Proxy.WebSocket:
		return fmt.Errorf("proxy: websocket: %q is the path of the gateway's own broker: write another one", m.WebSocket)
	}
	if err := checkWebSocketPath(m.WebSocket); err != nil {
		return err
	}
	if err := checkOrigins(m.WebSocketOrigins); err != nil {
		return err
	}
	if err := m.ProxyProtocol.check(); err != nil {
		return err
	}
	if server := m.Redirect.Server; server != "" {
		for _, one := range strings.Fields(server) {
			if _, _, err := net.SplitHostPort(one); err != nil || len(server) > 1000 {
				return fmt.Errorf("redirect: server: %q is no server: write HOST:PORT, such as b.example.com:1883, or several with spaces between them", server)
			}
		}
	} else if m.Redirect.Permanent {
		return errors.New("redirect: server: it is missing, such as b.example.com:1883")
	}
	if err := m.mqttLimits.check(); err != nil {
		return err
	}
	if size := m.MaxStoredSize; size != 0 && (size < 64<<20 || size > 1<<50) {
		return errors.New("max-stored-size: it is out of range: write 64MiB to 1048576GiB")
	}
	if m.OnRamp != nil {
		if err := m.OnRamp.check(); err != nil {
			return fmt.Errorf("on-ramp: %w", err)
		}
	}
	if m.Proxy != nil {
		if err := m.Proxy.check(); err != nil {
			return fmt.Errorf("proxy: %w", err)
		}
	}
	return cmp.Or(between("connect-timeout", m.ConnectTimeout, 100*time.Millisecond, 5*time.Minute), between("write-timeout", m.WriteTimeout, time.Second, 10*time.Minute),
		between("max-sessions", m.MaxSessions, 1, 100_000_000), between("max-sessions-of-caller", m.MaxSessionsOfCaller, 1, 100_000_000),
		between("max-connections-source", m.MaxConnectionsSource, 1, 100_000_000), between("max-handshakes-source", m.MaxHandshakesSource, 1, 1_000_000),
		between("max-handshakes", m.MaxHandshakes, 1, 1_000_000), between("max-upstream-calls", m.MaxUpstreamCalls, 1, 100_000), between("max-retained", m.MaxRetained, 1, 1_000_000_000))
}

// checkWebSocketPath refuses what is no path; empty is none.
func checkWebSocketPath(path string) error {
	if path != "" && (path[0] != '/' || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("?#%\\", r) }) || len(path) > 256) {
		return fmt.Errorf("websocket: %q is no path: write one such as /mqtt, or off", path)
	}
	return nil
}

// checkOrigins refuses what is no origin of a web page.
func checkOrigins(origins []string) error {
	for _, origin := range origins {
		// RFC 6454 §6.2. Origins are compared byte by byte: browsers write them in one form.
		if u, err := url.Parse(origin); err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin || strings.ToLower(origin) != origin {
			return fmt.Errorf("websocket-origins: %q is no origin: write one such as https://app.example.com, without a path", origin)
		}
	}
	return nil
}

func (p *mqttProxies) check() error {
	return cmp.Or(checkPeers("proxy-protocol.mqtt", p.MQTT), checkPeers("proxy-protocol.mqtts", p.MQTTS))
}

func (l *mqttLimits) check() error {
	if l.Denied != "" && l.Denied != "acknowledge" && l.Denied != "disconnect" {
		return fmt.Errorf("denied: %q is not known: write acknowledge or disconnect", l.Denied)
	}
	if l.MaxKeepAlive%time.Second != 0 {
		return fmt.Errorf("max-keep-alive: %v is no number of seconds: write one, such as 60s", l.MaxKeepAlive)
	}
	for _, size := range []struct {
		setting string
		value   fileSize
		most    fileSize
		limit   string
	}{
		{"max-connect-size", l.MaxConnectSize, 1 << 20, "1MiB"}, {"max-packet-size", l.MaxPacketSize, 255 << 20, "255MiB"},
		{"max-unsent", l.MaxUnsent, 1 << 30, "1GiB"}, {"max-queued-size", l.MaxQueuedSize, 1 << 40, "1024GiB"},
		{"max-byte-rate", l.MaxByteRate, 1 << 30, "1GiB"},
	} {
		if size.value != 0 && (size.value < 1<<10 || size.value > size.most) {
			return fmt.Errorf("%s: it is out of range: write 1KiB to %s", size.setting, size.limit)
		}
	}
	return cmp.Or(between("max-connections", l.MaxConnections, 1, 10_000_000), between("max-inflight", l.MaxInflight, 1, math.MaxUint16),
		between("max-keep-alive", l.MaxKeepAlive, time.Second, math.MaxUint16*time.Second), between("max-subscriptions", l.MaxSubscriptions, 1, 1_000_000),
		between("max-filters", l.MaxFilters, 1, 10_000), between("max-queued", l.MaxQueued, 1, 100_000_000),
		between("max-session-expiry", l.MaxSessionExpiry, time.Second, 100*365*24*time.Hour), between("max-message-rate", l.MaxMessageRate, 1, 1_000_000))
}

func (o *onRamp) check() error {
	if !o.Anonymous && o.PasswordFile == "" {
		return errors.New("nobody could connect: write password-file, or anonymous: true")
	}
	if o.Listen.MQTT == "" && o.Listen.MQTTS == "" {
		return errors.New("listen: it listens nowhere: write an address, such as {mqtt: '127.0.0.1:1884'}, or leave on-ramp out")
	}
	for _, list := range []struct {
		setting string
		filters []string
	}{{"deny.publish", o.Deny.Publish}, {"deny.subscribe", o.Deny.Subscribe}} {
		if len(list.filters) > maxDenials {
			return fmt.Errorf("%s: at most %d", list.setting, maxDenials)
		}
		for _, filter := range list.filters {
			if !mqtt.ValidFilter([]byte(filter)) || len(filter) > fieldgate.MaxPathBytes || strings.HasPrefix(filter, "$share/") {
				return fmt.Errorf("%s: %q is no topic filter: write one such as admin/# or plant/+/secret", list.setting, filter)
			}
		}
	}
	return cmp.Or(o.ProxyProtocol.check(), o.mqttLimits.check())
}

// isOpen says whether anybody who reaches the machine is let in.
func (o *onRamp) isOpen() bool {
	return o != nil && o.Anonymous && (!isLoopback(o.Listen.MQTT) || !isLoopback(o.Listen.MQTTS))
}

// isLoopback says whether an address is reached from this machine only; nobody reaches an empty one.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if address == "" || host == "localhost" {
		return true
	}
	ip, failed := netip.ParseAddr(host)
	return err == nil && failed == nil && ip.IsLoopback()
}

// terms are the limits in the gateway's words, on the ground of others.
func (l *mqttLimits) terms(ground mqttfront.Terms) mqttfront.Terms {
	t := ground
	if t.Limits == (mqtt.Limits{}) {
		t.Limits = mqtt.DefaultLimits()
	}
	if l.Denied != "" {
		t.DisconnectDenied = l.Denied == "disconnect"
	}
	set(&t.MaxConnections, l.MaxConnections)
	set(&t.Limits.ConnectSize, int(l.MaxConnectSize))
	set(&t.Limits.PacketSize, int(l.MaxPacketSize))
	set(&t.Limits.OutSize, int(l.MaxUnsent))
	set(&t.Limits.ReceiveMaximum, l.ReceiveMaximum)
	set(&t.Limits.SendWindow, l.MaxInflight)
	if l.TopicAliasMaximum != nil {
		t.Limits.TopicAliasMaximum = *l.TopicAliasMaximum
	}
	if l.SendAliases != nil {
		t.Limits.SendAliases = *l.SendAliases
	}
	set(&t.Limits.FiltersPerPacket, l.MaxFilters)
	set(&t.MaxKeepAlive, uint16(l.MaxKeepAlive/time.Second))
	set(&t.MaxSubscriptions, l.MaxSubscriptions)
	set(&t.MaxQueued, l.MaxQueued)
	set(&t.MaxQueuedBytes, int(l.MaxQueuedSize))
	set(&t.MaxSessionExpiry, uint32(l.MaxSessionExpiry/time.Second))
	set(&t.MaxMessageRate, l.MaxMessageRate)
	set(&t.MaxByteRate, int(l.MaxByteRate))
	return t
}

// set replaces what is there by a value that is given.
func set[T comparable](place *T, value T) {
	var none T
	if value != none {
		*place = value
	}
}

// mqttBounds are the limits of MQTT listeners.
func (e *environment) mqttBounds() mqttfront.Bounds {
	m := &e.MQTT
	bounds := mqttfront.Bounds{Terms: m.terms(mqttfront.Terms{}), ConnectTimeout: m.ConnectTimeout, WriteTimeout: m.WriteTimeout,
		MaxSessions: m.MaxSessions, MaxSessionsOfCaller: m.MaxSessionsOfCaller, MaxConnectionsSource: m.MaxConnectionsSource,
		MaxHandshakesSource: m.MaxHandshakesSource, MaxHandshakes: m.MaxHandshakes, Workers: m.MaxUpstreamCalls,
		MaxStored: int64(m.MaxStoredSize), MaxRetained: int64(m.MaxRetained)}
	if m.Redirect.Server != "" {
		bounds.Redirect = &mqttfront.Redirect{Reason: mqtt.UseAnotherServer, Server: m.Redirect.Server}
		if m.Redirect.Permanent {
			bounds.Redirect.Reason = mqtt.ServerMoved
		}
	}
	return bounds
}

// onRampListeners is where the on-ramp listens; nil: there is none.
func (e *environment) onRampListeners() *gateway.OnRampListeners {
	o := e.MQTT.OnRamp
	if o == nil {
		return nil
	}
	ground := e.MQTT.terms(mqttfront.Terms{})
	return &gateway.OnRampListeners{MQTT: o.Listen.MQTT, MQTTS: o.Listen.MQTTS, Terms: o.terms(ground)}
}

// settings are those that can be changed while the gateway serves.
func (m *mqttSettings) settings() gateway.MQTT {
	s := gateway.MQTT{Proxies: peers(m.ProxyProtocol.MQTT), ProxiesTLS: peers(m.ProxyProtocol.MQTTS)}
	if o := m.OnRamp; o != nil {
		s.OnRampProxies, s.OnRampProxiesTLS = peers(o.ProxyProtocol.MQTT), peers(o.ProxyProtocol.MQTTS)
		s.OnRamp = gateway.OnRamp{Anonymous: o.Anonymous, PasswordFile: o.PasswordFile}
		for _, filter := range o.Deny.Publish {
			s.OnRamp.Deny = append(s.OnRamp.Deny, pipeline.Denial{Filter: filter, Publish: true})
		}
		for _, filter := range o.Deny.Subscribe {
			s.OnRamp.Deny = append(s.OnRamp.Deny, pipeline.Denial{Filter: filter, Subscribe: true})
		}
	}
	if p := m.Proxy; p != nil {
		s.ProxyPeers, s.ProxyPeersTLS, s.Proxy = peers(p.ProxyProtocol.MQTT), peers(p.ProxyProtocol.MQTTS), p.settings()
	}
	return s
}

// lasting is what of the settings counts from the start on only.
func (m mqttSettings) lasting() mqttSettings {
	m.ProxyProtocol = mqttProxies{}
	if m.OnRamp != nil {
		o := *m.OnRamp
		o.Anonymous, o.PasswordFile, o.ProxyProtocol = false, "", mqttProxies{}
		o.Deny.Publish, o.Deny.Subscribe = nil, nil
		m.OnRamp = &o
	}
	if p := m.Proxy; p != nil { // whether each client has a connection of its own, and where they come in
		m.Proxy = &mqttProxy{Listen: p.Listen, WebSocket: p.WebSocket, Uplinks: p.Uplinks}
	}
	return m
}
