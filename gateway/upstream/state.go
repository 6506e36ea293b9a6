package upstream

import (
	"cmp"
	"slices"
	"time"

	"fieldgate"
)

// States are the upstreams as the console shows them, by name, with fieldgate.MaxTargets addresses in all at the most.
func (s *Set) States() []fieldgate.UpstreamState {
	now := time.Now()
	upstreams := *s.upstreams.Load()
	states := make([]fieldgate.UpstreamState, 0, len(upstreams))
	for _, u := range upstreams {
		states = append(states, u.state(now))
	}
	slices.SortFunc(states, func(a, b fieldgate.UpstreamState) int { return cmp.Compare(a.Name, b.Name) })
	left := fieldgate.MaxTargets
	for i := range states {
		shown := min(left, len(states[i].Addresses))
		states[i].NotShown = len(states[i].Addresses) - shown
		states[i].Addresses = states[i].Addresses[:shown]
		left -= shown
	}
	return states
}

func (u *Upstream) state(now time.Time) fieldgate.UpstreamState {
	t := sinceStart(now)
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	p := u.pool.Load()
	if t >= p.until {
		u.rebuild(t)
		p = u.pool.Load()
	}
	state := fieldgate.UpstreamState{Name: u.Config.Name, Algorithm: u.Config.Algorithm, Circuit: u.circuit.state(t), Panic: p.panics,
		Problem: u.problem, Discovered: u.discovered, Addresses: make([]fieldgate.AddressState, 0, len(u.members))}
	if state.Problem == "" {
		state.Problem = u.tls.problem()
	}
	for _, a := range u.members {
		state.Addresses = append(state.Addresses, a.state(t))
	}
	return state
}

// state needs shared.mu.
func (a *address) state(t int64) fieldgate.AddressState {
	state := fieldgate.AddressState{Address: a.target.Address, Zone: a.target.Zone, Priority: a.target.Priority, Weight: a.target.Weight,
		Healthy: a.healthy(), Since: timeOf(a.since), InFlight: a.inFlight.Load(), Calls: a.calls.Load(), Failures: a.failures.Load(),
		Latency: a.latency.mean(t) / 1000}
	switch {
	case a.checkFailed != "":
		state.Why = "check: " + a.checkFailed
	case !state.Healthy:
		state.Why = a.why
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	state.Open, state.Idle = a.open, len(a.idle)
	return state
}
