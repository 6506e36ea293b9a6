package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Tx is a transaction and the time that all its rows carry. Its methods are those of sql.Tx; values stand as ? in their
// texts. One result may be open at a time: PostgreSQL sends a connection's results one after the other.
type Tx struct {
	Now time.Time

	tx       *sql.Tx
	postgres bool
}

func (s *Store) begin(ctx context.Context, db *sql.DB, options *sql.TxOptions) (*Tx, error) {
	if s.postgres {
		options = isolation(options)
	}
	tx, err := db.BeginTx(ctx, options)
	// After a restart of the server every idle connection of a pool may be dead; nothing has happened on it yet.
	for try := 0; err != nil && s.postgres && givenUp(err) && try <= postgresReaders; try++ {
		tx, err = db.BeginTx(ctx, options)
	}
	if err != nil {
		return nil, err
	}
	return &Tx{Now: time.Now().UTC(), tx: tx, postgres: s.postgres}, nil
}

// ExecContext runs a statement that answers no rows.
func (tx *Tx) ExecContext(ctx context.Context, query string, values ...any) (sql.Result, error) {
	return tx.tx.ExecContext(ctx, tx.text(query), values...)
}

// QueryContext runs a statement that answers rows.
func (tx *Tx) QueryContext(ctx context.Context, query string, values ...any) (*sql.Rows, error) {
	return tx.tx.QueryContext(ctx, tx.text(query), values...)
}

// QueryRowContext runs a statement that answers one row.
func (tx *Tx) QueryRowContext(ctx context.Context, query string, values ...any) *sql.Row {
	return tx.tx.QueryRowContext(ctx, tx.text(query), values...)
}

func (tx *Tx) text(query string) string {
	if tx.postgres {
		return numbered(query)
	}
	return query
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
