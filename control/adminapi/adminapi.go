// Package adminapi serves the admin API on a loopback address and a socket file: it carries out the interface that is
// generated from api/fieldgate.openapi.yaml with the capabilities of the control plane.
package adminapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"fieldgate/api"
	"fieldgate/control/access"
	"fieldgate/control/audit"
	"fieldgate/control/catalog"
	"fieldgate/control/fleet"
	"fieldgate/control/insight"
	"fieldgate/control/rollout"
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
	Listen string   // host:port; empty: only the socket file
	Socket string   // path of the socket file, in a directory that only the operator can enter; empty: only Listen
	Hosts  []string // names, in lower case, by which it is reached besides those of loopback addresses

	Version   string // of the program
	Node      string
	Upstreams []string              // names in the environment file of this node
	Listeners func() []api.Listener // of the gateway in this process; may be nil
	Metrics   http.Handler

	Store     *store.Store
	Catalog   *catalog.Catalog
	Fleet     *fleet.Fleet
	Apps      *access.Apps
	Operators *access.Operators
	Decisions *audit.Feed
	Insight   *insight.Insight
	Rollout   *rollout.Rollout
	Log       *slog.Logger
}

// Server serves the admin API.
type Server struct {
	config    Config
	started   time.Time
	http      *http.Server
	stopping  chan struct{} // closed when streams have to end
	listeners []net.Listener
}

// New makes a Server. It does not listen yet.
func New(config Config) *Server {
	s := &Server{config: config, started: time.Now().UTC().Truncate(time.Second), stopping: make(chan struct{})}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(config.Log.Handler(), slog.LevelDebug), // what clients do wrong
	}
	s.http.RegisterOnShutdown(func() { close(s.stopping) })
	return s
}

// Listen binds the address and the socket file, so that a port in use is known before anything runs.
func (s *Server) Listen() error {
	if s.config.Listen != "" {
		if err := checkLoopback(s.config.Listen); err != nil {
			return err
		}
		listener, err := net.Listen("tcp", s.config.Listen)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("admin API: another program listens on %s: stop it, or choose another address", s.config.Listen)
		}
		if err != nil {
			return fmt.Errorf("admin API: %w", err)
		}
		s.listeners = append(s.listeners, listener)
	}
	if s.config.Socket != "" {
		listener, err := listenUnix(s.config.Socket)
		if err != nil {
			s.Close()
			return fmt.Errorf("admin API: %w", err)
		}
		s.listeners = append(s.listeners, listener)
	}
	return nil
}

// checkLoopback refuses an address that other machines reach: the token would travel unencrypted.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("admin API: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && !ip.IsLoopback() {
		return fmt.Errorf("admin API: %s is no loopback address: use 127.0.0.1, and an SSH tunnel from elsewhere", address)
	}
	return nil
}

// maxSocketPath is what fits into sockaddr_un on all systems, in bytes.
const maxSocketPath = 103

// listenUnix binds a socket file. One that a crash left over is replaced; one that somebody listens on is not.
func listenUnix(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("the path of the socket file %s is longer than %d bytes: choose a shorter data directory", path, maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is in the way: it is no socket file", path)
		}
		connection, err := net.Dial("unix", path)
		if err == nil {
			connection.Close()
			return nil, fmt.Errorf("another process listens on %s: stop it, or choose another data directory", path)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

// Close undoes Listen, where Run does not follow.
func (s *Server) Close() {
	for _, listener := range s.listeners {
		listener.Close()
	}
}

// Address is the TCP address that the server listens on; empty when it has none.
func (s *Server) Address() string {
	if s.config.Listen == "" || len(s.listeners) == 0 {
		return ""
	}
	return s.listeners[0].Addr().String()
}

// Run serves until the context ends, and then lets requests that are under way finish.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan error, len(s.listeners))
	for _, listener := range s.listeners {
		go func() { ended <- s.http.Serve(listener) }()
	}
	running := len(s.listeners)
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-ended:
		running--
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := s.http.Shutdown(grace); err != nil {
		s.http.Close()
	}
	for range running {
		if err := <-ended; failure == nil && !errors.Is(err, http.ErrServerClosed) {
			failure = err
		}
	}
	if failure != nil {
		return fmt.Errorf("admin API: %w", failure)
	}
	return nil
}
