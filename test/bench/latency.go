//go:build linux

package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// paced is one measurement at a constant rate.
type paced struct {
	saturation, rate float64
	p50, p99         time.Duration
	ratio            float64 // of p99 to nginx in the same round
}

// latency measures at 70 % of what each server answers when it is asked as fast as it can, in turn.
func (b *bench) latency() error {
	origin, err := b.origin()
	if err != nil {
		return err
	}
	nginx, err := b.nginxProxy(origin)
	if err != nil {
		return err
	}
	n, _, err := b.gateway("latency", origin)
	if err != nil {
		return err
	}
	const connections = 64
	servers := []server{nginx, {"Fieldgate", n.http, n.process.Process.Pid}}
	found := make([][]paced, len(servers))
	for round := range b.rounds {
		for i, s := range servers {
			request := "GET /plain/x HTTP/1.1\r\nHost: " + s.address + "\r\n\r\n"
			fast, err := pace(s.address, request, connections, 0, b.duration/2)
			if err != nil {
				return err
			}
			p := paced{saturation: float64(len(fast)) / (b.duration / 2).Seconds()}
			p.rate = 0.7 * p.saturation
			slow, err := pace(s.address, request, connections, p.rate, b.duration)
			if err != nil {
				return err
			}
			p.p50, p.p99 = share(slow, 0.5), share(slow, 0.99)
			found[i] = append(found[i], p)
			found[i][round].ratio = p.p99.Seconds() / found[0][round].p99.Seconds()
		}
	}
	fmt.Println("| plain GET at 70 % of saturation, open loop | saturation, requests/s | rate | p50 in ms | p99 in ms | p99 × nginx in the same round: median (least … most) |\n|---|---|---|---|---|---|")
	for i, s := range servers {
		byRatio := func(a, b paced) int { return cmp.Compare(a.ratio, b.ratio) }
		fmt.Printf("| %s | %.0f | %.0f | %s | %s | **%.2f** (%.2f … %.2f) |\n", s.name, median(found[i], func(p paced) float64 { return p.saturation }),
			median(found[i], func(p paced) float64 { return p.rate }), milliseconds(median(found[i], func(p paced) time.Duration { return p.p50 })),
			milliseconds(median(found[i], func(p paced) time.Duration { return p.p99 })), median(found[i], func(p paced) float64 { return p.ratio }),
			slices.MinFunc(found[i], byRatio).ratio, slices.MaxFunc(found[i], byRatio).ratio)
	}
	return nil
}
