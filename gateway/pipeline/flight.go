package pipeline

import (
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/cache"
)

// maxFlight is how long others wait for the answer to a request at the most, from when it began: a service that is slow to one caller is not
// slow to all because of it.
const maxFlight = time.Second

// flights are requests of which others wait for the answer, since they ask for the same and it may be kept (RFC 9111 section 4).
type flights struct {
	most   time.Duration // that others wait
	mu     sync.Mutex
	byKey  map[string]*flight
	landed atomic.Uint64 // how many have ended
}

// flight is one of them. The first to ask for a key makes the request; whoever comes while it is under way waits.
type flight struct {
	flights *flights
	key     string
	began   time.Time
	ended   chan struct{}
}

// mayWait says whether the exchange may wait for the answer to another's request: not on a connection that many share, and not where the caller
// says something of its own about stored answers.
func (x *Exchange) mayWait() bool {
	if x.HTTP == nil || x.Method != fieldgate.MethodGet {
		return false
	}
	_, directs := x.HTTP.Field("cache-control")
	_, pragma := x.HTTP.Field("pragma")
	return !directs && !pragma && !x.conditional()
}

// join waits for the flight of a key to end, or begins one: then it is returned, and has to land. again says that the key may have an answer
// since landed was read.
func (f *flights) join(key *cache.Key, landed uint64, patience time.Duration) (own *flight, again bool) {
	name := string(key.Group) + "\x00" + string(key.Rest)
	f.mu.Lock()
	under := f.byKey[name]
	if under == nil {
		own = &flight{flights: f, key: name, began: time.Now(), ended: make(chan struct{})}
		f.byKey[name] = own
		f.mu.Unlock()
		return own, f.landed.Load() != landed
	}
	f.mu.Unlock()
	if patience <= 0 || patience > f.most {
		patience = f.most
	}
	left := patience - time.Since(under.began)
	if left <= 0 {
		return nil, false
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-under.ended:
		return nil, true
	case <-timer.C:
		return nil, false
	}
}

// land ends a flight: its answer is stored, or never will be. It may be called on none, and again.
func (f *flight) land() {
	if f == nil {
		return
	}
	f.flights.mu.Lock()
	defer f.flights.mu.Unlock()
	if f.flights.byKey[f.key] == f {
		delete(f.flights.byKey, f.key)
		f.flights.landed.Add(1)
		close(f.ended)
	}
}

// land lets those go on who wait for the exchange's answer.
func (x *Exchange) land() {
	if x.cached != nil && x.cached.flight != nil {
		x.cached.flight.land()
		x.cached.flight = nil
	}
}
