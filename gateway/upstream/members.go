package upstream

import (
	"net"
	"reflect"
	"time"

	"fieldgate"
)

// endpoint is what tells addresses apart.
type endpoint struct {
	https     bool
	dial      string // host:port
	authority string // Host field
	name      string // that a certificate must have
}

// candidate is an address that a source has named and that was checked.
type candidate struct {
	endpoint
	target fieldgate.Target
}

// The sources of members.
const (
	configured = iota
	discovered
	registered
)

// newCandidate checks what came from a file or a service, and fills in the weight.
func newCandidate(target fieldgate.Target) (candidate, error) {
	if err := target.Check(); err != nil {
		return candidate{}, err
	}
	orDefault(&target.Weight, 1)
	e, err := parseAddress(target.Address)
	return candidate{e, target}, err
}

func parseAddress(text string) (endpoint, error) {
	a, err := fieldgate.ParseTargetAddress(text)
	return endpoint{https: a.HTTPS, dial: net.JoinHostPort(a.Host, a.Port), authority: a.Authority, name: a.Host}, err
}

func (u *Upstream) newAddress(e endpoint) *address {
	a := &address{endpoint: e, maxOpen: u.Config.MaxConnections, maxWaiting: u.Config.MaxWaiting, connectTimeout: u.Config.ConnectTimeout, shared: u.shared}
	if e.https {
		a.tls = u.tls
	}
	if u.Config.Protocol == fieldgate.UpstreamHTTP2 {
		a.http2 = newTransport(a)
	}
	return a
}

// update makes the members those that the sources name. Addresses that stay keep all they have; the others drain. The caller holds
// the lock, or is alone.
func (u *Upstream) update(now time.Time) {
	t := sinceStart(now)
	there := make(map[endpoint]*address, len(u.members))
	for _, a := range u.members {
		there[a.endpoint] = a
	}
	first := len(u.members) == 0 // nobody is ahead of the first ones, so they need no slow start
	named := make(map[endpoint]bool)
	var members []*address
	for _, candidates := range u.sources {
		for _, c := range candidates {
			if named[c.endpoint] || len(members) == fieldgate.MaxTargets {
				continue
			}
			named[c.endpoint] = true
			a := there[c.endpoint]
			if a == nil {
				a = u.newAddress(c.endpoint)
				a.since, a.freshSince, a.returnedAt = t, t, longAgo
				if first {
					a.freshSince = longAgo
				}
				a.cookieValue, a.cookie = stickyCookie(&u.Config, c.target.Address)
			}
			delete(there, c.endpoint)
			a.target = c.target
			a.upstream.Store(u)
			members = append(members, a)
		}
	}
	u.setMembers(members, t)
	for _, a := range there {
		a.drain()
	}
}

// longAgo is before anything that a duration is counted from.
const longAgo = -1 << 62

// takeOver continues another configuration of the same upstream.
func (u *Upstream) takeOver(old *Upstream, now time.Time) {
	old.shared.mu.Lock()
	defer old.shared.mu.Unlock()
	u.shared = old.shared
	if sameConnections(old.Config, u.Config) {
		u.members = old.members
	} else {
		for _, a := range old.members {
			a.drain()
		}
	}
	if u.Config.Discovery == old.Config.Discovery {
		u.sources[discovered], u.problem, u.discovered = old.sources[discovered], old.problem, old.discovered
	}
	if u.Config.Discovery.Registered && old.Config.Discovery.Registered {
		u.sources[registered] = old.sources[registered]
	}
	u.update(now)
	old.successor.Store(u)
}

// sameConnections reports whether addresses and their connections can be handed from one configuration to the other.
func sameConnections(a, b fieldgate.Upstream) bool {
	for _, c := range []*fieldgate.Upstream{&a, &b} {
		c.Addresses, c.Targets, c.Discovery, c.Timeout = nil, nil, fieldgate.Discovery{}, 0
		c.MaxRequests, c.Adaptive, c.RetryBudget = 0, nil, fieldgate.RetryBudget{}
		c.Algorithm, c.HashBy, c.HashLoad, c.SlowStart = "", fieldgate.HashBy{}, 0, 0
		c.Zone, c.Overprovisioning, c.PanicPercent, c.CountServerErrors = "", 0, 0, false
		c.Health, c.Outlier, c.Circuit = fieldgate.HealthCheck{}, fieldgate.Outlier{}, fieldgate.Circuit{}
	}
	return reflect.DeepEqual(a, b)
}

// drain closes the connections of an address that is not used any more, those in use after their call.
func (a *address) drain() { a.closeIdle(time.Now(), true) }

// latest is the upstream, or the one that took over its addresses.
func (u *Upstream) latest() *Upstream {
	for next := u.successor.Load(); next != nil; next = u.successor.Load() {
		u = next
	}
	return u
}

func (u *Upstream) addresses() []*address {
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	return u.members // replaced, never changed in place
}
