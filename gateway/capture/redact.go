package capture

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/contract/schema"
)

// Notes about content that is not there, or not as it was.
const (
	noteTooLarge  = "left out: larger than a capture holds"
	noteMalformed = "left out: it is not well-formed, so that its secret fields cannot be found"
	noteNotRead   = "refused before it was read"
	noteEncoded   = "left out: it is compressed"
	noteStream    = "left out: it was not read whole, but relayed as it came"
	noteForm      = "left out: the secret fields of a form with parts cannot be found"
	noteOpaque    = "neither JSON nor CBOR: secret fields cannot be found in it"
	noteCBOR      = "CBOR, shown as JSON"
)

// redactor takes out what is secret in the exchanges of one contract, or of none.
type redactor struct {
	schemas *schemas
}

func newRedactor(contract *fieldgate.Contract) *redactor { return &redactor{newSchemas(contract)} }

// captured is an exchange without what is secret.
func (r *redactor) captured(x *exchange) *fieldgate.Captured {
	c := &fieldgate.Captured{Instance: x.instance, Record: x.record, Path: withoutCredentials(x.path), Query: r.query(x.operation, x.query)}
	c.Record.Route = withoutCredentials(c.Record.Route)
	given := r.given(x.operation)
	c.Request = r.content(&x.request, x.operation, given, x.record.BytesIn)
	c.Response = r.content(&x.response, x.operation, given, x.record.BytesOut)
	if x.operation != nil {
		c.Path = r.path(x, c.Path)
		r.fields(c.Request.Fields, x.operation)
	}
	if x.problem != nil {
		if x.request.bytes == 0 && x.record.BytesIn == 0 {
			c.Request.Note = noteNotRead
		}
		c.Response = fieldgate.CapturedContent{Type: fieldgate.ProblemMediaType, Bytes: x.record.BytesOut, JSON: problemJSON(x.problem, x.instance)}
	}
	return c
}

// problemJSON is what the caller was told, but for a detail that may quote what it sent.
func problemJSON(problem *fieldgate.Problem, instance string) json.RawMessage {
	quiet := *problem
	if problem.Code == fieldgate.ProblemInvalidPayload || problem.Code == fieldgate.ProblemInvalidParameter {
		quiet.Detail = ""
	}
	return quiet.AppendJSON(nil, instance)
}

// given lists all schemas of an operation's payloads: of whichever a body is, a field that is secret in one of them is taken out.
func (r *redactor) given(o *fieldgate.Operation) (list []any) {
	if o == nil {
		return nil
	}
	for media := range eachMedia(o) {
		if media.Schema != "" {
			list = append(list, r.schemas.ref(string(media.Schema)))
		}
	}
	return list
}

// eachMedia goes through the representations of an operation's payloads.
func eachMedia(o *fieldgate.Operation) func(yield func(*fieldgate.MediaType) bool) {
	return func(yield func(*fieldgate.MediaType) bool) {
		lists := [][]fieldgate.MediaType{}
		for _, payload := range []*fieldgate.Payload{o.Request, o.Message} {
			if payload != nil {
				lists = append(lists, payload.Media)
			}
		}
		for i := range o.Responses {
			lists = append(lists, o.Responses[i].Media)
		}
		for _, list := range lists {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}

// secretParameter says of a parameter of the contract whether its value is secret.
func (r *redactor) secretParameter(p *fieldgate.Parameter) bool {
	if secretName(p.Name) {
		return true
	}
	if p.Schema == "" {
		return false
	}
	all, whole := r.schemas.inPlace([]any{r.schemas.ref(string(p.Schema))})
	return !whole || secret(all) != ""
}

// path is the exchange's path or topic, or the contract's template where one of its parameters is secret.
func (r *redactor) path(x *exchange, path string) string {
	o := x.operation
	for i := range o.Parameters {
		if p := &o.Parameters[i]; p.In != fieldgate.InPath || !r.secretParameter(p) {
			continue
		}
		switch {
		case x.record.Protocol == fieldgate.ProtocolMQTT && o.MQTT != nil:
			return o.MQTT.Topic
		case x.record.Protocol == fieldgate.ProtocolCoAP && o.CoAP != nil:
			return o.CoAP.Path
		case o.HTTP != nil:
			return o.HTTP.Path
		}
		return replacement
	}
	return path
}

// query takes secret values out of a query or a form.
func (r *redactor) query(o *fieldgate.Operation, query string) string {
	return queryWithout(query, func(name string) bool {
		if o != nil {
			for i := range o.Parameters {
				if o.Parameters[i].Name == name && r.secretParameter(&o.Parameters[i]) {
					return true
				}
			}
		}
		return secretName(name)
	})
}

// fields takes the values out that only the contract knows to be secret.
func (r *redactor) fields(fields []fieldgate.CapturedField, o *fieldgate.Operation) {
	for i := range fields {
		field := &fields[i]
		for _, name := range o.Access.Headers {
			if strings.EqualFold(name, field.Name) {
				field.Value, field.Redacted = "", whyCredential
			}
		}
		for j := range o.Parameters {
			if strings.EqualFold(o.Parameters[j].Name, field.Name) && r.secretParameter(&o.Parameters[j]) {
				field.Value, field.Redacted = "", whyName
			}
		}
	}
}

// content takes out what is secret in one direction.
func (r *redactor) content(from *content, o *fieldgate.Operation, given []any, bytesSeen uint64) fieldgate.CapturedContent {
	c := fieldgate.CapturedContent{Fields: from.fields, Type: withoutCredentials(text(from.mediaType)), Bytes: max(from.bytes, bytesSeen)}
	switch {
	case from.tooLarge, uint64(len(from.data)) < from.bytes:
		c.Note = noteTooLarge
		return c
	case len(from.data) == 0:
		if bytesSeen > 0 {
			c.Note = noteStream
		}
		return c
	}
	if from.encoded {
		c.Note = noteEncoded
		return c
	}
	mediaType, _, _ := strings.Cut(strings.ToLower(from.mediaType), ";")
	mediaType = strings.TrimSpace(mediaType)
	switch {
	case r.structured(&c, from.data, mediaType, given):
	case isStructured(mediaType), mediaType == "" && mayBeStructured(o), looksStructured(from.data):
		c.Note = noteMalformed
	case mediaType == "application/x-www-form-urlencoded":
		c.Data = []byte(r.query(o, string(from.data)))
	case strings.HasPrefix(mediaType, "multipart/"):
		c.Note = noteForm
	default:
		c.Data, c.Note = []byte(withoutCredentials(string(from.data))), noteOpaque
	}
	return c
}

// structured fills in content that is JSON or CBOR, whatever it calls itself, and says whether it is.
func (r *redactor) structured(c *fieldgate.CapturedContent, data []byte, mediaType string, given []any) bool {
	if json.Valid(data) {
		c.JSON = r.json(data, given, false)
		if c.JSON == nil {
			c.Note = noteTooLarge
		}
		return true
	}
	if mediaType != "" && !isCBOR(mediaType) {
		return false
	}
	converted, err := schema.JSONFromCBOR(nil, data, nil)
	if err != nil {
		return false
	}
	if c.JSON, c.Note = r.json(converted, given, true), noteCBOR; c.JSON == nil {
		c.Note = noteTooLarge
	}
	return true
}

func isCBOR(mediaType string) bool {
	return mediaType == "application/cbor" || strings.HasSuffix(mediaType, "+cbor")
}

func isStructured(mediaType string) bool {
	return isCBOR(mediaType) || mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")
}

// mayBeStructured says whether content of an operation that does not say what it is has to be taken for JSON or CBOR.
func mayBeStructured(o *fieldgate.Operation) bool {
	if o == nil {
		return true
	}
	for media := range eachMedia(o) {
		if isStructured(media.Type) {
			return true
		}
	}
	return false
}

func looksStructured(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n\ufeff")
	return len(data) > 0 && (data[0] == '{' || data[0] == '[')
}

// maxRedacted bounds content after redaction: what is put in may be longer than what is taken out.
const maxRedacted = 2 * fieldgate.MaxCaptureContent

// json is a JSON document without what is secret in it; nil if it grows too large. numbered: it came from CBOR, where integers may
// stand for names.
func (r *redactor) json(document []byte, given []any, numbered bool) json.RawMessage {
	w := rewriter{schemas: r.schemas, in: json.NewDecoder(bytes.NewReader(document)), numbered: numbered}
	w.in.UseNumber()
	if w.value(given) != nil || len(w.out) > maxRedacted {
		return nil
	}
	return w.out
}

// rewriter copies a JSON document value by value.
type rewriter struct {
	*schemas
	in       *json.Decoder
	out      []byte
	numbered bool
}

// value copies the next value, to which the given schemas may apply.
func (w *rewriter) value(given []any) error {
	all, whole := w.inPlace(given)
	why := secret(all)
	if !whole {
		why = whySchema
	}
	if why != "" {
		return w.instead(why)
	}
	token, err := w.in.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return w.object(all)
		}
		return w.array(all)
	case string:
		w.out = fieldgate.AppendJSONString(w.out, withoutCredentials(t))
	case json.Number:
		w.out = append(w.out, t...)
	case bool:
		w.out = strconv.AppendBool(w.out, t)
	default:
		w.out = append(w.out, "null"...)
	}
	return nil
}

func (w *rewriter) object(all []map[string]any) error {
	w.out = append(w.out, '{')
	for first := true; w.in.More(); first = false {
		token, err := w.in.Token()
		if err != nil {
			return err
		}
		name := token.(string)
		if w.numbered {
			name = named(all, name)
		}
		if !first {
			w.out = append(w.out, ',')
		}
		w.out = append(fieldgate.AppendJSONString(w.out, withoutCredentials(name)), ':')
		if secretName(name) {
			err = w.instead(whyName)
		} else {
			err = w.value(member(all, name))
		}
		if err != nil {
			return err
		}
	}
	w.out = append(w.out, '}')
	_, err := w.in.Token()
	return err
}

func (w *rewriter) array(all []map[string]any) error {
	w.out = append(w.out, '[')
	given := item(all)
	for first := true; w.in.More(); first = false {
		if !first {
			w.out = append(w.out, ',')
		}
		if err := w.value(given); err != nil {
			return err
		}
	}
	w.out = append(w.out, ']')
	_, err := w.in.Token()
	return err
}

// instead puts the reason in the place of the next value.
func (w *rewriter) instead(why string) error {
	var skipped json.RawMessage
	if err := w.in.Decode(&skipped); err != nil {
		return err
	}
	w.out = append(w.out, `{"redacted":"`+why+`"}`...)
	return nil
}

// named is the name of the property that an integer key stands for (x-cbor-key).
func named(all []map[string]any, key string) string {
	for _, schema := range all {
		properties, _ := schema["properties"].(map[string]any)
		for name, property := range properties {
			words, _ := property.(map[string]any)
			if number, ok := words["x-cbor-key"].(float64); ok && strconv.FormatFloat(number, 'f', -1, 64) == key {
				return name
			}
		}
	}
	return key
}

// text is what can stand in a message: valid UTF-8.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\ufffd")
}
