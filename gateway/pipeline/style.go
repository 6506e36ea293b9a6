package pipeline

import (
	"bytes"
	"sync"

	"fieldgate"
	"fieldgate/contract/schema"
)

// pair is a member of an object that is written as text.
type pair struct{ name, value []byte }

// wireText reads a value that is written in a style (OpenAPI 3.1 §4.8.12.2, RFC 6570).
type wireText struct {
	pieces []schema.Piece
	items  [][]byte
	pairs  []pair

	percent bool // percent-encoding is to be undone
	form    bool // and "+" is a space
}

var wireTexts = sync.Pool{New: func() any { return new(wireText) }}

func (w *wireText) free() {
	clear(w.pieces)
	clear(w.items)
	clear(w.pairs)
	w.pieces, w.items, w.pairs = w.pieces[:0], w.items[:0], w.pairs[:0]
	w.percent, w.form = false, false
	wireTexts.Put(w)
}

// maxItems bounds the items or members of one parameter.
const maxItems = 1024

var (
	errStyle    = &schema.Violation{Kind: schema.Syntax, Message: "the value is not written in the style that the contract names", Offset: -1}
	errTooMany  = &schema.Violation{Kind: schema.TooLarge, Message: "the value has more than 1024 items", Offset: -1}
	errNesting  = &schema.Violation{Kind: schema.Syntax, Message: "a member is named as name[member], one level deep", Offset: -1}
	delimiterOf = map[fieldgate.ParameterStyle][]string{
		fieldgate.StyleSpaceDelimited: {"%20", "+"},
		fieldgate.StylePipeDelimited:  {"|", "%7C", "%7c"},
	}
)

// checkField holds the value of a header field against its schema.
func (p *linkedParameter) checkField(value []byte) error {
	switch {
	case p.schema == nil:
		return nil
	case p.JSON:
		return p.schema.ValidateJSON(value)
	case p.wire:
		return (*Exchange)(nil).checkStyled(p, value)
	}
	return p.schema.ValidateText(text(value))
}

// checkStyled holds a value against its schema: as each of the sorts that the schema takes, in turn, until one is right.
func (x *Exchange) checkStyled(p *linkedParameter, value []byte) error {
	w := wireTexts.Get().(*wireText)
	defer w.free()
	w.percent = (p.In == fieldgate.InPath || p.In == fieldgate.InQuery) && x.Protocol != fieldgate.ProtocolMQTT
	w.form = p.In == fieldgate.InQuery
	var err error = errStyle
	for _, try := range [...]struct {
		taken bool
		read  func(*wireText, *Exchange, *linkedParameter, []byte) error
	}{{p.takes.Primitive, (*wireText).primitive}, {p.takes.Array, (*wireText).array}, {p.takes.Object, (*wireText).object}} {
		if !try.taken {
			continue
		}
		w.pieces, w.items, w.pairs = w.pieces[:0], w.items[:0], w.pairs[:0]
		if err = try.read(w, x, p, value); err == nil {
			err = p.schema.ValidatePieces(w.pieces)
		}
		if err == nil || err == errPercent {
			return err
		}
	}
	return err
}

// primitive reads a single value.
func (w *wireText) primitive(x *Exchange, p *linkedParameter, value []byte) error {
	if p.many {
		if err := w.gather(x, p.Name); err != nil {
			return err
		}
		if len(w.items) != 1 {
			return errStyle
		}
		w.pieces = append(w.pieces, schema.Piece{Text: w.items[0]})
		return nil
	}
	value, ok := unwrap(p, value)
	if !ok {
		return errStyle
	}
	if value, ok = w.decoded(value); !ok {
		return errPercent
	}
	w.pieces = append(w.pieces, schema.Piece{Text: value})
	return nil
}

// array reads a list.
func (w *wireText) array(x *Exchange, p *linkedParameter, value []byte) error {
	var err error
	if p.many {
		err = w.gather(x, p.Name)
	} else {
		err = w.split(p, value, true)
	}
	if err != nil {
		return err
	}
	w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceArray})
	for _, item := range w.items {
		w.pieces = append(w.pieces, schema.Piece{Text: item})
	}
	w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceEnd})
	return nil
}

// object reads members.
func (w *wireText) object(x *Exchange, p *linkedParameter, value []byte) error {
	var err error
	if p.many {
		err = w.gatherMembers(x, p)
	} else {
		err = w.members(p, value)
	}
	if err != nil {
		return err
	}
	w.appendObject(p.schema)
	return nil
}

// appendObject writes the pairs as an object. Those of one name are a list where the schema takes one.
func (w *wireText) appendObject(s *schema.Schema) {
	w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceObject})
	for i, one := range w.pairs {
		takes, _ := s.Member(one.name)
		if !takes.Array {
			w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceKey, Text: one.name}, schema.Piece{Text: one.value})
			continue
		}
		if hasName(w.pairs[:i], one.name) {
			continue // it was taken with the first
		}
		w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceKey, Text: one.name}, schema.Piece{Kind: schema.PieceArray})
		for _, other := range w.pairs[i:] {
			if bytes.Equal(other.name, one.name) {
				w.pieces = append(w.pieces, schema.Piece{Text: other.value})
			}
		}
		w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceEnd})
	}
	w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceEnd})
}

func hasName(pairs []pair, name []byte) bool {
	for i := range pairs {
		if bytes.Equal(pairs[i].name, name) {
			return true
		}
	}
	return false
}

func (w *wireText) decoded(value []byte) (decoded []byte, ok bool) {
	if !w.percent {
		return value, true
	}
	return percentDecoded(value, w.form)
}

func (w *wireText) addItem(value []byte) error {
	value, ok := w.decoded(value)
	switch {
	case !ok:
		return errPercent
	case len(w.items) == maxItems:
		return errTooMany
	}
	w.items = append(w.items, value)
	return nil
}

func (w *wireText) addPair(name, value []byte) error {
	name, ok := w.decoded(name)
	if value, valid := w.decoded(value); ok && valid {
		if len(w.pairs) == maxItems {
			return errTooMany
		}
		w.pairs = append(w.pairs, pair{name, value})
		return nil
	}
	return errPercent
}

// unwrap takes off what the style writes before a value in a path: "." of labels, ";name=" of matrices.
func unwrap(p *linkedParameter, value []byte) (inner []byte, ok bool) {
	switch p.Style {
	case fieldgate.StyleLabel:
		return bytes.CutPrefix(value, []byte{'.'})
	case fieldgate.StyleMatrix:
		rest, ok := bytes.CutPrefix(value, []byte(";"+p.Name))
		if !ok || len(rest) > 0 && rest[0] != '=' {
			return nil, false
		}
		return bytes.TrimPrefix(rest, []byte{'='}), true
	}
	return value, true
}

// split takes a list apart by the delimiter of its style. An empty text is an empty list.
func (w *wireText) split(p *linkedParameter, value []byte, array bool) error {
	if p.Style == fieldgate.StyleMatrix && p.Explode { // ;color=blue;color=black, or of an object ;R=100;G=200
		return w.splitMatrix(p, value, array)
	}
	value, ok := unwrap(p, value)
	if !ok {
		return errStyle
	}
	if len(value) == 0 {
		return nil
	}
	delimiters := delimiterOf[p.Style]
	switch {
	case p.Style == fieldgate.StyleLabel && p.Explode:
		delimiters = []string{"."}
	case delimiters == nil:
		delimiters = []string{","}
	}
	for {
		item, rest, more := cutAny(value, delimiters)
		if p.In == fieldgate.InHeader {
			item = bytes.TrimSpace(item) // RFC 9110 §5.6.1
		}
		if array {
			if err := w.addItem(item); err != nil {
				return err
			}
		} else if len(w.items) == 2*maxItems {
			return errTooMany
		} else {
			w.items = append(w.items, item)
		}
		if !more {
			return nil
		}
		value = rest
	}
}

func (w *wireText) splitMatrix(p *linkedParameter, value []byte, array bool) error {
	rest, ok := bytes.CutPrefix(value, []byte{';'})
	if !ok {
		return errStyle
	}
	for more := true; more; {
		var item []byte
		item, rest, more = bytes.Cut(rest, []byte{';'})
		if !array {
			if len(w.items) == maxItems {
				return errTooMany
			}
			w.items = append(w.items, item)
			continue
		}
		name, value, _ := bytes.Cut(item, []byte{'='})
		if string(name) != p.Name {
			return errStyle
		}
		if err := w.addItem(value); err != nil {
			return err
		}
	}
	return nil
}

// cutAny cuts at the first of the delimiters.
func cutAny(value []byte, delimiters []string) (before, after []byte, found bool) {
	first, length := len(value), 0
	for _, delimiter := range delimiters {
		if i := bytes.Index(value[:first], []byte(delimiter)); i >= 0 {
			first, length = i, len(delimiter)
		}
	}
	return value[:first], value[first+length:], length > 0
}

// members takes an object apart: R=100,G=200 with explode, else R,100,G,200.
func (w *wireText) members(p *linkedParameter, value []byte) error {
	if err := w.split(p, value, false); err != nil {
		return err
	}
	if p.Explode {
		for _, item := range w.items {
			name, value, ok := bytes.Cut(item, []byte{'='})
			if !ok && p.Style != fieldgate.StyleMatrix {
				return errStyle
			}
			if err := w.addPair(name, value); err != nil {
				return err
			}
		}
		return nil
	}
	if len(w.items)%2 != 0 {
		return errStyle
	}
	for i := 0; i < len(w.items); i += 2 {
		if err := w.addPair(w.items[i], w.items[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// gather collects the values of all pairs of the query with the parameter's name.
func (w *wireText) gather(x *Exchange, name string) error {
	return w.eachPair(x.Query, func(key, value []byte) error {
		if string(key) != name {
			return nil
		}
		return w.addItem(value)
	})
}

// gatherMembers collects the pairs of the query that are members of the parameter.
func (w *wireText) gatherMembers(x *Exchange, p *linkedParameter) error {
	return w.eachPair(x.Query, func(key, value []byte) error {
		if number := x.Operation.queryParameter(key); number < 0 || &x.Operation.parameters[number] != p {
			return nil
		}
		if p.Style == fieldgate.StyleDeepObject {
			member, ok := deepMember(key, p.Name)
			if !ok || bytes.ContainsAny(member, "[]") {
				return errNesting
			}
			key = member
		}
		value, ok := w.decoded(value)
		switch {
		case !ok:
			return errPercent
		case len(w.pairs) == maxItems:
			return errTooMany
		}
		w.pairs = append(w.pairs, pair{key, value})
		return nil
	})
}

// eachPair goes through the pairs of a query, names decoded.
func (w *wireText) eachPair(query []byte, visit func(name, value []byte) error) error {
	for len(query) > 0 {
		var one []byte
		one, query, _ = bytes.Cut(query, []byte{'&'})
		key, value, _ := bytes.Cut(one, []byte{'='})
		name, ok := percentDecoded(key, true)
		if !ok {
			return errPercent
		}
		if err := visit(name, value); err != nil {
			return err
		}
	}
	return nil
}
