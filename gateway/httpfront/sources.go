package httpfront

import "net/netip"

// sources counts open connections by source: an IPv4 address or an IPv6 /64, of which one subscriber has all.
type sources map[netip.Addr]int

func (s sources) take(address netip.Addr, limit int) bool {
	key := sourceOf(address)
	if s[key] >= limit {
		return false
	}
	s[key]++
	return true
}

func (s sources) release(address netip.Addr) {
	key := sourceOf(address)
	if s[key]--; s[key] <= 0 {
		delete(s, key)
	}
}

func sourceOf(address netip.Addr) netip.Addr {
	if !address.Is6() {
		return address
	}
	prefix, err := address.Prefix(64)
	if err != nil {
		return address
	}
	return prefix.Addr()
}
