// Package store keeps the records of truth in SQL: in one SQLite file, or in a PostgreSQL database that several nodes share.
// Writers queue instead of failing, and readers never wait for them.
//
// It owns the connections, the transactions and the migrations; the tables and their SQL belong to the capabilities, which
// write the common subset of both engines with ? for values. What Update has returned without an error survives a crash of
// the process and of the machine.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"
)

// Errors that an operator can do something about; they wrap the engine's own.
var (
	ErrCorrupt     = errors.New("the database file is corrupt: restore it from a backup, or move it away to start with an empty one")
	ErrFull        = errors.New("the disk of the database is full: free some space and try again; what was acknowledged before is safe")
	ErrNewer       = errors.New("the database was written by a newer version of Fieldgate: use that version or a newer one")
	ErrIncomplete  = errors.New("the database is a copy that was not completed: repeat \"fieldgate db copy\" into it")
	ErrBusy        = errors.New("another program holds the database: find what it does there, and try again")
	ErrUnavailable = errors.New("the database server does not answer")
	ErrDenied      = errors.New("the database server refuses the user or the password: check both, and pg_hba.conf on the server")
	ErrUnsuitable  = errors.New("the database cannot be used")
	// ErrUnknownOutcome says that a commit was sent and nothing came back: it may have been carried out or not.
	ErrUnknownOutcome = errors.New("the connection to the database was lost while committing: look whether the change was made before repeating it")
)

// Lane is a queue of writers. In each, one transaction writes at a time, across all nodes that share the database. Those of
// different lanes run side by side where the engine can (SQLite has one writer), so they must not write the same rows.
type Lane int

const (
	Decisions Lane = iota // of operators; its sequences are seen in the order in which they were taken
	Ingest                // what arrives by itself in large portions, such as rollups
	lanes

	allLanes Lane = -1 // for changes of the schema, which may take long
)

const (
	attempts   = 6                     // of a transaction that the engine gives up for another one's sake
	retryDelay = 20 * time.Millisecond // at the most, before the first repetition; doubled for each further one
)

// Store is one open database.
type Store struct {
	write    [lanes]*sql.DB // one connection each; with SQLite the same for all
	read     *sql.DB
	postgres bool
	down     atomic.Int64 // since when the server has not answered, in Unix milliseconds; 0: it answers
	answered atomic.Int64 // when a transaction came to its end for the last time, in Unix nanoseconds
}

// Open opens the database at location, the path of an SQLite file or a URL such as postgres://fieldgate@host/fieldgate,
// creates the file where there is none, checks that the database is fit for use, and applies the migrations that it lacks:
// files named by a number, such as 0001_devices.sql, each in a transaction of its own.
func Open(ctx context.Context, location string, migrations fs.FS) (*Store, error) {
	s, err := open(ctx, location, opening{program: node})
	if err == nil {
		if err = s.migrate(ctx, migrations); err == nil {
			return s, nil
		}
		s.Close()
	}
	return nil, fmt.Errorf("open database %s: %w", Name(location), err)
}

// opening is how a database is opened.
type opening struct {
	program  string // by which the server and its operators know the connections
	maxPages int    // of 4 KiB, which bounds a file; 0: no bound
}

const (
	node = "fieldgate"
	tool = "fieldgate db"
)

// open does all but the migrations.
func open(ctx context.Context, location string, how opening) (s *Store, err error) {
	s = new(Store)
	if IsPostgres(location) {
		s.postgres = true
		err = s.openPostgres(ctx, location, how)
	} else {
		err = s.openSQLite(ctx, location, how)
	}
	if err != nil {
		s.Close()
		return nil, s.explain(err)
	}
	return s, nil
}

// IsPostgres says whether a location is a URL of a PostgreSQL database; if not, it is the path of a file.
func IsPostgres(location string) bool {
	return strings.HasPrefix(location, "postgres://") || strings.HasPrefix(location, "postgresql://")
}

// Name is a location fit for messages: without password and parameters.
func Name(location string) string {
	if IsPostgres(location) {
		return postgresName(location)
	}
	return location
}

// Close ends all connections. The database is complete at every moment, closed or not.
func (s *Store) Close() error {
	errs := make([]error, 0, lanes+1)
	for _, db := range append(s.write[:], s.read) {
		if db != nil {
			errs = append(errs, db.Close()) // a second time it does nothing
		}
	}
	return errors.Join(errs...)
}

// Update is UpdateIn for the lane Decisions.
func (s *Store) Update(ctx context.Context, do func(*Tx) error) error {
	return s.UpdateIn(ctx, Decisions, do)
}

// UpdateIn runs do in a transaction that may write, and commits it when do returns no error. Only one at a time runs in a
// lane. do runs again when the engine gave the transaction up (a serialization failure, a deadlock, a connection lost before
// the commit), so that it must have no effect outside of it.
func (s *Store) UpdateIn(ctx context.Context, lane Lane, do func(*Tx) error) error {
	for attempt := 0; ; attempt++ {
		committing, err := s.updateOnce(ctx, lane, do)
		if err != nil && committing && s.postgres && commitUnknown(err) {
			return fmt.Errorf("%w (%w)", ErrUnknownOutcome, err)
		}
		if err == nil || attempt == attempts-1 || !s.postgres || !givenUp(err) {
			return s.explain(err)
		}
		select {
		case <-ctx.Done():
			return s.explain(err)
		case <-time.After(rand.N(retryDelay << attempt)):
		}
	}
}

func (s *Store) updateOnce(ctx context.Context, lane Lane, do func(*Tx) error) (committing bool, err error) {
	tx, err := s.begin(ctx, s.write[max(lane, 0)], nil)
	if err != nil {
		return false, err
	}
	// After a commit this does nothing.
	defer tx.tx.Rollback()
	if s.postgres {
		if err := lock(ctx, tx, lane); err != nil {
			return false, err
		}
	}
	tx.Now = time.Now().UTC() // after the wait for the lock, so that times follow the order of the commits
	if err := do(tx); err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return true, tx.tx.Commit()
}

// View runs do, once, in a transaction that sees one state of the database and cannot write.
func (s *Store) View(ctx context.Context, do func(*Tx) error) error {
	return s.explain(s.view(ctx, s.read, do))
}

func (s *Store) view(ctx context.Context, db *sql.DB, do func(*Tx) error) error {
	tx, err := s.begin(ctx, db, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	return tx.tx.Commit()
}

// Shared says whether other processes may use the database at the same time.
func (s *Store) Shared() bool { return s.postgres }

// Health asks the database for next to nothing; its error says what is wrong and, if it can be told, since when.
func (s *Store) Health(ctx context.Context) error {
	return s.View(ctx, func(tx *Tx) error {
		var number int
		return tx.QueryRowContext(ctx, "SELECT MAX(number) FROM migration").Scan(&number)
	})
}

// Answered is when a transaction came to its end for the last time; the zero time if none has.
func (s *Store) Answered() time.Time {
	if at := s.answered.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// explain adds what an operator can do to errors of the engine, and notes that the database answers.
func (s *Store) explain(err error) error {
	if err == nil {
		s.answered.Store(time.Now().UnixNano())
	}
	if !s.postgres {
		return explainSQLite(err)
	}
	if err == nil {
		s.down.Store(0)
		return nil
	}
	if !unavailable(err) {
		return explainPostgres(err)
	}
	s.down.CompareAndSwap(0, time.Now().UnixMilli())
	return fmt.Errorf("%w since %s (%w)", ErrUnavailable, time.UnixMilli(s.down.Load()).UTC().Format(time.RFC3339), err)
}
