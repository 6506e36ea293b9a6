package schema

import (
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf8"
)

// CBOR major types (RFC 8949 §3.1).
const (
	cborUnsigned = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMap
	cborTag
	cborSimple
)

// selfDescribed is the tag that marks a document as CBOR (RFC 8949 §3.4.6).
const selfDescribed = 55799

const cborBreak = 0xff

// readCBOR parses src (RFC 8949). It takes what JSON can express, plus byte strings,
// integer keys and the date-time tags 0 and 1, which a schema gives their JSON form.
func (d *document) readCBOR(src []byte) bool {
	d.src = src
	if len(src) > d.limits.bytes {
		d.fail(TooLarge, 0, "larger than "+strconv.Itoa(d.limits.bytes)+" bytes")
		return false
	}
	pos := 0
	if len(src) >= 3 && src[0] == cborTag<<5|25 && binary.BigEndian.Uint16(src[1:]) == selfDescribed {
		pos = 3
	}
	pos = d.cborValue(pos, 1)
	if pos >= 0 && pos != len(src) {
		pos = d.fail(Syntax, pos, "data after the end of the value")
	}
	return pos >= 0
}

// head is the initial byte of an item and its argument (RFC 8949 §3).
type head struct {
	major, info byte
	indefinite  bool
	argument    uint64
}

func (d *document) cborHead(pos int) (head, int) {
	if pos >= len(d.src) {
		return head{}, d.fail(Syntax, pos, "ends too early")
	}
	h := head{major: d.src[pos] >> 5, info: d.src[pos] & 31}
	rest := d.src[pos+1:]
	switch {
	case h.info < 24:
		h.argument = uint64(h.info)
		return h, pos + 1
	case h.info == 31 && h.major >= cborBytes && h.major <= cborMap:
		h.indefinite = true
		return h, pos + 1
	case h.info > 27:
		return h, d.fail(Syntax, pos, "reserved length or unexpected break")
	}
	size := 1 << (h.info - 24)
	if len(rest) < size {
		return h, d.fail(Syntax, pos, "ends too early")
	}
	for _, b := range rest[:size] {
		h.argument = h.argument<<8 | uint64(b)
	}
	return h, pos + 1 + size
}

// cborValue reads the item at pos and returns the position after it, or -1.
func (d *document) cborValue(pos, depth int) int {
	h, after := d.cborHead(pos)
	if after < 0 {
		return -1
	}
	switch h.major {
	case cborUnsigned, cborNegative:
		return d.cborInteger(h, pos, after)
	case cborText, cborBytes:
		return d.cborString(h, pos, after)
	case cborArray, cborMap:
		if depth > d.limits.depth {
			return d.tooDeep(pos)
		}
		if h.major == cborArray {
			return d.cborArray(h, pos, after, depth)
		}
		return d.cborMap(h, pos, after, depth)
	case cborTag:
		return d.cborTagged(h, pos, after)
	default:
		return d.cborSimple(h, pos, after)
	}
}

func (d *document) cborInteger(h head, pos, after int) int {
	v := value{kind: kindNumber, start: uint32(pos), end: uint32(after), val: int64(h.argument)}
	if h.argument >= 1e18-1 {
		d.renderInteger(&v, h)
		d.setLiteral(&v)
	} else if h.major == cborNegative {
		v.val = -1 - v.val
	}
	if d.add(v) < 0 {
		return -1
	}
	return after
}

// renderInteger puts the decimal form of an integer into the arena.
func (d *document) renderInteger(v *value, h head) {
	v.start = uint32(len(d.arena))
	v.flags |= inArena
	switch {
	case h.major == cborUnsigned:
		d.arena = strconv.AppendUint(d.arena, h.argument, 10)
	case h.argument == math.MaxUint64:
		d.arena = append(d.arena, "-18446744073709551616"...)
	default:
		d.arena = append(d.arena, '-')
		d.arena = strconv.AppendUint(d.arena, h.argument+1, 10)
	}
	v.end = uint32(len(d.arena))
}

// setLiteral gives v the number that its text in the arena writes.
func (d *document) setLiteral(v *value) {
	n := shorten(d.text(v))
	v.val, v.exp = n.val, n.exp
	if n.literal != nil {
		v.flags |= longNumber
	}
}

// cborString reads a text or byte string, definite or in chunks (RFC 8949 §3.2.3).
func (d *document) cborString(h head, pos, after int) int {
	v := value{kind: kindString}
	if h.major == cborBytes {
		v.kind = kindBytes
		d.project = true
	}
	if !h.indefinite {
		end := d.cborChunk(h, pos, after)
		if end < 0 {
			return -1
		}
		v.start, v.end = uint32(after), uint32(end)
		if after = end; v.kind == kindString && isASCII(d.src[v.start:v.end]) {
			v.flags |= ascii
		}
	} else {
		v.flags |= inArena
		v.start = uint32(len(d.arena))
		for {
			if after < len(d.src) && d.src[after] == cborBreak {
				after++
				break
			}
			chunk, begin := d.cborHead(after)
			if begin < 0 {
				return -1
			}
			if chunk.major != h.major || chunk.indefinite {
				return d.fail(Syntax, after, "chunk of another type in a string")
			}
			if after = d.cborChunk(chunk, after, begin); after < 0 {
				return -1
			}
			d.arena = append(d.arena, d.src[begin:after]...)
		}
		v.end = uint32(len(d.arena))
	}
	if d.add(v) < 0 {
		return -1
	}
	return after
}

func (d *document) cborChunk(h head, pos, begin int) int {
	if h.argument > uint64(len(d.src)-begin) {
		return d.fail(Syntax, pos, "string longer than the document")
	}
	end := begin + int(h.argument)
	if h.major == cborText && !utf8.Valid(d.src[begin:end]) {
		return d.fail(InvalidUTF8, begin, "string is not UTF-8")
	}
	return end
}

func isASCII(text []byte) bool {
	for _, c := range text {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// cborMore reports whether a container goes on, and consumes its break.
func (d *document) cborMore(h head, n, pos int) (bool, int) {
	if !h.indefinite {
		return uint64(n) < h.argument, pos
	}
	if pos < len(d.src) && d.src[pos] == cborBreak {
		return false, pos + 1
	}
	return true, pos
}

func (d *document) cborArray(h head, pos, after, depth int) int {
	self := d.add(value{kind: kindArray, start: uint32(pos)})
	if self < 0 {
		return -1
	}
	for n := 0; ; n++ {
		more := false
		if more, after = d.cborMore(h, n, after); !more {
			v := &d.values[self]
			v.next, v.end, v.val = uint32(len(d.values)), uint32(after), int64(n)
			return after
		}
		if after = d.cborValue(after, depth+1); after < 0 {
			return -1
		}
	}
}

func (d *document) cborMap(h head, pos, after, depth int) int {
	self := d.add(value{kind: kindObject, start: uint32(pos)})
	if self < 0 {
		return -1
	}
	base := len(d.keyHashes)
	for n := 0; ; n++ {
		more := false
		if more, after = d.cborMore(h, n, after); !more {
			d.values[self].end = uint32(after)
			if !d.closeObject(self, base, n) {
				return -1
			}
			return after
		}
		key := len(d.values)
		if after = d.cborKey(after); after < 0 || !d.addKey(self, key, base, n) {
			return -1
		}
		if after = d.cborValue(after, depth+1); after < 0 {
			return -1
		}
	}
}

// cborKey reads a key: a text, or an integer, which stands for its decimal form
// (RFC 8949 §6.1) until a schema gives it a name.
func (d *document) cborKey(pos int) int {
	h, after := d.cborHead(pos)
	switch {
	case after < 0:
		return -1
	case h.major == cborText:
		return d.cborString(h, pos, after)
	case h.major == cborUnsigned || h.major == cborNegative:
		v := value{kind: kindString, flags: numericKey | ascii}
		d.renderInteger(&v, h)
		d.project = true
		if d.add(v) < 0 {
			return -1
		}
		return after
	}
	return d.fail(Syntax, pos, "key is neither a text nor an integer")
}
