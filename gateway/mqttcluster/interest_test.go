package mqttcluster

import (
	"fmt"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"fieldgate/gateway/broker"
)

// Others know the first subscriber of a filter and the last one, whenever they start, and whatever got lost.
func TestInterest(t *testing.T) {
	url := server(t).URLs()
	a, b := start(t, url, "a", 1), start(t, url, "b", 1)
	b.hear([]*node{a}, "d/+/t", "d/+/t", "x/#")
	topics := func(at *node) (hit int) {
		for _, topic := range []string{"d/1/t", "x", "y"} {
			if at.tree.Len() > 0 {
				found := at.matches.New().(*matching)
				at.tree.Match([]byte(topic), &found.Matches)
				hit += len(found.Subscriptions)
			}
		}
		return hit
	}
	if n := topics(a); n != 2 {
		t.Errorf("%d of two filters are known", n)
	}
	b.Change("d/+/t", Everything, Nothing) // one subscriber is left
	b.Change("x/#", Everything, Nothing)
	wait(t, "the last subscriber to end", func() bool { return a.knows(b) && a.tree.Len() == 1 })

	// More than one part holds, while changes go on.
	for i := range 40_000 {
		b.Change(fmt.Sprintf("device/%d/commands", i), Nothing, Everything)
	}
	late := start(t, url, "late", 1)
	for i := range 10_000 {
		b.Change(fmt.Sprintf("device/%d/commands", i), Everything, Nothing)
	}
	for _, n := range []*node{a, late} {
		wait(t, n.config.Node+" to know all", func() bool { return n.knows(b) && n.tree.Len() == 30_001 })
	}

	// A change that was lost is noticed.
	a.mu.Lock()
	view := a.peers["b"].follow.view
	a.apply(view, "device/20000/commands", Nothing)
	a.peers["b"].follow.sequence--
	a.mu.Unlock()
	wait(t, "the interest to be asked for again", func() bool { return a.knows(b) && a.tree.Len() == 30_001 })

	// Who is gone wants nothing.
	b.kill()
	wait(t, "nobody to be interested", func() bool { return a.tree.Len() == 0 && late.tree.Len() == 0 })
}

// Of a node that wants more than is kept, everything is wanted.
func TestInterestIsBounded(t *testing.T) {
	a := New(Config{Node: "a", Incarnation: 1})
	p := &peer{Member: Member{"b", 1}}
	v := a.newView(p)
	for i := range maxFilters + 10 {
		v.filters[strconv.Itoa(i)] = Everything // as apply would have, sooner
	}
	a.apply(v, "more", Everything)
	a.apply(v, "even/more", QoS0)
	if a.tree.Len() != 1 || len(v.filters) != maxFilters+10 {
		t.Errorf("%d filters in the tree, %d kept", a.tree.Len(), len(v.filters))
	}
	m := &broker.Message{Topic: "whatever"}
	found := a.matches.New().(*matching)
	a.tree.Match([]byte(m.Topic), &found.Matches)
	if a.address(m, found); len(found.receivers) != 1 {
		t.Error("it does not get everything")
	}
	v.filters = nil
	a.drop(v)
	a.dropping.Wait()
	if a.tree.Len() != 0 {
		t.Error("it still gets everything")
	}
}

// Three nodes on a real server: subscriptions that come and go on one, until the two others have applied all. The processor time includes
// all three nodes, but not the server.
func BenchmarkSubscriptionChanges(b *testing.B) {
	url := server(b).URLs()
	nodes := []*node{start(b, url, "a", 1), start(b, url, "b", 1), start(b, url, "c", 1)}
	for i, n := range nodes {
		n.hear(append(nodes[:i:i], nodes[i+1:]...), "here")
	}
	filters := make([]string, 10_000)
	for i := range filters {
		filters[i] = fmt.Sprintf("device/%06d/commands", i)
	}
	changes := 0
	began, used := time.Now(), processorTime(b)
	for b.Loop() {
		for i, n := range nodes {
			n.Change(filters[changes/2%len(filters)]+"/"+fmt.Sprint(i), Nothing, Everything)
			n.Change(filters[(changes/2+5000)%len(filters)]+"/"+fmt.Sprint(i), Everything, Nothing)
		}
		changes += 2
		if changes%100 == 0 {
			runtime.Gosched()
		}
	}
	for i, n := range nodes {
		for _, other := range append(nodes[:i:i], nodes[i+1:]...) {
			wait(b, "all changes", func() bool { return other.knows(n) })
		}
	}
	b.ReportMetric(float64(3*changes)/time.Since(began).Seconds(), "changes/s")
	b.ReportMetric(float64((processorTime(b)-used).Nanoseconds())/float64(3*changes), "cpu-ns/change")
}

func processorTime(tb testing.TB) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
