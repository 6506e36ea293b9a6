package schema

import "math/bits"

func (c *check) applyObject(r *rule, v *value, i uint32) bool {
	o, n := r.object, int(v.val)
	if n < o.min {
		return c.failed(r, "minProperties", i, n)
	}
	if o.max >= 0 && n > o.max {
		return c.failed(r, "maxProperties", i, n)
	}
	var few [2]uint64
	seen := few[:]
	if len(o.names) > len(few)*64 {
		seen = make([]uint64, (len(o.names)+63)/64)
	}
	for k := i + 1; k < v.next; {
		key := &c.values[k]
		matched := false
		if p := o.find(uint64(key.val), c.text(key)); p >= 0 {
			seen[p>>6] |= 1 << (p & 63)
			if one := o.names[p].rule; one != nil {
				matched = true
				if !c.apply(one, k+1) {
					return false
				}
			}
		}
		for p := range o.patterns {
			if !c.spend(1 + int(key.end-key.start)/8) {
				return false
			}
			if o.patterns[p].pattern.match(c.text(key)) {
				matched = true
				if !c.apply(o.patterns[p].rule, k+1) {
					return false
				}
			}
		}
		if !matched && o.additional != nil {
			if o.additional.never {
				return c.failed(r, "additionalProperties", k+1, int(k))
			}
			if !c.apply(o.additional, k+1) {
				return false
			}
		}
		if o.keys != nil && !c.apply(o.keys, k) {
			return false
		}
		k = c.values[k+1].next
	}
	for w, need := range o.required {
		if missing := need &^ seen[w]; missing != 0 {
			return c.failed(r, "required", i, w*64+bits.TrailingZeros64(missing))
		}
	}
	return o.dependent == nil || c.applyDependent(r, i, seen)
}

func (c *check) applyDependent(r *rule, i uint32, seen []uint64) bool {
	for d := range r.object.dependent {
		dep := &r.object.dependent[d]
		if seen[dep.on>>6]&(1<<(dep.on&63)) == 0 {
			continue
		}
		for w, need := range dep.needs {
			if missing := need &^ seen[w]; missing != 0 {
				return c.failed(r, "dependentRequired", i, dep.on<<16|(w*64+bits.TrailingZeros64(missing)))
			}
		}
		if dep.rule != nil && !c.apply(dep.rule, i) {
			return false
		}
	}
	return true
}
