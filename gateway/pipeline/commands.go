package pipeline

import (
	"container/list"
	"crypto/sha256"
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
	maxForgotten    = 1000
)

// commands remembers the answers of commands by their keys, for as long as contracts say, in this gateway's memory. No caller takes more
// than its share, so that nobody can make the gateway forget the commands of others.
type commands struct {
	mu        sync.Mutex
	byKey     map[[sha256.Size]byte]*command
	all       remembered
	of        map[directory.Ref]*remembered // by caller; those that we do not know are one, 0
	forgotten []*command                    // before their time, of those that the gateways share; until takeForgotten
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
	shared      uint64        // sequence of what the gateways know of it; 0: nothing
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
	forget := func(c *command) {
		s.remove(c)
		if c.shared != 0 && len(s.forgotten) < maxForgotten {
			s.forgotten = append(s.forgotten, c)
		}
	}
	for own.count > maxCommands/callerShare || own.bytes > maxCommandBytes/callerShare {
		if own.list.Len() == 0 {
			return false
		}
		forget(own.list.Front().Value.(*command))
	}
	for s.all.count > maxCommands || s.all.bytes > maxCommandBytes {
		if s.all.list.Len() == 0 {
			return false
		}
		forget(s.all.list.Front().Value.(*command))
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

// takeForgotten gives the commands that were forgotten since the last call.
func (s *commands) takeForgotten() []*command {
	s.mu.Lock()
	defer s.mu.Unlock()
	forgotten := s.forgotten
	s.forgotten = nil
	return forgotten
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

func (c *command) size() int { return commandOverhead + c.answer.size() }
