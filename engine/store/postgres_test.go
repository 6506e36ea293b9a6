package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"fieldgate/test/postgres"
)

// with is a URL with something changed.
func with(t *testing.T, location string, change func(*url.URL)) string {
	t.Helper()
	parsed, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	change(parsed)
	return parsed.String()
}

func TestWhatKeepsADatabaseFromOpening(t *testing.T) {
	location := postgres.Start(t)
	server := postgres.New(t)
	gone := server.Database(t)
	server.Execute(t, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0")
	server.Execute(t, "CREATE USER guest PASSWORD 'secret word'")
	latin := with(t, gone, func(u *url.URL) { u.Path = "/latin" })
	guest := with(t, gone, func(u *url.URL) { u.User = url.UserPassword("guest", "secret word") })
	for name, test := range map[string]struct {
		location string
		want     error
		text     string
	}{
		"another password": {with(t, location, func(u *url.URL) { u.User = url.UserPassword("fieldgate", "secret word") }), ErrDenied, "password"},
		"no database":      {with(t, location, func(u *url.URL) { u.Path = "/nowhere" }), ErrUnsuitable, "createdb"},
		"not UTF-8":        {latin, ErrUnsuitable, "LATIN1"},
		"no rights":        {guest, ErrUnsuitable, "owner"},
		"no server":        {"postgres://fieldgate:secret%20word@127.0.0.1:1/x", ErrUnavailable, "since 2"},
		"a broken URL":     {"postgres://fieldgate:secret word@[/x", ErrUnsuitable, "percent-encode"},
		"a wrong port":     {"postgres://fieldgate:secret%20word@h:99999/x", ErrUnsuitable, ""},
		"a wrong mode":     {"postgres://h/x?sslmode=secret%20word&password=secret%20word", ErrUnsuitable, ""},
	} {
		s, err := Open(t.Context(), test.location, notes)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "horse")) {
			t.Errorf("%s: the password is told: %v", name, err)
		}
	}
	if err := suitable(140012, "UTF8"); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("PostgreSQL 14: %v", err)
	}
}

func TestName(t *testing.T) {
	for location, want := range map[string]string{
		"data/fieldgate.db": "data/fieldgate.db",
		"postgres://u:secret@db.example:5432/x?password=secret&sslmode=require": "postgres://u@db.example:5432/x",
		"postgresql://h/x":              "postgres://h/x",
		"postgres://u:secret@h:1,i:2/x": "postgres://u@h:1,i:2/x",
		"postgres://u:sec ret@[/:/x":    "postgres://…",
	} {
		if got := Name(location); got != want {
			t.Errorf("%s: %s", location, got)
		}
	}
}

// Of several servers the one that can be written to is used; a standby is not, even for reading.
func TestSeveralHosts(t *testing.T) {
	server := postgres.New(t)
	location := server.Database(t)
	s := openTest(t, strings.Replace(location, "@", "@127.0.0.1:1,", 1), notes)
	if _, err := addNote(t.Context(), s, "x"); err != nil {
		t.Fatal(err)
	}
	server.Execute(t, "ALTER DATABASE test1 SET default_transaction_read_only = on")
	if _, err := Open(t.Context(), location, notes); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "read only") {
		t.Fatal(err)
	}
}

// The connection says who it is, waits for the disk, and has limits.
func TestSession(t *testing.T) {
	server := postgres.New(t)
	location := server.Database(t)
	server.Execute(t, "ALTER ROLE fieldgate SET synchronous_commit = off")
	s := openTest(t, location, notes)
	for setting, want := range map[string]string{"application_name": "fieldgate", "synchronous_commit": "on", "statement_timeout": "1min",
		"lock_timeout": "30s", "tcp_keepalives_idle": "15"} {
		err := s.Update(t.Context(), func(tx *Tx) error {
			var got string
			if err := tx.QueryRowContext(t.Context(), "SELECT current_setting(?)", setting).Scan(&got); err != nil {
				return err
			}
			if got != want {
				t.Errorf("%s is %s", setting, got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A long transaction of one lane holds up no decision.
func TestLanesRunSideBySide(t *testing.T) {
	ctx := t.Context()
	s := openTest(t, postgres.Start(t), notes)
	err := s.UpdateIn(ctx, Ingest, func(tx *Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO note (id, text) VALUES (1000, 'rollup')"); err != nil {
			return err
		}
		_, err := addNote(ctx, s, "decision")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT COUNT(*) FROM note"); n != 2 {
		t.Fatalf("%d notes", n)
	}
}

// The lanes of two nodes write the same rows in opposite order, which they should not: the server gives one of them up, and it
// runs again.
func TestDeadlockIsRepeated(t *testing.T) {
	ctx := t.Context()
	location := postgres.Start(t)
	s := openTest(t, location, notes)
	for range 2 {
		if _, err := addNote(ctx, s, "x"); err != nil {
			t.Fatal(err)
		}
	}
	var runs atomic.Int32
	var group, met sync.WaitGroup
	met.Add(2)
	for lane, order := range map[Lane][2]int{Decisions: {1, 2}, Ingest: {2, 1}} {
		group.Go(func() {
			first := true
			err := s.UpdateIn(ctx, lane, func(tx *Tx) error {
				runs.Add(1)
				for _, id := range order {
					if _, err := tx.ExecContext(ctx, "UPDATE note SET text = text || 'y' WHERE id = ?", id); err != nil {
						return err
					}
					if first {
						first = false
						met.Done()
						met.Wait()
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if runs.Load() < 3 { // more when the one that was given up meets the other once more
		t.Errorf("%d runs: the server gave neither up", runs.Load())
	}
	if n := count(t, s, "SELECT COUNT(*) FROM note WHERE text = 'xyy'"); n != 2 {
		t.Errorf("%d notes have both changes", n)
	}
}

func TestFullDiskOfTheServer(t *testing.T) {
	s := openTest(t, postgres.Start(t), notes)
	err := s.Update(t.Context(), func(tx *Tx) error {
		_, err := tx.ExecContext(t.Context(), "DO $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$")
		return err
	})
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
}

// A statement that fails spoils its transaction even when its error is overlooked.
func TestOverlookedErrorIsNoCommit(t *testing.T) {
	s := openTest(t, postgres.Start(t), notes)
	err := s.Update(t.Context(), func(tx *Tx) error {
		tx.ExecContext(t.Context(), "INSERT INTO nowhere VALUES (1)")
		return nil
	})
	if err == nil || errors.Is(err, ErrUnknownOutcome) {
		t.Fatal(err)
	}
}

// TestKilledServer kills the server while nodes write: what was acknowledged is there, nothing is there by half, and the nodes
// go on by themselves.
func TestKilledServer(t *testing.T) {
	ctx := t.Context()
	server := postgres.New(t)
	location := server.Database(t)
	nodes := []*Store{openTest(t, location, notes), openTest(t, location, notes)}
	acknowledged := make(map[uint64]bool)
	for round := range 3 {
		var mu sync.Mutex
		var group sync.WaitGroup
		enough := make(chan struct{})
		stopped := false
		for writer := range 8 {
			group.Go(func() {
				for {
					id, err := addPair(ctx, nodes[writer%2])
					mu.Lock()
					if err == nil {
						acknowledged[id] = true
					} else if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrUnknownOutcome) {
						t.Errorf("round %d: %v", round, err)
					}
					if len(acknowledged) >= 20*(round+1) && !stopped {
						stopped = true
						close(enough)
					}
					mu.Unlock()
					if err != nil {
						return
					}
				}
			})
		}
		<-enough
		server.Kill()
		group.Wait()
		if err := nodes[0].Health(ctx); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "since 2") {
			t.Fatalf("health of a dead server: %v", err)
		}
		server.Start(t)
		for _, node := range nodes {
			if err := node.Health(ctx); err != nil {
				t.Fatalf("after the restart: %v", err)
			}
		}
	}
	for id := range acknowledged {
		if n := count(t, nodes[0], fmt.Sprintf("SELECT COUNT(*) FROM note WHERE id = %d", id)); n != 1 {
			t.Errorf("%d was acknowledged and is lost", id)
		}
	}
	if n := count(t, nodes[0], "SELECT COUNT(*) FROM note WHERE NOT EXISTS (SELECT 1 FROM reply WHERE reply.note = note.id)"); n != 0 {
		t.Errorf("%d notes without the reply of their transaction", n)
	}
}

func addPair(ctx context.Context, s *Store) (id uint64, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		if id, err = tx.Next(ctx, "note"); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO note (id, text) VALUES (?, 'x')", id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO reply (note, text) VALUES (?, 'y')", id)
		return err
	})
	return id, err
}

// cutter forwards one connection after the other to a server, until a client says a word: it still forwards that, but no
// answer.
func cutter(t *testing.T, server, word string) (address string, armed *atomic.Bool) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	armed = new(atomic.Bool)
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			go func() {
				defer client.Close()
				io.Copy(client, upstream)
			}()
			go func() {
				defer upstream.Close()
				defer client.Close()
				buffer := make([]byte, 64<<10)
				for {
					n, err := client.Read(buffer)
					if err != nil {
						return
					}
					if bytes.Contains(buffer[:n], []byte(word)) && armed.CompareAndSwap(true, false) {
						client.Close()
					}
					if _, err := upstream.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String(), armed
}

func TestConnectionIsLost(t *testing.T) {
	ctx := t.Context()
	location := postgres.Start(t)
	server := with(t, location, func(*url.URL) {})
	parsed, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	for word, outcome := range map[string]error{"commit\x00": ErrUnknownOutcome, "INSERT INTO note": nil} {
		address, armed := cutter(t, parsed.Host, word)
		s := openTest(t, with(t, location, func(u *url.URL) { u.Host = address }), notes)
		before := count(t, s, "SELECT COUNT(*) FROM note")
		armed.Store(true)
		// Before the commit nothing has happened, and it is repeated. After it nobody knows, and it is not.
		if _, err := addNote(ctx, s, "x"); !errors.Is(err, outcome) {
			t.Errorf("lost at %s: %v", word, err)
		}
		if armed.Load() {
			t.Errorf("%s was never said", word)
		}
		if _, err := addNote(ctx, s, "after"); err != nil {
			t.Error(err)
		}
		if n := count(t, s, "SELECT COUNT(*) FROM note"); n != before+2 {
			t.Errorf("lost at %s: %d notes more", word, n-before)
		}
	}
}

func TestWhatCommitErrorsMean(t *testing.T) {
	for state, unknown := range map[string]bool{"23505": false, "40001": false, "57P01": true, "08006": true} {
		if commitUnknown(&pgconn.PgError{Code: state}) != unknown {
			t.Errorf("%s", state)
		}
	}
	if !commitUnknown(io.ErrUnexpectedEOF) {
		t.Error("an end of the connection")
	}
}
