package pipeline

import (
	"slices"
	"strings"

	"fieldgate"
	"fieldgate/gateway/upstream"
)

// FNV-1a needs no seed: the share that a caller falls into stays the same on every gateway and over restarts.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// service is the name of the upstream that the exchange goes to: the operation's, or that of a canary.
func (x *Exchange) service() string {
	o := x.Operation
	if o.policies == nil {
		return o.Upstream
	}
	for i := range o.policies.Canaries {
		if c := &o.policies.Canaries[i]; x.inCanary(c) {
			return c.Upstream
		}
	}
	return o.Upstream
}

func (x *Exchange) inCanary(c *fieldgate.Canary) bool {
	if c.Field != "" {
		if x.Fields == nil {
			return false
		}
		if value, found := x.Fields.Field(c.Field); !found || string(value) != c.Value {
			return false
		}
	}
	if len(c.Models) > 0 && !oneOf(c.Models, x.Principal.Model) || len(c.Firmware) > 0 && !oneOf(c.Firmware, x.Principal.Firmware) {
		return false
	}
	return c.Percent >= 100 || x.share(c.Upstream) < c.Percent
}

// share is a number from 0 to 100 that stays the same for a caller and a canary.
func (x *Exchange) share(salt string) float64 {
	hash := uint64(fnvOffset)
	add := func(text string) {
		for i := range len(text) {
			hash = (hash ^ uint64(text[i])) * fnvPrime
		}
	}
	add(salt)
	add("\x00")
	if x.Principal.ID != "" {
		add(x.Principal.ID)
	} else {
		network, _ := x.Source.Addr().Unmap().Prefix(min(x.Source.Addr().Unmap().BitLen(), 64)) // of IPv6 a subscriber has a /64
		address := network.Addr().As16()
		add(string(address[:]))
	}
	hash ^= hash >> 32 // FNV's high bits change little with the last bytes
	hash *= 0x9e3779b97f4a7c15
	return float64(hash>>11) / (1 << 53) * 100
}

// oneOf says whether a name is listed; "*" at the end of an entry stands for anything.
func oneOf(list []string, name string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		prefix, open := strings.CutSuffix(entry, "*")
		return name != "" && (entry == name || open && strings.HasPrefix(name, prefix))
	})
}

// Service is the upstream that the exchange goes to; nil when the environment has none of its name.
func (p *Pipeline) Service(x *Exchange) *upstream.Upstream { return p.Upstreams.Upstream(x.service()) }
