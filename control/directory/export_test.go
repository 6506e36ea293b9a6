package directory

import (
	"testing"

	"fieldgate/engine/store"
)

// Plan is how SQLite carries out a list; nothing on another engine.
func Plan(t *testing.T, db *store.Store, wanted Filter) (steps []string) {
	t.Helper()
	var version string
	isSQLite := db.View(t.Context(), func(tx *store.Tx) error {
		return tx.QueryRowContext(t.Context(), "SELECT sqlite_version()").Scan(&version)
	})
	if isSQLite != nil {
		return nil
	}
	query, values := wanted.sql()
	err := db.View(t.Context(), func(tx *store.Tx) error {
		rows, err := tx.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, values...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				return err
			}
			steps = append(steps, step)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func isSQLite(t *testing.T, db *store.Store) bool {
	var version string
	return db.View(t.Context(), func(tx *store.Tx) error {
		return tx.QueryRowContext(t.Context(), "SELECT sqlite_version()").Scan(&version)
	}) == nil
}

// Analyze does what PostgreSQL does by itself soon after many rows were added.
func Analyze(t *testing.T, db *store.Store) {
	t.Helper()
	if isSQLite(t, db) {
		return
	}
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), "ANALYZE principal, presence")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
