package pipeline

import (
	"time"

	"fieldgate"
	"fieldgate/gateway/clock"
)

// timedApart is how long after one exchange began whose stages are timed the next is timed, too. Reading the clock at each stage
// costs more than some of the stages do: so up to a thousand exchanges a second are timed, and of more a sample. Which stages
// ran is noted always.
const timedApart = time.Millisecond

// trace is what an exchange leaves of its way through the stages.
type trace struct {
	timed   bool
	under   fieldgate.Stage // under way; StageNone between stages
	since   time.Duration   // on the clock, when it began
	decided fieldgate.Stage // that refused
	rule    string          // that a stage is about to refuse by, or has
	times   [fieldgate.Stages]fieldgate.StageTime
}

// isTimed says whether the stages of an exchange that begins now are timed.
func (p *Pipeline) isTimed(began time.Time) bool {
	at, last := began.UnixNano(), p.timed.Load()
	// A clock that went back starts anew.
	return (at-last >= int64(timedApart) || at < last) && p.timed.CompareAndSwap(last, at)
}

// Enter notes that a stage begins, and that the one before, if one is under way, has ended. Fronts call it only where they forward an
// exchange themselves. StageNone: none begins.
func (t *trace) Enter(stage fieldgate.Stage) {
	if stage == t.under {
		return
	}
	if t.timed {
		now := clock.Now()
		if t.under != fieldgate.StageNone {
			t.times[t.under] = t.times[t.under].Add(now - t.since)
		}
		t.since = now
	} else if stage != fieldgate.StageNone {
		t.times[stage] = fieldgate.StageUntimed
	}
	t.under = stage
}

// Leave notes that the stage under way has ended.
func (t *trace) Leave() { t.Enter(fieldgate.StageNone) }

// by names the rule by which a stage refuses.
func (x *Exchange) by(rule string, problem *fieldgate.Problem) *fieldgate.Problem {
	x.rule = rule
	return problem
}

// decide notes which stage refused by which rule: the stage under way; where the front refused, the one whose question it was.
func (x *Exchange) decide(problem *fieldgate.Problem) {
	x.decided = x.under
	if x.decided == fieldgate.StageNone {
		x.decided = x.stageOf(problem.Code)
	}
	x.Leave()
	if x.rule == "" {
		x.rule = x.ruleOf(problem.Code)
	}
}

// stageOf is the stage whose question a problem answers.
func (x *Exchange) stageOf(code fieldgate.ProblemCode) fieldgate.Stage {
	switch code {
	case fieldgate.ProblemNotFound, fieldgate.ProblemMethodNotAllowed:
		return fieldgate.StageMatch
	case fieldgate.ProblemUnauthenticated:
		return fieldgate.StageIdentify
	case fieldgate.ProblemForbidden, fieldgate.ProblemNotOwner, fieldgate.ProblemQuarantined, fieldgate.ProblemGone,
		fieldgate.ProblemQoS, fieldgate.ProblemRetain:
		return fieldgate.StageAdmit
	case fieldgate.ProblemRateLimited:
		return fieldgate.StageLimit
	case fieldgate.ProblemTooLarge, fieldgate.ProblemUnsupportedMedia, fieldgate.ProblemNotAcceptable, fieldgate.ProblemInvalidParameter,
		fieldgate.ProblemInvalidPayload:
		return fieldgate.StageCheck
	case fieldgate.ProblemUpstreamUnreachable, fieldgate.ProblemUpstreamInvalid, fieldgate.ProblemUpstreamTimeout, fieldgate.ProblemNotDurable:
		return fieldgate.StageForward
	case fieldgate.ProblemBadRequest:
		if x.Operation != nil { // its content did not come as it should
			return fieldgate.StageCheck
		}
	case fieldgate.ProblemOverloaded, fieldgate.ProblemInternal:
		if x.Operation != nil {
			return fieldgate.StageForward
		}
	}
	return fieldgate.StageNone // it broke its protocol before the first stage
}
