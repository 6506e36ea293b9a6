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
	for _, one := range r.anyOf {
		if c.apply(one, i) {
			return true
		}
	}
	return c.failed(r, "anyOf", i, 0)
}

func (c *check) oneOf(r *rule, i uint32) bool {
	found := 0
	for _, one := range r.oneOf {
		if c.apply(one, i) {
			if found++; found > 1 {
				return c.failed(r, "oneOf", i, found)
			}
		}
	}
	return found == 1 || c.failed(r, "oneOf", i, found)
}
