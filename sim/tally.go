package sim

import (
	"maps"
	"sync"
)

// Outcome sorts verdicts.
type Outcome uint8

const (
	Passed     Outcome = iota
	Refused            // the device's fault
	Failed             // the server's fault
	Unanswered         // no answer, or none in time

	outcomes
)

// Counts are requests by their outcome, and messages that came without being asked for.
type Counts struct {
	Sent, Passed, Refused, Failed, Unanswered uint64
	Received                                  uint64
}

func (c *Counts) count(outcome Outcome) {
	c.Sent++
	*[outcomes]*uint64{&c.Passed, &c.Refused, &c.Failed, &c.Unanswered}[outcome]++
}

func (c *Counts) add(other *Counts) {
	c.Sent += other.Sent
	c.Passed += other.Passed
	c.Refused += other.Refused
	c.Failed += other.Failed
	c.Unanswered += other.Unanswered
	c.Received += other.Received
}

// verdict is an answer in its protocol's own words, such as "204", "4.22" or "not authorized".
type verdict struct {
	outcome Outcome
	text    string
}

// Report is what one device sent and what it was told.
type Report struct {
	Device   Device
	Counts   Counts
	Verdicts map[string]uint64 // in the protocol's words
}

// tally counts for one device.
type tally struct {
	mu       sync.Mutex
	counts   Counts
	verdicts map[string]uint64
}

func (t *tally) verdict(v verdict) {
	t.mu.Lock()
	t.counts.count(v.outcome)
	t.verdicts[v.text]++
	t.mu.Unlock()
}

func (t *tally) received() {
	t.mu.Lock()
	t.counts.Received++
	t.mu.Unlock()
}

func (t *tally) report(device Device) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Report{Device: device, Counts: t.counts, Verdicts: maps.Clone(t.verdicts)}
}
