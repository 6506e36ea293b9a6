package mqttfront

import (
	"math"
	"strings"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttcluster"
	"fieldgate/gateway/mqttstore"
	"fieldgate/protocol/mqtt"
)

// callerKey names a principal.
type callerKey struct {
	kind fieldgate.PrincipalKind
	id   string
}

// session is a client's state beyond its connection.
type session struct {
	key sessionKey

	nextSame, nextKin, previousKin *session // see sessions; guarded by Front.mu

	mu            sync.Mutex
	state         mqtt.Session
	conn          *connection // nil while the client is away
	since         int64       // when the client connected, or went away, in nanoseconds since 1970; 0: nobody knows
	expiry        uint32      // seconds to live without a connection
	remote        bool        // another node has it
	fetching      bool        // a reader has the session before it
	ended         bool
	marked        bool     // there may be mute or loose subscriptions
	told          interest // by which its subscriptions count for other nodes
	admitted      uint32   // serial, cut to that, of the program that let the subscriptions in, but for those that are mute
	number        uint64   // in the store; 0: not kept there
	waiting       *waiting // there; nil as long as it is not kept
	subscriptions subscriptions
	listener      *Listener // by which the client came last; that of the WebSockets before it has
	will          *will
	seldom        *seldom // nil: nothing of that yet
}

// seldom is what most sessions do without.
type seldom struct {
	retained    []*backlog
	views       views    // what it sees less, by filter; nil: it sees all of what it hears
	dropped     *dropped // nil: nothing was yet
	willTimer   *time.Timer
	expiryTimer *time.Timer
}

var nothing seldom

// had gives what there is of that, to look at; more also to change it. It is locked.
func (s *session) had() *seldom {
	if s.seldom == nil {
		return &nothing
	}
	return s.seldom
}

func (s *session) more() *seldom {
	if s.seldom == nil {
		s.seldom = new(seldom)
	}
	return s.seldom
}

const neverExpires = 0xFFFFFFFF // MQTT 5 §3.1.2.11.2

func (f *Front) newSession(key sessionKey) *session {
	s := &session{key: key, listener: &f.webSockets}
	s.state.Owner = s
	return s
}

// QueueLimits implements mqtt.Owner. Of a session that is kept the messages in the store are bounded, and what is in memory by readAhead.
func (s *session) QueueLimits() (messages, bytes int) {
	if s.waiting != nil {
		return math.MaxInt, math.MaxInt
	}
	return s.listener.Terms.MaxQueued, s.listener.Terms.MaxQueuedBytes
}

// Done implements mqtt.Owner.
func (s *session) Done(d mqtt.Delivery, fate mqtt.Fate) {
	f := s.listener.front
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
	f.done(s, &d, fate)
}

// restore makes the sessions that the store holds. Their messages stay there. f is locked, unless nobody knows it yet.
func (f *Front) restore(sessions []mqttstore.Kept) {
	newest := f.store.Newest()
	for _, kept := range sessions {
		caller := callerKey{fieldgate.PrincipalKind(kept.Kind), kept.Principal}
		s := f.newSession(sessionKey{caller, kept.Client})
		s.number, s.expiry = kept.Number, kept.Expiry
		if !kept.Away.IsZero() {
			s.since = kept.Away.UnixNano()
		}
		s.waiting = &waiting{newest: newest, away: kept.Away, holder: holder{mqttcluster.Member{Node: kept.Node, Incarnation: kept.Epoch}, kept.Claim}}
		s.state.Stored = true
		if s.remote = f.shares(); !s.remote {
			s.waiting.messages = len(kept.Delivered)
			s.state.Restore(kept.Received, kept.Delivered)
		}
		for _, subscription := range kept.Subscriptions {
			f.restoreSubscription(s, subscription)
		}
		if kept.Will != nil {
			s.will = f.restoreWill(s, kept.Will)
		}
		f.tellInterest(s)
		f.sessions.add(s)
		f.kept[s.number] = s
	}
}

// restoreSubscription adds a subscription as the store has it. s is locked, unless nobody knows it yet.
func (f *Front) restoreSubscription(s *session, subscription mqttstore.Subscription) {
	// Until its client is back nobody can ask which API lets it in: no contract knows "#", and hardly one strangers.
	kind := s.key.caller.kind
	loose := strings.HasSuffix(subscription.Filter, "#") || kind != fieldgate.PrincipalDevice && kind != fieldgate.PrincipalApp
	f.addSubscription(s, subscription.Filter, subscription.Options, loose)
}

// startExpiry starts the clocks of the sessions that were read back, and of their wills.
func (f *Front) startExpiry() {
	var due []*will
	f.mu.Lock()
	for s := range f.sessions.all() {
		s.mu.Lock()
		if s.conn == nil {
			if w := f.delayWill(s, s.awayFor()); w != nil {
				due = append(due, w)
			}
			f.expireLater(s)
		}
		s.mu.Unlock()
	}
	f.mu.Unlock()
	for _, w := range due {
		f.publishWill(w)
	}
}

// awayFor is how long the client of a session that was read back has been away. It is locked.
func (s *session) awayFor() time.Duration {
	if s.waiting == nil || s.waiting.away.IsZero() {
		return 0
	}
	return max(time.Since(s.waiting.away), 0)
}

// expireLater ends an absent client's session after its expiry. s is locked.
func (f *Front) expireLater(s *session) {
	if s.expiry == neverExpires || s.ended {
		return
	}
	left := time.Duration(s.expiry)*time.Second - s.awayFor()
	if s.waiting != nil {
		s.waiting.away = time.Time{}
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		f.mu.Lock()
		s.mu.Lock()
		due := s.conn == nil && !s.ended && !f.stopping && s.had().expiryTimer == timer
		var last *will
		if due {
			last = f.endSession(s)
		}
		s.mu.Unlock()
		f.mu.Unlock()
		f.publishWill(last)
	})
	s.more().expiryTimer = timer
}

// endSession ends a session and gives its will, which is now due [MQTT-3.1.2-8]. f and s are locked.
func (f *Front) endSession(s *session) *will {
	if s.number != 0 {
		f.store.EndSession(s.number)
	}
	return f.forgetSession(s)
}

// forgetSession is endSession without the store.
func (f *Front) forgetSession(s *session) *will {
	s.ended = true
	f.tellInterest(s)
	s.stopTimersLocked()
	f.sessions.remove(s)
	for p := range s.subscriptions.all() {
		f.drop(p.Filter, s)
	}
	if s.number != 0 {
		delete(f.kept, s.number)
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
	if s.seldom == nil {
		return
	}
	for _, timer := range []*time.Timer{s.seldom.expiryTimer, s.seldom.willTimer} {
		if timer != nil {
			timer.Stop()
		}
	}
	s.seldom.expiryTimer, s.seldom.willTimer = nil, nil // one that fires at this moment sees that it is not meant any more
}

// subscriptionOptions are what a session asked for with a filter.
type subscriptionOptions = mqttstore.Options

func (s *subscription) options() subscriptionOptions {
	return subscriptionOptions{QoS: s.QoS, NoLocal: s.NoLocal, RetainAsPublished: s.RetainAsPublished, ID: s.ID}
}

// addSubscription adds a subscription, or replaces the one to the same filter. s is locked, unless nobody knows it yet.
func (f *Front) addSubscription(s *session, filter string, o subscriptionOptions, loose bool) {
	p := &mqtt.Subscription[*session]{Subscriber: s, Filter: filter, QoS: o.QoS, NoLocal: o.NoLocal, RetainAsPublished: o.RetainAsPublished, ID: o.ID}
	if f.cluster != nil && s.subscriptions.find(filter) == nil {
		f.cluster.Change(filter, mqttcluster.Nothing, s.told.of(filter))
	}
	s.subscriptions.put(subscription{Subscription: p, loose: loose})
	s.marked = s.marked || loose
	f.tree.Subscribe(p)
	f.pipeline.AttendFilter(filter)
}

// keep has the store keep the session, or renews what it keeps, with the will of its new connection, and waits for the disk. Only
// the connection that owns the session calls it.
func (f *Front) keep(s *session, last *will) error {
	s.mu.Lock()
	number := s.number
	var subscriptions []mqttstore.Subscription
	if number == 0 {
		number = f.store.NewNumber()
		subscriptions = s.subscribed()
	}
	record := s.record(last)
	s.mu.Unlock()
	done := make(chan error, 1)
	f.store.SaveSession(number, record, subscriptions, func(err error) { done <- err })
	if err := <-done; err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		f.store.EndSession(number)
		return nil
	}
	if s.waiting == nil {
		s.waiting = new(waiting)
	}
	s.number, s.state.Stored = number, true
	f.kept[number] = s
	return nil
}

// subscribed is the session's subscriptions, in the store's form. It is locked.
func (s *session) subscribed() (subscriptions []mqttstore.Subscription) {
	for p := range s.subscriptions.all() {
		subscriptions = append(subscriptions, mqttstore.Subscription{Filter: p.Filter, Options: p.options()})
	}
	return subscriptions
}

// record is what the store keeps of a session beside its subscriptions and messages. It is locked.
func (s *session) record(last *will) *mqttstore.Session {
	r := &mqttstore.Session{Kind: string(s.key.caller.kind), Principal: s.key.caller.id, Client: s.key.client, Expiry: s.expiry}
	if last != nil {
		r.Will = last.record()
	}
	return r
}

// saveAway has the store know that the session's client is away since now, and whether its will is still to be published. It is locked.
func (f *Front) saveAway(s *session) {
	if s.number == 0 {
		return
	}
	record := s.record(s.will)
	record.Away = time.Now()
	var done func(error)
	if f.shares() { // its client may be at another node in a moment, which then has to know: the log does not put off what is waited for
		done = func(error) {}
	}
	f.store.SaveSession(s.number, record, nil, done)
}

// sameClient says whether the message was published by the session's own client (No Local).
func (s *session) sameClient(m *broker.Message) bool {
	return m.Client == s.key.client && m.Publisher.ID == s.key.caller.id && m.Publisher.Kind == s.key.caller.principal().Kind
}
