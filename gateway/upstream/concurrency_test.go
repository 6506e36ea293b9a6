package upstream

import (
	"context"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/clock"
)

// Background calls are shed at 70 % of the limit, normal ones at 90 %, critical ones at the limit itself.
func TestSheddingByPriority(t *testing.T) {
	l := newLoad(&fieldgate.Upstream{Adaptive: &fieldgate.Adaptive{Min: 100, Max: 100}})
	admitted := func(priority fieldgate.Priority) (n int) {
		for l.begin(priority) == nil {
			n++
		}
		return n
	}
	for _, step := range []struct {
		name     string
		priority fieldgate.Priority
		want     int
	}{{"background", fieldgate.PriorityBackground, 70}, {"normal", fieldgate.PriorityNormal, 20}, {"critical", fieldgate.PriorityCritical, 10}} {
		if n := admitted(step.priority); n != step.want {
			t.Errorf("%d %s calls were let in, want %d", n, step.name, step.want)
		}
		if n := l.shed[step.priority].Load(); n != 1 {
			t.Errorf("%d %s calls are counted as shed", n, step.name)
		}
	}
	l.end()
	if l.begin(fieldgate.PriorityNormal) == nil || l.begin(fieldgate.PriorityCritical) != nil {
		t.Error("the place that is free is for a critical call")
	}
}

// A call that is shed is told when to come back; nothing of it reaches the service.
func TestMaxRequests(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 8)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	defer server.Close()
	u := newSet(t, fieldgate.Upstream{Addresses: []string{server.URL}, MaxRequests: 2})
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			if _, err := get(u); err != nil {
				t.Error(err)
			}
		})
		<-arrived
	}
	_, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Priority: fieldgate.PriorityCritical})
	if codeOf(err) != fieldgate.ProblemOverloaded || err.(*fieldgate.Problem).RetryAfter <= 0 {
		t.Errorf("beyond the bound: %v", err)
	}
	if s := u.CallStats(); s.UnderWay != 2 || s.Shed[fieldgate.PriorityCritical] != 1 {
		t.Errorf("%+v", s)
	}
	close(release)
	calls.Wait()
	if _, err := get(u); err != nil || len(arrived) != 1 {
		t.Errorf("%v; %d requests arrived", err, len(arrived))
	}
	if s := u.CallStats(); s.UnderWay != 0 {
		t.Errorf("%d calls never ended", s.UnderWay)
	}
}

// Failures of every kind give their place back.
func TestLoadAfterFailures(t *testing.T) {
	address, _ := badThen(t, 3, reset)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{address}, MaxRequests: 5, Timeout: time.Second})
	for range 4 {
		get(u)
	}
	unreachable := newSet(t, fieldgate.Upstream{Addresses: []string{"http://127.0.0.1:1"}, MaxRequests: 5})
	get(unreachable)
	if a, b := u.CallStats().UnderWay, unreachable.CallStats().UnderWay; a != 0 || b != 0 {
		t.Errorf("%d and %d calls never ended", a, b)
	}
}

// How many calls wait for a connection is bounded.
func TestMaxWaiting(t *testing.T) {
	release := make(chan struct{})
	address, requests := hanging(t, release)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{address}, MaxConnections: 1, MaxWaiting: 2, ConnectTimeout: 20 * time.Second, Timeout: 20 * time.Second})
	var calls sync.WaitGroup
	var overloaded atomic.Int32
	for range 5 {
		calls.Go(func() {
			if _, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/"}); codeOf(err) == fieldgate.ProblemOverloaded {
				overloaded.Add(1)
			}
		})
	}
	for overloaded.Load() < 2 { // one has the connection, two wait
		time.Sleep(time.Millisecond)
	}
	close(release)
	calls.Wait()
	if overloaded.Load() != 2 || requests.Load() == 0 {
		t.Errorf("%d calls were refused", overloaded.Load())
	}
}

// The limit grows while latency is the usual one and the limit is reached, shrinks when latency rises, stays otherwise, and keeps
// its bounds.
func TestAdaptiveLimit(t *testing.T) {
	const usual = float64(10 * time.Millisecond)
	a := newAdaptive(10, 200)
	if a.limit.Load() != 100 {
		t.Fatalf("it begins at %d", a.limit.Load())
	}
	a.step(usual, 20)
	if a.limit.Load() != 100 {
		t.Errorf("it changed to %d while nobody came near it", a.limit.Load())
	}
	for range 50 {
		a.step(usual, float64(a.limit.Load()))
	}
	if a.limit.Load() != 200 {
		t.Errorf("it grew to %d only", a.limit.Load())
	}
	a.step(1.3*usual, 200)
	if a.limit.Load() != 200 {
		t.Errorf("a little more latency made it %d", a.limit.Load())
	}
	for i := range 3 {
		before := a.limit.Load()
		if a.step(5*usual, 200); a.limit.Load() >= before {
			t.Errorf("step %d: five times the latency leaves it at %d", i, a.limit.Load())
		}
	}
	for range 5 {
		a.step(100*usual, 200)
	}
	if a.limit.Load() != 10 {
		t.Errorf("it shrank to %d", a.limit.Load())
	}
	for range 400 {
		a.step(usual, float64(a.limit.Load()))
	}
	if a.limit.Load() != 200 {
		t.Errorf("it came back to %d only", a.limit.Load())
	}
}

// A queue in front of a service that serves few at once is kept short: the limit comes near what it can carry.
func TestAdaptiveFindsTheCapacity(t *testing.T) {
	const capacity, service = 20, float64(10 * time.Millisecond)
	a := newAdaptive(5, 1000)
	least, most := int64(math.MaxInt64), int64(0)
	for window := range 2000 {
		underWay := float64(a.limit.Load()) // callers take all they get
		a.step(service*max(1, underWay/capacity), underWay)
		if window > 100 {
			least, most = min(least, a.limit.Load()), max(most, a.limit.Load())
		}
	}
	if least < capacity/2 || most > 3*capacity {
		t.Errorf("the limit goes from %d to %d for a service that serves %d at once", least, most, capacity)
	}
}

// A service that has become slower for good, whatever the limit, gets its calls back within seconds.
func TestAdaptiveForgets(t *testing.T) {
	const before, since = float64(10 * time.Millisecond), float64(50 * time.Millisecond)
	a := newAdaptive(10, 200)
	for range 50 {
		a.step(before, float64(a.limit.Load()))
	}
	for range 60 {
		a.step(since, float64(a.limit.Load()))
	}
	if a.limit.Load() < 100 {
		t.Errorf("the limit is %d after %v", a.limit.Load(), 60*concurrencyWindow)
	}
}

func TestAdaptiveSamples(t *testing.T) {
	a := newAdaptive(0, 0)
	now := clock.Time(time.Hour)
	for range 1000 { // a window each
		now = now.Add(concurrencyWindow / concurrencySamples)
		a.sample(now, time.Millisecond, a.limit.Load())
	}
	if a.limit.Load() != defaultConcurrencyMax {
		t.Errorf("%d", a.limit.Load())
	}
	if n := testing.AllocsPerRun(1000, func() { now = now.Add(time.Millisecond); a.sample(now, time.Millisecond, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Calls that are refused take no place from those that are let in, not even for a moment.
func TestRefusedCallsTakeNoPlace(t *testing.T) {
	l := newLoad(&fieldgate.Upstream{Adaptive: &fieldgate.Adaptive{Min: 10, Max: 10}})
	for range 7 {
		l.begin(fieldgate.PriorityBackground) // all that there is for them
	}
	var stop atomic.Bool
	var crowd sync.WaitGroup
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(32))
	for range 64 {
		crowd.Go(func() {
			for !stop.Load() {
				if l.begin(fieldgate.PriorityBackground) == nil {
					t.Error("a background call is let in beyond its bound")
					return
				}
			}
		})
	}
	refused := 0
	for range 200_000 {
		if l.begin(fieldgate.PriorityCritical) != nil {
			refused++
			continue
		}
		l.end()
	}
	stop.Store(true)
	crowd.Wait()
	if refused > 0 {
		t.Errorf("%d critical calls were refused, with three places free", refused)
	}
}
