// Package controltest opens real engines for the tests of the control plane.
package controltest

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"fieldgate/control/schema"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
	"fieldgate/test/postgres"
)

// engineVariable names the one engine to run on, for the impatient.
const engineVariable = "FIELDGATE_TEST_STORE"

const (
	sqlite     = "sqlite"
	postgreSQL = "postgres"
)

var (
	engine    = sqlite
	databases sync.Map // data directory → URL of its PostgreSQL database
)

// Main runs the tests of a package on every engine, one after the other:
//
//	func TestMain(m *testing.M) { controltest.Main(m) }
func Main(m *testing.M) {
	flag.Parse()
	engines := []string{sqlite, postgreSQL}
	if one := os.Getenv(engineVariable); one != "" {
		engines = []string{one}
	} else if fuzzing := flag.Lookup("test.fuzz"); fuzzing.Value.String() != "" {
		engines = engines[:1]
	}
	code := 0
	for _, engine = range engines {
		fmt.Println("on", engine)
		code = max(code, m.Run())
	}
	os.Exit(code)
}

// Store opens the database of a data directory and closes it when the test ends.
func Store(t testing.TB, directory string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), Location(t, directory), schema.Migrations)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Location is that of the database of a data directory, on the engine that the tests run on.
func Location(t testing.TB, directory string) string {
	t.Helper()
	switch engine {
	case sqlite:
		return filepath.Join(directory, "fieldgate.db")
	case postgreSQL:
		if known, ok := databases.Load(directory); ok {
			return known.(string)
		}
		location := postgres.Start(t)
		databases.Store(directory, location)
		return location
	}
	t.Fatalf("%s=%s: the engines are %s and %s", engineVariable, engine, sqlite, postgreSQL)
	return ""
}

// FillDisk leaves a store no space for another contract.
func FillDisk(t testing.TB, s *store.Store) {
	t.Helper()
	statement := `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
		CREATE TRIGGER full_disk BEFORE INSERT ON contract FOR EACH ROW EXECUTE FUNCTION refuse()`
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		if engine == sqlite {
			var pages int
			if err := tx.QueryRowContext(t.Context(), "PRAGMA page_count").Scan(&pages); err != nil {
				return err
			}
			statement = fmt.Sprintf("PRAGMA max_page_count(%d)", pages)
		}
		_, err := tx.ExecContext(t.Context(), statement)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Bus opens the bus of a data directory and closes it when the test ends.
func Bus(t testing.TB, directory string) *bus.Bus {
	t.Helper()
	b, err := bus.Open(bus.Config{Directory: filepath.Join(directory, "bus"), Log: Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// Log writes to the output of the test.
func Log(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
