package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/fstest"
)

var notes = fstest.MapFS{"0001_notes.sql": {Data: []byte(`
CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE reply (note INTEGER NOT NULL REFERENCES note (id), text TEXT NOT NULL);
CREATE TABLE counter (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO counter (name, value) VALUES ('note', 0);
`)}}

func openTest(t *testing.T, path string, migrations fs.FS) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, migrations)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func addNote(ctx context.Context, s *Store, text string) (id uint64, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		if id, err = tx.Next(ctx, "note"); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO note (id, text) VALUES (?, ?)", id, text)
		return err
	})
	return id, err
}

func count(t *testing.T, s *Store, query string) (n int) {
	t.Helper()
	err := s.View(t.Context(), func(tx *Tx) error { return tx.QueryRowContext(t.Context(), query).Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUpdateCommitsOrRollsBack(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "a b?c%d.db") // a path is not part of a URL
	s := openTest(t, path, notes)
	if _, err := addNote(ctx, s, "kept"); err != nil {
		t.Fatal(err)
	}
	wrong := errors.New("wrong")
	err := s.Update(ctx, func(tx *Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO note (id, text) VALUES (99, 'undone')"); err != nil {
			return err
		}
		return wrong
	})
	if !errors.Is(err, wrong) {
		t.Fatalf("got %v", err)
	}
	if n := count(t, s, "SELECT COUNT(*) FROM note"); n != 1 {
		t.Fatalf("%d notes", n)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
}

func TestViewCannotWrite(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "x.db"), notes)
	err := s.View(t.Context(), func(tx *Tx) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO note (id, text) VALUES (1, 'x')")
		return err
	})
	if err == nil {
		t.Fatal("a view wrote")
	}
}

func TestForeignKeysHold(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "x.db"), notes)
	err := s.Update(t.Context(), func(tx *Tx) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO reply (note, text) VALUES (7, 'to nothing')")
		return err
	})
	if err == nil {
		t.Fatal("a reply to nothing is accepted")
	}
}

func TestMigrations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := openTest(t, path, notes)
	if _, err := addNote(t.Context(), s, "old"); err != nil {
		t.Fatal(err)
	}
	s.Close()

	broken := fstest.MapFS{"0001_notes.sql": notes["0001_notes.sql"],
		"0002_stars.sql": {Data: []byte("ALTER TABLE note ADD COLUMN stars INTEGER NOT NULL DEFAULT 3; INSERT INTO nowhere VALUES (1);")}}
	if _, err := Open(t.Context(), path, broken); err == nil {
		t.Fatal("a broken migration is accepted")
	}
	good := fstest.MapFS{"0001_notes.sql": notes["0001_notes.sql"],
		"0002_stars.sql": {Data: []byte("ALTER TABLE note ADD COLUMN stars INTEGER NOT NULL DEFAULT 3;")}}
	for range 2 { // the second time nothing is left to do
		s = openTest(t, path, good)
		if n := count(t, s, "SELECT stars FROM note"); n != 3 {
			t.Fatalf("%d stars", n)
		}
		s.Close()
	}
	if _, err := Open(t.Context(), path, notes); !errors.Is(err, ErrNewer) {
		t.Fatalf("an older program opens a newer database: %v", err)
	}
	gap := fstest.MapFS{"0001_notes.sql": notes["0001_notes.sql"], "0003_stars.sql": {Data: []byte("SELECT 1")}}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "y.db"), gap); err == nil {
		t.Fatal("a gap in the numbers is accepted")
	}
}

func TestCorruptFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := openTest(t, path, notes)
	for i := range 500 {
		if _, err := addNote(t.Context(), s, fmt.Sprintf("%0200d", i)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"not a database": func(b []byte) []byte { copy(b, "this is something else"); return b },
		"pages lost":     func(b []byte) []byte { clear(b[8192:40960]); return b },
		"cut":            func(b []byte) []byte { return b[:len(b)/2] },
	} {
		damaged := filepath.Join(t.TempDir(), "x.db")
		if err := os.WriteFile(damaged, damage(append([]byte(nil), sound...)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), damaged, notes); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFullDisk(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := open(ctx, path, notes, 40)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stored := 0
	for ; ; stored++ {
		if _, err = addNote(ctx, s, fmt.Sprintf("%02000d", stored)); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("after %d: %v", stored, err)
	}
	if n := count(t, s, "SELECT COUNT(*) FROM note"); n != stored {
		t.Fatalf("%d stored, %d there", stored, n)
	}
	// Room again: it goes on.
	if _, err := s.write.ExecContext(ctx, "PRAGMA max_page_count(1000)"); err != nil {
		t.Fatal(err)
	}
	if _, err := addNote(ctx, s, "more"); err != nil {
		t.Fatal(err)
	}
}

func TestParallelWritersQueue(t *testing.T) {
	ctx := t.Context()
	s := openTest(t, filepath.Join(t.TempDir(), "x.db"), notes)
	const writers, each = 50, 10
	errs := make(chan error, writers)
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range each {
				if _, err := addNote(ctx, s, "x"); err != nil {
					errs <- err
					return
				}
				err := s.View(ctx, func(tx *Tx) error { _, err := tx.Counter(ctx, "note"); return err })
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if n := count(t, s, "SELECT COUNT(*) FROM note"); n != writers*each {
		t.Fatalf("%d notes", n)
	}
}

// TestKilledProcess kills a process that prints each id after its commit; every id that was printed must be there.
func TestKilledProcess(t *testing.T) {
	if path := os.Getenv("STORE_KILL_TEST"); path != "" {
		s, err := Open(t.Context(), path, notes)
		if err != nil {
			t.Fatal(err)
		}
		for {
			id, err := addNote(t.Context(), s, "acknowledged")
			if err != nil {
				t.Fatal(err)
			}
			fmt.Printf("id %d\n", id)
		}
	}
	path := filepath.Join(t.TempDir(), "x.db")
	for round := range 5 {
		command := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
		command.Env = append(os.Environ(), "STORE_KILL_TEST="+path)
		out, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		last, seen := 0, 0
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if _, err := fmt.Sscanf(lines.Text(), "id %d", &last); err != nil {
				t.Fatalf("the process said %q", lines.Text())
			}
			if seen++; seen == 20+7*round {
				command.Process.Kill()
			}
		}
		command.Wait()
		s := openTest(t, path, notes)
		if n := count(t, s, "SELECT COUNT(*) FROM note WHERE id <= "+strconv.Itoa(last)); n != last || last == 0 {
			t.Fatalf("round %d: %d were acknowledged, %d are there", round, last, n)
		}
		s.Close()
	}
}

func BenchmarkUpdate(b *testing.B) {
	s, err := Open(b.Context(), filepath.Join(b.TempDir(), "x.db"), notes)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		if _, err := addNote(b.Context(), s, "x"); err != nil {
			b.Fatal(err)
		}
	}
}
