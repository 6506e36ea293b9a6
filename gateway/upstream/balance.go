package upstream

import "time"

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

// choose returns an address that the call has not tried yet and notes it as tried; nil: none is left. What it returns is used:
// begin, and end whatever becomes of it.
func (u *Upstream) choose(now time.Time, c *Choice, tried *tried) *address {
	if tried.count == maxTries {
		return nil
	}
	first, addresses := int(u.turn.Add(1)), u.addresses()
	for _, ejected := range [...]bool{false, true} { // those that lately refused come last
		for i := range addresses {
			a := addresses[(first+i)%len(addresses)]
			if a.ejected(now) == ejected && !tried.has(a) {
				tried.add(a)
				return a
			}
		}
	}
	return nil
}
