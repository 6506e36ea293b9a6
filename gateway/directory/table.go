package directory

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const (
	chunkEntries = 1 << 12
	chunkLimit   = 1 << 14 // 67 million entries
)

// chunked is a growing array whose entries never move, so that readers need no lock: an entry is written before anything
// refers to it. Entries are numbered from 1.
type chunked[T any] struct {
	chunks []atomic.Pointer[[chunkEntries]T]
	used   atomic.Uint32
}

func (a *chunked[T]) init() { a.chunks = make([]atomic.Pointer[[chunkEntries]T], chunkLimit) }

func (a *chunked[T]) length() uint32 { return a.used.Load() }

// add makes an entry; only the writer calls it.
func (a *chunked[T]) add() uint32 {
	n := a.used.Load() + 1
	if chunk := &a.chunks[n/chunkEntries]; chunk.Load() == nil {
		chunk.Store(new([chunkEntries]T))
	}
	a.used.Store(n)
	return n
}

func (a *chunked[T]) at(n uint32) *T { return &a.chunks[n/chunkEntries].Load()[n%chunkEntries] }

// index finds entries by a 64-bit key: an open-addressing table whose slots hold 32 bits of the key and the entry's number.
// Slots are never emptied; entries that no longer count are told apart by the caller.
type index struct {
	slots atomic.Pointer[[]atomic.Uint64]
	used  int
}

func (x *index) reset(size int) {
	slots := make([]atomic.Uint64, size)
	x.slots.Store(&slots)
}

type probe struct {
	slots []atomic.Uint64
	at    uint64
}

func (x *index) start(key uint64) probe {
	slots := *x.slots.Load()
	return probe{slots, spread(key) & uint64(len(slots)-1)}
}

// next is the number of the next entry whose key may be this one.
func (x *index) next(p *probe, key uint64) (number uint32, more bool) {
	fingerprint := spread(key) >> 32
	for {
		slot := p.slots[p.at].Load()
		if slot == 0 {
			return 0, false
		}
		p.at = (p.at + 1) & uint64(len(p.slots)-1)
		if slot>>32 == fingerprint {
			return uint32(slot), true
		}
	}
}

// insert adds an entry; keyOf gives the keys of those already there, when the table has to grow. Only the writer calls it.
func (x *index) insert(key uint64, number uint32, keyOf func(uint32) uint64) {
	slots := *x.slots.Load()
	if 4*(x.used+1) > 3*len(slots) {
		larger := make([]atomic.Uint64, 2*len(slots))
		for i := range slots {
			if slot := slots[i].Load(); slot != 0 {
				place(larger, keyOf(uint32(slot)), uint32(slot))
			}
		}
		x.slots.Store(&larger)
		slots = larger
	}
	place(slots, key, number)
	x.used++
}

func place(slots []atomic.Uint64, key uint64, number uint32) {
	key = spread(key)
	at := key & uint64(len(slots)-1)
	for slots[at].Load() != 0 {
		at = (at + 1) & uint64(len(slots)-1)
	}
	slots[at].Store(key>>32<<32 | uint64(number))
}

// spread mixes the bits of a key (the finaliser of SplitMix64), so that slot and fingerprint depend on all of them.
func spread(key uint64) uint64 {
	key ^= key >> 30
	key *= 0xbf58476d1ce4e5b9
	key ^= key >> 27
	key *= 0x94d049bb133111eb
	return key ^ key>>31
}

var nameSeed = maphash.MakeSeed()

func nameHash(kind kind, id string) uint64 {
	h := maphash.String(nameSeed, id)
	if kind == kindApp {
		h = ^h
	}
	return h
}

// words numbers the few distinct texts that many principals share. Number 0 is the empty text.
type words struct {
	mu      sync.Mutex
	numbers map[string]uint32
	texts   atomic.Pointer[[]string]
}

func (w *words) init() {
	w.numbers = map[string]uint32{"": 0}
	w.texts.Store(&[]string{""})
}

func (w *words) number(text string) uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, ok := w.numbers[text]
	if !ok {
		texts := *w.texts.Load()
		n = uint32(len(texts))
		w.numbers[text] = n
		// Readers hold slices that end before the new text, so that appending in place is safe.
		texts = append(texts, text)
		w.texts.Store(&texts)
	}
	return n
}

func (w *words) text(number uint32) string { return (*w.texts.Load())[number] }
