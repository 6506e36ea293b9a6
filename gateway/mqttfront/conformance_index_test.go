package mqttfront

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The numbered statements of both standards: in each section from the first to the last number.
const (
	numbers311 = `1.5.3-1..3 2.2.2-1..2 2.3.1-1..7 3.1.0-1..2 3.1.2-1..24 3.1.3-1..11 3.1.4-1..5 3.2.0-1..1 3.2.2-1..6
		3.3.1-1..12 3.3.2-1..3 3.3.4-1..1 3.3.5-1..2 3.6.1-1..1 3.8.1-1..1 3.8.3-1..4 3.8.4-1..6 3.9.3-1..2 3.10.1-1..1
		3.10.3-1..2 3.10.4-1..6 3.12.4-1..1 3.14.1-1..1 3.14.4-1..3 4.1.0-1..2 4.3.1-1..1 4.3.2-1..2 4.3.3-1..2 4.4.0-1..1
		4.5.0-1..2 4.6.0-1..6 4.7.1-1..3 4.7.2-1..1 4.7.3-1..4 4.8.0-1..2 6.0.0-1..4 7.0.0-1..2 7.1.1-1..1 7.1.2-1..1`
	numbers5 = `1.5.4-1..3 1.5.5-1..1 1.5.7-1..1 2.1.3-1..1 2.2.1-2..6 2.2.2-1..1 3.1.0-1..2 3.1.2-1..30 3.1.3-1..12 3.1.4-1..6
		3.2.0-1..2 3.2.2-1..22 3.3.1-1..13 3.3.2-1..20 3.3.4-1..10 3.4.2-1..3 3.5.2-1..3 3.6.1-1..1 3.6.2-1..3 3.7.2-1..3
		3.8.1-1..1 3.8.3-1..5 3.8.4-1..8 3.9.2-1..2 3.9.3-1..2 3.10.1-1..1 3.10.3-1..2 3.10.4-1..6 3.11.2-1..2 3.11.3-1..2
		3.12.4-1..1 3.14.0-1..1 3.14.1-1..1 3.14.2-1..4 3.14.4-1..3 3.15.1-1..1 3.15.2-1..3 4.1.0-1..2 4.2-1..1 4.3.1-1..1
		4.3.2-1..5 4.3.3-1..13 4.4.0-1..2 4.5.0-1..2 4.6.0-1..6 4.7.0-1..1 4.7.1-1..2 4.7.2-1..1 4.7.3-1..4 4.8.2-1..6
		4.9.0-1..3 4.12.0-1..7 4.12.1-1..2 4.13.1-1..1 4.13.2-1..1 6.0.0-1..4`
)

func numbers(t *testing.T, ranges string) (all []string) {
	for _, r := range strings.Fields(ranges) {
		section, _, _ := strings.Cut(r, "-")
		var first, last int
		if _, err := fmt.Sscanf(r[len(section):], "-%d..%d", &first, &last); err != nil {
			t.Fatal(err)
		}
		for n := first; n <= last; n++ {
			all = append(all, fmt.Sprintf("%s-%d", section, n))
		}
	}
	return all
}

// Every statement stands in the table once.
func TestConformanceTableIsComplete(t *testing.T) {
	for name, version := range map[string]struct {
		ranges string
		of     func(*statement) string
	}{
		"3.1.1": {numbers311, func(s *statement) string { return s.v311 }},
		"5.0":   {numbers5, func(s *statement) string { return s.v5 }},
	} {
		var have []string
		for i := range statements {
			have = append(have, strings.Fields(version.of(&statements[i]))...)
		}
		want := numbers(t, version.ranges)
		slices.Sort(have)
		slices.Sort(want)
		if !slices.Equal(have, want) {
			for _, n := range want {
				if !slices.Contains(have, n) {
					t.Errorf("%s: [MQTT-%s] is missing", name, n)
				}
			}
			for i, n := range have {
				if !slices.Contains(want, n) || i > 0 && have[i-1] == n {
					t.Errorf("%s: [MQTT-%s] is twice or none of the standard's", name, n)
				}
			}
		}
	}
}

// Every test that the table names exists, and what holds or was chosen is shown by one.
func TestConformanceTestsExist(t *testing.T) {
	exists := map[string]bool{}
	for _, folder := range []string{".", "../httpfront", "../mqttexchange", "../mqttsocket", "../../protocol/mqtt"} {
		files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, declaration := range parsed.Decls {
				if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil {
					exists[function.Name.Name] = true
				}
			}
		}
	}
	for _, s := range statements {
		if s.tests == "" && s.verdict != forClients || (s.reason == "") != (s.verdict != choice) {
			t.Errorf("%q lacks a test or a reason", s.demand)
		}
		for _, name := range strings.Fields(s.tests) {
			if !exists[name] {
				t.Errorf("%q is to be shown by %s, which does not exist", s.demand, name)
			}
		}
	}
}

var update = flag.Bool("update", false, "write docs/mqtt-conformance.md")

// docs/mqtt-conformance.md is the table.
func TestConformancePage(t *testing.T) {
	var page strings.Builder
	page.WriteString(`# MQTT, statement by statement

The standards number what they demand. Each number stands here with what it demands in our words, whether Fieldgate meets it, and the tests that
show it: raw packets on a socket (` + "`TestConformance…` in `gateway/mqttfront`" + `), or bytes through the protocol's state machine (` + "`protocol/mqtt`" + `).
This page is written from the table in ` + "`gateway/mqttfront/conformance_table_test.go`" + `; a test holds that it is current.

*holds*: it is so. *for clients*: it binds clients; tests show what becomes of one that does otherwise. *choice*: the standard leaves it open, and the
reason says what we do.

| 3.1.1 | 5.0 | demand | verdict | shown by |
|---|---|---|---|---|
`)
	for _, s := range statements {
		verdict := string(s.verdict)
		if s.reason != "" {
			verdict += ": " + s.reason
		}
		tests := ""
		if s.tests != "" {
			tests = "`" + strings.Join(strings.Fields(s.tests), "` `") + "`"
		}
		fmt.Fprintf(&page, "| %s | %s | %s | %s | %s |\n", s.v311, s.v5, s.demand, verdict, tests)
	}
	const path = "../../docs/mqtt-conformance.md"
	if *update {
		if err := os.WriteFile(path, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != page.String() {
		t.Errorf("%s is not what the table says: go test ./gateway/mqttfront -run TestConformancePage -update", path)
	}
}
