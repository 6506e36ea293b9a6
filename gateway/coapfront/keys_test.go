package coapfront

import (
	"bytes"
	"testing"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// Answers have the contract's numbers for names too, for callers that want CBOR.
func TestAnswerWithNumericKeys(t *testing.T) {
	g := newGateway(t)
	compiled, _, err := contract.Compile("api.yaml", []byte(`openapi: 3.1.0
info: {title: Short, version: 1.0.0}
security: []
paths:
  /short:
    get:
      operationId: short
      x-fieldgate-bindings: {coap: {path: /s}}
      responses:
        '200':
          description: ok
          content: {application/json: {schema: {type: object, properties: {n: {type: integer, x-cbor-key: 1}}}, example: {n: 5}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 2, Contracts: []*fieldgate.Contract{compiled}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(program)
	r := g.do(call(coap.GET, "/s", nil, number(coap.Accept, coap.CBOR)))
	if r.Code != coap.Content || !bytes.Equal(r.Body, []byte{0xa1, 0x01, 0x05}) {
		t.Errorf("%v %x", r.Code, r.Body)
	}
	if r = g.do(call(coap.GET, "/s", nil, number(coap.Accept, coap.JSON))); string(r.Body) != `{"n":5}` && string(r.Body) != `{"n": 5}` {
		t.Errorf("%v %s", r.Code, r.Body)
	}
}
