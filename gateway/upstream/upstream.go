// Package upstream calls the services behind the gateway: named sets of addresses with pooled connections, time-outs and typed
// failures.
//
// It owns the connections. It promises that a failure is a *fieldgate.Problem (upstream-unreachable, upstream-invalid,
// upstream-timeout, overloaded), that a request which may have been acted upon is never sent twice unless the caller says
// that it may be, and that nothing that an upstream sends is kept without a bound. Callers with a body in memory use Do;
// the HTTP front streams with a Call.
package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"fieldgate"
)

const (
	defaultConnectTimeout = 2 * time.Second
	defaultMaxConnections = 512

	idleTimeout = 60 * time.Second // an idle connection is closed after this
	maxLifetime = 30 * time.Minute // a connection is not reused after this, so that changes of address take effect
	sweepEvery  = 10 * time.Second
)

// Set holds a node's upstreams by name.
type Set struct {
	upstreams map[string]*Upstream
}

// Upstream is one named service.
type Upstream struct {
	Config fieldgate.Upstream // time-outs and bounds filled in

	members atomic.Pointer[[]*address] // never changed in place
	turn    atomic.Uint32
}

// NewSet makes the upstreams of a node; it opens no connection.
func NewSet(configs []fieldgate.Upstream) (*Set, error) {
	s := &Set{upstreams: make(map[string]*Upstream, len(configs))}
	for _, config := range configs {
		if s.upstreams[config.Name] != nil {
			return nil, fmt.Errorf("upstream %s is named twice", config.Name)
		}
		u, err := newUpstream(config)
		if err != nil {
			return nil, fmt.Errorf("upstream %s: %w", config.Name, err)
		}
		s.upstreams[config.Name] = u
	}
	return s, nil
}

func newUpstream(config fieldgate.Upstream) (*Upstream, error) {
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = defaultConnectTimeout
	}
	if config.Timeout == 0 {
		config.Timeout = fieldgate.DefaultTimeout
	}
	if config.MaxConnections == 0 {
		config.MaxConnections = defaultMaxConnections
	}
	u := &Upstream{Config: config}
	if len(config.Addresses) == 0 {
		return nil, fmt.Errorf("it has no address")
	}
	var addresses []*address
	for _, text := range config.Addresses {
		a, err := parseAddress(text)
		if err != nil {
			return nil, err
		}
		a.maxOpen, a.connectTimeout = config.MaxConnections, config.ConnectTimeout
		addresses = append(addresses, a)
	}
	u.members.Store(&addresses)
	return u, nil
}

// parseAddress reads http://host[:port] or https://host[:port].
func parseAddress(text string) (*address, error) {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Hostname() == "" || parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" ||
		parsed.Path != "" && parsed.Path != "/" {
		return nil, fmt.Errorf("address %q is not of the form http://host:port", text)
	}
	a := &address{authority: parsed.Host}
	port := parsed.Port()
	switch parsed.Scheme {
	case "http":
		if port == "" {
			port = "80"
		}
	case "https":
		if port == "" {
			port = "443"
		}
		a.tls = &tls.Config{ServerName: parsed.Hostname(), MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	default:
		return nil, fmt.Errorf("address %q: the scheme must be http or https", text)
	}
	a.dial = net.JoinHostPort(parsed.Hostname(), port)
	return a, nil
}

// Upstream is the upstream of that name, nil when the environment has none.
func (s *Set) Upstream(name string) *Upstream { return s.upstreams[name] }

// Run closes connections that stay idle. When ctx ends it closes all that are idle, and those in use are closed after their call.
// Calls work before, during and after Run.
func (s *Set) Run(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			s.closeIdle(now.Add(-idleTimeout), false)
		case <-ctx.Done():
			s.closeIdle(time.Now(), true)
			return
		}
	}
}

func (s *Set) closeIdle(before time.Time, ended bool) {
	for _, u := range s.upstreams {
		for _, a := range u.addresses() {
			a.closeIdle(before, ended)
		}
	}
}

func (u *Upstream) addresses() []*address { return *u.members.Load() }
