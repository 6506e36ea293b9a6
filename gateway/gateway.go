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
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/capture"
	"fieldgate/gateway/certificates"
	"fieldgate/gateway/coapfront"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/httpfront"
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

	HTTP, HTTPS, HTTP3, MQTT, CoAP string // host:port to listen on; empty: not at all

	Settings Settings
	Bus      *bus.Bus // may be away, at the start and later
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

	certificates *certificates.Certificates
	web          *httpfront.Front // nil: there is no HTTP listener
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
	g := &Gateway{config: config, directory: principals, recorder: records, addresses: make(map[string]string), changed: make(chan struct{}, 1), started: time.Now()}
	g.pipeline = pipeline.New(pipeline.Config{Node: config.Node, Epoch: records.Epoch(), Directory: principals, Upstreams: upstreams, Broker: broker.New(), Recorder: g.recorder})
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
		g.access.pipeline = g.pipeline
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
	config := g.config
	if err := g.listenHTTP(); err != nil {
		return err
	}
	// The MQTT front keeps the journal of retained messages and sessions, so it is there with or without a listener.
	mqtt := mqttfront.Config{Pipeline: g.pipeline, Folder: filepath.Join(config.Folder, "mqtt"), Logger: config.Logger}
	if config.MQTT != "" {
		listener, err := g.bind("mqtt", config.MQTT)
		if err != nil {
			return err
		}
		mqtt.Listeners = []net.Listener{listener}
	}
	sessions, err := mqttfront.New(mqtt)
	if err != nil {
		return err
	}
	g.fronts = append(g.fronts, sessions.Run)
	g.counts = append(g.counts, func(state *fieldgate.GatewayState) {
		c := &sessions.Counters
		state.Connections["mqtt"] = int(c.Connections.Load())
		state.MessagesDropped += c.DroppedQoS0.Load() + c.DroppedOverflow.Load() + c.DroppedExpired.Load() + c.DroppedTooLarge.Load()
		state.Malformed += c.Malformed.Load()
	})
	if config.CoAP != "" {
		front, err := coapfront.Listen([]string{config.CoAP}, g.pipeline, config.Logger)
		if err != nil {
			return listenError("coap", config.CoAP, err)
		}
		g.addresses["coap"] = front.Addresses()[0].String()
		g.fronts = append(g.fronts, front.Run)
		g.counts = append(g.counts, func(state *fieldgate.GatewayState) {
			stats := front.Stats()
			state.Connections["coap"] = stats.Peers
			state.Malformed += stats.Malformed
		})
	}
	return nil
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
			return listenError("http3", config.HTTP3, err)
		}
		g.listeners = append(g.listeners, quic)
		g.addresses["http3"] = quic.LocalAddr().String()
		quicPort = uint16(quic.LocalAddr().(*net.UDPAddr).Port)
	}
	if plain == nil && secure == nil && quic == nil {
		return nil
	}
	g.web = httpfront.New(httpfront.Config{Pipeline: g.pipeline, Logger: config.Logger, Settings: g.webSettings(config.Settings), HTTP3Port: quicPort})
	if plain != nil {
		g.fronts = append(g.fronts, func(ctx context.Context) error { return g.web.Serve(ctx, plain) })
	}
	if secure != nil {
		offered := g.certificates.Config("h2", "http/1.1")
		g.fronts = append(g.fronts, func(ctx context.Context) error { return g.web.ServeTLS(ctx, secure, offered) })
	}
	if quic != nil {
		offered := g.certificates.Config("h3")
		g.fronts = append(g.fronts, func(ctx context.Context) error { return g.web.ServeHTTP3(ctx, quic, offered) })
	}
	g.counts = append(g.counts, func(state *fieldgate.GatewayState) { state.Connections["http"] = g.web.Stats().Connections })
	return nil
}

func (g *Gateway) bind(setting, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, listenError(setting, address, err)
	}
	g.listeners = append(g.listeners, listener)
	g.addresses[setting] = listener.Addr().String()
	return listener, nil
}

func listenError(setting, address string, err error) error {
	return fmt.Errorf("cannot listen on %s (setting listen.%s): %w; end the program that uses it, or choose another address", address, setting, err)
}

// Addresses are those that the gateway listens on, by protocol: http, https, http3, mqtt, coap.
func (g *Gateway) Addresses() map[string]string { return g.addresses }

// Run serves until the context ends or a part fails: then the fronts let exchanges under way finish, the last Records go to the
// bus or stay in the outbox, and it returns when all has ended.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.release()
	// Records are sent until the last exchange has ended.
	recording, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	var recorder sync.WaitGroup
	recorder.Go(func() { g.recorder.Run(recording) })

	g.catchUp(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	upstreams := func(ctx context.Context) error {
		g.pipeline.Upstreams.Run(ctx)
		return nil
	}
	parts := append([]func(context.Context) error{g.snapshots.run, g.followDirectory, g.targets.run, g.tell, upstreams, g.watchUpstreams, g.certificates.Run,
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
	stopRecording()
	recorder.Wait()
	return errors.Join(failed...)
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
			current.Upstreams = g.pipeline.Upstreams.States()
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
		Certificates: g.certificates.States(), AccessLog: g.access.state(),
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
