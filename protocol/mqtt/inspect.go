package mqtt

// QueuedBytes gives the size of the deliveries that were not sent yet.
func (s *Session) QueuedBytes() int { return s.unfinished().queuedBytes }

// Receiving gives the number of QoS 2 messages that were received and not released.
func (s *Session) Receiving() int { return len(s.held().received) }

// Sent calls visit for every delivery in flight with its packet identifier, in the order of sending, until it says false. released:
// PUBREC came and PUBREL was sent.
func (s *Session) Sent(visit func(d *Delivery, id uint16, released bool) bool) {
	inflight := s.unfinished().inflight
	for i := range inflight {
		m := &inflight[i]
		if !visit(&m.Delivery, m.id, m.released) {
			return
		}
	}
}
