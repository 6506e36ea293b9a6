package contract

import (
	"reflect"
	"testing"

	"fieldgate"
)

// The document describes the service: what it receives clients publish, what it sends clients subscribe to (AsyncAPI 3.0.0,
// Operation Object, action).
func TestAsyncAPI(t *testing.T) {
	k := compileClean(t, `
asyncapi: 3.0.0
info: {title: Street lights, version: 1.0.0}
defaultContentType: application/cbor
x-fieldgate: {upstreams: {lights: {ref: env/lights}}, upstream: lights}
servers:
  broker: {host: 'broker.example:1883', protocol: mqtt, security: [{$ref: '#/components/securitySchemes/password'}]}
  web: {host: broker.example, protocol: https, pathname: /lights/, security: [{$ref: '#/components/securitySchemes/header'}]}
channels:
  measured:
    address: 'street/{streetId}/measured'
    x-fieldgate: {policies: [{rate: 1/min, key: streetId}]}
    parameters: {streetId: {$ref: '#/components/parameters/streetId'}}
    messages:
      light: {$ref: '#/components/messages/light'}
      heat: {contentType: application/json, payload: {type: number}}
  dim:
    address: 'street/{zone}/dim'
    parameters: {zone: {enum: [north, south]}}
    messages: {dim: {traits: [{contentType: text/plain}], payload: {type: string}}}
operations:
  onMeasured:
    action: receive
    channel: {$ref: '#/channels/measured'}
    bindings: {mqtt: {retain: true}}
    traits: [{summary: early, bindings: {mqtt: {qos: 2}}}, {summary: late, bindings: {$ref: '#/components/operationBindings/cautious'}}]
    x-fieldgate-bindings: {http: {method: PUT}, coap: {}}
  onLight:
    action: send
    channel: {$ref: '#/channels/measured'}
    messages: [{$ref: '#/channels/measured/messages/light'}]
    security: []
    x-fieldgate: {access: [app]}
    x-fieldgate-bindings: {http: {}, coap: {path: '/l/{streetId}'}}
  dimmed:
    action: send
    channel: {$ref: '#/channels/dim'}
    bindings: {mqtt: {qos: 0, retain: true}}
components:
  parameters: {streetId: {x-fieldgate-bind: principal}}
  operationBindings: {cautious: {mqtt: {qos: 0}}}
  messages:
    light:
      traits: [{$ref: '#/components/messageTraits/common'}]
      payload: {$ref: '#/components/schemas/light'}
  messageTraits:
    common:
      examples: [{payload: {lumens: 3}}, {name: dark, payload: {lumens: -1}, x-fieldgate-expect: 422}]
  schemas:
    light: {type: object, properties: {lumens: {type: integer, minimum: 0}}}
  securitySchemes:
    password: {type: userPassword}
    header: {type: httpApiKey, in: header, name: X-Key}
`)
	measured := operation(t, k, "onMeasured")
	if want := (fieldgate.MQTTBinding{Topic: "street/{streetId}/measured", Action: fieldgate.ActionPublish, QoS: 0, Retain: true}); *measured.MQTT != want {
		t.Errorf("mqtt %+v", measured.MQTT)
	}
	if measured.Summary != "late" || measured.Upstream != "lights" || measured.Idempotent {
		t.Errorf("operation %+v", measured)
	}
	if want := (fieldgate.HTTPBinding{Method: fieldgate.MethodPut, Path: "/lights/street/{streetId}/measured"}); !reflect.DeepEqual(*measured.HTTP, want) {
		t.Errorf("http %+v", measured.HTTP)
	}
	if want := (fieldgate.CoAPBinding{Method: fieldgate.MethodPost, Path: "/street/{streetId}/measured"}); *measured.CoAP != want {
		t.Errorf("coap %+v", measured.CoAP)
	}
	if want := (fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}, Headers: []string{"x-key"}}); !reflect.DeepEqual(measured.Access, want) {
		t.Errorf("access %+v", measured.Access)
	}
	if len(measured.Limits) != 1 || measured.Limits[0].Key != fieldgate.LimitPrincipal || !measured.Parameters[0].Bound || !measured.Parameters[0].Required {
		t.Errorf("limits %+v parameters %+v", measured.Limits, measured.Parameters)
	}
	media := measured.Request.Media
	if len(media) != 2 || media[0].Type != "application/cbor" || media[0].Schema != "#/$defs/light" || media[1].Type != "application/json" ||
		len(media[0].Examples) != 2 || media[0].Examples[1].Expect != 422 || string(media[0].Example) != `{"lumens":3}` {
		t.Errorf("request %+v", media)
	}

	light := operation(t, k, "onLight")
	if light.MQTT.Action != fieldgate.ActionSubscribe || light.Upstream != "" || light.Request != nil || len(light.Message.Media) != 1 {
		t.Errorf("operation %+v %+v", light, light.MQTT)
	}
	if want := (fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/lights/street/{streetId}/measured"}); !reflect.DeepEqual(*light.HTTP, want) {
		t.Errorf("http %+v", light.HTTP)
	}
	if want := (fieldgate.CoAPBinding{Method: fieldgate.MethodGet, Path: "/l/{streetId}", Observe: true}); *light.CoAP != want {
		t.Errorf("coap %+v", light.CoAP)
	}

	dimmed := operation(t, k, "dimmed")
	if dimmed.MQTT.Retain || dimmed.Message.Media[0].Type != "text/plain" || dimmed.Message.Media[0].Schema == "" {
		t.Errorf("operation %+v %+v", dimmed, dimmed.MQTT)
	}
	if want := []fieldgate.PrincipalKind{fieldgate.PrincipalDevice, fieldgate.PrincipalApp}; !reflect.DeepEqual(dimmed.Access.Kinds, want) {
		t.Errorf("access %+v", dimmed.Access)
	}
	if p := dimmed.Parameters[0]; p.Schema != "#/$defs/dimmed.parameter.zone" {
		t.Errorf("parameter %+v", p)
	}
}
