package schema

import "unicode/utf8"

// check is one run of a rule over a document. On failure the fields from rule on say
// what failed last, which is the cause: every false is recorded where it arises.
type check struct {
	*document
	work int // steps left

	rule    *rule
	keyword string
	at      uint32 // the value that failed
	detail  int    // index or count that the message needs
}

// budget is how many steps one document may cost: nested alternatives multiply, and
// this is where they stop. It grows with the document, so that the whole stays linear.
func (d *document) budget() int {
	const least, perValue = 50_000, 64
	return max(least, perValue*len(d.values)+(len(d.src)+len(d.arena))/2)
}

func newCheck(d *document) check {
	return check{document: d, work: d.budget()}
}

func (c *check) failed(r *rule, keyword string, at uint32, detail int) bool {
	if c.work >= 0 {
		c.rule, c.keyword, c.at, c.detail = r, keyword, at, detail
	}
	return false
}

// spend takes n steps from the budget; false when it is used up.
func (c *check) spend(n int) bool {
	c.work -= n
	return c.work >= 0
}

func typeOf(v *value) types {
	switch v.kind {
	case kindNull:
		return typeNull
	case kindBool:
		return typeBoolean
	case kindNumber:
		return typeNumber
	case kindString, kindFile:
		return typeString
	case kindArray:
		return typeArray
	case kindObject:
		return typeObject
	}
	return 0
}

// apply reports whether the value at index i satisfies r.
func (c *check) apply(r *rule, i uint32) bool {
	if c.work--; c.work < 0 {
		return false
	}
	if r.never {
		return c.failed(r, "", i, 0)
	}
	v := &c.values[i]
	if r.types != 0 && r.types&typeOf(v) == 0 {
		if v.kind != kindNumber || r.types&typeInteger == 0 || !isInteger(c.number(v)) {
			return c.failed(r, "type", i, 0)
		}
	}
	if r.has == 0 {
		return true
	}
	switch v.kind {
	case kindNumber:
		if r.has&hasNumber != 0 && !c.applyNumber(r, v, i) {
			return false
		}
	case kindString:
		if r.has&hasText != 0 && !c.applyText(r, v, i) {
			return false
		}
	case kindArray:
		if r.has&hasArray != 0 && !c.applyArray(r, v, i) {
			return false
		}
	case kindObject:
		if r.has&hasObject != 0 && !c.applyObject(r, v, i) {
			return false
		}
	}
	if r.has&hasEnum != 0 && !c.applyEnum(r, v, i) {
		return false
	}
	return r.has&hasBranches == 0 || c.applyBranches(r, i)
}

func (c *check) applyNumber(r *rule, v *value, i uint32) bool {
	bounds := r.number
	switch {
	case bounds.minimum != nil && c.compareValue(v, bounds.minimum) < 0:
		return c.failed(r, "minimum", i, 0)
	case bounds.maximum != nil && c.compareValue(v, bounds.maximum) > 0:
		return c.failed(r, "maximum", i, 0)
	case bounds.exclusiveMinimum != nil && c.compareValue(v, bounds.exclusiveMinimum) <= 0:
		return c.failed(r, "exclusiveMinimum", i, 0)
	case bounds.exclusiveMaximum != nil && c.compareValue(v, bounds.exclusiveMaximum) >= 0:
		return c.failed(r, "exclusiveMaximum", i, 0)
	}
	if bounds.multipleOf != nil {
		n := c.number(v)
		if n.literal != nil && !c.spend(len(n.literal)/4) {
			return false
		}
		if !bounds.multipleOf.divides(n) {
			return c.failed(r, "multipleOf", i, 0)
		}
	}
	if bounds.bits != 0 {
		whole, ok := c.number(v).int64()
		if !ok || bounds.bits == 32 && int64(int32(whole)) != whole {
			return c.failed(r, "format", i, 0)
		}
	}
	return true
}

func (c *check) applyText(r *rule, v *value, i uint32) bool {
	text, t := c.text(v), r.text
	if t.minLength > 0 || t.maxLength >= 0 && len(text) > t.maxLength {
		length := len(text)
		if v.flags&ascii == 0 {
			length = utf8.RuneCount(text)
		}
		if length < t.minLength {
			return c.failed(r, "minLength", i, length)
		}
		if t.maxLength >= 0 && length > t.maxLength {
			return c.failed(r, "maxLength", i, length)
		}
	}
	if t.pattern != nil {
		if !c.spend(len(text) / 8) {
			return false
		}
		if !t.pattern.match(text) {
			return c.failed(r, "pattern", i, 0)
		}
	}
	if t.format != nil {
		if !c.spend(len(text) / 32) {
			return false
		}
		if !t.format(text) {
			return c.failed(r, "format", i, 0)
		}
	}
	return true
}

func (c *check) applyArray(r *rule, v *value, i uint32) bool {
	a, n := r.array, int(v.val)
	if n < a.minItems {
		return c.failed(r, "minItems", i, n)
	}
	if a.maxItems >= 0 && n > a.maxItems {
		return c.failed(r, "maxItems", i, n)
	}
	if a.items != nil || a.prefix != nil {
		item := i + 1
		for k := 0; item < v.next; k++ {
			one := a.items
			if k < len(a.prefix) {
				one = a.prefix[k]
			}
			if one == nil {
				break
			}
			if !c.apply(one, item) {
				return false
			}
			item = c.values[item].next
		}
	}
	if a.contains != nil && !c.applyContains(r, v, i) {
		return false
	}
	if a.unique && n > 1 {
		if !c.spend(int(v.next-i) + int(v.end-v.start)/64) {
			return false
		}
		if twin := c.twin(i); twin != 0 {
			return c.failed(r, "uniqueItems", twin, 0)
		}
	}
	return true
}

func (c *check) applyContains(r *rule, v *value, i uint32) bool {
	a, found := r.array, 0
	for item := i + 1; item < v.next; item = c.values[item].next {
		if c.apply(a.contains, item) {
			found++
			if found >= a.minContains && a.maxContains < 0 {
				return true
			}
			if a.maxContains >= 0 && found > a.maxContains {
				return c.failed(r, "maxContains", i, found)
			}
		} else if c.work < 0 {
			return false
		}
	}
	if found < a.minContains {
		keyword := "minContains"
		if a.minContains == 1 {
			keyword = "contains"
		}
		return c.failed(r, keyword, i, found)
	}
	return true
}
