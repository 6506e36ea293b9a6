package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/test/port"
)

// after makes a call of the address that ended so.
func after(a *address, now time.Time, o outcome) {
	a.begin()
	a.end(now, time.Millisecond, o, cause{})
}

func isIn(u *Upstream, a *address, now time.Time) bool {
	if u.pool.Load().until <= sinceStart(now) {
		u.refresh(sinceStart(now))
	}
	return a.weight() > 0
}

// What takes an address out, and for how long.
func TestEjection(t *testing.T) {
	series := func(n int, o outcome) (list []outcome) {
		for range n {
			list = append(list, o)
		}
		return list
	}
	for _, test := range []struct {
		name     string
		config   fieldgate.Upstream
		outcomes []outcome
		out      bool
	}{
		{"refused once", fieldgate.Upstream{}, series(1, unreachable), true},
		{"four failures in a row", fieldgate.Upstream{}, series(4, timedOut), false},
		{"five failures in a row", fieldgate.Upstream{}, series(5, broken), true},
		{"an answer between them", fieldgate.Upstream{}, append(append(series(4, timedOut), answered), series(4, timedOut)...), false},
		{"failures in a row do not count", fieldgate.Upstream{Outlier: fieldgate.Outlier{Consecutive: -1}}, series(50, timedOut), false},
		{"statuses do not count", fieldgate.Upstream{}, series(50, failed), false},
		{"statuses count", fieldgate.Upstream{CountServerErrors: true}, series(5, failed), true},
		{"callers that go away say nothing", fieldgate.Upstream{}, series(50, cancelled), false},
		{"a percentage, of too few calls", fieldgate.Upstream{Outlier: fieldgate.Outlier{FailurePercent: 50, MinimumCalls: 10}},
			append(series(4, broken), series(1, answered)...), false},
		{"a percentage", fieldgate.Upstream{Outlier: fieldgate.Outlier{FailurePercent: 30, MinimumCalls: 10}},
			append(append(series(3, broken), series(6, answered)...), broken), true},
	} {
		u := pretend(t, 4, test.config)
		now := timeOf(1 << 50) // at the beginning of a window
		a := u.addresses()[0]
		for _, o := range test.outcomes {
			after(a, now, o)
		}
		if out := !isIn(u, a, now); out != test.out {
			t.Errorf("%s: left out: %v", test.name, out)
		}
		if test.out && (isIn(u, a, now.Add(4999*time.Millisecond)) || !isIn(u, a, now.Add(5*time.Second))) {
			t.Errorf("%s: it is not left out for 5 s", test.name)
		}
		if got := a.failures.Load() > 0; got != (test.outcomes[0] != cancelled) {
			t.Errorf("%s: %d failures are counted", test.name, a.failures.Load())
		}
	}
}

// The time grows with each ejection in a row, up to a bound, and begins anew after the address was in for longer than it had been out.
func TestEjectionGrows(t *testing.T) {
	u := pretend(t, 2, fieldgate.Upstream{Outlier: fieldgate.Outlier{MaxEjection: 12 * time.Second}})
	a := u.addresses()[0]
	now := time.Now()
	for i, want := range []time.Duration{5 * time.Second, 10 * time.Second, 12 * time.Second, 12 * time.Second} {
		after(a, now, unreachable)
		if isIn(u, a, now.Add(want-1)) || !isIn(u, a, now.Add(want)) {
			t.Fatalf("ejection %d does not last %v", i+1, want)
		}
		now = now.Add(want + time.Second)
	}
	now = now.Add(20 * time.Second)
	after(a, now, unreachable)
	if !isIn(u, a, now.Add(5*time.Second)) {
		t.Error("it was well for long, and is left out as if it had not been")
	}
	// A call that reaches it, as all are used while none is healthy, takes it back at once.
	now = now.Add(time.Minute)
	after(a, now, unreachable)
	after(a, now.Add(time.Second), answered)
	if !isIn(u, a, now.Add(time.Second)) {
		t.Error("it answers, and is left out")
	}
	for range 5 {
		after(a, now.Add(time.Minute), broken)
	}
	after(a, now.Add(time.Minute), answered)
	if isIn(u, a, now.Add(time.Minute)) {
		t.Error("one late answer takes back an address that was left out for its failures")
	}
}

// No more than a part is left out for failures, but all that refuse are.
func TestMaxEjected(t *testing.T) {
	u := pretend(t, 10, fieldgate.Upstream{Outlier: fieldgate.Outlier{MaxEjected: 30}, PanicPercent: -1})
	now := time.Now()
	out := func() (n int) {
		for _, a := range u.addresses() {
			if !isIn(u, a, now) {
				n++
			}
		}
		return n
	}
	for _, a := range u.addresses() {
		for range 10 {
			after(a, now, timedOut)
		}
	}
	if n := out(); n != 3 {
		t.Errorf("%d of ten are left out, at most 30 %% may be", n)
	}
	for _, a := range u.addresses() {
		after(a, now, unreachable)
	}
	if n := out(); n != 10 {
		t.Errorf("%d of ten are left out, and all refuse", n)
	}
}

// Counts of a window are exact while many calls end at once.
func TestWindow(t *testing.T) {
	var w window
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			for range 1000 {
				w.add(1, i%2 == 0)
			}
		})
	}
	running.Wait()
	if calls, failures := w.add(1, true); calls != 8001 || failures != 4001 {
		t.Errorf("%d calls, %d failures", calls, failures)
	}
	if calls, failures := w.add(2, false); calls != 1 || failures != 0 {
		t.Errorf("the next window begins with %d calls, %d failures", calls, failures)
	}
}

// The circuit's states, by a clock of our own.
func TestCircuit(t *testing.T) {
	u := pretend(t, 3, fieldgate.Upstream{Outlier: fieldgate.Outlier{Consecutive: -1},
		Circuit: fieldgate.Circuit{FailurePercent: 50, MinimumCalls: 4, Open: 2 * time.Second}})
	now := timeOf(1 << 50)
	call := func(o outcome) bool {
		var tried tried
		a := u.choose(now, &Choice{}, &tried)
		if a != nil {
			after(a, now, o)
		}
		return a != nil
	}
	state := func(want fieldgate.CircuitState) {
		t.Helper()
		if got := u.state(now).Circuit; got != want {
			t.Fatalf("the circuit is %s, not %s", got, want)
		}
	}
	for _, o := range []outcome{answered, answered, timedOut} {
		call(o)
	}
	state(fieldgate.CircuitClosed)
	call(timedOut) // two of four
	state(fieldgate.CircuitOpen)
	if call(answered) {
		t.Error("a call passes")
	}
	var problem *fieldgate.Problem
	if err := u.refusal(now); !errors.As(err, &problem) || problem.Code != fieldgate.ProblemOverloaded || problem.RetryAfter != 2*time.Second {
		t.Errorf("the caller hears %v", err)
	}
	now = now.Add(2 * time.Second)
	state(fieldgate.CircuitHalfOpen)
	if !call(timedOut) || call(answered) {
		t.Error("not one call passes to see")
	}
	state(fieldgate.CircuitOpen)
	now = now.Add(2 * time.Second)
	for i := range probesPassed {
		state(fieldgate.CircuitHalfOpen)
		if !call(answered) || i < probesPassed-1 && call(answered) {
			t.Error("not one call passes to see")
		}
		now = now.Add(time.Duration(probeEvery))
	}
	state(fieldgate.CircuitClosed)
	if !call(timedOut) || u.state(now).Circuit != fieldgate.CircuitClosed {
		t.Error("it begins with the failures of before")
	}
	if pretend(t, 1, fieldgate.Upstream{}).state(now).Circuit != "" {
		t.Error("there is a circuit that nobody asked for")
	}
}

// The circuit as a caller meets it: the service fails, calls are refused with a time, the service is well, calls pass.
func TestCircuitOfRealCalls(t *testing.T) {
	var broken atomic.Bool
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		io.WriteString(w, "ok")
	}))
	defer server.Close()
	u := newSet(t, fieldgate.Upstream{Addresses: []string{server.URL}, CountServerErrors: true,
		Circuit: fieldgate.Circuit{FailurePercent: 50, MinimumCalls: 5, Window: time.Hour, Open: time.Hour}})
	broken.Store(true)
	for range 5 {
		if answer, err := get(u); err != nil || answer.Status != 503 {
			t.Fatal(answer, err)
		}
	}
	_, err := get(u)
	var problem *fieldgate.Problem
	if !errors.As(err, &problem) || problem.Code != fieldgate.ProblemOverloaded || problem.RetryAfter < time.Second || calls.Load() != 5 {
		t.Fatalf("%v after %d calls", err, calls.Load())
	}
	broken.Store(false)
	u.circuit.openUntil.Store(sinceStart(time.Now())) // the hour is over
	for u.circuit.state(sinceStart(time.Now())) != fieldgate.CircuitClosed {
		if answer, err := get(u); err != nil && codeOf(err) != fieldgate.ProblemOverloaded || err == nil && answer.Status != 200 {
			t.Fatal(answer, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := get(u); err != nil {
		t.Error(err)
	}
}

// Half of the addresses are dead: no caller sees it, and once they are left out nobody tries them.
func TestHalfOfThePoolIsDead(t *testing.T) {
	for _, algorithm := range fieldgate.Algorithms {
		config := fieldgate.Upstream{Algorithm: algorithm, Outlier: fieldgate.Outlier{Ejection: time.Hour, MaxEjection: time.Hour}}
		servers := make([]*httptest.Server, 10)
		for i := range servers {
			servers[i] = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
			servers[i].Listener.Close()
			listener, err := net.Listen("tcp", port.Free(t)) // where nobody else listens when it is dead
			if err != nil {
				t.Fatal(err)
			}
			servers[i].Listener = listener
			servers[i].Start()
			defer servers[i].Close()
			config.Addresses = append(config.Addresses, servers[i].URL)
		}
		u := newSet(t, config)
		calls := func(n int) {
			t.Helper()
			var running sync.WaitGroup
			for range 4 {
				running.Go(func() {
					for range n / 4 {
						if _, err := u.Do(t.Context(), &Request{Method: "POST", Target: "/", Timeout: time.Minute}); err != nil {
							t.Errorf("%s: %v", algorithm, err)
						}
					}
				})
			}
			running.Wait()
		}
		calls(100)
		for _, server := range servers[:5] {
			server.Listener.Close()
			server.CloseClientConnections()
		}
		for _, a := range u.addresses()[:5] { // connections that are known to have ended are not used
			a.closeIdle(time.Now(), false)
		}
		dead := func() (failures uint64, out int) {
			for _, a := range u.addresses()[:5] {
				failures += a.failures.Load()
				if a.weight() == 0 {
					out++
				}
			}
			return failures, out
		}
		for out := 0; out < 5 && !t.Failed(); _, out = dead() { // until each was tried
			calls(40)
		}
		before, _ := dead()
		calls(200)
		if after, _ := dead(); before > 5*4 || after != before { // four calls may meet a dead address at once
			t.Errorf("%s: %d calls of dead addresses, then %d", algorithm, before, after)
		}
		for i, state := range u.state(time.Now()).Addresses {
			if state.Healthy != (i >= 5) || (state.Why == "no connection came about: connection refused") != (i < 5) {
				t.Errorf("%s: address %d is shown as %+v", algorithm, i, state)
			}
		}
	}
}

func TestStatesAreBounded(t *testing.T) {
	var configs []fieldgate.Upstream
	for _, name := range []string{"b", "a", "c"} {
		config := fieldgate.Upstream{Name: name}
		for i := range 600 {
			config.Targets = append(config.Targets, fieldgate.Target{Address: fmt.Sprintf("http://10.0.%d.%d", i/250, i%250)})
		}
		configs = append(configs, config)
	}
	s, err := NewSet(configs)
	if err != nil {
		t.Fatal(err)
	}
	states := s.States()
	for i, want := range []struct {
		name            string
		shown, notShown int
	}{{"a", 67, 533}, {"b", 67, 533}, {"c", 66, 534}} {
		if got := states[i]; got.Name != want.name || len(got.Addresses) != want.shown || got.NotShown() != want.notShown {
			t.Errorf("%s: %d addresses are shown, %d not", got.Name, len(got.Addresses), got.NotShown())
		}
	}
}

// An answer that breaks off in the middle is no clean message, and counts against the address.
func TestBrokenContentIsAFailure(t *testing.T) {
	address, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		if readRequest(in) != "" {
			io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		}
	})
	u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
	for range 3 {
		if _, err := u.Do(t.Context(), &Request{Method: "GET", Target: "/"}); err == nil {
			t.Fatal("half an answer was taken for a whole one")
		}
	}
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	if failures := u.members[0].failures.Load(); failures != 3 {
		t.Errorf("%d failures", failures)
	}
}
