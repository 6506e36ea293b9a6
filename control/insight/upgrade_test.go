package insight

import (
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fieldgate/control/controltest"
	"fieldgate/control/schema"
	"fieldgate/engine/store"
)

// TestRollupsOfTheFirstRelease: what was counted before rollups were packed stays in series, and its findings stay.
func TestRollupsOfTheFirstRelease(t *testing.T) {
	released := fstest.MapFS{}
	for _, name := range []string{"0001_foundation.sql", "0002_contract_form.sql"} {
		script, err := fs.ReadFile(schema.Migrations, name)
		if err != nil {
			t.Fatal(err)
		}
		released[name] = &fstest.MapFile{Data: script}
	}
	location := controltest.Location(t, t.TempDir())
	before, err := store.Open(t.Context(), location, released)
	if err != nil {
		t.Fatal(err)
	}
	n := node{db: before}
	now := time.Now().Unix()
	for class, exchanges := range map[int]int{2: 70, 4: 20, 5: 10} {
		for _, firmware := range []string{"1.0", "1.1"} {
			n.exec(t, `INSERT INTO rollup (span, start, api, version, operation, class, protocol, firmware, exchanges, bytes_in, bytes_out, latency)
				VALUES (3600, ?, 'thermo', '1.0.0', 'a', ?, 3, ?, ?, 1, 1, ?)`, now-now%hour, class, firmware, exchanges, []byte{1})
		}
	}
	n.exec(t, "INSERT INTO rollup_finding (start, api, version, operation, finding, exchanges, example) VALUES (?, 'thermo', '1.0.0', 'a', 'upstream', 5, '/x')",
		now-now%hour-hour)
	n.exec(t, "INSERT INTO ingest_stream (name, created, sequence) VALUES ('RECORDS', 7, 9)")
	n.exec(t, "INSERT INTO ingest_node (node, epoch, next, lost, seen) VALUES ('g1', '3', 101, 4, 0)")
	before.Close()

	after, err := store.Open(t.Context(), location, schema.Migrations)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { after.Close() })
	n = node{Insight: New(after, nil, prometheus.NewRegistry(), controltest.Log(t)), db: after}
	n.pace = quick
	for span, points := range map[Span]int{Hour: 2, Day: 2} {
		for _, api := range []string{"", "thermo"} {
			series, err := n.Series(t.Context(), SeriesFilter{API: api}, span, points)
			if err != nil || len(series.Protocols) != 1 {
				t.Fatalf("%+v %v", series, err)
			}
			p := series.Protocols[0]
			if p.Passed[0]+p.Passed[1] != 140 || p.Refused[0]+p.Refused[1] != 40 || p.Failed[0]+p.Failed[1] != 20 {
				t.Errorf("%q by %d: %+v", api, span, p)
			}
		}
	}
	findings, err := n.Findings(t.Context(), nil, nil, 10)
	if err != nil || len(findings) != 1 || findings[0].Ongoing || findings[0].Severity != Notice || findings[0].Detail != "/x" {
		t.Errorf("%+v %v", findings, err)
	}
	c := n.begin(t)
	if p := c.nodes[nodeKey{"g1", 3}]; c.progress.sequence != 9 || p.next != 101 || p.absent() != 4 {
		t.Errorf("%+v %+v", c.progress, p)
	}
}
