package mqttfront

import (
	"hash/maphash"
	"iter"
)

// sessionKey names a session. The principal is part of it, so that nobody takes over another's session by its client id.
type sessionKey struct {
	caller callerKey
	client string
}

// sessions are all that there are, by their keys and by whose they are. The maps have hashes of the keys, which are long, and the
// sessions themselves say which one was meant. Front.mu guards them.
type sessions struct {
	count    int
	seed     maphash.Seed
	byKey    map[uint64]*session // the last of those whose keys have this hash
	byCaller map[uint64]*session // the last of those of one caller, which most have one of; and of others with the same hash, if ever
	several  map[uint64]int      // how many, where there are more than one
}

func newSessions() sessions {
	return sessions{seed: maphash.MakeSeed(), byKey: make(map[uint64]*session), byCaller: make(map[uint64]*session), several: make(map[uint64]int)}
}

// find gives the session of a key; nil: there is none.
func (t *sessions) find(key sessionKey) *session {
	s := t.byKey[maphash.Comparable(t.seed, key)]
	for s != nil && s.key != key {
		s = s.nextSame
	}
	return s
}

// add takes a session in of whose key there is none.
func (t *sessions) add(s *session) {
	t.count++
	hash := maphash.Comparable(t.seed, s.key)
	s.nextSame = t.byKey[hash]
	t.byKey[hash] = s

	hash = maphash.Comparable(t.seed, s.key.caller)
	if s.nextKin = t.byCaller[hash]; s.nextKin != nil {
		s.nextKin.previousKin = s
		t.several[hash] = max(t.several[hash], 1) + 1
	}
	t.byCaller[hash] = s
}

// remove forgets a session, if it is there.
func (t *sessions) remove(s *session) {
	if t.find(s.key) != s {
		return
	}
	t.count--
	hash := maphash.Comparable(t.seed, s.key)
	switch last := t.byKey[hash]; {
	case last != s:
		for last.nextSame != s {
			last = last.nextSame
		}
		last.nextSame = s.nextSame
	case s.nextSame != nil:
		t.byKey[hash] = s.nextSame
	default:
		delete(t.byKey, hash)
	}

	hash = maphash.Comparable(t.seed, s.key.caller)
	switch {
	case s.previousKin != nil:
		s.previousKin.nextKin = s.nextKin
	case s.nextKin != nil:
		t.byCaller[hash] = s.nextKin
	default:
		delete(t.byCaller, hash)
	}
	if s.nextKin != nil {
		s.nextKin.previousKin = s.previousKin
	}
	s.nextKin, s.previousKin = nil, nil
	if n := t.several[hash]; n > 2 {
		t.several[hash] = n - 1
	} else {
		delete(t.several, hash)
	}
}

// countOf is how many sessions a caller has.
func (t *sessions) countOf(caller callerKey) int {
	hash := maphash.Comparable(t.seed, caller)
	if t.byCaller[hash] == nil {
		return 0
	}
	return max(t.several[hash], 1)
}

// of gives the sessions of a caller; the one that was given may be removed.
func (t *sessions) of(caller callerKey) iter.Seq[*session] {
	return func(yield func(*session) bool) {
		for s := t.byCaller[maphash.Comparable(t.seed, caller)]; s != nil; {
			next := s.nextKin
			if s.key.caller == caller && !yield(s) {
				return
			}
			s = next
		}
	}
}

// all gives all sessions. Others may come and go, in this goroutine or with the lock, whenever one was given.
func (t *sessions) all() iter.Seq[*session] {
	return func(yield func(*session) bool) {
		for _, s := range t.byKey {
			for s != nil {
				next := s.nextSame
				if !yield(s) {
					return
				}
				s = next
			}
		}
	}
}
