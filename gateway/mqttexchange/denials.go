package mqttexchange

import (
	"sync/atomic"

	"fieldgate"
)

// Denials count what was refused or failed, by the problem's code: messages, wills at CONNECT and when they fire, and topic filters.
type Denials struct {
	counts [len(denialCodes)]atomic.Uint64
}

// denialCodes are the problems of messages and topic filters; the last stands for all others.
var denialCodes = [...]fieldgate.ProblemCode{fieldgate.ProblemForbidden, fieldgate.ProblemNotOwner, fieldgate.ProblemQuarantined, fieldgate.ProblemUnauthenticated,
	fieldgate.ProblemNotFound, fieldgate.ProblemGone, fieldgate.ProblemQoS, fieldgate.ProblemRetain, fieldgate.ProblemRateLimited, fieldgate.ProblemTooLarge,
	fieldgate.ProblemUnsupportedMedia, fieldgate.ProblemInvalidParameter, fieldgate.ProblemInvalidPayload, fieldgate.ProblemNotDurable,
	fieldgate.ProblemOverloaded, fieldgate.ProblemUpstreamUnreachable, fieldgate.ProblemUpstreamTimeout, fieldgate.ProblemUpstreamInvalid, fieldgate.ProblemInternal}

// Add counts one.
func (d *Denials) Add(code fieldgate.ProblemCode) {
	for i := range denialCodes {
		if denialCodes[i] == code || i == len(denialCodes)-1 {
			d.counts[i].Add(1)
			return
		}
	}
}

// ByReason are the counts that are not 0.
func (d *Denials) ByReason() map[fieldgate.ProblemCode]uint64 {
	counts := make(map[fieldgate.ProblemCode]uint64)
	for i := range denialCodes {
		if n := d.counts[i].Load(); n != 0 {
			counts[denialCodes[i]] = n
		}
	}
	return counts
}

// Total is the sum of all counts.
func (d *Denials) Total() (total uint64) {
	for i := range d.counts {
		total += d.counts[i].Load()
	}
	return total
}
