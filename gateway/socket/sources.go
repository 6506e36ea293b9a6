package socket

import "net/netip"

// Sources counts open connections by Source. Whoever has one guards it.
type Sources map[netip.Addr]int

// Take counts another connection of an address; false: its source has as many as the limit already.
func (s Sources) Take(address netip.Addr, limit int) bool {
	key := Source(address)
	if s[key] >= limit {
		return false
	}
	s[key]++
	return true
}

// Release takes a connection of an address off.
func (s Sources) Release(address netip.Addr) {
	key := Source(address)
	if s[key]--; s[key] <= 0 {
		delete(s, key)
	}
}
