package fieldgate

import (
	"encoding/json"
	"testing"
)

// RFC 9457 section 3: the members of a problem details object.
func TestProblemJSON(t *testing.T) {
	p := &Problem{Code: ProblemInvalidPayload, Detail: "temp: 900 \"is\" > 125\n", Pointer: "/temp", Clause: "/properties/temp/maximum"}
	var got map[string]any
	if err := json.Unmarshal(p.AppendJSON(nil, "n1-1-1"), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"type": "urn:fieldgate:problem:invalid-payload", "title": "The payload breaks the contract", "status": 422.0,
		"detail": p.Detail, "instance": "n1-1-1", "pointer": "/temp", "clause": "/properties/temp/maximum"}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: got %v, want %v", name, got[name], value)
		}
	}
}
