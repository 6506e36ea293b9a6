package contract

import (
	"fmt"
	"strings"
	"testing"

	"fieldgate"
)

// What documents of the field have in them, and what becomes of it.
func TestTolerance(t *testing.T) {
	const head = "openapi: 3.0.3\ninfo: {title: T, version: 1.0.0}\nsecurity: []\nservers: [{url: 'https://a.example/v1'}]\n"
	const answer = "responses: {'204': {description: d}}"
	const json = "responses: {'200': {description: d, content: {application/json: {schema: {type: string}, %s}}}}"
	tests := map[string]struct {
		paths, warning string
		want           func(fieldgate.Operation) string // empty: right
	}{
		"servers of a path": { // OpenAPI 3.0.3, Path Item Object
			"/a: {servers: [{url: 'https://b.example/v2'}], get: {operationId: one, " + answer + "}}", "",
			func(o fieldgate.Operation) string { return unlike(o.HTTP.Path, "/v2/a") }},
		"servers of an operation": { // OpenAPI 3.0.3, Operation Object
			"/a: {get: {operationId: one, servers: [{url: '/{stage}', variables: {stage: {default: v3}}}], " + answer + "}}", "",
			func(o fieldgate.Operation) string { return unlike(o.HTTP.Path, "/v3/a") }},
		"body of a GET": { // OpenAPI 3.0.3, Operation Object: it shall be ignored
			"/a: {get: {operationId: one, requestBody: {content: {application/json: {}}}, " + answer + "}}", "whose body has no meaning",
			func(o fieldgate.Operation) string { return unlike(fmt.Sprint(o.Request), "<nil>") }},
		"id with other characters": {"/a: {get: {operationId: 'send telemetry/v1 {x}', " + answer + "}}", `it is called "send-telemetry-v1-x"`,
			func(o fieldgate.Operation) string { return unlike(o.ID, "send-telemetry-v1-x") }},
		"broken example": {"/a: {get: {operationId: one, " + fmt.Sprintf(json, "example: 1") + "}}", "the example breaks its own schema",
			func(o fieldgate.Operation) string {
				return unlike(fmt.Sprintf("%s %d", o.Responses[0].Media[0].Example, len(o.Responses[0].Media[0].Examples)), " 0")
			}},
		"broken example beside a good one": {"/a: {get: {operationId: one, " + fmt.Sprintf(json, "examples: {x: {value: 1}, y: {value: good}}") + "}}",
			"the example breaks its own schema",
			func(o fieldgate.Operation) string { return unlike(string(o.Responses[0].Media[0].Example), `"good"`) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			k, diagnostics, err := Compile("api.yaml", []byte(head+"paths:\n  "+test.paths+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			if wrong := test.want(k.Operations[0]); wrong != "" {
				t.Error(wrong)
			}
			if text := fmt.Sprint(diagnostics); !strings.Contains(text, test.warning) {
				t.Errorf("%s does not say %q", text, test.warning)
			}
		})
	}
}

func unlike(got, want string) string {
	if got != want {
		return fmt.Sprintf("got %q, want %q", got, want)
	}
	return ""
}

// Operations without an id get one of their own, whatever their paths have in common.
func TestDerivedIDs(t *testing.T) {
	k, _, err := Compile("api.yaml", []byte("openapi: 3.0.3\ninfo: {title: T, version: 1.0.0}\nsecurity: []\npaths:\n"+
		"  /a/id: {get: {responses: {'204': {description: d}}}}\n"+
		"  /a/{id}: {get: {parameters: [{name: id, in: path, required: true}], responses: {'204': {description: d}}}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := k.Operations[0].ID + " " + k.Operations[1].ID; got != "get-a-id get-a-id-2" {
		t.Error(got)
	}
}
