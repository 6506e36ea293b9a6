package mqtt

import "slices"

// Fate says how a QoS 1 or 2 delivery left its session.
type Fate byte

const (
	Delivered Fate = iota // acknowledged by the client
	Refused               // acknowledged with a failure reason [MQTT-4.4.0-2]
	Expired               // its message expiry passed before it was sent
	TooLarge              // larger than the client's maximum packet size [MQTT-3.1.2-25]
	Overflow              // the session's queue was full
)

func (f Fate) String() string {
	return [...]string{"delivered", "refused", "expired", "too large", "overflow"}[f]
}

// Session is the state that outlives a connection (MQTT 5 §4.1), except subscriptions, which belong to the tree: what
// was sent and not acknowledged, what waits, and the QoS 2 messages received and not released. It has no lock.
type Session struct {
	Owner Owner
	// Stored says that the owner keeps the session on disk: what the client hears of a QoS 2 message waits for that. See DeliveryReceived
	// and ReleaseReceived.
	Stored bool
	lastID uint16

	deliveries *deliveries // nil: none yet, as of most
	handshakes *handshakes // of QoS 2; nil: none yet
}

// Owner is whose session it is.
type Owner interface {
	// QueueLimits are how many deliveries may wait, and how many bytes of them. What exceeds them meets the fate Overflow.
	QueueLimits() (messages, bytes int)
	// Done is told of every QoS 1 and 2 delivery that leaves the session. It must not use the session.
	Done(Delivery, Fate)
}

// deliveries are those that have not been acknowledged.
type deliveries struct {
	inflight    []inflight // in the order of sending
	queue       []Delivery // the waiting ones are queue[queueHead:]
	queueHead   int
	queuedBytes int
}

var noDeliveries deliveries

// unfinished gives the deliveries to look at, or to change those that there are; begun to add one.
func (s *Session) unfinished() *deliveries {
	if s.deliveries == nil {
		return &noDeliveries
	}
	return s.deliveries
}

func (s *Session) begun() *deliveries {
	if s.deliveries == nil {
		s.deliveries = new(deliveries)
	}
	return s.deliveries
}

// handshakes are the identifiers that a session holds for QoS 2, beside those of deliveries in flight.
type handshakes struct {
	received  map[uint16]struct{} // from the client, not released
	undecided []uint16            // from the client on an earlier connection, and still await Acknowledge
	reserved  []uint16            // of stored deliveries that have left, until Forgotten
}

var noHandshakes handshakes

// held gives the handshakes to look at, hold to change them.
func (s *Session) held() *handshakes {
	if s.handshakes == nil {
		return &noHandshakes
	}
	return s.handshakes
}

func (s *Session) hold() *handshakes {
	if s.handshakes == nil {
		s.handshakes = &handshakes{received: make(map[uint16]struct{})}
	}
	return s.handshakes
}

type inflight struct {
	Delivery
	id       uint16
	sent     bool // on the present connection
	received bool // PUBREC came
	released bool // PUBREL was sent
}

// Enqueue adds a QoS 1 or 2 delivery to the waiting ones and reports whether there was room.
func (s *Session) Enqueue(d Delivery) bool {
	size := d.Message.Size()
	if messages, bytes := s.Owner.QueueLimits(); s.Waiting() >= messages || s.QueuedBytes()+size > bytes {
		s.Owner.Done(d, Overflow)
		return false
	}
	u := s.begun()
	if u.queueHead > 0 && len(u.queue) == cap(u.queue) {
		n := copy(u.queue, u.queue[u.queueHead:])
		clear(u.queue[n:])
		u.queue, u.queueHead = u.queue[:n], 0
	}
	u.queue = append(u.queue, d)
	u.queuedBytes += size
	return true
}

// Waiting gives the number of deliveries that were not sent yet, InFlight that of those not acknowledged yet.
func (s *Session) Waiting() int {
	u := s.unfinished()
	return len(u.queue) - u.queueHead
}

// InFlight gives the number of deliveries sent and not acknowledged.
func (s *Session) InFlight() int { return len(s.unfinished().inflight) }

// next is the first of the waiting deliveries, of which there is one.
func (u *deliveries) next() *Delivery { return &u.queue[u.queueHead] }

func (u *deliveries) dequeue() (d Delivery) {
	d = *u.next()
	*u.next() = Delivery{}
	u.queueHead++
	u.queuedBytes -= d.Message.Size()
	if u.queueHead == len(u.queue) {
		u.queue, u.queueHead = u.queue[:0], 0
	}
	return d
}

// find gives the index of the delivery in flight under id, or -1. Clients acknowledge in order, so it is near the front,
// and the send window bounds the search for those that do not.
func (s *Session) find(id uint16) int {
	inflight := s.unfinished().inflight
	for i := range inflight {
		if inflight[i].id == id {
			return i
		}
	}
	return -1
}

// remove takes a delivery out that is in flight.
func (s *Session) remove(i int, fate Fate) {
	u := s.deliveries
	d := u.inflight[i].Delivery
	if d.stored() {
		h := s.hold()
		h.reserved = append(h.reserved, u.inflight[i].id)
	}
	n := len(u.inflight) - 1
	copy(u.inflight[i:], u.inflight[i+1:])
	u.inflight[n] = inflight{}
	u.inflight = u.inflight[:n]
	s.Owner.Done(d, fate)
}

// Identifiers of deliveries that are stored are those from firstStored on, others of such a session are below: a client that remembers one of
// the former never meets it in another message.
const (
	firstStored = 0x8000
	maxInFlight = firstStored - 1
)

// stored says that a restart brings the delivery back with its identifier.
func (d *Delivery) stored() bool { return d.QoS == 2 && d.Token != 0 }

// storedID is the identifier of a stored delivery. It follows from the token alone, so that the delivery has the same one whenever it is sent,
// also after a restart: a client that has received a QoS 2 message takes neither that one twice, nor another one for it (§4.3.3). Stores
// rely on it: it never changes. Multiplying by the golden ratio keeps tokens apart that follow each other in equal steps.
func storedID(token uint64) uint16 { return firstStored | uint16(token*0x9E3779B97F4A7C15>>49) }

// newID gives a non-zero identifier for d that no message in flight uses [MQTT-2.2.1-4]; free is false if its only one is in use, or may
// be after a restart.
func (s *Session) newID(d *Delivery) (id uint16, free bool) {
	if d.stored() {
		id = storedID(d.Token)
		return id, s.find(id) < 0 && !slices.Contains(s.held().reserved, id)
	}
	last := uint16(0xFFFF)
	if s.Stored {
		last = firstStored - 1
	}
	for { // the window is smaller, so there always is one
		if s.lastID++; s.lastID == 0 || s.lastID > last {
			s.lastID = 1
		}
		if s.find(s.lastID) < 0 {
			return s.lastID, true
		}
	}
}

// Forgotten says that a QoS 2 delivery with a token that Done was told of will not come back after a restart: its identifier may be used
// again.
func (s *Session) Forgotten(token uint64) {
	h := s.held()
	if i := slices.Index(h.reserved, storedID(token)); i >= 0 {
		h.reserved = slices.Delete(h.reserved, i, i+1)
	}
}

// Restore gives a session that was read back the identifiers of QoS 2 messages that its client has not released, and the tokens of
// deliveries that its client has received and not completed.
func (s *Session) Restore(received []uint16, delivered []uint64) {
	for _, id := range received {
		s.hold().received[id] = struct{}{}
	}
	for _, token := range delivered {
		u := s.begun()
		u.inflight = append(u.inflight, inflight{Delivery: Delivery{Message: new(Message), QoS: 2, Token: token}, id: storedID(token), received: true, released: true})
	}
}

// left notes the QoS 2 messages that await Acknowledge when their connection ends.
func (s *Session) left(messages []unacked) {
	for i := range messages {
		if u := &messages[i]; u.qos == 2 && !u.decided && !slices.Contains(s.held().undecided, u.id) {
			h := s.hold()
			h.undecided = append(h.undecided, u.id)
		}
	}
}

// decide notes what became of a QoS 2 message, and says whether its connection had ended.
func (s *Session) decide(id uint16, received bool) (left bool) {
	h := s.hold()
	if received {
		h.received[id] = struct{}{}
	}
	i := slices.Index(h.undecided, id)
	if i < 0 {
		return false
	}
	h.undecided = slices.Delete(h.undecided, i, i+1)
	return true
}
