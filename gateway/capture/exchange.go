package capture

import (
	"strings"

	"fieldgate"
	"fieldgate/gateway/pipeline"
)

// exchange is the copy of one, as it came.
type exchange struct {
	to       *Captures
	captures []string // that it belongs to

	record    fieldgate.Record
	instance  string
	path      string
	query     string
	contract  *fieldgate.Contract // nil where nothing matched
	operation *fieldgate.Operation
	problem   *fieldgate.Problem

	request, response content
}

// content is one direction.
type content struct {
	fields    []fieldgate.CapturedField
	mediaType string
	bytes     uint64
	data      []byte // at most MaxCaptureContent bytes; nil if there were more
	tooLarge  bool
	encoded   bool // compressed, most likely
}

func (c *content) add(piece []byte) {
	c.bytes += uint64(len(piece))
	if c.tooLarge = c.tooLarge || len(c.data)+len(piece) > fieldgate.MaxCaptureContent; c.tooLarge {
		c.data = nil // what is cut off cannot be read, so that nobody knows what is secret in it
		return
	}
	c.data = append(c.data, piece...)
}

// field takes in a field, without its value if the name says that it is secret: such a value is not even copied.
func (c *content) field(name, value []byte) {
	if strings.EqualFold(string(name), "Content-Encoding") && !strings.EqualFold(string(value), "identity") {
		c.encoded = true // RFC 9110 §8.4
	}
	if len(c.fields) == fieldgate.MaxCaptureFields {
		return
	}
	field := fieldgate.CapturedField{Name: string(name[:min(len(name), fieldgate.MaxIdentifierBytes)])}
	if secretField(field.Name) {
		field.Redacted = whyName
	} else {
		field.Value = withoutCredentials(string(value[:min(len(value), fieldgate.MaxCaptureField)]))
	}
	c.fields = append(c.fields, field)
}

// RequestField implements pipeline.Copy.
func (x *exchange) RequestField(name, value []byte) { x.request.field(name, value) }

// Request implements pipeline.Copy.
func (x *exchange) Request(piece []byte) { x.request.add(piece) }

// ResponseField implements pipeline.Copy.
func (x *exchange) ResponseField(name, value []byte) {
	x.response.field(name, value)
	if strings.EqualFold(string(name), "Content-Type") {
		x.response.mediaType = string(value[:min(len(value), fieldgate.MaxCaptureField)])
	}
}

// Response implements pipeline.Copy.
func (x *exchange) Response(piece []byte) { x.response.add(piece) }

// Finish implements pipeline.Copy.
func (x *exchange) Finish(from *pipeline.Exchange, record *fieldgate.Record) {
	if x.captures = x.to.take(record); x.captures == nil {
		return
	}
	x.record, x.instance, x.problem = *record, x.to.pipeline.Instance(from), from.Problem
	x.path, x.query = string(from.Path), string(from.Query)
	if from.Operation != nil {
		x.contract, x.operation = from.Operation.Contract, from.Operation.Operation
	}
	x.request.mediaType = string(from.ContentType)
	if x.response.bytes > 0 { // it was streamed; what the kernel moved has not been seen
		x.response.tooLarge = x.response.tooLarge || x.response.bytes < record.BytesOut
	} else if answer := &from.Answer; from.Problem == nil && len(answer.Body) > 0 {
		x.response.add(answer.Body)
		x.response.mediaType = answer.ContentType
		for i := range answer.Fields {
			x.response.field([]byte(answer.Fields[i].Name), []byte(answer.Fields[i].Value))
		}
	}
	select {
	case x.to.waiting <- x:
	default:
		x.to.dropped.Add(1)
	}
}
