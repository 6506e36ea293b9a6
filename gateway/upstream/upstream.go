// Package upstream calls the services behind the gateway: named sets of addresses with pooled connections, time-outs and typed
// failures.
//
// It owns the connections, and chooses which address gets the next call. It promises that a failure is a *fieldgate.Problem
// (upstream-unreachable, upstream-invalid, upstream-timeout, overloaded), that a request which may have been acted upon is never
// sent twice unless the caller says that it may be, and that nothing that an upstream sends is kept without a bound. Callers with a
// body in memory use Do; the HTTP front streams with a Call.
//
// Choosing an address takes no lock: it reads a pool that is never changed in place, and counters. What changes a pool (membership,
// weights, health) is rare and takes the upstream's lock.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
)

const (
	idleTimeout = 60 * time.Second // an idle connection is closed after this
	maxLifetime = 30 * time.Minute // a connection is not reused after this, so that changes of address take effect
	sweepEvery  = 10 * time.Second
)

// Set holds a node's upstreams by name.
type Set struct {
	upstreams atomic.Pointer[map[string]*Upstream] // never changed in place

	mu      sync.Mutex    // of Replace
	changed chan struct{} // there are other upstreams than before

	transitions chan Transition
	mirrors     mirrors
}

// Upstream is one named service.
type Upstream struct {
	Config fieldgate.Upstream // defaults filled in

	pool      atomic.Pointer[pool]
	turn      atomic.Uint64
	circuit   circuit
	shared    *shared
	successor atomic.Pointer[Upstream] // that took over the addresses when the configuration changed

	tls           *clientTLS
	budget        *retryBudget
	load          *load         // nil: calls are not counted
	mirroring     atomic.Int32  // copies under way
	mirrorDropped atomic.Uint64 // copies beyond maxMirrors
	speaksCoAP    atomic.Bool   // its addresses do

	// With shared.mu held:
	members []*address
	levels  [][]*address         // members by preference
	rings   map[*address][]point // with AlgorithmHash: of each level, by its first member; nil: of all
	sticky  map[string]*address  // with a sticky cookie
	sources [3][]candidate       // where members come from: configured, discovered, registered

	left       left
	problem    string    // of discovery
	discovered time.Time // last
}

// shared outlives changes of an upstream's configuration: addresses move to the new Upstream while calls are under way.
type shared struct {
	mu       sync.Mutex
	inFlight atomic.Int64 // calls under way on all addresses

	transitions chan<- Transition // of the Set
}

// NewSet makes the upstreams of a node; it opens no connection.
func NewSet(configs []fieldgate.Upstream) (*Set, error) {
	s := &Set{changed: make(chan struct{}, 1), transitions: make(chan Transition, maxTransitions)}
	s.mirrors.context, s.mirrors.stop = context.WithCancel(context.Background())
	s.upstreams.Store(new(map[string]*Upstream))
	return s, s.Replace(configs)
}

// Replace puts other upstreams in the place of those there are; nothing changes when one is wrong. Upstreams and addresses that
// stay keep their connections, health and counts; the others' connections are closed when the calls on them have ended.
func (s *Set) Replace(configs []fieldgate.Upstream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, after := *s.upstreams.Load(), make(map[string]*Upstream, len(configs))
	for _, config := range configs {
		if after[config.Name] != nil {
			return fmt.Errorf("upstream %s is named twice", config.Name)
		}
		u, err := newUpstream(config)
		if err != nil {
			return fmt.Errorf("upstream %s: %w", config.Name, err)
		}
		u.shared.transitions = s.transitions
		after[config.Name] = u
	}
	for name, u := range after {
		if old := before[name]; old == nil {
			u.update(time.Now())
		} else if reflect.DeepEqual(old.Config, u.Config) {
			after[name] = old
		} else {
			u.takeOver(old, time.Now())
		}
	}
	s.upstreams.Store(&after)
	for name, old := range before {
		if after[name] == nil {
			for _, a := range old.addresses() {
				a.drain()
			}
		}
	}
	select {
	case s.changed <- struct{}{}:
	default: // Run looks already
	}
	return nil
}

func newUpstream(config fieldgate.Upstream) (*Upstream, error) {
	fillIn(&config)
	switch config.Protocol {
	case fieldgate.UpstreamAuto, fieldgate.UpstreamHTTP1, fieldgate.UpstreamHTTP2:
	default:
		return nil, fmt.Errorf("protocol %q is not known: write auto, http1 or http2", config.Protocol)
	}
	secrets, err := newClientTLS(config.TLS)
	if err != nil {
		return nil, err
	}
	u := &Upstream{Config: config, shared: new(shared), tls: secrets, budget: newRetryBudget(config.RetryBudget), load: newLoad(&config)}
	u.circuit.configure(config.Circuit)
	targets := make([]fieldgate.Target, 0, len(config.Addresses)+len(config.Targets))
	for _, text := range config.Addresses {
		targets = append(targets, fieldgate.Target{Address: text})
	}
	targets = append(targets, config.Targets...)
	if len(targets) == 0 && config.Discovery == (fieldgate.Discovery{}) {
		return nil, errors.New("it has no address")
	}
	if len(targets) > fieldgate.MaxTargets {
		return nil, fmt.Errorf("it has more than %d addresses", fieldgate.MaxTargets)
	}
	for _, target := range targets {
		c, err := newCandidate(target)
		if err != nil {
			return nil, err
		}
		if first := u.sources[configured]; len(first) > 0 && !alike(c.scheme, first[0].scheme) {
			return nil, fmt.Errorf("%s and %s are not of one kind: all addresses are of HTTP, or all of one scheme of CoAP", first[0].target.Address, target.Address)
		}
		u.sources[configured] = append(u.sources[configured], c)
	}
	return u, checkDiscovery(config.Discovery)
}

// Upstream is the upstream of that name, nil when the environment has none.
func (s *Set) Upstream(name string) *Upstream { return (*s.upstreams.Load())[name] }

// Run looks after the upstreams: it discovers and checks addresses, and closes connections that stay idle. When ctx ends it closes
// all that are idle, and those in use are closed after their call. Calls work before, during and after Run.
func (s *Set) Run(ctx context.Context) {
	running := make(map[*Upstream]context.CancelFunc)
	var parts sync.WaitGroup
	defer parts.Wait()
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		upstreams := *s.upstreams.Load()
		for u, stop := range running {
			if upstreams[u.Config.Name] != u {
				stop()
				delete(running, u)
			}
		}
		for _, u := range upstreams {
			if running[u] == nil {
				part, stop := context.WithCancel(ctx)
				running[u] = stop
				parts.Go(func() {
					defer stop()
					u.run(part)
				})
			}
		}
		select {
		case <-s.changed:
		case now := <-ticker.C:
			s.closeIdle(now.Add(-idleTimeout), false)
		case <-ctx.Done():
			s.mirrors.end()
			s.closeIdle(time.Now(), true)
			return
		}
	}
}

// run discovers and checks the addresses of the upstream.
func (u *Upstream) run(ctx context.Context) {
	var parts sync.WaitGroup
	if u.Config.Discovery.DNS != "" || u.Config.Discovery.SRV != "" {
		parts.Go(func() { u.discover(ctx) })
	}
	if u.Config.Health.Kind != "" {
		parts.Go(func() { u.checkHealth(ctx) })
	}
	parts.Wait()
}

func (s *Set) closeIdle(before time.Time, ended bool) {
	for _, u := range *s.upstreams.Load() {
		for _, a := range u.addresses() {
			a.closeIdle(before, ended)
		}
	}
}
