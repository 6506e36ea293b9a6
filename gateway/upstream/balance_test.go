package upstream

import (
	"fmt"
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
					a.end(now, time.Millisecond, answered)
				}
			})
		}
	}
}
