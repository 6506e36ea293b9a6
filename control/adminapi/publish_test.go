package adminapi

import (
	"fmt"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/catalog"
	"fieldgate/control/rollout"
)

// A plan warns of each upstream that no gateway which is heard has, and of none while nobody knows.
func TestPlanNamesUnknownUpstreams(t *testing.T) {
	now := time.Now()
	gateway := func(seen time.Time, upstreams []fieldgate.UpstreamState) rollout.Gateway {
		return rollout.Gateway{GatewayState: fieldgate.GatewayState{Upstreams: upstreams}, Seen: seen}
	}
	ingest, none := []fieldgate.UpstreamState{{Name: "ingest"}}, []fieldgate.UpstreamState{}
	naming := func(names ...string) (operations []fieldgate.Operation) {
		for _, name := range names {
			operations = append(operations, fieldgate.Operation{Upstream: name})
		}
		return operations
	}
	missing := []string{`no gateway has the upstream "missing"`}
	for name, test := range map[string]struct {
		gateways   []rollout.Gateway
		operations []fieldgate.Operation
		state      fieldgate.Lifecycle
		want       []string
	}{
		"no gateway was heard":        {nil, naming("missing"), fieldgate.LifecycleActive, nil},
		"a gateway has not told yet":  {[]rollout.Gateway{gateway(now, nil)}, naming("missing"), fieldgate.LifecycleActive, nil},
		"a gateway is not heard now":  {[]rollout.Gateway{gateway(now.Add(-time.Hour), ingest)}, naming("missing"), fieldgate.LifecycleActive, nil},
		"a gateway has none":          {[]rollout.Gateway{gateway(now, none)}, naming("missing"), fieldgate.LifecycleActive, missing},
		"two operations name it":      {[]rollout.Gateway{gateway(now, ingest)}, naming("missing", "", "ingest", "missing"), fieldgate.LifecycleActive, missing},
		"one of two gateways has it":  {[]rollout.Gateway{gateway(now, none), gateway(now, ingest)}, naming("ingest"), fieldgate.LifecycleActive, nil},
		"a deprecated version serves": {[]rollout.Gateway{gateway(now, ingest)}, naming("missing"), fieldgate.LifecycleDeprecated, missing},
		"a retired version does not":  {[]rollout.Gateway{gateway(now, ingest)}, naming("missing"), fieldgate.LifecycleRetired, nil},
		"a mock needs no upstream":    {[]rollout.Gateway{gateway(now, ingest)}, naming(""), fieldgate.LifecycleActive, nil},
		"seven are too many for a row": {[]rollout.Gateway{gateway(now, none)}, naming("a", "b", "c", "d", "e", "f", "g"), fieldgate.LifecycleActive,
			[]string{`no gateway has the upstream "a"`, `no gateway has the upstream "b"`, `no gateway has the upstream "c"`, `no gateway has the upstream "d"`, `no gateway has the upstream "e"`,
				"no gateway has 2 more upstreams that are named here"}},
	} {
		plan := &catalog.Plan{Contract: &fieldgate.Contract{State: test.state, Operations: test.operations}}
		var got []string
		for _, f := range planAnswer(plan, "thermo.yaml", upstreamNames(test.gateways, now)).Findings {
			got = append(got, f.Message)
			if f.File != "thermo.yaml" || f.Severity != api.ContractFindingSeverityWarning || f.Remedy == "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
