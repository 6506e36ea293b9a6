package upstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
)

// answering answers each request with a text after a time.
func answering(t *testing.T, text string, after time.Duration) (address string, requests *atomic.Int32) {
	requests = new(atomic.Int32)
	address, _ = rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		for readRequest(in) != "" {
			requests.Add(1)
			time.Sleep(after)
			io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"+text)
		}
	})
	return address, requests
}

// A late answer gets company on another address; the first head counts, the loser's connection is closed.
func TestHedge(t *testing.T) {
	release := make(chan struct{})
	slow, slowRequests := hanging(t, release)
	fast, fastRequests := answering(t, "fast", 0)
	goroutines := runtime.NumGoroutine()
	u := newSet(t, fieldgate.Upstream{Addresses: []string{slow, fast}, RetryBudget: fieldgate.RetryBudget{PerSecond: 100}})
	for range 10 {
		answer, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 20 * time.Millisecond})
		if err != nil || string(answer.Body) != "fast" {
			t.Fatalf("%v, %v", answer, err)
		}
	}
	if slowRequests.Load() == 0 || fastRequests.Load() != 10 {
		t.Errorf("%d requests to the slow address, %d to the fast one", slowRequests.Load(), fastRequests.Load())
	}
	if s := u.CallStats(); s.Hedges != uint64(slowRequests.Load()) || s.HedgesWon != s.Hedges {
		t.Errorf("%d hedges are counted, %d of them won; there were %d", s.Hedges, s.HedgesWon, slowRequests.Load())
	}
	for _, a := range u.addresses() {
		a.mu.Lock()
		if a.dial == slow[len("http://"):] && a.open != 0 || len(a.idle) != a.open {
			t.Errorf("%s: %d connections open, %d idle", a.dial, a.open, len(a.idle))
		}
		a.mu.Unlock()
	}
	if n := u.shared.inFlight.Load(); n != 0 {
		t.Errorf("%d tries never ended", n)
	}
	close(release)
	settle(t, goroutines+2) // the server's side of what is idle
}

// settle waits until there are no more goroutines than that.
func settle(t *testing.T, most int) {
	t.Helper()
	var n int
	for range 200 {
		if n = runtime.NumGoroutine(); n <= most {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines are left, %d were expected", n, most)
}

// The first try wins when its answer comes before the second's.
func TestHedgeLoses(t *testing.T) {
	release := make(chan struct{})
	hung, hungRequests := hanging(t, release)
	defer close(release)
	good, goodRequests := answering(t, "good", 60*time.Millisecond)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{hung, good}, RetryBudget: fieldgate.RetryBudget{PerSecond: 100}})
	for range 6 { // either is the first in turn
		if answer, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 10 * time.Millisecond}); err != nil || string(answer.Body) != "good" {
			t.Fatalf("%v, %v", answer, err)
		}
	}
	if hungRequests.Load() == 0 || goodRequests.Load() != 6 {
		t.Errorf("%d requests to the address that hangs, %d to the other", hungRequests.Load(), goodRequests.Load())
	}
}

// What may not be sent twice is not, and nothing is when there is no other address, no budget, or no need.
func TestNoHedge(t *testing.T) {
	for _, test := range []struct {
		name       string
		idempotent bool
		addresses  int
		budget     fieldgate.RetryBudget
		after      time.Duration
	}{
		{"not idempotent", false, 2, fieldgate.RetryBudget{}, 60 * time.Millisecond},
		{"one address", true, 1, fieldgate.RetryBudget{}, 60 * time.Millisecond},
		{"no budget", true, 2, fieldgate.RetryBudget{Percent: 1, PerSecond: -1}, 60 * time.Millisecond},
		{"in time", true, 2, fieldgate.RetryBudget{}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var addresses []string
			var counts []*atomic.Int32
			for range test.addresses {
				address, requests := answering(t, "slow", test.after)
				addresses, counts = append(addresses, address), append(counts, requests)
			}
			u := newSet(t, fieldgate.Upstream{Addresses: addresses, RetryBudget: test.budget})
			hedge := 20 * time.Millisecond
			if test.after == 0 {
				hedge = 5 * time.Second
			}
			answer, err := u.Do(context.Background(), &Request{Method: "POST", Target: "/", Body: []byte("x"), Idempotent: test.idempotent, Hedge: hedge})
			if err != nil || string(answer.Body) != "slow" {
				t.Errorf("%v, %v", answer, err)
			}
			sent := int32(0)
			for _, requests := range counts {
				sent += requests.Load()
			}
			if sent != 1 {
				t.Errorf("it was sent %d times", sent)
			}
		})
	}
}

// When the first fails while the second is under way, the second's answer counts; when both fail, the call does.
func TestHedgeOutlivesTheFirst(t *testing.T) {
	failing, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		readRequest(in)
		time.Sleep(500 * time.Millisecond)
	})
	good, _ := answering(t, "good", 700*time.Millisecond)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{failing, good}, Outlier: fieldgate.Outlier{Consecutive: -1}})
	for range 2 { // either is the first in turn
		if answer, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 20 * time.Millisecond}); err != nil || string(answer.Body) != "good" {
			t.Fatalf("%v, %v", answer, err)
		}
	}
	alsoFailing, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) { readRequest(in); time.Sleep(60 * time.Millisecond) })
	u = newSet(t, fieldgate.Upstream{Addresses: []string{failing, alsoFailing}})
	if _, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 20 * time.Millisecond}); codeOf(err) != fieldgate.ProblemUpstreamUnreachable {
		t.Errorf("both failed: %v", err)
	}
	if n := u.shared.inFlight.Load(); n != 0 {
		t.Errorf("%d tries never ended", n)
	}
}

// What a hedge overtook counts for what is known of it: that it failed, or that it was slower than that.
func TestOvertakenTryCounts(t *testing.T) {
	for _, fails := range []bool{true, false} {
		first, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
			if readRequest(in); !fails {
				in.ReadByte() // until the gateway gives up
			}
			time.Sleep(60 * time.Millisecond)
		})
		good, _ := answering(t, "good", 100*time.Millisecond)
		u := newSet(t, fieldgate.Upstream{Addresses: []string{good, first}}) // the second is the first in turn
		if _, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 10 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		a := u.addresses()[1]
		if failures := a.failures.Load(); fails != (failures == 1) {
			t.Errorf("it fails: %v, and %d failures are counted", fails, failures)
		}
		if slow := a.latency.mean(sinceStart(time.Now())); slow < 50_000 {
			t.Errorf("it took more than 100 ms, and is held for as fast as %v µs", slow)
		}
	}
}

// A hedged call that is cut, or whose time is over, ends with both its tries.
func TestHedgeIsCut(t *testing.T) {
	release := make(chan struct{})
	one, _ := hanging(t, release)
	other, _ := hanging(t, release)
	defer close(release)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{one, other}})
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(60*time.Millisecond, cancel)
	if _, err := u.Do(ctx, &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 10 * time.Millisecond, Timeout: 20 * time.Second}); codeOf(err) != fieldgate.ProblemUpstreamTimeout {
		t.Errorf("cancelled: %v", err)
	}
	failing, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) { readRequest(in); time.Sleep(30 * time.Millisecond) })
	for _, addresses := range [][]string{{failing, one}, {one, failing}} {
		alone := newSet(t, fieldgate.Upstream{Addresses: addresses}) // the second is the first in turn
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(100*time.Millisecond, cancel)
		began := time.Now()
		if _, err := alone.Do(ctx, &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 10 * time.Millisecond, Timeout: 20 * time.Second}); err == nil || time.Since(began) > 15*time.Second {
			t.Errorf("cancelled while only the second is under way: %v after %v", err, time.Since(began))
		}
	}
	if _, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 10 * time.Millisecond, Timeout: 80 * time.Millisecond}); codeOf(err) != fieldgate.ProblemUpstreamTimeout {
		t.Errorf("too late: %v", err)
	}
	if n := u.shared.inFlight.Load(); n != 0 {
		t.Errorf("%d tries never ended", n)
	}
}
