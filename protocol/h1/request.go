package h1

import "bytes"

// Request is a request head. Its slices belong to the parsed bytes, or to the Request, and stay valid until the next
// Parse or Set on the Request or the next head read from the Reader.
type Request struct {
	Method []byte
	Target []byte // as received
	Form   Form
	// Host is the authority the client asked for: of an absolute-form target, otherwise of the Host field; as received,
	// with the port if one was given. Empty only in HTTP/1.0.
	Host []byte
	// Path is the one reading of the target's path on which routing and forwarding both rest; it begins with "/"
	// (empty for asterisk-form and authority-form). See normalizePath.
	Path []byte
	// Query is what follows "?", as received: nil without "?", visible ASCII with whole percent triplets only.
	Query  []byte
	Minor  uint8 // 1 for HTTP/1.1, 0 for HTTP/1.0
	Fields Fields

	Framing Framing // NoBody, Length or Chunked; UntilClose only after Set
	Length  int64   // bytes of content if Framing is Length (0 if the client said so), else 0

	Close          bool   // the connection ends with this exchange (RFC 9112 §9.3)
	ExpectContinue bool   // the client waits for 100 (RFC 9110 §10.1.1)
	Upgrade        []byte // protocols offered, nil without a valid offer (RFC 9110 §7.8)

	scratch []byte // Path, if it had to be normalised
	cookies []byte // Cookie, if it came in parts
}

// Parse reads one request head: request line, fields, final empty line, nothing behind it. It returns an *Error.
func (r *Request) Parse(head []byte, limits *Limits) error {
	if len(head) > limits.Head {
		return ErrHeadTooLarge
	}
	end := bytes.IndexByte(head, '\n')
	if end < 1 || head[end-1] != '\r' {
		return ErrLineEnd
	}
	line := head[:end-1]
	if len(line) > limits.RequestLine {
		return ErrRequestLineLength
	}
	if err := r.parseLine(line); err != nil {
		return err
	}
	fields, found, err := parseFields(head[end+1:], r.Fields[:0], limits.Fields)
	r.Fields = fields
	if err != nil {
		return err
	}
	if found.connectionList && namesEndToEnd(fields) {
		return ErrConnectionOption
	}
	if err := r.resolveTarget(&found); err != nil {
		return err
	}
	return r.frame(&found)
}

// namesEndToEnd reports whether a Connection field names a field that every recipient needs, to have it removed on the way
// (RFC 9110 §7.6.1 forbids it): they are those that cannot wait for the trailers either.
func namesEndToEnd(fields Fields) bool {
	for i := range fields {
		switch field := &fields[i]; {
		case !field.Hop:
		case field.Kind == KindOther && !trailerName(field.Name),
			field.Kind == KindHost, field.Kind == KindContentLength, field.Kind == KindExpect:
			return true
		}
	}
	return false
}

// parseLine reads method SP request-target SP HTTP-version (RFC 9112 §3), with exactly one SP each.
func (r *Request) parseLine(line []byte) error {
	space := bytes.IndexByte(line, ' ')
	if space <= 0 || !validMethod(line[:space]) {
		return ErrRequestLine
	}
	r.Method = line[:space]
	line = line[space+1:]
	space = bytes.IndexByte(line, ' ')
	if space <= 0 {
		return ErrRequestLine
	}
	r.Target = line[:space]
	minor, err := parseVersion(line[space+1:])
	if err != nil {
		return err
	}
	r.Minor = minor
	return nil
}

// validMethod: PRI is none, so that nobody takes a request for the preface of HTTP/2 (RFC 9113 §11.6).
func validMethod(b []byte) bool { return ValidName(b) && string(b) != "PRI" }

// parseVersion accepts HTTP/1.0 and HTTP/1.1, which are all that exist of version 1 (RFC 9112 §2.3).
func parseVersion(b []byte) (minor uint8, err error) {
	switch string(b) {
	case "HTTP/1.1":
		return 1, nil
	case "HTTP/1.0":
		return 0, nil
	}
	if len(b) == 8 && string(b[:5]) == "HTTP/" && b[6] == '.' && isDigit(b[5]) && isDigit(b[7]) {
		return 0, ErrVersion
	}
	return 0, ErrRequestLine
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// frame decides how the content is delimited (RFC 9112 §6.3) and what becomes of the connection (§9.3).
func (r *Request) frame(found *framingFields) error {
	r.Framing, r.Length = NoBody, 0
	switch {
	case found.chunked && found.lengths > 0:
		return ErrTwoLengths
	case found.chunked && r.Minor == 0:
		return ErrTransferEncoding // RFC 9112 §6.1
	case found.chunked:
		r.Framing = Chunked
	case found.lengths > 0:
		r.Framing, r.Length = Length, found.length
	}

	r.Close = found.close || r.Minor == 0 && !found.keepAlive

	r.ExpectContinue = false
	if found.expect != nil && r.Minor == 1 { // RFC 9110 §10.1.1: ignored in HTTP/1.0
		if !EqualFold(found.expect, "100-continue") {
			return ErrExpectation
		}
		r.ExpectContinue = r.Framing == Chunked || r.Length > 0
	}

	r.Upgrade = nil
	if found.upgrade && len(found.upgradeTo) > 0 && r.Minor == 1 { // RFC 9110 §7.8
		r.Upgrade = found.upgradeTo
	}
	return nil
}
