package contract

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"fieldgate"
)

// What examples/pump.openapi.yaml means, written by hand: its golden file is what the compiler made of it.
func TestPump(t *testing.T) {
	const name = "pump.openapi.yaml"
	contract, _, err := Compile(name, []byte(read(t, "../examples/"+name)))
	if err != nil {
		t.Fatal(err)
	}
	if contract.API != "pump" || contract.Version != "2.0.0" || contract.Kind != fieldgate.KindOpenAPI || contract.State != fieldgate.LifecycleActive {
		t.Errorf("%s %s, %s, %s", contract.API, contract.Version, contract.Kind, contract.State)
	}
	type operation struct {
		Route      string
		Own        []string // parameters that must be the caller's id
		Kinds      []fieldgate.PrincipalKind
		Request    string // schema
		Answers    map[string]string
		Idempotent bool
		Limits     []fieldgate.Limit
		Policies   *fieldgate.Policies
	}
	own, device := []string{"pumpId"}, []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}
	want := map[string]operation{
		"listDrugs": {Route: "GET /drugs/{ward}", Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice, fieldgate.PrincipalApp}, Idempotent: true,
			Answers: map[string]string{"200": `{"type":"array","items":{"$ref":"#/$defs/Drug"}}`},
			Policies: &fieldgate.Policies{
				Answers: fieldgate.AnswersReported,
				Cache:   &fieldgate.Cache{TTL: time.Minute, StaleWhileRevalidate: time.Hour, Shared: true},
				Retry:   &fieldgate.Retry{Attempts: 2, PerTry: time.Second, On: fieldgate.RetryConnect | fieldgate.RetryReset | fieldgate.RetryStatus | fieldgate.RetryTimeout},
				Hedge:   200 * time.Millisecond,
				CORS:    &fieldgate.CORS{Origins: []string{"https://ward.example"}, MaxAge: 10 * time.Minute},
			}},
		// RFC 9110 section 9.2.2: POST is not idempotent; it is the caller's key that lets a command be sent again.
		"giveDose": {Route: "POST /pumps/{pumpId}/doses", Own: own, Kinds: device,
			Request: `{"type":"object","required":["ml"],"properties":{"ml":{"type":"number","exclusiveMinimum":0,"maximum":50}}}`,
			Answers: map[string]string{"201": ""},
			Limits:  []fieldgate.Limit{{Count: 60, Period: time.Minute, Burst: 60, Key: fieldgate.LimitPrincipal}},
			Policies: &fieldgate.Policies{
				Priority:    fieldgate.PriorityCritical,
				Idempotency: &fieldgate.Idempotency{Field: "idempotency-key", TTL: 7 * 24 * time.Hour, Required: true},
			}},
		"readTherapy": {Route: "GET /pumps/{pumpId}/therapy", Own: own, Kinds: device, Idempotent: true, Answers: map[string]string{"200": ""},
			Policies: &fieldgate.Policies{Canaries: []fieldgate.Canary{
				{Upstream: "therapy-next", Percent: 100, Firmware: []string{"2.*"}},
				{Upstream: "therapy-next", Percent: 5},
			}}},
		"readDisplay": {Route: "GET /pumps/{pumpId}/display", Own: own, Kinds: device, Idempotent: true, Answers: map[string]string{"200": ""},
			Policies: &fieldgate.Policies{
				Request:  &fieldgate.Transform{Set: []fieldgate.TransformField{{Name: "x-unit", Value: `"ml/h"`}}},
				Response: &fieldgate.Transform{Remove: []string{"x-batch"}, Body: `{"text": string(body.rate) + " ml/h", "pump": path.pumpId}`},
			}},
		"readTherapyOld": {Route: "GET /pump/{pumpId}/therapy", Own: own, Kinds: device, Idempotent: true, Answers: map[string]string{"308": ""},
			Policies: &fieldgate.Policies{Redirect: &fieldgate.Redirect{To: "/pumps/{pumpId}/therapy", Status: 308}}},
	}

	var schemas struct {
		Defs map[string]json.RawMessage `json:"$defs"`
	}
	if err := json.Unmarshal(contract.Schemas, &schemas); err != nil {
		t.Fatal(err)
	}
	schema := func(media []fieldgate.MediaType) string {
		if len(media) == 0 {
			return ""
		}
		if len(media) > 1 || media[0].Type != "application/json" {
			t.Errorf("%+v", media)
		}
		return string(schemas.Defs[string(media[0].Schema[len("#/$defs/"):])])
	}
	for _, o := range contract.Operations {
		got := operation{Route: o.HTTP.Method.String() + " " + o.HTTP.Path, Kinds: o.Access.Kinds, Answers: make(map[string]string), Idempotent: o.Idempotent,
			Limits: o.Limits, Policies: o.Policies}
		for _, p := range o.Parameters {
			if p.Bound {
				got.Own = append(got.Own, p.Name)
			}
		}
		if o.Request != nil {
			got.Request = schema(o.Request.Media)
		}
		for _, answer := range o.Responses {
			got.Answers[answer.Status] = schema(answer.Media)
		}
		said, _ := json.MarshalIndent(got, "", "  ")
		expected, _ := json.MarshalIndent(want[o.ID], "", "  ")
		if string(said) != string(expected) {
			t.Errorf("%s is compiled to\n%s\nwant\n%s", o.ID, said, expected)
		}
		// What the file says of all: no other protocol, nobody without a token, the service that it names, and the bounds of who names none.
		if o.CoAP != nil || o.MQTT != nil || o.HTTP.Host != "" || o.Access.Anonymous || o.Upstream != "therapy" || o.OnInvalid != fieldgate.InvalidReject || o.MaxBody != 1<<20 || o.Timeout != 0 {
			t.Errorf("%s: %+v", o.ID, o)
		}
		delete(want, o.ID)
	}
	if len(want) != 0 {
		t.Errorf("missing: %v", slices.Collect(maps.Keys(want)))
	}
	var drug any
	if err := json.Unmarshal(schemas.Defs["Drug"], &drug); err != nil {
		t.Fatal(err)
	}
	if text, _ := json.Marshal(drug); string(text) != `{"properties":{"maxRate":{"minimum":0,"type":"number"},"name":{"type":"string"}},"required":["name","maxRate"],"type":"object"}` {
		t.Errorf("a drug is %s", text)
	}
}
