package pipeline

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"

	"fieldgate"
)

// Bounds of what is remembered of commands.
const (
	maxCommands     = 100_000
	maxCommandBytes = 64 << 20
	maxCommandKey   = 255 // bytes of the caller's key
	commandOverhead = 300 // bytes that a command takes besides its answer
)

var (
	errNoKey       = fieldgate.NewProblem(fieldgate.ProblemInvalidParameter, "Send a key of your own making with the command, the same one when you send it again.")
	errKeyLength   = fieldgate.NewProblem(fieldgate.ProblemInvalidParameter, "The key has 1 to 255 characters.")
	errKeyRunning  = fieldgate.NewProblem(fieldgate.ProblemCommandRunning, "The same command is being carried out; ask again in a moment.")
	errKeyReused   = fieldgate.NewProblem(fieldgate.ProblemKeyReused, "The key was used for another command; use a new one.")
	errTooManyKeys = &fieldgate.Problem{Code: fieldgate.ProblemOverloaded, Detail: "Too many commands are under way.", RetryAfter: time.Second}
)

// commands remembers the answers of commands by their keys, for as long as contracts say, in memory: a gateway that is started anew
// knows none. Services get the key too, and have the last word.
type commands struct {
	mu    sync.Mutex
	byKey map[[sha256.Size]byte]*command
	done  list.List // of *command that have ended, the oldest first
	bytes int
}

// command is a command under way or done.
type command struct {
	key         [sha256.Size]byte
	fingerprint [sha256.Size]byte // of what was asked
	answer      Answer
	until       time.Time
	ended       *list.Element // nil: under way
}

func newCommands() *commands { return &commands{byKey: make(map[[sha256.Size]byte]*command)} }

// begin begins the command of a key, unless it is known: then its answer is the caller's, or a problem says why it is not.
func (s *commands) begin(key, fingerprint [sha256.Size]byte, now time.Time) (begun *command, answer Answer, problem *fieldgate.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.byKey[key]
	switch {
	case held == nil:
	case held.ended != nil && !held.until.After(now):
		s.remove(held)
	case held.fingerprint != fingerprint:
		return nil, answer, errKeyReused
	case held.ended == nil:
		return nil, answer, errKeyRunning
	default:
		return nil, held.answer, nil
	}
	for len(s.byKey) >= maxCommands {
		oldest := s.done.Front()
		if oldest == nil {
			return nil, answer, errTooManyKeys
		}
		s.remove(oldest.Value.(*command))
	}
	begun = &command{key: key, fingerprint: fingerprint}
	s.byKey[key] = begun
	return begun, answer, nil
}

// end keeps a command's answer.
func (s *commands) end(c *command, answer Answer, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.answer, c.until = answer, until
	c.ended = s.done.PushBack(c)
	for s.bytes += c.size(); s.bytes > maxCommandBytes; {
		s.remove(s.done.Front().Value.(*command))
	}
}

// abandon forgets a command that had no answer worth keeping.
func (s *commands) abandon(c *command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byKey, c.key)
}

func (s *commands) remove(c *command) {
	delete(s.byKey, c.key)
	s.done.Remove(c.ended)
	s.bytes -= c.size()
}

func (c *command) size() int {
	size := commandOverhead + len(c.answer.Body)
	for _, f := range c.answer.Fields {
		size += len(f.Name) + len(f.Value)
	}
	return size
}

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
	begun, answer, problem := p.commands.begin([sha256.Size]byte(name.Sum(nil)), [sha256.Size]byte(asked.Sum(nil)), time.Now())
	switch {
	case problem != nil:
		return x.by("idempotency key", problem)
	case begun != nil:
		x.command = begun
	default:
		answer.Fields = append(answer.Fields[:len(answer.Fields):len(answer.Fields)], AnswerField{Name: "Idempotent-Replayed", Value: "true"})
		x.answer(answer)
	}
	return nil
}

// finishCommand settles what becomes of the exchange's command: an answer of the service is kept, a failure is not, so that the caller
// may try again.
func (p *Pipeline) finishCommand(x *Exchange) {
	if x.Problem != nil || x.Answer.Status == 0 || x.Answer.Status >= 500 {
		p.commands.abandon(x.command)
		return
	}
	p.commands.end(x.command, x.Answer, time.Now().Add(x.Operation.policies.Idempotency.TTL))
}

func withPointer(problem *fieldgate.Problem, pointer string) *fieldgate.Problem {
	p := *problem
	p.Pointer = pointer
	return &p
}
