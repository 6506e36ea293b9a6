package dtls

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pion/dtls/v3/pkg/crypto/prf"
)

// A client that has lost its session, or its address without a Connection ID, need not do a whole handshake again: with the ID that our ServerHello gave
// that session it resumes it (RFC 5246 §7.3). No certificate goes over the network, and nothing is signed. pion resumes no session of a client
// with a certificate, and forgets the Connection ID of the others, so that this is done here, without a goroutine that waits.

// resumable is what is kept of a handshake for that, after its session has ended as well.
type resumable struct {
	owner      any
	suite      uint16
	serverName [8]byte // as in offer
	master     [masterLength]byte
	spent      atomic.Bool // its session ended by a fatal alert: nothing is resumed (RFC 5246 §7.2.2)
}

// sessionID is what the ServerHello gives out.
type sessionID [16]byte

func newSessionID() (id sessionID) {
	rand.Read(id[:])
	return id
}

// generationSeconds is how long new ones are added to a generation of resumables, so that each can be used for 12 hours at least and 24 at most, which
// RFC 5246 §F.1.4 has as the upper limit.
const generationSeconds = 12 * 3600

// resumables are those of a Server, in two generations.
type resumables struct {
	most int // of a generation

	mu    sync.RWMutex
	began uint32 // the newer generation, on the Server's clock
	newer map[sessionID]*resumable
	older map[sessionID]*resumable
}

func (r *resumables) add(id sessionID, origin *resumable, clock uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.newer) >= r.most {
		r.age(clock)
	}
	if r.newer == nil {
		r.newer = make(map[sessionID]*resumable)
	}
	r.newer[id] = origin
}

// age makes the newer generation the older one. With the lock held.
func (r *resumables) age(clock uint32) { r.older, r.newer, r.began = r.newer, nil, clock }

func (r *resumables) tick(clock uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if clock-r.began >= generationSeconds {
		r.age(clock)
	}
}

// find gives nil if there is none.
func (r *resumables) find(id []byte) *resumable {
	if len(id) != len(sessionID{}) {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	origin := r.newer[sessionID(id)]
	if origin == nil {
		origin = r.older[sessionID(id)]
	}
	if origin == nil || origin.spent.Load() {
		return nil
	}
	return origin
}

// resuming is a handshake whose client resumes a session. It waits for the client's Finished.
type resuming struct {
	mu       sync.Mutex
	session  *session
	flight   []byte // ours: ServerHello, ChangeCipherSpec, Finished
	sends    int
	expected []byte // the client's Finished
	finished bool   // it has come
	over     bool   // the session is in its place
	parked   [][]byte
}

// resume answers a ClientHello that names a session which can be resumed. false: a whole handshake is needed.
func (h *handshake) resume() bool {
	s := h.server
	o, ok := parseOffer(h.hello)
	if !ok {
		return false
	}
	origin := s.resumables.find(o.sessionID)
	// RFC 7627 §5.3: both or none have the extended master secret; without it, nothing is resumable here. RFC 6066 §3: nor is it for another name.
	if origin == nil || !o.extendedMaster || !o.uncompressed || o.serverName != origin.serverName || !o.offers(origin.suite) || !s.config.Resume(origin.owner) {
		return false
	}
	r, err := h.abbreviated(&o, origin)
	if err != nil {
		return false
	}
	h.resuming.Store(r)
	r.mu.Lock()
	defer r.mu.Unlock()
	s.sendFlight(h, r)
	return true
}

// abbreviated makes our flight of the handshake, and the session that it is for.
func (h *handshake) abbreviated(o *offer, origin *resumable) (*resuming, error) {
	var random [32]byte
	rand.Read(random[:])
	established, err := newSession(origin.suite, origin.master[:], o.random, random[:])
	if err != nil {
		return nil, err
	}
	established.origin, established.owner, established.number, established.address = origin, origin.owner, h.number, h.from
	established.hasCID, established.remoteID = o.hasCID, slices.Clone(o.connectionID)

	// RFC 6347 §4.2.1, §4.2.2: our numbers go on from those of the ClientHello, since nothing is known of how many HelloVerifyRequests there were.
	record, message := max(h.recordSequence, 1), h.messageSequence
	hello := appendMessage(nil, version12, record, messageServerHello, message, o.appendServerHello(nil, random[:], origin.suite, h.number), nil)
	// RFC 6347 §4.2.6: each message with its header counts, as if it had come whole.
	said := slices.Concat(appendHandshake(nil, messageClientHello, message, h.hello), hello[recordHeader:])
	ours, err := prf.VerifyDataServer(origin.master[:], said, sha256.New)
	if err != nil {
		return nil, err
	}
	finished := appendHandshake(nil, messageFinished, message+1, ours)
	theirs, err := prf.VerifyDataClient(origin.master[:], append(said, finished...), sha256.New)
	if err != nil {
		return nil, err
	}
	flight := append(hello, typeChangeCipherSpec, 0xfe, version12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1)
	putUint48(flight[len(hello)+5:], record+1)
	flight, _ = established.seal(flight, typeHandshake, finished)
	return &resuming{session: established, flight: flight, expected: appendHandshake(nil, messageFinished, message+1, theirs)}, nil
}

// sendFlight sends it for the first time, or because the client does not seem to have it. With the lock of r held.
func (s *Server) sendFlight(h *handshake, r *resuming) {
	if r.sends++; r.sends <= maxResends {
		s.config.Send(h.from, r.flight)
	}
}

// toResuming takes a datagram of the client while its Finished has not come, or the session is not in its place yet. Nothing is sent again for the
// passing of time: a client repeats its ClientHello until it has our flight, and whatever it sends afterwards, without its own being here, shows that
// this one was lost.
func (s *Server) toResuming(h *handshake, r *resuming, datagram []byte, receive Receive) {
	r.mu.Lock()
	switch {
	case r.over:
		r.mu.Unlock()
		s.Open(h.from, datagram, receive)
		return
	case r.finished:
		r.park(datagram)
		r.mu.Unlock()
		return
	}
	rest, finished := r.clientFinished(datagram)
	if !finished {
		r.park(datagram)
		s.sendFlight(h, r)
		r.mu.Unlock()
		return
	}
	r.finished = true
	r.park(rest)
	r.mu.Unlock()
	s.finish(h, r.session, nil)
	r.mu.Lock()
	r.over = true
	parked := r.parked
	r.parked = nil
	r.mu.Unlock()
	for _, datagram := range parked {
		s.Open(h.from, datagram, receive)
	}
}

// park keeps a datagram that holds what may be for the session.
func (r *resuming) park(datagram []byte) {
	for left := datagram; ; {
		record, rest, ok := nextRecord(left)
		if !ok {
			return
		}
		if record.epoch == 1 {
			break
		}
		left = rest
	}
	if len(r.parked) < maxParked {
		r.parked = append(r.parked, slices.Clone(datagram))
	}
}

// clientFinished looks for the client's Finished, and gives what comes behind it.
func (r *resuming) clientFinished(datagram []byte) (rest []byte, found bool) {
	for len(datagram) > 0 {
		_, rest, ok := nextRecord(datagram)
		if !ok {
			return nil, false
		}
		record, _, _ := nextRecord(slices.Clone(datagram[:len(datagram)-len(rest)])) // what is no Finished is left as it came
		datagram = rest
		negotiated, received := r.session.hasCID, r.session.received
		if record.epoch != 1 || record.contentType == typeCID && (!negotiated || record.number != r.session.number) {
			continue
		}
		r.session.hasCID = record.contentType == typeCID // pion's client leaves the Connection ID out of this one, against RFC 9146 §4
		contentType, message, _, ok := r.session.open(&record)
		r.session.hasCID = negotiated
		if ok && contentType == typeHandshake && hmac.Equal(message, r.expected) {
			return rest, true
		}
		r.session.received = received
	}
	return nil, false
}

func appendHandshake(dst []byte, messageType byte, messageSequence uint16, body []byte) []byte {
	return append(appendHandshakeHeader(dst, messageType, messageSequence, len(body)), body...)
}
