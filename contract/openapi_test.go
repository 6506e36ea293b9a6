package contract

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"fieldgate"
)

// compileClean compiles a document of which nothing is to be said.
func compileClean(t *testing.T, document string) *fieldgate.Contract {
	t.Helper()
	contract, diagnostics, err := Compile("api.yaml", []byte(document))
	if err != nil || len(diagnostics) != 0 {
		t.Fatalf("%v\n%v", err, diagnostics)
	}
	return contract
}

func operation(t *testing.T, k *fieldgate.Contract, id string) fieldgate.Operation {
	t.Helper()
	for _, op := range k.Operations {
		if op.ID == id {
			return op
		}
	}
	t.Fatalf("no operation %s", id)
	return fieldgate.Operation{}
}

// The words of x-fieldgate hold from the document over the path to the operation, the innermost first.
func TestInheritance(t *testing.T) {
	k := compileClean(t, `
openapi: 3.1.0
info: {title: "Garden & Field: Sensors!", version: 2.0.1}
x-fieldgate:
  host: api.example.com
  upstreams: {one: {ref: env/first}, two: {ref: env/second}}
  upstream: one
  policies: [{rate: 100/hour, key: operation}, {rate: 1/s, key: source}, {max-body: 2KB}, {timeout: 1s}]
  on-invalid: shadow
  access: [device]
servers: [{url: 'https://{where}.example.com/{base}/v2/', variables: {where: {default: eu}, base: {default: api}}}]
security: [{token: [read]}]
paths:
  /a:
    x-fieldgate: {upstream: two, policies: [{timeout: 1500ms}], scopes: [path]}
    get: {operationId: plain, responses: {'204': {description: done}}}
    post:
      operationId: own
      x-fieldgate: {on-invalid: reject, policies: [{rate: 6/min, burst: 2}, {max-body: 1MiB}], access: [app, anonymous], scopes: [x, read], idempotent: true, websocket: true, upstream: one}
      security: []
      responses: {'204': {description: done}}
  /b:
    delete: {x-fieldgate: {idempotent: false}, responses: {'204': {description: done}}}
components: {securitySchemes: {token: {type: oauth2, flows: {}}}}
`)
	if k.API != "garden-field-sensors" || k.Version != "2.0.1" || k.State != fieldgate.LifecycleActive || len(k.Digest) != 64 {
		t.Errorf("contract %+v", k)
	}
	principal, byOperation, source := fieldgate.LimitPrincipal, fieldgate.LimitOperation, fieldgate.LimitSource
	device, app := fieldgate.PrincipalDevice, fieldgate.PrincipalApp
	rootLimits := []fieldgate.Limit{{Count: 100, Period: time.Hour, Burst: 100, Key: byOperation}, {Count: 1, Period: time.Second, Burst: 1, Key: source}}
	tests := []fieldgate.Operation{
		{ID: "plain", HTTP: &fieldgate.HTTPBinding{Host: "api.example.com", Method: fieldgate.MethodGet, Path: "/api/v2/a"}, Limits: rootLimits,
			MaxBody: 2000, Timeout: 1500 * time.Millisecond, OnInvalid: fieldgate.InvalidShadow, Upstream: "second", Idempotent: true,
			Access: fieldgate.Access{Kinds: []fieldgate.PrincipalKind{device}, Scopes: []string{"read", "path"}}},
		{ID: "own", HTTP: &fieldgate.HTTPBinding{Host: "api.example.com", Method: fieldgate.MethodPost, Path: "/api/v2/a", WebSocket: true},
			Limits:  []fieldgate.Limit{{Count: 6, Period: time.Minute, Burst: 2, Key: principal}},
			MaxBody: 1 << 20, Timeout: 1500 * time.Millisecond, OnInvalid: fieldgate.InvalidReject, Upstream: "first", Idempotent: true,
			Access: fieldgate.Access{Anonymous: true, Kinds: []fieldgate.PrincipalKind{app}, Scopes: []string{"x", "read"}}},
		{ID: "delete-b", HTTP: &fieldgate.HTTPBinding{Host: "api.example.com", Method: fieldgate.MethodDelete, Path: "/api/v2/b"}, Limits: rootLimits,
			MaxBody: 2000, Timeout: time.Second, OnInvalid: fieldgate.InvalidShadow, Upstream: "first",
			Access: fieldgate.Access{Kinds: []fieldgate.PrincipalKind{device}, Scopes: []string{"read"}}},
	}
	for _, want := range tests {
		got := operation(t, k, want.ID)
		got.Responses = nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got\n%+v %+v\nwant\n%+v %+v", got, got.HTTP, want, want.HTTP)
		}
	}
}

// Who may call: secure unless the document says otherwise (OpenAPI 3.1 section 4.8.30).
func TestAccess(t *testing.T) {
	device, app := fieldgate.PrincipalDevice, fieldgate.PrincipalApp
	kinds := func(k ...fieldgate.PrincipalKind) []fieldgate.PrincipalKind { return k }
	tests := map[string]struct {
		words, warning string
		want           fieldgate.Access
	}{
		"nothing said":       {"", "says nothing of security", fieldgate.Access{Kinds: kinds(device, app)}},
		"empty list":         {"security: []", "", fieldgate.Access{Anonymous: true}},
		"empty requirement":  {"security: [{}]", "", fieldgate.Access{Anonymous: true}},
		"optional":           {"security: [{}, {bearer: []}]", "", fieldgate.Access{Anonymous: true, Kinds: kinds(device, app)}},
		"bearer":             {"security: [{bearer: []}]", "", fieldgate.Access{Kinds: kinds(device, app)}},
		"basic":              {"security: [{basic: []}]", "", fieldgate.Access{Kinds: kinds(device, app)}},
		"mutual TLS":         {"security: [{mtls: []}]", "", fieldgate.Access{Kinds: kinds(device, app)}},
		"key in a header":    {"security: [{key: []}]", "", fieldgate.Access{Kinds: kinds(device, app), Headers: []string{"x-key"}}},
		"scopes":             {"security: [{oauth: [a, b]}, {oauth: [b, c]}]", "", fieldgate.Access{Kinds: kinds(device, app), Scopes: []string{"a", "b", "c"}}},
		"access wins":        {"security: []\n      x-fieldgate: {access: [app]}", "", fieldgate.Access{Kinds: kinds(app)}},
		"access opens":       {"security: [{bearer: []}]\n      x-fieldgate: {access: [anonymous]}", "opens one to everybody", fieldgate.Access{Anonymous: true}},
		"bound parameter":    {"security: [{bearer: []}]\n      parameters: [{name: d, in: query, x-fieldgate-bind: principal}]", "", fieldgate.Access{Kinds: kinds(device)}},
		"referenced, nested": {"security: [{again: []}]", "", fieldgate.Access{Kinds: kinds(device, app), Headers: []string{"x-key"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			k, diagnostics, err := Compile("api.yaml", []byte(fmt.Sprintf(`
openapi: 3.1.0
info: {title: T, version: 1.0.0}
paths:
  /a:
    get:
      operationId: one
      %s
      responses: {'204': {description: done}}
components:
  securitySchemes:
    bearer: {type: http, scheme: Bearer}
    basic: {type: http, scheme: basic}
    mtls: {type: mutualTLS}
    key: {type: apiKey, in: header, name: X-Key}
    again: {$ref: '#/components/securitySchemes/key'}
    oauth: {type: oauth2, flows: {}}
`, test.words)))
			if err != nil {
				t.Fatal(err)
			}
			if said := fmt.Sprint(diagnostics); (test.warning == "") != (len(diagnostics) == 0) || !strings.Contains(said, test.warning) {
				t.Errorf("diagnostics %v, want %q", said, test.warning)
			}
			if got := k.Operations[0].Access; !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// References are followed wherever OpenAPI allows them, and messages name the place that they lead to.
func TestReferencesAreFollowed(t *testing.T) {
	const document = `
openapi: 3.1.0
info: {title: T, version: 1.0.0}
security: []
paths:
  /a/{id}: {$ref: '#/components/pathItems/item'}
components:
  pathItems:
    item:
      parameters: [{$ref: '#/components/parameters/alias'}]
      post:
        operationId: one
        requestBody: {$ref: '#/components/requestBodies/body'}
        responses:
          '200': {$ref: '#/components/responses/answer'}
  parameters:
    alias: {$ref: '#/components/parameters/id'}
    id: {name: id, in: path, required: true, schema: {$ref: '#/components/schemas/id'}}
  requestBodies:
    body:
      required: true
      content:
        application/json:
          schema: {$ref: '#/components/schemas/tree'}
          examples:
            one: {$ref: '#/components/examples/one'}
  responses:
    answer:
      description: done
      content: {'application/vnd.example+json; charset=utf-8': {schema: {$ref: '#/components/schemas/tree/properties/leaf'}}}
  examples:
    one: {value: {leaf: EXAMPLE, children: [{leaf: b}]}}
  schemas:
    id: {type: string}
    unused: {type: nonsense}
    tree:
      type: object
      properties:
        leaf: {type: string, examples: [oak]}
        children: {type: array, items: {$ref: '#/components/schemas/tree'}}
`
	k := compileClean(t, strings.Replace(document, "EXAMPLE", "a", 1))
	op := operation(t, k, "one")
	want := `{"$defs":{"id":{"type":"string"},"tree":{"type":"object","properties":{"leaf":{"type":"string","examples":["oak"]},` +
		`"children":{"type":"array","items":{"$ref":"#/$defs/tree"}}}}}}`
	if string(k.Schemas) != want {
		t.Errorf("schemas %s", k.Schemas)
	}
	if !op.Request.Required || op.Request.Media[0].Schema != "#/$defs/tree" || string(op.Request.Media[0].Example) != `{"leaf":"a","children":[{"leaf":"b"}]}` {
		t.Errorf("request %+v", op.Request)
	}
	answer := op.Responses[0].Media[0]
	if answer.Type != "application/vnd.example+json" || answer.Schema != "#/$defs/tree/properties/leaf" || string(answer.Example) != `"oak"` {
		t.Errorf("answer %+v", answer)
	}
	if p := op.Parameters[0]; p.Name != "id" || p.Schema != "#/$defs/id" {
		t.Errorf("parameter %+v", p)
	}
	_, diagnostics, err := Compile("api.yaml", []byte(strings.Replace(document, "EXAMPLE", "1", 1)))
	if err != nil || len(diagnostics) != 1 || !strings.HasPrefix(diagnostics[0].String(), "api.yaml:32:19: warning: the example breaks its own schema") {
		t.Errorf("got %v %v", diagnostics, err)
	}
}

// A reference may lead to any schema of the document, not only to those in components.
func TestReferenceIntoPath(t *testing.T) {
	k := compileClean(t, `
openapi: 3.1.0
info: {title: T, version: 1.0.0}
security: []
paths:
  /a/{id}:
    parameters: [{name: id, in: path, required: true}]
    put:
      operationId: one
      requestBody: {content: {application/json: {schema: {type: object, properties: {a/b: {type: integer}}}}}}
      responses: {'204': {description: done}}
    post:
      operationId: two
      requestBody:
        content:
          application/json:
            schema: {$ref: '#/paths/~1a~1%7Bid%7D/put/requestBody/content/application~1json/schema/properties/a~1b'}
            examples: {ok: {value: 1}, wrong: {value: x, x-fieldgate-expect: 422}}
      responses: {'204': {description: done}}
`)
	want := `"paths..a._id_.put.requestBody.content.application.json.schema.properties.a.b":{"type":"integer"}`
	if !strings.Contains(string(k.Schemas), want) {
		t.Errorf("schemas %s", k.Schemas)
	}
}

// Schemas of all versions become JSON Schema 2020-12.
func TestSchemaDialects(t *testing.T) {
	openAPI := func(version, schema string) string {
		return "openapi: " + version + `
info: {title: T, version: 1.0.0}
security: []
paths:
  /a:
    post:
      operationId: one
      requestBody: {content: {application/json: {schema: ` + schema + `}}}
      responses: {'204': {description: done}}
`
	}
	asyncAPI := func(payload string) string {
		return `asyncapi: 3.0.0
info: {title: T, version: 1.0.0}
channels: {one: {address: a, messages: {m: {payload: ` + payload + `}}}}
operations: {one: {action: receive, channel: {$ref: '#/channels/one'}, security: [{type: userPassword}]}}
`
	}
	tests := map[string]struct{ document, want string }{
		"3.0 nullable":           {openAPI("3.0.3", "{type: string, nullable: true, maxLength: 3}"), `{"type":["string","null"],"maxLength":3}`},
		"3.0 nullable, no type":  {openAPI("3.0.3", "{nullable: true, maxLength: 3}"), `{"maxLength":3}`},
		"3.0 exclusive":          {openAPI("3.0.0", "{minimum: 1, exclusiveMinimum: true, maximum: 9, exclusiveMaximum: false}"), `{"exclusiveMinimum":1,"maximum":9}`},
		"3.0 example":            {openAPI("3.0.3", "{type: integer, example: 7, xml: {}, x-other: 1}"), `{"type":"integer","examples":[7]}`},
		"3.1 is kept":            {openAPI("3.1.0", `{type: [integer, 'null'], exclusiveMinimum: 0, $comment: c, $defs: {a: true}, anyOf: [{}, false]}`), `{"type":["integer","null"],"exclusiveMinimum":0,"$comment":"c","$defs":{"a":true},"anyOf":[{},false]}`},
		"3.1 CBOR keys":          {openAPI("3.1.0", `{type: object, properties: {a: {type: integer, x-cbor-key: 1}}}`), `{"type":"object","properties":{"a":{"type":"integer","x-cbor-key":1}}}`},
		"3.1 numbers of YAML":    {openAPI("3.1.0", `{enum: [0x10, 0o17, 1e3, .5, 12345678901234567890]}`), `{"enum":[16,15,1e3,0.5,12345678901234567890]}`},
		"3.1 texts like others":  {openAPI("3.1.0", `{enum: ['1', 'true', 2026-11-22, no, ~, null]}`), `{"enum":["1","true","2026-11-22","no",null,null]}`},
		"draft-07 tuple":         {asyncAPI("{items: [{type: string}, true], additionalItems: false}"), `{"prefixItems":[{"type":"string"},true],"items":false}`},
		"draft-07 dependencies":  {asyncAPI("{dependencies: {a: [b], c: {required: [d]}}}"), `{"dependentSchemas":{"c":{"required":["d"]}},"dependentRequired":{"a":["b"]}}`},
		"AsyncAPI, other format": {asyncAPI("{schemaFormat: application/schema+json;version=draft-2020-12, schema: {prefixItems: [true]}}"), `{"prefixItems":[true]}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			k := compileClean(t, test.document)
			name := "one.request.1"
			if k.Kind == fieldgate.KindAsyncAPI {
				name = "one.message.1"
			}
			if got, want := string(k.Schemas), `{"$defs":{"`+name+`":`+test.want+`}}`; got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if k.Operations[0].Request.Media[0].Schema != fieldgate.SchemaRef("#/$defs/"+name) {
				t.Errorf("request %+v", k.Operations[0].Request)
			}
		})
	}
}

// What JSON documents may hold and YAML readers stumble over.
func TestJSONDetails(t *testing.T) {
	k := compileClean(t, "{\n\t\"openapi\": \"3.1.0\",\n\t\"info\": {\"title\": \"T \\ud83d\\ude00 \\/ \\u00e4\", \"version\": \"1.0.0\"},\n"+
		"\t\"security\": [],\n\t\"paths\": {\"\\/a\": {\"get\": {\"responses\": {\"204\": {\"description\": \"\"}}}}}\n}\n")
	if k.Title != "T 😀 / ä" || k.Operations[0].HTTP.Path != "/a" {
		t.Errorf("%q %+v", k.Title, k.Operations[0].HTTP)
	}
}

func TestJoinSurrogates(t *testing.T) { // RFC 8259 section 7
	tests := map[string]string{
		`{"a": "\ud83d\ude00"}`:    `{"a": "😀"}`,
		`{"a": "\\ud83d\ude00"}`:   `{"a": "\\ud83d\ude00"}`, // an escaped backslash, and half a pair
		`{"a": "\ud83d\u0041"}`:    `{"a": "\ud83d\u0041"}`,
		`{"a": "\u00e4\ud83d`:      `{"a": "\u00e4\ud83d`,
		`{"a": "\`:                 `{"a": "\`,
		"a: '\\ud83d\\ude00' # {}": "a: '\\ud83d\\ude00' # {}", // YAML, where this is no escape
	}
	for document, want := range tests {
		if got := string(joinSurrogates([]byte(document))); got != want {
			t.Errorf("%s: got %s, want %s", document, got, want)
		}
	}
}

func TestLifecycle(t *testing.T) {
	const document = "openapi: 3.1.0\ninfo: {title: T, version: 1.0.0}\nsecurity: []\n" +
		"x-fieldgate: {lifecycle: {state: %s, sunset: 2027-06-30, successor: 2.0.0}, compat: {window: 30d, block-if-affected: 1, group-by: [model, firmware]}}\n" +
		"paths: {/a: {get: {responses: {'204': {description: done}}}}}\n"
	for _, state := range []fieldgate.Lifecycle{fieldgate.LifecycleActive, fieldgate.LifecycleDeprecated, fieldgate.LifecycleRetired} {
		k := compileClean(t, fmt.Sprintf(document, state))
		if k.State != state || k.Sunset != "2027-06-30" || k.Successor != "2.0.0" {
			t.Errorf("%+v", k)
		}
	}
}
