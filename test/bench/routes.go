//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// document is a contract with routes of an upstream, /NAME/0/{id} and so on.
func document(name string, routes int) string {
	var text strings.Builder
	fmt.Fprintf(&text, "openapi: 3.1.0\ninfo: {title: '%s', version: 1.0.0}\nx-fieldgate: {upstreams: {origin: {ref: env/origin}}, upstream: origin}\npaths:\n", name)
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
	if err := few.publish(document("routes0", 10)); err != nil {
		return err
	}
	many, err := b.node("many", origin)
	if err != nil {
		return err
	}
	for i := range contracts {
		if err := many.publish(document(fmt.Sprint("routes", i), each)); err != nil {
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

// reload publishes 1,000 contracts, and then one more, while somebody asks for one of another API; and starts with all of them.
func (b *bench) reload() error {
	const contracts, publishers = 1000, 4
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
	fmt.Printf("| while %d requests a second go through another contract | until it is in force | worst request, p99 in ms |\n|---|---|---|\n", rate)
	for _, step := range []struct {
		what string
		do   func() (time.Duration, error)
	}{
		{"nothing is published", func() (time.Duration, error) { time.Sleep(b.duration); return 0, nil }},
		{"1,000 contracts are published one by one", func() (time.Duration, error) { return n.publishAll(0, contracts, publishers) }},
		{"1,000 are replaced at once", func() (time.Duration, error) { return n.replaceAll(contracts) }},
		{"one more is published", func() (time.Duration, error) { return n.publishAll(contracts, contracts+1, 1) }},
	} {
		var took time.Duration
		var failure, paceFailure error
		var latencies []time.Duration
		var published atomic.Bool
		var asking sync.WaitGroup
		asking.Go(func() {
			for paceFailure == nil && !published.Load() {
				var more []time.Duration
				more, paceFailure = pace(n.http, request, connections, rate, 500*time.Millisecond)
				latencies = append(latencies, more...)
			}
		})
		took, failure = step.do()
		published.Store(true)
		asking.Wait()
		if err := errors.Join(failure, paceFailure); err != nil {
			return err
		}
		slices.Sort(latencies)
		fmt.Printf("| %s | %v | %s, %s |\n", step.what, took.Round(time.Millisecond), milliseconds(latencies[len(latencies)-1]), milliseconds(share(latencies, 0.99)))
	}
	start, err := b.restart(n, fmt.Sprintf("/many%d/1/x", contracts), 200)
	if err != nil {
		return err
	}
	fmt.Printf("| the process starts with all of them | %v | |\n", start.Round(time.Millisecond))
	return nil
}

// replaceAll gives each of the contracts a third route, with one request, and takes the time until the gateway answers by all of them.
func (n *node) replaceAll(contracts int) (time.Duration, error) {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for i := range contracts {
		name := fmt.Sprint("many", i)
		if err := encoder.Encode(map[string]string{"name": name, "document": document(name, 3)}); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	if err := n.post("/api/v1/imports/apis", "application/x-ndjson", lines.Bytes()); err != nil {
		return 0, err
	}
	for i := range contracts {
		if err := n.await(fmt.Sprintf("/many%d/2/x", i), 200); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// publishAll publishes contracts of two routes, several at a time, and takes the time until the gateway answers by all of them.
func (n *node) publishAll(first, end, publishers int) (time.Duration, error) {
	began := time.Now()
	next, errs := atomic.Int64{}, make([]error, publishers)
	next.Store(int64(first))
	var all sync.WaitGroup
	for p := range publishers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < end && errs[p] == nil; i = int(next.Add(1)) - 1 {
				errs[p] = n.publish(document(fmt.Sprint("many", i), 2))
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	for i := first; i < end; i++ {
		if err := n.await(fmt.Sprintf("/many%d/1/x", i), 200); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}
