package mqtt

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
	// MaxQueued and MaxQueuedBytes bound the waiting deliveries. What exceeds them meets the fate Overflow.
	MaxQueued, MaxQueuedBytes int
	// Done, if set, is told of every QoS 1 and 2 delivery that leaves the session. It must not use the session.
	Done func(*Delivery, Fate)

	inflight    []inflight // in the order of sending
	queue       []Delivery // the waiting ones are queue[queueHead:]
	queueHead   int
	queuedBytes int
	lastID      uint16
	leaving     Delivery // what Done is told of; kept here so that telling costs no allocation
	received    map[uint16]struct{}
}

type inflight struct {
	Delivery
	id       uint16
	sent     bool // on the present connection
	released bool // PUBREC came, PUBREL was sent
}

// Enqueue adds a QoS 1 or 2 delivery to the waiting ones and reports whether there was room.
func (s *Session) Enqueue(d Delivery) bool {
	size := d.Message.Size()
	if s.Waiting() >= s.MaxQueued || s.queuedBytes+size > s.MaxQueuedBytes {
		s.done(d, Overflow)
		return false
	}
	if s.queueHead > 0 && len(s.queue) == cap(s.queue) {
		n := copy(s.queue, s.queue[s.queueHead:])
		clear(s.queue[n:])
		s.queue, s.queueHead = s.queue[:n], 0
	}
	s.queue = append(s.queue, d)
	s.queuedBytes += size
	return true
}

// Waiting gives the number of deliveries that were not sent yet, InFlight that of those not acknowledged yet.
func (s *Session) Waiting() int { return len(s.queue) - s.queueHead }

// InFlight gives the number of deliveries sent and not acknowledged.
func (s *Session) InFlight() int { return len(s.inflight) }

// Pending calls visit for every delivery that is in flight or waits, in order.
func (s *Session) Pending(visit func(*Delivery)) {
	for i := range s.inflight {
		visit(&s.inflight[i].Delivery)
	}
	for i := s.queueHead; i < len(s.queue); i++ {
		visit(&s.queue[i])
	}
}

func (s *Session) dequeue() (d Delivery) {
	d = s.queue[s.queueHead]
	s.queue[s.queueHead] = Delivery{}
	s.queueHead++
	s.queuedBytes -= d.Message.Size()
	if s.queueHead == len(s.queue) {
		s.queue, s.queueHead = s.queue[:0], 0
	}
	return d
}

func (s *Session) done(d Delivery, fate Fate) {
	if s.Done != nil {
		s.leaving = d
		s.Done(&s.leaving, fate)
		s.leaving = Delivery{}
	}
}

// find gives the index of the delivery in flight under id, or -1. Clients acknowledge in order, so it is near the front,
// and the send window bounds the search for those that do not.
func (s *Session) find(id uint16) int {
	for i := range s.inflight {
		if s.inflight[i].id == id {
			return i
		}
	}
	return -1
}

func (s *Session) remove(i int, fate Fate) {
	d := s.inflight[i].Delivery
	n := len(s.inflight) - 1
	copy(s.inflight[i:], s.inflight[i+1:])
	s.inflight[n] = inflight{}
	s.inflight = s.inflight[:n]
	s.done(d, fate)
}

// newID gives a non-zero identifier that no message in flight uses [MQTT-2.2.1-4]. The window is far smaller than the
// identifier space, so there always is one.
func (s *Session) newID() uint16 {
	for {
		s.lastID++
		if s.lastID != 0 && s.find(s.lastID) < 0 {
			return s.lastID
		}
	}
}
