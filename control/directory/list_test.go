package directory_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/control/controltest"
	"fieldgate/control/directory"
	"fieldgate/control/filter"
	"fieldgate/engine/store"
)

func TestMain(m *testing.M) { controltest.Main(m) }

const fleet = 100_000

// fill makes a fleet of which every device was seen, the later the higher its number.
func fill(t *testing.T, db *store.Store) {
	t.Helper()
	ctx := t.Context()
	numbers := "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " + fmt.Sprint(fleet) + ")"
	for _, statement := range []string{
		numbers + ` INSERT INTO principal (kind, id, sequence, state, name, model, firmware, scopes, credentials, created, updated)
			SELECT 'device', 'd' || (1000000 + i), i, CASE WHEN i % 1000 = 0 THEN 1 ELSE 0 END, '', 'T' || (i % 5), '1.' || (i % 7), '', ?, 0, 2000000 - i FROM n`, // changed in another order than seen
		numbers + ` INSERT INTO presence (kind, id, last_seen, protocol, source, node, day, exchanges, refusals, refusal, refused_at)
			SELECT 'device', 'd' || (1000000 + i), 1000 + i, i % 5, '', 'n1', CAST(? AS BIGINT), 0, 0, '', 0 FROM n`,
	} {
		var value any = []byte{}
		if strings.Contains(statement, "presence") {
			value = 0
		}
		err := db.Update(ctx, func(tx *store.Tx) error {
			_, err := tx.ExecContext(ctx, statement, value)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The first page and one from the middle are right and quick, whatever they are filtered by.
func TestListsOfAFleet(t *testing.T) {
	db := controltest.Store(t, t.TempDir())
	fill(t, db)
	directory.Analyze(t, db)
	for _, test := range []struct {
		filter string
		seen   bool
		first  string
	}{
		{"", false, "d1000001"},
		{"state:quarantined", false, "d1001000"},
		{"state:active,quarantined", false, "d1000001"},
		{"model:T3", false, "d1000003"},
		{"firmware:1.6", false, "d1000006"},
		{"id:d1099999", false, "d1099999"},
		{"d10500", false, "d1050000"},
		{"id:d10500* model:T1", false, "d1050001"},
		{"protocol:mqtt", false, "d1000003"},
		{"-state:active", false, "d1001000"},
		{"since:1970-01-01T00:01:40Z", false, "d1099000"},
		{"", true, "d1100000"},
		{"protocol:coap", true, "d1099999"},
		{"model:T1", true, "d1099996"},
		{"state:quarantined", true, "d1100000"},
		{"d10500", true, "d1050099"},
		{"d1050 model:T1", true, "d1050996"},
	} {
		terms, err := filter.Parse(test.filter, time.Now(), directory.DeviceKeys...)
		if err != nil {
			t.Fatal(err)
		}
		wanted := directory.Filter{Kind: fieldgate.PrincipalDevice, Terms: terms, LastSeen: test.seen, Limit: 100}
		page, err := directory.List(t.Context(), db, wanted)
		if err != nil || len(page) == 0 || page[0].ID != test.first {
			t.Fatalf("%q by last seen %v: %d entries, %v", test.filter, test.seen, len(page), err)
		}
		last := page[len(page)-1]
		wanted.After = directory.Place{ID: last.ID, Seen: last.Seen}
		next, err := directory.List(t.Context(), db, wanted)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range next {
			if !test.seen && entry.ID <= last.ID || test.seen && entry.ID >= last.ID {
				t.Fatalf("%q by last seen %v: %s follows %s", test.filter, test.seen, entry.ID, last.ID)
			}
		}
		for _, step := range directory.Plan(t, db, wanted) {
			// What merges a hundred of each protocol may sort them; nothing else is sorted or read from end to end.
			if strings.HasPrefix(step, "SCAN principal") || strings.HasPrefix(step, "SCAN seen") || strings.Contains(step, "TEMP B-TREE") && !test.seen {
				t.Errorf("%q by last seen %v: %s", test.filter, test.seen, step)
			}
		}
	}
}
