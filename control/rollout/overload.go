package rollout

import (
	"time"

	"fieldgate"
)

// overloaded is how long it is told that an upstream refused something.
const overloaded = time.Minute

// overload is when an upstream last refused what it was asked for, by this node's clock; zero: never while it was listened to.
type overload struct {
	shed    time.Time // calls, beyond a limit of them
	refused time.Time // retries and hedges, beyond their budget
}

// overloads are of the upstreams that refused something, by name: those whose counts have grown since the gateway was heard before.
// What was counted before it was first heard is old.
func (g *Gateway) overloads(before *Gateway) map[string]overload {
	if before.Epoch != g.Epoch || len(before.Upstreams) == 0 {
		return nil
	}
	counted := make(map[string]*fieldgate.UpstreamState, len(before.Upstreams))
	for i := range before.Upstreams {
		counted[before.Upstreams[i].Name] = &before.Upstreams[i]
	}
	overloads := make(map[string]overload)
	for i := range g.Upstreams {
		u := &g.Upstreams[i]
		o, then := before.refusing[u.Name], counted[u.Name]
		if then != nil && shed(u) > shed(then) {
			o.shed = g.Seen
		}
		if then != nil && u.RetriesRefused > then.RetriesRefused {
			o.refused = g.Seen
		}
		if o != (overload{}) {
			overloads[u.Name] = o
		}
	}
	return overloads
}

func shed(u *fieldgate.UpstreamState) (sum uint64) {
	for _, count := range u.Shed {
		sum += count
	}
	return sum
}

// overload says what of an upstream was refused of late.
func (g *Gateway) overload(upstream string, now time.Time) (shed, refused bool) {
	o := g.refusing[upstream]
	return now.Sub(o.shed) < overloaded, now.Sub(o.refused) < overloaded
}
