package upstream

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
)

// Replace: what stays keeps what it has, what goes drains.
func TestReplace(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	defer server.Close()
	other := fieldgate.Upstream{Name: "other", Addresses: []string{server.URL}}
	s, err := NewSet([]fieldgate.Upstream{{Name: "a", Addresses: []string{server.URL, "http://10.0.0.1"}}, other, {Name: "goes", Addresses: []string{server.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	before, unchanged, gone := s.Upstream("a"), s.Upstream("other"), s.Upstream("goes")
	stays, goes := before.addresses()[0], before.addresses()[1]
	after(goes, time.Now(), unreachable)
	for _, u := range []*Upstream{before, gone} {
		if _, err := get(u); err != nil {
			t.Fatal(err)
		}
	}
	after(stays, time.Now(), unreachable)

	for _, wrong := range [][]fieldgate.Upstream{{{Name: "a"}}, {other, other}, {{Name: "a", Addresses: []string{"nonsense"}}}} {
		if s.Replace(wrong) == nil || s.Upstream("a") != before {
			t.Fatalf("%+v has an effect", wrong)
		}
	}
	if err := s.Replace([]fieldgate.Upstream{{Name: "a", Addresses: []string{"http://10.0.0.2", server.URL}, Algorithm: fieldgate.AlgorithmPeakEWMA, Timeout: time.Second}, other}); err != nil {
		t.Fatal(err)
	}
	now := s.Upstream("a")
	if s.Upstream("other") != unchanged || s.Upstream("goes") != nil {
		t.Error("an upstream that did not change was replaced, or one that goes is there")
	}
	if got := now.addresses(); len(got) != 2 || got[1] != stays || stays.open != 1 || stays.calls.Load() != 2 || stays.weight() != 0 {
		t.Errorf("the address that stays lost its connections, counts or health: %d open, %d calls, weight %v", stays.open, stays.calls.Load(), stays.weight())
	}
	if a := gone.addresses()[0]; a.open != 0 || !a.ended || !goes.ended {
		t.Errorf("an address that goes has %d connections open", a.open)
	}
	var tried tried
	if a := before.choose(time.Now(), &Choice{}, &tried); a == goes {
		t.Error("a call that began before is sent to an address that is gone")
	}
	if err := s.Replace([]fieldgate.Upstream{{Name: "a", Addresses: []string{server.URL}, MaxConnections: 3}}); err != nil {
		t.Fatal(err)
	}
	if a := s.Upstream("a").addresses()[0]; a == stays || a.maxOpen != 3 || stays.open != 0 {
		t.Error("connections are bound otherwise, and the old ones are kept")
	}
}

// The configuration changes all the time while calls are under way: none fails, and in the end nothing is left of what was replaced.
func TestReplaceUnderLoad(t *testing.T) {
	var urls []string
	for range 4 {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
		defer server.Close()
		urls = append(urls, server.URL)
	}
	s, err := NewSet([]fieldgate.Upstream{{Name: "a", Addresses: urls}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	var calls atomic.Int64
	changed := make(chan struct{})
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for {
				select {
				case <-changed:
					return
				default:
				}
				// POST: a call that fails is not made again, so that nothing is hidden.
				if _, err := s.Upstream("a").Do(ctx, &Request{Method: "POST", Target: "/", Body: []byte("x"), Timeout: time.Minute}); err != nil {
					t.Errorf("a call failed: %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	seen := make(map[*address]bool)
	for i := range 300 {
		config := fieldgate.Upstream{Name: "a", Addresses: append([]string(nil), urls[i%4:]...), Algorithm: fieldgate.Algorithms[i%len(fieldgate.Algorithms)],
			SlowStart: time.Duration(i%3) * time.Second}
		if i%10 == 9 {
			config.MaxConnections = 100 + i // all connections are made anew
		}
		if err := s.Replace([]fieldgate.Upstream{config}); err != nil {
			t.Fatal(err)
		}
		for _, a := range s.Upstream("a").addresses() {
			seen[a] = true
		}
		for done := calls.Load(); calls.Load() < done+5 && !t.Failed(); {
			time.Sleep(100 * time.Microsecond)
		}
	}
	close(changed)
	callers.Wait()
	cancel()
	running.Wait()
	if n := s.Upstream("a").shared.inFlight.Load(); n != 0 {
		t.Errorf("%d calls under way are counted after all have ended", n)
	}
	for a := range seen {
		a.mu.Lock()
		if a.open != 0 || a.inFlight.Load() != 0 {
			t.Errorf("an address has %d connections and %d calls under way after the end", a.open, a.inFlight.Load())
		}
		a.mu.Unlock()
	}
}

// Addresses come, go, fail and are chosen from many goroutines at once: for the race detector.
func TestAllAtOnce(t *testing.T) {
	s, err := NewSet([]fieldgate.Upstream{{Name: "a", Addresses: []string{"http://10.0.0.1"}, Discovery: fieldgate.Discovery{Registered: true}}})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for worker := range 4 {
		running.Go(func() {
			for i := range 500 {
				u := s.Upstream("a")
				var tried tried
				now := time.Now().Add(time.Duration(i) * 100 * time.Millisecond)
				if a := u.choose(now, &Choice{Key: uint64(i)}, &tried); a != nil {
					a.begin()
					a.end(now, time.Millisecond, outcome((i+worker)%6), cause{})
					u.checked(a, now, nil)
				}
				if i%20 == 0 {
					s.States()
				}
			}
		})
	}
	for i := range 200 {
		if err := s.SetTargets("a", targets(make([]int, i%7)...)); err != nil {
			t.Error(err)
		}
		config := fieldgate.Upstream{Name: "a", Addresses: []string{"http://10.0.0.1"}, Discovery: fieldgate.Discovery{Registered: true},
			Algorithm: fieldgate.Algorithms[i%len(fieldgate.Algorithms)], SlowStart: time.Second, Circuit: fieldgate.Circuit{FailurePercent: i % 100}}
		if err := s.Replace([]fieldgate.Upstream{config}); err != nil {
			t.Error(err)
		}
	}
	running.Wait()
}

// A configuration that says the same of something continues it, and one that says nothing of it any more ends it.
func TestReplaceContinues(t *testing.T) {
	config := fieldgate.Upstream{Name: "a", Addresses: []string{"http://10.0.0.1", "http://10.0.0.2", "http://10.0.0.3"}, MaxRequests: 2,
		Adaptive: &fieldgate.Adaptive{Min: 2, Max: 20}, Circuit: fieldgate.Circuit{FailurePercent: 50}, TLS: &fieldgate.UpstreamTLS{},
		Health: fieldgate.HealthCheck{Kind: fieldgate.HealthTCP, Unhealthy: 1}, Discovery: fieldgate.Discovery{DNS: "http://ingest.test"}}
	s, err := NewSet([]fieldgate.Upstream{config})
	if err != nil {
		t.Fatal(err)
	}
	before, now := s.Upstream("a"), time.Now()
	before.load.begin(fieldgate.PriorityNormal)
	before.budget.call(now)
	before.circuit.trip(sinceStart(now))
	found, err := newCandidate(fieldgate.Target{Address: "http://10.0.0.4"})
	if err != nil {
		t.Fatal(err)
	}
	before.found([]candidate{found}, nil)
	before.checked(before.addresses()[0], now, io.ErrUnexpectedEOF)

	config.Algorithm = fieldgate.AlgorithmPeakEWMA
	config.Discovery.Server = "10.0.0.53:53"
	if err := s.Replace([]fieldgate.Upstream{config}); err != nil {
		t.Fatal(err)
	}
	after := s.Upstream("a")
	if after == before || after.load != before.load || after.budget != before.budget || after.tls != before.tls {
		t.Error("the calls under way, the retries or the TLS files are counted anew")
	}
	if got := after.circuit.state(sinceStart(now)); got != fieldgate.CircuitOpen {
		t.Errorf("the circuit is %s", got)
	}
	if got := after.addresses(); len(got) != 4 || got[0].healthy() {
		t.Errorf("%d addresses; another DNS server is asked, and nothing is known until it answers", len(got))
	}

	config.Health, config.Circuit, config.MaxRequests = fieldgate.HealthCheck{}, fieldgate.Circuit{}, 0
	config.Discovery = fieldgate.Discovery{}
	if err := s.Replace([]fieldgate.Upstream{config}); err != nil {
		t.Fatal(err)
	}
	after = s.Upstream("a")
	if got := after.addresses(); len(got) != 3 || !got[0].healthy() || got[0].weight() == 0 {
		t.Error("an address is left out for its checks, although nobody checks it any more")
	}
	if after.load == before.load || after.circuit.state(sinceStart(now)) != "" {
		t.Error("a limit or circuit outlives its setting")
	}
}
