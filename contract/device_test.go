package contract

import (
	"encoding/json"
	"testing"
	"time"

	"fieldgate"
)

// Operations that a device carries out itself, as docs/coap-devices.md has them, and what they compile to.
func TestDeviceWords(t *testing.T) {
	k := compileClean(t, `
openapi: 3.1.0
info: {title: T, version: 1.0.0}
x-fieldgate: {upstreams: {main: {ref: env/main}}, upstream: main}
security: [{token: []}]
paths:
  /devices/{deviceId}/reboot:
    parameters: [{name: deviceId, in: path, required: true, schema: {type: string}}]
    post:
      operationId: reboot
      x-fieldgate: {access: [app], device: {id: deviceId, path: /3/0/4, queue: 1h}}
      responses: {'204': {description: done}}
  /devices/{deviceId}/objects/{object}:
    parameters:
      - {name: deviceId, in: path, required: true, schema: {type: string}}
      - {name: object, in: path, required: true, schema: {type: string}}
    get:
      operationId: look
      x-fieldgate: {access: [app], device: {id: deviceId, path: '/{object}/0', method: FETCH}}
      responses: {'200': {description: done}}
    patch:
      operationId: write
      x-fieldgate: {access: [app], idempotent: true, device: {id: deviceId, path: '/{object}/0', method: post, content-format: 60}}
      requestBody: {content: {application/json: {schema: {type: object}}}}
      responses: {'204': {description: done}}
components:
  securitySchemes: {token: {type: http, scheme: bearer}}
`)
	for id, want := range map[string]string{
		"reboot": `[{"parameter":"deviceId","method":2,"path":"/3/0/4","queue":3600000000000},"",false]`,
		"look":   `[{"parameter":"deviceId","method":7,"path":"/{object}/0"},"",true]`,
		"write":  `[{"parameter":"deviceId","method":2,"path":"/{object}/0","cbor":true},"",true]`,
	} {
		o := operation(t, k, id)
		got, err := json.Marshal([]any{o.Device, o.Upstream, o.Idempotent})
		if err != nil || string(got) != want {
			t.Errorf("%s: %s %v", id, got, err)
		}
	}
}

// What a document says of services holds for the operations that have one, and is no fault of those that a device carries out.
func TestPoliciesOfServicesBesideDevices(t *testing.T) {
	k := compileClean(t, `
openapi: 3.1.0
info: {title: T, version: 1.0.0}
x-fieldgate:
  upstreams: {main: {ref: env/main}, next: {ref: env/next}}
  upstream: main
  priority: critical
  service-format: cbor
  policies: [{timeout: 5s}, {mirror: {upstream: next}}, {canary: {upstream: next, percent: 5}}, {retry: {attempts: 1}}]
security: [{token: []}]
paths:
  /devices/{deviceId}/time:
    parameters: [{name: deviceId, in: path, required: true, schema: {type: string}}]
    post:
      operationId: time
      x-fieldgate: {access: [app], device: {id: deviceId, path: /time}, policies: [{idempotency: {ttl: 1h}}, {response: {remove: [ETag]}}]}
      responses: {'200': {description: done}}
    put:
      operationId: set
      responses: {'204': {description: done}}
components:
  securitySchemes: {token: {type: http, scheme: bearer}}
`)
	device, service := operation(t, k, "time"), operation(t, k, "set")
	if p := device.Policies; p.Mirror != nil || p.Canaries != nil || p.Retry != nil || p.Priority != fieldgate.PriorityNormal || device.ServiceFormat != "" {
		t.Errorf("the device's operation has what is of services: %+v %s", p, device.ServiceFormat)
	}
	if p := device.Policies; device.Timeout != 5*time.Second || p.Idempotency == nil || p.Response == nil {
		t.Errorf("the device's operation lacks what holds for it: %v %+v", device.Timeout, p)
	}
	if p := service.Policies; p.Mirror == nil || len(p.Canaries) != 1 || p.Retry == nil || p.Priority != fieldgate.PriorityCritical || service.ServiceFormat != fieldgate.FormatCBOR {
		t.Errorf("the service's operation: %+v %s", p, service.ServiceFormat)
	}
}
