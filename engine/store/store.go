// Package store keeps the records of truth in SQL: one SQLite file, written through one connection and read through a
// pool, so that writers queue instead of failing and readers never wait for them.
//
// It owns the connections, the transactions and the migrations; the tables and their SQL belong to the capabilities. What
// Update has returned without an error survives a crash of the process and of the machine.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	readConnections = 4
	busyTimeout     = 10 * time.Second // of another process that holds the file, such as a backup
)

// Errors that an operator can do something about; they wrap SQLite's own.
var (
	ErrCorrupt = errors.New("the database file is corrupt: restore it from a backup, or move it away to start with an empty one")
	ErrFull    = errors.New("the disk is full: free some space and try again; what was acknowledged before is safe")
	ErrNewer   = errors.New("the database was written by a newer version of Fieldgate: use that version or a newer one")
)

// Store is one open database.
type Store struct {
	path  string
	write *sql.DB
	read  *sql.DB
}

// Open opens the database file at path, creates it where there is none, checks that it is sound, and applies the migrations
// that it lacks: files named by a number, such as 0001_devices.sql, each in a transaction of its own.
func Open(ctx context.Context, path string, migrations fs.FS) (*Store, error) {
	return open(ctx, path, migrations, 0)
}

// open bounds the file to maxPages pages of 4 KiB, unless that is 0.
func open(ctx context.Context, path string, migrations fs.FS, maxPages int) (_ *Store, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	s := &Store{path: path}
	defer func() {
		if err != nil {
			s.Close()
			err = fmt.Errorf("open database %s: %w", path, explain(err))
		}
	}()
	// The file holds hashes of credentials: nobody else may read it.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	file.Close()

	// FULL, because what is acknowledged to an operator must survive a power cut; writers that do not need this batch.
	pragmas := []string{"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "journal_size_limit(67108864)",
		"cache_size(-16384)"} // KiB: imports touch pages of several indexes
	if maxPages > 0 {
		pragmas = append(pragmas, "max_page_count("+strconv.Itoa(maxPages)+")")
	}
	if s.write, err = connect(path, "immediate", pragmas); err != nil {
		return nil, err
	}
	s.write.SetMaxOpenConns(1)
	s.write.SetMaxIdleConns(1)
	if err = check(ctx, s.write); err != nil {
		return nil, err
	}
	if err = migrate(ctx, s.write, migrations); err != nil {
		return nil, err
	}
	if s.read, err = connect(path, "deferred", []string{"query_only(1)"}); err != nil {
		return nil, err
	}
	s.read.SetMaxOpenConns(readConnections)
	s.read.SetMaxIdleConns(readConnections)
	return s, nil
}

func connect(path, txlock string, pragmas []string) (*sql.DB, error) {
	query := url.Values{"_txlock": {txlock}, "_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())}}
	query["_pragma"] = append(query["_pragma"], pragmas...)
	source := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}
	return sql.Open("sqlite", source.String())
}

// check reads the whole file once; a broken page is better found now than when a device is refused.
func check(ctx context.Context, db *sql.DB) error {
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w (%s)", ErrCorrupt, verdict)
	}
	return nil
}

// Close ends all connections. The file is complete at every moment, closed or not.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Tx is a transaction and the time that all its rows carry.
type Tx struct {
	*sql.Tx
	Now time.Time
}

// Update runs do in a transaction that may write, and commits it when do returns no error. Only one runs at a time.
func (s *Store) Update(ctx context.Context, do func(*Tx) error) error {
	return transact(ctx, s.write, nil, do)
}

// View runs do in a transaction that sees one state of the database and cannot write.
func (s *Store) View(ctx context.Context, do func(*Tx) error) error {
	return transact(ctx, s.read, &sql.TxOptions{ReadOnly: true}, do)
}

func transact(ctx context.Context, db *sql.DB, options *sql.TxOptions, do func(*Tx) error) error {
	tx, err := db.BeginTx(ctx, options)
	if err != nil {
		return explain(err)
	}
	// After a commit this does nothing.
	defer tx.Rollback()
	if err := do(&Tx{Tx: tx, Now: time.Now().UTC()}); err != nil {
		return explain(err)
	}
	return explain(tx.Commit())
}

// Next adds one to a row of the table counter and returns the new value.
func (tx *Tx) Next(ctx context.Context, counter string) (uint64, error) {
	var value int64
	err := tx.QueryRowContext(ctx, "UPDATE counter SET value = value + 1 WHERE name = ? RETURNING value", counter).Scan(&value)
	if err != nil {
		return 0, fmt.Errorf("counter %s: %w", counter, err)
	}
	return uint64(value), nil
}

// Counter is the present value of a row of the table counter.
func (tx *Tx) Counter(ctx context.Context, counter string) (uint64, error) {
	var value int64
	err := tx.QueryRowContext(ctx, "SELECT value FROM counter WHERE name = ?", counter).Scan(&value)
	if err != nil {
		return 0, fmt.Errorf("counter %s: %w", counter, err)
	}
	return uint64(value), nil
}

// explain adds what an operator can do to errors of SQLite.
func explain(err error) error {
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
	}
	return err
}
