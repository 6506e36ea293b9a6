package schema

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Reduction is what of a document's members is taken out, or made to say less, for a reader who may not know all of it. The zero value
// changes nothing. It is built first and then used, by any number of goroutines.
//
// A path names members from the outside in. Lists on its way are gone through: it means the member of each of their items.
type Reduction struct{ root reduction }

type reduction struct {
	change  change
	step    float64 // of coarsened numbers; 0: they are taken out
	digits  int     // after the point, of step
	every   time.Duration
	members map[string]*reduction
}

// change is what becomes of a member. Where several name it the last of these counts.
type change uint8

const (
	unchanged change = iota // but for what is below it
	coarsened
	masked
	removed
)

// mask is what a member says that is masked.
const mask = "***"

// Remove takes a member out.
func (r *Reduction) Remove(path []string) { r.at(path).become(removed) }

// Mask replaces a member's value, whatever it is, by the text "***".
func (r *Reduction) Mask(path []string) { r.at(path).become(masked) }

// CoarsenNumber rounds a number, or each of a list, to the nearest multiple of a step, such as "0.01". Anything else but null is taken out.
func (r *Reduction) CoarsenNumber(path []string, step string) error {
	value, err := strconv.ParseFloat(step, 64)
	if err != nil {
		return err
	}
	_, fraction, _ := strings.Cut(step, ".")
	n := r.at(path)
	if n.become(coarsened); value > n.step {
		n.step, n.digits = value, len(fraction)
	}
	return nil
}

// CoarsenTime cuts a date-time (RFC 3339), or each of a list, to the last multiple of a length of time in UTC. Anything else but null is
// taken out.
func (r *Reduction) CoarsenTime(path []string, every time.Duration) {
	n := r.at(path)
	n.become(coarsened)
	n.every = max(n.every, every)
}

func (n *reduction) become(c change) { n.change = max(n.change, c) }

func (r *Reduction) at(path []string) *reduction {
	n := &r.root
	for _, name := range path {
		below := n.members[name]
		if below == nil {
			below = new(reduction)
			if n.members == nil {
				n.members = make(map[string]*reduction)
			}
			n.members[name] = below
		}
		n = below
	}
	return n
}

// JSON appends what the reduction leaves of a JSON document. It checks syntax and limits as validating does; the error, if any, is a
// *Violation, and nothing is appended.
func (r *Reduction) JSON(dst, json []byte) ([]byte, error) {
	d := newDocument(Options{}.limits())
	defer d.free()
	if !d.readJSON(json) {
		return dst, d.violation
	}
	d.reduce(&r.root, 0)
	return d.appendJSON(dst, 0), nil
}

// CBOR appends what the reduction leaves of a CBOR document, in the form that CBORFromJSON gives it; s, which may be nil, tells the
// names of members that have numbers. The error, if any, is a *Violation, and nothing is appended.
func (r *Reduction) CBOR(dst, cbor []byte, s *Schema) ([]byte, error) {
	d := newDocument(s.limitsOrStandard())
	defer d.free()
	var root *rule
	if s != nil {
		root = s.root
	}
	if !d.readCBOR(cbor) || !d.projectWith(root) {
		return dst, d.violation
	}
	d.reduce(&r.root, 0)
	return CBORFromJSON(dst, d.appendJSON(nil, 0), s)
}

// reduce changes the value at i, as far as n says.
func (d *document) reduce(n *reduction, i uint32) {
	v := &d.values[i]
	switch v.kind {
	case kindArray:
		for item := i + 1; item < v.next; item = d.values[item].next {
			d.reduce(n, item)
		}
	case kindObject:
		for k := i + 1; k < v.next; k = d.values[k+1].next {
			below := n.members[string(d.text(&d.values[k]))]
			if below == nil {
				continue
			}
			gone := below.change == removed
			switch below.change {
			case unchanged:
				d.reduce(below, k+1)
			case coarsened:
				gone = !d.coarsen(below, k+1)
			case masked:
				d.replace(k+1, kindString, append(d.arena, mask...))
			}
			if gone {
				d.values[k].flags |= absent
			}
		}
	}
}

// replace gives a value the text with which the arena was extended.
func (d *document) replace(i uint32, k kind, arena []byte) {
	v := &d.values[i]
	v.kind, v.flags = k, inArena|ascii
	v.start, v.end = uint32(len(d.arena)), uint32(len(arena))
	d.arena = arena
}

// coarsen says whether it could.
func (d *document) coarsen(n *reduction, i uint32) bool {
	v := &d.values[i]
	switch {
	case v.kind == kindNull:
		return true
	case v.kind == kindArray:
		for item := i + 1; item < v.next; item = d.values[item].next {
			if !d.coarsen(n, item) {
				return false
			}
		}
		return true
	case v.kind == kindNumber && n.step > 0:
		number := d.number(v)
		exact, err := strconv.ParseFloat(string(number.append(nil)), 64)
		rounded := math.Round(exact/n.step)*n.step + 0 // never -0
		if err != nil || math.IsInf(rounded, 0) || math.IsNaN(rounded) {
			return false
		}
		form, digits := byte('f'), n.digits
		if math.Abs(rounded) >= 1e15 { // whose digits after the point mean nothing
			form, digits = 'g', -1
		}
		d.replace(i, kindNumber, strconv.AppendFloat(d.arena, rounded, form, digits, 64))
		return true
	case v.kind == kindString && n.every > 0:
		exact, err := time.Parse(time.RFC3339, string(d.text(v)))
		if err != nil {
			return false
		}
		d.replace(i, kindString, exact.UTC().Truncate(n.every).AppendFormat(d.arena, time.RFC3339))
		return true
	}
	return false
}

// Describes says whether the schema has something to say of the member at a path, or of nothing on its way. A path that it does not
// describe is most likely misspelt.
func (s *Schema) Describes(path []string) bool {
	work := 10_000
	return s.root.describes(path, &work)
}

func (r *rule) describes(path []string, work *int) bool {
	if *work--; len(path) == 0 || *work < 0 {
		return true
	}
	if item := r.findItem(0, work); item != nil {
		return item.describes(path, work)
	}
	if property := r.findProperty([]byte(path[0]), work); property != nil {
		return property.rule.describes(path[1:], work)
	}
	return !r.namesMembers(work)
}

// namesMembers says whether a schema, or one that applies to the same value, declares properties.
func (r *rule) namesMembers(work *int) bool {
	if *work--; *work < 0 {
		return false
	}
	if r.object != nil && len(r.object.names) > 0 && r.object.patterns == nil {
		return true
	}
	return !r.inPlace(func(one *rule) bool { return !one.namesMembers(work) })
}
