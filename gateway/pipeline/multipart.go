package pipeline

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"fieldgate/contract/schema"
)

// Bounds of multipart/form-data. The whole is bounded by max-body.
const (
	maxParts      = 1024
	maxPartHead   = 8 << 10 // bytes of a part's fields
	maxPartFields = 16
	maxBoundary   = 70 // RFC 2046 §5.1.1
)

func errPart(format string, arguments ...any) error {
	return &schema.Violation{Kind: schema.Syntax, Message: fmt.Sprintf(format, arguments...), Offset: -1}
}

// formPart is one part of a multipart/form-data.
type formPart struct {
	name      []byte
	mediaType []byte // as sent, with parameters; empty: not said
	fields    [maxPartFields]partField
	count     int // of fields
	content   []byte
}

type partField struct{ name, value []byte }

func (p *formPart) field(lower string) (value []byte, found bool) {
	for i := range p.fields[:p.count] {
		if equalFold(p.fields[i].name, lower) {
			return p.fields[i].value, true
		}
	}
	return nil, false
}

// checkMultipart checks multipart/form-data (RFC 7578; OpenAPI 3.1 §4.8.14.5): an object, lists as several parts of one name. Parts
// that are files are not looked into.
func (m *linkedMedia) checkMultipart(contentType, content []byte) error {
	_, parameters, _ := bytes.Cut(contentType, []byte{';'})
	boundary, found, ok := parameterNamed(parameters, "boundary")
	if !ok || !found || !validBoundary(boundary) {
		return errParameters
	}
	parts, err := readParts(content, boundary)
	if err != nil {
		return err
	}
	slices.SortStableFunc(parts, func(a, b formPart) int { return bytes.Compare(a.name, b.name) })
	w := wireTexts.Get().(*wireText)
	defer w.free()
	w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceObject})
	for len(parts) > 0 {
		same := 1
		for same < len(parts) && bytes.Equal(parts[same].name, parts[0].name) {
			same++
		}
		if err := m.appendParts(w, parts[:same]); err != nil {
			return err
		}
		parts = parts[same:]
	}
	w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceEnd})
	return m.schema.ValidatePieces(w.pieces)
}

// validBoundary: RFC 2046 §5.1.1, bchars that do not end in a space.
func validBoundary(boundary []byte) bool {
	if len(boundary) == 0 || len(boundary) > maxBoundary || boundary[len(boundary)-1] == ' ' {
		return false
	}
	for _, c := range boundary {
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && bytes.IndexByte([]byte("'()+_,-./:=? "), c) < 0 {
			return false
		}
	}
	return true
}

// readParts takes the content apart. What programs disagree on is refused: text before the first and after the last delimiter, bare
// line feeds, a line that only begins like a delimiter.
func readParts(content, boundary []byte) (parts []formPart, err error) {
	delimiter := append([]byte("\r\n--"), boundary...)
	rest, ok := bytes.CutPrefix(content, delimiter[2:])
	if !ok {
		return nil, errPart("the content does not begin with its boundary")
	}
	for {
		last := false
		if rest, last, err = afterDelimiter(rest); err != nil || last {
			return parts, err
		}
		if len(parts) == maxParts {
			return nil, errPart("the form has more than %d parts", maxParts)
		}
		var part formPart
		if rest, err = part.readHead(rest); err != nil {
			return nil, err
		}
		end := bytes.Index(rest, delimiter)
		if end < 0 || bytes.HasPrefix(rest, delimiter[2:]) { // the latter is a part that ends before its content begins
			return nil, errPart("a part has no end")
		}
		part.content, rest = rest[:end], rest[end+len(delimiter):]
		parts = append(parts, part)
	}
}

// afterDelimiter reads what follows a delimiter: a line end, or "--" and the end of the content.
func afterDelimiter(rest []byte) (_ []byte, last bool, err error) {
	if closing, ok := bytes.CutPrefix(rest, []byte("--")); ok {
		closing = bytes.TrimLeft(closing, " \t")
		if len(closing) > 0 && string(closing) != "\r\n" {
			return nil, false, errPart("something follows the last part")
		}
		return nil, true, nil
	}
	rest, ok := bytes.CutPrefix(bytes.TrimLeft(rest, " \t"), []byte("\r\n"))
	if !ok {
		return nil, false, errPart("a line begins like the boundary and goes on")
	}
	return rest, false, nil
}

// readHead reads the fields of a part (RFC 7578 §4.2).
func (p *formPart) readHead(rest []byte) (content []byte, err error) {
	for size := 0; ; {
		line, after, ok := bytes.Cut(rest, []byte("\r\n"))
		if size += len(line) + 2; !ok || size > maxPartHead {
			return nil, errPart("the head of a part has no end, or more than %d bytes", maxPartHead)
		}
		if rest = after; len(line) == 0 {
			break
		}
		name, value, ok := bytes.Cut(line, []byte{':'})
		if !ok || len(name) == 0 || slices.ContainsFunc(name, func(c byte) bool { return !isTokenByte(c) }) ||
			slices.ContainsFunc(value, func(c byte) bool { return c < 0x20 && c != '\t' || c == 0x7f }) {
			return nil, errPart("a field of a part is malformed")
		}
		if _, again := p.field(strings.ToLower(string(name))); again || p.count == maxPartFields {
			return nil, errPart("a part has a field twice, or more than %d fields", maxPartFields)
		}
		p.fields[p.count] = partField{name, bytes.TrimSpace(value)}
		p.count++
	}
	if encoding, found := p.field("content-transfer-encoding"); found && !equalFold(encoding, "binary") && !equalFold(encoding, "8bit") && !equalFold(encoding, "7bit") {
		return nil, errPart("a part is encoded, which RFC 7578 section 4.7 has done away with")
	}
	p.mediaType, _ = p.field("content-type")
	disposition, _ := p.field("content-disposition")
	kind, parameters, _ := bytes.Cut(disposition, []byte{';'})
	name, found, ok := parameterNamed(parameters, "name")
	_, _, fileOK := parameterNamed(parameters, "filename")
	if _, extended, _ := parameterNamed(parameters, "filename*"); extended || !ok || !fileOK || !found || !equalFold(bytes.TrimSpace(kind), "form-data") {
		return nil, errPart("a part lacks a name, or its Content-Disposition is malformed")
	}
	if p.name = name; bytes.IndexByte(name, '\\') >= 0 {
		return nil, errPart("the name of a part has a backslash in it, which programs read in several ways")
	}
	return rest, nil
}

// appendParts writes the parts of one name as a member.
func (m *linkedMedia) appendParts(w *wireText, parts []formPart) error {
	name := parts[0].name
	takes, _ := m.schema.Member(name)
	encoding := m.part(name)
	for i := range parts {
		if encoding != nil {
			if err := encoding.check(&parts[i]); err != nil {
				return err
			}
		}
	}
	key := schema.Piece{Kind: schema.PieceKey, Text: name}
	first := &parts[0]
	whole := len(parts) == 1 && takes.Array && first.encoding() == encodingJSON && bytes.HasPrefix(bytes.TrimSpace(first.content), []byte{'['})
	if !takes.Array || len(parts) == 1 && takes.Primitive || whole {
		for i := range parts { // more than one of a name is more than the schema takes, which it will say
			piece, err := parts[i].piece(takes)
			if err != nil {
				return err
			}
			w.pieces = append(w.pieces, key, piece)
		}
		return nil
	}
	w.pieces = append(w.pieces, key, schema.Piece{Kind: schema.PieceArray})
	item := m.schema.Item(name)
	for i := range parts {
		piece, err := parts[i].piece(item)
		if err != nil {
			return err
		}
		w.pieces = append(w.pieces, piece)
	}
	w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceEnd})
	return nil
}

func (p *formPart) encoding() encoding {
	var lower [128]byte
	return encodingOfBytes(mediaType(lower[:0], p.mediaType))
}

// piece is the part as its schema and type have it: JSON, or a text.
func (p *formPart) piece(takes schema.Takes) (schema.Piece, error) {
	written := p.encoding()
	if takes.Opaque {
		return schema.Piece{}, nil // bytes that nobody looks into
	}
	if !readableParameters(written, p.mediaType) {
		return schema.Piece{}, p.wrong("the part is not written in utf-8")
	}
	if written == encodingJSON || len(p.mediaType) == 0 && takes.Object && !takes.Primitive {
		return schema.Piece{Kind: schema.PieceJSON, Text: p.content}, nil
	}
	return schema.Piece{Text: p.content}, nil
}

// wrong is what is wrong with the part.
func (p *formPart) wrong(message string) error {
	name := strings.NewReplacer("~", "~0", "/", "~1").Replace(string(p.name[:min(len(p.name), 64)]))
	return &schema.Violation{Kind: schema.Mismatch, Instance: "/" + name, Message: message, Offset: -1}
}

// check holds a part against what encoding says of it. A part that names no type is taken for what the contract has.
func (e *linkedPart) check(p *formPart) error {
	if len(e.Types) > 0 && len(p.mediaType) > 0 {
		var lower [128]byte
		given := mediaType(lower[:0], p.mediaType)
		if !slices.ContainsFunc(e.Types, func(t string) bool { return t == string(given) || inRange(t, given) }) {
			return p.wrong("the part is of another type than " + listed(e.Types))
		}
	}
	for i := range e.headers {
		header := &e.headers[i]
		value, found := p.field(header.field)
		switch {
		case !found && header.Required:
			return p.wrong("the part lacks the field " + header.Name)
		case !found || header.schema == nil:
		default:
			if err := header.checkField(value); err != nil {
				return p.wrong("the field " + header.Name + " of the part: " + messageOf(err))
			}
		}
	}
	return nil
}
