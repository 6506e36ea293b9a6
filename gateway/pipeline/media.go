package pipeline

import (
	"bytes"
	"slices"

	"fieldgate"
	"fieldgate/contract/schema"
)

// linkedMedia is one representation of a payload with its schema compiled.
type linkedMedia struct {
	mediaType string
	schema    *schema.Schema // nil: anything goes
	parts     []linkedPart   // of forms: properties that are not written in the default way
}

// linkedPart is how one property of a form is written.
type linkedPart struct {
	*fieldgate.PartEncoding
	headers []linkedParameter
	joined  linkedParameter // of a form that is not multipart: how the value is taken apart
}

func linkMedia(declared []fieldgate.MediaType, schemas *schemas) ([]linkedMedia, error) {
	var linked []linkedMedia
	for i := range declared {
		m := linkedMedia{mediaType: declared[i].Type}
		var err error
		if m.schema, err = schemas.compile(declared[i].Schema); err != nil {
			return nil, err
		}
		for j := range declared[i].Encoding {
			part, err := linkPart(&declared[i].Encoding[j], schemas)
			if err != nil {
				return nil, err
			}
			m.parts = append(m.parts, part)
		}
		linked = append(linked, m)
	}
	return linked, nil
}

func linkPart(encoding *fieldgate.PartEncoding, schemas *schemas) (linkedPart, error) {
	part := linkedPart{PartEncoding: encoding}
	part.joined = linkedParameter{Parameter: &fieldgate.Parameter{Name: encoding.Property, In: fieldgate.InQuery, Style: encoding.Style}}
	var err error
	part.headers, err = linkHeaders(encoding.Headers, schemas)
	return part, err
}

func linkHeaders(declared []fieldgate.Parameter, schemas *schemas) ([]linkedParameter, error) {
	var linked []linkedParameter
	for i := range declared {
		header, err := linkParameter(&declared[i], schemas)
		if err != nil {
			return nil, err
		}
		linked = append(linked, header)
	}
	return linked, nil
}

// part is how a property of a form is written; nil: in the default way.
func (m *linkedMedia) part(property []byte) *linkedPart {
	i := slices.IndexFunc(m.parts, func(p linkedPart) bool { return p.Property == string(property) })
	if i < 0 {
		return nil
	}
	return &m.parts[i]
}

// errParameters is said of a content type whose parameters are malformed, or name a character set or form that is not read.
var errParameters = fieldgate.NewProblem(fieldgate.ProblemUnsupportedMedia, "The parameters of the content type are malformed, or name another charset than utf-8.")

// check holds content against the schema of its media type.
func (m *linkedMedia) check(written encoding, contentType, content []byte) error {
	if !readableParameters(written, contentType) {
		return errParameters
	}
	switch written {
	case encodingJSON:
		return m.schema.ValidateJSON(content)
	case encodingCBOR:
		return m.schema.ValidateCBOR(content)
	case encodingText:
		return m.schema.ValidatePieces([]schema.Piece{{Text: content}})
	case encodingForm:
		return m.checkForm(content)
	case encodingMultipart:
		return m.checkMultipart(contentType, content)
	}
	return nil
}

// readableParameters says whether the parameters of a content type leave its content what we take it for. A receiver that heeds
// charset would read other text than we did.
func readableParameters(written encoding, contentType []byte) bool {
	if written == encodingOther || bytes.IndexByte(contentType, ';') < 0 {
		return true
	}
	_, parameters, _ := bytes.Cut(contentType, []byte{';'})
	charset, found, ok := parameterNamed(parameters, "charset")
	if !ok {
		return false
	}
	return !found || equalFold(charset, "utf-8") || written == encodingText && equalFold(charset, "us-ascii")
}

// parameterNamed finds a parameter among those that follow a media type or disposition (RFC 9110 §5.6.6). ok is false where they are
// malformed, or the name stands twice.
func parameterNamed(parameters []byte, name string) (value []byte, found, ok bool) {
	for len(parameters) > 0 {
		var one []byte
		if one, parameters, ok = nextParameter(parameters); !ok {
			return nil, false, false
		}
		if len(one) == 0 {
			continue
		}
		key, text, _ := bytes.Cut(one, []byte{'='})
		if !equalFold(key, name) {
			continue
		}
		if found {
			return nil, false, false
		}
		value, found = text, true
		if text[0] == '"' {
			value = text[1 : len(text)-1]
		}
	}
	return value, found, true
}

// nextParameter cuts off the next parameter, which may be empty, up to and with the ";" after it.
func nextParameter(text []byte) (one, rest []byte, ok bool) {
	text = bytes.TrimLeft(text, " \t")
	end := 0
	for end < len(text) && isTokenByte(text[end]) {
		end++
	}
	if end > 0 {
		if end >= len(text) || text[end] != '=' {
			return nil, nil, false
		}
		start := end + 1
		end = start
		if end < len(text) && text[end] == '"' {
			if end = quotedEnd(text, end); end < 0 {
				return nil, nil, false
			}
		} else {
			for end < len(text) && isTokenByte(text[end]) {
				end++
			}
		}
		if end == start {
			return nil, nil, false
		}
	}
	one, rest = text[:end], bytes.TrimLeft(text[end:], " \t")
	if len(rest) == 0 {
		return one, nil, true
	}
	return one, rest[1:], rest[0] == ';'
}

// quotedEnd is the index after the quoted string at start (RFC 9110 §5.6.4), or -1.
func quotedEnd(text []byte, start int) int {
	for i := start + 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			i++
		case c < 0x20 && c != '\t', c == 0x7f:
			return -1
		}
	}
	return -1
}

// isTokenByte: RFC 9110 §5.6.2.
func isTokenByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}
