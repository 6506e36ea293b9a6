package insight

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestLatencyQuantiles: quantiles are within latencyError of the exact ones, also of sums that were stored in between.
func TestLatencyQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, sample := range map[string]func() time.Duration{
		"exponential": func() time.Duration { return time.Duration(random.ExpFloat64() * float64(20*time.Millisecond)) },
		"wide": func() time.Duration {
			return time.Duration(math.Exp(random.Float64()*math.Log(float64(maxLatency/time.Microsecond)))) * time.Microsecond
		},
		"one": func() time.Duration { return 1234 * time.Microsecond },
	} {
		var exact []time.Duration
		var sum latency
		for range 20 {
			var part latency
			for range 500 {
				d := max(sample(), time.Microsecond)
				exact = append(exact, d)
				part.add(binOf(d), 1)
			}
			if err := sum.mergeEncoded(part.appendTo(nil)); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(exact)
		var got [3]time.Duration
		sum.quantiles(&got[0], &got[1], &got[2])
		for i, share := range []float64{0.5, 0.9, 0.99} {
			want := exact[int(share*float64(len(exact)-1))]
			if off := math.Abs(float64(got[i]-want)) / float64(want); off > latencyError+1e-9 && got[i]-want != 0 && want > 10*time.Microsecond {
				t.Errorf("%s: quantile %v is %v, not %v", name, share, got[i], want)
			}
		}
	}
}

func TestLatencyBounds(t *testing.T) {
	var l latency
	for _, d := range []time.Duration{-1, 0, 1, time.Microsecond, maxLatency, 1 << 62} {
		l.add(binOf(d), 1)
	}
	var p50, p90, p99 time.Duration
	l.quantiles(&p50, &p90, &p99)
	if l.total != 6 || p50 < 900*time.Nanosecond || p50 > 1100*time.Nanosecond || p99 < maxLatency*99/100 || p99 > maxLatency*101/100 {
		t.Errorf("%v %v %v", p50, p90, p99)
	}
	var none latency
	if err := none.mergeEncoded(nil); err != nil || len(none.appendTo(nil)) != 0 {
		t.Error("nothing is something")
	}
}

func FuzzLatency(f *testing.F) {
	f.Add([]byte{3, 1, 200, 1, 7})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		var l, again latency
		if l.mergeEncoded(encoded) != nil {
			return
		}
		if err := again.mergeEncoded(l.appendTo(nil)); err != nil || again.total != l.total {
			t.Fatalf("%d %d %v", l.total, again.total, err)
		}
	})
}

// appendTo encodes latencies that nothing was stored of before.
func (l *latency) appendTo(dst []byte) []byte {
	dst, _ = l.appendMerged(dst, nil) // only what is stored can be damaged
	return dst
}
