package mqttfront

import (
	"time"

	"fieldgate/gateway/broker"
)

// stored is what the journal says: the sum of its entries. It is rebuilt from the file at the start and follows every
// committed entry afterwards, so that the journal can be rewritten from it. Messages are shared with the sessions.
type stored struct {
	sessions map[uint64]*storedSession
	retained map[string]*broker.Message
	waiting  map[uint64]int // by message number: how many sessions have it pending
	newest   uint64         // highest session or message number
	live     int            // rough size of a rewritten journal, bytes
}

type storedSession struct {
	key           sessionKey
	expiry        uint32
	away          time.Time
	subscriptions map[string]subscriptionOptions
	pending       map[uint64]storedDelivery // by message number, which rises in the order of publishing
}

type storedDelivery struct {
	message *broker.Message
	recipient
}

func newStored() *stored {
	return &stored{sessions: make(map[uint64]*storedSession), retained: make(map[string]*broker.Message), waiting: make(map[uint64]int)}
}

// apply adds one entry. Entries about a session that is gone are late ones and change nothing.
func (s *stored) apply(e *entry) {
	s.newest = max(s.newest, e.session, e.number)
	session := s.sessions[e.session]
	switch e.kind {
	case entrySession:
		if session == nil {
			session = &storedSession{key: e.key, subscriptions: make(map[string]subscriptionOptions), pending: make(map[uint64]storedDelivery)}
			s.sessions[e.session] = session
		}
		session.expiry, session.away = e.expiry, e.away
	case entryEnd:
		if session != nil {
			for number := range session.pending {
				s.done(session, number)
			}
			delete(s.sessions, e.session)
		}
	case entrySubscribe:
		if session != nil {
			session.subscriptions[e.filter] = e.options
		}
	case entryUnsubscribe:
		if session != nil {
			delete(session.subscriptions, e.filter)
		}
	case entryDone:
		if session != nil {
			s.done(session, e.number)
		}
	case entryMessage:
		if e.message.Retain {
			if old := s.retained[e.message.Topic]; old != nil {
				s.live -= sizeOf(old)
				delete(s.retained, e.message.Topic)
			}
			if len(e.message.Payload) > 0 {
				s.retained[e.message.Topic] = e.message
				s.live += sizeOf(e.message)
			}
		}
		for _, r := range e.recipients {
			if to := s.sessions[r.session]; to != nil {
				s.done(to, e.number)
				to.pending[e.number] = storedDelivery{e.message, r}
				if s.waiting[e.number]++; s.waiting[e.number] == 1 {
					s.live += sizeOf(e.message)
				}
			}
		}
	}
}

// done forgets a session's pending message, and the message with the last session.
func (s *stored) done(session *storedSession, number uint64) {
	d, ok := session.pending[number]
	if !ok {
		return
	}
	delete(session.pending, number)
	if s.waiting[number]--; s.waiting[number] == 0 {
		delete(s.waiting, number)
		s.live -= sizeOf(d.message)
	}
}

func sizeOf(m *broker.Message) int { return 64 + len(m.Topic) + len(m.Payload) + len(m.Properties) }

// entries calls visit with entries that say the same as all those that were applied, and few more.
func (s *stored) entries(visit func(*entry) error) error {
	for id, session := range s.sessions {
		if err := visit(&entry{kind: entrySession, session: id, key: session.key, expiry: session.expiry, away: session.away}); err != nil {
			return err
		}
		for filter, options := range session.subscriptions {
			if err := visit(&entry{kind: entrySubscribe, session: id, filter: filter, options: options}); err != nil {
				return err
			}
		}
	}
	for _, m := range s.retained {
		if err := visit(&entry{kind: entryMessage, message: m}); err != nil {
			return err
		}
	}
	pending := make(map[uint64]*entry, len(s.waiting))
	for _, session := range s.sessions {
		for number, d := range session.pending {
			e := pending[number]
			if e == nil {
				m := *d.message
				m.Retain = false // its retained copy is written above, if it still is the newest
				e = &entry{kind: entryMessage, number: number, message: &m}
				pending[number] = e
			}
			e.recipients = append(e.recipients, d.recipient)
		}
	}
	for _, e := range pending {
		if err := visit(e); err != nil {
			return err
		}
	}
	// The highest number lives on, even if nothing carries it. No session has the number 0.
	return visit(&entry{kind: entryDone, number: s.newest})
}
