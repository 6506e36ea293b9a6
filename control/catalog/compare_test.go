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
	publish(t, c, versioned("1.0.0", "when: {headers: {API-Version: '1'}}, policies: [{retry: {attempts: 1}}, {timeout: 1s}, {rate: 6/min}]", ""))
	plan := publish(t, c, versioned("1.0.0", "when: {headers: {API-Version: '2'}, media-type: a/b}, check-answers: enforce, priority: critical, policies: [{timeout: 2s}, {cache: {ttl: 5s}}, {rate: 7/min}]", ""))
	want := []string{
		`cache is new: {"ttl":5000000000}`,
		"check-answers is new: enforce",
		"priority is new: critical",
		"rate is 7 in 1m0s by principal, burst 7, was 6 in 1m0s by principal, burst 6",
		"retry is no more",
		"timeout is 2s, was 1s",
		"when is media type a/b, api-version: 2, was api-version: 1",
	}
	for _, o := range plan.Operations {
		slices.Sort(o.Rules)
		if o.Change != "changed" || !slices.Equal(o.Rules, want) {
			t.Errorf("%s:\n%s\nwant\n%s", o.Change, strings.Join(o.Rules, "\n"), strings.Join(want, "\n"))
		}
	}
	if rules := changedRules(&fieldgate.Operation{}, &fieldgate.Operation{Summary: "x"}); rules != nil {
		t.Errorf("%v", rules)
	}
}
