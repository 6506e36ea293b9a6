package coap

// table is a hash table of values that hold what it needs of them, as lists do: an entry takes no memory of its own.
type table[T any] struct {
	buckets []*T // a power of two
	shift   uint8
	count   int
	next    func(*T) **T // of the same bucket
	hash    func(*T) uint64
}

const firstBuckets = 4 // in bits

func newTable[T any](next func(*T) **T, hash func(*T) uint64) table[T] {
	return table[T]{buckets: make([]*T, 1<<firstBuckets), shift: 64 - firstBuckets, next: next, hash: hash}
}

// bucket begins the values among which those with that hash are.
func (t *table[T]) bucket(hash uint64) **T {
	return &t.buckets[hash*0x9e3779b97f4a7c15>>t.shift] // Fibonacci hashing: hashes may differ in any of their bits
}

func (t *table[T]) insert(v *T) {
	if t.count == len(t.buckets) {
		t.grow()
	}
	t.count++
	at := t.bucket(t.hash(v))
	*t.next(v), *at = *at, v
}

// remove takes out v, which must be in the table.
func (t *table[T]) remove(v *T) {
	t.count--
	at := t.bucket(t.hash(v))
	for *at != v {
		at = t.next(*at)
	}
	*at, *t.next(v) = *t.next(v), nil
}

func (t *table[T]) grow() {
	old := t.buckets
	t.buckets = make([]*T, 2*len(old))
	t.shift--
	for _, v := range old {
		for v != nil {
			following := *t.next(v)
			at := t.bucket(t.hash(v))
			*t.next(v), *at = *at, v
			v = following
		}
	}
}
