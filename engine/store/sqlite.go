package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	sqliteReaders = 4
	busyTimeout   = 10 * time.Second // of another process that writes the file
)

func (s *Store) openSQLite(ctx context.Context, path string, how opening) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// The file holds hashes of credentials: nobody else may read it.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	file.Close()

	// FULL, because what is acknowledged to an operator must survive a power cut; writers that do not need this batch.
	pragmas := []string{"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "journal_size_limit(67108864)",
		"cache_size(-16384)"} // KiB: imports touch pages of several indexes
	if how.maxPages > 0 {
		pragmas = append(pragmas, "max_page_count("+strconv.Itoa(how.maxPages)+")")
	}
	db, err := connectSQLite(path, url.Values{"_txlock": {"immediate"}}, pragmas...)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	for lane := range s.write {
		s.write[lane] = db
	}
	if err := checkWhenFree(ctx, db); err != nil {
		return err
	}
	if s.read, err = connectSQLite(path, url.Values{"_txlock": {"deferred"}}, "query_only(1)"); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(sqliteReaders)
	s.read.SetMaxIdleConns(sqliteReaders)
	return nil
}

func connectSQLite(path string, query url.Values, pragmas ...string) (*sql.DB, error) {
	query["_pragma"] = append([]string{fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())}, pragmas...)
	source := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}
	return sql.Open("sqlite", source.String())
}

// checkWhenFree checks a file that others may open at the same moment. Of those that put a new one into WAL mode together all but one are
// refused, and SQLite does not wait for their busy_timeout, as they hold locks that others wait for (sqlite.org/c3ref/busy_handler.html).
func checkWhenFree(ctx context.Context, db *sql.DB) error {
	for began := time.Now(); ; {
		err := check(ctx, db, "quick_check(1)")
		if !errors.Is(explainSQLite(err), ErrBusy) || time.Since(began) > busyTimeout {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// check reads the whole file once; a broken page is better found now than when a device is refused.
func check(ctx context.Context, db *sql.DB, pragma string) error {
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w (%s)", ErrCorrupt, verdict)
	}
	return nil
}

func explainSQLite(err error) error {
	var failure *sqlite.Error
	if !errors.As(err, &failure) {
		return err
	}
	// The low byte is the primary result code (sqlite.org/rescode.html).
	switch failure.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w (%w)", ErrFull, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w (%w)", ErrCorrupt, err)
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("%w (%w)", ErrBusy, err)
	}
	return err
}
