package h1

import (
	"bytes"
	"iter"
)

// Limits bound a message head. The zero value of each means its default.
type Limits struct {
	Head        int // bytes of a whole head, start line and final empty line included; default 32 KiB
	RequestLine int // bytes of the request line without its CRLF; default 8 KiB
	Fields      int // header field lines; default 100
}

// Defaults of Limits.
const (
	DefaultHead        = 32 << 10
	DefaultRequestLine = 8 << 10
	DefaultFields      = 100
)

// WithDefaults fills what is zero.
func (l Limits) WithDefaults() Limits {
	if l.Head == 0 {
		l.Head = DefaultHead
	}
	if l.RequestLine == 0 {
		l.RequestLine = DefaultRequestLine
	}
	if l.Fields == 0 {
		l.Fields = DefaultFields
	}
	return l
}

// Kind tells the fields apart that a proxy itself acts on.
type Kind uint8

// Kinds of fields. All other fields are KindOther.
const (
	KindOther Kind = iota
	KindHost
	KindContentLength
	KindTransferEncoding
	KindConnection
	KindUpgrade
	KindExpect
	KindTE
	KindHop // hop-by-hop without a meaning here: Keep-Alive, Proxy-Connection, Proxy-Authenticate, Trailer, HTTP2-Settings, …
)

// Field is one field line: two slices of the read buffer, valid until the next head is read.
type Field struct {
	Name  []byte
	Value []byte // without surrounding whitespace
	Kind  Kind
	Hop   bool // belongs to this connection only and is not forwarded (RFC 9110 §7.6.1)
}

// Fields are the field lines of one head in their order.
type Fields []Field

// named reports whether the field has that name. What a Connection field names is not there for anybody who looks: policy must not
// rest on what the next recipient will not see (RFC 9110 §7.6.1).
func (f *Field) named(name string) bool {
	return EqualFold(f.Name, name) && !(f.Hop && f.Kind == KindOther)
}

// Get returns the value of the first field of that name, nil if there is none. A present, empty field is not nil.
func (f Fields) Get(name string) []byte {
	for i := range f {
		if f[i].named(name) {
			return f[i].Value
		}
	}
	return nil
}

// Joined returns the value of the field of that name as RFC 9110 §5.3 has recipients read several lines of it: joined by commas,
// cookies by semicolons (RFC 6265 §5.4), so that no decision rests on a line of which the next recipient takes another. It
// allocates only where there are several.
func (f Fields) Joined(name string) []byte {
	value := f.Get(name)
	if value == nil {
		return nil
	}
	lines := 0
	for range f.All(name) {
		lines++
	}
	if lines == 1 {
		return value
	}
	separator := ", "
	if EqualFold(name, "cookie") {
		separator = "; "
	}
	var joined []byte
	for line := range f.All(name) {
		if joined == nil {
			joined = append(make([]byte, 0, lines*(len(line)+len(separator))), line...)
			continue
		}
		joined = append(append(joined, separator...), line...)
	}
	return joined
}

// All yields the value of each field line of that name.
func (f Fields) All(name string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := range f {
			if f[i].named(name) && !yield(f[i].Value) {
				return
			}
		}
	}
}

// Has reports whether a comma-separated field of that name lists the token (RFC 9110 §5.6.1).
func (f Fields) Has(name, token string) bool {
	for i := range f {
		if f[i].named(name) && listHas(f[i].Value, token) {
			return true
		}
	}
	return false
}

func listHas(list []byte, token string) bool {
	for list != nil {
		var word []byte
		if word, list = nextListItem(list); EqualFold(word, token) {
			return true
		}
	}
	return false
}

// nextListItem splits the first element off a comma-separated list; rest is nil after the last.
func nextListItem(list []byte) (item, rest []byte) {
	if i := bytes.IndexByte(list, ','); i >= 0 {
		return trimSpace(list[:i]), list[i+1:]
	}
	return trimSpace(list), nil
}

// framingFields is what the fields of one head say about the message and the connection.
type framingFields struct {
	hosts          int
	host           []byte
	lengths        int
	length         int64
	codings        int
	chunked        bool
	close          bool
	keepAlive      bool
	upgrade        bool // Connection lists "upgrade"
	upgradeTo      []byte
	expect         []byte
	connectionList bool // Connection names other fields
}

// parseFields reads field lines up to and including the empty line that must end head.
func parseFields(head []byte, fields Fields, limit int) (Fields, framingFields, error) {
	var found framingFields
	for {
		if len(head) < 2 {
			return fields, found, ErrLineEnd
		}
		if head[0] == '\r' && head[1] == '\n' {
			if len(head) != 2 {
				return fields, found, ErrLineEnd
			}
			break
		}
		if len(fields) >= limit {
			return fields, found, ErrTooManyFields
		}
		name, value, rest, err := parseFieldLine(head)
		if err != nil {
			return fields, found, err
		}
		field := Field{Name: name, Value: value, Kind: KindOf(name)}
		if field.Kind != KindOther {
			if err := found.take(&field); err != nil {
				return fields, found, err
			}
		}
		fields = append(fields, field)
		head = rest
	}
	if found.connectionList {
		markNamed(fields, fields)
	}
	return fields, found, nil
}

// parseFieldLine reads field-name ":" OWS field-value OWS CRLF (RFC 9112 §5).
func parseFieldLine(line []byte) (name, value, rest []byte, err error) {
	colon := 0
	for colon < len(line) && class[line[colon]]&tokenByte != 0 {
		colon++
	}
	if colon == len(line) {
		return nil, nil, nil, ErrLineEnd
	}
	if line[colon] != ':' || colon == 0 {
		if c := line[colon]; c == ' ' || c == '\t' {
			if colon == 0 {
				return nil, nil, nil, ErrFold // RFC 9112 §5.2
			}
			return nil, nil, nil, ErrSpaceBeforeColon // RFC 9112 §5.1
		}
		return nil, nil, nil, ErrFieldName
	}
	end := bytes.IndexByte(line, '\n')
	if end <= colon || line[end-1] != '\r' { // RFC 9112 §2.2: a bare LF is no line end here
		return nil, nil, nil, ErrLineEnd
	}
	value = trimSpace(line[colon+1 : end-1])
	if !validValue(value) { // finds a bare CR too
		return nil, nil, nil, ErrFieldValue
	}
	return line[:colon], value, line[end+1:], nil
}

// KindOf is the kind of the fields of that name. A name that differs from one of these only in "_" for "-", which many programs
// take for the same, is KindHop: nobody behind the gateway sees it.
func KindOf[N []byte | string](name N) Kind {
	switch len(name) {
	case 2:
		if EqualFold(name, "te") {
			return KindTE
		}
	case 4:
		if EqualFold(name, "host") {
			return KindHost
		}
	case 6:
		if EqualFold(name, "expect") {
			return KindExpect
		}
	case 7:
		if EqualFold(name, "upgrade") {
			return KindUpgrade
		}
		if EqualFold(name, "trailer") {
			return KindHop
		}
	case 10:
		if EqualFold(name, "connection") {
			return KindConnection
		}
		if EqualAlike(name, "keep-alive") {
			return KindHop
		}
	case 14:
		if EqualFold(name, "content-length") {
			return KindContentLength
		}
		if EqualAlike(name, "content-length") || EqualAlike(name, "http2-settings") { // RFC 7540 §3.2.1
			return KindHop
		}
	case 16:
		if EqualAlike(name, "proxy-connection") {
			return KindHop
		}
	case 17:
		if EqualFold(name, "transfer-encoding") {
			return KindTransferEncoding
		}
		if EqualAlike(name, "transfer-encoding") {
			return KindHop
		}
	case 18:
		if EqualAlike(name, "proxy-authenticate") {
			return KindHop
		}
	case 19:
		if EqualAlike(name, "proxy-authorization") {
			return KindHop
		}
	case 25:
		if EqualAlike(name, "proxy-authentication-info") {
			return KindHop
		}
	}
	return KindOther
}

// take notes what a field of a known kind says and marks it when it is hop-by-hop.
func (f *framingFields) take(field *Field) error {
	switch field.Kind {
	case KindHost:
		f.hosts++
		f.host = field.Value
	case KindContentLength:
		f.lengths++
		var err error
		if f.length, err = parseLength(field.Value); err != nil || f.lengths > 1 {
			return ErrContentLength // RFC 9112 §6.3: lists and repetitions, even of one value, are refused
		}
	case KindTransferEncoding:
		field.Hop = true
		f.codings++
		f.chunked = EqualFold(field.Value, "chunked")
		if !f.chunked || f.codings > 1 {
			return ErrTransferCoding // RFC 9112 §6.1
		}
	case KindConnection:
		field.Hop = true
		for rest := field.Value; rest != nil; {
			var option []byte
			switch option, rest = nextListItem(rest); {
			case len(option) == 0:
			case EqualFold(option, "close"):
				f.close = true
			case EqualFold(option, "keep-alive"):
				f.keepAlive = true
			case EqualFold(option, "upgrade"):
				f.upgrade = true
			default:
				f.connectionList = true
			}
		}
	case KindUpgrade:
		field.Hop = true
		if f.upgradeTo == nil {
			f.upgradeTo = field.Value
		}
	case KindExpect:
		if f.expect != nil {
			return ErrExpectation
		}
		f.expect = field.Value
	case KindTE, KindHop:
		field.Hop = true
	}
	return nil
}

// parseLength reads 1*DIGIT (RFC 9110 §8.6) into an int64.
func parseLength(b []byte) (int64, error) {
	if len(b) == 0 || len(b) > 18 { // 18 digits cannot overflow
		return 0, ErrContentLength
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, ErrContentLength
		}
		n = n*10 + int64(c-'0')
	}
	return n, nil
}

// markNamed marks each field that a Connection field of head names (RFC 9110 §7.6.1).
func markNamed(head, fields Fields) {
	for i := range head {
		if head[i].Kind != KindConnection {
			continue
		}
		for rest := head[i].Value; rest != nil; {
			var option []byte
			option, rest = nextListItem(rest)
			for j := range fields {
				if EqualFold(fields[j].Name, option) {
					fields[j].Hop = true
				}
			}
		}
	}
}

// Framing says how a message's content is delimited (RFC 9112 §6.3).
type Framing uint8

// Framings.
const (
	NoBody     Framing = iota
	Length             // Content-Length
	Chunked            // Transfer-Encoding: chunked
	UntilClose         // the content ends with the connection; of requests: with the stream that carries only it
)
