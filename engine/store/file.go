package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
)

// openExisting opens a database for reading only: nothing is created, checked or migrated.
func openExisting(ctx context.Context, location string) (*Store, error) {
	if IsPostgres(location) {
		return open(ctx, location, opening{program: tool})
	}
	if _, err := os.Stat(location); err != nil {
		return nil, err
	}
	db, err := connectSQLite(location, url.Values{"mode": {"ro"}, "_txlock": {"deferred"}})
	if err != nil {
		return nil, err
	}
	return &Store{read: db}, nil
}

// Backup writes what is at one moment in the SQLite file at location to a new file at path, which it makes durable. A node may
// serve from the database meanwhile.
func Backup(ctx context.Context, location, path string) (err error) {
	source, err := openExisting(ctx, location)
	if err != nil {
		return err
	}
	defer source.Close()
	// It exists beforehand, so that nobody else may read it at any moment.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(path)
		}
	}()
	defer file.Close()
	if _, err := source.read.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return explainSQLite(err)
	}
	return file.Sync()
}

// Verify reads a whole SQLite file and checks its pages, indexes and references.
func Verify(ctx context.Context, path string) error {
	s, err := openExisting(ctx, path)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := check(ctx, s.read, "integrity_check(1)"); err != nil {
		return explainSQLite(err)
	}
	var table string
	var ignored any
	err = s.read.QueryRowContext(ctx, "PRAGMA foreign_key_check").Scan(&table, &ignored, &ignored, &ignored)
	if err == sql.ErrNoRows {
		return nil
	}
	if err != nil {
		return explainSQLite(err)
	}
	return fmt.Errorf("%w (a row of %s refers to none)", ErrCorrupt, table)
}

// Settle writes the log of an SQLite file that nobody has open into it, so that the file alone is the database.
func Settle(ctx context.Context, path string) error {
	s, err := open(ctx, path, opening{program: tool})
	if err != nil {
		return err
	}
	defer s.Close()
	var busy, pages, moved int
	if err := s.write[Decisions].QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved); err != nil {
		return explainSQLite(err)
	}
	if busy != 0 {
		return ErrBusy
	}
	return nil
}

// Rename gives the installation in a restored database a new number. Its sequences begin again at those of the backup, and
// gateways that have seen later ones must not take them for the same.
func Rename(ctx context.Context, path string) error {
	s, err := open(ctx, path, opening{program: tool})
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Update(ctx, func(tx *Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE counter SET value = ? WHERE name = 'installation'", rand.Int64N(1<<62)+1)
		return err
	})
}
