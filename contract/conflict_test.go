package contract

import (
	"strings"
	"testing"

	"fieldgate"
)

// mustCompile compiles a document that is known to be right.
func mustCompile(t *testing.T, document string) *fieldgate.Contract {
	t.Helper()
	contract, _, err := Compile("api.yaml", []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return contract
}

// readingsAPI is an API with one operation, over all three protocols.
func readingsAPI(api, version, host, path, coap, topic string) string {
	document := `openapi: 3.1.0
info: {title: API, version: VERSION}
x-fieldgate: {api: NAME, HOST upstreams: {main: {ref: env/main}}, upstream: main}
security: []
paths:
  PATH:
    post:
      operationId: add
      parameters: [{name: P, in: path, required: true}]
      x-fieldgate-bindings: {coap: {path: 'COAP'}, mqtt: {topic: 'TOPIC'}}
      requestBody: {content: {application/json: {}}}
      responses: {'204': {description: stored}}
`
	if host != "" {
		host = "host: " + host + ","
	}
	parameter := path[strings.IndexByte(path, '{')+1 : strings.IndexByte(path, '}')]
	return strings.NewReplacer("NAME", api, "VERSION", version, "HOST", host, "PATH", path, "COAP", coap, "TOPIC", topic,
		"P,", parameter+",").Replace(document)
}

func TestConflicts(t *testing.T) {
	live := mustCompile(t, readingsAPI("one", "1.0.0", "", "/r/{id}", "/r/{id}", "r/{id}"))
	retired := mustCompile(t, readingsAPI("old", "1.0.0", "", "/r/{id}", "/r/{id}", "r/{id}"))
	retired.State = fieldgate.LifecycleRetired
	hosted := mustCompile(t, readingsAPI("hosted", "1.0.0", "a.example", "/h/{id}", "/h/{id}", "h/{id}"))
	legacy := mustCompile(t, "fieldgate: pass-through\ninfo: {title: Legacy, version: 1.0.0}\naccess: anonymous\n"+
		"http: [{prefix: /, upstream: x}]\ncoap: [{prefix: /r, upstream: x}]\nmqtt: [{filter: '#'}]\n")
	tests := map[string]struct{ document, want string }{
		"same shape, other names": {readingsAPI("two", "1.0.0", "", "/r/{key}", "/x/{key}", "y/{key}"),
			"HTTP POST /r/{key} of two 1.0.0 (operation add) is already served by one 1.0.0 (operation add)"},
		"CoAP": {readingsAPI("two", "1.0.0", "", "/x/{key}", "/r/{key}", "y/{key}"),
			"CoAP POST /r/{key} of two 1.0.0 (operation add) is already served by one 1.0.0 (operation add)"},
		"topic": {readingsAPI("two", "1.0.0", "", "/x/{key}", "/y/{key}", "r/{key}"),
			"MQTT publish r/{key} of two 1.0.0 (operation add) is already served by one 1.0.0 (operation add)"},
		"one host is all hosts": {readingsAPI("two", "1.0.0", "b.example", "/r/{key}", "/x/{key}", "y/{key}"),
			"HTTP POST b.example/r/{key} of two 1.0.0 (operation add) is already served by one 1.0.0 (operation add)"},
		"other host": {readingsAPI("two", "1.0.0", "b.example", "/h/{key}", "/x/{key}", "y/{key}"), ""},
		"next version": {readingsAPI("one", "1.1.0", "", "/r/{id}", "/x/{id}", "y/{id}"),
			"HTTP POST /r/{id} of one 1.1.0 (operation add) will be taken over from one 1.0.0 (operation add)"},
		"same version": {readingsAPI("one", "1.0.0", "", "/r/{id}", "/r/{id}", "r/{id}"), ""},
		"literal":      {readingsAPI("two", "1.0.0", "", "/r/x/{id}", "/r/x/{id}", "r/x/{id}"), ""},
		"pass-through": {"fieldgate: pass-through\ninfo: {title: Other, version: 1.0.0}\naccess: anonymous\n" +
			"http: [{prefix: /, host: c.example, upstream: x}]\nmqtt: [{filter: 'a/#'}]\ncoap: [{prefix: /r, upstream: x}]\n",
			"HTTP c.example/* of other 1.0.0 (operation http-1) is already served by legacy 1.0.0 (operation http-1)\n" +
				"CoAP /r* of other 1.0.0 (operation coap-1) is already served by legacy 1.0.0 (operation coap-1)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			candidate := mustCompile(t, test.document)
			var got []string
			for _, c := range conflicts(candidate, []*fieldgate.Contract{live, retired, hosted, legacy}) {
				got = append(got, c.String())
				if c.Superseding != (c.API == c.LiveAPI) {
					t.Errorf("superseding: %+v", c)
				}
			}
			if strings.Join(got, "\n") != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// conflicts are those of candidate with the live contracts that serve something.
func conflicts(candidate *fieldgate.Contract, live []*fieldgate.Contract) []Conflict {
	var routes Routes
	for _, k := range live {
		if k.State != fieldgate.LifecycleRetired && k.State != fieldgate.LifecycleSuperseded {
			routes.Add(k)
		}
	}
	return routes.Conflicts(candidate)
}
