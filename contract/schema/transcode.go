package schema

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
)

// JSONFromCBOR appends the JSON form of a CBOR document to dst. With a schema, integer
// keys get their names, and byte strings and times the form it declares; without one
// (nil) keys are decimal, byte strings base64url (RFC 8949 §6.1), times RFC 3339.
// It checks syntax and limits, not the schema. The error, if any, is a *Violation.
func JSONFromCBOR(dst, cbor []byte, s *Schema) ([]byte, error) {
	d := newDocument(s.limitsOrStandard())
	defer d.free()
	var root *rule
	if s != nil {
		root = s.root
	}
	if !d.readCBOR(cbor) || !d.projectWith(root) {
		return dst, d.violation
	}
	return d.appendJSON(dst, 0), nil
}

// CBORFromJSON appends the CBOR form of a JSON document to dst, in preferred
// serialization (RFC 8949 §4.1). With a schema, properties with x-cbor-key get their
// integer keys and strings declared as base64 become byte strings. Integers stay
// integers of up to 64 bits; other numbers become the nearest float.
// It checks syntax and limits, not the schema. The error, if any, is a *Violation.
func CBORFromJSON(dst, json []byte, s *Schema) ([]byte, error) {
	d := newDocument(s.limitsOrStandard())
	defer d.free()
	e := encoder{document: d}
	var root *rule
	if s != nil {
		root = s.root
	}
	if !d.readJSON(json) {
		return dst, d.violation
	}
	e.work = d.budget()
	out, ok := e.append(dst, root, 0)
	if !ok {
		return dst, d.violation
	}
	return out, nil
}

func (s *Schema) limitsOrStandard() limits {
	if s == nil {
		return Options{}.limits()
	}
	return s.limits
}

func (d *document) appendJSON(dst []byte, i uint32) []byte {
	v := &d.values[i]
	switch v.kind {
	case kindNull:
		return append(dst, "null"...)
	case kindBool:
		return strconv.AppendBool(dst, v.val != 0)
	case kindNumber:
		if v.flags&inArena != 0 {
			return append(dst, d.text(v)...)
		}
		n := d.number(v)
		return n.append(dst)
	case kindArray:
		dst = append(dst, '[')
		for item := i + 1; item < v.next; item = d.values[item].next {
			if item > i+1 {
				dst = append(dst, ',')
			}
			dst = d.appendJSON(dst, item)
		}
		return append(dst, ']')
	case kindObject:
		dst = append(dst, '{')
		begin := len(dst)
		for k := i + 1; k < v.next; k = d.values[k+1].next {
			if d.values[k].flags&absent != 0 {
				continue
			}
			if len(dst) > begin {
				dst = append(dst, ',')
			}
			dst = appendQuoted(dst, d.text(&d.values[k]))
			dst = append(dst, ':')
			dst = d.appendJSON(dst, k+1)
		}
		return append(dst, '}')
	case kindBytes:
		dst = append(dst, '"')
		dst = base64.RawURLEncoding.AppendEncode(dst, d.text(v))
		return append(dst, '"')
	}
	return appendQuoted(dst, d.text(v))
}

// appendQuoted writes a JSON string (RFC 8259 §7); text is valid UTF-8.
func appendQuoted(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= 0x20:
			dst = append(dst, c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(dst, '"')
}

// encoder writes a document as CBOR.
type encoder struct {
	*document
	work int // steps left for looking things up in the schema
}

func (e *encoder) append(dst []byte, r *rule, i uint32) ([]byte, bool) {
	v := &e.values[i]
	ok := true
	switch v.kind {
	case kindNull:
		return append(dst, cborSimple<<5|22), true
	case kindBool:
		return append(dst, cborSimple<<5|20+byte(v.val)), true
	case kindNumber:
		return e.appendNumber(dst, v)
	case kindArray:
		dst = appendHead(dst, cborArray, uint64(v.val))
		n := 0
		for item := i + 1; ok && item < v.next; item = e.values[item].next {
			var one *rule
			if r != nil {
				one = r.findItem(n, &e.work)
			}
			dst, ok = e.append(dst, one, item)
			n++
		}
		return dst, ok && e.withinWork()
	case kindObject:
		dst = appendHead(dst, cborMap, uint64(v.val))
		for k := i + 1; ok && k < v.next; k = e.values[k+1].next {
			name := e.text(&e.values[k])
			var one *rule
			var property *property
			if r != nil {
				property, one = r.findProperty(name, &e.work), r.findMember(name, &e.work)
			}
			if property != nil && property.hasKey {
				dst = appendInteger(dst, property.cborKey)
			} else {
				dst = appendText(dst, cborText, name)
			}
			dst, ok = e.append(dst, one, k+1)
		}
		return dst, ok && e.withinWork()
	}
	return e.appendString(dst, r, v), true
}

func (e *encoder) withinWork() bool {
	if e.work < 0 {
		e.fail(TooComplex, -1, "converting this document takes too many steps")
	}
	return e.work >= 0
}

// appendString writes a text, or a byte string where the schema says base64 and the
// text is exactly what encoding the bytes gives.
func (e *encoder) appendString(dst []byte, r *rule, v *value) []byte {
	text := e.text(v)
	if r != nil {
		if encoding := r.findEncoding(&e.work); encoding != encodingNone {
			begin := len(e.arena)
			decoded, err := encoding.codec().AppendDecode(e.arena, text)
			if err == nil && encoding.codec().EncodedLen(len(decoded)-begin) == len(text) {
				dst = appendText(dst, cborBytes, decoded[begin:])
				e.arena = decoded[:begin]
				return dst
			}
		}
	}
	return appendText(dst, cborText, text)
}

func appendText(dst []byte, major byte, text []byte) []byte {
	return append(appendHead(dst, major, uint64(len(text))), text...)
}

// appendHead writes an initial byte and its argument in the shortest form.
func appendHead(dst []byte, major byte, argument uint64) []byte {
	major <<= 5
	switch {
	case argument < 24:
		return append(dst, major|byte(argument))
	case argument <= math.MaxUint8:
		return append(dst, major|24, byte(argument))
	case argument <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(argument))
	case argument <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(argument))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), argument)
}

func appendInteger(dst []byte, n int64) []byte {
	if n < 0 {
		return appendHead(dst, cborNegative, uint64(-1-n))
	}
	return appendHead(dst, cborUnsigned, uint64(n))
}

func (e *encoder) appendNumber(dst []byte, v *value) ([]byte, bool) {
	n := e.number(v)
	if i, ok := n.int64(); ok {
		return appendInteger(dst, i), true
	}
	if m, negative, ok := n.uint64(); ok && negative { // RFC 8949 §3.1: below -2^63
		return appendHead(dst, cborNegative, m-1), true
	} else if ok {
		return appendHead(dst, cborUnsigned, m), true
	}
	f, err := strconv.ParseFloat(string(e.src[v.start:v.end]), 64)
	if err != nil {
		e.fail(TooLarge, int(v.start), "number beyond what CBOR floats hold")
		return dst, false
	}
	return appendFloat(dst, f), true
}

// appendFloat writes the shortest float that holds f exactly and that setFloat reads
// back as the same decimal.
func appendFloat(dst []byte, f float64) []byte {
	single := float32(f)
	var digits [32]byte
	again, _ := strconv.ParseFloat(string(strconv.AppendFloat(digits[:0], float64(single), 'g', -1, 32)), 64)
	if float64(single) != f || again != f {
		return binary.BigEndian.AppendUint64(append(dst, cborSimple<<5|27), math.Float64bits(f))
	}
	if half, ok := halfBits(single); ok {
		return binary.BigEndian.AppendUint16(append(dst, cborSimple<<5|25), half)
	}
	return binary.BigEndian.AppendUint32(append(dst, cborSimple<<5|26), math.Float32bits(single))
}

// halfBits returns f in binary16 if it is exact and not subnormal.
func halfBits(f float32) (uint16, bool) {
	b := math.Float32bits(f)
	exponent := int(b>>23&255) - 127 + 15
	if b&0x1fff != 0 || exponent < 1 || exponent > 30 {
		return 0, false
	}
	return uint16(b>>16&0x8000) | uint16(exponent)<<10 | uint16(b>>13&0x3ff), true
}
