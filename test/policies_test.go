package test

import (
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const policiesContract = `
asyncapi: 3.0.0
info: {title: Policies, version: 1.0.0}
servers: {fleet: {host: 'fleet.example:8883', protocol: secure-mqtt, security: [{type: userPassword}]}}
channels:
  reading:
    address: 'p/{id}/reading'
    parameters: {id: {x-fieldgate-bind: principal}}
    messages: {reading: {payload: {type: object, required: [temp], properties: {temp: {type: number, maximum: 60}}}}}
  bytes: {address: 'p/{id}/bytes', parameters: {id: {x-fieldgate-bind: principal}}, messages: {any: {contentType: text/plain}}}
  count: {address: 'p/{id}/count', parameters: {id: {x-fieldgate-bind: principal}}, messages: {any: {contentType: text/plain}}}
  app: {address: 'p/{id}/app', parameters: {id: {}}, messages: {any: {contentType: text/plain}}}
operations:
  reading:
    action: receive
    channel: {$ref: '#/channels/reading'}
    x-fieldgate: {policies: [{max-body: 40B}]}
    x-fieldgate-bindings: {http: {path: '/p/{id}/reading'}, coap: {path: '/p/{id}/reading'}}
  bytes:
    action: receive
    channel: {$ref: '#/channels/bytes'}
    x-fieldgate: {policies: [{rate: 10B/h}]}
    x-fieldgate-bindings: {http: {path: '/p/{id}/bytes'}, coap: {path: '/p/{id}/bytes'}}
  count:
    action: receive
    channel: {$ref: '#/channels/count'}
    x-fieldgate: {policies: [{quota: 1/month}]}
    x-fieldgate-bindings: {http: {path: '/p/{id}/count'}, coap: {path: '/p/{id}/count'}}
  app:
    action: receive
    channel: {$ref: '#/channels/app'}
    x-fieldgate: {access: [app]}
    x-fieldgate-bindings: {http: {path: '/p/{id}/app'}, coap: {path: '/p/{id}/app'}}
`

// Each policy of messages gives the same verdict and Record over HTTP, CoAP, MQTT 3.1.1 and 5. Over each protocol it is another device,
// so that none uses up what another has.
func TestPoliciesThroughAllProtocols(t *testing.T) {
	n := newNode(t, nil)
	n.start()
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	n.run("api", "publish", file("policies.yaml", policiesContract))
	host, port, _ := net.SplitHostPort(n.mqtt)
	// What the tools say is their own matter, such as 3.1.1, which has no word for a refusal: the Records tell.
	mqtt := func(version string) func(id, token, path, body string) {
		return func(id, token, path, body string) {
			tool(t, "mosquitto_pub", "-V", version, "-h", host, "-p", port, "-u", id, "-P", token, "-q", "1", "-t", "p/"+path, "-f", body)
		}
	}
	json := func(path string) bool { return strings.HasSuffix(path, "/reading") }
	protocols := []struct {
		device, record string
		send           func(id, token, path, body string)
	}{
		{"h", "http", func(_, token, path, body string) {
			kind := "text/plain"
			if json(path) {
				kind = "application/json"
			}
			tool(t, "curl", "-sS", "-H", "Authorization: Bearer "+token, "-H", "Content-Type: "+kind, "--data-binary", "@"+body, "http://"+n.http+"/p/"+path)
		}},
		{"c", "coap", func(_, token, path, body string) {
			format := "0"
			if json(path) {
				format = "50"
			}
			tool(t, "coap-client-notls", "-B", "60", "-m", "post", "-t", format, "-f", body, "-O", "65002,"+token, "coap://"+n.coap+"/p/"+path)
		}},
		{"m3", "mqtt", mqtt("mqttv311")},
		{"m5", "mqtt", mqtt("mqttv5")},
	}
	tokens := map[string]string{}
	for _, p := range protocols {
		tokens[p.device] = n.run("device", "add", p.device, "--quiet")
	}
	for i, c := range []struct {
		path, body string // %: the caller
		status     int
		problem    string
		finding    string
	}{
		{"%/reading", `{"temp":4}`, 204, "", ""},
		{"%/reading", `{"temp":400}`, 422, "invalid-payload", "invalid-request"},
		{"%/reading", `{`, 422, "invalid-payload", "invalid-request"},
		{"%/reading", `{"temp":4` + strings.Repeat(" ", 40) + `}`, 413, "too-large", "invalid-request"},
		{"other/reading", `{"temp":4}`, 403, "not-owner", "not-owner"},
		{"%/nothing", "x", 404, "not-found", "unmatched"},
		{"%/app", "x", 403, "forbidden", "forbidden"},
		{"%/bytes", "more than ten bytes", 204, "", ""},
		{"%/bytes", "x", 429, "rate-limited", "rate-limited"},
		{"%/count", "x", 204, "", ""},
		{"%/count", "x", 429, "rate-limited", "rate-limited"},
	} {
		var first record
		for _, p := range protocols {
			mine := func() []record {
				return slices.DeleteFunc(n.records(""), func(r record) bool { return r.Principal != p.device })
			}
			before := len(mine())
			p.send(p.device, tokens[p.device], strings.ReplaceAll(c.path, "%", p.device), file("body", c.body))
			wait(t, "the record", func() bool { return len(mine()) > before })
			got := mine()[0]
			if got.Status != c.status || got.Problem != c.problem || got.Protocol != p.record || strings.Join(got.Findings, " ") != c.finding || (got.Rule == "") != (c.problem == "") {
				t.Errorf("%d %s %.20s by %s: %+v", i, c.path, c.body, p.device, got)
			}
			if got.Protocol, got.Principal, got.Route = "", "", ""; p.device == "h" {
				first = got
			} else if !reflect.DeepEqual(got, first) {
				t.Errorf("%d %s %.20s by %s: %+v, over HTTP %+v", i, c.path, c.body, p.device, got, first)
			}
		}
	}
}
