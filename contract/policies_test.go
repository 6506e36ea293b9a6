package contract

import (
	"encoding/json"
	"testing"
)

// Limits by number and by bytes, and what they compile to.
func TestLimits(t *testing.T) {
	k := compileClean(t, `
asyncapi: 3.0.0
info: {title: T, version: 1.0.0}
channels:
  t: {address: 't/{id}', parameters: {id: {x-fieldgate-bind: principal}}, messages: {m: {contentType: application/octet-stream}}}
operations:
  put:
    action: receive
    channel: {$ref: '#/channels/t'}
    security: [{type: userPassword}]
    x-fieldgate:
      policies:
        - {rate: 6/min, key: id, burst: 9}
        - {rate: 64KiB/min, burst: 128KiB}
        - {rate: 1GiB/h, key: operation}
        - {quota: 10000/month}
        - {quota: 1TB/day, key: operation}
        - {max-expiry: 2d}
`)
	o := operation(t, k, "put")
	limits, err := json.Marshal([]any{o.Limits, o.Quotas, o.MaxExpiry})
	want := `[[{"count":6,"period":60000000000,"burst":9,"key":"principal"},{"count":65536,"bytes":true,"period":60000000000,"burst":131072,"key":"principal"},` +
		`{"count":1073741824,"bytes":true,"period":3600000000000,"burst":1073741824,"key":"operation"}],` +
		`[{"count":10000,"period":"month","key":"principal"},{"count":1000000000000,"bytes":true,"period":"day","key":"operation"}],172800000000000]`
	if err != nil || string(limits) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, limits, want)
	}
}

// Every policy, as docs/contracts.md has it, and what it compiles to.
func TestPolicies(t *testing.T) {
	k := compileClean(t, `
openapi: 3.1.0
info: {title: T, version: 1.0.0}
x-fieldgate:
  upstreams: {main: {ref: env/main}, next: {ref: env/next}}
  upstream: main
  priority: background
  policies: [{timeout: 1s}, {mirror: {upstream: next, percent: 5}}]
security: [{token: []}]
paths:
  /a/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    get:
      operationId: read
      x-fieldgate:
        priority: critical
        check-answers: enforce
        when: {headers: {X-B: '2', X-A: '1'}, media-type: application/vnd.a+json}
        policies:
          - {retry: {attempts: 2, per-try-timeout: 500ms, on: [connect, 5xx, timeout]}}
          - {hedge: 50ms}
          - {cache: {ttl: 30s, stale-while-revalidate: 1h, for: everyone}}
          - {cors: {origins: ['https://app.example.com'], headers: [X-A], expose: [X-C], credentials: true, max-age: 10m}}
          - {response: {set: {X-Kind: '"a"'}, remove: [Server], body: '{"n": body.n}'}}
          - {canary: {upstream: next, percent: 10, header: {X-Canary: 'yes'}, models: ['T*'], firmware: ['2.*']}}
          - {canary: {upstream: next, percent: 1}}
      responses: {'204': {description: done}}
    post:
      operationId: command
      x-fieldgate: {policies: [{idempotency: {field: Command-Id, ttl: 1h, required: true}}, {request: {remove: [X-D]}}]}
      responses: {'204': {description: done}}
    put:
      operationId: private
      x-fieldgate:
        policies:
          - {privacy: {for: {access: [app, anonymous]}, except: {apps: [map], scopes: [exact], models: ['T*'], firmware: ['2.*']}, remove: [driver/name], mask: [plate], coarsen: {lat: 0.01, ts: 1h, n: 5}}}
          - {privacy: {mask: [a~1b]}}
      responses: {'204': {description: done}}
    delete:
      operationId: moved
      x-fieldgate: {policies: [{redirect: {to: '/b/{id}', status: 307}}]}
      responses: {'307': {description: moved}}
components: {securitySchemes: {token: {type: http, scheme: bearer}}}
`)
	for id, want := range map[string]string{
		"read": `{"priority":1,"answers":"enforce","retry":{"attempts":2,"perTry":500000000,"on":13},"hedge":50000000,` +
			`"cache":{"ttl":30000000000,"staleWhileRevalidate":3600000000000,"shared":true},` +
			`"cors":{"origins":["https://app.example.com"],"headers":["X-A"],"expose":["X-C"],"credentials":true,"maxAge":600000000000},` +
			`"response":{"set":[{"name":"x-kind","value":"\"a\""}],"remove":["server"],"body":"{\"n\": body.n}"},` +
			`"mirror":{"upstream":"next","percent":5},` +
			`"canaries":[{"upstream":"next","percent":10,"field":"x-canary","value":"yes","models":["T*"],"firmware":["2.*"]},{"upstream":"next","percent":1}]}`,
		"command": `{"priority":2,"idempotency":{"field":"command-id","ttl":3600000000000,"required":true},"request":{"remove":["x-d"]},"mirror":{"upstream":"next","percent":5}}`,
		"private": `{"priority":2,"privacy":[{"for":{"kinds":["app","anonymous"]},"except":{"apps":["map"],"scopes":["exact"],"models":["T*"],"firmware":["2.*"]},` +
			`"remove":["driver/name"],"mask":["plate"],"coarsen":[{"member":"lat","step":"0.01"},{"member":"ts","every":3600000000000},{"member":"n","step":"5"}]},{"mask":["a~1b"]}],` +
			`"mirror":{"upstream":"next","percent":5}}`,
		"moved": `{"priority":2,"redirect":{"to":"/b/{id}","status":307},"mirror":{"upstream":"next","percent":5}}`,
	} {
		got, err := json.Marshal(operation(t, k, id).Policies)
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", id, err, got, want)
		}
	}
	conditions, err := json.Marshal(operation(t, k, "read").HTTP.Conditions)
	if want := `[{"mediaType":"application/vnd.a+json"},{"field":"x-a","value":"1"},{"field":"x-b","value":"2"}]`; err != nil || string(conditions) != want {
		t.Errorf("%s", conditions)
	}
}
