package pipeline

import (
	"crypto/sha256"
	"net/http"
	"time"

	"fieldgate"
)

var (
	errNoKey       = fieldgate.NewProblem(fieldgate.ProblemInvalidParameter, "Send a key of your own making with the command, the same one when you send it again.")
	errKeyLength   = fieldgate.NewProblem(fieldgate.ProblemInvalidParameter, "The key has 1 to 255 characters.")
	errKeyRunning  = fieldgate.NewProblem(fieldgate.ProblemCommandRunning, "The same command is being carried out; ask again in a moment.")
	errKeyReused   = fieldgate.NewProblem(fieldgate.ProblemKeyReused, "The key was used for another command; use a new one.")
	errKeyUnknown  = fieldgate.NewProblem(fieldgate.ProblemCommandUnknown, "The gateway that carried the command out has ended without an answer. Look whether it was carried out before you give it again with a new key.")
	errUnanswered  = fieldgate.NewProblem(fieldgate.ProblemCommandUnknown, "The service did not answer when it got the command. Look whether it was carried out before you give it again with a new key.")
	errAnswerLost  = fieldgate.NewProblem(fieldgate.ProblemCommandUnknown, "The command was carried out. Its answer was too large to be told again.")
	errKeyNotKept  = &fieldgate.Problem{Code: fieldgate.ProblemNotDurable, Detail: "The command's key cannot be stored at present, so that the command was not carried out; send it again.", RetryAfter: 5 * time.Second}
	errTooManyKeys = &fieldgate.Problem{Code: fieldgate.ProblemOverloaded, Detail: "Too many commands are under way.", RetryAfter: time.Second}
)

// idempotency is the stage that answers a command which was sent before (draft-ietf-httpapi-idempotency-key-header-07).
func idempotency(p *Pipeline, x *Exchange) *fieldgate.Problem {
	policy := x.Operation.policies.Idempotency
	if safe(x.Method) {
		return nil
	}
	var key []byte
	if x.Fields != nil {
		key, _ = x.Fields.Field(policy.Field)
	}
	switch {
	case len(key) == 0 && policy.Required:
		return x.by("idempotency key required", withPointer(errNoKey, policy.Field))
	case len(key) == 0:
		return nil
	case len(key) > maxCommandKey:
		return x.by("idempotency key", withPointer(errKeyLength, policy.Field))
	}
	name := sha256.New()
	for _, part := range []string{x.Operation.Contract.API, x.Operation.ID, string(x.Principal.Kind), x.Principal.ID} {
		name.Write(append([]byte(part), 0))
	}
	if x.caller.Ref == 0 { // nobody we know: keys are those of the address
		address := x.Source.Addr().As16()
		name.Write(address[:])
	}
	name.Write(key)
	asked := sha256.New()
	asked.Write(append([]byte(x.upstreamTarget()), 0))
	asked.Write(x.Body)
	begun, done, problem := p.commands.begin([sha256.Size]byte(name.Sum(nil)), [sha256.Size]byte(asked.Sum(nil)), x.caller.Ref, time.Now())
	switch {
	case problem != nil:
		return x.by("idempotency key", problem)
	case begun != nil:
		x.command = begun
		return nil
	}
	return x.replay(done.answer, done.problem)
}

// replay answers with what the command came to when it was carried out.
func (x *Exchange) replay(answer Answer, problem *fieldgate.Problem) *fieldgate.Problem {
	if problem != nil {
		return problem
	}
	answer.Fields = append(answer.Fields[:len(answer.Fields):len(answer.Fields)], AnswerField{Name: "Idempotent-Replayed", Value: "true"})
	x.answer(answer)
	return nil
}

// finishCommand settles what becomes of the exchange's command: what the service has carried out is kept, also when its answer cannot be
// told. A failure is not, so that the caller may try again; nor is silence, unless the contract demands keys: then no service gets a
// command twice.
func (p *Pipeline) finishCommand(x *Exchange) {
	c, policy, answer, problem := x.command, x.Operation.policies.Idempotency, x.Answer, x.Problem
	x.command = nil
	done := x.Problem == nil && x.Answer.Status != 0 || x.Problem != nil && x.carriedOut && x.Problem.Code != fieldgate.ProblemNotDurable
	keep := done && !tryAgain(x.Answer.Status)
	if x.unanswered && policy.Required {
		keep, answer, problem = true, Answer{}, errUnanswered
	}
	if c.shared != 0 && keep {
		p.settle(c, commandState{Asked: c.fingerprint[:], Answer: answer, Problem: problem}, policy.TTL)
	} else if c.shared != 0 {
		p.settle(c, commandState{Asked: c.fingerprint[:], Free: true}, freeFor)
	}
	if keep {
		p.commands.end(c, answer, problem, time.Now().Add(policy.TTL))
	} else {
		p.commands.abandon(c)
	}
	if p.bus != nil {
		p.freeForgotten()
	}
}

// tryAgain says whether an answer asks for the same command once more: RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4.
func tryAgain(status int) bool {
	return status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooEarly || status == http.StatusTooManyRequests
}

func withPointer(problem *fieldgate.Problem, pointer string) *fieldgate.Problem {
	p := *problem
	p.Pointer = pointer
	return &p
}
