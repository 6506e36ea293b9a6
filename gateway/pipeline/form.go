package pipeline

import (
	"bytes"
	"slices"

	"fieldgate"
	"fieldgate/contract/schema"
)

// maxFields bounds the fields of a form.
const maxFields = 16 << 10

var errManyFields = &schema.Violation{Kind: schema.TooLarge, Message: "the form has too many fields", Offset: -1}

var errFormEncoding = &schema.Violation{Kind: schema.Syntax, Message: "the percent-encoding is malformed", Offset: -1}

// checkForm checks application/x-www-form-urlencoded (OpenAPI 3.1 §4.8.14.4): an object, lists as several fields of one name, objects
// as JSON, unless encoding says otherwise.
func (m *linkedMedia) checkForm(content []byte) error {
	w := wireTexts.Get().(*wireText)
	defer w.free()
	w.percent, w.form = true, true
	err := w.eachPair(content, func(name, value []byte) error {
		if len(w.pairs) == maxFields {
			return errManyFields
		}
		w.pairs = append(w.pairs, pair{name, value}) // the value as it came
		return nil
	})
	if err == nil {
		slices.SortStableFunc(w.pairs, func(a, b pair) int { return bytes.Compare(a.name, b.name) })
		err = w.appendFields(m)
	}
	switch err {
	case nil:
		return m.schema.ValidatePieces(w.pieces)
	case errPercent:
		return errFormEncoding
	}
	return err
}

// appendFields writes the sorted fields as the members of an object.
func (w *wireText) appendFields(m *linkedMedia) error {
	w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceObject})
	fields := w.pairs
	for len(fields) > 0 {
		name, same := fields[0].name, 1
		property, _, bracket := bytes.Cut(name, []byte{'['})
		part := m.part(property)
		if deep := bracket && part != nil && part.Style == fieldgate.StyleDeepObject; deep {
			prefix := name[:len(property)+1]
			for same < len(fields) && bytes.HasPrefix(fields[same].name, prefix) {
				same++
			}
			if err := w.appendDeep(property, fields[:same]); err != nil {
				return err
			}
		} else {
			for same < len(fields) && bytes.Equal(fields[same].name, name) {
				same++
			}
			if err := w.appendField(m, name, fields[:same]); err != nil {
				return err
			}
		}
		fields = fields[same:]
	}
	w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceEnd})
	return nil
}

// appendField writes the fields of one name.
func (w *wireText) appendField(m *linkedMedia, name []byte, fields []pair) error {
	takes, _ := m.schema.Member(name)
	part := m.part(name)
	key := schema.Piece{Kind: schema.PieceKey, Text: name}
	switch {
	case part != nil && (part.Joined || part.Style != fieldgate.StyleDefault && takes.Object) && len(fields) == 1 && (takes.Array || takes.Object):
		w.pieces = append(w.pieces, key)
		return w.appendJoined(&part.joined, fields[0].value, takes)
	case takes.Array && (len(fields) > 1 || !takes.Primitive):
		w.pieces = append(w.pieces, key, schema.Piece{Kind: schema.PieceArray})
		kind := schema.PieceText
		if m.schema.Item(name).Object {
			kind = schema.PieceJSON
		}
		for _, field := range fields {
			if err := w.appendValue(kind, field.value); err != nil {
				return err
			}
		}
		w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceEnd})
		return nil
	}
	kind := schema.PieceText
	if takes.Object && !takes.Primitive {
		kind = schema.PieceJSON
	}
	for _, field := range fields { // more than one of a name is more than the schema takes, which it will say
		w.pieces = append(w.pieces, key)
		if err := w.appendValue(kind, field.value); err != nil {
			return err
		}
	}
	return nil
}

func (w *wireText) appendValue(kind schema.PieceKind, value []byte) error {
	decoded, ok := w.decoded(value)
	if !ok {
		return errPercent
	}
	w.pieces = append(w.pieces, schema.Piece{Kind: kind, Text: decoded})
	return nil
}

// appendJoined writes a list or object that is written in one field.
func (w *wireText) appendJoined(p *linkedParameter, value []byte, takes schema.Takes) error {
	w.items = w.items[:0]
	if err := w.split(p, value, true); err != nil {
		return err
	}
	end := schema.Piece{Kind: schema.PieceEnd}
	if takes.Array {
		w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceArray})
		for _, item := range w.items {
			w.pieces = append(w.pieces, schema.Piece{Text: item})
		}
		w.pieces = append(w.pieces, end)
		return nil
	}
	if len(w.items)%2 != 0 {
		return errStyle
	}
	w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceObject})
	for i := 0; i < len(w.items); i += 2 {
		w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceKey, Text: w.items[i]}, schema.Piece{Text: w.items[i+1]})
	}
	w.pieces = append(w.pieces, end)
	return nil
}

// appendDeep writes fields named property[member] as an object.
func (w *wireText) appendDeep(property []byte, fields []pair) error {
	w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceKey, Text: property}, schema.Piece{Kind: schema.PieceObject})
	for _, field := range fields {
		member, ok := deepMember(field.name, string(property))
		if !ok || bytes.ContainsAny(member, "[]") {
			return errNesting
		}
		w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceKey, Text: member})
		if err := w.appendValue(schema.PieceText, field.value); err != nil {
			return err
		}
	}
	w.pieces = append(w.pieces, schema.Piece{Kind: schema.PieceEnd})
	return nil
}
