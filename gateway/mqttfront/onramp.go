package mqttfront

import (
	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// onRampKind is the kind that sessions of an on-ramp's anonymous clients and users are kept under. Their names are their own: who calls
// itself the same elsewhere does not get their sessions.
const onRampKind fieldgate.PrincipalKind = "on-ramp"

// identify finds out who sends a CONNECT. Who has shown a certificate is known already.
func (c *connection) identify(p *mqtt.Connect) (*pipeline.Caller, *fieldgate.Problem) {
	if c.caller != nil {
		return c.caller, c.front().pipeline.Confirm(c.caller, p.Username, p.Password)
	}
	if ramp := c.listener.Terms.OnRamp; ramp != nil {
		return ramp.Identify(c.front().pipeline, p.Username, p.Password)
	}
	return c.front().pipeline.Identify(p.Username, p.Password)
}

// callerOf is whose the sessions of a caller are.
func callerOf(caller *pipeline.Caller) callerKey {
	if caller.OnRamp != nil && caller.Ref == 0 {
		return callerKey{onRampKind, caller.ID}
	}
	return callerKey{caller.Kind, caller.ID}
}

// principal is what messages and Records call it.
func (k callerKey) principal() fieldgate.Principal {
	switch {
	case k.kind != onRampKind:
		return fieldgate.Principal{Kind: k.kind, ID: k.id}
	case k.id == "":
		return fieldgate.Principal{Kind: fieldgate.PrincipalAnonymous}
	}
	return fieldgate.Principal{Kind: fieldgate.PrincipalForeign, ID: k.id}
}

// onRamp is that of the listeners; nil: there is none.
func (f *Front) onRamp() *pipeline.OnRamp {
	for _, l := range f.config.Listeners {
		if l.Terms.OnRamp != nil {
			return l.Terms.OnRamp
		}
	}
	return nil
}

// OnRampChanged is to be called after a change of what the on-ramp goes by: it closes connections of callers that it would not let in any
// more, and what the others have subscribed to is asked about again.
func (f *Front) OnRampChanged() {
	f.eachSession(func(s *session) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.listener.Terms.OnRamp != nil {
			f.recheck(s)
		}
	})
}
