package schema

import "bytes"

func (b *builder) enumKeyword(keyword string, i uint32) error {
	v := b.value(i)
	if v.kind != kindArray || v.val == 0 {
		return errorAt(b.path, keyword, "must be a list of at least one value")
	}
	set := &constants{display: excerpt(b.doc.text(v))}
	for item := i + 1; item < v.next; item = b.value(item).next {
		set.add(&b.doc, item)
	}
	if len(set.texts) > fewTexts {
		set.many = make(map[string]struct{}, len(set.texts))
		for _, text := range set.texts {
			set.many[text] = struct{}{}
		}
		set.texts = nil
	}
	b.constrain(set, false)
	return nil
}

func (b *builder) constKeyword(_ string, i uint32) error {
	set := &constants{display: excerpt(b.span(i))}
	set.add(&b.doc, i)
	b.constrain(set, true)
	return nil
}

// constrain sets enum or const; a schema with both gets the second as a schema of its own.
func (b *builder) constrain(set *constants, isConst bool) {
	b.has |= hasEnum
	if b.enum == nil {
		b.enum, b.isConst = set, isConst
		return
	}
	b.allOf = append(b.allOf, &rule{path: b.path, has: hasEnum, enum: set, isConst: isConst})
}

// span returns the value at i as written in the bundle.
func (b *builder) span(i uint32) []byte {
	v := b.value(i)
	if v.kind != kindString {
		return b.doc.text(v)
	}
	return append(append([]byte{'"'}, b.doc.text(v)...), '"')
}

// add copies the value at i of a bundle into the set.
func (set *constants) add(bundle *document, i uint32) {
	v := &bundle.values[i]
	switch v.kind {
	case kindString:
		set.texts = append(set.texts, string(bundle.text(v)))
	case kindNumber:
		n := bundle.number(v)
		n.literal = bytes.Clone(n.literal)
		set.numbers = append(set.numbers, n)
	default: // read again, so that the set does not keep the bundle
		one := &document{limits: bundleLimits}
		one.readJSON(bytes.Clone(bundle.text(v))) // cannot fail: it was read before
		set.others = append(set.others, one)
	}
}
