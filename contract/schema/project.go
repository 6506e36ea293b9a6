package schema

import "strconv"

// projectWith gives what JSON has no form for (integer keys, byte strings, CBOR times)
// the form that the schema names. Without a schema keys stay decimal.
func (d *document) projectWith(r *rule) bool {
	if !d.project {
		return true
	}
	p := projection{document: d, work: d.budget()}
	return p.value(r, 0)
}

type projection struct {
	*document
	work int
}

// value projects the value at i, which r describes; r may be nil.
func (p *projection) value(r *rule, i uint32) bool {
	v := &p.values[i]
	switch {
	case r == nil:
		return true
	case p.work < 0:
		p.fail(TooComplex, -1, "checking this document takes too many steps")
		return false
	}
	switch v.kind {
	case kindBytes:
		if e := r.findEncoding(&p.work); e != encodingNone {
			begin := len(p.arena)
			p.arena = e.codec().AppendEncode(p.arena, p.text(v))
			v.kind, v.flags = kindString, inArena|ascii
			v.start, v.end = uint32(begin), uint32(len(p.arena))
		}
	case kindEpoch:
		if r.findEpoch(&p.work) {
			v.kind = kindString
		}
	case kindArray:
		n := 0
		for item := i + 1; item < v.next; item = p.values[item].next {
			if !p.value(r.findItem(n, &p.work), item) {
				return false
			}
			n++
		}
	case kindObject:
		return p.object(r, i)
	}
	return true
}

func (p *projection) object(r *rule, i uint32) bool {
	v := &p.values[i]
	renamed := false
	for k := i + 1; k < v.next; k = p.values[k+1].next {
		key := &p.values[k]
		if key.flags&numericKey != 0 {
			if n, err := strconv.ParseInt(string(p.text(key)), 10, 64); err == nil {
				if property := r.findNumbered(n, &p.work); property != nil {
					begin := len(p.arena)
					p.arena = append(p.arena, property.name...)
					key.start, key.end = uint32(begin), uint32(len(p.arena))
					key.flags = inArena
					key.val = int64(keyHash(p.text(key)))
					renamed = true
				}
			}
		}
		if !p.value(r.findMember(p.text(key), &p.work), k+1) {
			return false
		}
	}
	return !renamed || p.uniqueKeys(int(i), int(v.val)) // {1: …, "temp": …} may name one property twice
}

// The find functions look at a schema and, where it does not say, at those that apply
// to the same value; the first that says something counts. work bounds the search.

func (r *rule) findEncoding(work *int) encoding {
	if *work--; *work < 0 || r.binary != encodingNone {
		return r.binary
	}
	found := encodingNone
	r.inPlace(func(one *rule) bool {
		found = one.findEncoding(work)
		return found == encodingNone
	})
	return found
}

func (r *rule) findEpoch(work *int) bool {
	if *work--; *work < 0 || r.epoch {
		return r.epoch
	}
	return !r.inPlace(func(one *rule) bool { return !one.findEpoch(work) })
}

func (r *rule) findItem(n int, work *int) *rule {
	if *work--; *work < 0 {
		return nil
	}
	if a := r.array; a != nil {
		if n < len(a.prefix) {
			return a.prefix[n]
		}
		if a.items != nil {
			return a.items
		}
	}
	var found *rule
	r.inPlace(func(one *rule) bool {
		found = one.findItem(n, work)
		return found == nil
	})
	return found
}

// findNumbered returns the property with the x-cbor-key n.
func (r *rule) findNumbered(n int64, work *int) *property {
	if *work--; *work < 0 {
		return nil
	}
	if o := r.object; o != nil {
		if i, ok := o.numbers[n]; ok {
			return &o.names[i]
		}
	}
	var found *property
	r.inPlace(func(one *rule) bool {
		found = one.findNumbered(n, work)
		return found == nil
	})
	return found
}

// findProperty returns the declaration of a property, with its schema.
func (r *rule) findProperty(name []byte, work *int) *property {
	if *work--; *work < 0 {
		return nil
	}
	if o := r.object; o != nil {
		if i := o.find(keyHash(name), name); i >= 0 && o.names[i].rule != nil {
			return &o.names[i]
		}
	}
	var found *property
	r.inPlace(func(one *rule) bool {
		found = one.findProperty(name, work)
		return found == nil
	})
	return found
}

// findMember returns the schema of a member: a declared property before a pattern or
// additionalProperties.
func (r *rule) findMember(name []byte, work *int) *rule {
	if p := r.findProperty(name, work); p != nil {
		return p.rule
	}
	return r.findOther(name, work)
}

func (r *rule) findOther(name []byte, work *int) *rule {
	if *work--; *work < 0 {
		return nil
	}
	if o := r.object; o != nil {
		for i := range o.patterns {
			if *work -= len(name) / 8; o.patterns[i].pattern.match(name) {
				return o.patterns[i].rule
			}
		}
		if o.additional != nil && !o.additional.never {
			return o.additional
		}
	}
	var found *rule
	r.inPlace(func(one *rule) bool {
		found = one.findOther(name, work)
		return found == nil
	})
	return found
}
