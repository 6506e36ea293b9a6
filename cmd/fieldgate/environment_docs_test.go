package main

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	gateway "fieldgate/gateway/upstream"
)

// The examples too.
func TestExampleEnvironments(t *testing.T) {
	e, err := readEnvironment("../../examples/on-ramp/fieldgate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if ramp := e.onRampListeners(); ramp.MQTT != "127.0.0.1:1883" || ramp.MQTTS != "127.0.0.1:8883" || e.MQTT.OnRamp.isOpen() {
		t.Errorf("%+v", ramp)
	}
	if e, err = readEnvironment("../../examples/on-ramp/coap.yaml"); err != nil {
		t.Fatal(err)
	}
	if ramp := e.CoAP.OnRamp; ramp.Listen != "127.0.0.1:5683" || ramp.Upstream != "building" || len(e.Upstreams) != 1 {
		t.Errorf("%+v", ramp)
	}
}

// Every environment that the documentation shows is one that a node takes.
func TestDocumentedEnvironments(t *testing.T) {
	for page, least := range map[string]int{"coap": 1, "coap-devices": 1, "coap-upstreams": 2, "device-credentials": 1, "load-balancing": 10, "upstream-calls": 4, "tls": 5, "mqtt": 5, "mqtt-proxy": 1, "operations": 2, "bus": 0, "http-policies": 0, "websocket": 0} {
		text, err := os.ReadFile("../../docs/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		environments := 0
		for _, snippet := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
			if regexp.MustCompile("^(paths|policies| |# of an operation|- {alert:)").MatchString(snippet[1]) {
				continue // of a contract, or of Prometheus
			}
			environments++
			e, err := readText(t, snippet[1])
			if err != nil {
				t.Errorf("%s: %v\n%s", page, err, snippet[1])
				continue
			}
			if strings.Contains(snippet[1], "upstreams:") && len(e.Upstreams) == 0 {
				t.Errorf("%s: no upstream in\n%s", page, snippet[1])
			}
			if _, err := gateway.NewSet(e.upstreamList()); err != nil && !errors.Is(err, fs.ErrNotExist) { // the reader's certificates
				t.Errorf("%s: %v\n%s", page, err, snippet[1])
			}
		}
		if environments < least {
			t.Errorf("%s: only %d environments", page, environments)
		}
	}
}
