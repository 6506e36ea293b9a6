package upstream

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"fieldgate"
)

// pretend is an upstream of n addresses that nobody connects to.
func pretend(t testing.TB, n int, config fieldgate.Upstream) *Upstream {
	t.Helper()
	for i := range n {
		config.Targets = append(config.Targets, fieldgate.Target{Address: fmt.Sprintf("http://10.0.%d.%d:80", i/250, i%250+1)})
	}
	return newSet(t, config)
}

func BenchmarkChoose(b *testing.B) {
	for _, algorithm := range fieldgate.Algorithms {
		for _, n := range []int{3, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", algorithm, n), func(b *testing.B) {
				u := pretend(b, n, fieldgate.Upstream{Algorithm: algorithm})
				now := time.Now()
				for _, a := range u.addresses() { // nobody is idle: the whole of an algorithm is run
					a.begin()
					a.latency.observe(sinceStart(now), time.Millisecond, false)
				}
				var c Choice
				b.ReportAllocs()
				for b.Loop() {
					c.Key += golden
					var tried tried
					a := u.choose(now, &c, &tried)
					a.begin()
					a.end(now, time.Millisecond, answered, cause{})
				}
			})
		}
	}
}

// What a change costs, under the lock: of health, and of members.
func BenchmarkChange(b *testing.B) {
	for _, algorithm := range []fieldgate.Algorithm{fieldgate.AlgorithmTwoChoices, fieldgate.AlgorithmHash} {
		u := pretend(b, 1000, fieldgate.Upstream{Algorithm: algorithm})
		b.Run(string(algorithm)+"/health", func(b *testing.B) {
			for b.Loop() {
				u.rebuild(0)
			}
		})
		b.Run(string(algorithm)+"/members", func(b *testing.B) {
			for b.Loop() {
				u.setMembers(u.members, 0)
			}
		})
	}
}

// spread makes n calls in turn and counts them by address; each ends before the next begins.
func spread(u *Upstream, now time.Time, n int, key func(i int) uint64) map[string]int {
	counts := make(map[string]int)
	for i := range n {
		var tried tried
		a := u.choose(now, &Choice{Key: key(i)}, &tried)
		a.begin()
		counts[a.target.Address]++
		a.end(now, time.Millisecond, answered, cause{})
	}
	return counts
}

func noKey(int) uint64 { return 0 }

// chiSquare is the distance of the counts from what the weights say. With k addresses it is about k-1 if calls fall at random.
func chiSquare(u *Upstream, counts map[string]int, weight func(*address) int) float64 {
	calls, weights, sum := 0, 0, 0.0
	for _, a := range u.addresses() {
		calls += counts[a.target.Address]
		weights += weight(a)
	}
	for _, a := range u.addresses() {
		want := float64(calls) * float64(weight(a)) / float64(weights)
		sum += math.Pow(float64(counts[a.target.Address])-want, 2) / want
	}
	return sum
}

func same(*address) int       { return 1 }
func weightOf(a *address) int { return a.target.Weight }
func targets(weights ...int) (list []fieldgate.Target) {
	for i, weight := range weights {
		list = append(list, fieldgate.Target{Address: fmt.Sprintf("http://10.0.0.%d:80", i+1), Weight: weight})
	}
	return list
}

// The algorithms spread calls as the weights say. In turn means exactly; at random means within a bound that one run in a million exceeds
// (chi-square with 9 degrees of freedom: 45).
func TestSpread(t *testing.T) {
	weights := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for _, test := range []struct {
		algorithm fieldgate.Algorithm
		weight    func(*address) int
		bound     float64
	}{
		{fieldgate.AlgorithmRoundRobin, same, 0},
		{fieldgate.AlgorithmWeighted, weightOf, 0.1},
		{fieldgate.AlgorithmLeastRequests, weightOf, 0.1}, // nothing under way: in turn
		{fieldgate.AlgorithmTwoChoices, weightOf, 45},     // nothing under way: at random
		{fieldgate.AlgorithmHash, weightOf, 45},           // without a key: at random
	} {
		u := newSet(t, fieldgate.Upstream{Algorithm: test.algorithm, Targets: targets(weights...)})
		n := 5500
		if test.algorithm == fieldgate.AlgorithmHash {
			n = 550 // few enough that the ring's unevenness does not show
		}
		counts := spread(u, time.Now(), n, noKey)
		if got := chiSquare(u, counts, test.weight); got > test.bound {
			t.Errorf("%s: chi-square %.1f, %v", test.algorithm, got, counts)
		}
	}
}

// Weighted calls are mixed: between two calls of an address lies no more than about twice its share of the others.
func TestWeightedIsSmooth(t *testing.T) {
	u := newSet(t, fieldgate.Upstream{Algorithm: fieldgate.AlgorithmWeighted, Targets: targets(5, 1, 1, 3)})
	last := make(map[*address]int)
	for i := range 10_000 {
		var tried tried
		a := u.choose(time.Now(), &Choice{}, &tried)
		share := 10.0 / float64(a.target.Weight)
		if before, ok := last[a]; ok && float64(i-before) > 2.7*share {
			t.Fatalf("an address of weight %d waited %d calls", a.target.Weight, i-before)
		}
		last[a] = i
	}
}

// With calls under way, least-requests and two-choices even them out.
func TestLoadIsEvenedOut(t *testing.T) {
	for _, test := range []struct {
		algorithm fieldgate.Algorithm
		most      int64
	}{
		{fieldgate.AlgorithmLeastRequests, 10},
		{fieldgate.AlgorithmTwoChoices, 14}, // mean + ln ln n / ln 2, and something (Mitzenmacher 2001)
		{fieldgate.AlgorithmPeakEWMA, 14},
	} {
		u := pretend(t, 100, fieldgate.Upstream{Algorithm: test.algorithm})
		now := time.Now()
		for _, a := range u.addresses() {
			a.latency.observe(sinceStart(now), time.Millisecond, false)
		}
		for range 1000 {
			var tried tried
			u.choose(now, &Choice{}, &tried).begin()
		}
		for _, a := range u.addresses() {
			if n := a.inFlight.Load(); n > test.most {
				t.Errorf("%s: %d calls under way on an address, the mean is 10", test.algorithm, n)
			}
		}
	}
	u := newSet(t, fieldgate.Upstream{Algorithm: fieldgate.AlgorithmLeastRequests, Targets: targets(1, 3)})
	for range 400 {
		var tried tried
		u.choose(time.Now(), &Choice{}, &tried).begin()
	}
	if a := u.addresses(); a[0].inFlight.Load() != 100 || a[1].inFlight.Load() != 300 {
		t.Errorf("weights 1 and 3: %d and %d under way", a[0].inFlight.Load(), a[1].inFlight.Load())
	}
}

// The slower an address, the fewer calls it gets; once it is quick again it gets its part.
func TestPeakEWMA(t *testing.T) {
	u := pretend(t, 3, fieldgate.Upstream{Algorithm: fieldgate.AlgorithmPeakEWMA})
	slow := u.addresses()[0]
	now := time.Now()
	calls := func(n int, slowly time.Duration) (part float64) {
		of := 0
		for range n {
			now = now.Add(10 * time.Millisecond)
			var tried tried
			a := u.choose(now, &Choice{}, &tried)
			a.begin()
			took := time.Millisecond
			if a == slow {
				of++
				took = slowly
			}
			a.end(now, took, answered, cause{})
		}
		return float64(of) / float64(n)
	}
	if part := calls(2000, 50*time.Millisecond); part > 0.05 {
		t.Errorf("fifty times slower, and it gets %.2f of the calls", part)
	}
	calls(3000, time.Millisecond)
	if part := calls(3000, time.Millisecond); part < 0.2 {
		t.Errorf("as quick as the others again, and it gets %.2f of the calls", part)
	}
	var l latency
	l.observe(0, 10*time.Millisecond, false)
	l.observe(int64(time.Second), time.Millisecond, true)
	if got := l.mean(int64(time.Second)); got < 8000 {
		t.Errorf("a quick failure made it look fast: %.0f µs", got)
	}
}

// Who reads the latency is told what was seen, and nothing once that is a minute old or more; what balances falls all the while.
func TestLatencyIsForgottenNotShrunk(t *testing.T) {
	var l latency
	if got := l.known(int64(time.Second)); got != 0 {
		t.Errorf("nothing was answered, and it takes %.0f µs", got)
	}
	l.observe(0, 10*time.Millisecond, false)
	for after, want := range map[time.Duration]float64{0: 10_000, 50 * time.Second: 10_000, 61 * time.Second: 0, 30 * 24 * time.Hour: 0} {
		if got := l.known(int64(after)); got != want {
			t.Errorf("after %v: got %.0f µs, want %.0f", after, got, want)
		}
	}
	if got := l.mean(int64(50 * time.Second)); got > 100 {
		t.Errorf("it is not tried again: %.0f µs", got)
	}
}

// Consistent hashing: a key has one address; when an address goes only its keys move, when it is back all are where they were.
func TestHashStability(t *testing.T) {
	const keys = 20_000
	config := fieldgate.Upstream{Algorithm: fieldgate.AlgorithmHash, HashLoad: 100, PanicPercent: -1}
	u := pretend(t, 10, config)
	now := time.Now()
	owners := func(u *Upstream, now time.Time) (list [keys]string) {
		for i := range list {
			var tried tried
			list[i] = u.choose(now, &Choice{Key: uint64(i + 1)}, &tried).target.Address
		}
		return list
	}
	moved := func(a, b [keys]string, gone string) (n int) {
		for i := range a {
			if a[i] != b[i] {
				n++
				if gone != "" && a[i] != gone {
					t.Fatalf("key %d moved from %s, which is still there", i, a[i])
				}
			}
		}
		return n
	}
	before := owners(u, now)
	gone := u.addresses()[3]
	gone.begin()
	gone.end(now, 0, unreachable, cause{})
	if n := moved(before, owners(u, now), gone.target.Address); n == 0 || n > keys/10*3/2 {
		t.Errorf("%d of %d keys moved when one of ten addresses failed", n, keys)
	}
	if n := moved(before, owners(u, now.Add(6*time.Second)), ""); n != 0 {
		t.Errorf("%d keys did not return", n)
	}
	// The same on another gateway, and with one address less in the configuration.
	fewer := pretend(t, 9, config)
	if n := moved(before, owners(fewer, now), u.addresses()[9].target.Address); n > keys/10*3/2 {
		t.Errorf("%d of %d keys moved when one of ten addresses was removed", n, keys)
	}
	counts := make(map[string]int)
	for _, owner := range before {
		counts[owner]++
	}
	for address, n := range counts {
		if n < keys/10*7/10 || n > keys/10*13/10 {
			t.Errorf("%s owns %d of %d keys", address, n, keys)
		}
	}
}

// Bounded loads (Mirrokni et al., 2016): no address has more than 1.25 times the mean, by weight, even if all calls have one key.
func TestHashLoadBound(t *testing.T) {
	u := newSet(t, fieldgate.Upstream{Algorithm: fieldgate.AlgorithmHash, Targets: targets(1, 1, 1, 1, 4)})
	for call := 1; call <= 800; call++ {
		var tried tried
		a := u.choose(time.Now(), &Choice{Key: uint64(call%3 + 1)}, &tried)
		a.begin()
		if most := math.Ceil(1.25 * float64(call) * float64(a.target.Weight) / 8); float64(a.inFlight.Load()) > most {
			t.Fatalf("call %d: %d under way on an address of weight %d, at most %.0f may be", call, a.inFlight.Load(), a.target.Weight, most)
		}
	}
}

func TestSticky(t *testing.T) {
	u := pretend(t, 5, fieldgate.Upstream{Sticky: fieldgate.Sticky{Cookie: "service", MaxAge: time.Hour, Secure: true}})
	now := time.Now()
	var first tried
	a := u.choose(now, &Choice{}, &first)
	cookie := (&Call{try: try{address: a}}).StickyCookie()
	value, rest, _ := strings.Cut(strings.TrimPrefix(cookie, "service="), "; ")
	if rest != "Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure" || len(value) != 32 {
		t.Errorf("Set-Cookie: %s", cookie)
	}
	choice := &Choice{Sticky: value}
	for range 20 {
		var tried tried
		if b := u.choose(now, choice, &tried); b != a || (&Call{try: try{address: b}, Choice: *choice}).StickyCookie() != "" {
			t.Fatal("the caller was sent elsewhere, or got the cookie again")
		}
	}
	a.begin()
	a.end(now, 0, unreachable, cause{})
	var next tried
	if b := u.choose(now, choice, &next); b == a || (&Call{try: try{address: b}, Choice: *choice}).StickyCookie() == "" {
		t.Error("the caller sticks to an address that is gone, or gets no new cookie")
	}
	var other tried
	if b := u.choose(now, &Choice{Sticky: "forged"}, &other); b == nil || (&Call{try: try{address: b}, Choice: Choice{Sticky: "forged"}}).StickyCookie() == "" {
		t.Error("a cookie that names nothing")
	}
	guessable := pretend(t, 5, fieldgate.Upstream{Sticky: fieldgate.Sticky{Cookie: "service", Secret: "s"}})
	if guessable.addresses()[0].cookieValue == u.addresses()[0].cookieValue {
		t.Error("the secret does not count")
	}
}

// Zones and priorities: which part of the calls each level gets, by how many of its addresses are healthy.
func TestFailover(t *testing.T) {
	type group struct {
		zone         string
		priority     int
		all, healthy int
	}
	for _, test := range []struct {
		name   string
		groups []group
		want   []float64
	}{
		{"all healthy: the own zone alone", []group{{"here", 0, 4, 4}, {"there", 0, 4, 4}, {"here", 1, 2, 2}}, []float64{1, 0, 0}},
		{"three of four are enough", []group{{"here", 0, 4, 3}, {"there", 0, 4, 4}}, []float64{1, 0}},
		{"half: 70 % stay", []group{{"here", 0, 4, 2}, {"there", 0, 4, 4}}, []float64{0.7, 0.3}},
		{"a quarter: 35 % stay", []group{{"here", 0, 4, 1}, {"there", 0, 4, 4}}, []float64{0.35, 0.65}},
		{"none: the other zone", []group{{"here", 0, 4, 0}, {"there", 0, 4, 4}}, []float64{0, 1}},
		{"the other zone before the next priority", []group{{"here", 1, 4, 4}, {"there", 0, 4, 4}}, []float64{0, 1}},
		{"three levels", []group{{"here", 0, 4, 1}, {"there", 0, 4, 1}, {"there", 1, 2, 2}}, []float64{0.35, 0.35, 0.3}},
		{"not enough in all: in proportion", []group{{"here", 0, 4, 1}, {"there", 0, 4, 1}}, []float64{0.5, 0.5}},
		{"none but the last: no panic, it has enough", []group{{"here", 0, 10, 0}, {"there", 1, 1, 1}}, []float64{0, 1}},
		{"fewer than 20 %: all", []group{{"here", 0, 5, 1}, {"there", 0, 5, 0}}, []float64{0.5, 0.5}},
		{"none: all", []group{{"here", 0, 4, 0}, {"there", 1, 4, 0}}, []float64{0.5, 0.5}},
	} {
		for _, algorithm := range []fieldgate.Algorithm{fieldgate.AlgorithmRoundRobin, fieldgate.AlgorithmHash} {
			config := fieldgate.Upstream{Zone: "here", Algorithm: algorithm, HashLoad: 100}
			for g, group := range test.groups {
				for i := range group.all {
					config.Targets = append(config.Targets, fieldgate.Target{Address: fmt.Sprintf("http://10.0.%d.%d:80", g, i), Zone: group.zone, Priority: group.priority})
				}
			}
			u := newSet(t, config)
			now := time.Now()
			number := make(map[*address]int)
			members := u.addresses()
			for g, group := range test.groups {
				for i := range group.all {
					number[members[i]] = g
					if i >= group.healthy {
						members[i].begin()
						members[i].end(now, 0, unreachable, cause{})
					}
				}
				members = members[group.all:]
			}
			got := make([]float64, len(test.groups))
			const calls = 20_000
			for i := range calls {
				var tried tried
				a := u.choose(now, &Choice{Key: uint64(i + 1)}, &tried)
				got[number[a]] += 1.0 / calls
			}
			for g := range got {
				bound := 0.02
				if u.pool.Load().panics {
					bound = 0.08 // the ring's own unevenness
				}
				if math.Abs(got[g]-test.want[g]) > bound {
					t.Errorf("%s, %s: got %.2f, want %.2f", test.name, algorithm, got, test.want)
					break
				}
			}
		}
	}
	never := pretend(t, 2, fieldgate.Upstream{PanicPercent: -1})
	for _, a := range never.addresses() {
		a.begin()
		a.end(time.Now(), 0, unreachable, cause{})
	}
	var tried tried
	if a := never.choose(time.Now(), &Choice{}, &tried); a != nil {
		t.Errorf("%s is used, and nothing is healthy", a.target.Address)
	}
}

// A call that failed goes to another address, at last to levels that otherwise get nothing.
func TestTriedAddressesAreLeftOut(t *testing.T) {
	for _, algorithm := range fieldgate.Algorithms {
		u := newSet(t, fieldgate.Upstream{Algorithm: algorithm, Targets: []fieldgate.Target{{Address: "http://a"}, {Address: "http://b"}, {Address: "http://c", Priority: 1}}})
		for range 50 {
			var tried tried
			seen := make(map[*address]bool)
			for i := range 3 {
				a := u.choose(time.Now(), &Choice{Key: 7}, &tried)
				if a == nil || seen[a] || (a.target.Priority == 1) != (i == 2) {
					t.Fatalf("%s: choice %d is %v", algorithm, i+1, a)
				}
				seen[a] = true
			}
			if u.choose(time.Now(), &Choice{}, &tried) != nil {
				t.Fatalf("%s: a fourth of three", algorithm)
			}
		}
	}
	u := pretend(t, 20, fieldgate.Upstream{})
	var tried tried
	for range maxTries {
		u.choose(time.Now(), &Choice{}, &tried)
	}
	if u.choose(time.Now(), &Choice{}, &tried) != nil {
		t.Error("one call uses more addresses than it may")
	}
}

// Slow start: the part of the calls grows from a tenth of the weight to the whole, by the clock that choose is given.
func TestSlowStart(t *testing.T) {
	for _, algorithm := range []fieldgate.Algorithm{fieldgate.AlgorithmRoundRobin, fieldgate.AlgorithmWeighted, fieldgate.AlgorithmLeastRequests} {
		u := newSet(t, fieldgate.Upstream{Algorithm: algorithm, SlowStart: 100 * time.Second, Targets: targets(1, 1)})
		now := time.Now()
		if counts := spread(u, now, 1000, noKey); counts["http://10.0.0.1:80"] != 500 {
			t.Errorf("%s: at the start nobody is ahead of anybody: %v", algorithm, counts)
		}
		a := u.addresses()[0]
		a.begin()
		a.end(now, 0, unreachable, cause{})
		back := now.Add(5 * time.Second)
		for _, step := range []struct {
			after time.Duration
			want  float64 // weight
		}{{0, 0.1}, {5 * time.Second, 0.1}, {25 * time.Second, 0.25}, {50 * time.Second, 0.5}, {90 * time.Second, 0.9}, {101 * time.Second, 1}} {
			counts := spread(u, back.Add(step.after), 2000, noKey)
			got, want := float64(counts["http://10.0.0.1:80"])/2000, step.want/(1+step.want)
			if math.Abs(got-want) > 0.02 {
				t.Errorf("%s, %v after it came back: %.3f of the calls, want %.3f", algorithm, step.after, got, want)
			}
		}
	}
}

// Choosing allocates nothing and takes no lock, whatever the algorithm.
func TestChooseAllocatesNothing(t *testing.T) {
	for _, algorithm := range fieldgate.Algorithms {
		u := pretend(t, 10, fieldgate.Upstream{Algorithm: algorithm, Sticky: fieldgate.Sticky{Cookie: "s"}, Zone: "z", CountServerErrors: true,
			Outlier: fieldgate.Outlier{FailurePercent: 100}, Circuit: fieldgate.Circuit{FailurePercent: 100}})
		u.shared.mu.Lock() // a choice that wanted it would hang
		now := time.Now()
		c := Choice{Key: 5, Sticky: u.members[3].cookieValue}
		if n := testing.AllocsPerRun(100, func() {
			var tried tried
			a := u.choose(now, &c, &tried)
			a.begin()
			a.end(now, time.Millisecond, answered, cause{})
			_ = (&Call{try: try{address: a}, Choice: c}).StickyCookie()
			c.Sticky = ""
		}); n != 0 {
			t.Errorf("%s: %v allocations", algorithm, n)
		}
		u.shared.mu.Unlock()
	}
}
