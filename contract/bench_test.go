package contract

import (
	"fmt"
	"strings"
	"testing"

	"fieldgate"
)

// document of n operations, each with a bound parameter, a body of a schema of its own, an example and bindings to CoAP and
// MQTT.
func largeDocument(n int) []byte {
	var b strings.Builder
	b.WriteString("openapi: 3.1.0\ninfo: {title: Large, version: 1.0.0}\nx-fieldgate: {upstreams: {main: {ref: env/main}}, upstream: main}\n" +
		"security: [{token: []}]\npaths:\n")
	for i := range n {
		fmt.Fprintf(&b, `  /r%[1]d/{deviceId}:
    post:
      operationId: send%[1]d
      x-fieldgate: {policies: [{rate: 6/min, key: deviceId}, {max-body: 1KiB}]}
      x-fieldgate-bindings:
        coap: {path: /c%[1]d}
        mqtt: {topic: 'd/{deviceId}/t%[1]d'}
      parameters: [{$ref: '#/components/parameters/deviceId'}]
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: '#/components/schemas/S%[1]d'}
            examples: {ok: {value: {ts: '2026-11-22T18:11:05Z', temp: 21.5}}}
      responses: {'204': {description: stored}}
`, i)
	}
	b.WriteString("components:\n  securitySchemes: {token: {type: http, scheme: bearer}}\n  parameters:\n" +
		"    deviceId: {name: deviceId, in: path, required: true, x-fieldgate-bind: principal, schema: {type: string, maxLength: 64}}\n  schemas:\n")
	for i := range n {
		fmt.Fprintf(&b, `    S%d:
      type: object
      additionalProperties: false
      required: [ts, temp]
      properties:
        ts: {type: string, format: date-time, maxLength: 35}
        temp: {type: number, minimum: -60, maximum: 125}
`, i)
	}
	return []byte(b.String())
}

func TestLargeDocument(t *testing.T) {
	contract, diagnostics, err := Compile("large.yaml", largeDocument(1000))
	if err != nil || len(diagnostics) != 0 {
		t.Fatal(err, diagnostics)
	}
	if len(contract.Operations) != 1000 {
		t.Errorf("%d operations", len(contract.Operations))
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{10, 1000} {
		document := largeDocument(n)
		b.Run(fmt.Sprintf("operations=%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(document)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Compile("large.yaml", document); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkConflicts(b *testing.B) {
	contract, _, err := Compile("large.yaml", largeDocument(1000))
	if err != nil {
		b.Fatal(err)
	}
	other := *contract
	other.API = "other"
	live := []*fieldgate.Contract{&other}
	b.ReportAllocs()
	for b.Loop() {
		if len(conflicts(contract, live)) != 3000 {
			b.Fatal("conflicts are missed")
		}
	}
}
