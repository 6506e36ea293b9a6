package mqtt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// matched gives the sorted "subscriber/filter" names that the tree finds.
func matched(tree *Tree[string], topic string) (names []string) {
	var m Matches[string]
	tree.Match([]byte(topic), &m)
	for _, s := range m.Subscriptions {
		names = append(names, s.Subscriber)
	}
	for _, g := range m.Groups {
		names = append(names, "group "+g.name)
	}
	slices.Sort(names)
	return names
}

func randomTopic(r *rand.Rand, words ...string) string {
	levels := make([]string, 1+r.IntN(4))
	for i := range levels {
		levels[i] = words[r.IntN(len(words))]
	}
	return strings.Join(levels, "/")
}

// The tree must find exactly what FilterMatches finds one by one, after any sequence of changes.
func TestTreeAgreesWithAModel(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		tree := NewTree[string]()
		model := map[[2]string]bool{}
		for step := range 600 {
			filter := randomTopic(r, "a", "b", "", "+", "$x", fmt.Sprint("n", r.IntN(30)))
			if r.IntN(3) == 0 {
				filter += "/#"
			}
			who := fmt.Sprint("s", r.IntN(40))
			key := [2]string{filter, who}
			if r.IntN(3) > 0 {
				if tree.Subscribe(&Subscription[string]{Filter: filter, Subscriber: who}) != model[key] {
					t.Fatalf("seed %d step %d: subscribe %q: wrong answer", seed, step, key)
				}
				model[key] = true
			} else {
				if tree.Unsubscribe(filter, who) != model[key] {
					t.Fatalf("seed %d step %d: unsubscribe %q: wrong answer", seed, step, key)
				}
				delete(model, key)
			}
			if tree.Len() != len(model) {
				t.Fatalf("seed %d step %d: %d subscriptions, want %d", seed, step, tree.Len(), len(model))
			}
			topic := randomTopic(r, "a", "b", "", "$x", fmt.Sprint("n", r.IntN(30)))
			var want []string
			for key := range model {
				if FilterMatches([]byte(key[0]), []byte(topic)) {
					want = append(want, key[1])
				}
			}
			slices.Sort(want)
			if got := matched(tree, topic); !slices.Equal(got, want) {
				t.Fatalf("seed %d step %d: %q matches %q, want %q", seed, step, topic, got, want)
			}
		}
		for key := range model {
			tree.Unsubscribe(key[0], key[1])
		}
		if !tree.root.empty() {
			t.Fatalf("seed %d: empty tree keeps nodes", seed)
		}
	}
}

func TestSharedSubscriptionsTakeTurns(t *testing.T) {
	tree := NewTree[string]()
	for _, who := range []string{"a", "b", "c"} {
		tree.Subscribe(&Subscription[string]{Filter: "$share/g/x/+", Subscriber: who})
	}
	tree.Subscribe(&Subscription[string]{Filter: "x/1", Subscriber: "plain"})
	if got := matched(tree, "x/1"); !slices.Equal(got, []string{"group g", "plain"}) {
		t.Fatalf("matched %q", got)
	}
	var m Matches[string]
	tree.Match([]byte("x/1"), &m)
	counts := map[string]int{}
	for range 30 {
		counts[m.Groups[0].Pick(func(who string) bool { return who != "b" }).Subscriber]++
	}
	if counts["b"] != 0 || counts["a"]+counts["c"] != 30 || counts["a"] == 0 || counts["c"] == 0 {
		t.Fatalf("turns %v", counts)
	}
	if s := m.Groups[0].Pick(func(string) bool { return false }); s == nil {
		t.Fatal("no fallback when nobody is usable")
	}
	for _, who := range []string{"a", "b", "c"} {
		if !tree.Unsubscribe("$share/g/x/+", who) {
			t.Fatal("not subscribed")
		}
	}
	if tree.Unsubscribe("$share/g/x/+", "a") || len(matched(tree, "x/2")) != 0 {
		t.Fatal("the group outlived its members")
	}
}

// Publishers match while subscribers come and go; one that stays must always be found. Meant for the race detector.
func TestMatchDuringChanges(t *testing.T) {
	tree := NewTree[string]()
	tree.Subscribe(&Subscription[string]{Filter: "d/+/t", Subscriber: "stays"})
	stop := make(chan struct{})
	var writers, readers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 3))
			for range 20_000 {
				filter := fmt.Sprintf("d/%d/t", r.IntN(50))
				who := fmt.Sprint(w, "-", r.IntN(20))
				if r.IntN(2) == 0 {
					tree.Subscribe(&Subscription[string]{Filter: filter, Subscriber: who})
				} else {
					tree.Unsubscribe(filter, who)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			var m Matches[string]
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				tree.Match(fmt.Appendf(nil, "d/%d/t", i%50), &m)
				if !slices.ContainsFunc(m.Subscriptions, func(s *Subscription[string]) bool { return s.Subscriber == "stays" }) {
					t.Error("lost the subscription that stays")
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}
