package coap

import (
	"math/rand/v2"
	"testing"
)

// A table holds what a map would, through growing and in any order of insertion and removal.
func TestTable(t *testing.T) {
	type entry struct {
		key  uint64
		next *entry
	}
	all := newTable(func(e *entry) **entry { return &e.next }, func(e *entry) uint64 { return e.key % 1000 }) // some collide
	find := func(key uint64) *entry {
		for e := *all.bucket(key % 1000); e != nil; e = e.next {
			if e.key == key {
				return e
			}
		}
		return nil
	}
	random := rand.New(rand.NewPCG(1, 2))
	want := map[uint64]*entry{}
	for range 20_000 {
		key := random.Uint64N(3000)
		if e := want[key]; e != nil {
			all.remove(e)
			delete(want, key)
		} else {
			want[key] = &entry{key: key}
			all.insert(want[key])
		}
		if probe := random.Uint64N(3000); find(probe) != want[probe] {
			t.Fatalf("the entry of %d is %v, want %v", probe, find(probe), want[probe])
		}
	}
	if all.count != len(want) {
		t.Errorf("%d entries, want %d", all.count, len(want))
	}
}
