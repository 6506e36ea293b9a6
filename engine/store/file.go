package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
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
	var failure *sqlite.Error
	if err := look(ctx, db); errors.As(err, &failure) && slices.Contains(unfinished, failure.Code()) {
		if err := finish(ctx, location); err != nil {
			db.Close()
			return nil, err
		}
	}
	return &Store{read: db}, nil
}

// unfinished are the codes by which SQLite says that somebody who wrote was killed, and that it takes one who may write to roll that back.
var unfinished = []int{sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY}

// finish rolls back what was not finished.
func finish(ctx context.Context, path string) error {
	db, err := connectSQLite(path, url.Values{"mode": {"rw"}})
	if err != nil {
		return err
	}
	return explainSQLite(errors.Join(look(ctx, db), db.Close()))
}

// look reads as little as can be read.
func look(ctx context.Context, db *sql.DB) error {
	var version int
	return db.QueryRowContext(ctx, "PRAGMA schema_version").Scan(&version)
}

// Backup writes what is at one moment in the database at location to a new SQLite file at path, checks it, and gives its
// SHA-256, which it also writes to path.sha256 in the form of sha256sum. Nodes may serve from the database meanwhile. The file
// appears at path when it is whole.
func Backup(ctx context.Context, location, path string, migrations fs.FS, progress func(table string, rows int64)) (sum string, err error) {
	if _, err := os.Lstat(path); err == nil {
		return "", &fs.PathError{Op: "backup", Path: path, Err: fs.ErrExist}
	}
	partial := path + ".partial"
	// It exists beforehand, so that nobody else may read it at any moment.
	file, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("%s exists: another backup is being written, or one was killed; then remove the file", partial)
	}
	if err != nil {
		return "", err
	}
	defer os.Remove(partial) // does nothing after the renaming
	defer file.Close()
	if IsPostgres(location) {
		if _, err := Copy(ctx, location, partial, migrations, false, progress); err != nil {
			return "", err
		}
		if err := settle(ctx, partial); err != nil {
			return "", err
		}
	} else if err := vacuumInto(ctx, location, partial); err != nil {
		return "", err
	}
	if err := Verify(ctx, partial); err != nil {
		return "", err
	}
	if sum, err = Checksum(partial); err != nil {
		return "", err
	}
	if err := file.Sync(); err != nil {
		return "", err
	}
	if err := os.WriteFile(path+checksumSuffix, fmt.Appendf(nil, "%s  %s\n", sum, filepath.Base(path)), 0o600); err != nil {
		return "", err
	}
	if err := os.Rename(partial, path); err != nil {
		return "", err
	}
	return sum, syncFolder(path)
}

func vacuumInto(ctx context.Context, location, path string) error {
	source, err := openExisting(ctx, location)
	if err != nil {
		return err
	}
	defer source.Close()
	_, err = source.read.ExecContext(ctx, "VACUUM INTO ?", path)
	return explainSQLite(err)
}

// checksumSuffix is that of the file with the checksum of a backup.
const checksumSuffix = ".sha256"

// Checksum is the SHA-256 of a file.
func Checksum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// VerifyChecksum compares a backup with the file beside it that holds its checksum; known is whether there is one.
func VerifyChecksum(path string) (sum string, known bool, err error) {
	if sum, err = Checksum(path); err != nil {
		return "", false, err
	}
	text, err := os.ReadFile(path + checksumSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return sum, false, nil
	}
	if err != nil {
		return "", false, err
	}
	if want, _, _ := strings.Cut(string(text), " "); want != sum {
		return "", true, fmt.Errorf("%w (its SHA-256 is %s; %s says %.64q)", ErrCorrupt, sum, filepath.Base(path)+checksumSuffix, want)
	}
	return sum, true, nil
}

// syncFolder makes the names in a file's folder durable.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
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
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return explainSQLite(err)
	}
	return fmt.Errorf("%w (a row of %s refers to none)", ErrCorrupt, table)
}

// keptSuffix is that of the database which a restored one has replaced.
const keptSuffix = ".before-restore"

// Restore puts a copy of a backup in place of the SQLite file at path, which is kept beside it; kept is its name, empty where
// there was none. Whoever restores makes sure that no node starts meanwhile.
func Restore(ctx context.Context, backup, path string, migrations fs.FS) (kept string, err error) {
	restoring := path + ".restoring"
	defer os.Remove(restoring) // does nothing after the renaming
	if err := prepareRestore(ctx, backup, restoring, migrations); err != nil {
		return "", err
	}
	if kept, err = keep(ctx, path); err != nil {
		return "", err
	}
	if err := os.Rename(restoring, path); err != nil {
		return "", err
	}
	return kept, syncFolder(path)
}

// RestorePostgres fills the PostgreSQL database at location with a backup, as Copy does. What it held before is overwritten
// only if replace is set.
func RestorePostgres(ctx context.Context, backup, location string, migrations fs.FS, replace bool, progress func(table string, rows int64)) error {
	folder, err := os.MkdirTemp("", "fieldgate-restore-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	restoring := filepath.Join(folder, "restoring.db")
	if err := prepareRestore(ctx, backup, restoring, migrations); err != nil {
		return err
	}
	_, err = Copy(ctx, restoring, location, migrations, replace, progress)
	return err
}

// prepareRestore makes a copy of a backup that is fit to take the database's place: sound, of the present schema, and of an
// installation of its own. Its sequences begin again at those of the backup, and gateways that have seen later ones must not
// take them for the same.
func prepareRestore(ctx context.Context, backup, path string, migrations fs.FS) error {
	if err := Verify(ctx, backup); err != nil {
		return err
	}
	known, err := Migrations(ctx, backup, migrations)
	if err != nil {
		return err
	}
	if len(known) == 0 || known[0].Applied.IsZero() {
		return fmt.Errorf("%w: %s has no tables of Fieldgate", ErrUnsuitable, backup)
	}
	os.Remove(path) // of a restore that was killed
	if err := copyFile(backup, path); err != nil {
		return err
	}
	s, err := Open(ctx, path, migrations)
	if err != nil {
		return err
	}
	err = s.Update(ctx, func(tx *Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE counter SET value = ? WHERE name = 'installation'", rand.Int64N(1<<62)+1)
		return err
	})
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	return settle(ctx, path)
}

// copyFile makes a durable copy that only its owner may read.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync()
}

// keep gives the database at path a second name, so that it is there at every moment.
func keep(ctx context.Context, path string) (kept string, err error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	// A corrupt file is kept together with its log, from which somebody may yet save something.
	if err := settle(ctx, path); err != nil && !errors.Is(err, ErrCorrupt) {
		return "", err
	}
	kept = path + keptSuffix
	for _, suffix := range []string{"", "-wal", "-shm"} {
		switch err := os.Link(path+suffix, kept+suffix); {
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, fs.ErrExist) && sameFile(path+suffix, kept+suffix):
			// A restore was killed after it had kept this one.
		case errors.Is(err, fs.ErrExist):
			return "", fmt.Errorf("%s exists from an earlier restore: move it away first", kept+suffix)
		case err != nil:
			return "", err
		}
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return kept, nil
}

func sameFile(one, other string) bool {
	a, errA := os.Stat(one)
	b, errB := os.Stat(other)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// settle writes the log of an SQLite file into it, so that the file alone is the database. It fails with ErrBusy when anybody
// else has the file open.
func settle(ctx context.Context, path string) error {
	db, err := connectSQLite(path, url.Values{"_txlock": {"immediate"}}, "busy_timeout(500)")
	if err != nil {
		return err
	}
	defer db.Close()
	var mode string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode = DELETE").Scan(&mode); err != nil {
		return explainSQLite(err)
	}
	if mode != "delete" {
		return ErrBusy
	}
	return nil
}
