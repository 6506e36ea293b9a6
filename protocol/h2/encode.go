package h2

import (
	"strconv"
	"unsafe"

	"golang.org/x/net/http2/hpack"
)

const (
	maxTable     = 4096 // bytes of our dynamic table, by RFC 7541 §4.1
	maxEntries   = 32   // of it that we remember; the client may know older ones, which does no harm
	maxIndexed   = 256  // a longer value is not kept in the table
	staticLength = 61
	// entryOverhead is what an entry counts beside its texts (RFC 7541 §4.1).
	entryOverhead = 32
)

// encoder compresses our field sections (RFC 7541). Its table is small and is searched from end to end: answers of a
// connection have few different fields.
type encoder struct {
	entries []entry // a ring of maxEntries, made with the first answer
	newest  int     // its place in the ring
	count   int
	size    int
	limit   int
	resized bool // the next field section has to begin with the table's size,
	least   int  // and before it with the smallest that it had meanwhile
	name    []byte
}

type entry struct {
	hash  uint32
	name  string
	value string
}

func (e *encoder) init() { e.limit = maxTable }

// setLimit is the client's SETTINGS_HEADER_TABLE_SIZE (RFC 9113 §6.5.2, RFC 7541 §4.2). The size of our table is told anew
// even if it stays, since some clients wait for that.
func (e *encoder) setLimit(limit uint32) {
	e.limit = int(min(limit, maxTable))
	if !e.resized || e.limit < e.least {
		e.least = e.limit
	}
	e.resized = true
	e.evict(e.limit)
}

func (e *encoder) evict(size int) {
	for e.size > size {
		e.forgetOldest()
	}
}

func (e *encoder) forgetOldest() {
	oldest := &e.entries[(e.newest+e.count-1)%maxEntries]
	e.size -= len(oldest.name) + len(oldest.value) + entryOverhead
	*oldest = entry{}
	e.count--
}

// begin appends what has to stand before the first field of a section.
func (e *encoder) begin(dst []byte) []byte {
	if e.resized {
		e.resized = false
		if e.least < e.limit {
			dst = appendInteger(dst, 0x20, 5, e.least)
		}
		dst = appendInteger(dst, 0x20, 5, e.limit) // RFC 7541 §6.3
	}
	return dst
}

// status appends the :status pseudo-header field (RFC 9113 §8.3.2).
func (e *encoder) status(dst []byte, status int) []byte {
	switch status {
	case 200:
		return append(dst, 0x80|8)
	case 204:
		return append(dst, 0x80|9)
	case 206:
		return append(dst, 0x80|10)
	case 304:
		return append(dst, 0x80|11)
	case 400:
		return append(dst, 0x80|12)
	case 404:
		return append(dst, 0x80|13)
	case 500:
		return append(dst, 0x80|14)
	}
	var digits [3]byte
	return e.literal(dst, 8, []byte(":status"), strconv.AppendInt(digits[:0], int64(status), 10))
}

// field appends one field, its name in lower case (RFC 9113 §8.2).
func (e *encoder) field(dst []byte, name, value []byte) []byte {
	lower := e.name[:0]
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower = append(lower, c)
	}
	e.name = lower
	static, changing := staticName(lower)
	if changing || len(value) > maxIndexed {
		return appendText(appendName(dst, 0x00, 4, static, lower), value, false) // RFC 7541 §6.2.2
	}
	return e.literal(dst, static, lower, value)
}

// literal appends a field by its place in the dynamic table, or puts it there (RFC 7541 §6.1, §6.2.1).
func (e *encoder) literal(dst []byte, static int, name, value []byte) []byte {
	hash := hashField(name, value)
	for i := range e.count {
		if known := &e.entries[(e.newest+i)%maxEntries]; known.hash == hash && known.name == string(name) && known.value == string(value) {
			return appendInteger(dst, 0x80, 7, staticLength+1+i)
		}
	}
	size := len(name) + len(value) + entryOverhead
	if size > e.limit {
		return appendText(appendName(dst, 0x00, 4, static, name), value, true)
	}
	if e.entries == nil {
		e.entries = make([]entry, maxEntries)
	}
	e.evict(e.limit - size)
	if e.count == maxEntries {
		e.forgetOldest()
	}
	e.newest = (e.newest + maxEntries - 1) % maxEntries
	e.entries[e.newest] = entry{hash, string(name), string(value)}
	e.count++
	e.size += size
	return appendText(appendName(dst, 0x40, 6, static, name), value, true)
}

func hashField(name, value []byte) uint32 { // FNV-1a
	hash := uint32(2166136261)
	for _, c := range name {
		hash = (hash ^ uint32(c)) * 16777619
	}
	for _, c := range value {
		hash = (hash ^ uint32(c)) * 16777619
	}
	return hash
}

func appendName(dst []byte, pattern byte, bits uint, static int, name []byte) []byte {
	dst = appendInteger(dst, pattern, bits, static)
	if static == 0 {
		dst = appendText(dst, name, true)
	}
	return dst
}

// appendInteger is RFC 7541 §5.1.
func appendInteger(dst []byte, pattern byte, bits uint, value int) []byte {
	full := 1<<bits - 1
	if value < full {
		return append(dst, pattern|byte(value))
	}
	dst = append(dst, pattern|byte(full))
	for value -= full; value >= 0x80; value >>= 7 {
		dst = append(dst, byte(value)|0x80)
	}
	return append(dst, byte(value))
}

// appendText is RFC 7541 §5.2. Huffman coding costs more than it saves where a text is sent anew each time.
func appendText(dst, text []byte, huffman bool) []byte {
	if huffman {
		s := unsafe.String(unsafe.SliceData(text), len(text)) // hpack reads it and keeps nothing
		if coded := hpack.HuffmanEncodeLength(s); coded < uint64(len(text)) {
			return hpack.AppendHuffmanString(appendInteger(dst, 0x80, 7, int(coded)), s)
		}
	}
	return append(appendInteger(dst, 0x00, 7, len(text)), text...)
}

// staticName is the place of a field's name in the static table (RFC 7541 appendix A), 0 if it has none, and whether its value
// differs from answer to answer, or is a secret that must not be found by guessing at sizes (RFC 7541 §7.1.3), so that the table would only be flushed by it.
func staticName(name []byte) (index int, changing bool) {
	switch string(name) {
	case "accept-ranges":
		return 18, false
	case "age":
		return 21, true
	case "access-control-allow-origin":
		return 20, false
	case "allow":
		return 22, false
	case "cache-control":
		return 24, false
	case "content-disposition":
		return 25, true
	case "content-encoding":
		return 26, false
	case "content-language":
		return 27, false
	case "content-length":
		return 28, true
	case "content-location":
		return 29, true
	case "content-range":
		return 30, true
	case "content-type":
		return 31, false
	case "date":
		return 33, false
	case "etag":
		return 34, true
	case "expires":
		return 36, true
	case "last-modified":
		return 44, true
	case "link":
		return 45, true
	case "location":
		return 46, true
	case "proxy-authenticate":
		return 48, false
	case "retry-after":
		return 53, true
	case "server":
		return 54, false
	case "set-cookie":
		return 55, true
	case "strict-transport-security":
		return 56, false
	case "vary":
		return 59, false
	case "via":
		return 60, false
	case "www-authenticate":
		return 61, false
	case "ratelimit", "traceparent", "tracestate", "x-request-id", "grpc-message":
		return 0, true
	}
	return 0, false
}
