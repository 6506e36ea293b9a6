package schema_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"fieldgate/control/schema"
	"fieldgate/engine/store"
	"fieldgate/test/postgres"
)

// released are the migrations that some installation has applied: they never change. testdata holds a database of each, written
// by a node of its time.
var released = map[string]string{
	"0001_foundation.sql":    "8e9af27dc5b33062fcabe6c1b9cc10139ae00e87eaa8b3b4dc1aede8aade8fbe",
	"0002_contract_form.sql": "ebe174765add4d027da02ea0d79f803e1c0878e1059d968adfd5704453baad5c",
}

func TestReleasedMigrationsAreUnaltered(t *testing.T) {
	for name, want := range released {
		text, err := fs.ReadFile(schema.Migrations, name)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s is released, but was altered: add a migration instead", name)
		}
	}
}

// until are the migrations up to a number.
func until(t *testing.T, number int) fs.FS {
	t.Helper()
	first := make(fstest.MapFS)
	files, err := fs.Glob(schema.Migrations, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if file[:4] <= fmt.Sprintf("%04d", number) {
			text, err := fs.ReadFile(schema.Migrations, file)
			if err != nil {
				t.Fatal(err)
			}
			first[file] = &fstest.MapFile{Data: text}
		}
	}
	return first
}

// A database of every release is brought to the present schema with all its rows, on both engines; and from there it can be
// copied to the other one, where every value fits.
func TestUpgrade(t *testing.T) {
	ctx := t.Context()
	for number := 1; number <= len(released); number++ {
		old := filepath.Join(t.TempDir(), "old.db")
		content, err := os.ReadFile(fmt.Sprintf("testdata/%04d.db", number))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(old, content, 0o600); err != nil {
			t.Fatal(err)
		}
		server := postgres.Start(t)
		if _, err := store.Copy(ctx, old, server, until(t, number), false, func(string, int64) {}); err != nil {
			t.Fatal(err)
		}
		for _, location := range []string{old, server} {
			s, err := store.Open(ctx, location, schema.Migrations)
			if err != nil {
				t.Fatalf("from %d: %v", number, err)
			}
			s.Close()
			tables, err := store.Tables(ctx, location)
			if err != nil {
				t.Fatal(err)
			}
			for table, rows := range map[string]int64{"principal": 4, "contract": 2, "audit": 9, "ingest_node": 1} {
				i := slices.IndexFunc(tables, func(found store.Table) bool { return found.Name == table })
				if i < 0 || tables[i].Rows != rows {
					t.Errorf("from %d, %s: %s has not %d rows: %v", number, store.Name(location), table, rows, tables)
				}
			}
			to := postgres.Start(t)
			if store.IsPostgres(location) {
				to = filepath.Join(t.TempDir(), "copy.db")
			}
			if copied, err := store.Copy(ctx, location, to, schema.Migrations, false, func(string, int64) {}); err != nil {
				t.Errorf("from %d to %s: %v %v", number, strings.SplitN(to, ":", 2)[0], copied, err)
			}
		}
	}
}
