package schema

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"
)

// cborSimple reads a simple value or a float (RFC 8949 §3.3).
func (d *document) cborSimple(h head, pos, after int) int {
	v := value{kind: kindNull, start: uint32(pos), end: uint32(after)}
	switch h.info {
	case 20:
		v.kind = kindBool
	case 21:
		v.kind, v.val = kindBool, 1
	case 22:
	case 25, 26, 27:
		f, size := float(d.src[pos:after])
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return d.fail(Syntax, pos, "number that JSON cannot express")
		}
		v.kind = kindNumber
		d.setFloat(&v, f, size)
	default:
		return d.fail(Syntax, pos, "simple value that JSON cannot express")
	}
	if d.add(v) < 0 {
		return -1
	}
	return after
}

// float decodes a float item and returns its size in bits.
func float(item []byte) (float64, int) {
	switch len(item) {
	case 3:
		return halfFloat(binary.BigEndian.Uint16(item[1:])), 32
	case 5:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(item[1:]))), 32
	}
	return math.Float64frombits(binary.BigEndian.Uint64(item[1:])), 64
}

// halfFloat decodes binary16 (RFC 8949 appendix D).
func halfFloat(h uint16) float64 {
	exponent, mantissa := int(h>>10&31), float64(h&0x3ff)
	var f float64
	switch exponent {
	case 0:
		f = math.Ldexp(mantissa, -24)
	case 31:
		f = math.Inf(1)
		if mantissa != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(mantissa+1024, exponent-25)
	}
	if h&0x8000 != 0 {
		return -f
	}
	return f
}

// setFloat gives v the shortest decimal that reads back as the same float of its own
// size: a single-precision 21.3 is 21.3, not 21.299999237060547.
func (d *document) setFloat(v *value, f float64, size int) {
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		v.val = int64(f)
		return
	}
	if size == 64 && d.setShortFloat(v, f) {
		return
	}
	v.start = uint32(len(d.arena))
	v.flags |= inArena
	d.arena = strconv.AppendFloat(d.arena, f, 'g', -1, size)
	v.end = uint32(len(d.arena))
	d.setLiteral(v)
}

// setShortFloat finds the decimal of readings such as 21.55 without package strconv:
// a decimal of at most 15 digits that rounds to f is the only one.
func (d *document) setShortFloat(v *value, f float64) bool {
	for k := 1; k <= 6; k++ {
		scale := float64(pow10[k])
		m := math.Round(f * scale)
		if math.Abs(m) >= 1e15 {
			return false
		}
		if m/scale == f {
			v.val, v.exp = int64(m), int16(-k)
			return true
		}
	}
	return false
}

// cborTagged reads tag 0 (a date-time text) or tag 1 (seconds since 1970), RFC 8949 §3.4.
func (d *document) cborTagged(h head, pos, after int) int {
	content, begin := d.cborHead(after)
	if begin < 0 {
		return -1
	}
	switch {
	case h.argument == 0 && content.major == cborText:
		return d.cborString(content, after, begin)
	case h.argument == 1 && (content.major == cborUnsigned || content.major == cborNegative):
		if content.argument > 1e12 {
			return d.fail(Syntax, pos, "time out of range")
		}
		seconds := int64(content.argument)
		if content.major == cborNegative {
			seconds = -1 - seconds
		}
		return d.addEpoch(pos, begin, seconds, 0)
	case h.argument == 1 && content.major == cborSimple && content.info >= 25 && content.info <= 27:
		f, _ := float(d.src[after:begin])
		if !(math.Abs(f) < 1e12) {
			return d.fail(Syntax, pos, "time out of range")
		}
		whole := math.Floor(f)
		// A double holds today's seconds to a fraction of a microsecond.
		return d.addEpoch(pos, begin, int64(whole), int64(math.Round((f-whole)*1e6))*1000)
	}
	return d.fail(Syntax, pos, "tag that is not supported here")
}

func (d *document) addEpoch(pos, after int, seconds, nanoseconds int64) int {
	t := time.Unix(seconds, nanoseconds).UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return d.fail(Syntax, pos, "time out of range")
	}
	v := value{kind: kindEpoch, flags: inArena | ascii, start: uint32(len(d.arena))}
	d.arena = t.AppendFormat(d.arena, time.RFC3339Nano)
	v.end = uint32(len(d.arena))
	d.project = true
	if d.add(v) < 0 {
		return -1
	}
	return after
}
