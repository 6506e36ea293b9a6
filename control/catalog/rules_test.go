package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/contract"
)

// one compiles an OpenAPI contract of one operation, of which words is x-fieldgate.
func one(t *testing.T, method, words string) *fieldgate.Operation {
	t.Helper()
	body := ""
	if method == "post" {
		body = "      requestBody: {content: {application/json: {schema: {type: object}}}}\n"
	}
	document := "openapi: 3.1.0\ninfo: {title: One, version: 1.0.0}\nsecurity: [{token: []}]\n" +
		"x-fieldgate: {upstreams: {main: {ref: env/main}, next: {ref: env/next}}, upstream: main}\n" +
		"paths:\n  /a/{id}:\n    parameters: [{name: id, in: path, required: true, schema: {type: string, maxLength: 9}}]\n    " + method + ":\n" + body +
		"      x-fieldgate: {" + words + "}\n" +
		"      responses: {'200': {description: done, content: {application/json: {schema: {type: object}}}}}\n" +
		"components: {securitySchemes: {token: {type: http, scheme: bearer}}}\n"
	compiled, _, err := contract.Compile("one.yaml", []byte(document))
	if err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	return &compiled.Operations[0]
}

// What a contract says, and what people read of it. Nothing is said of what holds anyway.
func TestRules(t *testing.T) {
	long := strings.Repeat("ä", 60)
	for _, test := range []struct{ method, words, want string }{
		{"get", "", ""},
		{"get", "priority: normal, check-answers: off, on-invalid: reject, policies: [{max-body: 1MiB}]", ""},
		{"post", "", "A body has at most 1 MiB."},

		{"get", "when: {headers: {API-Version: '2'}}", "Only requests with header Api-Version: 2 are meant."},
		{"get", "when: {headers: {API-Version: '2', X-Site: north}, media-type: a/b}", "Only requests with media type a/b, header Api-Version: 2 and header X-Site: north are meant."},

		{"get", "policies: [{rate: 10/s, burst: 20}]", "At most 10 calls a second by caller, bursts of 20."},
		{"get", "access: [device], policies: [{rate: 1/min}]", "At most 1 call a minute by device."},
		{"get", "access: [app], policies: [{rate: 2/h}]", "At most 2 calls an hour by app."},
		{"get", "access: [device, anonymous], policies: [{rate: 2/day}]", "At most 2 calls a day by caller."},
		{"get", "policies: [{rate: 100/s, key: operation}, {rate: 9/s, key: source, burst: 1}]", "At most 100 calls a second by all callers together. At most 9 calls a second by source address, bursts of 1."},

		{"get", "access: [device], policies: [{rate: 64KiB/min}, {rate: 1MiB/h, key: operation, burst: 2KiB}]",
			"At most 64 KiB a minute by device. At most 1 MiB an hour by all callers together, bursts of 2 KiB."},
		{"get", "access: [device], policies: [{quota: 10000/month}, {quota: 1/day}, {quota: 50MiB/day, key: operation}]",
			"At most 10000 calls in a calendar month (UTC) by device. At most 1 call in a calendar day (UTC) by device. " +
				"At most 50 MiB in a calendar day (UTC) by all callers together."},
		{"get", "policies: [{max-expiry: 1h}]", "Messages expire 1 h after they were published, at the latest."},

		{"get", "policies: [{privacy: {remove: [driver]}}]", "Receivers get messages and answers without driver."},
		{"get", "policies: [{privacy: {for: {access: [app]}, except: {scopes: [exact]}, remove: [a, b/c], mask: [d], coarsen: {lat: 0.01, ts: 1h}}}]",
			"Apps, but not callers with scope exact, get messages and answers without a and b/c, with d masked and with lat in steps of 0.01 and ts in steps of 1 h."},
		{"get", "policies: [{privacy: {except: {access: [app, device], apps: [map, 'm*'], models: [T1], firmware: ['2.*']}, mask: [a]}}]",
			"All but apps called map or m* of model T1 with firmware 2.* get messages and answers with a masked."},

		{"get", "policies: [{max-body: 1KiB}]", "A body has at most 1 KiB."},
		{"get", "policies: [{max-body: 1KB}]", "A body has at most 1000 bytes."},
		{"get", "policies: [{max-body: 1B}]", "A body has at most 1 byte."},
		{"get", "on-invalid: shadow", "Payloads that break their schema pass, and are recorded."},
		{"get", "policies: [{timeout: 1500ms}]", "A call takes at most 1500 ms."},
		{"get", "idempotent: true", ""},
		{"patch", "idempotent: true", "The service may get a call twice without harm."},

		{"get", "websocket: true", "An upgrade to WebSocket is passed through."},
		{"get", "websocket: {from-client: true, max-message: 4KiB}", "An upgrade to WebSocket is passed through; messages of callers are checked and have at most 4 KiB."},
		{"get", "websocket: {from-service: true}", "An upgrade to WebSocket is passed through; messages of the service are checked and have at most 256 KiB."},
		{"get", "websocket: {from-client: true, from-service: true}", "An upgrade to WebSocket is passed through; messages of both sides are checked and have at most 256 KiB."},
		{"get", "websocket: {max-message: 4KiB}", "An upgrade to WebSocket is passed through."},

		{"get", "priority: critical", "Refused last when its service is overloaded (critical)."},
		{"get", "priority: background", "Refused first when its service is overloaded (background)."},
		{"get", "check-answers: report", "Answers that break the contract pass, and are recorded."},
		{"get", "check-answers: enforce", "Answers that break the contract do not reach the caller."},

		{"get", "policies: [{retry: {attempts: 2, per-try-timeout: 500ms}}]", "Tried again up to 2 times when no connection came about or it ended before an answer, 500 ms each."},
		{"get", "policies: [{retry: {attempts: 1, on: [reset]}}]", "Tried again once when the connection ended before an answer."},
		{"get", "policies: [{retry: {attempts: 5, per-try-timeout: 1s, on: [timeout, 5xx, reset, connect]}}]",
			"Tried again up to 5 times when no connection came about, it ended before an answer, the answer was 502 to 504 or no answer came in time, 1 s each."},
		{"patch", "policies: [{retry: {attempts: 1}}]", "Tried again once when no connection came about or it ended before an answer, but only if nothing of it was sent."},
		{"patch", "policies: [{retry: {attempts: 1, on: [connect]}}]", "Tried again once when no connection came about."},
		{"get", "policies: [{retry: {attempts: 0}}]", "Not tried again."},
		{"get", "policies: [{retry: {attempts: 1, on: []}}]", "Not tried again."},
		{"get", "policies: [{hedge: 50ms}]", "A second try starts when no answer has begun after 50 ms; the first answer counts."},

		{"get", "policies: [{cache: {ttl: 30s, stale-while-revalidate: 10s}}]",
			"Answers are kept 30 s, unless their service says otherwise, one for each caller; stale ones serve 10 s more while they are fetched anew."},
		{"get", "policies: [{cache: {for: everyone}}]", "Answers are kept as long as their service says, one for all callers."},

		{"get", "policies: [{cors: {origins: ['*']}}]", "Pages of every origin may call it."},
		{"get", "policies: [{cors: {origins: ['https://a.example', 'https://b.example'], headers: [X-A], expose: [x-b, x-c, x-d, x-e, x-f], credentials: true, max-age: 10m}}]",
			"Pages of https://a.example and https://b.example may call it with cookies and authorization, sending X-A, seeing X-B, X-C, X-D and 2 more; preflights count for 10 min."},

		{"post", "policies: [{max-body: 2MiB}, {idempotency: {required: true}}]", "A body has at most 2 MiB. Needs header Idempotency-Key; the same key within 24 h gets the first answer."},
		{"patch", "policies: [{idempotency: {field: X-Once, ttl: 7d}}]", "The same X-Once within 7 days gets the first answer."},

		{"get", `policies: [{request: {set: {X-Unit: '"ml/h"'}, remove: [X-Batch], body: 'body'}}]`, `Requests reach the service with X-Unit = "ml/h" and content = body, without X-Batch.`},
		{"get", "policies: [{response: {remove: [a, b]}}]", "Answers reach the caller without A and B."},
		{"get", `policies: [{response: {body: "{'a':\n    1}"}}]`, "Answers reach the caller with content = {'a': 1}."},
		{"get", `policies: [{response: {set: {A: '"` + long + `"', B: '1', C: '1', D: '1', E: '1'}}}]`, `Answers reach the caller with A = "` + long[:78] + `…, B = 1, C = 1 and 2 more fields.`},

		{"get", "policies: [{redirect: {to: '/v2/{id}'}}]", "Callers are redirected to /v2/{id} (308)."},
		{"get", "policies: [{redirect: {to: 'https://b.example/v2', status: 303}}]", "Callers are redirected to https://b.example/v2 (303)."},
		{"get", "policies: [{mirror: {upstream: next}}]", "Copies of all calls go to next, whose answers nobody sees."},
		{"get", "policies: [{mirror: {upstream: next, percent: 0.5}}]", "Copies of 0.5 % of the calls go to next, whose answers nobody sees."},

		{"get", "policies: [{canary: {upstream: next}}]", "All callers go to next."},
		{"get", "policies: [{canary: {upstream: next, percent: 5}}]", "5 % of the callers go to next (a caller always the same way)."},
		{"get", "policies: [{canary: {upstream: next, firmware: ['2.*']}}, {canary: {upstream: next, percent: 5, header: {X-Try: yes please}, models: [P1, P2, 'Q*', R]}}]",
			"Callers with firmware 2.* go to next. 5 % of the callers with header X-Try: yes please of model P1, P2, Q* or 1 more go to next (a caller always the same way)."},
	} {
		if rules := strings.Join(Rules(one(t, test.method, test.words)), " "); rules != test.want {
			t.Errorf("%s {%s}\n%s\nwant\n%s", test.method, test.words, rules, test.want)
		}
	}
}

// The order is that of reading; a policy of each kind.
func TestRulesTogether(t *testing.T) {
	o := one(t, "get", "when: {media-type: a/b}, check-answers: report, priority: critical, policies: [{canary: {upstream: next}}, {cors: {origins: ['*']}},"+
		" {hedge: 1s}, {timeout: 3s}, {rate: 1/s}, {max-body: 1KiB}]")
	var words []string
	for _, r := range rulesOf(o, brief) {
		words = append(words, r.word)
	}
	if want := []string{"when", "rate", "max-body", "timeout", "priority", "check-answers", "hedge", "cors", "canary"}; !slices.Equal(words, want) {
		t.Errorf("%v, want %v", words, want)
	}
}

// What is published over MQTT alone is a message; its payload has a bound, too.
func TestRulesOfMessages(t *testing.T) {
	o := &fieldgate.Operation{MQTT: &fieldgate.MQTTBinding{Action: fieldgate.ActionPublish}, Request: &fieldgate.Payload{}, MaxBody: 1 << 10,
		Access: fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}}, Limits: []fieldgate.Limit{{Count: 3, Period: 2 * time.Second, Burst: 3, Key: fieldgate.LimitPrincipal}}}
	if got, want := fmt.Sprint(Rules(o)), "[At most 3 messages in 2 s by device. A body has at most 1 KiB.]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
