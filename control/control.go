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
	"fieldgate/control/directory"
	"fieldgate/control/fleet"
	"fieldgate/control/insight"
	"fieldgate/control/rollout"
	"fieldgate/control/targets"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// Bounds of the stream of records where Config names none.
const (
	DefaultRecordsMaxBytes = 256 << 20
	DefaultRecordsMaxAge   = 7 * 24 * time.Hour
)

// Config is what a control plane is made of. The store is opened with schema.Migrations.
type Config struct {
	Store *store.Store
	Bus   *bus.Bus
	Log   *slog.Logger

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
	Upstreams []string              // names in the environment file of this node
	Listeners func() []api.Listener // of the gateway in this process; may be nil

	Link         catalog.Link // what gateways do with contracts; may be nil
	GatewayReady func() error // why the gateway in this process cannot serve yet; may be nil

	RecordsMaxBytes int64         // of the stream of records; 0: 256 MiB
	RecordsMaxAge   time.Duration // of the stream of records; 0: 7 days
}

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
	signIn    string // one-time token of the first sign-in
	stops     []func()
}

// New makes a control plane. It starts nothing.
func New(config Config) *Control {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	c := &Control{
		config:    config,
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
	c.admin = adminapi.New(adminapi.Config{
		Listen: config.Listen, Certificate: config.Certificate, Key: config.Key, Hosts: config.Hosts, Socket: config.Socket, Console: config.Console,
		Version: config.Version, Node: config.Node, Role: config.Role, Engines: config.Engines, GatewayReady: config.GatewayReady,
		Upstreams: config.Upstreams, Listeners: config.Listeners,
		Metrics:   promhttp.HandlerFor(metrics, promhttp.HandlerOpts{Registry: metrics}),
		Store:     config.Store,
		Bus:       config.Bus,
		Catalog:   c.catalog,
		Fleet:     fleet.New(config.Store, c.directory),
		Apps:      access.NewApps(config.Store, c.directory),
		Operators: c.operators,
		Decisions: c.decisions,
		Insight:   c.insight,
		Rollout:   c.rollout,
		Targets:   c.targets,
		Captures:  c.captures,
		Log:       config.Log,
	})
	return c
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
	parts := []func(context.Context) error{c.count, c.decisions.Run, c.captures.Run, c.targets.Run, c.admin.Run}
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
	for {
		_, err := c.config.Bus.Keep(ctx, stream)
		if err == nil {
			return c.insight.Run(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, bus.ErrUnsuitable) {
			return err
		}
		c.config.Log.Warn("records cannot be counted yet: there is no stream of them; it is tried again", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(keepRetry):
		}
	}
}
