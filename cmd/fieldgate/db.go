package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"fieldgate/engine/store"
)

func newDB(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:   "db",
		Short: "Back up, restore, move and upgrade the database",
		Long: `Back up, restore, move and upgrade the database.

A database is named by the path of its SQLite file, or by a URL such as postgres://fieldgate@db.example/fieldgate. Where it is left out, it is
that of the environment file. Keep passwords out of the command line: set PGPASSWORD, or write a ~/.pgpass file.`,
		Example: `  fieldgate db backup /backup/fieldgate.db
  fieldgate db copy data/fieldgate.db postgres://fieldgate@db.example/fieldgate
  fieldgate db status`,
	}, dbBackup(c), dbVerify(c), dbRestore(c), dbCopy(c), dbStatus(c), dbMigrate(c))
}

// storeLocation is the database of the environment file.
func (c *cli) storeLocation() (string, error) {
	e, err := readEnvironment(c.environmentPath())
	if err != nil {
		return "", fmt.Errorf("which database? Name its file or URL, or the environment file with --config (%w)", err)
	}
	return e.storeLocation()
}

// locationOr is a database given as the last argument, after the others, or else that of the environment file.
func (c *cli) locationOr(args []string, others int) (string, error) {
	if len(args) > others {
		return args[others], nil
	}
	return c.storeLocation()
}

// databaseArguments demands the named arguments and takes a database after them.
func databaseArguments(names ...string) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if len(args) > len(names) {
			names = append(names, "DATABASE")
		}
		return arguments(names...)(command, args)
	}
}

// databaseFile refuses what is no file.
func databaseFile(path string) error {
	if store.IsPostgres(path) {
		return fmt.Errorf("%s is no file", store.Name(path))
	}
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no database %s", path)
	}
	return err
}

// tellRows tells how far a copy has come.
func tellRows(command *cobra.Command) func(table string, rows int64) {
	return func(table string, rows int64) {
		fmt.Fprintf(command.ErrOrStderr(), "%s: %s\n", table, plural(rows, "row"))
	}
}

func printTables(w io.Writer, tables []store.Table) error {
	t := newTable(w, "TABLE", "ROWS")
	for _, table := range tables {
		t.add(cells(table.Name, fmt.Sprint(table.Rows))...)
	}
	return t.flush()
}
