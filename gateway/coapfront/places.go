package coapfront

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"fieldgate/gateway/pipeline"
)

// places are where peers leave their Records, so that a peer's that are alike share one. A place is that of whoever uses it: two peers that have
// the same one only do not find their own Records there. So they take no memory of peers that idle.
type places [1024]place

type place struct {
	mu sync.Mutex
	pipeline.Place
}

// take gives a peer's place, locked; nil: somebody uses it.
func (all *places) take(peer netip.AddrPort) *place {
	address := peer.Addr().As16()
	hash := (binary.BigEndian.Uint32(address[12:]) ^ binary.BigEndian.Uint32(address[4:]) ^ uint32(peer.Port())) * 0x9e3779b9 >> 22
	p := &all[hash]
	if !p.mu.TryLock() {
		return nil
	}
	return p
}
