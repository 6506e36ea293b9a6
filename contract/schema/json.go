package schema

import "strconv"

// readJSON parses src (RFC 8259, with the stricter rules of RFC 7493 on duplicate
// keys and surrogates). On failure d.violation says why.
func (d *document) readJSON(src []byte) bool {
	d.src = src
	if len(src) > d.limits.bytes {
		d.fail(TooLarge, 0, "larger than "+strconv.Itoa(d.limits.bytes)+" bytes")
		return false
	}
	pos := d.jsonValue(skipSpace(src, 0), 1)
	if pos < 0 {
		return false
	}
	if pos = skipSpace(src, pos); pos != len(src) {
		d.fail(Syntax, pos, "data after the end of the value")
		return false
	}
	return true
}

func skipSpace(src []byte, pos int) int {
	for pos < len(src) {
		switch src[pos] {
		case ' ', '\n', '\r', '\t':
			pos++
		default:
			return pos
		}
	}
	return pos
}

// jsonValue reads the value at pos and returns the position after it, or -1.
func (d *document) jsonValue(pos, depth int) int {
	if pos >= len(d.src) {
		return d.fail(Syntax, pos, "ends too early")
	}
	switch c := d.src[pos]; c {
	case '"':
		return d.jsonString(pos)
	case '{':
		if depth > d.limits.depth {
			return d.tooDeep(pos)
		}
		return d.jsonObject(pos, depth)
	case '[':
		if depth > d.limits.depth {
			return d.tooDeep(pos)
		}
		return d.jsonArray(pos, depth)
	case 't':
		return d.jsonLiteral(pos, "true", value{kind: kindBool, val: 1})
	case 'f':
		return d.jsonLiteral(pos, "false", value{kind: kindBool})
	case 'n':
		return d.jsonLiteral(pos, "null", value{kind: kindNull})
	default:
		return d.jsonNumber(pos)
	}
}

func (d *document) tooDeep(pos int) int {
	return d.fail(TooDeep, pos, "nested more than "+strconv.Itoa(d.limits.depth)+" levels deep")
}

func (d *document) jsonLiteral(pos int, word string, v value) int {
	end := pos + len(word)
	if end > len(d.src) || string(d.src[pos:end]) != word {
		return d.fail(Syntax, pos, "not a JSON value")
	}
	v.start, v.end = uint32(pos), uint32(end)
	if d.add(v) < 0 {
		return -1
	}
	return end
}

func (d *document) jsonArray(pos, depth int) int {
	self := d.add(value{kind: kindArray, start: uint32(pos)})
	if self < 0 {
		return -1
	}
	n := 0
	pos = skipSpace(d.src, pos+1)
	if pos < len(d.src) && d.src[pos] == ']' {
		pos++
	} else {
		for more := true; more; n++ {
			if pos = d.jsonValue(skipSpace(d.src, pos), depth+1); pos < 0 {
				return -1
			}
			if pos, more = d.jsonMore(pos, ']'); pos < 0 {
				return -1
			}
		}
	}
	v := &d.values[self]
	v.next, v.end, v.val = uint32(len(d.values)), uint32(pos), int64(n)
	return pos
}

// jsonMore reads the comma or the closing bracket after a member.
func (d *document) jsonMore(pos int, closing byte) (int, bool) {
	pos = skipSpace(d.src, pos)
	if pos < len(d.src) {
		switch d.src[pos] {
		case ',':
			return pos + 1, true
		case closing:
			return pos + 1, false
		}
		return d.fail(Syntax, pos, "expected a comma or the closing bracket"), false
	}
	return d.fail(Syntax, pos, "ends too early"), false
}

func (d *document) jsonObject(pos, depth int) int {
	self := d.add(value{kind: kindObject, start: uint32(pos)})
	if self < 0 {
		return -1
	}
	base, n := len(d.keyHashes), 0
	pos = skipSpace(d.src, pos+1)
	if pos < len(d.src) && d.src[pos] == '}' {
		pos++
	} else {
		for more := true; more; n++ {
			pos = skipSpace(d.src, pos)
			if pos >= len(d.src) || d.src[pos] != '"' {
				return d.fail(Syntax, pos, "expected a key in quotes")
			}
			key := len(d.values)
			if pos = d.jsonString(pos); pos < 0 || !d.addKey(self, key, base, n) {
				return -1
			}
			pos = skipSpace(d.src, pos)
			if pos >= len(d.src) || d.src[pos] != ':' {
				return d.fail(Syntax, pos, "expected a colon after the key")
			}
			if pos = d.jsonValue(skipSpace(d.src, pos+1), depth+1); pos < 0 {
				return -1
			}
			if pos, more = d.jsonMore(pos, '}'); pos < 0 {
				return -1
			}
		}
	}
	d.values[self].end = uint32(pos)
	if !d.closeObject(self, base, n) {
		return -1
	}
	return pos
}
