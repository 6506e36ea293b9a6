package mqttfront

import (
	"context"
	"errors"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttcluster"
	"fieldgate/gateway/mqttstore"
	"fieldgate/protocol/mqtt"
)

// Where several nodes share a log, each has all sessions that are kept. One node at a time has a session's client, or watches over its
// expiry and its will: the one that wrote the newest claim to the log. The others know the session's subscriptions, so that whoever
// publishes a message knows for whom the log is to keep it, and have its queue in their stores. What a session's node does for it
// when a change is applied is in this file; all else of a session is as on a single node.

const (
	claimPatience = 5 * time.Second // of a CONNECT for the log
	joinPatience  = 3 * time.Second // of the listeners for the log, when the node starts
	orphanPause   = time.Second     // until sessions whose node has gone are looked for again
)

// shares says whether other nodes have the same sessions.
func (f *Front) shares() bool { return f.config.Log != nil }

// holder is who has a session of a log.
type holder struct {
	member mqttcluster.Member
	claim  uint64
}

// claiming is a CONNECT that waits for its session. Front.mu guards it.
type claiming struct {
	session *session // as it came out; nil: the log has none
	present bool
	due     *will
	claim   uint64
	left    bool // nobody waits any more
}

var errFullOfSessions = errors.New("the gateway holds as many sessions as it may")

// byLog says whether a CONNECT is the log's concern: its session is to outlive the connection, or there is one that does.
func (f *Front) byLog(key sessionKey, expiry uint32) bool {
	if !f.shares() {
		return false
	}
	if expiry > 0 {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sessions.find(key)
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.number != 0
}

// claim makes the client's session this node's, by way of the log. The outcome has no session where the log has none, for it ends with its connection.
func (f *Front) claim(key sessionKey, c *connection, cleanStart bool, expiry uint32, last *will) (outcome *claiming, err error) {
	if err := f.store.Ready(); err != nil {
		return nil, err
	}
	record := &mqttstore.Session{Kind: string(key.caller.kind), Principal: key.caller.id, Client: key.client, Expiry: expiry}
	if last != nil {
		record.Will = last.record()
	}
	var subscriptions []mqttstore.Subscription
	f.mu.Lock()
	if s := f.sessions.find(key); s == nil {
		if f.isFull(c) {
			f.mu.Unlock()
			return nil, errFullOfSessions
		}
	} else if !cleanStart {
		s.mu.Lock()
		if s.number == 0 { // so far its end was its connection's
			subscriptions = s.subscribed()
		}
		s.mu.Unlock()
	}
	f.mu.Unlock()
	outcome = new(claiming)
	done := make(chan error, 1)
	f.store.Claim(record, cleanStart, subscriptions, outcome, func(err error) { done <- err })
	select {
	case err = <-done:
		return outcome, err
	case <-time.After(claimPatience):
		err = mqttstore.ErrLog
	case <-f.ctx.Done():
		err = f.ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	outcome.left = true
	select {
	case err := <-done: // it came at the last moment
		outcome.left = false
		return outcome, err
	default:
		return nil, err
	}
}

// Applied implements mqttstore.Follower.
func (f *Front) Applied(changes []*mqttstore.Change) {
	b := f.newBatch()
	for _, c := range changes {
		switch c.Kind {
		case mqttstore.Claimed:
			f.claimed(c)
		case mqttstore.Adopted:
			f.adopted(c)
		case mqttstore.Published:
			f.published(c, b)
		case mqttstore.Ended:
			f.endedElsewhere(c)
		default:
			f.changed(c)
		}
	}
	b.end()
}

// claimed gives a session to the node that claimed it. The node that had it ends its connection [MQTT-3.1.4-3]; the will that this makes
// due is published by the one that has it now.
func (f *Front) claimed(c *mqttstore.Change) {
	outcome, mine := c.Mine.(*claiming)
	if outcome == nil {
		outcome, mine = new(claiming), false
	}
	key := sessionKey{callerKey{fieldgate.PrincipalKind(c.Record.Kind), c.Record.Principal}, c.Record.Client}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sessions.find(key)
	if s != nil {
		s.mu.Lock()
		connected := s.conn != nil || s.remote && s.waiting.away.IsZero()
		f.part(s, mqtt.SessionTakenOver)
		if w := s.will; connected && w != nil && w.delay == 0 || c.CleanStart {
			outcome.due = w
		}
		s.will = nil // a delayed one is not sent when the client is back in time [MQTT-3.1.3-9]
		if c.CleanStart || c.Made && s.number != 0 {
			f.forgetSession(s)
		} else {
			outcome.present = true
		}
		s.mu.Unlock()
		if !outcome.present {
			s = nil
		}
	}
	if c.Session == 0 {
		return
	}
	if s == nil {
		s = f.newSession(key)
		f.sessions.add(s)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.number == 0 {
		s.waiting = new(waiting)
		s.number, s.state.Stored = c.Session, true
		s.remote = !mine
		f.kept[s.number] = s
	}
	f.subscribeKept(s, c.Subscriptions)
	s.expiry, s.waiting.away, s.since = c.Record.Expiry, time.Time{}, time.Now().UnixNano()
	f.hold(s, c, mine)
	outcome.session, outcome.claim = s, c.Number
	switch {
	case !mine:
		if c.Record.Will != nil {
			s.will = f.restoreWill(s, c.Record.Will)
		}
	case outcome.left:
		f.saveAway(s)
		f.expireLater(s)
	}
}

// hold notes which node has a session now. One that comes to this node, or goes from it, is read from the store when its client is there. s is locked.
func (f *Front) hold(s *session, c *mqttstore.Change, mine bool) {
	if s.remote || !mine {
		s.state = mqtt.Session{Owner: s, Stored: true}
		s.waiting.position, s.waiting.newest = 0, c.Number
		if s.seldom != nil {
			s.seldom.retained = nil
		}
	}
	if s.remote && mine {
		received, delivered, err := f.store.Handshakes(s.number)
		if err != nil {
			f.logger.Error("what an MQTT session has received and delivered cannot be read", "client", s.key.client, "error", err)
		}
		s.state.Restore(received, delivered)
	}
	s.remote = !mine
	s.waiting.holder = holder{mqttcluster.Member{Node: c.Node, Incarnation: c.Epoch}, c.Number}
	f.tellInterest(s)
	if !mine {
		signal(f.orphaned) // its node may have gone already
	}
}

// part ends a session's connection and clocks. It is locked.
func (f *Front) part(s *session, reason mqtt.Reason) {
	s.stopTimersLocked()
	if s.conn != nil {
		s.conn.end(reason)
		s.conn, s.since = nil, time.Now().UnixNano()
	}
}

// subscribeKept adds subscriptions as the log says them. s is locked.
func (f *Front) subscribeKept(s *session, subscriptions []mqttstore.Subscription) {
	for _, subscription := range subscriptions {
		f.restoreSubscription(s, subscription)
	}
}

// adopted has a node watch over a session whose node has gone.
func (f *Front) adopted(c *mqttstore.Change) {
	mine := c.Node == f.config.Log.Node && c.Epoch == f.config.Log.Epoch
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.kept[c.Session]
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.part(s, mqtt.ServerBusy) // the others thought that this node has gone: its client is to come again
	f.hold(s, c, mine)
	s.recorded(f, c.Record)
	if mine {
		if w := f.delayWill(s, s.awayFor()); w != nil {
			f.saveAway(s)
			f.running.Go(func() { f.publishWill(w) })
		}
		f.expireLater(s)
	}
}

// recorded takes over what the log keeps of a session. It is locked.
func (s *session) recorded(f *Front, r *mqttstore.Session) {
	s.expiry, s.waiting.away, s.will = r.Expiry, r.Away, nil
	if !r.Away.IsZero() {
		s.since = r.Away.UnixNano()
	}
	if r.Will != nil {
		s.will = f.restoreWill(s, r.Will)
	}
}

// changed applies to a session what another node, or this one before its last start, wrote of it.
func (f *Front) changed(c *mqttstore.Change) {
	f.mu.Lock()
	s := f.kept[c.Session]
	f.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Size > 0 {
		s.waiting.gone(c.Size)
	}
	if !s.remote {
		return
	}
	switch c.Kind {
	case mqttstore.Saved:
		s.recorded(f, c.Record)
	case mqttstore.Subscribed:
		f.subscribeKept(s, c.Subscriptions)
	case mqttstore.Unsubscribed:
		for _, filter := range c.Filters {
			s.subscriptions.remove(filter)
			f.tree.Unsubscribe(filter, s)
			f.pipeline.LeaveFilter(filter)
		}
	}
}

// endedElsewhere forgets a session that another node has ended; those of this node are forgotten before it says so.
func (f *Front) endedElsewhere(c *mqttstore.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.kept[c.Session]; s != nil {
		s.mu.Lock()
		f.part(s, mqtt.AdministrativeAction)
		f.forgetSession(s)
		s.mu.Unlock()
	}
}

// published hands a message to the sessions of this node that it is for. In the others' queues it is counted.
func (f *Front) published(c *mqttstore.Change, b *batch) {
	if len(c.To) == 0 {
		return
	}
	m := c.Message
	size := len(m.Topic) + len(m.Payload) + len(m.Properties)
	var message *mqtt.Message
	for i := range c.To {
		to := &c.To[i]
		f.mu.Lock()
		s := f.kept[to.Session]
		f.mu.Unlock()
		if s == nil {
			continue
		}
		s.mu.Lock()
		w := s.waiting
		behind := w.behind()
		w.messages++
		w.bytes += size
		w.newest = c.Number
		if !s.remote && s.conn != nil && !s.ended {
			if m.Retain {
				s.overtaken(m.Topic)
			}
			if behind || s.state.Waiting() >= readAhead {
				f.Counters.Delivered.Add(1)
				f.fetch(s)
			} else {
				if message == nil {
					message = encodeMessage(m)
				}
				w.position = c.Number
				f.deliverKept(s, &mqtt.Delivery{Message: message, QoS: to.QoS, Retain: to.Retain, SubscriptionIDs: to.SubscriptionIDs, Token: c.Number}, m, b)
			}
		}
		s.mu.Unlock()
	}
}

// deliverKept hands a message that is in the store to the session's client, as far as it may see it. s is locked.
func (f *Front) deliverKept(s *session, d *mqtt.Delivery, m *broker.Message, b *batch) {
	hears, seen := f.hears(s, d.Message.Topic, b.seen[:0])
	b.seen = seen
	shown := m
	if hears {
		shown = project(m, seen)
	}
	if !hears || shown == nil {
		f.done(s, d, mqtt.Refused)
		return
	}
	if shown != m {
		d.Message = encodeProjected(shown, d.Message.Size())
	}
	b.lend(s.conn)
	ok := s.conn.mqtt.Deliver(*d, b.now)
	s.conn.flushIn(b)
	f.delivered(s, d, ok)
}

// keepByLog is keepMessage where nodes share a log: each delivers the message to its sessions when the log says so.
func (f *Front) keepByLog(m *broker.Message, found *matching, received mqttstore.Received, acknowledged func(error)) bool {
	var recipients []mqttstore.Recipient
	size := len(m.Topic) + len(m.Payload) + len(m.Properties)
	for i := range found.receivers {
		r := &found.receivers[i]
		r.later = received.Session != 0 // the client sends it again if the log does not take it
		if r.QoS == 0 {
			continue
		}
		// What another node relays is in the log for those whom that one knows; but whose turn it is in a shared subscription is known here.
		relayed := m.Relayed && !r.shared
		s := r.session
		s.mu.Lock()
		if s.number != 0 && !s.ended {
			r.place, r.later = nowhere, false
			switch {
			case relayed:
			case s.hasRoom(size):
				recipients = append(recipients, mqttstore.Recipient{Session: s.number, QoS: r.QoS, Retain: r.Retain, SubscriptionIDs: r.SubscriptionIDs})
			default:
				f.Counters.DroppedOverflow.Add(1)
				f.recordDropped(s, []byte(m.Topic))
			}
		}
		s.mu.Unlock()
	}
	if recipients == nil && (!m.Retain || m.Relayed) && received.Session == 0 {
		return false
	}
	if m.Relayed && m.Retain { // the node where it was published has it retained
		other := *m
		other.Retain = false
		m = &other
	}
	if later := found.waiting(m); later != nil {
		acknowledged = f.whenStored(later, m, acknowledged)
	}
	f.store.Publish(m, recipients, received, acknowledged)
	return true
}

// member chooses who of a shared subscription hears a message: one whose client is here, or else, above QoS 0, one whose client is at
// another node, or else one whose client is away.
func (f *Front) member(m *broker.Message, group *mqtt.Group[*session]) *mqtt.Subscription[*session] {
	if !f.shares() {
		return group.Pick((*session).present)
	}
	s := group.Pick(func(s *session) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.conn != nil && (!m.Relayed || m.QoS == 0 || s.number == 0) // whom the log serves the other node would have chosen by itself
	})
	if s == nil || m.Relayed || m.QoS == 0 || s.Subscriber.present() {
		return s
	}
	return group.Pick(func(s *session) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.remote && s.waiting.away.IsZero()
	})
}

// Replaced implements mqttstore.Follower.
func (f *Front) Replaced(sessions []mqttstore.Kept) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.kept {
		s.mu.Lock()
		f.part(s, mqtt.ServerBusy)
		f.forgetSession(s)
		s.mu.Unlock()
	}
	f.restore(sessions)
	signal(f.orphaned)
}

var _ mqttstore.Follower = (*Front)(nil)

// awaitLog waits for the log, not for long: what does not need it is served without.
func (f *Front) awaitLog(ctx context.Context) {
	for end := time.Now().Add(joinPatience); ctx.Err() == nil && f.store.Ready() != nil && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
}

// adoptOrphans takes over sessions whose node has gone, as long as this node is the first of those that live: somebody has to watch over
// their expiry and their wills. It returns when the context ends.
func (f *Front) adoptOrphans(ctx context.Context) {
	again := time.NewTimer(orphanPause)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.orphaned:
		case <-again.C:
		}
		living := f.cluster.Members()
		if f.store.Ready() != nil || len(living) == 0 || living[0].Node != f.config.Log.Node {
			continue
		}
		if f.adopt(living) {
			again.Reset(orphanPause)
		}
	}
}

// MembersChanged says that nodes have come or gone.
func (f *Front) MembersChanged() { signal(f.orphaned) }

// LogState is how far the log was applied; nil: there is none.
func (f *Front) LogState() *fieldgate.MQTTLogState { return f.store.LogState() }

// adopt asks the log for the sessions whose node has gone, and says whether there are any.
func (f *Front) adopt(living []mqttcluster.Member) (any bool) {
	alive := make(map[mqttcluster.Member]bool, len(living))
	for _, member := range living {
		alive[member] = true
	}
	f.eachSession(func(s *session) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.remote && !s.ended && !alive[s.waiting.holder.member] {
			any = true
			f.store.Adopt(s.number, s.waiting.holder.claim)
		}
	})
	return any
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
