package schema

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"strconv"
	"sync"
)

type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
	kindBytes // CBOR byte string that no schema has yet called a text
	kindEpoch // CBOR tag 1 that no schema has yet called a date-time
	kindFile  // content of a part of a form that its schema calls opaque: a string of which only the type counts
)

const (
	inArena    = 1 << iota // text lies in the arena, not in the source
	ascii                  // string without a byte above 0x7f
	longNumber             // number that does not fit val × 10^exp: its text counts
	numericKey             // CBOR integer used as a key; text is its decimal form
	absent                 // key of a member that a Reduction has taken out
)

// value is one JSON value (or object key) of a document, in document order.
// A container is followed by its children; an object's children alternate key, value.
type value struct {
	kind  kind
	flags uint8
	exp   int16  // number: val × 10^exp
	next  uint32 // index after this value and all below it
	start uint32 // text: string content without quotes or escapes, number literal, container's bytes
	end   uint32
	val   int64 // number: mantissa; bool: 0 or 1; key: keyHash; container: number of members
}

// document is a parsed payload: a flat list of values that point into the source.
// JSON and CBOR are both read into this form, so one validator serves both, and a
// branch of anyOf looks at a value again without tokenizing again.
// All memory is kept and reused.
type document struct {
	src       []byte
	arena     []byte // texts that differ from the source: unescaped, joined, rendered
	values    []value
	keyHashes []uint64 // keys of the objects that are open, first few each
	table     []uint32 // scratch of hash sets
	limits    limits
	project   bool // holds a numericKey, kindBytes or kindEpoch
	violation *Violation
}

type limits struct {
	bytes, depth, values int
}

// Documents larger than this are not kept in the pool.
const (
	maxPooledValues = 1 << 14
	maxPooledArena  = 1 << 18
)

var documents = sync.Pool{New: func() any { return new(document) }}

func newDocument(l limits) *document {
	d := documents.Get().(*document)
	d.limits = l
	return d
}

func (d *document) free() {
	if cap(d.values) > maxPooledValues || cap(d.arena) > maxPooledArena || cap(d.table) > 4*maxPooledValues {
		return
	}
	d.src = nil
	d.arena, d.values, d.keyHashes = d.arena[:0], d.values[:0], d.keyHashes[:0]
	d.project, d.violation = false, nil
	documents.Put(d)
}

func (d *document) text(v *value) []byte {
	if v.flags&inArena != 0 {
		return d.arena[v.start:v.end]
	}
	return d.src[v.start:v.end]
}

// fail records the violation and returns -1, the position that stops every reader.
func (d *document) fail(k Kind, pos int, message string) int {
	if d.violation == nil {
		d.violation = &Violation{Kind: k, Message: message, Offset: pos}
	}
	return -1
}

// add appends a value; -1 if there are too many.
func (d *document) add(v value) int {
	i := len(d.values)
	if i >= d.limits.values {
		return d.tooMany(int(v.start))
	}
	if i == cap(d.values) {
		d.values = append(d.values, value{})
	} else {
		d.values = d.values[:i+1]
	}
	// Field by field: copying a struct just put together waits for its stores.
	p := &d.values[i]
	p.kind, p.flags, p.exp, p.next = v.kind, v.flags, v.exp, uint32(i)+1
	p.start, p.end, p.val = v.start, v.end, v.val
	return i
}

func (d *document) tooMany(pos int) int {
	return d.fail(TooLarge, pos, "more than "+strconv.Itoa(d.limits.values)+" values")
}

// keyHash is fast and good enough to find a declared property. It is not seeded:
// where an attacker could profit from collisions, hashText is used instead.
func keyHash(name []byte) uint64 {
	const k0, k1 = 0x9e3779b97f4a7c15, 0xd6e8feb86659fd93
	n := len(name)
	var a, b uint64
	switch {
	case n >= 8:
		a = binary.LittleEndian.Uint64(name)
		b = binary.LittleEndian.Uint64(name[n-8:])
	case n >= 4:
		a = uint64(binary.LittleEndian.Uint32(name))
		b = uint64(binary.LittleEndian.Uint32(name[n-4:]))
	case n > 0:
		a = uint64(name[0]) | uint64(name[n/2])<<8
		b = uint64(name[n-1])
	}
	hi, lo := bits.Mul64(a^k0^uint64(n), b^k1)
	return hi ^ lo
}

var seed = maphash.MakeSeed()

func hashText(b []byte) uint64 { return maphash.Bytes(seed, b) }

// Up to this many keys are compared pair by pair; more go through a seeded hash set.
const fewKeys = 16

// addKey checks the key just read (index k, the n-th of its object) against its
// siblings. base is where the object's hashes begin in d.keyHashes.
func (d *document) addKey(object, k, base, n int) bool {
	key := &d.values[k]
	h := keyHash(d.text(key))
	key.val = int64(h)
	if n >= fewKeys {
		return true // sameKeys looks at the whole object when it is complete
	}
	for _, other := range d.keyHashes[base:] {
		if other == h && d.hasEarlierKey(object, k) {
			return d.duplicate(key)
		}
	}
	d.keyHashes = append(d.keyHashes, h)
	return true
}

func (d *document) duplicate(key *value) bool {
	d.fail(DuplicateKey, d.offset(key), "the key \""+excerpt(d.text(key))+"\" occurs twice")
	return false
}

func (d *document) offset(v *value) int {
	if v.flags&inArena != 0 {
		return -1
	}
	return int(v.start)
}

func (d *document) hasEarlierKey(object, k int) bool {
	name := d.text(&d.values[k])
	for i := object + 1; i < k; i = int(d.values[i+1].next) {
		if bytes.Equal(d.text(&d.values[i]), name) {
			return true
		}
	}
	return false
}

// closeObject ends an object and looks for duplicates among many keys.
func (d *document) closeObject(object, base, n int) bool {
	d.keyHashes = d.keyHashes[:base]
	d.values[object].next = uint32(len(d.values))
	d.values[object].val = int64(n)
	return n <= fewKeys || d.uniqueKeys(object, n)
}

func (d *document) uniqueKeys(object, n int) bool {
	set := d.hashSet(n)
	for k := object + 1; k < int(d.values[object].next); k = int(d.values[k+1].next) {
		name := d.text(&d.values[k])
		for slot := hashText(name) & uint64(len(set)-1); ; slot = (slot + 1) & uint64(len(set)-1) {
			if set[slot] == 0 {
				set[slot] = uint32(k)
				break
			}
			if bytes.Equal(d.text(&d.values[set[slot]]), name) {
				return d.duplicate(&d.values[k])
			}
		}
	}
	return true
}

// hashSet returns an empty open-addressing table for n entries, a power of two and
// at most half full. 0 marks a free slot: no child has index 0.
func (d *document) hashSet(n int) []uint32 {
	size := 1 << bits.Len(uint(2*n))
	if cap(d.table) < size {
		d.table = make([]uint32, size)
	}
	set := d.table[:size]
	clear(set)
	return set
}
