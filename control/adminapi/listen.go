package adminapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// claimInterval is how often a node that waits to be claimed looks whether it was, perhaps on another node.
const claimInterval = time.Second

// Listen binds the address and the socket file, so that a port in use is known before anything runs. An address that other
// machines reach needs a certificate, and is bound by Run once the installation has been claimed; until then it is the
// loopback address with the same port, without TLS.
func (s *Server) Listen() (err error) {
	defer func() {
		if err != nil {
			s.Close()
			err = fmt.Errorf("admin API: %w", err)
		}
	}()
	if address := s.config.Listen; address != "" {
		if s.config.Certificate != "" {
			if _, err := tls.LoadX509KeyPair(s.config.Certificate, s.config.Key); err != nil {
				return fmt.Errorf("admin-tls: %w", err)
			}
		}
		if s.reachable() {
			if s.config.Certificate == "" {
				return fmt.Errorf("%s can be reached by other machines: give a certificate (admin-tls), or use 127.0.0.1 and an SSH tunnel", address)
			}
			_, port, _ := net.SplitHostPort(address)
			address = net.JoinHostPort("127.0.0.1", port)
		}
		if s.tcp, err = bind(address); err != nil {
			return err
		}
	}
	if s.config.Socket != "" {
		s.unix, err = listenUnix(s.config.Socket)
	}
	return err
}

// reachable says whether other machines reach the address.
func (s *Server) reachable() bool {
	host, _, err := net.SplitHostPort(s.config.Listen)
	ip := net.ParseIP(host)
	return err == nil && host != "localhost" && (ip == nil || !ip.IsLoopback())
}

func bind(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another program listens on %s: stop it, or choose another address", address)
	}
	if err != nil {
		return nil, err
	}
	return newBoundedListener(listener, maxConnections, maxConnectionsSource), nil
}

// Close undoes Listen, where Run does not follow.
func (s *Server) Close() {
	for _, listener := range []net.Listener{s.tcp, s.unix} {
		if listener != nil {
			listener.Close()
		}
	}
}

// Address is the TCP address that the server listens on; empty when it has none.
func (s *Server) Address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.open != nil:
		return s.open.Addr().String()
	case s.tcp != nil:
		return s.tcp.Addr().String()
	}
	return ""
}

// Run serves until the context ends, and then lets requests that are under way finish.
func (s *Server) Run(ctx context.Context) error {
	background, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { s.monitor.run(background) })
	group.Go(func() { s.finishImports(background) })
	defer func() { stop(); group.Wait() }()
	ended := make(chan error, 3)
	running := 0
	serve := func(listener net.Listener, how func(net.Listener) error) {
		running++
		go func() { ended <- how(listener) }()
	}
	if s.unix != nil {
		serve(s.unix, s.http.Serve)
	}
	claimed := make(chan struct{})
	switch {
	case s.tcp == nil:
	case s.reachable():
		// It ends when the address proper takes over.
		serve(s.tcp, func(listener net.Listener) error { return s.untilClosed(listener) })
		go s.awaitClaim(ctx, claimed)
	case s.config.Certificate != "":
		serve(s.tcp, s.serveTLS)
	default:
		serve(s.tcp, s.http.Serve)
	}
	var failure error
	for serving := true; serving; {
		select {
		case <-claimed:
			claimed = nil
			if failure = s.takeOver(); failure != nil {
				serving = false
				break
			}
			serve(s.open, s.serveTLS)
		case <-ctx.Done():
			serving = false
		case failure = <-ended:
			running--
			serving = failure == nil
		}
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

func (s *Server) serveTLS(listener net.Listener) error {
	return s.http.ServeTLS(listener, "", "")
}

// tlsConfig presents the certificate of the files as they are at each handshake, so that one that was renewed is used at once.
func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(s.config.Certificate, s.config.Key)
		if err != nil {
			s.config.Log.Error("the certificate of the admin API cannot be read", "error", err)
		}
		return &pair, err
	}}
}

// untilClosed serves a listener that takeOver closes.
func (s *Server) untilClosed(listener net.Listener) error {
	err := s.http.Serve(listener)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// awaitClaim closes claimed when the installation has been claimed.
func (s *Server) awaitClaim(ctx context.Context, claimed chan<- struct{}) {
	for {
		is, err := s.config.Operators.Claimed(ctx)
		if is {
			close(claimed)
			return
		}
		if err != nil && ctx.Err() == nil {
			s.config.Log.Warn("it is not known whether the installation has been claimed; the admin API stays on the loopback address", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(claimInterval):
		}
	}
}

// takeOver binds the address that other machines reach, in place of the loopback address.
func (s *Server) takeOver() error {
	s.tcp.Close()
	open, err := bind(s.config.Listen)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.open = open
	s.mu.Unlock()
	s.config.Log.Info("the installation has been claimed; the admin API is open to other machines", "address", s.config.Listen)
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
