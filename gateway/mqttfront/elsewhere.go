package mqttfront

import (
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttcluster"
	"fieldgate/protocol/mqtt"
)

// interest is what other nodes have to send for a session's subscriptions: for its own, and for those that it shares, which count while it
// can be handed a message.
type interest struct{ own, shared mqttcluster.Interest }

func (i interest) of(filter string) mqttcluster.Interest {
	if group, _ := mqtt.SplitShare([]byte(filter)); group != nil {
		return i.shared
	}
	return i.own
}

// interest is as it should be told now. s is locked, as below.
func (s *session) interest() interest {
	switch {
	case s.ended, s.remote:
		return interest{}
	case s.number != 0 && s.waiting.holder.claim != 0: // the log brings it what is kept
		if s.conn == nil {
			return interest{}
		}
		return interest{mqttcluster.QoS0, mqttcluster.QoS0}
	case s.conn == nil:
		return interest{own: mqttcluster.Everything}
	}
	return interest{mqttcluster.Everything, mqttcluster.Everything}
}

// tellInterest has the other nodes know what they have to send for the session, if that has changed.
func (f *Front) tellInterest(s *session) {
	now := s.interest()
	if f.cluster == nil || now == s.told {
		return
	}
	for p := range s.subscriptions.all() {
		f.cluster.Change(p.Filter, s.told.of(p.Filter), now.of(p.Filter))
	}
	s.told = now
}

// Relay implements mqttcluster.Local.
func (f *Front) Relay(next func() *broker.Message) {
	b := f.newBatch()
	for m := next(); m != nil; m = next() {
		f.pipeline.Broker.PublishHere(b, m, nil)
	}
	b.end()
}

// TakenOver implements mqttcluster.Local: it ends the connection of a client that another node has accepted later. Should ours be the later
// one, that node has not heard of it, and hears of it again.
func (f *Front) TakenOver(t mqttcluster.TakeOver) {
	key := sessionKey{callerKey{fieldgate.PrincipalKind(t.Kind), t.Principal}, t.Client}
	f.mu.Lock()
	s := f.sessions.find(key)
	f.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	since := time.Unix(0, s.since)
	switch {
	case s.conn == nil:
	case f.cluster.Counts(&t, since):
		s.conn.end(mqtt.SessionTakenOver)
	default:
		f.cluster.TakeOver(t.Kind, t.Principal, t.Client, since)
	}
}

// Clients implements mqttcluster.Local.
func (f *Front) Clients(visit func(kind, principal, client string, at time.Time) bool) {
	on := true
	f.eachSession(func(s *session) {
		s.mu.Lock()
		connected, since := s.conn != nil, time.Unix(0, s.since)
		s.mu.Unlock()
		on = on && (!connected || visit(string(s.key.caller.kind), s.key.caller.id, s.key.client, since))
	})
}

var _ mqttcluster.Local = (*Front)(nil)
