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
	newest   uint64 // highest session or message number
	live     int    // rough size of a rewritten journal, bytes
}

type storedSession struct {
	key           sessionKey
	expiry        uint32
	seen          time.Time
	subscriptions map[string]subscriptionOptions
	pending       map[uint64]storedDelivery // by message number, which rises in the order of publishing
}

type storedDelivery struct {
	message *broker.Message
	recipient
}

func newStored() *stored {
	return &stored{sessions: make(map[uint64]*storedSession), retained: make(map[string]*broker.Message)}
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
		session.expiry, session.seen = e.expiry, e.seen
	case entryEnd:
		if session != nil {
			for _, d := range session.pending {
				s.live -= sizeOf(d.message)
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
			if d, ok := session.pending[e.number]; ok {
				s.live -= sizeOf(d.message)
				delete(session.pending, e.number)
			}
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
				to.pending[e.number] = storedDelivery{e.message, r}
				s.live += sizeOf(e.message)
			}
		}
	}
}

func sizeOf(m *broker.Message) int { return 64 + len(m.Topic) + len(m.Payload) + len(m.Properties) }

// entries calls visit with entries that say the same as all those that were applied, and few more.
func (s *stored) entries(visit func(*entry) error) error {
	for id, session := range s.sessions {
		if err := visit(&entry{kind: entrySession, session: id, key: session.key, expiry: session.expiry, seen: session.seen}); err != nil {
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
	for _, session := range s.sessions {
		for number, d := range session.pending {
			m := *d.message
			m.Retain = false // its retained copy is written above, if it still is the newest
			if err := visit(&entry{kind: entryMessage, number: number, message: &m, recipients: []recipient{d.recipient}}); err != nil {
				return err
			}
		}
	}
	// The highest number lives on, even if nothing carries it.
	return visit(&entry{kind: entryEnd, session: s.newest})
}
