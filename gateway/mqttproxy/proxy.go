// Package mqttproxy stands in front of an MQTT broker: each device has a connection of its own to the broker, and every packet that it
// sends passes the pipeline first.
//
// It owns the connections of both sides, and no session state: sessions, queues and retained messages are the broker's. Packet identifiers
// and acknowledgements pass through as they are, so that what is acknowledged to a device has been taken by the broker, and messages of
// QoS 1 and 2 survive the loss of either connection, and of the gateway. What the pipeline refuses is answered here and never reaches the
// broker. It promises that a revoked or quarantined caller's connections close at once, that a device hears only what its contracts let it
// hear, and that whoever is slow holds up its own connection only. It decides nothing itself about who may do what: that is the pipeline's
// answer.
package mqttproxy

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/gateway/mqttsocket"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/socket"
	"fieldgate/protocol/mqtt"
)

// Config is all that a Proxy works with.
type Config struct {
	Pipeline  *pipeline.Pipeline
	Listeners []Listener
	Settings  Settings
	Logger    *slog.Logger
	Changed   func() // told when a broker becomes healthy, or is no longer; nil: nobody

	Limits         mqtt.Limits   // of a device's connection; zero: mqtt.DefaultLimits
	MaxConnections int           // of devices; 0: 100,000
	ConnectTimeout time.Duration // from accept to CONNECT, TLS handshake included, and again for each try to reach a broker; 0: 5 s
	WriteTimeout   time.Duration // for a peer that takes no bytes; 0: 30 s
	// DisconnectDenied ends the connection of a 3.1.1 device whose message is refused; otherwise the message is acknowledged and dropped.
	DisconnectDenied bool
	ProbeInterval    time.Duration // between two looks at a broker; 0: 5 s
}

// Listener is where devices come in. Run closes it.
type Listener struct {
	net.Listener
	TLS     *tls.Config           // nil: plain
	Proxies func() []netip.Prefix // peers that begin each connection with a PROXY header; where there are any, nobody else is let in; nil: none
}

// Counters are what a Proxy counts.
type Counters struct {
	Connections       atomic.Int64         // of devices, open now
	Refused           atomic.Uint64        // connections that did not get to the broker
	Published         atomic.Uint64        // messages received from devices
	Denied            mqttexchange.Denials // of these, and of wills and topic filters, refused by the pipeline
	Delivered         atomic.Uint64        // messages from brokers that devices got
	Withheld          atomic.Uint64        // messages from brokers that their device may not hear, or that it could not take
	PropertiesDropped atomic.Uint64        // packets that lost properties, as the broker does not speak version 5
	Malformed         atomic.Uint64        // connections ended as the device broke the protocol
}

// Proxy is safe for concurrent use.
type Proxy struct {
	Counters Counters

	config   Config
	pipeline *pipeline.Pipeline
	logger   *slog.Logger
	brokers  atomic.Pointer[brokers]
	watched  watched
	owned    mqttexchange.OwnedTopics
	batches  sync.Pool

	running sync.WaitGroup
	ctx     context.Context // of calls to brokers
	cancel  context.CancelFunc

	mu       sync.Mutex
	open     map[net.Conn]struct{} // that have no session yet
	sessions map[*session]struct{}
	callers  map[callerKey]map[*session]struct{}
	clients  map[string]*session // by the client identifier that the broker sees
	stopping bool
}

type callerKey struct {
	kind fieldgate.PrincipalKind
	id   string
}

// New makes a proxy. Nobody is served, and no broker is called, before Run. An error says which setting is wrong.
func New(config Config) (*Proxy, error) {
	if config.Limits == (mqtt.Limits{}) {
		config.Limits = mqtt.DefaultLimits()
	}
	config.MaxConnections = cmp.Or(config.MaxConnections, 100_000)
	config.ConnectTimeout = cmp.Or(config.ConnectTimeout, 5*time.Second)
	config.WriteTimeout = cmp.Or(config.WriteTimeout, 30*time.Second)
	config.ProbeInterval = cmp.Or(config.ProbeInterval, 5*time.Second)
	if config.Changed == nil {
		config.Changed = func() {}
	}
	found, err := newBrokers(&config, nil)
	if err != nil {
		return nil, err
	}
	p := &Proxy{config: config, pipeline: config.Pipeline, logger: config.Logger, open: make(map[net.Conn]struct{}),
		sessions: make(map[*session]struct{}), callers: make(map[callerKey]map[*session]struct{}), clients: make(map[string]*session)}
	p.brokers.Store(found)
	p.batches.New = func() any { return new(batch) }
	p.ctx, p.cancel = context.WithCancel(context.Background())
	config.Pipeline.Directory.Watch(p.callerChanged)
	return p, nil
}

// Run serves until the context ends, then tells version 5 devices that the server shuts down, and returns when all goroutines have ended.
func (p *Proxy) Run(ctx context.Context) error {
	p.watched.run(p.ctx, p.brokers.Load())
	var accepting sync.WaitGroup
	failed := make(chan error, len(p.config.Listeners))
	for _, l := range p.config.Listeners {
		accepting.Go(func() {
			if err := p.accept(l); err != nil {
				failed <- err
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	p.shutDown()
	accepting.Wait()
	p.running.Wait()
	p.watched.wait()
	return err
}

func (p *Proxy) shutDown() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
	p.cancel()
	for _, l := range p.config.Listeners {
		l.Close()
	}
	for conn := range p.open {
		conn.Close()
	}
	for s := range p.sessions {
		p.running.Go(func() { s.end(farewell{reason: mqtt.ServerShuttingDown}) })
	}
}

func (p *Proxy) accept(l Listener) error {
	err := socket.Accept(p.ctx, l, p.logger, func(conn net.Conn) {
		source := socket.Peer(conn)
		if tcp, ok := conn.(*net.TCPConn); ok {
			conn = socket.New(tcp)
		}
		if l.TLS != nil {
			conn = tls.Server(conn, l.TLS)
		}
		var proxies []netip.Prefix
		if l.Proxies != nil {
			proxies = l.Proxies()
		}
		p.take(conn, source, proxies)
	})
	if err != nil {
		return fmt.Errorf("mqtt proxy: listen on %s: %w", l.Addr(), err)
	}
	return nil
}

// OpenWebSocket serves MQTT over a WebSocket whose opening handshake is done. early is what the client has sent behind it, and is copied.
func (p *Proxy) OpenWebSocket(conn net.Conn, early []byte, source netip.AddrPort) {
	p.take(mqttsocket.New(conn, early), source, nil)
}

// take has a connection served. proxies, if there are any, are those of which it has to come.
func (p *Proxy) take(conn net.Conn, source netip.AddrPort, proxies []netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping || int(p.Counters.Connections.Load()) >= p.config.MaxConnections {
		p.Counters.Refused.Add(1)
		conn.Close()
		return
	}
	p.open[conn] = struct{}{}
	p.Counters.Connections.Add(1)
	p.running.Go(func() { p.serve(conn, source, proxies) })
}

// Prepare reads what other settings name, and gives the function that puts them into force: for devices to come, and for those whose broker,
// prefix or client identifier they change, who are told to come again (0x8B). All others stay.
func (p *Proxy) Prepare(settings Settings) (apply func(), err error) {
	config := p.config
	config.Settings = settings
	found, err := newBrokers(&config, p.brokers.Load())
	if err != nil {
		return nil, err
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.brokers.Store(found)
		p.watched.replace(found)
		if p.stopping {
			return
		}
		for s := range p.sessions {
			if s.isOpen() && s.concerned(found) { // those that open ask themselves
				p.running.Go(func() {
					s.end(farewell{reason: mqtt.ServerShuttingDown, text: "The gateway has other settings; connect again."})
				})
			}
		}
	}, nil
}

// concerned says whether a session cannot go on with other settings.
func (s *session) concerned(now *brokers) bool {
	return s.brokers != now && (now.named(s.at.name) != s.at || string(s.prefix) != now.settings.Prefix || now.settings.mapClient(s.client, s.who()) != s.mapped)
}

// State is what the proxy knows about its brokers, in the order of the settings.
func (p *Proxy) State() fieldgate.UpstreamState { return p.brokers.Load().state() }

// enter makes the session one that a change of its caller ends. It fails where the client identifier is in use by somebody else: the broker,
// which sees the identifier only, would hand over that client's session.
func (p *Proxy) enter(s *session) mqtt.Reason {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return mqtt.ServerUnavailable
	}
	key := callerKey{s.who().Kind, s.who().ID}
	if other := p.clients[s.mapped]; other != nil && (other.who().Kind != key.kind || other.who().ID != key.id) {
		return mqtt.ClientIdentifierNotValid
	} else if other != nil {
		other.superseded.Store(true)
	}
	p.clients[s.mapped] = s
	p.sessions[s] = struct{}{}
	if p.callers[key] == nil {
		p.callers[key] = make(map[*session]struct{})
	}
	p.callers[key][s] = struct{}{}
	return mqtt.Success
}

func (p *Proxy) leave(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, s)
	if p.clients[s.mapped] == s {
		delete(p.clients, s.mapped)
	}
	key := callerKey{s.who().Kind, s.who().ID}
	if delete(p.callers[key], s); len(p.callers[key]) == 0 {
		delete(p.callers, key)
	}
}

// callerChanged closes the connections of a caller that may no longer be there. The broker is told goodbye, so that it forgets the will: the
// pipeline would refuse it.
func (p *Proxy) callerChanged(change *fieldgate.DirectoryChange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return
	}
	for s := range p.callers[callerKey{change.Kind, change.ID}] {
		if problem := p.pipeline.Valid(s.who()); problem != nil {
			p.logger.Info("an MQTT connection is closed: its caller may no longer connect", "principal", change.ID, "problem", string(problem.Code))
			p.running.Go(func() { s.end(farewell{reason: mqtt.NotAuthorized, goodbye: true}) })
		}
	}
}

// newClientID makes an identifier for a client that sent none [MQTT-3.1.3-7].
func newClientID() string { return "fg-" + rand.Text() }
