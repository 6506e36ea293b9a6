package mqttfront

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// sessionKey names a session. The principal is part of it, so that nobody takes over another's session by its client id.
type sessionKey struct {
	kind, principal, client string
}

// callerKey names a principal.
type callerKey struct {
	kind fieldgate.PrincipalKind
	id   string
}

// session is a client's state beyond its connection.
type session struct {
	key    sessionKey
	caller callerKey

	mu            sync.Mutex
	state         mqtt.Session
	conn          *connection // nil while the client is away
	expiry        uint32      // seconds to live without a connection
	away          time.Time   // of a session that was read back: since when its client was away; zero: it was connected
	number        uint64      // in the journal; 0: not kept there
	subscriptions map[string]subscriptionOptions
	retained      []backlog
	admitted      *pipeline.Program // that let the subscriptions in, but for those that are mute
	mute          map[string]bool   // by filter
	loose         map[string]bool   // by filter: a pass-through API let it in
	dropped       dropped
	will          *will
	willTimer     *time.Timer
	expiryTimer   *time.Timer
	ended         bool
}

const neverExpires = 0xFFFFFFFF // MQTT 5 §3.1.2.11.2

func (f *Front) newSession(key sessionKey, caller callerKey) *session {
	s := &session{key: key, caller: caller, subscriptions: make(map[string]subscriptionOptions)}
	s.state.MaxQueued, s.state.MaxQueuedBytes = f.config.MaxQueued, f.config.MaxQueuedBytes
	s.state.Done = func(d *mqtt.Delivery, fate mqtt.Fate) {
		switch fate {
		case mqtt.Expired:
			f.Counters.DroppedExpired.Add(1)
		case mqtt.TooLarge:
			f.Counters.DroppedTooLarge.Add(1)
			f.recordDropped(s, d.Message.Topic)
		case mqtt.Overflow:
			f.Counters.DroppedOverflow.Add(1)
			f.recordDropped(s, d.Message.Topic)
		}
		if d.Token != 0 && s.number != 0 {
			f.journal.append(nil, entry{kind: entryDone, session: s.number, number: d.Token})
		}
	}
	return s
}

// restore makes the sessions and retained messages that the journal holds.
func (f *Front) restore() {
	for number, kept := range f.journal.stored.sessions {
		caller := callerKey{fieldgate.PrincipalKind(kept.key.kind), kept.key.principal}
		s := f.newSession(kept.key, caller)
		s.number, s.expiry, s.away = number, kept.expiry, kept.away
		for filter, options := range kept.subscriptions {
			s.subscriptions[filter] = options
			// Until its client is back nobody can ask which API lets it in: no contract knows "#", and hardly one strangers.
			if strings.HasSuffix(filter, "#") || caller.kind != fieldgate.PrincipalDevice && caller.kind != fieldgate.PrincipalApp {
				mark(&s.loose, filter)
			}
			f.tree.Subscribe([]byte(filter), options.subscription(s))
		}
		// What was kept is kept: what was in flight waits besides a queue that may be full.
		s.state.MaxQueued, s.state.MaxQueuedBytes = math.MaxInt, math.MaxInt
		for _, message := range slices.Sorted(maps.Keys(kept.pending)) {
			d := kept.pending[message]
			s.state.Enqueue(mqtt.Delivery{Message: encodeMessage(d.message), QoS: d.qos, Retain: d.retain, SubscriptionIDs: d.subscriptionIDs, Token: message})
		}
		s.state.MaxQueued, s.state.MaxQueuedBytes = f.config.MaxQueued, f.config.MaxQueuedBytes
		f.sessions[s.key] = s
		f.addCaller(s)
	}
	for _, m := range f.journal.stored.retained {
		f.pipeline.Broker.Publish(m, nil) // before Attach: only kept
	}
}

func (f *Front) addCaller(s *session) {
	set := f.callers[s.caller]
	if set == nil {
		set = make(map[*session]struct{})
		f.callers[s.caller] = set
	}
	set[s] = struct{}{}
}

// startExpiry starts the clocks of the sessions that were read back.
func (f *Front) startExpiry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sessions {
		s.mu.Lock()
		if s.conn == nil {
			f.expireLater(s)
		}
		s.mu.Unlock()
	}
}

// expireLater ends an absent client's session after its expiry. s is locked.
func (f *Front) expireLater(s *session) {
	if s.expiry == neverExpires || s.ended {
		return
	}
	left := time.Duration(s.expiry) * time.Second
	if !s.away.IsZero() {
		left -= max(time.Since(s.away), 0)
		s.away = time.Time{}
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		f.mu.Lock()
		s.mu.Lock()
		due := s.conn == nil && !s.ended && !f.stopping && s.expiryTimer == timer
		var last *will
		if due {
			last = f.endSession(s)
		}
		s.mu.Unlock()
		f.mu.Unlock()
		f.publishWill(last)
	})
	s.expiryTimer = timer
}

// endSession forgets a session and gives its will, which is now due [MQTT-3.1.2-8]. f and s are locked.
func (f *Front) endSession(s *session) *will {
	s.ended = true
	s.stopTimersLocked()
	if f.sessions[s.key] == s {
		delete(f.sessions, s.key)
	}
	if set := f.callers[s.caller]; set != nil {
		delete(set, s)
		if len(set) == 0 {
			delete(f.callers, s.caller)
		}
	}
	for filter := range s.subscriptions {
		f.tree.Unsubscribe([]byte(filter), s)
	}
	if s.number != 0 {
		f.journal.append(nil, entry{kind: entryEnd, session: s.number})
		s.number = 0
	}
	last := s.will
	s.will = nil
	return last
}

func (s *session) stopTimers() {
	s.mu.Lock()
	s.stopTimersLocked()
	s.mu.Unlock()
}

func (s *session) stopTimersLocked() {
	for _, timer := range []*time.Timer{s.expiryTimer, s.willTimer} {
		if timer != nil {
			timer.Stop()
		}
	}
	s.expiryTimer, s.willTimer = nil, nil // one that fires at this moment sees that it is not meant any more
}

func (o subscriptionOptions) subscription(s *session) *mqtt.Subscription[*session] {
	return &mqtt.Subscription[*session]{Subscriber: s, QoS: o.QoS, NoLocal: o.NoLocal, RetainAsPublished: o.RetainAsPublished, ID: o.ID}
}

// keep makes the session one that the journal knows, or renews what it knows, and waits for the disk. Only the
// connection that owns the session calls it.
func (f *Front) keep(s *session) error {
	s.mu.Lock()
	number := s.number
	if number == 0 {
		number = f.number.Add(1)
	}
	entries := []entry{{kind: entrySession, session: number, key: s.key, expiry: s.expiry}}
	if s.number == 0 {
		for filter, options := range s.subscriptions {
			entries = append(entries, entry{kind: entrySubscribe, session: number, filter: filter, options: options})
		}
	}
	s.mu.Unlock()
	if err := f.journal.wait(entries...); err != nil {
		return err
	}
	s.mu.Lock()
	if s.ended {
		f.journal.append(nil, entry{kind: entryEnd, session: number})
	} else {
		s.number = number
	}
	s.mu.Unlock()
	return nil
}

// sameClient says whether the message was published by the session's own client (No Local).
func (s *session) sameClient(m *broker.Message) bool {
	return m.Client == s.key.client && m.Publisher.ID == s.key.principal && string(m.Publisher.Kind) == s.key.kind
}
