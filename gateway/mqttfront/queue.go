package mqttfront

import (
	"sync"
	"time"

	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttstore"
	"fieldgate/protocol/mqtt"
)

// A session in the store has only a few of its messages in memory: those in flight and readAhead more. As soon as more wait, or its
// client is away, messages are left in the store, from which a reader fetches them in order when the client has taken what is in
// memory: from there on, until the store holds none, all messages take that way.
const (
	readAhead      = 64        // messages that wait in memory
	readAheadBytes = 256 << 10 // that are read at a time
	readers        = 4         // goroutines that read from the store
)

// waiting is what waits for a session in the store. Session.mu guards it.
type waiting struct {
	messages, bytes int    // in the store, in flight or not; after a restart until they are counted only what has come since
	transit         int    // on their way into memory
	holder          holder // where nodes share a log
	position        uint64
	newest          uint64    // messages above position and up to newest are to be read from the store
	away            time.Time // of a session that was read back: since when its client was away; zero: it was connected
}

func (w *waiting) behind() bool { return w != nil && w.position < w.newest }

// hasRoom says whether another message may wait for a kept session. It is locked.
func (s *session) hasRoom(size int) bool {
	w := s.waiting
	if w.messages < s.listener.Terms.MaxQueued && w.bytes+size <= s.listener.Terms.MaxQueuedBytes {
		return true
	}
	messages, bytes := s.queued() // without those in flight
	return messages < s.listener.Terms.MaxQueued && bytes+size <= s.listener.Terms.MaxQueuedBytes
}

// queued is what waits for the session without what is in flight. It is locked.
func (s *session) queued() (messages, bytes int) {
	if s.waiting == nil {
		return s.state.Waiting(), s.state.QueuedBytes()
	}
	messages, bytes = s.waiting.messages-s.state.InFlight(), s.waiting.bytes
	s.state.Sent(func(d *mqtt.Delivery, _ uint16, _ bool) bool {
		bytes -= d.Message.Size()
		return true
	})
	return max(messages, 0), max(bytes, 0)
}

// gone notes that a message of this size does not wait for the session any more. It is locked.
func (w *waiting) gone(size int) {
	w.messages--
	if w.bytes -= size; w.messages <= 0 {
		w.bytes = max(w.bytes, 0) // what was counted after a restart is about right
	}
}

// keepMessage has the store keep a message for its receivers with kept sessions and, if it is to be retained, as its topic's, and remember
// that it was received. It says whether it does; if not, nobody will call acknowledged.
func (f *Front) keepMessage(m *broker.Message, found *matching, received mqttstore.Received, acknowledged func(error)) bool {
	if f.shares() {
		return f.keepByLog(m, found, received, acknowledged)
	}
	var recipients []mqttstore.Recipient
	size := len(m.Topic) + len(m.Payload) + len(m.Properties)
	// Messages get their numbers in the order in which sessions decide where they go: in the store, too, all up to some number are
	// to be read and none behind.
	f.order.Lock()
	defer f.order.Unlock()
	for i := range found.receivers {
		r := &found.receivers[i]
		r.later = received.Session != 0
		if r.QoS == 0 {
			continue
		}
		s := r.session
		s.mu.Lock()
		switch {
		case s.number == 0 || s.ended:
		case !s.hasRoom(size):
			r.place = nowhere
			f.Counters.DroppedOverflow.Add(1)
			f.recordDropped(s, []byte(m.Topic))
		default:
			r.place = inMemory
			if s.conn == nil || s.waiting.behind() || s.state.Waiting()+s.waiting.transit >= readAhead {
				r.place = inStore
			} else {
				s.waiting.transit++
			}
			r.later = r.later || r.QoS == 2
			if m.Retain {
				s.overtaken(m.Topic)
			}
			s.waiting.messages++
			s.waiting.bytes += size
			recipients = append(recipients, mqttstore.Recipient{Session: s.number, QoS: r.QoS, Retain: r.Retain, SubscriptionIDs: r.SubscriptionIDs})
		}
		s.mu.Unlock()
	}
	if recipients == nil && (!m.Retain || m.Relayed) && received.Session == 0 {
		return false
	}
	waiting := found.waiting(m)
	if waiting != nil {
		acknowledged = f.whenStored(waiting, m, acknowledged)
	}
	number := f.store.Publish(m, recipients, received, acknowledged)
	for i := range waiting {
		if waiting[i].place == inMemory {
			waiting[i].Token = number
		}
	}
	for i := range found.receivers {
		r := &found.receivers[i]
		if r.place != inMemory && r.place != inStore {
			continue
		}
		r.Token = number
		r.session.mu.Lock()
		w := r.session.waiting
		if w.newest = number; r.place == inMemory {
			w.position = number
		}
		r.session.mu.Unlock()
	}
	return true
}

// place says where a delivery goes.
type place byte

const (
	toClient place = iota // as the session has it: it is not kept, or the delivery is of QoS 0
	inMemory              // as well, and it is in the store besides
	inStore               // it is read from there later
	nowhere               // there is no room for it
)

// done has the store forget a delivery that the session needs no more. It is locked.
func (f *Front) done(s *session, d *mqtt.Delivery, fate mqtt.Fate) {
	if d.Token == 0 || s.number == 0 {
		return
	}
	if !f.shares() { // where it is counted when it is applied
		s.waiting.gone(d.Message.Size())
	}
	if d.QoS == 2 {
		f.forgetDelivery(s, d, fate)
	} else {
		f.store.Done(s.number, d.Token, d.Message.Expires)
	}
}

// fetch has a reader look after the session, if there is something for its client that memory has room for. It is locked.
func (f *Front) fetch(s *session) {
	if s.fetching || s.conn == nil || s.ended || !s.wantsMessages() && !s.wantsRetained() {
		return
	}
	s.fetching = true
	f.fetching.add(s)
}

// wantsMessages: there are messages in the store, and memory has room for some. The session is locked.
func (s *session) wantsMessages() bool { return s.waiting.behind() && s.state.Waiting() <= readAhead/2 }

// fetches is the sessions that readers have before them.
type fetches struct {
	mu       sync.Mutex
	changed  sync.Cond
	sessions []*session
	ended    bool
}

func (q *fetches) add(s *session) {
	q.mu.Lock()
	q.sessions = append(q.sessions, s)
	q.mu.Unlock()
	q.changed.Signal()
}

// next waits for a session; nil: there will be none.
func (q *fetches) next() *session {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.sessions) == 0 {
		if q.ended {
			return nil
		}
		q.changed.Wait()
	}
	s := q.sessions[0]
	q.sessions[0] = nil
	q.sessions = q.sessions[1:]
	return s
}

func (q *fetches) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.changed.Broadcast()
}

// read serves sessions until there are no more.
func (f *Front) read() {
	for s := f.fetching.next(); s != nil; s = f.fetching.next() {
		f.fetchMessages(s)
		f.fetchRetained(s)
		s.mu.Lock()
		s.fetching = false
		if s.conn != nil {
			b := f.newBatch()
			b.lend(s.conn)
			s.conn.deliverRetained(b.now) // fetches again if there is room
			s.conn.flushIn(b)
			s.mu.Unlock()
			b.end()
		} else {
			s.mu.Unlock()
		}
	}
}

// fetchMessages reads some of the messages that wait for a session in the store and hands them to its client.
func (f *Front) fetchMessages(s *session) {
	s.mu.Lock()
	number, wants := s.number, s.wantsMessages()
	var position, newest uint64
	if wants {
		position, newest = s.waiting.position, s.waiting.newest
	}
	s.mu.Unlock()
	if !wants || number == 0 || f.store.Settle(f.ctx) != nil { // what is on its way to the disk is to be found there
		return
	}
	queued, all, err := f.store.Queue(number, position, readAhead, readAheadBytes)
	if err != nil {
		f.logger.Error("messages that wait for an MQTT session cannot be read", "client", s.key.client, "error", err)
		s.mu.Lock()
		s.waiting.position = newest // what cannot be read now is tried again when the client connects the next time
		s.mu.Unlock()
		return
	}
	b := f.newBatch()
	s.mu.Lock()
	defer b.end()
	defer s.mu.Unlock()
	if s.ended || s.conn == nil || s.waiting.position != position {
		return // it begins again with the next connection
	}
	b.lend(s.conn)
	for i := range queued {
		q := &queued[i]
		d := mqtt.Delivery{Message: encodeMessage(q.Message), QoS: q.QoS, Retain: q.Retain, SubscriptionIDs: q.SubscriptionIDs, Token: q.Number}
		s.waiting.position = q.Number
		_, seen := f.hears(s, []byte(q.Message.Topic), nil) // it was for the session when it came, and goes there as far as it may be seen now
		switch shown := project(q.Message, seen); shown {
		case nil:
			f.done(s, &d, mqtt.Refused)
			continue
		case q.Message:
		default:
			d.Message = encodeProjected(shown, d.Message.Size())
		}
		s.conn.mqtt.Deliver(d, b.now)
	}
	if all {
		s.waiting.position = max(s.waiting.position, newest)
	}
	s.conn.flushIn(b)
}

// Waiting implements mqttstore.Owner.
func (f *Front) Waiting(number uint64, messages, bytes int) {
	f.mu.Lock()
	s := f.kept[number]
	f.mu.Unlock()
	if s == nil {
		f.store.EndSession(number) // messages that came while their session ended
		return
	}
	s.mu.Lock()
	s.waiting.messages += messages
	s.waiting.bytes += bytes
	s.mu.Unlock()
}

// Expired implements mqttstore.Owner: a message that was not fetched yet is deleted.
func (f *Front) Expired(number, message uint64, m *broker.Message) bool {
	f.mu.Lock()
	s := f.kept[number]
	f.mu.Unlock()
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetching || message <= s.waiting.position {
		return false // the session will see that it has expired
	}
	f.Counters.DroppedExpired.Add(1)
	s.waiting.gone(len(m.Topic) + len(m.Payload) + len(m.Properties))
	return true
}

var _ mqttstore.Owner = (*Front)(nil)

// expired says that a message's time is over.
func expired(m *broker.Message, now time.Time) bool {
	return !m.Expires.IsZero() && !now.Before(m.Expires)
}
