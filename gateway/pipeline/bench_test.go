package pipeline

import (
	"encoding/json"
	"fmt"
	"syscall"
	"testing"
	"time"

	"fieldgate"
)

// messages is a contract by which devices publish below f/<own id>: raw bytes, telemetry with a schema, and numbered, with a parameter that
// the message brings.
func messages() *fieldgate.Contract {
	id := fieldgate.Parameter{Name: "id", In: fieldgate.InPath, Required: true, Bound: true}
	publish := func(name string, media fieldgate.MediaType, parameters ...fieldgate.Parameter) fieldgate.Operation {
		return fieldgate.Operation{ID: name, Access: fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}},
			Parameters: append(parameters, id), MaxBody: 1 << 20, OnInvalid: fieldgate.InvalidReject,
			Request: &fieldgate.Payload{Media: []fieldgate.MediaType{media}},
			Limits:  []fieldgate.Limit{{Count: 1_000_000, Period: time.Second, Burst: 1_000_000, Key: fieldgate.LimitPrincipal}},
			MQTT:    &fieldgate.MQTTBinding{Topic: "f/{id}/" + name, Action: fieldgate.ActionPublish, QoS: 1}}
	}
	return &fieldgate.Contract{API: "fleet", Version: "1", Kind: fieldgate.KindAsyncAPI, State: fieldgate.LifecycleActive,
		Schemas: json.RawMessage(messageSchemas), Operations: []fieldgate.Operation{
			publish("raw", fieldgate.MediaType{Type: "*/*"}),
			publish("telemetry", fieldgate.MediaType{Type: "application/json", Schema: "#/$defs/Telemetry"}),
			publish("numbered", fieldgate.MediaType{Type: "*/*"}, fieldgate.Parameter{Name: "n", In: fieldgate.InQuery, Schema: "#/$defs/N"}),
		}}
}

// messaging is a fixture with messages and a device's connection.
func messaging(t testing.TB) (*fixture, *Caller) {
	t.Helper()
	f := newFixture(t)
	f.link(t, messages())
	caller, problem := f.Identify(nil, []byte(f.device))
	if problem != nil {
		t.Fatal(problem)
	}
	f.records.discard = true
	return f, caller
}

// link puts contracts in force besides those of the fixture.
func (f *fixture) link(t testing.TB, more ...*fieldgate.Contract) {
	t.Helper()
	program, err := Link(&fieldgate.Snapshot{Version: f.Program().Version + 1, Contracts: append(contracts(), more...)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Install(program)
}

const messageSchemas = `{"$defs":{"N":{"type":"integer","maximum":100},"Telemetry":{"type":"object","additionalProperties":false,"required":["seq","temp"],"properties":{
	"seq":{"type":"integer","minimum":0},"temp":{"type":"number","minimum":-60,"maximum":125},"humidity":{"type":"number","minimum":0,"maximum":100},
	"unit":{"enum":["C","F","K"]},"at":{"type":"string","format":"date-time"},"note":{"type":"string","maxLength":200}}}}}`

// telemetry is a valid message of that many bytes.
func telemetry(size int) []byte {
	body := `{"seq":4711,"temp":21.5,"humidity":40.25,"unit":"C"`
	if pad := size - len(body) - len(`,"note":""}`); pad > 0 {
		return fmt.Appendf(nil, `%s,"note":"%0*d"}`, body, pad, 0)
	}
	return []byte(body + "}")
}

// BenchmarkPublish is what the pipeline takes of a QoS 0 PUBLISH, without what routes and writes it.
func BenchmarkPublish(b *testing.B) {
	for _, bench := range []struct {
		name, topic string
		body        []byte
	}{
		{"raw64", "f/d7/raw", make([]byte, 64)},
		{"json64", "f/d7/telemetry", telemetry(64)},
		{"json256", "f/d7/telemetry", telemetry(256)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			f, caller := messaging(b)
			var x Exchange
			var grants Grants
			topic := []byte(bench.topic)
			now := time.Now()
			b.ReportAllocs()
			began := cpu(b)
			for b.Loop() {
				x.Reset()
				now = now.Add(time.Microsecond)
				x.Protocol, x.Method, x.Caller, x.Path, x.Started, x.Grants = fieldgate.ProtocolMQTT, fieldgate.MethodPublish, caller, topic, now, &grants
				problem := f.Begin(&x)
				if problem == nil {
					x.Body = bench.body
					problem = f.Check(&x)
				}
				if problem != nil {
					b.Fatal(problem)
				}
				f.Finish(&x)
			}
			b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/message")
		})
	}
}

// cpu is the processor time that this process has used: unlike the clock it does not count what others take of the machine.
func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
