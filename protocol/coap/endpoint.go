package coap

import (
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Endpoint is one CoAP endpoint (RFC 7252 §1.2), server and client at once, without input and output. It is
// not safe for concurrent use.
type Endpoint struct {
	config Config
	epoch  time.Time
	random *rand.ChaCha8
	echo   echoKey
	maxSZX uint8

	hashSeed     maphash.Seed
	peers        table[peer]
	peersByUse   list[peer]
	ready        list[peer] // peers whose next request may be given out, in turn
	requests     int        // accepted and not answered
	unacked      list[Request]
	freeRequests []*Request

	receptions     table[reception]
	unremembered   reception // of whatever comes over a connection
	byAge          list[reception]
	receptionBytes int
	freeReceptions []*reception

	uploads       list[transfer]    // by use
	downloads     list[transfer]    // by use
	paced         timers[*transfer] // of these, those that go on by themselves
	transferBytes int
	strangerBytes int // of these, those of strangers
	unproven      int // observations of strangers that have not shown that they are there

	outstanding  timers[*transmission]
	calls        map[callKey]*Call
	observations int
	ended        []*Observation

	out      []byte   // datagram being written
	opened   []byte   // request that was protected
	plain    []byte   // response being protected
	scratch  Response // response being made without the application
	opBuffer []byte   // operation key being looked up
	stats    Stats
}

// Stats counts what an Endpoint has seen since it was made.
type Stats struct {
	Received       uint64 // datagrams
	Sent           uint64 // datagrams
	Malformed      uint64 // of these not CoAP, or of a reserved code
	Duplicates     uint64 // answered again or ignored without being executed
	Retransmitted  uint64
	Refused        uint64 // requests answered 5.03, and connections closed, because a limit was reached
	Shrunk         uint64 // responses cut down or challenged for an unverified peer
	Uploads        uint64 // bodies that peers have begun to send in blocks
	Downloads      uint64 // bodies of ours that were kept for peers to fetch in blocks
	Peers          int
	Observations   int
	ReceptionBytes int
	TransferBytes  int
}

// Add adds what another Endpoint has seen.
func (s *Stats) Add(other Stats) {
	s.Received += other.Received
	s.Sent += other.Sent
	s.Malformed += other.Malformed
	s.Duplicates += other.Duplicates
	s.Retransmitted += other.Retransmitted
	s.Refused += other.Refused
	s.Shrunk += other.Shrunk
	s.Uploads += other.Uploads
	s.Downloads += other.Downloads
	s.Peers += other.Peers
	s.Observations += other.Observations
	s.ReceptionBytes += other.ReceptionBytes
	s.TransferBytes += other.TransferBytes
}

// NewEndpoint makes an Endpoint whose clock begins at now.
func NewEndpoint(config Config, now time.Time) *Endpoint {
	config = config.withDefaults()
	e := &Endpoint{
		config:   config,
		epoch:    now,
		random:   rand.NewChaCha8(config.Seed),
		maxSZX:   szxFor(config.BlockSize),
		hashSeed: maphash.MakeSeed(),
		peers:    newTable(func(p *peer) **peer { return &p.sameHash }, func(p *peer) uint64 { return p.hash }),
		receptions: newTable(func(r *reception) **reception { return &r.sameHash },
			func(r *reception) uint64 { return hashOfMessage(r.peer, r.id) }),
		calls: make(map[callKey]*Call),
	}
	e.echo.init(e.random)
	e.peersByUse.links = func(p *peer) *links[peer] { return &p.byUse }
	e.ready.links = func(p *peer) *links[peer] { return &p.ready }
	e.unacked.links = func(r *Request) *links[Request] { return &r.unacked }
	e.byAge.links = func(r *reception) *links[reception] { return &r.byAge }
	e.uploads.links = func(t *transfer) *links[transfer] { return &t.links }
	e.downloads.links = e.uploads.links
	return e
}

// Stats returns the counters as they are.
func (e *Endpoint) Stats() Stats {
	s := e.stats
	s.Peers, s.Observations = e.peers.count, e.observations
	s.ReceptionBytes, s.TransferBytes = e.receptionBytes, e.transferBytes
	return s
}

// Feed takes one datagram from the network. It is not kept.
func (e *Endpoint) Feed(from netip.AddrPort, datagram []byte, now time.Time) {
	e.stats.Received++
	if e.reliable() {
		e.receiveReliable(from, datagram, now.Sub(e.epoch))
		return
	}
	m, err := Decode(datagram)
	if err != nil {
		e.stats.Malformed++
		// RFC 7252 §4.2, §4.3: a Confirmable message with a format error is rejected by a Reset, any other
		// is ignored. §3: so is one of another version. Nothing else changes.
		if err != ErrShort && err != ErrVersion && m.Type == Confirmable {
			e.sendEmpty(from, Reset, m.MessageID)
		}
		return
	}
	at := now.Sub(e.epoch)
	switch {
	case m.Code == Empty:
		e.receiveEmpty(from, &m, at)
	case m.Code.IsRequest():
		// RFC 7252 §4.2: an acknowledgement or Reset never carries a request; it is ignored.
		if m.Type == Confirmable || m.Type == NonConfirmable {
			e.receiveRequest(from, &m, datagram, at)
		}
	case m.Code.IsResponse():
		e.receiveResponse(from, &m, datagram, at)
	default:
		// RFC 7252 §3: codes of a reserved class are a format error.
		e.stats.Malformed++
		if m.Type == Confirmable {
			e.sendEmpty(from, Reset, m.MessageID)
		}
	}
}

func (e *Endpoint) receiveEmpty(from netip.AddrPort, m *Message, now instant) {
	switch m.Type {
	case Confirmable:
		e.sendEmpty(from, Reset, m.MessageID) // RFC 7252 §4.3: a CoAP ping
	case Acknowledgement:
		if p := e.known(from); p != nil {
			switch t, ping := p.transmission(m.MessageID); {
			case ping:
				e.pingAnswered(t, now)
			case t != nil:
				e.acknowledged(t, now)
			}
		}
	case Reset:
		if p := e.known(from); p != nil {
			e.rejected(p, m.MessageID, now)
		}
	}
}

// Tick does what is due: retransmissions, empty acknowledgements, and forgetting.
func (e *Endpoint) Tick(now time.Time) {
	at := now.Sub(e.epoch)
	for r := e.unacked.first; r != nil && r.ackDue <= at; r = e.unacked.first {
		e.acknowledgeRequest(r)
	}
	for len(e.outstanding) > 0 && e.outstanding[0].due <= at {
		e.transmissionDue(e.outstanding[0], at)
	}
	for r := e.byAge.first; r != nil && r.expires <= at; r = e.byAge.first {
		e.forgetReception(r)
	}
	for len(e.paced) > 0 && e.paced[0].due <= at {
		e.goOn(e.paced[0], at)
	}
	for t := e.uploads.first; t != nil && t.used+e.config.ExchangeLifetime <= at; t = e.uploads.first {
		e.drop(t) // RFC 9177 §7.2: NON_PARTIAL_TIMEOUT
	}
	for t := e.downloads.first; t != nil && t.used+e.config.ExchangeLifetime <= at; t = e.downloads.first {
		e.drop(t)
	}
}

// Deadline is when Tick has something to do next; ok is false when nothing waits. Forgetting may come up to a
// second late, so that it does not ask for a Tick for each message.
func (e *Endpoint) Deadline() (at time.Time, ok bool) {
	var due instant
	consider := func(t instant) {
		if !ok || t < due {
			due, ok = t, true
		}
	}
	if r := e.unacked.first; r != nil {
		consider(r.ackDue)
	}
	if len(e.outstanding) > 0 {
		consider(e.outstanding[0].due)
	}
	if len(e.paced) > 0 {
		consider(e.paced[0].due)
	}
	forget := func(t instant) { consider(t.Truncate(time.Second) + time.Second) }
	if r := e.byAge.first; r != nil {
		forget(r.expires)
	}
	if t := e.uploads.first; t != nil {
		forget(t.used + e.config.ExchangeLifetime)
	}
	if t := e.downloads.first; t != nil {
		forget(t.used + e.config.ExchangeLifetime)
	}
	return e.epoch.Add(due), ok
}

// TakeEnded returns the observations that have ended since the last call, so that the owner of the Endpoint
// can call their Ended functions without holding whatever guards it.
func (e *Endpoint) TakeEnded() []*Observation {
	ended := e.ended
	e.ended = nil
	return ended
}

// sendEmpty acknowledges or rejects a message, where there is a message layer.
func (e *Endpoint) sendEmpty(to netip.AddrPort, t Type, messageID uint16) {
	if e.reliable() {
		return
	}
	e.out = appendEmpty(e.out[:0], t, messageID)
	e.send(to, e.out)
}

func (e *Endpoint) send(to netip.AddrPort, datagram []byte) {
	e.stats.Sent++
	e.config.Send(to, datagram)
}
