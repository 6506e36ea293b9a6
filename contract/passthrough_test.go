package contract

import (
	"reflect"
	"testing"

	"fieldgate"
)

func TestPassThrough(t *testing.T) {
	k := compileClean(t, `
fieldgate: pass-through
info: {title: Legacy fleet, version: 1.0.0}
access: credentials
http: [{host: legacy.example, upstream: legacy}, {prefix: /old/, upstream: other, websocket: true}]
mqtt: [{filter: 'legacy/+/#'}]
coap: [{upstream: legacy}]
`)
	base := fieldgate.Operation{PassThrough: true, MaxBody: fieldgate.MaxBody, OnInvalid: fieldgate.InvalidShadow,
		Access: fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice, fieldgate.PrincipalApp}}}
	want := []fieldgate.Operation{base, base, base, base}
	want[0].ID, want[0].Upstream = "http-1", "legacy"
	want[0].HTTP = &fieldgate.HTTPBinding{Host: "legacy.example", Method: fieldgate.MethodOther, Path: "/"}
	want[1].ID, want[1].Upstream = "http-2", "other"
	want[1].HTTP = &fieldgate.HTTPBinding{Method: fieldgate.MethodOther, Path: "/old", WebSocket: true}
	want[2].ID = "mqtt-1"
	want[2].MQTT = &fieldgate.MQTTBinding{Topic: "legacy/+/#", Action: fieldgate.ActionBoth, QoS: 2, Retain: true}
	want[3].ID, want[3].Upstream = "coap-1", "legacy"
	want[3].CoAP = &fieldgate.CoAPBinding{Method: fieldgate.MethodOther, Path: "/"}
	if k.API != "legacy-fleet" || k.Kind != fieldgate.KindPassThrough || k.State != fieldgate.LifecycleActive {
		t.Errorf("contract %+v", k)
	}
	if !reflect.DeepEqual(k.Operations, want) {
		t.Errorf("got\n%+v\nwant\n%+v", k.Operations, want)
	}
}
