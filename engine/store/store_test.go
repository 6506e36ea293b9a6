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
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/fstest"

	"fieldgate/test/postgres"
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

// onBoth runs a test on each engine, with the location of a database that does not exist yet or is empty.
func onBoth(t *testing.T, test func(t *testing.T, location string)) {
	t.Run("sqlite", func(t *testing.T) {
		test(t, filepath.Join(t.TempDir(), "a b?c%d.db")) // a path is not part of a URL
	})
	t.Run("postgres", func(t *testing.T) { test(t, postgres.Start(t)) })
}

func TestUpdateCommitsOrRollsBack(t *testing.T) {
	onBoth(t, func(t *testing.T, location string) {
		ctx := t.Context()
		s := openTest(t, location, notes)
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
		cancelled, cancel := context.WithCancel(ctx)
		err = s.Update(cancelled, func(tx *Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO note (id, text) VALUES (99, 'undone')")
			cancel()
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		if n := count(t, s, "SELECT COUNT(*) FROM note"); n != 1 {
			t.Fatalf("%d notes", n)
		}
		if IsPostgres(location) {
			return
		}
		if info, err := os.Stat(location); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v %v", info.Mode(), err)
		}
	})
}

func TestViewCannotWrite(t *testing.T) {
	onBoth(t, func(t *testing.T, location string) {
		s := openTest(t, location, notes)
		err := s.View(t.Context(), func(tx *Tx) error {
			_, err := tx.ExecContext(t.Context(), "INSERT INTO note (id, text) VALUES (1, 'x')")
			return err
		})
		if err == nil {
			t.Fatal("a view wrote")
		}
	})
}

func TestViewSeesOneState(t *testing.T) {
	onBoth(t, func(t *testing.T, location string) {
		ctx := t.Context()
		s := openTest(t, location, notes)
		err := s.View(ctx, func(tx *Tx) error {
			before, err := tx.Counter(ctx, "note")
			if err != nil {
				return err
			}
			if _, err := addNote(ctx, s, "meanwhile"); err != nil {
				return err
			}
			after, err := tx.Counter(ctx, "note")
			if after != before {
				t.Errorf("%d, then %d", before, after)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestForeignKeysHold(t *testing.T) {
	onBoth(t, func(t *testing.T, location string) {
		s := openTest(t, location, notes)
		err := s.Update(t.Context(), func(tx *Tx) error {
			_, err := tx.ExecContext(t.Context(), "INSERT INTO reply (note, text) VALUES (7, 'to nothing')")
			return err
		})
		if err == nil {
			t.Fatal("a reply to nothing is accepted")
		}
	})
}

// What is stored comes back as it was, and texts are ordered by their bytes whatever the language of the server.
func TestValues(t *testing.T) {
	onBoth(t, func(t *testing.T, location string) {
		ctx := t.Context()
		s := openTest(t, location, fstest.MapFS{"0001_values.sql": {Data: []byte(`
			CREATE TABLE v (text TEXT PRIMARY KEY, bytes BLOB NOT NULL, small INTEGER, large BIGINT, absent TEXT); -- a BLOB?
			INSERT INTO v (text, bytes, small, large) SELECT 'is it?', CAST('TEXT' AS BLOB), 1, 2 WHERE CAST(1 AS TEXT) = '1';
		`)}})
		texts := []string{"B", "Z", "a", "a-b", "ab", "is it?", "ä", "日本"} // as bytes.Compare orders them
		for _, text := range texts {
			err := s.Update(ctx, func(tx *Tx) error {
				_, err := tx.ExecContext(ctx, `INSERT INTO v (text, bytes, small, large) VALUES (?, ?, ?, ?) /* ? */
					ON CONFLICT (text) DO UPDATE SET small = v.small + excluded.small`, text, []byte{0, 1, 255}, 1<<31-2, int64(1)<<62)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		err := s.View(ctx, func(tx *Tx) error {
			var n int
			if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM v WHERE text > ? AND text <> 'is it?' AND text < ?", "Z", "b").Scan(&n); err != nil || n != 3 {
				return fmt.Errorf("%d between Z and b: %w", n, err)
			}
			rows, err := tx.QueryContext(ctx, "SELECT text, bytes, small, large, absent FROM v ORDER BY text")
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var text string
				var bytes []byte
				var small, large int64
				var absent *string
				if err := rows.Scan(&text, &bytes, &small, &large, &absent); err != nil {
					return err
				}
				got = append(got, text)
				if text == "is it?" {
					if string(bytes) != "TEXT" || small != 1<<31-1 || large != 2 {
						t.Errorf("%s: %q %d %d", text, bytes, small, large)
					}
				} else if string(bytes) != "\x00\x01\xff" || small != 1<<31-2 || large != 1<<62 || absent != nil {
					t.Errorf("%s: %q %d %d", text, bytes, small, large)
				}
			}
			return rows.Err()
		})
		if err != nil || !slices.Equal(got, texts) {
			t.Fatalf("%q: %v", got, err)
		}
	})
}

func TestMigrations(t *testing.T) {
	onBoth(t, func(t *testing.T, location string) {
		s := openTest(t, location, notes)
		if _, err := addNote(t.Context(), s, "old"); err != nil {
			t.Fatal(err)
		}
		s.Close()

		broken := fstest.MapFS{"0001_notes.sql": notes["0001_notes.sql"],
			"0002_stars.sql": {Data: []byte("ALTER TABLE note ADD COLUMN stars INTEGER NOT NULL DEFAULT 3; INSERT INTO nowhere VALUES (1);")}}
		if _, err := Open(t.Context(), location, broken); err == nil {
			t.Fatal("a broken migration is accepted")
		}
		good := fstest.MapFS{"0001_notes.sql": notes["0001_notes.sql"],
			"0002_stars.sql":    {Data: []byte("ALTER TABLE note ADD COLUMN stars INTEGER NOT NULL DEFAULT 3;")},
			"0003_flags.sql":    {Data: []byte("CREATE TABLE flag (engine TEXT); INSERT INTO flag VALUES ('sqlite');")},
			"0003_flags.pg.sql": {Data: []byte("CREATE TABLE flag (engine TEXT); INSERT INTO flag VALUES ('postgres');")}}
		pending, err := Migrations(t.Context(), location, good)
		if err != nil || len(pending) != 3 || pending[0].Applied.IsZero() || !pending[1].Applied.IsZero() || pending[1].Name != "0002_stars.sql" {
			t.Fatalf("%v %v", pending, err)
		}
		for range 2 { // the second time nothing is left to do
			s = openTest(t, location, good)
			if n := count(t, s, "SELECT stars FROM note"); n != 3 {
				t.Fatalf("%d stars", n)
			}
			engine := map[bool]string{true: "postgres", false: "sqlite"}[IsPostgres(location)]
			if n := count(t, s, "SELECT COUNT(*) FROM flag WHERE engine = '"+engine+"'"); n != 1 {
				t.Fatalf("not the migration for %s", engine)
			}
			s.Close()
		}
		if _, err := Open(t.Context(), location, notes); !errors.Is(err, ErrNewer) {
			t.Fatalf("an older program opens a newer database: %v", err)
		}
		for name, files := range map[string]fstest.MapFS{
			"a gap in the numbers":      {"0001_notes.sql": notes["0001_notes.sql"], "0003_stars.sql": {Data: []byte("SELECT 1")}},
			"a migration of one engine": {"0001_notes.sql": notes["0001_notes.sql"], "0002_stars.pg.sql": {Data: []byte("SELECT 1")}},
		} {
			if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "y.db"), files); err == nil {
				t.Fatalf("%s is accepted", name)
			}
		}
	})
}

// Nodes that start at once find one complete schema, and nobody applies a migration twice.
func TestNodesMigrateAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, location string) {
		migrations := fstest.MapFS{"0001_notes.sql": notes["0001_notes.sql"]}
		for number := 2; number <= 6; number++ {
			migrations[fmt.Sprintf("%04d_more.sql", number)] = &fstest.MapFile{Data: fmt.Appendf(nil, "CREATE TABLE more%d (id INTEGER); UPDATE counter SET value = value + 1;", number)}
		}
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				s, err := Open(t.Context(), location, migrations)
				if err != nil {
					t.Error(err)
					return
				}
				s.Close()
			})
		}
		group.Wait()
		if n := count(t, openTest(t, location, migrations), "SELECT value FROM counter"); n != 5 {
			t.Fatalf("migrations were applied %d times instead of 5", n)
		}
	})
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
	s, err := open(ctx, path, opening{maxPages: 40})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.migrate(ctx, notes); err != nil {
		t.Fatal(err)
	}
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
	if _, err := s.write[Decisions].ExecContext(ctx, "PRAGMA max_page_count(1000)"); err != nil {
		t.Fatal(err)
	}
	if _, err := addNote(ctx, s, "more"); err != nil {
		t.Fatal(err)
	}
}

// Writers of two nodes queue. Whoever reads a sequence finds all rows up to it, which the directory's change feed relies on.
func TestParallelWritersQueue(t *testing.T) {
	onBoth(t, func(t *testing.T, location string) {
		ctx := t.Context()
		nodes := []*Store{openTest(t, location, notes), openTest(t, location, notes)}
		const writers, each = 50, 5
		var group sync.WaitGroup
		for writer := range writers {
			s := nodes[writer%2]
			group.Go(func() {
				for range each {
					id, err := addNote(ctx, s, "x")
					if err != nil {
						t.Error(err)
						return
					}
					err = nodes[(writer+1)%2].View(ctx, func(tx *Tx) error {
						newest, err := tx.Counter(ctx, "note")
						if err != nil {
							return err
						}
						var rows uint64
						if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM note").Scan(&rows); err != nil {
							return err
						}
						if newest < id || rows != newest {
							t.Errorf("%d was committed; seen are the sequence %d and %d rows", id, newest, rows)
						}
						return nil
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		if n := count(t, nodes[0], "SELECT COUNT(*) FROM note"); n != writers*each {
			t.Fatalf("%d notes", n)
		}
	})
}

// Another process that reads the file, as a backup does, keeps nobody from writing.
func TestBackupHoldsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := openTest(t, path, notes)
	if _, err := addNote(t.Context(), s, "before"); err != nil {
		t.Fatal(err)
	}
	reader, err := openExisting(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	err = reader.View(t.Context(), func(tx *Tx) error {
		if _, err := tx.Counter(t.Context(), "note"); err != nil {
			return err
		}
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				if _, err := addNote(t.Context(), s, "meanwhile"); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestHealth(t *testing.T) {
	onBoth(t, func(t *testing.T, location string) {
		s := openTest(t, location, notes)
		if err := s.Health(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if err := s.Health(t.Context()); err == nil {
			t.Fatal("a closed store is healthy")
		}
	})
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
	for name, location := range map[string]string{"sqlite": filepath.Join(b.TempDir(), "x.db"), "postgres": postgres.Start(b)} {
		b.Run(name, func(b *testing.B) {
			s, err := Open(b.Context(), location, notes)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := addNote(b.Context(), s, "x"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
