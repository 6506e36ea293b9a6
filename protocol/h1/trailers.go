package h1

// Bounds of a trailer section (RFC 9112 §7.1.2).
const (
	maxTrailers      = 8 << 10 // bytes; each line at most bodyRoom
	maxTrailerFields = 32
)

// trailers are the fields behind content, as far as they may stand there.
type trailers struct {
	fields       Fields
	count, bytes int // of all field lines, those that were dropped included
}

// add takes one field, or drops it when it may not stand in a trailer section. The bytes are copied.
func (t *trailers) add(name, value []byte) error {
	t.count++
	t.bytes += len(name) + len(value) + len(": \r\n")
	if t.count > maxTrailerFields || t.bytes > maxTrailers {
		return ErrTrailer
	}
	if KindOf(name) != KindOther || !trailerName(name) {
		return nil
	}
	line := append(append(make([]byte, 0, len(name)+len(value)), name...), value...)
	t.fields = append(t.fields, Field{Name: line[:len(name):len(name)], Value: line[len(name):]})
	return nil
}

// trailerName reports whether a field of that name can be left to come behind the content. RFC 9110 §6.5.1 keeps out what
// is needed before it: framing, routing, authentication, request modifiers, response control data, and what says how the
// content is to be read. Many programs take "_" and "-" for the same, so neither gets past for the other.
func trailerName(name []byte) bool {
	var folded [32]byte
	short := folded[:min(len(name), len(folded))]
	for i := range short {
		if short[i] = lower(name[i]); short[i] == '_' {
			short[i] = '-'
		}
	}
	for _, prefix := range [...]string{"if-", "proxy-", "sec-", "access-control-", "x-forwarded-", "x-http-method"} {
		if len(short) >= len(prefix) && string(short[:len(prefix)]) == prefix {
			return false
		}
	}
	const content = "content-"
	if len(short) > len(content) && string(short[:len(content)]) == content {
		return string(short) == "content-digest" || string(short) == "content-md5" // RFC 9530 §6.5: made for trailers
	}
	switch string(short) {
	case "host", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "via", "forwarded", "x-real-ip",
		"alt-svc", "early-data", // framing, the connection and the way here
		"authorization", "authentication-info", "cookie", "set-cookie", "www-authenticate", // authentication, RFC 6265
		"cache-control", "pragma", "expect", "max-forwards", "range", "accept", "accept-encoding", "accept-language", "accept-charset",
		"accept-ranges", "from", "referer", "user-agent", "origin", "prefer", "idempotency-key", // request modifiers
		"age", "date", "expires", "location", "retry-after", "vary", "warning", "allow", "last-modified", "link", "refresh",
		"strict-transport-security", "x-content-type-options", "x-frame-options", "clear-site-data": // response control data
		return false
	}
	return true
}

// Trailers are the fields behind the content, once it has been read to its end: without those that may not stand there
// (RFC 9110 §6.5.1) and those that a Connection field of head, the fields before the content, names (§7.6.1). They stay
// valid until Reset.
func (b *Body) Trailers(head Fields) Fields {
	if !b.ended || len(b.trailers.fields) == 0 {
		return nil
	}
	markNamed(head, b.trailers.fields)
	kept := b.trailers.fields[:0]
	for _, field := range b.trailers.fields {
		if !field.Hop {
			kept = append(kept, field)
		}
	}
	b.trailers.fields = kept
	return kept
}

// AddTrailer adds a field to the trailers of content that came over HTTP/2 or HTTP/3, under the same rules and bounds as one
// read from chunks. The bytes are copied. It returns an *Error.
func (b *Body) AddTrailer(name, value []byte) error {
	if err := checkField(name, value); err != nil {
		return err
	}
	return b.trailers.add(name, value)
}

// AppendLastChunk ends chunked content (RFC 9112 §7.1) with those trailers, if there are any.
func AppendLastChunk(dst []byte, trailers Fields) []byte {
	dst = append(dst, "0\r\n"...)
	for i := range trailers {
		dst = AppendField(dst, trailers[i].Name, trailers[i].Value)
	}
	return append(dst, "\r\n"...)
}
