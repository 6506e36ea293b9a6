package schema

import (
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// telemetry is the reference load: 276 bytes, closed objects, one pattern, one
// date-time, one enum, bounds, an array of eight numbers.
const telemetrySchema = `{"$defs":{"Telemetry":{
 "type":"object","additionalProperties":false,"required":["deviceId","ts","seq","status","readings"],
 "properties":{
  "deviceId":{"type":"string","pattern":"^[0-9a-f]{16}$"},
  "ts":{"type":"string","format":"date-time","maxLength":35},
  "seq":{"type":"integer","minimum":0,"maximum":4294967295},
  "status":{"type":"string","enum":["ok","degraded","failed"]},
  "battery":{"type":"number","minimum":0,"maximum":100},
  "position":{"type":"object","additionalProperties":false,"required":["lat","lon"],"properties":{
    "lat":{"type":"number","minimum":-90,"maximum":90},"lon":{"type":"number","minimum":-180,"maximum":180},
    "altitude":{"type":"number"}}},
  "firmware":{"type":"string","maxLength":32},
  "readings":{"type":"array","minItems":1,"maxItems":32,"items":{"type":"number","minimum":-60,"maximum":125}}}}}}`

const telemetryDocument = `{"deviceId":"70b3d57ed0051a2f","ts":"2026-11-22T18:11:05.123456Z","seq":1844674407,"status":"ok",` +
	`"battery":87.5,"position":{"lat":52.520008,"lon":13.404954,"altitude":34.0},"firmware":"thermo-2.4.0+build.1187.abcdefg",` +
	`"readings":[21.5,21.6,21.55,21.7,21.45,-3.25,60.0,21.625]}`

func telemetry(tb testing.TB) (*Schema, []byte) {
	s, err := Compile([]byte(telemetrySchema), "#/$defs/Telemetry", Options{})
	if err != nil {
		tb.Fatal(err)
	}
	doc := []byte(telemetryDocument)
	if err := s.ValidateJSON(doc); err != nil {
		tb.Fatal(err)
	}
	return s, doc
}

func BenchmarkTelemetryJSON(b *testing.B) {
	s, doc := telemetry(b)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.ValidateJSON(doc); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTelemetryTokenizeOnly(b *testing.B) {
	s, doc := telemetry(b)
	b.ReportAllocs()
	for b.Loop() {
		d := newDocument(s.limits)
		if !d.readJSON(doc) {
			b.Fatal(d.violation)
		}
		d.free()
	}
}

func BenchmarkTelemetryCBOR(b *testing.B) {
	s, doc := telemetry(b)
	cbor, err := CBORFromJSON(nil, doc, s)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(cbor)))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.ValidateCBOR(cbor); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTelemetrySanthosh(b *testing.B) {
	_, doc := telemetry(b)
	reference := reference(b, telemetrySchema, "/$defs/Telemetry", true)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(doc)))
		if err != nil {
			b.Fatal(err)
		}
		if err := reference.Validate(v); err != nil {
			b.Fatal(err)
		}
	}
}

// reference compiles a schema with the independent implementation.
func reference(tb testing.TB, bundle, pointer string, formats bool) *jsonschema.Schema {
	tb.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(bundle))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if formats {
		c.AssertFormat()
	}
	if err := c.AddResource("test:///bundle", doc); err != nil {
		tb.Fatal(err)
	}
	s, err := c.Compile("test:///bundle#" + pointer)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
