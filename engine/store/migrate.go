package store

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
)

// migrate applies the migrations that the database lacks, in the order of their numbers. A released migration is never
// altered; a change is a new one.
func migrate(ctx context.Context, db *sql.DB, migrations fs.FS) error {
	files, err := fs.Glob(migrations, "*.sql")
	if err != nil {
		return err
	}
	slices.Sort(files)
	_, err = db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS migration (
		number  INTEGER PRIMARY KEY,
		name    TEXT NOT NULL,
		applied BIGINT NOT NULL
	)`)
	if err != nil {
		return err
	}
	var done int
	if err := db.QueryRowContext(ctx, "SELECT COALESCE(MAX(number), 0) FROM migration").Scan(&done); err != nil {
		return err
	}
	for i, file := range files {
		prefix, _, _ := strings.Cut(file, "_")
		if number, err := strconv.Atoi(prefix); err != nil || number != i+1 {
			return fmt.Errorf("migration %s: its name must begin with %04d_", file, i+1)
		}
	}
	if done > len(files) {
		return fmt.Errorf("%w (migration %d)", ErrNewer, done)
	}
	for i, file := range files[done:] {
		if err := apply(ctx, db, migrations, file, done+i+1); err != nil {
			return fmt.Errorf("migration %s: %w", file, err)
		}
	}
	return nil
}

func apply(ctx context.Context, db *sql.DB, migrations fs.FS, file string, number int) error {
	script, err := fs.ReadFile(migrations, file)
	if err != nil {
		return err
	}
	return transact(ctx, db, nil, func(tx *Tx) error {
		if _, err := tx.ExecContext(ctx, string(script)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO migration (number, name, applied) VALUES (?, ?, ?)", number, file, time.Now().UnixMilli())
		return err
	})
}
