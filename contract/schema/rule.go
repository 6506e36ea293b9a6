package schema

// types is a set of JSON types; integer is apart from number because it narrows it.
type types uint8

const (
	typeNull types = 1 << iota
	typeBoolean
	typeInteger
	typeNumber
	typeString
	typeArray
	typeObject
)

var typeNames = map[string]types{
	"null": typeNull, "boolean": typeBoolean, "integer": typeInteger, "number": typeNumber | typeInteger,
	"string": typeString, "array": typeArray, "object": typeObject,
}

func (t types) String() string {
	if t&typeNumber != 0 {
		t &^= typeInteger
	}
	var s string
	for i, name := range [...]string{"null", "boolean", "integer", "number", "string", "array", "object"} {
		if t&(1<<i) != 0 {
			if s != "" {
				s += " or "
			}
			s += name
		}
	}
	return s
}

// rule is one compiled schema object. Fields that a schema does not use are zero;
// has tells the validator which groups to look at.
type rule struct {
	path  string // JSON Pointer in the bundle
	has   group
	types types
	never bool // the schema false

	number  *numberRule
	text    *textRule
	array   *arrayRule
	object  *objectRule
	enum    *constants
	isConst bool // enum was written as const

	ref, not          *rule
	allOf             []*rule
	anyOf, oneOf      []*rule
	when, then, else_ *rule

	epoch   bool     // format date-time: takes CBOR tag 1
	binary  encoding // takes a CBOR byte string
	opaque  bool     // format binary or contentMediaType: of a form's part, any bytes
	problem string   // why this schema needs the fallback; "" if it does not

	mark int  // Compiler.survey: the last walk that came by
	open bool // Compiler.survey: being walked
}

type group uint8

const (
	hasNumber group = 1 << iota
	hasText
	hasArray
	hasObject
	hasEnum
	hasBranches // ref, allOf, anyOf, oneOf, not, if
)

type numberRule struct {
	minimum, maximum                   *number
	exclusiveMinimum, exclusiveMaximum *number
	multipleOf                         *divisor
	multiple                           string // multipleOf as written
	bits                               int    // format int32 or int64
}

type textRule struct {
	minLength, maxLength int // maxLength -1: none
	pattern              *pattern
	format               func([]byte) bool
	formatName           string
}

type arrayRule struct {
	prefix                   []*rule
	items                    *rule
	contains                 *rule
	minContains, maxContains int // maxContains -1: none
	minItems, maxItems       int
	unique                   bool
}

type objectRule struct {
	names      []property
	slots      []uint16 // open addressing by keyHash; index+1 into names
	required   []uint64 // bit set over names
	patterns   []patternProperty
	additional *rule
	keys       *rule           // propertyNames
	numbers    map[int64]int32 // x-cbor-key → index into names
	dependent  []dependency
	min, max   int // max -1: none
}

// property is a name that the schema mentions; rule is nil if only required and the
// like mention it.
type property struct {
	name    string
	hash    uint64
	rule    *rule
	cborKey int64
	hasKey  bool
}

type patternProperty struct {
	pattern *pattern
	rule    *rule
}

// dependency: if names[on] is there, so must be all of needs, and rule applies.
type dependency struct {
	on    int
	needs []uint64
	rule  *rule
}

// find returns the index of a declared name, or -1.
func (o *objectRule) find(hash uint64, name []byte) int {
	if len(o.slots) == 0 {
		return -1
	}
	mask := uint64(len(o.slots) - 1)
	for slot := hash & mask; ; slot = (slot + 1) & mask {
		i := int(o.slots[slot]) - 1
		if i < 0 {
			return -1
		}
		if p := &o.names[i]; p.hash == hash && p.name == string(name) {
			return i
		}
	}
}

// index builds the table that find uses.
func (o *objectRule) index() {
	if len(o.names) == 0 {
		return
	}
	size := 4
	for size < 2*len(o.names) {
		size *= 2
	}
	o.slots = make([]uint16, size)
	for i := range o.names {
		p := &o.names[i]
		p.hash = keyHash([]byte(p.name))
		slot := p.hash & uint64(size-1)
		for o.slots[slot] != 0 {
			slot = (slot + 1) & uint64(size-1)
		}
		o.slots[slot] = uint16(i + 1)
	}
}

// inPlace calls f for each schema that applies to the same value as r.
func (r *rule) inPlace(f func(*rule) bool) bool {
	for _, one := range [...]*rule{r.ref, r.not, r.when, r.then, r.else_} {
		if one != nil && !f(one) {
			return false
		}
	}
	for _, list := range [...][]*rule{r.allOf, r.anyOf, r.oneOf} {
		for _, one := range list {
			if !f(one) {
				return false
			}
		}
	}
	if r.object != nil {
		for _, dep := range r.object.dependent {
			if dep.rule != nil && !f(dep.rule) {
				return false
			}
		}
	}
	return true
}

// below calls f for each schema that applies to a part of the value.
func (r *rule) below(f func(*rule)) {
	if a := r.array; a != nil {
		for _, one := range append([]*rule{a.items, a.contains}, a.prefix...) {
			if one != nil {
				f(one)
			}
		}
	}
	if o := r.object; o != nil {
		for i := range o.names {
			if o.names[i].rule != nil {
				f(o.names[i].rule)
			}
		}
		for _, p := range o.patterns {
			f(p.rule)
		}
		for _, one := range [...]*rule{o.additional, o.keys} {
			if one != nil {
				f(one)
			}
		}
	}
}
