// Package gateway is the data plane: everything that a device's byte touches. It wires the protocol fronts, the pipeline and
// what feeds them: the snapshot of contracts, the directory of principals, the broker and the recorder.
//
// It owns its folder: the disk copies of snapshot and directory, with which a restart serves before the control plane answers,
// the journal of sessions and messages, and the outbox of Records. It promises that no exchange waits for the control plane or
// the bus, and that what is in force stays in force while they are away.
package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/engine/seal"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/capture"
	"fieldgate/gateway/certificates"
	"fieldgate/gateway/coapfront"
	"fieldgate/gateway/coapsocket"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/httpfront"
	"fieldgate/gateway/mqttcluster"
	"fieldgate/gateway/mqttfront"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/recorder"
	"fieldgate/gateway/upstream"
)

const catchUpTimeout = time.Second

// Config is all that a Gateway works with.
type Config struct {
	Node   string // name of this gateway; part of Records
	Folder string // of its files; created if missing

	HTTP, HTTPS, HTTP3, MQTT, MQTTS, CoAP, CoAPS, CoAPTCP, CoAPSTCP string // host:port to listen on; empty: not at all

	CoAPOnRamp  string           // host:port of the CoAP on-ramp; empty: there is none
	MQTTPath    string           // of WebSockets for MQTT at HTTP and HTTPS; empty: none
	MQTTOrigins []string         // of pages that may open them; empty: all
	OnRamp      *OnRampListeners // nil: there is none
	MQTTBounds  mqttfront.Bounds
	MQTTProxy   *MQTTProxy // nil: there is none

	ResourceDirectory bool     // devices may register (RFC 9176), and are reached by what contracts say of device
	CoAPPath          string   // of WebSockets for CoAP at HTTP and HTTPS; empty: none
	CoAPOrigins       []string // of pages that may open them; empty: all
	CoAPBounds        coapfront.StreamBounds
	CoAPPeers         coapfront.PeerBounds
	CoAPSessions      coapfront.SessionBounds

	Settings Settings
	Bus      *bus.Bus      // may be away, at the start and later
	Secrets  *seal.Keyring // by which pre-shared keys of devices are opened; nil: none is
	Logger   *slog.Logger

	OutboxMaxBytes int64 // of Records that wait on disk for the bus, beyond which the oldest are dropped; 0: 1 GiB
}

// Gateway is one node of the data plane.
type Gateway struct {
	config    Config
	pipeline  *pipeline.Pipeline
	directory *directory.Directory
	recorder  *recorder.Recorder
	snapshots *snapshots
	targets   *targets
	inspected *inspection
	coapSeen  coapInspection
	quotas    *pipeline.Quotas
	cluster   *mqttcluster.Cluster // nil: no other gateway shares the bus

	certificates *certificates.Certificates
	web          *httpfront.Front // nil: there is no HTTP listener
	mqtt         messaging
	proxy        proxying
	coap         constrained
	access       access

	fronts    []func(context.Context) error
	counts    []func(*fieldgate.GatewayState) // what each front adds to the state
	listeners []io.Closer
	addresses map[string]string
	changed   chan struct{} // something in the GatewayState changed
	upstreams atomic.Bool   // and of the upstreams too
	started   time.Time
	namesake  atomic.Int64 // when another gateway with this one's name was heard, in nanoseconds since started; 0: never
}

// New reads the files of the last run and binds the listeners; it serves nobody before Run. A port that is taken is an error
// that names it and the setting.
func New(config Config) (*Gateway, error) {
	if err := os.MkdirAll(config.Folder, 0o700); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	upstreams, err := upstream.NewSet(config.Settings.Upstreams)
	if err != nil {
		return nil, err
	}
	// The outbox comes first: it holds the lock that keeps a second gateway out of the folder.
	records, err := recorder.Open(recorder.Config{Node: config.Node, Folder: filepath.Join(config.Folder, "outbox"), OutboxMaxBytes: config.OutboxMaxBytes,
		Sink: func(ctx context.Context, id string, batch []byte) error {
			return config.Bus.Append(ctx, fieldgate.SubjectRecords+config.Node, id, batch)
		}, Logger: config.Logger})
	if err != nil {
		return nil, err
	}
	principals, err := directory.Open(filepath.Join(config.Folder, "directory"), config.Logger)
	if err != nil {
		records.Close()
		return nil, err
	}
	principals.Secrets = config.Secrets
	quotas, err := pipeline.OpenQuotas(filepath.Join(config.Folder, "quotas"), principals, config.Logger)
	if err != nil {
		records.Close()
		return nil, errors.Join(err, principals.Close())
	}
	g := &Gateway{config: config, directory: principals, recorder: records, quotas: quotas, addresses: make(map[string]string), changed: make(chan struct{}, 1), started: time.Now()}
	messages := broker.New()
	g.pipeline = pipeline.New(pipeline.Config{Node: config.Node, Epoch: records.Epoch(), Directory: principals, Upstreams: upstreams, Broker: messages, Recorder: g.recorder, Bus: config.Bus, Quotas: quotas})
	if config.Bus.Shared() {
		g.cluster = mqttcluster.New(mqttcluster.Config{Node: config.Node, Incarnation: records.Epoch(), Bus: config.Bus, Logger: config.Logger})
		messages.Join(g.cluster)
	}
	g.snapshots = &snapshots{file: filepath.Join(config.Folder, "snapshot"), bus: config.Bus, pipeline: g.pipeline, logger: config.Logger, report: g.report,
		keys: make(map[string]*fieldgate.Contract), changed: make(chan struct{}, 1)}
	g.targets = &targets{file: filepath.Join(config.Folder, "targets"), bus: config.Bus, upstreams: upstreams, logger: config.Logger, report: g.report}
	if err = errors.Join(g.snapshots.load(), g.targets.load()); err == nil {
		err = g.openCertificates()
	}
	if err == nil {
		err = g.listen()
	}
	if err == nil {
		g.access.pipeline, g.access.log = g.pipeline, config.Logger
		var apply func()
		if apply, err = g.access.prepare(config.Settings.AccessLog); err == nil {
			apply()
		}
	}
	if err != nil {
		g.release()
		return nil, err
	}
	return g, nil
}

// listen binds the sockets and makes the fronts behind them.
func (g *Gateway) listen() error {
	if err := g.listenHTTP(); err != nil {
		return err
	}
	if err := g.listenMQTT(); err != nil {
		return err
	}
	if err := g.listenMQTTProxy(); err != nil {
		return err
	}
	return g.listenCoAP()
}

// listenHTTP makes one front for the plain listener and that for TLS.
func (g *Gateway) listenHTTP() error {
	config := g.config
	var plain, secure net.Listener
	var err error
	if config.HTTP != "" {
		if plain, err = g.bind("http", config.HTTP); err != nil {
			return err
		}
	}
	if config.HTTPS != "" {
		if secure, err = g.bind("https", config.HTTPS); err != nil {
			return err
		}
	}
	var quic net.PacketConn
	var quicPort uint16
	if config.HTTP3 != "" {
		if quic, err = net.ListenPacket("udp", config.HTTP3); err != nil {
			return listenError("listen.http3", config.HTTP3, err)
		}
		g.listeners = append(g.listeners, quic)
		g.addresses["http3"] = quic.LocalAddr().String()
		quicPort = uint16(quic.LocalAddr().(*net.UDPAddr).Port)
	}
	if plain == nil && secure == nil && quic == nil {
		return nil
	}
	web := httpfront.Config{Pipeline: g.pipeline, Logger: config.Logger, Settings: g.webSettings(config.Settings), HTTP3Port: quicPort}
	web.Subprotocols = make(map[string]*httpfront.Subprotocol)
	if config.MQTTPath != "" { // the fronts are made next
		web.Subprotocols[config.MQTTPath] = &httpfront.Subprotocol{Name: "mqtt", Origins: config.MQTTOrigins,
			Serve: func(link net.Conn, early []byte, source netip.AddrPort, caller *pipeline.Caller) {
				g.mqtt.front.OpenWebSocket(link, early, source, caller)
			}}
	}
	if p := config.MQTTProxy; p != nil && p.WebSocket != "" {
		web.Subprotocols[p.WebSocket] = &httpfront.Subprotocol{Name: "mqtt", Origins: config.MQTTOrigins, Serve: g.proxy.openWebSocket}
	}
	if config.CoAPPath != "" {
		web.Subprotocols[config.CoAPPath] = &httpfront.Subprotocol{Name: coapsocket.Subprotocol, Origins: config.CoAPOrigins,
			Serve: func(link net.Conn, early []byte, source netip.AddrPort, caller *pipeline.Caller) {
				g.coap.front.OpenWebSocket(link, early, source, caller)
			}}
	}
	g.web = httpfront.New(web)
	if plain != nil {
		g.fronts = append(g.fronts, func(ctx context.Context) error { return g.web.Serve(ctx, plain) })
	}
	if secure != nil {
		offered := g.certificates.DeviceConfig("h2", "http/1.1")
		g.fronts = append(g.fronts, func(ctx context.Context) error { return g.web.ServeTLS(ctx, secure, offered) })
	}
	if quic != nil {
		offered := g.certificates.DeviceConfig("h3")
		g.fronts = append(g.fronts, func(ctx context.Context) error { return g.web.ServeHTTP3(ctx, quic, offered) })
	}
	g.counts = append(g.counts, func(state *fieldgate.GatewayState) { state.Connections["http"] = g.web.Stats().Connections })
	return nil
}

func (g *Gateway) bind(name, address string) (net.Listener, error) {
	return g.bindAs(name, "listen."+name, address)
}

func (g *Gateway) bindAs(name, setting, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, listenError(setting, address, err)
	}
	g.listeners = append(g.listeners, listener)
	g.addresses[name] = listener.Addr().String()
	return listener, nil
}

func listenError(setting, address string, err error) error {
	return fmt.Errorf("cannot listen on %s (setting %s): %w; end the program that uses it, or choose another address", address, setting, err)
}

// Addresses are those that the gateway listens on, by name: http, https, http3, mqtt, mqtts, on-ramp, on-ramp-tls, mqtt-proxy, mqtt-proxy-tls, coap, coaps, coap-tcp,
// coaps-tcp.
func (g *Gateway) Addresses() map[string]string { return g.addresses }

// Run serves until the context ends or a part fails: then the fronts let exchanges under way finish, the last Records go to the
// bus or stay in the outbox, and it returns when all has ended.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.release()
	// Records and messages to other nodes are sent until the last exchange has ended.
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	var senders sync.WaitGroup
	senders.Go(func() { g.recorder.Run(sending) })

	g.catchUp(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var clusterFailed error
	if g.cluster != nil {
		senders.Go(func() {
			clusterFailed = g.cluster.Run(sending)
			stop()
		})
	}
	upstreams := func(ctx context.Context) error {
		g.pipeline.Upstreams.Run(ctx)
		return nil
	}
	observations := func(ctx context.Context) error {
		g.pipeline.Observe(ctx)
		return nil
	}
	parts := append([]func(context.Context) error{observations, g.snapshots.run, g.followDirectory, g.targets.run, g.quotas.Run, g.tell, upstreams, g.watchUpstreams, g.watchUsers, g.certificates.Run, g.inspected.run, g.coapSeen.run,
		capture.New(g.config.Node, g.pipeline, g.config.Bus, g.config.Logger).Run}, g.fronts...)
	failed := make([]error, len(parts))
	var running sync.WaitGroup
	for i, part := range parts {
		running.Go(func() {
			failed[i] = part(ctx)
			stop() // none of the parts ends before it is told to, unless it fails
		})
	}
	running.Wait()
	stopSending()
	senders.Wait()
	return errors.Join(append(failed, clusterFailed)...)
}

// catchUp asks for what was decided while the gateway was away, so that it does not serve by rules that are out of date. It does
// not wait long: without the control plane the rules on disk count.
func (g *Gateway) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	err := errors.Join(g.snapshots.pull(ctx), pullDirectory(ctx, g.config.Bus, g.directory), g.targets.pull(ctx))
	if err != nil && ctx.Err() == nil {
		g.config.Logger.Warn("the gateway starts with what it has on disk: the control plane does not answer", "error", err)
	}
}

// report makes tell speak at once.
func (g *Gateway) report() { wake(g.changed) }

// tell says what is in force whenever it changes, and now and then.
func (g *Gateway) tell(ctx context.Context) error {
	stop, err := g.config.Bus.Subscribe(fieldgate.SubjectGatewayState, g.hear)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	defer stop()
	ticker := time.NewTicker(fieldgate.GatewayStateInterval)
	defer ticker.Stop()
	unheard := false
	g.upstreams.Store(true)
	for {
		current := g.state()
		if g.upstreams.Swap(false) {
			current.Upstreams = g.upstreamStates()
		}
		state, err := json.Marshal(current)
		if err != nil {
			return err
		}
		err = g.config.Bus.Publish(fieldgate.SubjectGatewayState, state)
		if err != nil && !unheard {
			g.config.Logger.Warn("the gateway's state cannot be sent; it is sent when the bus answers", "error", err)
		}
		unheard = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-g.changed:
		case <-ticker.C:
			g.upstreams.Store(true)
		}
	}
}

// hear notices another gateway that has this one's name: their states and Records would be taken for one gateway's.
func (g *Gateway) hear(_ string, data []byte) {
	var other struct {
		Node  string `json:"node"`
		Epoch uint64 `json:"epoch"`
	}
	if json.Unmarshal(data, &other) != nil || other.Node != g.config.Node || other.Epoch == g.recorder.Epoch() || other.Epoch == 0 {
		return
	}
	if !g.nameTaken() {
		g.config.Logger.Error("another gateway has this one's name; give each a name of its own (setting node)", "node", other.Node)
		defer g.report()
	}
	g.namesake.Store(int64(time.Since(g.started))) // a clock that is set must not make it last
}

func (g *Gateway) nameTaken() bool {
	heard := time.Duration(g.namesake.Load())
	return heard != 0 && time.Since(g.started)-heard < 3*fieldgate.GatewayStateInterval
}

// state is all but the upstreams.
func (g *Gateway) state() *fieldgate.GatewayState {
	records := g.recorder.Stats()
	state := &fieldgate.GatewayState{Node: g.config.Node, Epoch: g.recorder.Epoch(), NameTaken: g.nameTaken(),
		Snapshot: g.pipeline.Program().Version, Directory: g.directory.Sequence(), Targets: g.targets.version.Load(), Problem: g.snapshots.why(), Connections: make(map[string]int),
		Certificates: g.certificates.States(), SecretsKey: g.config.Secrets.Name(), SecretsProblem: g.config.Secrets.Problem(), AccessLog: g.access.state(), Cache: g.pipeline.Cache.State(),
		RecordsDropped: records.Dropped, OutboxBytes: records.OutboxBytes, OutboxOldest: records.OutboxOldest}
	for _, count := range g.counts {
		count(state)
	}
	return state
}

// release closes what New opened; listeners that their fronts have closed do not mind.
func (g *Gateway) release() {
	for _, listener := range g.listeners {
		listener.Close()
	}
	if g.access.pipeline != nil {
		g.access.end()
	}
	if err := g.directory.Close(); err != nil {
		g.config.Logger.Error("the directory's log was not closed cleanly", "error", err)
	}
	g.recorder.Close()
}
