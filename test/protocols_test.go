package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// One operation of one document is called with curl, coap-client, mosquitto_rr and a plain MQTT publish: the same verdict, status,
// limits and upstream call, and one Record each.
func TestOneOperationThreeProtocols(t *testing.T) {
	upstream := newService(t)
	n := newNode(t, map[string]string{"ingest": upstream.URL})
	n.start()
	n.run("api", "publish", "../examples/thermo.openapi.yaml")
	token := n.run("device", "add", "d7", "--model", "T2", "--firmware", "1.8.3", "--quiet")
	stranger := n.run("device", "add", "d8", "--quiet")
	host, port, _ := net.SplitHostPort(n.mqtt)

	const good = `{"ts":"2026-11-22T18:11:05Z","seq":7,"temp":21.5}`
	const hot = `{"ts":"2026-11-22T18:11:05Z","seq":9,"temp":900}`
	// The CBOR of the same, with the contract's numeric keys.
	goodCBOR := "\xa3\x01\x742026-11-22T18:11:05Z\x02\x07\x03\xf9\x4d\x60"
	hotCBOR := "\xa3\x01\x742026-11-22T18:11:05Z\x02\x09\x03\x19\x03\x84"

	curl := func(id, token, body string) string {
		return mustTool(t, "curl", "-sS", "-i", "-H", "Authorization: Bearer "+token, "-H", "Content-Type: application/json", "-d", body, "http://"+n.http+"/devices/"+id+"/telemetry")
	}
	coap := func(token, format, body string) string {
		file := filepath.Join(t.TempDir(), "body")
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		output, err := tool(t, "coap-client-notls", "-v", "6", "-B", "60", "-m", "post", "-t", format, "-f", file, "-O", "65002,"+token, "coap://"+n.coap+"/t")
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		return output
	}
	rr := func(id, token, body string) string {
		output, err := tool(t, "mosquitto_rr", "-V", "mqttv5", "-h", host, "-p", port, "-u", id, "-P", token, "-q", "1", "-t", "d/"+id+"/telemetry",
			"-e", "fg/"+id+"/reply", "-m", body, "-W", "30", "-F", "%P %p")
		if err != nil {
			t.Logf("mosquitto_rr: %v", err)
		}
		return output
	}
	publish := func(version, id, token, topic, body string) (string, error) {
		return tool(t, "mosquitto_pub", "-d", "-V", version, "-h", host, "-p", port, "-u", id, "-P", token, "-q", "1", "-t", topic, "-m", body)
	}

	type verdict struct {
		name    string
		status  int
		problem string
		answers []string // that the caller's tool must show
		do      func() string
	}
	for _, c := range []verdict{
		{"http good", 204, "", []string{"204"}, func() string { return curl("d7", token, good) }},
		{"http hot", 422, "invalid-payload", []string{"422", "application/problem+json", "urn:fieldgate:problem:invalid-payload", `"pointer":"/temp"`}, func() string { return curl("d7", token, hot) }},
		{"http other", 403, "not-owner", []string{"403", "not-owner"}, func() string { return curl("d7", stranger, good) }},
		{"http wrong token", 401, "unauthenticated", []string{"401", "WWW-Authenticate"}, func() string { return curl("d7", token[:39]+"0", good) }},
		{"coap good", 204, "", nil, func() string { return coap(token, "60", goodCBOR) }},
		{"coap good json", 204, "", nil, func() string { return coap(token, "50", good) }},
		{"coap hot", 422, "invalid-payload", []string{"4.22"}, func() string { return coap(token, "60", hotCBOR) }},
		{"coap wrong token", 401, "unauthenticated", []string{"4.01"}, func() string { return coap(token[:39]+"0", "60", goodCBOR) }},
		{"rr good", 204, "", []string{"status:204"}, func() string { return rr("d7", token, good) }},
		{"rr hot", 422, "invalid-payload", []string{"status:422", "urn:fieldgate:problem:invalid-payload"}, func() string { return rr("d7", token, hot) }},
		{"publish good", 204, "", nil, func() string {
			output, err := publish("mqttv5", "d7", token, "d/d7/telemetry", good)
			if err != nil {
				t.Errorf("%v %s", err, output)
			}
			return output
		}},
		{"publish hot", 422, "invalid-payload", nil, func() string { output, _ := publish("mqttv5", "d7", token, "d/d7/telemetry", hot); return output }},
		{"publish hot 3.1.1", 422, "invalid-payload", nil, func() string { output, _ := publish("mqttv311", "d7", token, "d/d7/telemetry", hot); return output }},
		{"publish other", 403, "not-owner", nil, func() string { output, _ := publish("mqttv5", "d7", token, "d/d8/telemetry", good); return output }},
	} {
		before := len(n.recordsOf("sendTelemetry"))
		upstream.take()
		output := c.do()
		for _, want := range c.answers {
			if !strings.Contains(output, want) {
				t.Errorf("%s: the answer lacks %q:\n%s", c.name, want, output)
			}
		}
		wait(t, c.name+": the record", func() bool { return len(n.recordsOf("sendTelemetry")) > before })
		got := n.recordsOf("sendTelemetry")[0]
		if got.Status != c.status || got.Problem != c.problem {
			t.Errorf("%s: record %+v", c.name, got)
		}
		calls := upstream.take()
		switch {
		case c.status == 204 && (len(calls) != 1 || calls[0].method != "POST" || calls[0].path != "/devices/d7/telemetry" || calls[0].body != good ||
			calls[0].principal != "d7" || calls[0].contentType != "application/json" || calls[0].authorization != ""):
			t.Errorf("%s: the upstream saw %+v", c.name, calls)
		case c.status != 204 && len(calls) != 0:
			t.Errorf("%s: a refused call reached the upstream: %+v", c.name, calls)
		}
		if len(n.recordsOf("sendTelemetry")) != before+1 {
			t.Errorf("%s: more than one record", c.name)
		}
	}

	// All protocols share the device's rate limit: burst 20, one a second.
	var refused []string
	for i := range 30 {
		output := curl("d7", token, good)
		if strings.Contains(output, " 429 ") {
			refused = append(refused, fmt.Sprint(i))
			break
		}
	}
	if len(refused) == 0 {
		t.Error("the limit was not reached over HTTP")
	}
	if output := coap(token, "60", goodCBOR); !strings.Contains(output, "4.29") {
		t.Errorf("the limit reached over HTTP does not count over CoAP:\n%s", output)
	}
	if output := rr("d7", token, good); !strings.Contains(output, "status:429") {
		t.Errorf("the limit reached over HTTP does not count over MQTT:\n%s", output)
	}
	wait(t, "the record of the refused request over MQTT", func() bool {
		return slices.ContainsFunc(n.recordsOf("sendTelemetry"), func(r record) bool { return r.Protocol == "mqtt" && r.Status == 429 })
	})
}

func (n *node) recordsOf(operation string) []record {
	n.t.Helper()
	return slices.DeleteFunc(n.records(""), func(r record) bool { return r.Operation != operation })
}
