package schema

// applyEnum checks enum and const.
func (c *check) applyEnum(r *rule, v *value, i uint32) bool {
	if c.contains(r.enum, v, i) {
		return true
	}
	if r.isConst {
		return c.failed(r, "const", i, 0)
	}
	return c.failed(r, "enum", i, 0)
}

// applyBranches runs the schemas that look at the same value again. The order is that
// of what people read first: what must hold, then the alternatives.
func (c *check) applyBranches(r *rule, i uint32) bool {
	if r.ref != nil && !c.apply(r.ref, i) {
		return false
	}
	for _, one := range r.allOf {
		if !c.apply(one, i) {
			return false
		}
	}
	if r.anyOf != nil && !c.anyOf(r, i) {
		return false
	}
	if r.oneOf != nil && !c.oneOf(r, i) {
		return false
	}
	if r.not != nil && c.apply(r.not, i) {
		return c.failed(r, "not", i, 0)
	}
	if r.when != nil {
		branch := r.then
		if !c.apply(r.when, i) {
			branch = r.else_
		}
		if branch != nil && !c.apply(branch, i) {
			return false
		}
	}
	return c.work >= 0
}

func (c *check) anyOf(r *rule, i uint32) bool {
	var b blame
	for _, one := range r.anyOf {
		if c.apply(one, i) {
			return true
		}
		b.note(c, i)
	}
	return b.failed(c, r, "anyOf", i)
}

func (c *check) oneOf(r *rule, i uint32) bool {
	var b blame
	found := 0
	for _, one := range r.oneOf {
		if !c.apply(one, i) {
			b.note(c, i)
		} else if found++; found > 1 {
			return c.failed(r, "oneOf", i, found)
		}
	}
	return found == 1 || b.failed(c, r, "oneOf", i)
}

// blame finds the alternative that was meant: when the type of the value leaves only
// one, what is wrong there says more than "none of them".
type blame struct {
	meant   int // alternatives that allow the type
	rule    *rule
	keyword string
	at      uint32
	detail  int
}

// note looks at why the last alternative failed on the value at i.
func (b *blame) note(c *check, i uint32) {
	if c.at == i && (c.keyword == "type" || c.keyword == "") {
		return
	}
	b.meant++
	b.rule, b.keyword, b.at, b.detail = c.rule, c.keyword, c.at, c.detail
}

func (b *blame) failed(c *check, r *rule, keyword string, i uint32) bool {
	if b.meant == 1 {
		return c.failed(b.rule, b.keyword, b.at, b.detail)
	}
	return c.failed(r, keyword, i, 0)
}
