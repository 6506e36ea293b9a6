package schema

func (b *builder) numberRule() *numberRule {
	if b.number == nil {
		b.number = &numberRule{}
		b.has |= hasNumber
	}
	return b.number
}

func (b *builder) textRule() *textRule {
	if b.text == nil {
		b.text = &textRule{maxLength: -1}
		b.has |= hasText
	}
	return b.text
}

func (b *builder) arrayRule() *arrayRule {
	if b.array == nil {
		b.array = &arrayRule{maxItems: -1}
		b.has |= hasArray
	}
	return b.array
}

func (b *builder) objectRule() *objectRule {
	if b.rule.object == nil {
		b.rule.object = &objectRule{max: -1}
		b.has |= hasObject
	}
	return b.rule.object
}

// name returns the index of a property name, adding it if it is new.
func (b *builder) name(name string) int {
	o := b.objectRule()
	if n, ok := b.named[name]; ok {
		return n
	}
	if b.named == nil {
		b.named = map[string]int{}
	}
	b.named[name] = len(o.names)
	o.names = append(o.names, property{name: name})
	return len(o.names) - 1
}

func (b *builder) properties(keyword string, i uint32) error {
	return b.eachMember(b.path, keyword, i, func(name, path string, i uint32) error {
		r, err := b.Compiler.rule(i, path)
		if err != nil {
			return err
		}
		n := b.name(name)
		o := b.objectRule()
		o.names[n].rule = r
		return b.cborKey(n, path, i)
	})
}

// cborKey reads x-cbor-key: the integer that stands for a property's name in CBOR.
func (b *builder) cborKey(n int, path string, i uint32) error {
	if b.value(i).kind != kindObject {
		return nil
	}
	at := b.doc.member(i, []byte("x-cbor-key"))
	if at == 0 {
		return nil
	}
	v, o := b.value(at), b.objectRule()
	var key int64
	ok := v.kind == kindNumber
	if ok {
		key, ok = b.doc.number(v).int64()
	}
	if !ok {
		return errorAt(path, "x-cbor-key", "must be a whole number of 64 bits")
	}
	if _, taken := o.numbers[key]; taken {
		return errorAt(path, "x-cbor-key", "another property of this object has the key %d", key)
	}
	if o.numbers == nil {
		o.numbers = map[int64]int32{}
	}
	o.numbers[key] = int32(n)
	o.names[n].cborKey, o.names[n].hasKey = key, true
	return nil
}

func (b *builder) patternProperties(keyword string, i uint32) error {
	return b.eachMember(b.path, keyword, i, func(name, path string, i uint32) error {
		p, err := compilePattern(name)
		if err != nil {
			return &CompileError{"#" + path, err.Error()}
		}
		r, err := b.Compiler.rule(i, path)
		o := b.objectRule()
		o.patterns = append(o.patterns, patternProperty{p, r})
		return err
	})
}

func (b *builder) required(keyword string, i uint32) error {
	names, err := b.texts(b.path, keyword, i)
	if err != nil {
		return errorAt(b.path, keyword, "must be a list of property names, beside properties")
	}
	b.objectRule().required = b.nameSet(names)
	return nil
}

func (b *builder) nameSet(names []string) []uint64 {
	var set []uint64
	for _, name := range names {
		n := b.name(name)
		for len(set) <= n>>6 {
			set = append(set, 0)
		}
		set[n>>6] |= 1 << (n & 63)
	}
	return set
}

func (b *builder) dependentRequired(keyword string, i uint32) error {
	return b.eachMember(b.path, keyword, i, func(name, path string, i uint32) error {
		names, err := b.texts(path, "", i)
		if err != nil {
			return &CompileError{"#" + path, "must be a list of property names"}
		}
		o := b.objectRule()
		o.dependent = append(o.dependent, dependency{on: b.name(name), needs: b.nameSet(names)})
		return nil
	})
}

func (b *builder) dependentSchemas(keyword string, i uint32) error {
	return b.eachMember(b.path, keyword, i, func(name, path string, i uint32) error {
		r, err := b.Compiler.rule(i, path)
		o := b.objectRule()
		o.dependent = append(o.dependent, dependency{on: b.name(name), rule: r})
		return err
	})
}

func (b *builder) patternKeyword(keyword string, i uint32) error {
	source, err := b.textValue(keyword, i)
	if err != nil {
		return err
	}
	p, err := compilePattern(source)
	if err != nil {
		return errorAt(b.path, keyword, "%v", err)
	}
	b.textRule().pattern = p
	return nil
}

func (b *builder) formatKeyword(keyword string, i uint32) error {
	name, err := b.textValue(keyword, i)
	if err != nil {
		return err
	}
	switch name {
	case "date-time":
		b.epoch = true
	case "byte":
		b.binary = encodingStd
	case "binary":
		b.opaque = true
	}
	if b.options.IgnoreFormats {
		return nil
	}
	if format := formats[name]; format != nil {
		b.textRule().format, b.textRule().formatName = format, name
	}
	switch name { // OpenAPI 3.1 §4.4.2
	case "int32":
		b.numberRule().bits = 32
	case "int64":
		b.numberRule().bits = 64
	}
	return nil
}

func (b *builder) contentEncoding(keyword string, i uint32) error {
	name, err := b.textValue(keyword, i)
	switch name {
	case "base64":
		b.binary = encodingStd
	case "base64url":
		b.binary = encodingURL
	}
	return err
}

// contentMediaType says nothing of a string in JSON, but that a part of a form is content of its own (OpenAPI 3.1 §4.8.14.2).
func (b *builder) contentMediaType(keyword string, i uint32) error {
	_, err := b.textValue(keyword, i)
	b.opaque = true
	return err
}

// finish settles what depends on more than one keyword.
func (b *builder) finish(i uint32) error {
	if b.then != nil || b.else_ != nil {
		b.rule.when, b.rule.then, b.rule.else_ = b.when, b.then, b.else_
	}
	if b.contains != nil {
		a := b.arrayRule()
		a.contains, a.minContains, a.maxContains = b.contains, 1, -1
		if b.doc.member(i, []byte("minContains")) != 0 {
			a.minContains = b.minContains
		}
		if b.doc.member(i, []byte("maxContains")) != 0 {
			a.maxContains = b.maxContains
		}
	}
	b.settleUnevaluated()
	r := b.rule
	if o := r.object; o != nil {
		if len(o.names) > 1<<15 {
			return &CompileError{"#" + r.path, "more than 32768 property names in one schema"}
		}
		o.index()
	}
	if r.ref != nil || r.allOf != nil || r.anyOf != nil || r.oneOf != nil || r.not != nil || r.when != nil {
		r.has |= hasBranches
	}
	return nil
}

// constrains reports whether r can refuse anything.
func (r *rule) constrains() bool {
	return r.never || r.has != 0 || r.types != 0 || r.problem != ""
}

// settleUnevaluated: where no other schema applies to the same value, unevaluated…
// means what additionalProperties and items mean (core §11). Elsewhere the fallback
// keeps track of what was evaluated.
func (b *builder) settleUnevaluated() {
	alone := true
	b.inPlace(func(*rule) bool { alone = false; return false })
	if b.when != nil || b.problem != "" {
		alone = false
	}
	if r := b.unevaluated[0]; r != nil && r.constrains() {
		switch {
		case !alone:
			b.cannot("unevaluatedProperties beside other schemas")
		case b.objectRule().additional == nil:
			b.objectRule().additional = r
		}
	}
	if r := b.unevaluated[1]; r != nil && r.constrains() {
		switch {
		case !alone || b.contains != nil:
			b.cannot("unevaluatedItems beside other schemas")
		case b.arrayRule().items == nil:
			b.arrayRule().items = r
		}
	}
}
