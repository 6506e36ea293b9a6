package sim

import (
	"strings"
	"testing"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/contract/schema"
	"fieldgate/examples"
)

// operations are those of the sample contracts, by "METHOD path" and "topic" templates.
type operations struct {
	contract  *fieldgate.Contract
	operation *fieldgate.Operation
}

func compileExamples(t *testing.T) []operations {
	t.Helper()
	var all []operations
	for _, name := range []string{"thermo.openapi.yaml", "tracker.asyncapi.yaml", "meter.openapi.yaml", "legacy.pass-through.yaml"} {
		document, err := examples.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		compiled, _, err := contract.Compile(name, document)
		if err != nil {
			t.Fatal(err)
		}
		for i := range compiled.Operations {
			all = append(all, operations{compiled, &compiled.Operations[i]})
		}
	}
	return all
}

// matches compares a path or topic with a template, level by level.
func matches(template, given string) bool {
	want, got := strings.Split(template, "/"), strings.Split(given, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if !strings.HasPrefix(want[i], "{") && want[i] != got[i] {
			return false
		}
	}
	return true
}

func find(all []operations, protocol Protocol, r *request) *operations {
	for i, o := range all {
		op := o.operation
		switch {
		case op.PassThrough:
			if protocol == MQTT && strings.HasPrefix(r.topic, "legacy/") || protocol != MQTT && strings.HasPrefix(r.path, "/legacy/") {
				return &all[i]
			}
		case protocol == MQTT && op.MQTT != nil && op.MQTT.Action == fieldgate.ActionPublish && matches(op.MQTT.Topic, r.topic),
			protocol == CoAP && op.CoAP != nil && op.CoAP.Method.String() == r.method && matches(op.CoAP.Path, r.path),
			protocol == HTTP && op.HTTP != nil && op.HTTP.Method.String() == r.method && matches(op.HTTP.Path, r.path):
			return &all[i]
		}
	}
	return nil
}

// Regular devices follow the sample contracts; the others break them in the way that their behaviour says.
func TestRequestsAndTheSampleContracts(t *testing.T) {
	all := compileExamples(t)
	for n, device := range Plan(Size{MQTT: 30, CoAP: 30, HTTP: 30}, 3) {
		source := newSource(device, "other-1", 3, uint64(n))
		invalid, unmatched, foreign := 0, 0, 0
		requests := source.first()
		for range 50 {
			requests = append(requests, source.next()...)
		}
		for i := range requests {
			r := &requests[i]
			if strings.Contains(r.path+r.topic, "other-1") {
				foreign++
			}
			if r.links != "" { // for the resource directory, which is in no contract
				continue
			}
			match := find(all, device.Protocol, r)
			if match == nil {
				unmatched++
				continue
			}
			op := match.operation
			if op.Request == nil || op.PassThrough || r.method == "GET" {
				continue
			}
			compiled, err := schema.Compile(match.contract.Schemas, string(op.Request.Media[0].Schema), schema.Options{})
			if err != nil {
				t.Fatal(err)
			}
			errJSON, errCBOR := compiled.ValidateJSON(r.payload.appendJSON(nil)), compiled.ValidateCBOR(r.payload.appendCBOR(nil))
			if (errJSON == nil) != (errCBOR == nil) {
				t.Errorf("%s: JSON %v, CBOR %v", device.ID, errJSON, errCBOR)
			}
			if errJSON != nil {
				invalid++
			}
		}
		if (invalid > 0) != (device.Behaviour == WrongPayload) {
			t.Errorf("%s (%s): %d requests break their schema", device.ID, device.Behaviour, invalid)
		}
		if (unmatched > 0) != (device.Behaviour == Undocumented) {
			t.Errorf("%s (%s): %d requests that no contract has", device.ID, device.Behaviour, unmatched)
		}
		if (foreign > 0) != (device.Behaviour == Impersonator) {
			t.Errorf("%s (%s): %d requests name another device", device.ID, device.Behaviour, foreign)
		}
		if (len(requests) > 100) != (device.Behaviour == Burst) {
			t.Errorf("%s (%s): %d requests in 50 beats", device.ID, device.Behaviour, len(requests))
		}
	}
}
