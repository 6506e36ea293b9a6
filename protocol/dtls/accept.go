package dtls

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
)

// hello takes the first record of a datagram with a fragment of a ClientHello.
func (s *Server) hello(from netip.AddrPort, r *record, datagram []byte, receive Receive) {
	f, ok := parseFragment(r)
	if !ok || f.length > maxHello || f.recordSequence > maxHelloSequence {
		s.counts.discarded.Add(1)
		return
	}
	if f.offset > 0 {
		s.helloGoesOn(from, &f, datagram, receive)
		return
	}
	h, ok := parseHello(f.body)
	if !ok {
		s.counts.discarded.Add(1)
		return
	}
	if !s.cookies.valid(from, &h) {
		s.counts.verified.Add(1)
		cookie := s.cookies.make(from, &h)
		s.config.Send(from, appendHelloVerifyRequest(datagram[:0], &f, cookie[:])) // which is shorter than any hello
		return
	}
	s.accept(from, &f, &h, datagram, receive)
}

// helloGoesOn takes a later fragment: only a handshake whose cookie was right waits for one.
func (s *Server) helloGoesOn(from netip.AddrPort, f *fragment, datagram []byte, receive Receive) {
	s.mu.Lock()
	present := s.handshakes[from]
	started := false
	if present != nil && present.has != nil {
		started = true
		if present.addHello(f) {
			s.start(present)
		}
	}
	s.mu.Unlock()
	switch {
	case present == nil:
		s.counts.discarded.Add(1)
	case !started:
		s.toHandshake(present, datagram, receive)
	}
}

// accept begins a handshake for a hello with a valid cookie, unless it is a repetition.
func (s *Server) accept(from netip.AddrPort, f *fragment, hello *hello, datagram []byte, receive Receive) {
	s.mu.Lock()
	present := s.handshakes[from]
	switch {
	case present != nil && present.bound == string(hello.bound) && present.has == nil:
		s.mu.Unlock()
		s.toHandshake(present, datagram, receive)
		return
	case present != nil && present.bound == string(hello.bound):
		if present.addHello(f) {
			s.start(present)
		}
		s.mu.Unlock()
		return
	case present != nil: // the client has begun anew
		s.forget(present)
	}
	source := sourceOf(from)
	refusal, full := Refusal(0), true
	switch {
	case s.closed:
		s.mu.Unlock()
		return
	case len(s.handshakes) >= s.config.MaxHandshakes:
		refusal = RefusedFull
	case s.sources[source] >= s.config.MaxHandshakesOfSource:
		refusal = RefusedSource
	default:
		full = false
		h := &handshake{server: s, from: from, number: s.newNumber(), began: s.clock.Load(), bound: string(hello.bound), recordSequence: f.recordSequence,
			messageSequence: f.messageSequence, hello: make([]byte, f.length), has: make([]bool, f.length), missing: f.length}
		h.link.init(h)
		s.handshakes[from] = h
		s.sources[source]++
		if h.addHello(f) {
			s.start(h)
		}
	}
	s.mu.Unlock()
	if full {
		s.refuse(from, Identity{}, refusal, errLimit)
	}
}

var errLimit = errors.New("dtls: too many unfinished handshakes")

// newNumber is a name that no session has. With the lock held.
func (s *Server) newNumber() uint64 {
	for {
		var random [8]byte
		rand.Read(random[:])
		number := binary.BigEndian.Uint64(random[:])
		if _, taken := s.byNumber[number]; !taken && number != 0 {
			return number
		}
	}
}

// sourceOf is what handshakes are counted by.
func sourceOf(from netip.AddrPort) netip.Addr {
	if address := from.Addr(); address.Is4() {
		return address
	}
	prefix, _ := from.Addr().Prefix(64)
	return prefix.Addr()
}

// start lets a handshake run whose ClientHello is whole. With the lock held.
func (s *Server) start(h *handshake) {
	if parsed, ok := parseHello(h.hello); !ok || string(parsed.bound) != h.bound {
		s.forget(h) // later fragments say something else than the first
		return
	}
	ctx, cancel := context.WithTimeout(s.context, s.config.HandshakeTimeout)
	h.cancel = cancel
	s.running.Go(func() {
		defer cancel()
		h.run(ctx)
	})
}

// forget takes a handshake out of the tables and ends it. With the lock held.
func (s *Server) forget(h *handshake) {
	if s.handshakes[h.from] != h {
		return
	}
	delete(s.handshakes, h.from)
	source := sourceOf(h.from)
	if s.sources[source]--; s.sources[source] == 0 {
		delete(s.sources, source)
	}
	if h.cancel != nil {
		h.cancel()
	}
}

// finish puts the session of a handshake in its place, or says why there is none.
func (s *Server) finish(h *handshake, established *session, err error) {
	var replaced, evicted *session
	s.mu.Lock()
	current := s.handshakes[h.from] == h && !s.closed
	s.forget(h)
	if established != nil && current {
		established.opened = s.clock.Load()
		established.lastUsed.Store(established.opened)
		if !established.hasCID {
			if replaced = s.byAddress[h.from]; replaced != nil {
				s.remove(replaced) // the same address has a new session: the client has begun anew
			}
			s.byAddress[h.from] = established
		}
		if len(s.all) >= s.config.MaxSessions {
			evicted = s.leastUsed()
		}
		established.place = int32(len(s.all))
		s.all = append(s.all, established)
		s.byNumber[established.number] = established
	}
	s.mu.Unlock()
	if replaced != nil {
		s.ended(replaced)
	}
	if evicted != nil {
		s.counts.evicted.Add(1)
		s.end(evicted)
	}
	switch {
	case !current: // the client has begun anew, or the Server is closing
	case established != nil:
		s.counts.completed.Add(1)
		if h.resuming.Load() != nil {
			s.counts.resumed.Add(1)
		}
		if s.config.Opened != nil {
			s.config.Opened(virtual(established.number), established.owner)
		}
	default:
		if errors.Is(err, context.DeadlineExceeded) {
			s.config.Send(h.from, handshakeFailure[:]) // or a client that repeats its last flight might do so for ever
		}
		identity, refusal := h.refusal(err)
		s.refuse(h.from, identity, refusal, err)
	}
}

// handshakeFailure is a record with a fatal alert (RFC 5246 §7.2), its sequence number beyond all that a handshake uses. It is sent alike for a wrong
// key, for an identity that nobody has and where the client was not heard in time.
var handshakeFailure = [...]byte{typeAlert, 0xfe, 0xfd, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, alertFatal, 40}

func (s *Server) refuse(from netip.AddrPort, identity Identity, refusal Refusal, err error) {
	s.counts.refused[refusal].Add(1)
	if s.config.Refused != nil {
		s.config.Refused(from, identity, refusal, err)
	}
}
