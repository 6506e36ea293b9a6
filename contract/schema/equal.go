package schema

import (
	"bytes"
	"hash/maphash"
)

// constants are the values of an enum or const.
type constants struct {
	texts   []string
	many    map[string]struct{} // instead of texts, when there are many
	numbers []number
	others  []*document // one value each: null, booleans, arrays, objects
	display string      // for messages
}

const fewTexts = 8

func (c *check) contains(set *constants, v *value, i uint32) bool {
	switch v.kind {
	case kindString:
		text := c.text(v)
		if set.many != nil {
			_, ok := set.many[string(text)]
			return ok
		}
		for _, one := range set.texts {
			if one == string(text) {
				return true
			}
		}
		return false
	case kindNumber:
		n := c.number(v)
		if !c.spend(len(set.numbers) * (1 + len(n.literal)/32)) {
			return false
		}
		for _, one := range set.numbers {
			if compare(n, one) == 0 {
				return true
			}
		}
		return false
	}
	for _, one := range set.others {
		if !c.spend(len(one.values)) {
			return false
		}
		if equal(c.document, i, one, 0) {
			return true
		}
	}
	return false
}

// equal compares two values as JSON Schema does: 1 is 1.0, key order does not count
// (core §4.2.2).
func equal(a *document, i uint32, b *document, j uint32) bool {
	v, w := &a.values[i], &b.values[j]
	if v.kind != w.kind {
		return false
	}
	switch v.kind {
	case kindNull:
		return true
	case kindFile:
		return false // nobody looked into them
	case kindBool:
		return v.val == w.val
	case kindNumber:
		return compare(a.number(v), b.number(w)) == 0
	case kindArray:
		if v.val != w.val {
			return false
		}
		for i, j := i+1, j+1; i < v.next; i, j = a.values[i].next, b.values[j].next {
			if !equal(a, i, b, j) {
				return false
			}
		}
		return true
	case kindObject:
		if v.val != w.val {
			return false
		}
		if v.val > fewKeys { // member by member would be quadratic; the hash is seeded
			return a.hash(i) == b.hash(j)
		}
		for k := i + 1; k < v.next; k = a.values[k+1].next {
			other := b.member(j, a.text(&a.values[k]))
			if other == 0 || !equal(a, k+1, b, other) {
				return false
			}
		}
		return true
	}
	return bytes.Equal(a.text(v), b.text(w))
}

// member returns the index of a member's value in the object at i, or 0.
func (d *document) member(i uint32, name []byte) uint32 {
	for k := i + 1; k < d.values[i].next; k = d.values[k+1].next {
		if bytes.Equal(d.text(&d.values[k]), name) {
			return k + 1
		}
	}
	return 0
}

func mix(h, x uint64) uint64 { return maphash.Comparable(seed, [2]uint64{h, x}) }

// hash is the same for values that are equal.
func (d *document) hash(i uint32) uint64 {
	v := &d.values[i]
	h := uint64(v.kind) + 1
	switch v.kind {
	case kindBool:
		return mix(h, uint64(v.val))
	case kindNumber:
		return d.hashNumber(v)
	case kindArray:
		for i++; i < v.next; i = d.values[i].next {
			h = mix(h, d.hash(i))
		}
		return h
	case kindObject:
		sum := uint64(0)
		for k := i + 1; k < v.next; k = d.values[k+1].next {
			sum += mix(hashText(d.text(&d.values[k])), d.hash(k+1))
		}
		return mix(h, sum)
	case kindNull:
		return h
	}
	return mix(h, hashText(d.text(v)))
}

func (d *document) hashNumber(v *value) uint64 {
	n := d.number(v).canonical()
	if n.literal == nil {
		return mix(uint64(n.val), uint64(n.exp)<<8|kindNumberHash)
	}
	x := parseDecimal(n.literal)
	if x.negative {
		x.scale ^= 1 << 40
	}
	var h maphash.Hash
	h.SetSeed(seed)
	if point := bytes.IndexByte(x.digits, '.'); point >= 0 {
		h.Write(x.digits[:point])
		h.Write(x.digits[point+1:])
	} else {
		h.Write(x.digits)
	}
	return mix(h.Sum64(), uint64(x.scale))
}

const kindNumberHash = uint64(kindNumber) + 1

// twin returns an item of the array at i that equals an earlier one, or 0.
func (d *document) twin(i uint32) uint32 {
	v := &d.values[i]
	set := d.hashSet(int(v.val))
	mask := uint64(len(set) - 1)
	for item := i + 1; item < v.next; item = d.values[item].next {
		for slot := d.hash(item) & mask; ; slot = (slot + 1) & mask {
			if set[slot] == 0 {
				set[slot] = item
				break
			}
			if equal(d, item, d, set[slot]) {
				return item
			}
		}
	}
	return 0
}
