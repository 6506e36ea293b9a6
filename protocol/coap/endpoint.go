package coap

import (
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

	peers        map[netip.AddrPort]*peer
	peersByUse   list[peer]
	ready        list[peer] // peers whose next request may be given out, in turn
	requests     int        // accepted and not answered
	unacked      list[Request]
	freeRequests []*Request

	receptions     map[messageKey]*reception
	byAge          list[reception]
	receptionBytes int
	freeReceptions []*reception

	assemblies    list[assembly] // by use
	snapshots     list[snapshot] // by use
	transferBytes int

	outstanding  transmissionHeap
	calls        map[callKey]*Call
	observations int
	ended        []*Observation

	out      []byte   // datagram being written
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
	Refused        uint64 // requests answered 5.03 because a limit was reached
	Shrunk         uint64 // responses cut down or challenged for an unverified peer
	Peers          int
	Observations   int
	ReceptionBytes int
	TransferBytes  int
}

// NewEndpoint makes an Endpoint whose clock begins at now.
func NewEndpoint(config Config, now time.Time) *Endpoint {
	config = config.withDefaults()
	e := &Endpoint{
		config:     config,
		epoch:      now,
		random:     rand.NewChaCha8(config.Seed),
		maxSZX:     szxFor(config.BlockSize),
		peers:      make(map[netip.AddrPort]*peer),
		receptions: make(map[messageKey]*reception),
		calls:      make(map[callKey]*Call),
	}
	e.echo.init(e.random)
	e.peersByUse.links = func(p *peer) *links[peer] { return &p.byUse }
	e.ready.links = func(p *peer) *links[peer] { return &p.ready }
	e.unacked.links = func(r *Request) *links[Request] { return &r.unacked }
	e.byAge.links = func(r *reception) *links[reception] { return &r.byAge }
	e.assemblies.links = func(a *assembly) *links[assembly] { return &a.links }
	e.snapshots.links = func(s *snapshot) *links[snapshot] { return &s.links }
	return e
}

// Stats returns the counters as they are.
func (e *Endpoint) Stats() Stats {
	s := e.stats
	s.Peers, s.Observations = len(e.peers), e.observations
	s.ReceptionBytes, s.TransferBytes = e.receptionBytes, e.transferBytes
	return s
}

// Feed takes one datagram from the network. It is not kept.
func (e *Endpoint) Feed(from netip.AddrPort, datagram []byte, now time.Time) {
	e.stats.Received++
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
		if p := e.peers[from]; p != nil {
			if t := p.transmission(m.MessageID); t != nil {
				e.acknowledged(t, now)
			}
		}
	case Reset:
		if p := e.peers[from]; p != nil {
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
	for a := e.assemblies.first; a != nil && a.used+e.config.ExchangeLifetime <= at; a = e.assemblies.first {
		e.dropAssembly(a)
	}
	for s := e.snapshots.first; s != nil && s.used+e.config.ExchangeLifetime <= at; s = e.snapshots.first {
		e.dropSnapshot(s)
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
	forget := func(t instant) { consider(t.Truncate(time.Second) + time.Second) }
	if r := e.byAge.first; r != nil {
		forget(r.expires)
	}
	if a := e.assemblies.first; a != nil {
		forget(a.used + e.config.ExchangeLifetime)
	}
	if s := e.snapshots.first; s != nil {
		forget(s.used + e.config.ExchangeLifetime)
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

func (e *Endpoint) sendEmpty(to netip.AddrPort, t Type, messageID uint16) {
	e.out = appendEmpty(e.out[:0], t, messageID)
	e.send(to, e.out)
}

func (e *Endpoint) send(to netip.AddrPort, datagram []byte) {
	e.stats.Sent++
	e.config.Send(to, datagram)
}
