package store

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Migration is one change of the schema.
type Migration struct {
	Number  int
	Name    string
	Applied time.Time // zero: not yet
}

const migrationTable = `CREATE TABLE IF NOT EXISTS migration (
	number  INTEGER PRIMARY KEY,
	name    TEXT NOT NULL,
	applied BIGINT NOT NULL
)`

// scripts are the migrations in their order. For NNNN_name.sql there may be NNNN_name.pg.sql, which PostgreSQL runs as it is
// in place of the text for both engines.
func (s *Store) scripts(migrations fs.FS) (names, texts []string, err error) {
	files, err := fs.Glob(migrations, "*.sql")
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(files)
	for _, file := range files {
		if strings.HasSuffix(file, ".pg.sql") {
			if !slices.Contains(files, strings.TrimSuffix(file, ".pg.sql")+".sql") {
				return nil, nil, fmt.Errorf("migration %s: there is none of its name for SQLite", file)
			}
			continue
		}
		prefix, _, _ := strings.Cut(file, "_")
		if number, err := strconv.Atoi(prefix); err != nil || number != len(names)+1 {
			return nil, nil, fmt.Errorf("migration %s: its name must begin with %04d_", file, len(names)+1)
		}
		text, err := fs.ReadFile(migrations, file)
		if err != nil {
			return nil, nil, err
		}
		script := string(text)
		if own := strings.TrimSuffix(file, ".sql") + ".pg.sql"; s.postgres && slices.Contains(files, own) {
			if text, err = fs.ReadFile(migrations, own); err != nil {
				return nil, nil, err
			}
			script = string(text)
		} else if s.postgres {
			script = postgresSchema(script)
		}
		names, texts = append(names, file), append(texts, script)
	}
	return names, texts, nil
}

// migrate applies the migrations that the database lacks, in the order of their numbers. A released migration is never
// altered; a change is a new one. Of nodes that start at once, one applies each.
func (s *Store) migrate(ctx context.Context, migrations fs.FS) error {
	names, texts, err := s.scripts(migrations)
	if err != nil {
		return err
	}
	applied, err := s.applied(ctx)
	for err == nil && len(applied) < len(names) {
		next := len(applied)
		err = s.UpdateIn(ctx, allLanes, func(tx *Tx) error {
			now, err := tx.applied(ctx)
			if err != nil || len(now) != next {
				return err // another node was faster
			}
			return tx.apply(ctx, next+1, names[next], texts[next])
		})
		if err != nil {
			return fmt.Errorf("migration %s: %w", names[next], err)
		}
		applied, err = s.applied(ctx)
	}
	if err == nil && len(applied) > len(names) {
		return fmt.Errorf("%w (migration %d)", ErrNewer, len(applied))
	}
	return err
}

func (tx *Tx) apply(ctx context.Context, number int, name, script string) error {
	if number == 1 {
		table := migrationTable
		if tx.postgres {
			table = postgresSchema(table)
		}
		if _, err := tx.ExecContext(ctx, table); err != nil {
			return err
		}
	}
	if _, err := tx.tx.ExecContext(ctx, script); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO migration (number, name, applied) VALUES (?, ?, ?)", number, name, tx.Now.UnixMilli())
	return err
}

func (s *Store) applied(ctx context.Context) (applied []Migration, err error) {
	err = s.View(ctx, func(tx *Tx) error {
		applied, err = tx.applied(ctx)
		return err
	})
	return applied, err
}

// applied lists the migrations of a database that is no incomplete copy.
func (tx *Tx) applied(ctx context.Context) (applied []Migration, err error) {
	tables, err := tx.tables(ctx)
	if err != nil {
		return nil, err
	}
	if slices.Contains(tables, copyTable) {
		return nil, ErrIncomplete
	}
	if !slices.Contains(tables, "migration") {
		return nil, nil
	}
	rows, err := tx.QueryContext(ctx, "SELECT number, name, applied FROM migration ORDER BY number")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var m Migration
		var at int64
		if err := rows.Scan(&m.Number, &m.Name, &at); err != nil {
			return nil, err
		}
		m.Applied = time.UnixMilli(at).UTC()
		applied = append(applied, m)
	}
	return applied, rows.Err()
}

// tables are those of the database, in the order of their creation: each before those that refer to it.
func (tx *Tx) tables(ctx context.Context) (tables []string, err error) {
	query := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY rowid"
	if tx.postgres {
		query = "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') ORDER BY oid"
	}
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		tables = append(tables, name)
	}
	return tables, rows.Err()
}

// Migrations lists those of the program and of the database at location, which is left as it is.
func Migrations(ctx context.Context, location string, migrations fs.FS) ([]Migration, error) {
	s, err := openExisting(ctx, location)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", Name(location), err)
	}
	defer s.Close()
	all, err := s.applied(ctx)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", Name(location), err)
	}
	names, _, err := s.scripts(migrations)
	if err != nil {
		return nil, err
	}
	for number := len(all) + 1; number <= len(names); number++ {
		all = append(all, Migration{Number: number, Name: names[number-1]})
	}
	return all, nil
}
