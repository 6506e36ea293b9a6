package pipeline

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/accesslog"
)

// AccessFields are the fields that a line of the access log may have, besides header:NAME, which is a field of an HTTP request.
var AccessFields = []string{"time", "instance", "source", "principal", "principal-kind", "protocol", "method", "host", "path", "query",
	"status", "problem", "decided", "rule", "api", "version", "operation", "bytes-in", "bytes-out", "duration", "upstream-duration", "trace"}

// DefaultAccessFields are those of a log that names none.
var DefaultAccessFields = []string{"time", "source", "principal", "protocol", "method", "host", "path", "status", "problem", "operation",
	"bytes-in", "bytes-out", "duration", "instance"}

// secretHeaders never reach a log.
var secretHeaders = []string{"authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key", "sec-websocket-protocol", "idempotency-key"}

// CheckAccessFields says what is wrong with the fields of an access log.
func CheckAccessFields(fields []string) error {
	for _, field := range fields {
		name, header := strings.CutPrefix(field, "header:")
		switch {
		case header && slices.Contains(secretHeaders, strings.ToLower(name)):
			return fmt.Errorf("%q may hold a secret, which does not belong into a log", field)
		case header && name != "":
		case !slices.Contains(AccessFields, field):
			return fmt.Errorf("%q is no field: write %s or header:NAME", field, strings.Join(AccessFields, ", "))
		}
	}
	return nil
}

// AccessLog writes a line for each exchange, with chosen fields.
type AccessLog struct {
	file    *accesslog.File
	columns []column
}

// column is one field of a line: its name as JSON and its value.
type column struct {
	name   string
	append func(dst []byte, p *Pipeline, x *Exchange) []byte
}

// NewAccessLog makes the access log of a file. fields were checked.
func NewAccessLog(file *accesslog.File, fields []string) *AccessLog {
	log := &AccessLog{file: file}
	for i, field := range fields {
		mark := byte(',')
		if i == 0 {
			mark = '{'
		}
		name := fieldgate.AppendJSONString([]byte{mark}, strings.TrimPrefix(field, "header:"))
		log.columns = append(log.columns, column{string(append(name, ':')), accessColumn(field)})
	}
	return log
}

// SetAccessLog puts a log into the place of the one there is; nil: none is written.
func (p *Pipeline) SetAccessLog(log *AccessLog) { p.access.Store(log) }

func (p *Pipeline) logAccess(x *Exchange) {
	log := p.access.Load()
	if log == nil {
		return
	}
	log.file.Add(func(dst []byte) []byte {
		for i := range log.columns {
			dst = append(dst, log.columns[i].name...)
			dst = log.columns[i].append(dst, p, x)
		}
		return append(dst, "}\n"...)
	})
}

// accessColumn is how a field of a line is written.
func accessColumn(field string) func(dst []byte, p *Pipeline, x *Exchange) []byte {
	if name, header := strings.CutPrefix(field, "header:"); header {
		name = strings.ToLower(name)
		return func(dst []byte, _ *Pipeline, x *Exchange) []byte {
			if x.Fields == nil {
				return append(dst, "null"...)
			}
			value, found := x.Fields.Field(name)
			if !found || x.Operation != nil && slices.Contains(x.Operation.Access.Headers, name) { // the contract has keys in it
				return append(dst, "null"...)
			}
			return fieldgate.AppendJSONString(dst, text(value[:min(len(value), fieldgate.MaxPathBytes)]))
		}
	}
	quoted := func(value func(x *Exchange) string) func([]byte, *Pipeline, *Exchange) []byte {
		return func(dst []byte, _ *Pipeline, x *Exchange) []byte { return fieldgate.AppendJSONString(dst, value(x)) }
	}
	number := func(value func(x *Exchange) uint64) func([]byte, *Pipeline, *Exchange) []byte {
		return func(dst []byte, _ *Pipeline, x *Exchange) []byte { return strconv.AppendUint(dst, value(x), 10) }
	}
	milliseconds := func(value func(x *Exchange) time.Duration) func([]byte, *Pipeline, *Exchange) []byte {
		return func(dst []byte, _ *Pipeline, x *Exchange) []byte {
			return strconv.AppendFloat(dst, float64(value(x))/float64(time.Millisecond), 'f', 3, 64)
		}
	}
	switch field {
	case "time":
		return func(dst []byte, _ *Pipeline, x *Exchange) []byte {
			dst = x.Started.UTC().AppendFormat(append(dst, '"'), "2006-01-02T15:04:05.000Z")
			return append(dst, '"')
		}
	case "instance":
		return func(dst []byte, p *Pipeline, x *Exchange) []byte {
			return append(p.AppendInstance(append(dst, '"'), x), '"')
		}
	case "source":
		return func(dst []byte, _ *Pipeline, x *Exchange) []byte {
			return append(x.Source.Addr().AppendTo(append(dst, '"')), '"')
		}
	case "principal":
		return quoted(func(x *Exchange) string { return x.Principal.ID })
	case "principal-kind":
		return quoted(func(x *Exchange) string { return string(x.Principal.Kind) })
	case "protocol":
		return quoted(func(x *Exchange) string { return x.Protocol.String() })
	case "method":
		return quoted(func(x *Exchange) string {
			if x.MethodToken != "" {
				return x.MethodToken
			}
			return x.Method.String()
		})
	case "host":
		return quoted(func(x *Exchange) string { return text(x.Host) })
	case "path":
		return quoted(func(x *Exchange) string { return text(x.Path[:min(len(x.Path), fieldgate.MaxPathBytes)]) })
	case "query":
		return quoted(func(x *Exchange) string { return text(x.Query[:min(len(x.Query), fieldgate.MaxPathBytes)]) })
	case "status":
		return number(func(x *Exchange) uint64 { return uint64(x.Status()) })
	case "problem":
		return quoted(func(x *Exchange) string { return string(x.record.Problem) })
	case "decided":
		return quoted(func(x *Exchange) string { return x.record.Decided.String() })
	case "rule":
		return quoted(func(x *Exchange) string { return x.record.Rule })
	case "api":
		return quoted(func(x *Exchange) string { return x.record.API })
	case "version":
		return quoted(func(x *Exchange) string { return x.record.Version })
	case "operation":
		return quoted(func(x *Exchange) string { return x.record.Operation })
	case "bytes-in":
		return number(func(x *Exchange) uint64 { return x.BytesIn })
	case "bytes-out":
		return number(func(x *Exchange) uint64 { return x.BytesOut })
	case "duration":
		return milliseconds(func(x *Exchange) time.Duration { return x.record.Duration })
	case "upstream-duration":
		return milliseconds(func(x *Exchange) time.Duration { return x.UpstreamTime })
	case "trace":
		return quoted(func(x *Exchange) string {
			if x.Fields == nil {
				return ""
			}
			parent, _ := x.Fields.Field("traceparent")
			if !ValidTraceParent(parent) {
				return ""
			}
			return text(parent[3:35])
		})
	}
	panic("no such field of the access log: " + field) // CheckAccessFields is to be called before
}

// ValidTraceParent says whether a traceparent field may be passed on (W3C Trace Context section 3.2).
func ValidTraceParent(value []byte) bool {
	if len(value) < 55 || value[2] != '-' || value[35] != '-' || value[52] != '-' {
		return false
	}
	for i, c := range value[:55] {
		if i != 2 && i != 35 && i != 52 && !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	switch version := string(value[:2]); {
	case version == "ff", version == "00" && len(value) != 55, len(value) > 55 && value[55] != '-', len(value) > 512:
		return false
	}
	zero := func(digits []byte) bool { return strings.Trim(text(digits), "0") == "" }
	return !zero(value[3:35]) && !zero(value[36:52])
}
