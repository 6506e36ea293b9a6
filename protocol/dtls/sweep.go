package dtls

import (
	"math/rand/v2"
	"time"
)

const (
	sweepTicks  = 32 // in which all sessions are looked at once
	coolAfter   = 60 // seconds without a record after which a session keeps its raw keys only
	evictAmong  = 16 // the least recently used of so many makes room
	secondLimit = 1<<32 - 1
)

// Tick does what time demands. It is to be called about once a second.
func (s *Server) Tick(now time.Time) {
	clock := uint32(min(max(now.Sub(s.began)/time.Second, 0), secondLimit))
	s.clock.Store(clock)
	s.cookies.rotate(now)
	s.resumables.tick(clock)
	timeout, idle := uint32(s.config.HandshakeTimeout/time.Second), uint32(min(s.config.IdleTimeout/time.Second, secondLimit))
	var expired []*session
	s.mu.Lock()
	for _, h := range s.handshakes {
		// One that pion does has a deadline of its own.
		if (h.has != nil || h.resuming.Load() != nil) && clock-h.began >= timeout {
			s.forget(h)
			s.counts.refused[RefusedTimeout].Add(1)
		}
	}
	for range (len(s.all) + sweepTicks - 1) / sweepTicks {
		if s.hand++; s.hand >= len(s.all) {
			s.hand = 0
		}
		established := s.all[s.hand]
		switch unused := clock - established.lastUsed.Load(); {
		case unused >= idle:
			expired = append(expired, established)
		case unused >= coolAfter:
			established.cool()
		}
	}
	s.mu.Unlock()
	for _, established := range expired {
		s.counts.expired.Add(1)
		s.end(established)
	}
}

// cool drops what only a busy session needs.
func (s *session) cool() {
	s.mu.Lock()
	s.ciphers, s.final = nil, nil
	s.mu.Unlock()
}

// leastUsed is a session that has long been silent: the one that has been so for the longest time, of a few. With the lock held.
func (s *Server) leastUsed() *session {
	var least *session
	for range evictAmong {
		if candidate := s.all[rand.IntN(len(s.all))]; least == nil || candidate.lastUsed.Load() < least.lastUsed.Load() {
			least = candidate
		}
	}
	return least
}
