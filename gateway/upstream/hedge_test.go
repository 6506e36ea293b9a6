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
	// A call of the fast address that took long got company too, which did not win; one that was cut need not have been seen by the slow one.
	if s := u.CallStats(); s.HedgesWon == 0 || s.Hedges < s.HedgesWon || s.Hedges < uint64(slowRequests.Load()) {
		t.Errorf("%d hedges are counted, %d of them won; the slow address saw %d requests", s.Hedges, s.HedgesWon, slowRequests.Load())
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
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if n = runtime.NumGoroutine(); n <= most {
			return
		}
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
				hedge = time.Minute
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

// takes waits for something from a channel, no longer than the test runs.
func takes(t *testing.T, from <-chan struct{}) bool {
	select {
	case <-from:
		return true
	case <-t.Context().Done():
		return false
	}
}

// When the first fails while the second is under way, the second's answer counts; when both fail, the call does.
func TestHedgeOutlivesTheFirst(t *testing.T) {
	asked, failed := make(chan struct{}, 1), make(chan struct{}, 1) // the good address, and by the other one
	failing, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		if readRequest(in) == "" || !takes(t, asked) {
			return
		}
		link.Close()
		failed <- struct{}{}
	})
	good, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		for readRequest(in) != "" {
			if asked <- struct{}{}; !takes(t, failed) {
				return
			}
			time.Sleep(20 * time.Millisecond) // most likely the gateway knows it by then; it does not have to
			io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
		}
	})
	u := newSet(t, fieldgate.Upstream{Addresses: []string{failing, good}, Outlier: fieldgate.Outlier{Consecutive: -1}})
	for range 2 { // either is the first in turn
		if answer, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 20 * time.Millisecond}); err != nil || string(answer.Body) != "good" {
			t.Fatalf("%v, %v", answer, err)
		}
	}
	var both atomic.Int32 // both are asked before one fails
	together := func(_ int, _ net.Conn, in *bufio.Reader) {
		readRequest(in)
		for both.Add(1); both.Load() < 2 && t.Context().Err() == nil; {
			time.Sleep(time.Millisecond)
		}
	}
	oneFailing, _ := rawServer(t, together)
	alsoFailing, _ := rawServer(t, together)
	u = newSet(t, fieldgate.Upstream{Addresses: []string{oneFailing, alsoFailing}})
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
		asked, failed := make(chan struct{}), make(chan struct{}) // the second, and by the first
		first, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
			if readRequest(in); !fails {
				in.ReadByte() // until the gateway gives up
				return
			}
			if takes(t, asked) {
				link.Close()
				close(failed)
			}
		})
		good, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
			readRequest(in)
			if close(asked); fails && !takes(t, failed) {
				return
			}
			time.Sleep(100 * time.Millisecond)
			io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
		})
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
	one, asked := hangingLater(t, 1, release)
	other, alsoAsked := hangingLater(t, 1, release)
	defer close(release)
	u := newSet(t, fieldgate.Upstream{Addresses: []string{one, other}})
	connect(t, u, 2)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // when both are asked
		for (asked.Load() < 2 || alsoAsked.Load() < 2) && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := u.Do(ctx, &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 10 * time.Millisecond, Timeout: time.Hour}); codeOf(err) != fieldgate.ProblemUpstreamTimeout {
		t.Errorf("cancelled: %v", err)
	}
	failing, _ := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) { readRequest(in); time.Sleep(30 * time.Millisecond) })
	for _, addresses := range [][]string{{failing, one}, {one, failing}} {
		alone := newSet(t, fieldgate.Upstream{Addresses: addresses}) // the second is the first in turn
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(100*time.Millisecond, cancel)
		if _, err := alone.Do(ctx, &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 10 * time.Millisecond, Timeout: time.Hour}); err == nil {
			t.Error("cancelled while only the second is under way, and there is an answer")
		}
	}
	one, _ = hangingLater(t, 1, release)
	other, _ = hangingLater(t, 1, release)
	u = newSet(t, fieldgate.Upstream{Addresses: []string{one, other}})
	connect(t, u, 2)
	if _, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/", Idempotent: true, Hedge: 10 * time.Millisecond, Timeout: 80 * time.Millisecond}); codeOf(err) != fieldgate.ProblemUpstreamTimeout {
		t.Errorf("too late: %v", err)
	}
	if n := u.shared.inFlight.Load(); n != 0 {
		t.Errorf("%d tries never ended", n)
	}
}
