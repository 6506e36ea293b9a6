package adminapi

import (
	"testing"

	"fieldgate/api"
	"fieldgate/control/catalog"
	"fieldgate/control/insight"
)

func TestStateOfFindings(t *testing.T) {
	served := servedNow{{"thermo", "2.4.0"}: {}}
	for name, test := range map[string]struct {
		finding  insight.Finding
		state    api.FindingState
		severity api.Severity
	}{
		"goes on":                  {insight.Finding{API: "thermo", Version: "2.4.0", Finding: "upstream", Severity: insight.Bad, Ongoing: true}, api.FindingOngoing, api.SeverityBad},
		"over":                     {insight.Finding{API: "thermo", Version: "2.4.0", Finding: "upstream", Severity: insight.Notice}, api.FindingOver, api.SeverityNotice},
		"of a retired version":     {insight.Finding{API: "thermo", Version: "1.0.0", Finding: "upstream", Severity: insight.Bad, Ongoing: true}, api.FindingNotServed, api.SeverityNotice},
		"calls a retired version":  {insight.Finding{API: "thermo", Version: "1.0.0", Finding: "retired", Severity: insight.Warning, Ongoing: true}, api.FindingOngoing, api.SeverityWarning},
		"of no contract":           {insight.Finding{Finding: "unmatched", Severity: insight.Warning, Ongoing: true}, api.FindingOngoing, api.SeverityWarning},
		"of the admin API, always": {insight.Finding{API: catalog.OwnName, Version: "0.1.0", Finding: "unauthenticated", Severity: insight.Warning, Ongoing: true}, api.FindingOngoing, api.SeverityWarning},
	} {
		if state, severity := served.stateOf(&test.finding); state != test.state || severity != test.severity {
			t.Errorf("%s: %s %s", name, state, severity)
		}
	}
}

func TestDecisionText(t *testing.T) {
	for action, want := range map[string]string{
		"target.register": "ana registered an address of the upstream therapy", "target.expire": "ana gave up an address of the upstream therapy, whose registration was not renewed",
		"api.frobnicate": "ana: api frobnicate therapy",
	} {
		if got := decisionText("ana", action, "therapy", 1); got != want {
			t.Errorf("%s: %q", action, got)
		}
	}
}
