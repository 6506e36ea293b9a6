package mqttfront

import (
	"context"
	"maps"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/protocol/mqtt"
)

// A 3.1.1 client is told "acknowledged" when its message is refused, for sending it again would not help; when it failed, the
// connection ends without an acknowledgement.
func TestFailureIsNotAcknowledgedTo311(t *testing.T) {
	g := newGateway(t, nil)
	devices := fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}}
	g.install(&fieldgate.Contract{API: "away", Version: "1", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{{ID: "away", Access: devices, Upstream: "nowhere", MaxBody: 100, OnInvalid: fieldgate.InvalidReject, Timeout: time.Second,
			Request: &fieldgate.Payload{Media: []fieldgate.MediaType{{Type: "*/*"}}},
			HTTP:    &fieldgate.HTTPBinding{Method: fieldgate.MethodPost, Path: "/away"}, MQTT: &fieldgate.MQTTBinding{Topic: "away", Action: fieldgate.ActionPublish, QoS: 2}}}})
	for qos := byte(1); qos <= 2; qos++ {
		old := g.connect("d1", mqtt.ClientOptions{Version: mqtt.V311})
		if got := old.send(publish("d/d2/telemetry", "{}", qos)); got != mqtt.Success {
			t.Errorf("QoS %d: refused message: %v", qos, got)
		}
		p := publish("away", "x", qos)
		if err := old.Publish(context.Background(), &p); err == nil {
			t.Errorf("QoS %d: acknowledged, though no service has it", qos)
		}
		if got := g.connect("d1", mqtt.ClientOptions{ClientID: "new"}).send(publish("away", "x", qos)); got != mqtt.ImplementationSpecificError {
			t.Errorf("QoS %d: version 5 is told %v", qos, got)
		}
	}
	denied := g.Counters.Denied.ByReason()
	if want := map[fieldgate.ProblemCode]uint64{"not-owner": 2, "upstream-unreachable": 4}; !maps.Equal(denied, want) {
		t.Errorf("counted as denied: %v, want %v", denied, want)
	}
}

// What a version 5 publisher says about its message passes on (MQTT 5 section 3.3.2.3), a retired version takes none.
func TestPropertiesAndRetiredVersions(t *testing.T) {
	g := newGateway(t, nil)
	ear := rawDial(t, g, "dash", "ear")
	ear.write((&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/+/raw"), QoS: 1}}}).Append(nil, mqtt.V5))
	ear.packet(mqtt.SUBACK)
	device := g.connect("d1", mqtt.ClientOptions{})
	p := publish("d/d1/raw", "text", 0)
	p.Properties.SetNumber(mqtt.PayloadFormatIndicator, 1)
	p.Properties.SetNumber(mqtt.MessageExpiryInterval, 3600)
	p.Properties.SetText(mqtt.ResponseTopic, []byte("fg/d2/x")) // means nothing to the gateway here
	p.Properties.SetText(mqtt.CorrelationData, []byte{1})
	device.send(p)
	var got mqtt.Publish
	if err := got.Decode(0, ear.packet(mqtt.PUBLISH), mqtt.V5); err != nil {
		t.Fatal(err)
	}
	if left := got.Properties.Number(mqtt.MessageExpiryInterval); got.Properties.Number(mqtt.PayloadFormatIndicator) != 1 ||
		left == 0 || left > 3600 || string(got.Properties.Text(mqtt.ResponseTopic)) != "fg/d2/x" || got.Properties.Text(mqtt.CorrelationData)[0] != 1 {
		t.Errorf("passed on as %+v", got.Properties)
	}
	p = publish("d/d1/raw", "\xff", 1)
	p.Properties.SetNumber(mqtt.PayloadFormatIndicator, 1)
	if got := device.send(p); got != mqtt.PayloadFormatInvalid {
		t.Errorf("not UTF-8: %v", got)
	}
	will := publish("d/d1/raw", "\xff", 1)
	will.Properties.SetNumber(mqtt.PayloadFormatIndicator, 1)
	if _, err := g.dial("d1", mqtt.ClientOptions{ClientID: "dying", Will: &will}); err == nil {
		t.Error("a will that is not UTF-8 was accepted")
	}

	retired := *contracts()[0]
	retired.API, retired.State = "old", fieldgate.LifecycleRetired
	retired.Operations = []fieldgate.Operation{retired.Operations[1]}
	retired.Operations[0].MQTT = &fieldgate.MQTTBinding{Topic: "old/{id}", Action: fieldgate.ActionPublish, QoS: 2}
	g.install(&retired)
	if got := device.send(publish("old/d1", "x", 1)); got != mqtt.TopicNameInvalid {
		t.Errorf("retired: %v", got)
	}
	waitFor(t, "a record of who used what is retired", func() bool {
		return g.records.count(func(r *fieldgate.Record) bool { return r.Findings&fieldgate.FindingRetired != 0 && r.Principal == "d1" }) == 1
	})
}
