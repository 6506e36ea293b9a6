package coapfront

import (
	"testing"
	"time"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// pump is a version of an API with one operation.
func pump(version, path string, state fieldgate.Lifecycle, change func(*fieldgate.Contract)) *fieldgate.Contract {
	c := &fieldgate.Contract{API: "pump", Version: version, Kind: fieldgate.KindOpenAPI, State: state, Operations: []fieldgate.Operation{
		{ID: "rate", Access: fieldgate.Access{Anonymous: true, Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}}, MaxBody: 1, Upstream: "service", Timeout: time.Minute,
			Parameters: []fieldgate.Parameter{{Name: "id", In: fieldgate.InPath, Required: true}},
			HTTP:       &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: path}, CoAP: &fieldgate.CoAPBinding{Method: fieldgate.MethodGet, Path: path}}}}
	change(c)
	return c
}

func TestDeprecationOption(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*fieldgate.Contract)
		want   string // as JSON; empty: no option
	}{
		{"all is known", func(c *fieldgate.Contract) {
			c.DeprecationOption, c.Deprecated, c.Sunset, c.Successor = true, "2026-11-01", "2027-05-01", "2"
		}, `[1793491200,1809129600,"/v2/pumps/p%C3%BCmp"]`},
		{"nothing is known", func(c *fieldgate.Contract) { c.DeprecationOption, c.Successor = true, "3" }, `[null,null,null]`},
		{"the contract does not want it", func(c *fieldgate.Contract) { c.Sunset = "2027-05-01" }, ""},
		{"it is not deprecated", func(c *fieldgate.Contract) { c.DeprecationOption, c.State = true, fieldgate.LifecycleActive }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGateway(t)
			program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{
				pump("1", "/v1/pumps/{id}", fieldgate.LifecycleDeprecated, test.change),
				pump("2", "/v2/pumps/{id}", fieldgate.LifecycleActive, func(*fieldgate.Contract) {})}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			g.pipeline.Install(program)
			told := func(path string, add ...func(*coap.Options)) string {
				t.Helper()
				r := g.do(call(coap.GET, path, nil, add...))
				if r.Code != coap.Content {
					t.Fatalf("%v", r.Code)
				}
				value, ok := r.Option(OptionDeprecation)
				if !ok {
					return ""
				}
				text, err := schema.JSONFromCBOR(nil, value, nil)
				if err != nil {
					t.Fatalf("the option is no CBOR: %x: %v", value, err)
				}
				return string(text)
			}
			if got := told("/v1/pumps/pümp"); got != "" {
				t.Errorf("whoever is not known was told %s", got)
			}
			if got := told("/v1/pumps/pümp", token(g.token)); got != test.want {
				t.Errorf("told %s, want %s", got, test.want)
			}
			if got := told("/v1/pumps/pümp", token(g.token)); got != "" {
				t.Errorf("told again: %s", got)
			}
			if got := told("/v2/pumps/pümp", token(g.token)); got != "" {
				t.Errorf("of the version that follows: %s", got)
			}
		})
	}
}

func TestToldOnceADay(t *testing.T) {
	x := &pipeline.Exchange{Principal: fieldgate.Principal{Kind: fieldgate.PrincipalDevice, ID: "d7"},
		Operation: &pipeline.Operation{Contract: &fieldgate.Contract{API: "pump", Version: "1"}}}
	var t1 told
	now := time.Unix(1_800_000_000, 0)
	for _, step := range []struct {
		after time.Duration
		due   bool
	}{{0, true}, {0, false}, {23 * time.Hour, false}, {24 * time.Hour, true}, {25 * time.Hour, false}, {72 * time.Hour, true}} {
		if got := t1.due(x, now.Add(step.after)); got != step.due {
			t.Errorf("after %v: %v, want %v", step.after, got, step.due)
		}
	}
}
