package adminapi

import (
	"sync"

	"fieldgate/control/refusal"
)

// maxLasting is how many requests that last one operator has open on this node: few of the places that there are for all, and enough
// for some windows of the console.
const maxLasting = 40

var errTooManyLasting = &refusal.Error{Code: refusal.CodeOverloaded,
	Detail: "You have too many streams and imports open at once: close some windows of the console, or end programs that listen."}

// lastingRequests counts the requests that last by who sent them. The zero value has none.
type lastingRequests struct {
	mu     sync.Mutex
	counts map[string]int
}

// begin counts one more, until end.
func (l *lastingRequests) begin(account string) (end func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts[account] >= maxLasting {
		return nil, errTooManyLasting
	}
	if l.counts == nil {
		l.counts = make(map[string]int)
	}
	l.counts[account]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.counts[account]--; l.counts[account] == 0 {
			delete(l.counts, account)
		}
	}, nil
}
