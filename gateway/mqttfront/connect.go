package mqttfront

import (
	"errors"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// maxClientID bounds client identifiers, which sessions keep, in bytes.
const maxClientID = 256

// connect decides about a CONNECT. Nothing of the client's is remembered before it is identified.
func (c *connection) connect(p *mqtt.Connect, now time.Time) {
	f := c.front()
	if r := c.listener.Terms.Redirect; r != nil {
		f.Counters.Refused.Add(1)
		c.mqtt.Redirect(r.Reason, r.Server)
		return
	}
	if f.config.Backbone != nil && !f.config.Backbone.Ready() {
		c.refuseReason(mqtt.ServerUnavailable, "")
		return
	}
	if p.Properties.Has(mqtt.AuthenticationMethod) {
		c.authenticate(p, now)
		return
	}
	var problem *fieldgate.Problem
	if c.caller, problem = c.identify(p); problem != nil {
		c.recordRefusal(problem)
		c.refuse(problem)
		return
	}
	c.begin(p, nil, now)
}

// begin gives the caller of a CONNECT its session. proof is the end of an enhanced authentication, nil without one.
func (c *connection) begin(p *mqtt.Connect, proof []byte, now time.Time) {
	f := c.front()
	c.client = string(p.ClientID)
	if len(c.client) > maxClientID || strings.HasPrefix(c.client, "\x00") {
		c.refuseReason(mqtt.ClientIdentifierNotValid, "")
		return
	}
	acceptance := mqtt.Acceptance{ServerKeepAlive: c.listener.Terms.serverKeepAlive(p), AuthenticationData: proof}
	if c.caller.Ref != 0 && p.Properties.Number(mqtt.RequestResponseInformation) == 1 { // §3.1.2.11.6
		acceptance.ResponseInformation = []byte(fieldgate.ReplyPrefix + c.caller.ID + "/")
	}
	if c.client == "" {
		c.client = newClientID()
		acceptance.AssignedClientID = []byte(c.client)
	}
	var last *will
	if p.HasWill {
		last = c.newWill(p)
		if problem := c.checkWill(last); problem != nil {
			f.Counters.Denied.Add(problem.Code)
			c.refuse(problem)
			return
		}
	}

	expiry := c.sessionExpiry(p)
	if wanted := p.Properties.Number(mqtt.SessionExpiryInterval); wanted != expiry {
		acceptance.SessionExpiry = &expiry
	}
	s, present, claim, ok := c.ownSession(p.CleanStart, expiry, last)
	if !ok {
		return
	}
	if expiry > 0 && claim == 0 {
		if err := f.keep(s, last); err != nil {
			f.abandon(s, present)
			c.refuseReason(mqtt.ServerUnavailable, "The session could not be stored; try again later.")
			return
		}
	}
	acceptance.Session, acceptance.SessionPresent = &s.state, present
	if !c.attach(s, claim, last, acceptance, now) {
		c.refuseReason(mqtt.ServerBusy, "")
	}
}

// sessionExpiry is how many seconds the session will outlive its connection. A 3.1.1 client only says whether it does.
func (c *connection) sessionExpiry(p *mqtt.Connect) uint32 {
	longest := c.listener.Terms.MaxSessionExpiry
	if p.Version == mqtt.V311 {
		if p.CleanStart {
			return 0
		}
		return longest
	}
	return min(p.Properties.Number(mqtt.SessionExpiryInterval), longest)
}

// ownSession finds or makes the client's session, or refuses the CONNECT. claim is that by which this node has a session of a log.
func (c *connection) ownSession(cleanStart bool, expiry uint32, last *will) (s *session, present bool, claim uint64, ok bool) {
	f := c.front()
	caller := callerOf(c.caller)
	key := sessionKey{caller, c.client}
	if f.byLog(key, expiry) {
		outcome, err := f.claim(key, c, cleanStart, expiry, last)
		switch {
		case errors.Is(err, errFullOfSessions):
			c.refuseReason(mqtt.QuotaExceeded, fullOfSessions)
			return nil, false, 0, false
		case err != nil:
			c.refuseReason(mqtt.ServerUnavailable, "The session could not be stored; try again later.")
			return nil, false, 0, false
		}
		f.publishWill(outcome.due)
		if outcome.session != nil {
			return outcome.session, outcome.present, outcome.claim, true
		}
	}
	s, present, due := f.takeSession(c, cleanStart, expiry)
	f.publishWill(due)
	if s == nil {
		c.refuseReason(mqtt.QuotaExceeded, fullOfSessions)
	}
	return s, present, 0, s != nil
}

const fullOfSessions = "The gateway holds as many sessions as it may, of all or of this caller."

// isFull says whether no session may be added for the connection's caller. f is locked.
func (f *Front) isFull(c *connection) bool {
	// Callers that nobody has identified are not told apart by what they call themselves.
	full := c.caller.Ref != 0 && f.sessions.countOf(callerOf(c.caller)) >= f.config.MaxSessionsOfCaller
	return full || f.sessions.count >= f.config.MaxSessions || f.stopping
}

// takeSession finds or makes the client's session and ends a connection that has it now [MQTT-3.1.4-3]. due is the
// will that this makes due. The session has no connection until attach: meanwhile messages wait in it.
func (f *Front) takeSession(c *connection, cleanStart bool, expiry uint32) (s *session, present bool, due *will) {
	caller := callerOf(c.caller)
	key := sessionKey{caller, c.client}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s = f.sessions.find(key); s != nil {
		s.mu.Lock()
		s.stopTimersLocked()
		if old := s.conn; old != nil {
			old.end(mqtt.SessionTakenOver)
			s.conn, s.since = nil, time.Now().UnixNano()
			if s.will != nil && (s.will.delay == 0 || cleanStart) {
				due = s.will
			}
		} else if cleanStart {
			due = s.will // its session ends before its delay has passed
		}
		s.will = nil // a delayed one is not sent when the client is back in time [MQTT-3.1.3-9]
		if cleanStart {
			f.endSession(s)
		} else {
			s.expiry = expiry
		}
		s.mu.Unlock()
		if !cleanStart {
			return s, true, due
		}
	}
	if f.isFull(c) {
		return nil, false, due
	}
	s = f.newSession(key)
	s.expiry = expiry
	f.sessions.add(s)
	return s, false, due
}

// abandon undoes takeSession: a new session ends, an older one goes on without connection.
func (f *Front) abandon(s *session, present bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended || s.conn != nil:
	case present:
		f.tellInterest(s)
		f.expireLater(s)
	default:
		f.endSession(s)
	}
}

// attach joins connection and session, which this node has by a claim where nodes share a log, and accepts the CONNECT.
func (c *connection) attach(s *session, claim uint64, last *will, acceptance mqtt.Acceptance, now time.Time) bool {
	s.mu.Lock()
	if s.ended || claim != 0 && claim != s.waiting.holder.claim { // somebody was quicker, or here too
		s.mu.Unlock()
		return false
	}
	if other := s.conn; other != nil { // another connection of the same client was as quick as this one
		other.end(mqtt.SessionTakenOver)
	}
	accepted := c.front().cluster.Now()
	s.conn, s.since, s.will = c, accepted.UnixNano(), last
	c.front().tellInterest(s)
	if claim == 0 { // otherwise the log has told the other nodes
		c.front().cluster.TakeOver(string(s.key.caller.kind), s.key.caller.id, s.key.client, accepted)
	}
	s.listener = c.listener
	c.session, c.mu = s, &s.mu
	s.admitted = 0    // what a session that was away subscribed to is asked about again
	c.handling = true // this goroutine writes when it is done
	c.mqtt.Accept(acceptance, now)
	c.front().fetch(s)
	s.mu.Unlock()

	// What changed between Identify and now found no connection to close.
	if problem := c.front().pipeline.Valid(c.caller); problem != nil || c.front().isStopping() {
		s.mu.Lock()
		reason := mqtt.NotAuthorized
		if problem == nil {
			reason = mqtt.ServerShuttingDown
		}
		c.end(reason)
		s.mu.Unlock()
	}
	return true
}

// refuse answers the CONNECT with a problem.
func (c *connection) refuse(problem *fieldgate.Problem) {
	c.refuseReason(mqttexchange.ConnectReason(problem.Code), problem.Detail)
}

func (c *connection) refuseReason(reason mqtt.Reason, text string) {
	c.front().Counters.Refused.Add(1)
	c.mqtt.Refuse(reason, text)
}

// recordRefusal leaves a Record of what was refused before an exchange could begin: the CONNECT, or later a packet that was none.
func (c *connection) recordRefusal(problem *fieldgate.Problem) {
	x := &pipeline.Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodConnect, Source: c.source, Caller: c.caller, ClientID: c.client}
	if c.session != nil {
		x.Method = fieldgate.MethodOther
	}
	c.front().pipeline.Attribute(x)
	c.front().pipeline.Malformed(x, problem)
}

// disconnected handles the client's DISCONNECT: without 0x04 its will is forgotten [MQTT-3.14.4-3].
func (c *connection) disconnected(p *mqtt.Disconnect) {
	s := c.session
	if s == nil {
		return // in the middle of its authentication
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return
	}
	if p.Reason != mqtt.DisconnectWithWill {
		s.will = nil
	}
	if p.Properties.Has(mqtt.SessionExpiryInterval) { // §3.14.2.2.2
		s.expiry = min(p.Properties.Number(mqtt.SessionExpiryInterval), c.listener.Terms.MaxSessionExpiry)
	}
}

// departed handles the end of a connection: its will, and its session's remaining life.
func (f *Front) departed(c *connection) {
	s := c.session
	if s == nil {
		return
	}
	f.mu.Lock()
	s.mu.Lock()
	var due *will
	if s.conn == c {
		s.conn, s.since = nil, time.Now().UnixNano()
		switch {
		case s.ended:
		case s.expiry == 0:
			due = f.endSession(s) // its will is due with its end, whatever its delay [MQTT-3.1.2-8]
		default:
			due = f.delayWill(s, 0)
			f.tellInterest(s)
			f.saveAway(s)
			f.expireLater(s)
		}
	}
	s.mu.Unlock()
	f.mu.Unlock()
	f.publishWill(due)
}
