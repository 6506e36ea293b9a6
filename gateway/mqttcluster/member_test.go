package mqttcluster

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"fieldgate"
)

func (n *node) waitForMembers(want string) {
	n.t.Helper()
	wait(n.t, n.config.Node+" to know "+want, func() bool { return fmt.Sprint(n.Members()) == want })
}

// Nodes know each other as soon as they have started, and notice who takes leave, who is cut off, and who starts again.
func TestMembers(t *testing.T) {
	url := server(t).URLs()
	a, b := start(t, url, "a", 1), start(t, url, "b.b", 1)
	told := make(chan string, 100)
	c := New(Config{Node: "c", Incarnation: 5, Bus: a.config.Bus, Logger: slog.New(slog.DiscardHandler)})
	c.Watch(func(members []Member) { told <- fmt.Sprint(members) })
	c.Attach(new(ear))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go c.Run(ctx)
	waitFor := func(want string) {
		t.Helper()
		a.waitForMembers(want)
		for got := range told {
			if got == want {
				return
			}
		}
	}
	waitFor("[{a 1} {b.b 1} {c 5}]")
	b.waitForMembers("[{a 1} {b.b 1} {c 5}]")
	b.stop()
	waitFor("[{a 1} {c 5}]")
	b = start(t, url, "b.b", 2)
	waitFor("[{a 1} {b.b 2} {c 5}]")
	b.kill()
	waitFor("[{a 1} {c 5}]")
	start(t, url, "b.b", 3)
	waitFor("[{a 1} {b.b 3} {c 5}]")
}

// A node that says whatever it likes, in as many names as it likes, takes a bounded amount of memory.
func TestMembersAreBounded(t *testing.T) {
	a := New(Config{Node: "a", Incarnation: 1, Logger: slog.New(slog.DiscardHandler)})
	a.Attach(new(ear))
	hello := append(appendHead(nil, alive, 1, 0), 0)
	say := func(name string, packet []byte) { a.hearAll(fieldgate.SubjectMQTTNodes+token(name), packet) }
	for i := range 3 * maxMembers {
		say(fmt.Sprint("n", i), hello)
	}
	if n := len(a.Members()); n != maxMembers+1 {
		t.Errorf("%d members", n)
	}
	for range maxMissed {
		a.examine()
	}
	if n := len(a.Members()); n != 1 {
		t.Errorf("%d members that nobody has heard", n)
	}
	say("late", hello) // the dead give way
	say("n1", hello)   // unless they were only cut off
	for _, packet := range [][]byte{nil, {9, 9}, appendHead(nil, 99, 1, 0)} {
		say("late", packet)
	}
	say("no name", hello)
	if n := a.Counters.Malformed.Load(); n != 4 {
		t.Errorf("%d malformed packets, not 4", n)
	}
	say("late", appendHead(nil, leaving, 1, 0))
	say("late", hello) // it was sent before
	for _, m := range a.Members() {
		if m.Node == "late" {
			t.Error("a node that has left is there again")
		}
	}
	for range maxForgotten {
		a.examine()
	}
	a.dropping.Wait()
	if len(a.peers) != 0 {
		t.Errorf("%d nodes are remembered for ever", len(a.peers))
	}
}
