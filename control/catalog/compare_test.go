package catalog

import (
	"slices"
	"strings"
	"testing"

	"fieldgate"
	"fieldgate/control/controltest"
)

// versioned is version 1.0.0 or later of an API whose one operation is meant by requests that say so.
func versioned(version, when, more string) []byte {
	return []byte("openapi: 3.1.0\ninfo: {title: Thermo, version: " + version + "}\nsecurity: [{token: []}]\n" +
		"x-fieldgate: {upstreams: {main: {ref: env/main}}, upstream: main" + more + "}\n" +
		"paths:\n  /a:\n    get: {operationId: read, x-fieldgate: {" + when + "}, responses: {'204': {description: done}}}\n" +
		"components: {securitySchemes: {token: {type: http, scheme: bearer}}}\n")
}

// Versions that requests tell apart are served side by side; one that says the same takes the place of the other.
func TestVersionsSideBySide(t *testing.T) {
	c, b := open(t, t.TempDir())
	first := publish(t, c, versioned("1.0.0", "", ""))
	second := publish(t, c, versioned("2.0.0", "when: {headers: {API-Version: '2'}}", ""))
	if first.Change != ChangeNewAPI || second.Change != ChangeNewVersion || len(second.Supersedes) != 0 {
		t.Errorf("%+v", second)
	}
	expect(t, b, "thermo 1.0.0:active thermo 2.0.0:active")

	// The successor says so of the version before it, which serves on.
	third := publish(t, c, versioned("3.0.0", "when: {media-type: application/vnd.thermo.v3+json}", ", lifecycle: {replaces: 1.0.0, sunset-of-replaced: 2027-06-30}"))
	if len(third.Supersedes) != 0 {
		t.Errorf("%+v", third)
	}
	expect(t, b, "thermo 1.0.0:deprecated thermo 2.0.0:active thermo 3.0.0:active")

	if plan := publish(t, c, versioned("2.1.0", "when: {headers: {api-version: '2'}}", "")); !slices.Equal(plan.Supersedes, []string{"2.0.0"}) {
		t.Errorf("%+v", plan)
	}
	expect(t, b, "thermo 1.0.0:deprecated thermo 2.1.0:active thermo 3.0.0:active")

	// A correction that names another value lets the superseded version be restored beside it.
	publish(t, c, versioned("2.1.0", "when: {headers: {api-version: '2.1'}}", ""))
	if _, err := c.Restore(controltest.Context(t), "thermo", "2.0.0", 0); err != nil {
		t.Fatal(err)
	}
	expect(t, b, "thermo 1.0.0:deprecated thermo 2.0.0:active thermo 2.1.0:active thermo 3.0.0:active")
}

func TestChangedRules(t *testing.T) {
	c, _ := open(t, t.TempDir())
	long := strings.Repeat("x", 100)
	publish(t, c, versioned("1.0.0", "when: {headers: {API-Version: '1'}}, policies: [{retry: {attempts: 1}}, {timeout: 1s}, {rate: 6/min}, {cors: {origins: ['https://a.example']}},"+
		" {request: {set: {X-Long: '\"1"+long+"1\"'}}}]", ""))
	plan := publish(t, c, versioned("1.0.0", "when: {headers: {API-Version: '2'}, media-type: a/b}, check-answers: enforce, priority: critical,"+
		" policies: [{timeout: 2s}, {cache: {ttl: 5s}}, {rate: 7/min, burst: 9}, {rate: 100/h, key: operation}, {cors: {origins: ['https://a.example']}},"+
		" {request: {set: {X-Long: '\"1"+long+"2\"'}}}]", ""))
	want := []string{
		"when: only requests with media type a/b and header Api-Version: 2 are meant (was: only requests with header Api-Version: 1 are meant)",
		"rate: at most 7 calls a minute by caller, bursts of 9; at most 100 calls an hour by all callers together (was: at most 6 calls a minute by caller)",
		"timeout: a call takes at most 2 s (was: a call takes at most 1 s)",
		"priority is new: refused last when its service is overloaded (critical)",
		"check-answers is new: answers that break the contract do not reach the caller",
		"cache is new: answers are kept 5 s, unless their service says otherwise, one for each caller",
		"request is changed: requests reach the service with X-Long = \"1" + long[:78] + "…",
		"retry is no more (was: tried again once when no connection came about or it ended before an answer)",
	}
	for _, o := range plan.Operations {
		if o.Change != "changed" || !slices.Equal(o.Rules, want) {
			t.Errorf("%s:\n%s\nwant\n%s", o.Change, strings.Join(o.Rules, "\n"), strings.Join(want, "\n"))
		}
	}
	if rules := changedRules(&fieldgate.Operation{Upstream: "a"}, &fieldgate.Operation{Summary: "x", Upstream: "b"}); !slices.Equal(rules, []string{"upstream: calls go to b (was: calls go to a)"}) {
		t.Errorf("%v", rules)
	}
	if rules := changedRules(&fieldgate.Operation{}, &fieldgate.Operation{Summary: "x"}); rules != nil {
		t.Errorf("%v", rules)
	}
}
