package schema

// Piece is one part of a structure that is written as texts, such as a parameter or a
// form: a document is a list of them in order. Texts are unescaped and belong to the
// caller until the call that takes them returns.
type Piece struct {
	Kind PieceKind
	Text []byte
}

// PieceKind says what a Piece is.
type PieceKind uint8

const (
	PieceText   PieceKind = iota // a value: number, boolean, null or string, as its schema has it
	PieceJSON                    // a value that is a JSON text
	PieceKey                     // name of the member whose value follows
	PieceArray                   // an array begins
	PieceObject                  // an object begins
	PieceEnd                     // the array or object ends
)

// ValidatePieces checks what is written as pieces. Each text is taken as ValidateText
// takes one, by the schema of its place. The pieces must be well formed, a single value.
// The error, if any, is a *Violation.
func (s *Schema) ValidatePieces(pieces []Piece) error {
	d := newDocument(s.limits)
	defer d.free()
	r := pieceReader{document: d, rest: pieces}
	r.work = d.budget() + maxWorkOfPiece*len(pieces)
	if !r.value(s.root, 1) {
		if d.violation == nil {
			d.fail(TooComplex, -1, "checking this document takes too many steps")
		}
		return d.violation
	}
	d.src = d.arena
	return s.validate(d)
}

// maxWorkOfPiece is how many steps each piece may add to those that all have together.
const maxWorkOfPiece = 64

type pieceReader struct {
	*document
	rest []Piece
	work int
}

// value reads the next value, which rule describes; nil: nothing does.
func (p *pieceReader) value(rule *rule, depth int) bool {
	piece := p.rest[0]
	p.rest = p.rest[1:]
	switch piece.Kind {
	case PieceArray:
		return p.array(rule, depth)
	case PieceObject:
		return p.object(rule, depth)
	case PieceJSON:
		return p.json(piece.Text, depth)
	}
	return p.scalar(rule, piece.Text)
}

func (p *pieceReader) array(r *rule, depth int) bool {
	if depth > p.limits.depth {
		p.tooDeep(-1)
		return false
	}
	self, n := p.add(value{kind: kindArray}), 0
	for ; self >= 0 && p.rest[0].Kind != PieceEnd; n++ {
		var item *rule
		if r != nil {
			item = r.findItem(n, &p.work)
		}
		if !p.value(item, depth+1) {
			return false
		}
	}
	if self < 0 {
		return false
	}
	p.rest = p.rest[1:]
	v := &p.values[self]
	v.next, v.val = uint32(len(p.values)), int64(n)
	return true
}

func (p *pieceReader) object(r *rule, depth int) bool {
	if depth > p.limits.depth {
		p.tooDeep(-1)
		return false
	}
	self, base, n := p.add(value{kind: kindObject}), len(p.keyHashes), 0
	for ; self >= 0 && p.rest[0].Kind != PieceEnd; n++ {
		name := p.rest[0].Text
		p.rest = p.rest[1:]
		key := len(p.values)
		if !p.string(name) || !p.addKey(self, key, base, n) {
			return false
		}
		var member *rule
		if r != nil {
			member = r.findMember(name, &p.work)
		}
		if !p.value(member, depth+1) {
			return false
		}
	}
	if self < 0 {
		return false
	}
	p.rest = p.rest[1:]
	return p.closeObject(self, base, n)
}

// json reads a JSON text into the arena, where the values of one document lie together.
func (p *pieceReader) json(text []byte, depth int) bool {
	if !p.room(text) {
		return false
	}
	pos := skipSpace(text, 0) + len(p.arena)
	p.arena = append(p.arena, text...)
	p.src = p.arena
	if pos = p.jsonValue(pos, depth); pos >= 0 && skipSpace(p.src, pos) != len(p.src) {
		pos = p.fail(Syntax, -1, "data after the end of the value")
	}
	if pos < 0 {
		p.violation.Offset = -1 // of a piece says nothing to who sent the whole
	}
	return pos >= 0
}

// scalar decides what a text stands for: a number, boolean or null where the schema
// takes it, else a string; if it takes neither, what it says of the value's type counts.
func (p *pieceReader) scalar(r *rule, text []byte) bool {
	if r != nil && r.isOpaque(&p.work) {
		return p.add(value{kind: kindFile}) >= 0
	}
	if r == nil || !mayBeScalar(text) {
		return p.string(text)
	}
	if !p.room(text) {
		return false
	}
	i, start := len(p.values), len(p.arena)
	p.arena = append(p.arena, text...)
	p.src = p.arena
	if end := p.jsonValue(start, 1); end != len(p.src) || p.values[i].kind > kindNumber {
		p.violation, p.values, p.arena = nil, p.values[:i], p.arena[:start]
		return p.string(text)
	}
	scalar := p.values[i]
	taken, byType := p.takes(r, i)
	if taken || p.work < 0 {
		return taken
	}
	p.values = p.values[:i]
	if !p.string(text) {
		return false
	}
	if !byType {
		// The schema speaks of such values, and this one is wrong, unless it takes the text.
		if taken, noString := p.takes(r, i); !taken && noString {
			p.values[i] = scalar
		}
	}
	return p.work >= 0
}

// takes says whether a schema allows the value at i, and if not, whether that is for its type.
func (p *pieceReader) takes(r *rule, i int) (taken, byType bool) {
	c := check{document: p.document, work: p.work}
	taken = c.apply(r, uint32(i))
	p.work = c.work
	return taken, c.keyword == "type"
}

func (p *pieceReader) string(text []byte) bool {
	if !p.room(text) {
		return false
	}
	v := value{kind: kindString, flags: inArena, start: uint32(len(p.arena)), end: uint32(len(p.arena) + len(text))}
	if isASCII(text) {
		v.flags |= ascii
	} else if !validUTF8(text) {
		p.fail(InvalidUTF8, -1, "not UTF-8")
		return false
	}
	p.arena = append(p.arena, text...)
	return p.add(v) >= 0
}

// room says whether the document may grow by a text.
func (p *pieceReader) room(text []byte) bool {
	if len(p.arena)+len(text) > p.limits.bytes {
		p.fail(TooLarge, -1, "longer than the limit")
		return false
	}
	return true
}

// isOpaque looks at a schema and those that apply to the same value.
func (r *rule) isOpaque(work *int) bool {
	if *work--; *work < 0 || r.opaque && r.binary == encodingNone {
		return r.opaque
	}
	return !r.inPlace(func(one *rule) bool { return !one.isOpaque(work) })
}

// Takes says which sorts of value a schema is for. A schema that does not say is for
// primitives.
type Takes struct{ Primitive, Array, Object, Opaque bool }

// Takes says what the schema is for.
func (s *Schema) Takes() Takes { return s.root.sorts() }

// Member says what the schema takes as a member of that name. declared: it names the
// member, or says what further members are.
func (s *Schema) Member(name []byte) (takes Takes, declared bool) {
	work := maxSearch
	r := s.root.findMember(name, &work)
	if r == nil {
		return Takes{Primitive: true}, false
	}
	return r.sorts(), true
}

// Item says what the schema takes as the items of an array that is its member of that name.
func (s *Schema) Item(name []byte) Takes {
	work := maxSearch
	if r := s.root.findMember(name, &work); r != nil {
		if item := r.findItem(0, &work); item != nil {
			return item.sorts()
		}
	}
	return Takes{Primitive: true}
}

// maxSearch bounds what looking a schema up may cost.
const maxSearch = 10_000

func (r *rule) sorts() Takes {
	work := maxSearch
	t := r.allowed(&work)
	work = maxSearch
	return Takes{Primitive: t == 0 || t&^(typeArray|typeObject) != 0, Array: t&typeArray != 0, Object: t&typeObject != 0, Opaque: r.isOpaque(&work)}
}

// allowed is the set of types that a schema is about; 0: it does not say.
func (r *rule) allowed(work *int) types {
	if *work--; *work < 0 {
		return 0
	}
	t := r.types
	if t == 0 {
		if r.array != nil {
			t |= typeArray
		}
		if r.object != nil {
			t |= typeObject
		}
		if r.text != nil {
			t |= typeString
		}
		if r.number != nil {
			t |= typeNumber
		}
	}
	narrow := func(u types) {
		if t == 0 {
			t = u
		} else if u != 0 && t&u != 0 {
			t &= u
		}
	}
	if r.ref != nil {
		narrow(r.ref.allowed(work))
	}
	for _, one := range r.allOf {
		narrow(one.allowed(work))
	}
	for _, list := range [...][]*rule{r.anyOf, r.oneOf} {
		var any types
		for _, one := range list {
			u := one.allowed(work)
			if u == 0 {
				u = ^types(0) &^ (typeArray | typeObject)
			}
			any |= u
		}
		narrow(any)
	}
	return t
}
