package fieldgate

import (
	"math"
	"time"
)

// Stage is one step in the life of an exchange, in the order in which they run. The numbers are on the wire: a stage that comes
// between two of them needs a new form of EncodeRecords.
type Stage uint8

const (
	StageNone     Stage = iota // of an exchange that passed: no stage refused it
	StageMatch                 // which operation of which version?
	StageIdentify              // whose credential is it?
	StageAdmit                 // may it?
	StageLimit                 // how much?
	StageCheck                 // are parameters and payload what the contract says?
	StageForward               // to the upstream, the mock, the topic
	StageRecord                // what happened?

	Stages // number of stages, StageNone included
)

var _ [8 - Stages]struct{} // a Record's wire form has a bit for each

var stageNames = [Stages]string{"", "match", "identify", "admit", "limit", "check", "forward", "record"}

// String is the stage's name in the API and the console; empty for StageNone.
func (s Stage) String() string {
	if s < Stages {
		return stageNames[s]
	}
	return "unknown"
}

// StageTime is how long a stage took, in units of 100 ns, rounded up; 0: it did not run. It ends at 7 minutes.
type StageTime uint32

const (
	stageUnit = 100 * time.Nanosecond

	// StageUntimed is the time of a stage that ran, of an exchange whose stages were not timed.
	StageUntimed StageTime = math.MaxUint32
)

// Ran says whether the stage ran.
func (t StageTime) Ran() bool { return t != 0 }

// Timed says whether the stage ran and was timed; only then Duration counts.
func (t StageTime) Timed() bool { return t != 0 && t != StageUntimed }

// Duration is how long the stage took; 0 when it did not run or was not timed.
func (t StageTime) Duration() time.Duration {
	if t == StageUntimed {
		return 0
	}
	return time.Duration(t) * stageUnit
}

// Add is the time with some more; what was not timed is from then on.
func (t StageTime) Add(d time.Duration) StageTime {
	more := max(d-1, 0)/stageUnit + 1
	if t == StageUntimed {
		t = 0
	}
	return StageTime(min(time.Duration(t)+more, time.Duration(StageUntimed-1)))
}
