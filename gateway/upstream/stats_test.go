package upstream

import (
	"context"
	"testing"
	"time"

	"fieldgate"
)

// What the calls have come to is counted, and a change of the configuration or of the addresses takes nothing away from it.
func TestCallStats(t *testing.T) {
	address, _ := answering(t, "body", 0)
	config := fieldgate.Upstream{Name: "a", Addresses: []string{address, "http://127.0.0.1:1"}, MaxRequests: 5, Adaptive: &fieldgate.Adaptive{Min: 3, Max: 3},
		Outlier: fieldgate.Outlier{Ejection: time.Hour, MaxEjection: time.Hour}} // the address that refuses is asked once
	s, err := NewSet([]fieldgate.Upstream{config})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.closeIdle(time.Now().Add(time.Hour), true) }()
	for range 10 {
		if _, err := get(s.Upstream("a")); err != nil {
			t.Fatal(err)
		}
	}
	u := s.Upstream("a")
	u.load.underWay.Store(5)
	for range 3 {
		get(u)
	}
	u.load.underWay.Store(0)
	u.budget.retries.Add(4)
	u.budget.refused.Add(5)
	u.budget.hedges.Add(6)
	u.budget.hedgesWon.Add(7)
	u.mirrorDropped.Add(8)

	before := u.CallStats()
	if before.Calls != 11 || before.Failures != 1 || before.Latency <= 0 || before.Shed[fieldgate.PriorityNormal] != 3 || before.Limit != 3 || before.InFlight != 0 {
		t.Fatalf("10 calls, one refused connection, 3 calls beyond the limit: %+v", before)
	}
	same := func(when string, want fieldgate.CallStats) {
		t.Helper()
		got := s.States()[0].CallStats
		got.Latency, want.Latency = 0, 0 // which decays, and is of the addresses that there are
		if got != want {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	replace := func(change func(c *fieldgate.Upstream)) {
		t.Helper()
		change(&config)
		if err := s.Replace([]fieldgate.Upstream{config}); err != nil {
			t.Fatal(err)
		}
	}
	want := before
	same("as it was", want)
	replace(func(c *fieldgate.Upstream) { c.MaxRequests = 6 })
	same("another limit", want)
	replace(func(c *fieldgate.Upstream) { c.Addresses = c.Addresses[:1] })
	same("an address has gone", want)
	replace(func(c *fieldgate.Upstream) { c.MaxConnections = 7 })
	same("other connections", want)
	replace(func(c *fieldgate.Upstream) { c.MaxRequests, c.Adaptive = 0, nil })
	want.Limit = 0
	same("no limit any more", want)
	replace(func(c *fieldgate.Upstream) { c.MaxRequests = 5 })
	same("a limit again", want)
	if _, err := s.Upstream("a").Do(context.Background(), &Request{Method: "GET", Target: "/", Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	want.Calls++
	same("another call", want)
}
