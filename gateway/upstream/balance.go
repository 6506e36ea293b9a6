package upstream

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"

	"fieldgate"
)

// Choice says what an address is chosen by. The zero value: nothing particular.
type Choice struct {
	Key    uint64 // of consistent hashing; 0: none
	Sticky string // value of the sticky cookie as the caller sent it; empty: none
}

// maxTries bounds the addresses that one call uses.
const maxTries = 8

// tried are the addresses that a call has used already. The zero value is ready.
type tried struct {
	addresses [maxTries]*address
	count     int
}

func (t *tried) has(a *address) bool {
	for i := range t.count {
		if t.addresses[i] == a {
			return true
		}
	}
	return false
}

func (t *tried) add(a *address) {
	t.addresses[t.count] = a
	t.count++
}

// choose returns an address that the call has not tried yet and notes it as tried; nil: none is left, or the circuit is open
// (refusal says which). What it returns is used: begin, and end whatever becomes of it.
func (u *Upstream) choose(now time.Time, c *Choice, tried *tried) *address {
	u = u.latest()
	t := sinceStart(now)
	if tried.count == maxTries || u.circuit.percent > 0 && !u.circuit.allow(t) {
		return nil
	}
	p := u.pool.Load()
	if t >= p.until {
		p = u.refresh(t)
	}
	a := p.sticky[c.Sticky]
	if a == nil || a.weight() == 0 || tried.has(a) {
		a = u.pick(p, t, c, tried)
	}
	if a != nil {
		tried.add(a)
	}
	return a
}

// pick takes a level as often as its share says, and the address in it that the algorithm names. When all of it were tried, the
// other levels follow in their order.
func (u *Upstream) pick(p *pool, t int64, c *Choice, tried *tried) *address {
	if len(p.levels) == 0 {
		return nil
	}
	first := &p.levels[0]
	key := c.Key
	if u.Config.Algorithm == fieldgate.AlgorithmHash {
		if key == 0 {
			key = rand.Uint64()
		}
		key = mix(key)
	}
	if first.upTo < 1 {
		number := rand.Float64()
		if u.Config.Algorithm == fieldgate.AlgorithmHash { // the same key, the same level
			number = float64(key>>11) / (1 << 53)
		}
		for i := range p.levels {
			if number < p.levels[i].upTo {
				first = &p.levels[i]
				break
			}
		}
	}
	if a := u.pickIn(first, t, key, tried); a != nil {
		return a
	}
	for i := range p.levels {
		if l := &p.levels[i]; l != first {
			if a := u.pickIn(l, t, key, tried); a != nil {
				return a
			}
		}
	}
	return nil
}

func (u *Upstream) pickIn(l *level, t int64, key uint64, tried *tried) *address {
	switch u.Config.Algorithm {
	case fieldgate.AlgorithmLeastRequests:
		if a := l.leastRequests(u.turn.Add(1), tried); a != nil {
			return a
		}
	case fieldgate.AlgorithmTwoChoices:
		if a := l.ofTwo(tried, (*address).load, t); a != nil {
			return a
		}
	case fieldgate.AlgorithmPeakEWMA:
		if a := l.ofTwo(tried, (*address).cost, t); a != nil {
			return a
		}
	case fieldgate.AlgorithmHash:
		if a := l.byKey(mix(key), u.Config.HashLoad*float64(u.shared.inFlight.Load()+1), tried); a != nil {
			return a
		}
	}
	return l.next(u.turn.Add(1), tried)
}

// golden is 2^64 divided by the golden ratio. Its multiples modulo 2^64 fill the range more evenly than those of any other number,
// and a part of the range is met in no more than three different distances (the three-gap theorem, Sós 1958). Looking them up in
// the sums of the weights spreads calls as smooth weighted round robin does, with no more state than a counter.
const golden = 0x9E3779B97F4A7C15

// at is the index of the address to which a number belongs; numbers of the whole range are spread as the weights say.
func (l *level) at(number uint64) int {
	if l.bounds == nil {
		high, _ := bits.Mul64(number, uint64(len(l.addresses)))
		return int(high)
	}
	i, found := slices.BinarySearch(l.bounds, number)
	if found {
		i++
	}
	return min(i, len(l.addresses)-1)
}

// turnAt is the index of the address whose turn it is.
func (l *level) turnAt(turn uint64) int {
	if l.bounds == nil {
		return int(turn % uint64(len(l.addresses)))
	}
	return l.at(turn * golden)
}

// next is the address whose turn it is, or the first after it that was not tried.
func (l *level) next(turn uint64, tried *tried) *address {
	i := l.turnAt(turn)
	for range l.addresses {
		if a := l.addresses[i]; !tried.has(a) {
			return a
		}
		if i++; i == len(l.addresses) {
			i = 0
		}
	}
	return nil
}

// leastRequests looks at all addresses, from the one whose turn it is, so that those with equal loads come in turn. It is nil when all were
// tried, or just then count for nothing, since another pool is being made.
func (l *level) leastRequests(turn uint64, tried *tried) *address {
	var best *address
	least := math.Inf(1)
	i := l.turnAt(turn)
	for range l.addresses {
		a := l.addresses[i]
		if load := a.load(0); load < least && !tried.has(a) {
			if best, least = a, load; least == 0 {
				return best
			}
		}
		if i++; i == len(l.addresses) {
			i = 0
		}
	}
	return best
}

// ofTwo picks two addresses at random, by weight, and returns the one that is better off: nearly as even as looking at all, and
// without the rush to the one that looks best (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001). It is
// nil when both were tried.
func (l *level) ofTwo(tried *tried, burden func(*address, int64) float64, t int64) *address {
	first := l.at(rand.Uint64())
	second := l.at(rand.Uint64())
	if second == first {
		if second++; second == len(l.addresses) {
			second = 0
		}
	}
	a, b := l.addresses[first], l.addresses[second]
	switch {
	case tried.has(a) && tried.has(b):
		return nil
	case tried.has(a):
		return b
	case tried.has(b) || burden(a, t) <= burden(b, t):
		return a
	}
	return b
}

// load is the calls under way for each unit of weight.
func (a *address) load(int64) float64 { return float64(a.inFlight.Load()) / a.weight() }

// byKey is the owner of a key on the ring, or the first after it that is usable, untried and below its bound: its share, by weight,
// of the calls under way times the factor (Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads, 2016). allowed
// is that product for the whole upstream, the call to come included.
func (l *level) byKey(key uint64, allowed float64, tried *tried) *address {
	points := l.ring
	i, _ := slices.BinarySearchFunc(points, key, func(p point, key uint64) int {
		switch {
		case p.at < key:
			return -1
		case p.at > key:
			return 1
		}
		return 0
	})
	for range points {
		if i == len(points) {
			i = 0
		}
		a := points[i].address
		if weight := a.weight(); weight != 0 && float64(a.inFlight.Load()) < math.Ceil(allowed*weight/l.weight) && !tried.has(a) {
			return a
		}
		i++
	}
	return nil
}
