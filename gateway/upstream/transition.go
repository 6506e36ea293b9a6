package upstream

import "fieldgate"

// Transition is that an address became healthy or is no longer, or that a circuit opened or closed.
type Transition struct {
	Upstream string
	Address  string                 // empty: it is about the circuit
	Healthy  bool                   // of an address
	Why      string                 // it is not healthy
	Circuit  fieldgate.CircuitState // open or closed
}

// maxTransitions is how many wait to be taken; beyond them the newest are left out, and States tells all the same.
const maxTransitions = 256

// Transitions are told here as they happen; no call waits for who takes them.
func (s *Set) Transitions() <-chan Transition { return s.transitions }

// turned tells of an address that is healthy now, or is not; the caller holds the lock.
func (u *Upstream) turned(a *address) {
	u.shared.tell(Transition{Upstream: u.Config.Name, Address: a.target.Address, Healthy: a.healthy(), Why: a.whyNot()})
}

func (s *shared) tell(transition Transition) {
	select {
	case s.transitions <- transition:
	default: // nobody listens, or not fast enough
	}
}
