package upstream

import "fieldgate"

// CallStats are what an upstream's calls have come to since the start, and what is under way.
type CallStats struct {
	UnderWay int // calls, where there is a limit of them
	Limit    int // that adjusts itself, as it is now; 0: there is none

	Shed           [fieldgate.PriorityBackground + 1]uint64 // calls that were refused, by Priority
	RetriesRefused uint64                                   // retries and hedges beyond the budget
	Mirroring      int                                      // copies under way
	MirrorsDropped uint64
}

// CallStats is safe for concurrent use.
func (u *Upstream) CallStats() CallStats {
	s := CallStats{RetriesRefused: u.budget.refused.Load(), Mirroring: int(u.mirroring.Load()), MirrorsDropped: u.mirrorDropped.Load()}
	if u.load != nil {
		s.UnderWay = int(u.load.underWay.Load())
		for i := range s.Shed {
			s.Shed[i] = u.load.shed[i].Load()
		}
		if u.load.adaptive != nil {
			s.Limit = int(u.load.adaptive.limit.Load())
		}
	}
	return s
}
