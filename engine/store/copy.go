package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// copyTable stands in a database while it is filled, and is dropped in the transaction that completes it.
const copyTable = "copy_in_progress"

// progressRows is how often progress is told.
const progressRows = 10_000

// Errors of Copy.
var (
	ErrNotEmpty = errors.New("the target holds data already: name an empty one, or give --replace to overwrite it")
	ErrOutdated = errors.New("the database lacks migrations: run \"fieldgate db migrate\" on it first")
	ErrInUse    = errors.New("nodes of Fieldgate are connected to the target: stop them first")
	ErrDiffers  = errors.New("the copy differs from its source and was undone")
)

// Table is what is in a table.
type Table struct {
	Name     string `json:"name"`
	Rows     int64  `json:"rows"`
	Checksum string `json:"checksum"` // hexadecimal; the same for the same rows in any order, on both engines
}

// CopiedTable is a table as it was read from the source and then from the target.
type CopiedTable struct {
	Source Table `json:"source"`
	Target Table `json:"target"`
}

// Copy fills the database at to with everything that is at one moment in the database at from, and reads it again to compare.
// Everything arrives in one transaction. Until that is committed the target says that it is incomplete: Open refuses it, and
// Copy starts over. What the target held before is overwritten only if replace is set.
func Copy(ctx context.Context, from, to string, migrations fs.FS, replace bool, progress func(table string, rows int64)) (copied []CopiedTable, err error) {
	source, err := openCurrent(ctx, from, migrations)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	target, err := open(ctx, to, opening{program: tool})
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", Name(to), err)
	}
	defer target.Close()
	err = target.awaitNodes(ctx)
	if err == nil {
		err = target.markIncomplete(ctx, replace)
	}
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", Name(to), err)
	}
	err = source.View(ctx, func(in *Tx) error {
		if err := in.takeTime(ctx); err != nil {
			return err
		}
		copied, err = target.fill(ctx, in, migrations, progress)
		return target.explain(err)
	})
	return copied, err
}

// openCurrent opens a database that has all migrations, and leaves it as it is.
func openCurrent(ctx context.Context, location string, migrations fs.FS) (*Store, error) {
	s, err := openExisting(ctx, location)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", Name(location), err)
	}
	names, _, err := s.scripts(migrations)
	if err == nil {
		var applied []Migration
		applied, err = s.applied(ctx)
		switch {
		case err != nil:
		case len(applied) > len(names):
			err = fmt.Errorf("%w (migration %d)", ErrNewer, len(applied))
		case len(applied) < len(names):
			err = fmt.Errorf("%w (migration %d)", ErrOutdated, len(applied)+1)
		}
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("database %s: %w", Name(location), err)
	}
	return s, nil
}

// takeTime lifts the limits that protect a serving node from long transactions.
func (tx *Tx) takeTime(ctx context.Context) error {
	if !tx.postgres {
		return nil
	}
	_, err := tx.ExecContext(ctx, "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = 0")
	return err
}

// awaitNodes fails when nodes are connected. The server takes a moment to forget one that has ended.
func (s *Store) awaitNodes(ctx context.Context) error {
	if !s.postgres {
		return nil // the command holds the lock of the data folder
	}
	for look := 0; ; look++ {
		var nodes int
		err := s.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = '"+node+"'").Scan(&nodes)
		if err != nil || nodes == 0 {
			return s.explain(err)
		}
		if look == 20 {
			return fmt.Errorf("%w (%d connections)", ErrInUse, nodes)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *Store) markIncomplete(ctx context.Context, replace bool) error {
	return s.UpdateIn(ctx, allLanes, func(tx *Tx) error {
		tables, err := tx.tables(ctx)
		if err != nil || slices.Contains(tables, copyTable) {
			return err
		}
		if len(tables) > 0 && (!replace || !slices.Contains(tables, "migration")) {
			return fmt.Errorf("%w (%d tables)", ErrNotEmpty, len(tables))
		}
		_, err = tx.ExecContext(ctx, "CREATE TABLE "+copyTable+" (started BIGINT NOT NULL)")
		return err
	})
}

// fill is the one transaction of a copy.
func (s *Store) fill(ctx context.Context, in *Tx, migrations fs.FS, progress func(string, int64)) (copied []CopiedTable, err error) {
	connection, err := s.write[Decisions].Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	began, err := connection.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer began.Rollback()
	out := &Tx{Now: in.Now, tx: began, postgres: s.postgres}
	tables, err := s.recreate(ctx, in, out, migrations)
	if err != nil {
		return nil, err
	}
	equal := true
	for _, name := range tables {
		var table CopiedTable
		if table.Source, err = copyRows(ctx, connection, in, out, name, progress); err != nil {
			return nil, fmt.Errorf("table %s: %w", name, err)
		}
		if table.Target, err = out.read(ctx, name); err != nil {
			return nil, fmt.Errorf("table %s: %w", name, err)
		}
		equal = equal && table.Source == table.Target
		copied = append(copied, table)
	}
	if !equal {
		return copied, ErrDiffers
	}
	if err := began.Commit(); err != nil {
		if s.postgres && commitUnknown(err) {
			err = fmt.Errorf("%w (%w)", ErrUnknownOutcome, err)
		}
		return nil, err
	}
	return copied, nil
}

// recreate makes the schema anew, without a row, and lists its tables.
func (s *Store) recreate(ctx context.Context, in, out *Tx, migrations fs.FS) (tables []string, err error) {
	if s.postgres {
		err = lock(ctx, out, allLanes)
	} else {
		_, err = out.ExecContext(ctx, "PRAGMA defer_foreign_keys = 1")
	}
	if err != nil {
		return nil, err
	}
	before, err := out.tables(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Backward(before) {
		if _, err := out.ExecContext(ctx, "DROP TABLE "+quoted(name)); err != nil {
			return nil, err
		}
	}
	names, texts, err := s.scripts(migrations)
	if err != nil {
		return nil, err
	}
	for i := range names {
		if err := out.apply(ctx, i+1, names[i], texts[i]); err != nil {
			return nil, fmt.Errorf("migration %s: %w", names[i], err)
		}
	}
	if tables, err = out.tables(ctx); err != nil {
		return nil, err
	}
	for _, name := range slices.Backward(tables) {
		if _, err := out.ExecContext(ctx, "DELETE FROM "+quoted(name)); err != nil {
			return nil, err
		}
	}
	there, err := in.tables(ctx)
	if err != nil {
		return nil, err
	}
	if missing := difference(there, tables); missing != nil {
		return nil, fmt.Errorf("the source has tables that are not Fieldgate's, which would be lost: %s", strings.Join(missing, ", "))
	}
	if missing := difference(tables, there); missing != nil {
		return nil, fmt.Errorf("the source lacks tables: %s", strings.Join(missing, ", "))
	}
	return tables, nil
}

func difference(all, without []string) (left []string) {
	for _, name := range all {
		if !slices.Contains(without, name) {
			left = append(left, name)
		}
	}
	return left
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

func copyRows(ctx context.Context, connection *sql.Conn, in, out *Tx, table string, progress func(string, int64)) (Table, error) {
	rows, err := in.open(ctx, table)
	if err != nil {
		return Table{}, err
	}
	defer rows.Close()
	rows.progress = progress
	if out.postgres {
		err = connection.Raw(func(driver any) error {
			_, err := driver.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{table}, rows.columns, rows)
			return err
		})
	} else {
		err = rows.insert(ctx, out)
	}
	if err != nil {
		return Table{}, err
	}
	progress(table, rows.count)
	return rows.table(), rows.Err()
}

// read reads a whole table.
func (tx *Tx) read(ctx context.Context, table string) (Table, error) {
	rows, err := tx.open(ctx, table)
	if err != nil {
		return Table{}, err
	}
	defer rows.Close()
	for rows.Next() {
		if _, err := rows.Values(); err != nil {
			return Table{}, err
		}
	}
	return rows.table(), rows.Err()
}

// tableRows are the rows of a table with their checksum; it is a pgx.CopyFromSource.
type tableRows struct {
	*sql.Rows
	name     string
	columns  []string
	values   []any
	targets  []any // pointers to values
	order    []int // columns by their names
	count    int64
	sum      [4]uint64
	hash     hash.Hash
	progress func(table string, rows int64)
}

func (tx *Tx) open(ctx context.Context, table string) (*tableRows, error) {
	rows, err := tx.QueryContext(ctx, "SELECT * FROM "+quoted(table))
	if err != nil {
		return nil, err
	}
	r := &tableRows{Rows: rows, name: table, hash: sha256.New()}
	if r.columns, err = rows.Columns(); err != nil {
		rows.Close()
		return nil, err
	}
	r.values, r.targets = make([]any, len(r.columns)), make([]any, len(r.columns))
	for i := range r.columns {
		r.targets[i] = &r.values[i]
		r.order = append(r.order, i)
	}
	slices.SortFunc(r.order, func(a, b int) int { return strings.Compare(r.columns[a], r.columns[b]) })
	return r, nil
}

// Values reads the row and adds it to the checksum.
func (r *tableRows) Values() ([]any, error) {
	if err := r.Scan(r.targets...); err != nil {
		return nil, err
	}
	for i, value := range r.values {
		// SQLite's driver gives an empty BLOB as nil bytes, which drivers would store as NULL.
		if bytes, ok := value.([]byte); ok && bytes == nil {
			r.values[i] = []byte{}
		}
	}
	r.hash.Reset()
	for _, i := range r.order {
		if err := hashValue(r.hash, r.values[i]); err != nil {
			return nil, fmt.Errorf("column %s: %w", r.columns[i], err)
		}
	}
	// The sum of the rows' hashes does not depend on their order.
	digest := r.hash.Sum(nil)
	for i := range r.sum {
		r.sum[i] += binary.BigEndian.Uint64(digest[8*i:])
	}
	if r.count++; r.progress != nil && r.count%progressRows == 0 {
		r.progress(r.name, r.count)
	}
	return r.values, nil
}

func (r *tableRows) table() Table {
	return Table{r.name, r.count, fmt.Sprintf("%016x%016x%016x%016x", r.sum[0], r.sum[1], r.sum[2], r.sum[3])}
}

// hashValue writes a value's kind, length and content.
func hashValue(h hash.Hash, value any) error {
	kind, text, number := byte('n'), "", uint64(0)
	switch v := value.(type) {
	case nil:
	case int64:
		kind, number = 'i', uint64(v)
	case float64:
		kind, number = 'f', math.Float64bits(v)
	case string:
		kind, text, number = 't', v, uint64(len(v))
	case []byte:
		kind, text, number = 'b', string(v), uint64(len(v))
	default:
		return fmt.Errorf("a value of type %T cannot be copied", value)
	}
	h.Write(binary.BigEndian.AppendUint64([]byte{kind}, number))
	h.Write([]byte(text))
	return nil
}

func (r *tableRows) insert(ctx context.Context, out *Tx) error {
	columns := make([]string, len(r.columns))
	for i, name := range r.columns {
		columns[i] = quoted(name)
	}
	statement, err := out.tx.PrepareContext(ctx, fmt.Sprintf("INSERT INTO %s (%s) VALUES (?%s)", quoted(r.name), strings.Join(columns, ", "), strings.Repeat(", ?", len(columns)-1)))
	if err != nil {
		return err
	}
	defer statement.Close()
	for r.Next() {
		values, err := r.Values()
		if err != nil {
			return err
		}
		if _, err := statement.ExecContext(ctx, values...); err != nil {
			return err
		}
	}
	return nil
}

// Tables reads everything in the database at location at one moment.
func Tables(ctx context.Context, location string) (tables []Table, err error) {
	s, err := openExisting(ctx, location)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", Name(location), err)
	}
	defer s.Close()
	err = s.View(ctx, func(tx *Tx) error {
		if err := tx.takeTime(ctx); err != nil {
			return err
		}
		names, err := tx.tables(ctx)
		if err != nil {
			return err
		}
		for _, name := range names {
			table, err := tx.read(ctx, name)
			if err != nil {
				return fmt.Errorf("table %s: %w", name, err)
			}
			tables = append(tables, table)
		}
		return nil
	})
	return tables, err
}
