package pipeline

import (
	"encoding/json"
	"testing"

	"fieldgate"
)

func TestMessages(t *testing.T) {
	contract := &fieldgate.Contract{API: "a", Version: "1", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive,
		Schemas: json.RawMessage(telemetrySchemas), Operations: []fieldgate.Operation{
			{ID: "checked", HTTP: &fieldgate.HTTPBinding{Path: "/a", WebSocket: true}, OnInvalid: fieldgate.InvalidShadow,
				WebSocket: &fieldgate.WebSocketMessages{FromClient: "#/$defs/T", MaxMessage: 64}},
			{ID: "open", HTTP: &fieldgate.HTTPBinding{Path: "/b", WebSocket: true}},
		}}
	program, err := Link(&fieldgate.Snapshot{Contracts: []*fieldgate.Contract{contract}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := program.Operations[0].Messages()
	if m == nil || m.FromClient == nil || m.FromService != nil || m.Max != 64 || !m.Shadow {
		t.Fatalf("%+v", m)
	}
	if err := m.FromClient.ValidateJSON([]byte(`{"seq":1}`)); err == nil {
		t.Error("a message without temp passes")
	}
	if program.Operations[1].Messages() != nil {
		t.Error("messages that nobody described")
	}
	contract.Operations[0].WebSocket.FromService = "#/$defs/Missing"
	if _, err := Link(&fieldgate.Snapshot{Contracts: []*fieldgate.Contract{contract}}, nil); err == nil {
		t.Error("a schema that is not there links")
	}
}
