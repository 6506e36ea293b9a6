package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"fieldgate/test/postgres"
)

// library has every type, values at their limits, and references.
var library = fstest.MapFS{"0001_library.sql": {Data: []byte(`
CREATE TABLE shelf (name TEXT PRIMARY KEY, place BLOB NOT NULL, number INTEGER, large BIGINT NOT NULL, remark TEXT);
CREATE TABLE book (id BIGINT PRIMARY KEY, shelf TEXT NOT NULL REFERENCES shelf (name));
CREATE TABLE counter (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
CREATE TABLE empty (id INTEGER PRIMARY KEY);
INSERT INTO counter (name, value) VALUES ('installation', 1);
`)}}

func fillLibrary(t *testing.T, location string, books int) {
	t.Helper()
	ctx := t.Context()
	s := openTest(t, location, library)
	err := s.Update(ctx, func(tx *Tx) error {
		for i, place := range [][]byte{{}, {0}, {0xff, 0xfe}, []byte("text")} {
			_, err := tx.ExecContext(ctx, "INSERT INTO shelf (name, place, number, large, remark) VALUES (?, ?, ?, ?, ?)",
				fmt.Sprint("shelf ", i, " 'ä' 日本"), place, -i, int64(-1)<<63+int64(i), []any{nil, "", "a\nb\tc\\.", "\U0001F4DA"}[i])
			if err != nil {
				return err
			}
		}
		for id := range books {
			if _, err := tx.ExecContext(ctx, "INSERT INTO book (id, shelf) VALUES (?, ?)", id, "shelf 2 'ä' 日本"); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, "UPDATE counter SET value = 77")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func silent(string, int64) {}

func tablesOf(t *testing.T, location string) []Table {
	t.Helper()
	tables, err := Tables(t.Context(), location)
	if err != nil {
		t.Fatal(err)
	}
	tables = slices.DeleteFunc(tables, func(table Table) bool { return table.Name == "migration" }) // applied at different times
	slices.SortFunc(tables, func(a, b Table) int { return strings.Compare(a.Name, b.Name) })
	return tables
}

// There and back again: nothing changes.
func TestCopy(t *testing.T) {
	ctx := t.Context()
	first := filepath.Join(t.TempDir(), "first.db")
	fillLibrary(t, first, 500)
	second, third := postgres.Start(t), filepath.Join(t.TempDir(), "third.db")
	fourth := postgres.Start(t)
	for _, leg := range [][2]string{{first, second}, {second, third}, {second, fourth}} {
		copied, err := Copy(ctx, leg[0], leg[1], library, false, silent)
		if err != nil || len(copied) != 5 {
			t.Fatalf("%v: %v", copied, err)
		}
		for _, table := range copied {
			if table.Source != table.Target {
				t.Errorf("%+v", table)
			}
		}
		if got, want := tablesOf(t, leg[1]), tablesOf(t, first); !slices.Equal(got, want) {
			t.Errorf("got\n%v\nwant\n%v", got, want)
		}
		s := openTest(t, leg[1], library)
		if n := count(t, s, "SELECT value FROM counter"); n != 77 {
			t.Errorf("counter %d", n)
		}
		if n := count(t, s, "SELECT COUNT(*) FROM shelf WHERE remark IS NULL OR number IS NULL"); n != 1 {
			t.Errorf("%d shelves without a remark", n)
		}
		s.Close()
	}

	// What is there already is overwritten only on demand.
	fillMore := openTest(t, second, library)
	if err := fillMore.Update(ctx, func(tx *Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO empty (id) VALUES (1)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := Copy(ctx, first, second, library, true, silent); !errors.Is(err, ErrInUse) {
		t.Errorf("into the database of a node: %v", err)
	}
	fillMore.Close()
	if _, err := Copy(ctx, first, second, library, false, silent); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("onto data: %v", err)
	}
	if n := tablesOf(t, second); slices.Equal(n, tablesOf(t, first)) {
		t.Errorf("it was overwritten")
	}
	if _, err := Copy(ctx, first, second, library, true, silent); err != nil {
		t.Error(err)
	}
	if !slices.Equal(tablesOf(t, second), tablesOf(t, first)) {
		t.Errorf("it was not overwritten")
	}
	if _, err := Copy(ctx, filepath.Join(t.TempDir(), "missing.db"), postgres.Start(t), library, false, silent); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
	more := fstest.MapFS{"0001_library.sql": library["0001_library.sql"], "0002_more.sql": {Data: []byte("CREATE TABLE more (id INTEGER)")}}
	if _, err := Copy(ctx, first, postgres.Start(t), more, false, silent); !errors.Is(err, ErrOutdated) {
		t.Errorf("of an older schema: %v", err)
	}
}

// A server that stores something else than it was given is found out.
func TestCopyFindsDifferences(t *testing.T) {
	path, location := filepath.Join(t.TempDir(), "x.db"), postgres.Start(t)
	fillLibrary(t, path, 10)
	wrong := fstest.MapFS{"0001_library.sql": library["0001_library.sql"], "0001_library.pg.sql": {Data: []byte(postgresSchema(string(library["0001_library.sql"].Data)) + `
		CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.remark := NEW.remark || ' '; RETURN NEW; END $$;
		CREATE TRIGGER spoil BEFORE INSERT ON shelf FOR EACH ROW EXECUTE FUNCTION spoil();`)}}
	copied, err := Copy(t.Context(), path, location, wrong, false, silent)
	if !errors.Is(err, ErrDiffers) {
		t.Fatal(err)
	}
	for _, table := range copied {
		if equal := table.Source == table.Target; equal != (table.Source.Name != "shelf") {
			t.Errorf("%+v", table)
		}
	}
	if _, err := Open(t.Context(), location, library); !errors.Is(err, ErrIncomplete) {
		t.Fatal(err)
	}
}

// TestKilledCopy kills a process in the middle of a copy: no node takes the target for a whole one, and the next copy completes
// it.
func TestKilledCopy(t *testing.T) {
	if from, to := os.Getenv("STORE_COPY_FROM"), os.Getenv("STORE_COPY_TO"); from != "" {
		_, err := Copy(t.Context(), from, to, library, false, func(table string, rows int64) {
			if table == "book" {
				fmt.Println("half done")
				select {}
			}
		})
		t.Fatal(err)
	}
	from := filepath.Join(t.TempDir(), "from.db")
	fillLibrary(t, from, progressRows+10)
	for name, to := range map[string]string{"sqlite": filepath.Join(t.TempDir(), "to.db"), "postgres": postgres.Start(t)} {
		t.Run(name, func(t *testing.T) {
			command := exec.Command(os.Args[0], "-test.run=^TestKilledCopy$")
			command.Env = append(os.Environ(), "STORE_COPY_FROM="+from, "STORE_COPY_TO="+to)
			out, err := command.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			command.Process.Kill()
			command.Wait()
			if _, err := Open(t.Context(), to, library); !errors.Is(err, ErrIncomplete) {
				t.Fatalf("a node opens half a copy: %v", err)
			}
			if _, err := Copy(t.Context(), from, to, library, false, silent); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(tablesOf(t, from), tablesOf(t, to)) {
				t.Fatal("the copy differs")
			}
		})
	}
}

// A copy that is interrupted leaves what was there before.
func TestInterruptedReplacement(t *testing.T) {
	path, location := filepath.Join(t.TempDir(), "x.db"), postgres.Start(t)
	fillLibrary(t, path, progressRows+10)
	fillLibrary(t, location, 3)
	before := tablesOf(t, location)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Copy(ctx, path, location, library, true, func(string, int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	after := slices.DeleteFunc(tablesOf(t, location), func(table Table) bool { return table.Name == copyTable })
	if !slices.Equal(before, after) {
		t.Fatalf("%v %v", before, after)
	}
}

func TestBackup(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "x.db")
	s := openTest(t, path, notes)
	for range 20 {
		if _, err := addPair(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	// A node writes all the time.
	writing, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for writing.Err() == nil {
			if _, err := addPair(writing, s); err != nil && writing.Err() == nil {
				t.Error(err)
			}
		}
	}()
	backup := filepath.Join(t.TempDir(), "a'b.db")
	sum, err := Backup(ctx, path, backup, notes, silent)
	stop()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	if err := Verify(ctx, backup); err != nil {
		t.Fatal(err)
	}
	if _, err := Backup(ctx, path, backup, notes, silent); !errors.Is(err, os.ErrExist) {
		t.Fatalf("a backup was overwritten: %v", err)
	}
	if again, known, err := VerifyChecksum(backup); again != sum || !known || err != nil {
		t.Fatalf("%s, then %s: %v", sum, again, err)
	}
	restored := openTest(t, backup, notes)
	if n := count(t, restored, "SELECT COUNT(*) FROM note"); n < 20 || n != count(t, restored, "SELECT COUNT(*) FROM reply") || n != count(t, restored, "SELECT value FROM counter") {
		t.Fatalf("%d notes", n)
	}
	restored.Close()
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	interrupted := filepath.Join(t.TempDir(), "interrupted.db")
	if _, err := Backup(cancelled, path, interrupted, notes, silent); !errors.Is(err, context.Canceled) {
		t.Fatalf("an interrupted backup: %v", err)
	}
	if left, err := filepath.Glob(interrupted + "*"); len(left) > 0 || err != nil {
		t.Fatalf("an interrupted backup leaves %v", left)
	}
	damage(t, backup)
	if err := Verify(ctx, backup); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("damage is not found: %v", err)
	}
	if _, _, err := VerifyChecksum(backup); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("damage is not found: %v", err)
	}
}

func damage(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(content[4096:8192])
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRestore(t *testing.T) {
	ctx := t.Context()
	folder := t.TempDir()
	path, backup := filepath.Join(folder, "x.db"), filepath.Join(folder, "backup.db")
	fillLibrary(t, path, 3)
	if _, err := Backup(ctx, path, backup, library, silent); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, path, library)
	if err := s.Update(ctx, func(tx *Tx) error { _, err := tx.ExecContext(ctx, "DELETE FROM book"); return err }); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(ctx, backup, path, library); !errors.Is(err, ErrBusy) {
		t.Fatalf("under a running node: %v", err)
	}
	s.Close()
	if _, err := Restore(ctx, backup, path, fstest.MapFS{}); !errors.Is(err, ErrNewer) {
		t.Fatalf("by an older program: %v", err)
	}
	kept, err := Restore(ctx, backup, path, library)
	if err != nil {
		t.Fatal(err)
	}
	for location, books := range map[string]int{path: 3, kept: 0} {
		s := openTest(t, location, library)
		if n := count(t, s, "SELECT COUNT(*) FROM book"); n != books {
			t.Errorf("%s: %d books", location, n)
		}
		// Gateways tell what follows from what they saw before.
		if n := count(t, s, "SELECT value FROM counter WHERE name = 'installation'"); (n == 77) != (location == kept) {
			t.Errorf("%s: installation %d", location, n)
		}
		s.Close()
	}
	if _, err := Restore(ctx, backup, path, library); err == nil || !strings.Contains(err.Error(), keptSuffix) {
		t.Fatalf("the first database was not kept: %v", err)
	}
	// A corrupt database gives way too.
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
	damage(t, path)
	if _, err := Restore(ctx, backup, path, library); err != nil {
		t.Fatal(err)
	}
	if n := count(t, openTest(t, path, library), "SELECT COUNT(*) FROM book"); n != 3 {
		t.Errorf("%d books", n)
	}
	damage(t, backup)
	if _, err := Restore(ctx, backup, filepath.Join(folder, "y.db"), library); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("of a damaged backup: %v", err)
	}
}

func TestPostgresBackup(t *testing.T) {
	ctx := t.Context()
	location, backup := postgres.Start(t), filepath.Join(t.TempDir(), "backup.db")
	fillLibrary(t, location, 3)
	if _, err := Backup(ctx, location, backup, library, silent); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(backup + "*"); len(left) != 2 || err != nil {
		t.Fatalf("there are %v", left)
	}
	if _, _, err := VerifyChecksum(backup); err != nil {
		t.Fatal(err)
	}
	if got, want := tablesOf(t, backup), tablesOf(t, location); !slices.Equal(got, want) {
		t.Fatalf("%v instead of %v", got, want)
	}
	s := openTest(t, location, library)
	if err := s.Update(ctx, func(tx *Tx) error { _, err := tx.ExecContext(ctx, "DELETE FROM book"); return err }); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := RestorePostgres(ctx, backup, location, library, false, silent); !errors.Is(err, ErrNotEmpty) {
		t.Fatalf("data is overwritten without a question: %v", err)
	}
	if err := RestorePostgres(ctx, backup, location, library, true, silent); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, location, library)
	if n := count(t, s, "SELECT COUNT(*) FROM book"); n != 3 {
		t.Errorf("%d books", n)
	}
	if n := count(t, s, "SELECT value FROM counter WHERE name = 'installation'"); n == 77 {
		t.Error("gateways take it for the same installation")
	}
}
