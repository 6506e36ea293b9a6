package upstream

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"fieldgate"
)

// States are the upstreams as the console shows them, by name, with fieldgate.MaxAddressStates addresses in all at the most: the
// unhealthy ones first, and of each upstream as many as of any other.
func (s *Set) States() []fieldgate.UpstreamState {
	now := time.Now()
	upstreams := *s.upstreams.Load()
	sorted := make([]*Upstream, 0, len(upstreams))
	for _, u := range upstreams {
		sorted = append(sorted, u)
	}
	slices.SortFunc(sorted, func(a, b *Upstream) int { return cmp.Compare(a.Config.Name, b.Config.Name) })
	states := make([]fieldgate.UpstreamState, len(sorted))
	healthy, unhealthy := make([]int, len(sorted)), make([]int, len(sorted))
	for i, u := range sorted {
		states[i] = u.summary(now)
		healthy[i], unhealthy[i] = states[i].Healthy, states[i].Unhealthy
	}
	left := fieldgate.ShareOut(unhealthy, fieldgate.MaxAddressStates)
	fieldgate.ShareOut(healthy, left)
	for i, u := range sorted {
		states[i].Addresses = u.addressStates(now, healthy[i], unhealthy[i])
	}
	return states
}

// Settle takes back the addresses whose time out of turn is over, also where nobody calls.
func (s *Set) Settle(now time.Time) {
	for _, u := range *s.upstreams.Load() {
		if t := sinceStart(now); t >= u.pool.Load().until {
			u.refresh(t)
		}
	}
}

// summary is all but the addresses.
func (u *Upstream) summary(now time.Time) fieldgate.UpstreamState {
	t := sinceStart(now)
	u.refresh(t)
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	state := fieldgate.UpstreamState{Name: u.Config.Name, Algorithm: u.Config.Algorithm, Circuit: u.circuit.state(t), Panic: u.pool.Load().panics,
		Problem: u.problem, Discovered: u.discovered, Registered: u.Config.Discovery.Registered, CallStats: u.callStats(t)}
	if state.Problem == "" {
		state.Problem = u.tls.problem()
	}
	state.Problem = cutText(state.Problem)
	for _, a := range u.members {
		if a.healthy() {
			state.Healthy++
		} else {
			state.Unhealthy++
		}
	}
	return state
}

// addressStates are so many addresses that are healthy, and so many that are not, in the order in which they were named.
func (u *Upstream) addressStates(now time.Time, healthy, unhealthy int) []fieldgate.AddressState {
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	states := make([]fieldgate.AddressState, 0, healthy+unhealthy)
	for _, a := range u.members {
		left := &healthy
		if !a.healthy() {
			left = &unhealthy
		}
		if *left > 0 {
			*left--
			states = append(states, a.state(sinceStart(now)))
		}
	}
	return states
}

// state needs shared.mu.
func (a *address) state(t int64) fieldgate.AddressState {
	state := fieldgate.AddressState{Address: a.target.Address, Zone: a.target.Zone, Priority: a.target.Priority, Weight: a.target.Weight,
		Healthy: a.healthy(), Why: a.whyNot(), Since: timeOf(a.since), InFlight: a.inFlight.Load(), Calls: a.calls.Load(), Failures: a.failures.Load(),
		Latency: a.latency.known(t) / 1000}
	a.mu.Lock()
	defer a.mu.Unlock()
	state.Open, state.Idle = a.open, len(a.idle)
	return state
}

// whyNot says why an address is not healthy; it needs shared.mu.
func (a *address) whyNot() string {
	switch {
	case a.checkFailed != "":
		return cutText("check: " + a.checkFailed)
	case !a.healthy():
		return cutText(a.why)
	}
	return ""
}

func cutText(text string) string {
	if len(text) <= fieldgate.MaxStateText {
		return text
	}
	return strings.ToValidUTF8(text[:fieldgate.MaxStateText-len("…")], "") + "…"
}
