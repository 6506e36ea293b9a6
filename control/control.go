// Package control is the control plane: it wires the capabilities to the store, the bus and the admin API.
package control

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/access"
	"fieldgate/control/adminapi"
	"fieldgate/control/audit"
	"fieldgate/control/capture"
	"fieldgate/control/catalog"
	"fieldgate/control/commands"
	"fieldgate/control/directory"
	"fieldgate/control/fleet"
	"fieldgate/control/insight"
	"fieldgate/control/messaging"
	"fieldgate/control/rollout"
	"fieldgate/control/targets"
	"fieldgate/engine/bus"
	"fieldgate/engine/devices"
	"fieldgate/engine/seal"
	"fieldgate/engine/store"
)

// Bounds of the stream of records where Config names none.
const (
	DefaultRecordsMaxBytes = 256 << 20
	DefaultRecordsMaxAge   = 7 * 24 * time.Hour
)

// Config is what a control plane is made of. The store is opened with schema.Migrations.
type Config struct {
	Store   *store.Store
	Bus     *bus.Bus
	Secrets *seal.Keyring // by which pre-shared keys of devices are sealed; nil: none can be kept
	Log     *slog.Logger

	Operator         *access.Operator // see access.LoadOperator
	Listen           string           // host:port of the admin API and console; empty: only the socket file
	Certificate, Key string           // PEM files of the admin API, for an address that other machines reach
	Hosts            []string         // by which the admin API may be called besides loopback names, such as a proxy's on the same machine
	Socket           string           // path of the admin API's socket file; empty: only Listen

	Console http.Handler // answers what is no address of the admin API; may be nil

	Version   string // of the program
	Node      string
	Role      string                // of the node: all or control
	Engines   adminapi.Engines      // in words
	Listeners func() []api.Listener // of the gateway in this process; may be nil

	Link         catalog.Link // what gateways do with contracts; may be nil
	GatewayReady func() error // why the gateway in this process cannot serve yet; may be nil

	RecordsMaxBytes int64         // of the stream of records; 0: 256 MiB
	RecordsMaxAge   time.Duration // of the stream of records; 0: 7 days
}

const roleAll = "all"

// Control is one control plane.
type Control struct {
	config    Config
	directory *directory.Directory
	catalog   *catalog.Catalog
	insight   *insight.Insight
	rollout   *rollout.Rollout
	targets   *targets.Targets
	operators *access.Operators
	decisions *audit.Feed
	captures  *capture.Captures
	admin     *adminapi.Server
	metrics   *prometheus.Registry
	signIn    string // one-time token of the first sign-in
	stops     []func()
}

// New makes a control plane. It starts nothing.
func New(config Config) *Control {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	c := &Control{
		config:    config,
		metrics:   metrics,
		directory: directory.New(config.Store, config.Bus, config.Log),
		catalog:   catalog.New(config.Store, config.Bus, config.Link, config.Log),
		insight:   insight.New(config.Store, config.Bus, metrics, config.Log),
		rollout:   rollout.New(config.Bus, config.Log),
		targets:   targets.New(config.Store, config.Bus, config.Log),
		operators: access.NewOperators(config.Store, config.Bus, config.Operator, config.Log),
		decisions: audit.NewFeed(config.Store, config.Bus, config.Log),
		captures:  capture.New(config.Bus, config.Log),
	}
	if !config.Store.Shared() {
		c.insight.Alone()
	}
	metrics.MustRegister(c.rollout)
	if config.Role == roleAll {
		c.rollout.Expect(config.Node)
	}
	c.admin = adminapi.New(adminapi.Config{
		Listen: config.Listen, Certificate: config.Certificate, Key: config.Key, Hosts: config.Hosts, Socket: config.Socket, Console: config.Console,
		Version: config.Version, Node: config.Node, Role: config.Role, Engines: config.Engines, GatewayReady: config.GatewayReady,
		Listeners: config.Listeners,
		Metrics:   promhttp.HandlerFor(metrics, promhttp.HandlerOpts{Registry: metrics}),
		Store:     config.Store,
		Secrets:   config.Secrets,
		Bus:       config.Bus,
		Catalog:   c.catalog,
		Fleet:     fleet.New(config.Store, c.directory, config.Secrets),
		Apps:      access.NewApps(config.Store, c.directory),
		Operators: c.operators,
		Decisions: c.decisions,
		Insight:   c.insight,
		Rollout:   c.rollout,
		Targets:   c.targets,
		Captures:  c.captures,
		Messaging: messaging.New(config.Bus, c.gateways, config.Log),
		Commands:  commands.New(config.Bus),
		Log:       config.Log,
	})
	return c
}

// gateways are those that may be asked, and those that have fallen silent.
func (c *Control) gateways() (all messaging.Gateways) {
	now := time.Now()
	for _, g := range c.rollout.List() {
		if g.Silent(now) {
			all.Silent = append(all.Silent, g.Node)
		} else {
			all.Present = append(all.Present, g.Node)
		}
	}
	return all
}

// Start binds the admin API, compiles what an older program made, and answers gateways, so
// that what cannot work is known before anything else runs. Run must follow, or Stop.
func (c *Control) Start(ctx context.Context) (err error) {
	if err := c.admin.Listen(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	if err := c.catalog.Recompile(ctx); err != nil {
		return err
	}
	if c.signIn, err = c.operators.FirstSignIn(ctx); err != nil {
		return err
	}
	for _, serve := range []func() (func(), error){c.catalog.Serve, c.directory.Serve, c.rollout.Serve, c.targets.Serve} {
		stop, err := serve()
		if err != nil {
			return err
		}
		c.stops = append(c.stops, stop)
	}
	return nil
}

// Stop undoes Start, where Run does not follow.
func (c *Control) Stop() {
	for _, stop := range c.stops {
		stop()
	}
	c.admin.Close()
}

// Address is the TCP address of the admin API, after Start.
func (c *Control) Address() string { return c.admin.Address() }

// SignInToken is the one-time token of the first sign-in, after Start; empty where the installation has been claimed.
func (c *Control) SignInToken() string { return c.signIn }

// SignInTokenPath is the file that holds it.
func (c *Control) SignInTokenPath() string { return c.operators.SignInTokenPath() }

// Run serves until the context ends, and returns when everything has ended.
func (c *Control) Run(ctx context.Context) error {
	defer c.Stop()
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	parts := []func(context.Context) error{c.count, c.keepCommands, c.keepDevices, c.keepMQTT, c.decisions.Run, c.captures.Run, c.targets.Run, c.admin.Run}
	errs := make([]error, len(parts))
	for i, run := range parts {
		group.Go(func() {
			defer cancel() // one without the other would mislead
			errs[i] = run(running)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

const keepRetry = time.Second

// count makes sure of the stream of Records and counts them. A bus that is away for now, at the start too, is waited for: what is
// decided meanwhile is decided all the same.
func (c *Control) count(ctx context.Context) error {
	stream := bus.Stream{Name: fieldgate.StreamRecords, Subjects: []string{fieldgate.SubjectRecords + ">"},
		MaxBytes: c.config.RecordsMaxBytes, MaxAge: c.config.RecordsMaxAge}
	if stream.MaxBytes == 0 {
		stream.MaxBytes = DefaultRecordsMaxBytes
	}
	if stream.MaxAge == 0 {
		stream.MaxAge = DefaultRecordsMaxAge
	}
	if err := c.keep(ctx, stream); err != nil || ctx.Err() != nil {
		return err
	}
	return c.insight.Run(ctx)
}

// commandsMaxBytes bounds what is remembered of commands. More are refused until the oldest are forgotten, as contracts say.
const commandsMaxBytes = 128 << 20

// keepCommands makes sure of the stream by which gateways carry a command out once.
func (c *Control) keepCommands(ctx context.Context) error {
	err := c.keep(ctx, bus.Stream{Name: fieldgate.StreamCommands, Subjects: []string{fieldgate.SubjectCommands + "*"}, MaxBytes: commandsMaxBytes, Latest: true})
	if err == nil {
		<-ctx.Done()
	}
	return err
}

// keepDevices makes sure of the stream of registered devices and their commands.
func (c *Control) keepDevices(ctx context.Context) error {
	err := c.keep(ctx, devices.Stream)
	if err == nil {
		<-ctx.Done()
	}
	return err
}

// What the log of persistent MQTT sessions and retained messages holds. A gateway that was away for longer, or missed more, copies
// another's store.
const (
	mqttMaxBytes = 256 << 20
	mqttMaxAge   = 24 * time.Hour
)

// keepMQTT makes sure of that log, where gateways share a bus.
func (c *Control) keepMQTT(ctx context.Context) (err error) {
	if c.config.Bus.Shared() {
		err = c.keep(ctx, bus.Stream{Name: fieldgate.StreamMQTT, Subjects: []string{fieldgate.SubjectMQTTLog + ">"}, MaxBytes: mqttMaxBytes, MaxAge: mqttMaxAge})
	}
	if err == nil {
		<-ctx.Done()
	}
	return err
}

// keep makes sure of a stream.
func (c *Control) keep(ctx context.Context, stream bus.Stream) error {
	for {
		_, err := c.config.Bus.Keep(ctx, stream)
		if err == nil || errors.Is(err, bus.ErrUnsuitable) {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		c.config.Log.Warn("there is no stream yet; it is tried again", "stream", stream.Name, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(keepRetry):
		}
	}
}
