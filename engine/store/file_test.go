package store

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A tool that was killed while it wrote leaves a journal behind (sqlite.org/atomiccommit.html, section 4.1): who only reads has it rolled back.
func TestReadWhatWasNotFinished(t *testing.T) {
	ctx := t.Context()
	folder := t.TempDir()
	path, copied := filepath.Join(folder, "x.db"), filepath.Join(folder, "copied.db")
	s := openTest(t, path, notes)
	for range 50 {
		if _, err := addNote(ctx, s, strings.Repeat("before ", 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := connectSQLite(path, url.Values{"mode": {"rw"}}, "journal_mode(DELETE)", "cache_size(1)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	writing, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer writing.Rollback()
	if _, err := writing.ExecContext(ctx, "UPDATE note SET text = ?", strings.Repeat("after ", 2000)); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{path: copied, path + "-journal": copied + "-journal"} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := openExisting(ctx, copied)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if n := count(t, reader, "SELECT COUNT(*) FROM note WHERE text LIKE 'before %'"); n != 50 {
		t.Errorf("%d notes are as they were", n)
	}
	if _, err := Backup(ctx, copied, filepath.Join(folder, "backup.db"), notes, nil); err != nil {
		t.Error(err)
	}
}
