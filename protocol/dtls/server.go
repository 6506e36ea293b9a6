package dtls

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Server is the server's side of all DTLS sessions of one socket. It is safe for concurrent use.
type Server struct {
	config  Config
	began   time.Time
	nobody  [32]byte // makes the keys of unknown PSK identities
	cookies cookies
	clock   atomic.Uint32 // seconds since began, as of the last Tick
	counts  counts

	resumables resumables

	context context.Context // of handshakes
	cancel  context.CancelFunc
	running sync.WaitGroup // handshakes

	mu         sync.RWMutex // the following; a session's or link's lock may be taken inside it, not the other way round
	closed     bool
	byNumber   map[uint64]*session
	byAddress  map[netip.AddrPort]*session // of sessions without a Connection ID
	all        []*session
	hand       int // in all: where the next look at what is idle begins
	handshakes map[netip.AddrPort]*handshake
	sources    map[netip.Addr]int // unfinished handshakes
}

type counts struct {
	verified, completed, resumed, discarded, moved, resent, expired, evicted atomic.Uint64
	refused                                                                  [refusals]atomic.Uint64
}

// NewServer makes a Server whose clock begins at now. It fails if the handshake does not work as expected, which depends on the version
// of pion/dtls that the program was built with.
func NewServer(config Config, now time.Time) (*Server, error) {
	if err := selfTest(); err != nil {
		return nil, err
	}
	return newServer(config, now), nil
}

func newServer(config Config, now time.Time) *Server {
	s := &Server{config: config.withDefaults(), began: now, byNumber: make(map[uint64]*session), byAddress: make(map[netip.AddrPort]*session),
		handshakes: make(map[netip.AddrPort]*handshake), sources: make(map[netip.Addr]int)}
	rand.Read(s.nobody[:])
	s.cookies.init(now)
	s.resumables.most = (s.config.MaxSessions + 1) / 2
	s.context, s.cancel = context.WithCancel(context.Background())
	return s
}

// virtual is the name of a session: an address of the prefix 100::/64, from which nothing comes (RFC 6666).
func virtual(number uint64) netip.AddrPort {
	address := [16]byte{0: 1}
	binary.BigEndian.PutUint64(address[8:], number)
	return netip.AddrPortFrom(netip.AddrFrom16(address), 0)
}

func numberOf(peer netip.AddrPort) uint64 {
	address := peer.Addr().As16()
	return binary.BigEndian.Uint64(address[8:])
}

// Receive is given a message of a peer.
type Receive = func(peer netip.AddrPort, message []byte)

// Open takes one datagram from the network, which it decrypts in place, and gives out the messages in it before it returns.
func (s *Server) Open(from netip.AddrPort, datagram []byte, receive Receive) {
	r, _, ok := nextRecord(datagram)
	if !ok {
		s.counts.discarded.Add(1)
		return
	}
	if r.contentType == typeHandshake && r.epoch == 0 && len(r.body) > 0 && r.body[0] == messageClientHello {
		s.hello(from, &r, datagram, receive)
		return
	}
	number, hasCID := connectionID(datagram)
	s.mu.RLock()
	established, handshake := s.byAddress[from], s.handshakes[from]
	if hasCID {
		established = s.byNumber[number]
	}
	s.mu.RUnlock()
	switch {
	case established == nil && handshake == nil:
		s.counts.discarded.Add(1)
	case handshake == nil:
		s.records(established, from, datagram, receive)
	case established == nil:
		s.toHandshake(handshake, datagram, receive)
	case r.epoch == 0:
		s.toHandshake(handshake, datagram, receive)
	default:
		// A session begins anew: what it does not know belongs to the one to come. Opening destroys what it cannot open.
		if !s.records(established, from, slices.Clone(datagram), receive) {
			s.toHandshake(handshake, datagram, receive)
		}
	}
}

// connectionID is that of a datagram, behind records of a handshake that a client sends again.
func connectionID(datagram []byte) (number uint64, ok bool) {
	for {
		r, rest, ok := nextRecord(datagram)
		if !ok || r.contentType == typeCID || r.epoch > 0 {
			return r.number, ok && r.contentType == typeCID
		}
		datagram = rest
	}
}

func (s *Server) toHandshake(h *handshake, datagram []byte, receive Receive) {
	if r := h.resuming.Load(); r != nil {
		s.toResuming(h, r, datagram, receive)
	} else if !h.link.deliver(datagram) {
		s.Open(h.from, datagram, receive) // the session is there now, and the handshake is not
	}
}

// records takes the records of a session. It says whether the first of them was genuine.
func (s *Server) records(established *session, from netip.AddrPort, datagram []byte, receive Receive) (genuine bool) {
	repeated := false // the client's last flight, since it does not have ours
	for first := true; len(datagram) > 0; first = false {
		r, rest, ok := nextRecord(datagram)
		if !ok || r.contentType == typeCID && r.number != established.number {
			s.counts.discarded.Add(1)
			break
		}
		datagram = rest
		if r.epoch == 0 {
			repeated = repeated || r.contentType == typeChangeCipherSpec
			continue
		}
		opened, finished := s.record(established, from, &r, receive)
		genuine = genuine || first && opened
		repeated = repeated || finished
	}
	if repeated {
		s.repeat(established)
	}
	return genuine
}

// repeat sends our last flight again (RFC 6347 §4.2.4), so often that nobody who makes up a ChangeCipherSpec can have much of it.
func (s *Server) repeat(established *session) {
	established.mu.Lock()
	final, to := established.final, established.address
	if established.resends++; established.resends == maxResends {
		established.final = nil
	}
	established.mu.Unlock()
	if final != nil {
		s.counts.resent.Add(1)
		s.config.Send(to, final)
	}
}

// record takes one record of a session. It says whether it is genuine, and whether it holds the Finished of a handshake.
func (s *Server) record(established *session, from netip.AddrPort, r *record, receive Receive) (genuine, finished bool) {
	established.mu.Lock()
	contentType, message, newest, ok := established.open(r)
	if !ok {
		established.mu.Unlock()
		s.counts.discarded.Add(1)
		return false, false
	}
	if established.heard(from, newest) {
		s.counts.moved.Add(1)
	}
	if contentType == typeApplicationData {
		established.final = nil
	}
	established.mu.Unlock()
	if used := s.clock.Load(); established.lastUsed.Load() != used {
		established.lastUsed.Store(used)
	}
	switch {
	case contentType == typeApplicationData:
		receive(virtual(established.number), message)
	case contentType == typeHandshake:
		finished = len(message) > 0 && message[0] == messageFinished
	case contentType == typeAlert && isCloseNotify(message):
		s.end(established) // answered by one of ours (RFC 5246 §7.2.1)
	case contentType == typeAlert && isFatal(message):
		if established.origin != nil {
			established.origin.spent.Store(true)
		}
		s.drop(established)
	}
	return true, finished
}

// Alerts (RFC 5246 §7.2): level, description.
var closeNotify = [2]byte{1, 0}

const alertFatal = 2

func isCloseNotify(alert []byte) bool { return len(alert) == 2 && alert[1] == closeNotify[1] }

func isFatal(alert []byte) bool { return len(alert) == 2 && alert[0] == alertFatal }

// Seal makes the datagram for a message to a peer, appended to buffer, and says where it goes to. ok is false if the session has ended,
// or if its peer has moved and must show first that it is there.
func (s *Server) Seal(buffer []byte, peer netip.AddrPort, message []byte) (to netip.AddrPort, datagram []byte, ok bool) {
	established := s.session(peer)
	if established == nil {
		return to, buffer, false
	}
	established.mu.Lock()
	defer established.mu.Unlock()
	if !established.maySend() {
		return to, buffer, false
	}
	datagram, ok = established.seal(buffer, typeApplicationData, message)
	return established.address, datagram, ok
}

func (s *Server) session(peer netip.AddrPort) *session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byNumber[numberOf(peer)]
}

// Owner is what Config.Opened has given for a peer, and where it is now; nil if there is no such session.
func (s *Server) Owner(peer netip.AddrPort) (owner any, address netip.AddrPort) {
	established := s.session(peer)
	if established == nil {
		return nil, address
	}
	established.mu.Lock()
	defer established.mu.Unlock()
	return established.owner, established.address
}

// End ends a session, telling its peer. It says whether there was one.
func (s *Server) End(peer netip.AddrPort) bool {
	established := s.session(peer)
	if established != nil {
		s.end(established)
	}
	return established != nil
}

func (s *Server) end(established *session) {
	established.mu.Lock()
	datagram, ok := established.seal(nil, typeAlert, closeNotify[:])
	to := established.address
	established.mu.Unlock()
	if ok {
		s.config.Send(to, datagram)
	}
	s.drop(established)
}

// drop forgets a session.
func (s *Server) drop(established *session) {
	s.mu.Lock()
	dropped := s.remove(established)
	s.mu.Unlock()
	if dropped {
		s.ended(established)
	}
}

func (s *Server) ended(established *session) {
	if s.config.Ended != nil {
		s.config.Ended(virtual(established.number), established.owner)
	}
}

// remove takes a session out of all tables; false: it was not there any more. With the lock held.
func (s *Server) remove(established *session) bool {
	at := int(established.place)
	if at < 0 {
		return false
	}
	last := len(s.all) - 1
	s.all[at] = s.all[last]
	s.all[at].place = established.place
	s.all[last] = nil
	s.all = s.all[:last]
	established.place = -1
	delete(s.byNumber, established.number)
	if !established.hasCID && s.byAddress[established.address] == established {
		delete(s.byAddress, established.address)
	}
	return true
}

// Close ends all handshakes and sessions, and returns when no goroutine is left.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	all := slices.Clone(s.all)
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
	for _, established := range all {
		s.end(established)
	}
}

// Stats returns the counters as they are.
func (s *Server) Stats() Stats {
	s.mu.RLock()
	sessions, handshakes := len(s.all), len(s.handshakes)
	s.mu.RUnlock()
	c := &s.counts
	stats := Stats{Sessions: sessions, Handshakes: handshakes, Verified: c.verified.Load(), Completed: c.completed.Load(), Resumed: c.resumed.Load(), Discarded: c.discarded.Load(),
		Moved: c.moved.Load(), Resent: c.resent.Load(), Expired: c.expired.Load(), Evicted: c.evicted.Load()}
	for i := range c.refused {
		stats.Refused[i] = c.refused[i].Load()
	}
	return stats
}
