package mqttfront

import (
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// maxClientID bounds client identifiers, which sessions keep, in bytes.
const maxClientID = 256

// connect decides about a CONNECT. Nothing of the client's is remembered before it is identified.
func (c *connection) connect(p *mqtt.Connect, now time.Time) {
	f := c.front
	var problem *fieldgate.Problem
	if c.caller, problem = f.pipeline.Identify(p.Username, p.Password); problem != nil {
		c.recordRefusal(problem)
		c.refuse(problem)
		return
	}
	c.client = string(p.ClientID)
	if len(c.client) > maxClientID || strings.HasPrefix(c.client, formerClient) {
		c.refuseReason(mqtt.ClientIdentifierNotValid, "")
		return
	}
	acceptance := mqtt.Acceptance{}
	if c.client == "" {
		c.client = newClientID()
		acceptance.AssignedClientID = []byte(c.client)
	}
	var last *will
	if p.HasWill {
		last = c.newWill(p)
		if problem := c.checkWill(last); problem != nil {
			c.refuse(problem)
			return
		}
	}

	expiry := f.sessionExpiry(p)
	if wanted := p.Properties.Number(mqtt.SessionExpiryInterval); wanted != expiry {
		acceptance.SessionExpiry = &expiry
	}
	s, present, due := f.takeSession(c, p.CleanStart, expiry)
	f.publishWill(due)
	if s == nil {
		c.refuseReason(mqtt.QuotaExceeded, "The gateway holds as many sessions as it may, of all or of this caller.")
		return
	}
	if expiry > 0 {
		if err := f.keep(s); err != nil {
			f.abandon(s, present)
			c.refuseReason(mqtt.ServerUnavailable, "The session could not be stored; try again later.")
			return
		}
	}
	acceptance.Session, acceptance.SessionPresent = &s.state, present
	if !c.attach(s, last, acceptance, now) {
		c.refuseReason(mqtt.ServerBusy, "")
	}
}

// sessionExpiry is how many seconds the session will outlive its connection. A 3.1.1 client only says whether it does.
func (f *Front) sessionExpiry(p *mqtt.Connect) uint32 {
	if p.Version == mqtt.V311 {
		if p.CleanStart {
			return 0
		}
		return f.config.MaxSessionExpiry
	}
	return min(p.Properties.Number(mqtt.SessionExpiryInterval), f.config.MaxSessionExpiry)
}

// takeSession finds or makes the client's session and ends a connection that has it now [MQTT-3.1.4-3]. due is the
// will that this makes due. The session has no connection until attach: meanwhile messages wait in it.
func (f *Front) takeSession(c *connection, cleanStart bool, expiry uint32) (s *session, present bool, due *will) {
	key := sessionKey{string(c.caller.Kind), c.caller.ID, c.client}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s = f.sessions[key]; s != nil {
		s.mu.Lock()
		s.stopTimersLocked()
		if old := s.conn; old != nil {
			old.end(mqtt.SessionTakenOver)
			s.conn = nil
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
	caller := callerKey{c.caller.Kind, c.caller.ID}
	// Callers that nobody has identified are not told apart by what they call themselves.
	full := c.caller.Ref != 0 && len(f.callers[caller]) >= f.config.MaxSessionsOfCaller
	if full || len(f.sessions) >= f.config.MaxSessions || f.stopping {
		return nil, false, due
	}
	s = f.newSession(key, caller)
	s.expiry = expiry
	f.sessions[key] = s
	f.addCaller(s)
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
		f.expireLater(s)
	default:
		f.endSession(s)
	}
}

// attach joins connection and session and accepts the CONNECT.
func (c *connection) attach(s *session, last *will, acceptance mqtt.Acceptance, now time.Time) bool {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return false
	}
	if other := s.conn; other != nil { // another connection of the same client was as quick as this one
		other.end(mqtt.SessionTakenOver)
	}
	s.conn, s.will = c, last
	c.session, c.mu = s, &s.mu
	s.admitted = nil  // what a session that was away subscribed to is asked about again
	c.handling = true // this goroutine writes when it is done
	c.mqtt.Accept(acceptance, now)
	s.mu.Unlock()

	// What changed between Identify and now found no connection to close.
	if problem := c.front.pipeline.Valid(c.caller); problem != nil || c.front.isStopping() {
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
	reason := mqtt.NotAuthorized
	switch problem.Code {
	case fieldgate.ProblemUnauthenticated:
		reason = mqtt.BadUserNameOrPassword
	case fieldgate.ProblemInvalidPayload, fieldgate.ProblemUnsupportedMedia:
		reason = mqtt.PayloadFormatInvalid // of the will
	case fieldgate.ProblemNotFound:
		reason = mqtt.TopicNameInvalid // of the will
	case fieldgate.ProblemRateLimited, fieldgate.ProblemTooLarge:
		reason = mqtt.QuotaExceeded
	}
	c.refuseReason(reason, problem.Detail)
}

func (c *connection) refuseReason(reason mqtt.Reason, text string) {
	c.front.Counters.Refused.Add(1)
	c.mqtt.Refuse(reason, text)
}

// recordRefusal leaves a Record of what was refused before an exchange could begin.
func (c *connection) recordRefusal(problem *fieldgate.Problem) {
	x := &pipeline.Exchange{Protocol: fieldgate.ProtocolMQTT, Source: c.source, Caller: c.caller, ClientID: c.client}
	c.attribute(x)
	c.front.pipeline.Malformed(x, problem)
}

// attribute says whose exchange it is where the pipeline refused it before it asked.
func (c *connection) attribute(x *pipeline.Exchange) {
	switch {
	case c.caller == nil || x.Principal.Kind != "":
	case c.caller.Ref != 0:
		x.Principal = c.front.pipeline.Directory.Principal(c.caller.Ref)
	default:
		x.Principal = fieldgate.Principal{Kind: c.caller.Kind, ID: c.caller.ID}
	}
}

// disconnected handles the client's DISCONNECT: without 0x04 its will is forgotten [MQTT-3.14.4-3].
func (c *connection) disconnected(p *mqtt.Disconnect) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return
	}
	if p.Reason != mqtt.DisconnectWithWill {
		s.will = nil
	}
	if p.Properties.Has(mqtt.SessionExpiryInterval) { // §3.14.2.2.2
		s.expiry = min(p.Properties.Number(mqtt.SessionExpiryInterval), c.front.config.MaxSessionExpiry)
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
		s.conn = nil
		switch {
		case s.ended:
		case s.expiry == 0:
			due = f.endSession(s) // its will is due with its end, whatever its delay [MQTT-3.1.2-8]
		default:
			due = f.delayWill(s)
			if s.number != 0 {
				f.journal.append(nil, entry{kind: entrySession, session: s.number, key: s.key, expiry: s.expiry, away: time.Now()})
			}
			f.expireLater(s)
		}
	}
	s.mu.Unlock()
	f.mu.Unlock()
	f.publishWill(due)
}
