// Package adminapi serves the admin API on a loopback address and a socket file: it carries out the interface that is
// generated from api/fieldgate.openapi.yaml with the capabilities of the control plane.
package adminapi

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"fieldgate/api"
	"fieldgate/control/access"
	"fieldgate/control/audit"
	"fieldgate/control/capture"
	"fieldgate/control/catalog"
	"fieldgate/control/commands"
	"fieldgate/control/fleet"
	"fieldgate/control/insight"
	"fieldgate/control/messaging"
	"fieldgate/control/once"
	"fieldgate/control/rollout"
	"fieldgate/control/targets"
	"fieldgate/engine/bus"
	"fieldgate/engine/seal"
	"fieldgate/engine/store"
)

const (
	headerTimeout   = 5 * time.Second
	requestTimeout  = time.Minute // to read a request, and again to answer it
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 10 * time.Second
	maxHeaderBytes  = 16 << 10
)

// Config is what a Server is made of.
type Config struct {
	Listen           string       // host:port; empty: only the socket file
	Certificate, Key string       // PEM files; needed where other machines reach Listen
	Socket           string       // path of the socket file, in a directory that only the operator can enter; empty: only Listen
	Hosts            []string     // names, in lower case, by which it is reached besides those of loopback addresses
	Console          http.Handler // answers everything but the API

	Version   string // of the program
	Node      string
	Role      string                // all, or control
	Engines   Engines               // in words
	Listeners func() []api.Listener // of the gateway in this process; may be nil
	Metrics   http.Handler

	// GatewayReady says why the gateway in this process cannot serve yet; nil where there is none.
	GatewayReady func() error

	Store     *store.Store
	Secrets   *seal.Keyring // by which pre-shared keys are sealed; may be nil
	Bus       *bus.Bus
	Catalog   *catalog.Catalog
	Fleet     *fleet.Fleet
	Apps      *access.Apps
	Operators *access.Operators
	Decisions *audit.Feed
	Insight   *insight.Insight
	Rollout   *rollout.Rollout
	Targets   *targets.Targets
	Captures  *capture.Captures
	Messaging *messaging.Messaging
	Commands  *commands.Commands
	Log       *slog.Logger
}

// Engines names what this installation stands on.
type Engines struct{ Store, Bus string }

// Server serves the admin API.
type Server struct {
	config   Config
	own      ownAPI
	requests *once.Requests
	lasting  lastingRequests
	bulk     chan struct{} // holds who publishes many documents
	monitor  *monitor
	started  time.Time
	http     *http.Server
	stopping chan struct{} // closed when streams have to end
	tcp      net.Listener  // nil: none
	unix     net.Listener  // nil: none
	open     net.Listener  // at the address that other machines reach; nil until it is bound
	mu       sync.Mutex    // guards open
}

// New makes a Server. It does not listen yet.
func New(config Config) *Server {
	s := &Server{config: config, started: time.Now().UTC().Truncate(time.Second), bulk: make(chan struct{}, maxPublishing), stopping: make(chan struct{})}
	s.own, s.requests, s.monitor = newOwnAPI(s.started), once.NewRequests(), newMonitor(s)
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(config.Log.Handler(), slog.LevelDebug), // what clients do wrong
	}
	if config.Certificate != "" {
		s.http.TLSConfig = s.tlsConfig()
	}
	s.http.RegisterOnShutdown(func() { close(s.stopping) })
	return s
}
