package upstream

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"fieldgate"
)

// pool is what addresses are chosen from: it is never changed, but replaced when addresses, weights or health change.
type pool struct {
	levels []level             // with usable addresses, in the order of preference
	sticky map[string]*address // all addresses by the value of their cookie; nil: there is none
	panics bool                // all addresses are used, healthy or not
	until  int64               // when time alone calls for another pool: an ejection ends, a weight grows
}

// level is the addresses of one priority, in the node's zone or out of it.
type level struct {
	addresses []*address
	bounds    []uint64 // number at which the part of each address ends, in sums of weights; nil: the weights are equal
	weight    float64  // of all
	upTo      float64  // shares of this level and those before it; 1 from that on which takes the last calls
	ring      []point  // with AlgorithmHash: of all addresses of the level, usable or not
}

// Slow start begins with this part of the weight, so that the address gets calls at all, and grows in so many steps.
const (
	slowStartFrom  = 0.1
	slowStartSteps = 32
)

// refresh makes a new pool when it is time for one.
func (u *Upstream) refresh(t int64) *pool {
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	u = u.latest() // a change of the configuration may have come in between
	if p := u.pool.Load(); t < p.until {
		return p
	}
	u.rebuild(t)
	return u.pool.Load()
}

// rebuild makes the pool from what is known of the addresses; the caller holds the lock.
func (u *Upstream) rebuild(t int64) {
	p := &pool{sticky: u.sticky, until: math.MaxInt64}
	for _, a := range u.members {
		if ends := a.ejectedUntil.Load(); ends != 0 && ends <= t {
			a.returned(ends)
		} else if ends != 0 {
			p.until = min(p.until, ends)
		}
	}
	for _, members := range u.levels {
		if l := u.level(members, p, t); len(l.addresses) > 0 {
			l.ring = u.rings[members[0]]
			p.levels = append(p.levels, l)
		}
	}
	if !u.share(p) {
		for _, a := range u.members { // all count as well, so that nothing is left out
			a.weightBits.Store(math.Float64bits(u.weightOf(a)))
		}
		p.panics, p.levels = true, []level{newLevel(u.members)}
		p.levels[0].upTo, p.levels[0].ring = 1, u.rings[nil]
	}
	u.pool.Store(p)
}

// level is the healthy ones of the members, with the weights that they have now.
func (u *Upstream) level(members []*address, p *pool, t int64) level {
	var healthy []*address
	for _, a := range members {
		weight := 0.0
		if a.healthy() {
			weight = u.weightOf(a)
			healthy = append(healthy, a)
			if slow := int64(u.Config.SlowStart); t-a.freshSince < slow {
				weight *= max(slowStartFrom, float64(t-a.freshSince)/float64(slow))
				p.until = min(p.until, t+max(slow/slowStartSteps, int64(time.Millisecond)))
			}
		}
		a.weightBits.Store(math.Float64bits(weight))
	}
	l := newLevel(healthy)
	l.upTo = min(1, u.Config.Overprovisioning*float64(len(healthy))/float64(len(members)))
	return l
}

// weightOf is the whole weight of an address.
func (u *Upstream) weightOf(a *address) float64 {
	if u.Config.Algorithm == fieldgate.AlgorithmRoundRobin {
		return 1
	}
	return float64(a.target.Weight)
}

func newLevel(addresses []*address) level {
	l := level{addresses: addresses}
	equal := true
	for _, a := range addresses {
		l.weight += a.weight()
		equal = equal && a.weight() == addresses[0].weight()
	}
	if equal {
		return l
	}
	l.bounds = make([]uint64, len(addresses))
	sum := 0.0
	for i, a := range addresses {
		sum += a.weight()
		l.bounds[i] = uint64(min(sum/l.weight*(1<<64), math.Nextafter(1<<64, 0)))
	}
	return l
}

// share gives each level its part of the calls: as much as it is healthy, times the overprovisioning factor, of what the levels
// before it leave. What none takes is shared out likewise. It is false when there are not enough healthy addresses in all and
// panic says that all are to be used.
func (u *Upstream) share(p *pool) bool {
	sum, healthy := 0.0, 0
	for i := range p.levels {
		l := &p.levels[i]
		sum = min(1, sum+l.upTo)
		l.upTo = sum
		healthy += len(l.addresses)
	}
	if sum == 1 {
		return true
	}
	if len(u.members) > 0 && healthy*100 < u.Config.PanicPercent*len(u.members) {
		return false
	}
	for i := range p.levels {
		p.levels[i].upTo /= sum
	}
	return true
}

// setMembers takes over the addresses of an upstream; the caller holds the lock.
func (u *Upstream) setMembers(members []*address, t int64) {
	u.members, u.levels, u.rings, u.sticky = members, nil, nil, nil
	ordered := slices.Clone(members)
	slices.SortStableFunc(ordered, func(a, b *address) int { return cmp.Compare(u.preference(a), u.preference(b)) })
	for len(ordered) > 0 {
		n := 1
		for n < len(ordered) && u.preference(ordered[n]) == u.preference(ordered[0]) {
			n++
		}
		u.levels = append(u.levels, ordered[:n:n])
		ordered = ordered[n:]
	}
	if u.Config.Algorithm == fieldgate.AlgorithmHash {
		all := newRing(members)
		u.rings = map[*address][]point{nil: all}
		for _, level := range u.levels {
			if u.rings[level[0]] = all; len(u.levels) > 1 {
				u.rings[level[0]] = newRing(level)
			}
		}
	}
	if u.Config.Sticky.Cookie != "" {
		u.sticky = make(map[string]*address, len(members))
		for _, a := range members {
			u.sticky[a.cookieValue] = a
		}
	}
	u.rebuild(t)
}

// preference orders addresses: the lowest priority number first, and within it the node's zone.
func (u *Upstream) preference(a *address) int {
	p := 2 * a.target.Priority
	if u.Config.Zone != "" && a.target.Zone != u.Config.Zone {
		p++
	}
	return p
}

// point is one place of an address on the ring of a consistent hash (Karger et al., 1997).
type point struct {
	at      uint64
	address *address
}

// An address has pointsEach points for its weight, as long as the ring has no more than maxPoints.
const (
	pointsEach = 160
	maxPoints  = 64 << 10
)

// newRing depends on the addresses' names and weights only: it is the same on all gateways.
func newRing(addresses []*address) []point {
	weights := 0
	for _, a := range addresses {
		weights += a.target.Weight
	}
	each := min(pointsEach, float64(maxPoints)/float64(max(weights, 1)))
	ring := make([]point, 0, int(each*float64(weights))+len(addresses))
	for _, a := range addresses {
		name := xxhash.Sum64String(a.target.Address)
		for i := range max(1, int(each*float64(a.target.Weight))) {
			ring = append(ring, point{mix(name + uint64(i)*golden), a})
		}
	}
	slices.SortFunc(ring, func(a, b point) int { return cmp.Compare(a.at, b.at) })
	return ring
}

// mix makes each bit of the result depend on each bit of x (the finalizer of SplitMix64, Steele et al. 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
