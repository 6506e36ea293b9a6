package mqttfront

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/protocol/mqtt"
)

// What operators see and decide of sessions. All other code of this package is on the path of messages; this looks at sessions a few at a
// time, so that nobody waits long for a lock.

// inspectStep is how many sessions are looked at before the others may go on.
const inspectStep = 256

// eachSession calls visit, without any lock, with sessions that were there when it began and still are.
func (f *Front) eachSession(visit func(*session)) {
	var step []*session
	f.mu.Lock()
	// A map may change during a range over it, as long as it does so between two steps.
	for s := range f.sessions.all() {
		if step = append(step, s); len(step) == inspectStep {
			f.mu.Unlock()
			for _, s := range step {
				visit(s)
			}
			step = step[:0]
			f.mu.Lock()
		}
	}
	f.mu.Unlock()
	for _, s := range step {
		visit(s)
	}
}

func (f *Front) findSession(key *fieldgate.MQTTSessionKey) *session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sessions.find(sessionKey{callerKey{key.Kind, key.Principal}, key.Client})
}

// Sessions calls visit with each session that wanted takes by its key, and that the terms select.
func (f *Front) Sessions(terms []fieldgate.FilterTerm, wanted func(*fieldgate.MQTTSessionKey) bool, visit func(*fieldgate.MQTTSession)) {
	f.eachSession(func(s *session) {
		key := fieldgate.MQTTSessionKey{Kind: s.key.caller.kind, Principal: s.key.caller.id, Client: s.key.client}
		if !wanted(&key) {
			return
		}
		s.mu.Lock()
		view := s.view(key)
		selected := !s.ended && !s.remote && s.selected(&view, terms)
		s.mu.Unlock()
		if selected {
			visit(&view)
		}
	})
}

// Session is all that is known of one session; nil if it is not there.
func (f *Front) Session(key *fieldgate.MQTTSessionKey) *fieldgate.MQTTSession {
	s := f.findSession(key)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.remote {
		return nil
	}
	view := s.view(*key)
	s.detail(&view)
	return &view
}

// Disconnect closes a session's connection that it has had since then, as an administrator's action, and says whether it had it.
func (f *Front) Disconnect(asked *fieldgate.MQTTDisconnect) bool {
	s := f.findSession(&asked.MQTTSessionKey)
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil || s.since != asked.Since.UnixNano() {
		return false
	}
	s.conn.end(mqtt.AdministrativeAction)
	return true
}

// End closes a session's connection and forgets the session with its subscriptions and what waits in it. Its will is due (MQTT 5
// section 3.1.2.5). It says whether there was one.
func (f *Front) End(key *fieldgate.MQTTSessionKey) bool {
	f.mu.Lock()
	s := f.sessions.find(sessionKey{callerKey{key.Kind, key.Principal}, key.Client})
	if s == nil {
		f.mu.Unlock()
		return false
	}
	s.mu.Lock()
	if s.conn != nil {
		s.conn.end(mqtt.AdministrativeAction)
	}
	due := f.endSession(s)
	s.mu.Unlock()
	f.mu.Unlock()
	f.publishWill(due)
	return true
}

// view is what lists say of a session. It is locked.
func (s *session) view(key fieldgate.MQTTSessionKey) fieldgate.MQTTSession {
	v := fieldgate.MQTTSession{MQTTSessionKey: key, Expiry: int64(s.expiry), NeverExpires: s.expiry == neverExpires, Kept: s.number != 0,
		Subscriptions: s.subscriptions.len(), InFlight: s.state.InFlight()}
	if s.since != 0 {
		v.Since = time.Unix(0, s.since)
	}
	v.Queued, v.QueuedBytes = s.queued()
	if c := s.conn; c != nil {
		v.Connected, v.Version, v.Source = true, versionText(c.mqtt.Version()), c.source.String()
		v.KeepAlive = int(c.mqtt.KeepAlive() * 2 / 3 / time.Second) // it gives one and a half times the period
	}
	return v
}

func versionText(v mqtt.Version) string {
	if v == mqtt.V5 {
		return "5"
	}
	return "3.1.1"
}

// detail adds what is said of one session only. It is locked.
func (s *session) detail(v *fieldgate.MQTTSession) {
	bytes := 0
	for _, p := range slices.SortedFunc(s.subscriptions.all(), func(a, b *subscription) int { return strings.Compare(a.Filter, b.Filter) }) {
		if bytes += len(p.Filter); bytes > fieldgate.MaxMQTTPageBytes/4 { // JSON may write a character with six
			v.FiltersNotShown++
			continue
		}
		v.Filters = append(v.Filters, fieldgate.MQTTSubscription{Filter: p.Filter, QoS: p.QoS, NoLocal: p.NoLocal, RetainAsPublished: p.RetainAsPublished, ID: p.ID, Mute: p.mute})
	}
	s.state.Sent(func(d *mqtt.Delivery, id uint16, released bool) bool {
		v.Messages = append(v.Messages, fieldgate.MQTTInFlight{ID: id, Topic: string(d.Message.Topic), QoS: d.QoS, Bytes: len(d.Message.Payload), Released: released})
		bytes += len(d.Message.Topic)
		return len(v.Messages) < fieldgate.MaxMQTTListed && bytes <= fieldgate.MaxMQTTPageBytes/4
	})
	v.Receiving, v.MaxQueued, v.MaxQueuedBytes = s.state.Receiving(), s.listener.Terms.MaxQueued, s.listener.Terms.MaxQueuedBytes
	if w := s.will; w != nil {
		v.Will = &fieldgate.MQTTWill{Topic: string(w.message.Topic), QoS: w.message.QoS, Retain: w.message.Retain, Delay: w.delay, Bytes: len(w.message.Payload)}
	}
}

// filters are those of the session's subscriptions. It is locked.
func (s *session) filters() (filters []string) {
	for p := range s.subscriptions.all() {
		filters = append(filters, p.Filter)
	}
	return filters
}

// selected says whether all terms select the session. It is locked.
func (s *session) selected(v *fieldgate.MQTTSession, terms []fieldgate.FilterTerm) bool {
	for i := range terms {
		t := &terms[i]
		selected := true
		switch t.Key {
		case "":
			selected = t.Finds(v.Client, v.Principal)
		case "client":
			selected = t.Matches(v.Client)
		case "principal":
			selected = t.Matches(v.Principal)
		case "kind":
			selected = t.Matches(string(v.Kind))
		case "state":
			selected = t.Matches(stateText(v.Connected))
		case "version":
			selected = t.Matches(v.Version)
		case "source":
			selected = t.Matches(v.Source)
		case "keepalive":
			selected = t.Matches(fmt.Sprint(v.KeepAlive))
		case "queue":
			word := "empty"
			if v.Queued+v.InFlight > 0 {
				word = "waiting"
			}
			selected = t.Matches(word)
		case "subscription":
			selected = t.Matches(s.filters()...)
		case "since":
			selected = !v.Since.Before(t.Values[0].Time)
		}
		if !selected {
			return false
		}
	}
	return true
}

func stateText(connected bool) string {
	if connected {
		return "connected"
	}
	return "away"
}
