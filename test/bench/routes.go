package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// document is a contract with routes of an upstream, /NAME/0/{id} and so on.
func document(name, version string, routes int) string {
	var text strings.Builder
	fmt.Fprintf(&text, "openapi: 3.1.0\ninfo: {title: '%s', version: %s}\nx-fieldgate: {upstreams: {origin: {ref: env/origin}}, upstream: origin}\npaths:\n", name, version)
	for i := range routes {
		fmt.Fprintf(&text, "  /%s/%d/{id}:\n    get: {operationId: get%[2]d, security: [], parameters: [{name: id, in: path, required: true, schema: {type: string}}], responses: {'200': {description: ok}}}\n", name, i)
	}
	return text.String()
}

// routes compares a gateway of 10 routes with one of 10,000.
func (b *bench) routes() error {
	const contracts, each = 10, 1000
	origin, err := b.origin()
	if err != nil {
		return err
	}
	few, err := b.node("few", origin)
	if err != nil {
		return err
	}
	if err := few.publish(document("routes0", "1.0.0", 10)); err != nil {
		return err
	}
	many, err := b.node("many", origin)
	if err != nil {
		return err
	}
	for i := range contracts {
		if err := many.publish(document(fmt.Sprint("routes", i), "1.0.0", each)); err != nil {
			return err
		}
	}
	ten, err := b.script("ten", cycle(1, 10))
	if err != nil {
		return err
	}
	all, err := b.script("all", cycle(contracts, each))
	if err != nil {
		return err
	}
	group := []*candidate{
		{name: "10 routes", script: ten, url: "http://" + few.http, pid: few.process.Process.Pid},
		{name: "10,000 routes, 10 of them asked for", script: ten, url: "http://" + many.http, pid: many.process.Process.Pid},
		{name: "10,000 routes, all in turn", script: all, url: "http://" + many.http, pid: many.process.Process.Pid},
	}
	for range b.rounds {
		if err := b.round(group); err != nil {
			return err
		}
	}
	fmt.Println("| plain GET of a contract | CPU µs per request | × 10 routes in the same round |\n|---|---|---|")
	for _, c := range group {
		fmt.Printf("| %s | %.1f | **%.2f** |\n", c.name, median(c.loads, micros), median(c.loads, ratio))
	}
	return nil
}

// cycle makes wrk ask for one route after the other.
func cycle(contracts, each int) string {
	return fmt.Sprintf(`local requests, i = {}, 0
function init()
  for c = 0, %d do for r = 0, %d do requests[#requests + 1] = wrk.format('GET', '/routes' .. c .. '/' .. r .. '/x') end end
end
function request()
  i = (i + 7919) %% #requests
  return requests[i + 1]
end
`, contracts-1, each-1)
}

// reload publishes 1,000 contracts, and then a new version of each, while somebody asks for one of another API; and starts with all of them.
func (b *bench) reload() error {
	const contracts, publishers = 1000, 16
	origin, err := b.origin()
	if err != nil {
		return err
	}
	n, _, err := b.gateway("reload", origin)
	if err != nil {
		return err
	}
	request := "GET /plain/x HTTP/1.1\r\nHost: a\r\n\r\n"
	const rate, connections = 500, 8
	quiet, err := pace(n.http, request, connections, rate, b.duration)
	if err != nil {
		return err
	}
	fmt.Printf("| 1,000 contracts of 2 routes, while %d requests a second go through another | until all are in force | worst request, p99 in ms |\n|---|---|---|\n", rate)
	fmt.Printf("| nothing is published | | %s, %s |\n", milliseconds(quiet[len(quiet)-1]), milliseconds(share(quiet, 0.99)))
	for _, version := range []string{"1.0.0", "1.1.0"} {
		var took time.Duration
		var failure error
		var busy []time.Duration
		var published atomic.Bool
		var both sync.WaitGroup
		both.Go(func() {
			for failure == nil && !published.Load() {
				var more []time.Duration
				more, failure = pace(n.http, request, connections, rate, 500*time.Millisecond)
				busy = append(busy, more...)
			}
		})
		took, err = n.publishAll(contracts, publishers, version)
		published.Store(true)
		both.Wait()
		if err != nil {
			return err
		}
		if failure != nil {
			return failure
		}
		slices.Sort(busy)
		what := map[string]string{"1.0.0": "new", "1.1.0": "a new version of each"}[version]
		fmt.Printf("| %s, by %d publishers | %v | %s, %s |\n", what, publishers, took.Round(10*time.Millisecond), milliseconds(busy[len(busy)-1]), milliseconds(share(busy, 0.99)))
	}
	start, err := b.restart(n, fmt.Sprintf("/many%d/1/x", contracts-1), 200)
	if err != nil {
		return err
	}
	fmt.Printf("| start of the process with all of them, until one answers | %v | |\n", start.Round(time.Millisecond))
	return nil
}

// publishAll publishes contracts, several at a time, and takes the time until the gateway answers by all of them.
func (n *node) publishAll(contracts, publishers int, version string) (time.Duration, error) {
	began := time.Now()
	var next atomic.Int64
	errs := make([]error, publishers)
	var all sync.WaitGroup
	for p := range publishers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < contracts && errs[p] == nil; i = int(next.Add(1)) - 1 {
				errs[p] = n.publish(document(fmt.Sprint("many", i), version, 2))
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	for i := range contracts {
		if err := n.await(fmt.Sprintf("/many%d/1/x", i), 200); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}
