package pipeline

import (
	"container/list"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/directory"
)

// Bounds of what is remembered of commands.
const (
	maxCommands     = 100_000
	maxCommandBytes = 64 << 20
	maxCommandKey   = 255 // bytes of the caller's key
	callerShare     = 10  // a caller has at most this part of both
	commandOverhead = 500 // bytes that a command takes besides its answer
)

var (
	errNoKey       = fieldgate.NewProblem(fieldgate.ProblemInvalidParameter, "Send a key of your own making with the command, the same one when you send it again.")
	errKeyLength   = fieldgate.NewProblem(fieldgate.ProblemInvalidParameter, "The key has 1 to 255 characters.")
	errKeyRunning  = fieldgate.NewProblem(fieldgate.ProblemCommandRunning, "The same command is being carried out; ask again in a moment.")
	errKeyReused   = fieldgate.NewProblem(fieldgate.ProblemKeyReused, "The key was used for another command; use a new one.")
	errTooManyKeys = &fieldgate.Problem{Code: fieldgate.ProblemOverloaded, Detail: "Too many commands are under way.", RetryAfter: time.Second}
)

// commands remembers the answers of commands by their keys, for as long as contracts say, in memory: a gateway that is started anew
// knows none. Services get the key too, and have the last word. No caller takes more than its share, so that nobody can make the gateway
// forget the commands of others.
type commands struct {
	mu    sync.Mutex
	byKey map[[sha256.Size]byte]*command
	all   remembered
	of    map[directory.Ref]*remembered // by caller; those that we do not know are one, 0
}

// remembered are commands that have ended, the oldest first.
type remembered struct {
	list  list.List // of *command
	count int       // with those under way
	bytes int
}

// command is a command under way or done.
type command struct {
	key         [sha256.Size]byte
	fingerprint [sha256.Size]byte // of what was asked
	caller      directory.Ref
	answer      Answer
	problem     *fieldgate.Problem // instead of the answer, where it was carried out and its answer cannot be told
	until       time.Time
	ended, own  *list.Element // in the lists of all and of the caller; nil: under way
}

func newCommands() *commands {
	return &commands{byKey: make(map[[sha256.Size]byte]*command), of: make(map[directory.Ref]*remembered)}
}

// begin begins the command of a key, unless it is known: then it is returned as done, or a problem says why it is not.
func (s *commands) begin(key, fingerprint [sha256.Size]byte, caller directory.Ref, now time.Time) (begun, done *command, problem *fieldgate.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.byKey[key]
	switch {
	case held == nil:
	case held.ended != nil && !held.until.After(now):
		s.remove(held)
	case held.fingerprint != fingerprint:
		return nil, nil, errKeyReused
	case held.ended == nil:
		return nil, nil, errKeyRunning
	default:
		return nil, held, nil
	}
	own := s.of[caller]
	if own == nil {
		own = &remembered{}
		s.of[caller] = own
	}
	own.count++
	s.all.count++
	begun = &command{key: key, fingerprint: fingerprint, caller: caller}
	s.byKey[key] = begun
	if !s.makeRoom(own) {
		s.abandonLocked(begun)
		return nil, nil, errTooManyKeys
	}
	return begun, nil, nil
}

// makeRoom forgets the oldest commands, first those of a caller that has more than its share.
func (s *commands) makeRoom(own *remembered) bool {
	for own.count > maxCommands/callerShare || own.bytes > maxCommandBytes/callerShare {
		if own.list.Len() == 0 {
			return false
		}
		s.remove(own.list.Front().Value.(*command))
	}
	for s.all.count > maxCommands || s.all.bytes > maxCommandBytes {
		if s.all.list.Len() == 0 {
			return false
		}
		s.remove(s.all.list.Front().Value.(*command))
	}
	return true
}

// end keeps a command's answer, or problem.
func (s *commands) end(c *command, answer Answer, problem *fieldgate.Problem, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.answer, c.problem, c.until = answer, problem, until
	own := s.of[c.caller]
	c.ended, c.own = s.all.list.PushBack(c), own.list.PushBack(c)
	s.all.bytes += c.size()
	own.bytes += c.size()
	s.makeRoom(own)
}

// abandon forgets a command that had no answer worth keeping.
func (s *commands) abandon(c *command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandonLocked(c)
}

func (s *commands) abandonLocked(c *command) {
	own := s.of[c.caller]
	delete(s.byKey, c.key)
	s.all.count--
	if own.count--; own.count == 0 {
		delete(s.of, c.caller)
	}
}

func (s *commands) remove(c *command) {
	own := s.of[c.caller]
	s.all.list.Remove(c.ended)
	own.list.Remove(c.own)
	s.all.bytes -= c.size()
	own.bytes -= c.size()
	s.abandonLocked(c)
}

func (c *command) size() int {
	size := commandOverhead + len(c.answer.Body) + len(c.answer.Location)
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
	begun, done, problem := p.commands.begin([sha256.Size]byte(name.Sum(nil)), [sha256.Size]byte(asked.Sum(nil)), x.caller.Ref, time.Now())
	switch {
	case problem != nil:
		return x.by("idempotency key", problem)
	case begun != nil:
		x.command = begun
	case done.problem != nil:
		return done.problem
	default:
		answer := done.answer
		answer.Fields = append(answer.Fields[:len(answer.Fields):len(answer.Fields)], AnswerField{Name: "Idempotent-Replayed", Value: "true"})
		x.answer(answer)
	}
	return nil
}

// finishCommand settles what becomes of the exchange's command: what the service has carried out is kept, also when its answer cannot be
// told. A failure is not, so that the caller may try again.
func (p *Pipeline) finishCommand(x *Exchange) {
	done := x.Problem == nil && x.Answer.Status != 0 || x.Problem != nil && x.carriedOut && x.Problem.Code != fieldgate.ProblemNotDurable
	if !done || tryAgain(x.Answer.Status) {
		p.commands.abandon(x.command)
		return
	}
	p.commands.end(x.command, x.Answer, x.Problem, time.Now().Add(x.Operation.policies.Idempotency.TTL))
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
