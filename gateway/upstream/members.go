package upstream

import (
	"net"
	"reflect"
	"time"

	"fieldgate"
)

// endpoint is what tells addresses apart.
type endpoint struct {
	scheme    fieldgate.TargetScheme
	dial      string // host:port
	authority string // Host field
	name      string // that a certificate must have, and of CoAP Uri-Host
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
	return endpoint{scheme: a.Scheme, dial: net.JoinHostPort(a.Host, a.Port), authority: a.Authority, name: a.Host}, err
}

func (u *Upstream) newAddress(e endpoint) *address {
	a := &address{endpoint: e, maxOpen: u.Config.MaxConnections, maxWaiting: u.Config.MaxWaiting, connectTimeout: u.Config.ConnectTimeout, shared: u.shared}
	if e.scheme.Secure() {
		a.tls = u.tls
	}
	if u.Config.Protocol == fieldgate.UpstreamHTTP2 && !e.scheme.CoAP() {
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
			if named[c.endpoint] || len(members) == fieldgate.MaxTargets || len(members) > 0 && !alike(c.scheme, members[0].scheme) {
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
	u.speaksCoAP.Store(len(members) > 0 && members[0].scheme.CoAP())
	u.setMembers(members, t)
	for _, a := range there {
		u.left.add(a)
		a.drain()
	}
}

// alike says whether addresses of the two schemes can be those of one upstream: a call has one mapping, and one over CoAP that was
// meant to be secure does not become one in the clear because an address failed.
func alike(a, b fieldgate.TargetScheme) bool { return a == b || !a.CoAP() && !b.CoAP() }

// SpeaksCoAP says whether the upstream is spoken to in CoAP, and otherwise in HTTP.
func (u *Upstream) SpeaksCoAP() bool { return u.latest().speaksCoAP.Load() }

// longAgo is before anything that a duration is counted from.
const longAgo = -1 << 62

// takeOver continues another configuration of the same upstream.
func (u *Upstream) takeOver(old *Upstream, now time.Time) {
	old.shared.mu.Lock()
	defer old.shared.mu.Unlock()
	u.shared = old.shared
	u.keepCounting(old)
	if sameConnections(old.Config, u.Config) {
		u.members = old.members
	} else {
		for _, a := range old.members {
			u.left.add(a)
			a.drain()
		}
	}
	if reflect.DeepEqual(u.Config.TLS, old.Config.TLS) {
		u.tls = old.tls // which the members look at their files with
	}
	if u.Config.Health.Kind == "" {
		u.believe(sinceStart(now))
	}
	if u.Config.MaxRequests == old.Config.MaxRequests && reflect.DeepEqual(u.Config.Adaptive, old.Config.Adaptive) {
		u.load = old.load // with the calls under way, and the limit that was found
	}
	if u.Config.RetryBudget == old.Config.RetryBudget {
		u.budget = old.budget
	}
	if u.Config.Circuit == old.Config.Circuit {
		u.circuit.openUntil.Store(old.circuit.openUntil.Load())
	}
	if u.Config.Discovery.DNS == old.Config.Discovery.DNS && u.Config.Discovery.SRV == old.Config.Discovery.SRV { // until DNS says otherwise
		u.sources[discovered], u.problem, u.discovered = old.sources[discovered], old.problem, old.discovered
	}
	if u.Config.Discovery.Registered && old.Config.Discovery.Registered {
		u.sources[registered] = old.sources[registered]
	}
	u.update(now)
	old.successor.Store(u)
}

// believe forgets what checks have found of the addresses, since nobody checks them any more; the caller holds the lock.
func (u *Upstream) believe(t int64) {
	for _, a := range u.members {
		if a.checkFailed == "" {
			continue
		}
		if a.checkFailed, a.checks = "", 0; a.healthy() {
			a.since, a.freshSince = t, t
			u.turned(a)
		}
	}
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
