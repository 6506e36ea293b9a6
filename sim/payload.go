package sim

import (
	"encoding/binary"
	"math"
	"strconv"
)

// field is one member of a payload; its value is a string, an int or a float64.
type field struct {
	name  string
	value any
}

type payload []field

// appendJSON writes the payload as a JSON object. Names and texts are our own and need no escaping.
func (p payload) appendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for i, f := range p {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendQuote(dst, f.name)
		dst = append(dst, ':')
		switch v := f.value.(type) {
		case string:
			dst = strconv.AppendQuote(dst, v)
		case int:
			dst = strconv.AppendInt(dst, int64(v), 10)
		case float64:
			dst = strconv.AppendFloat(dst, v, 'g', -1, 64)
		}
	}
	return append(dst, '}')
}

// The major types of RFC 8949 section 3.1 that are used here.
const (
	cborUnsigned = 0 << 5
	cborNegative = 1 << 5
	cborText     = 3 << 5
	cborMap      = 5 << 5
	cborFloat64  = 7<<5 | 27
)

// appendCBOR writes the payload as a CBOR map (RFC 8949 section 3).
func (p payload) appendCBOR(dst []byte) []byte {
	dst = appendHead(dst, cborMap, len(p))
	for _, f := range p {
		dst = appendHead(dst, cborText, len(f.name))
		dst = append(dst, f.name...)
		switch v := f.value.(type) {
		case string:
			dst = appendHead(dst, cborText, len(v))
			dst = append(dst, v...)
		case int:
			if v < 0 {
				dst = appendHead(dst, cborNegative, -1-v)
			} else {
				dst = appendHead(dst, cborUnsigned, v)
			}
		case float64:
			dst = append(dst, cborFloat64)
			dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(v))
		}
	}
	return dst
}

// appendHead writes a major type with its argument in the shortest form.
func appendHead(dst []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
}
