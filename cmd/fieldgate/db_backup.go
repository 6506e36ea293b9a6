package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"fieldgate/control/schema"
	"fieldgate/engine/store"
)

// backupFile is a backup as it is told to programs.
type backupFile struct {
	File      string        `json:"file"`
	SHA256    string        `json:"sha256"`
	Migration int           `json:"migration"` // the newest applied
	Tables    []store.Table `json:"tables"`
}

func dbBackup(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE [DATABASE]",
		Short: "Write a backup of the database, also while nodes serve from it",
		Long: `Write what is in the database at this moment to a new file that only its owner can read, check it, and write its checksum to FILE.sha256.
Nodes may go on serving meanwhile. The file appears when it is whole. It is an SQLite database, whichever engine it is of; of a large PostgreSQL
database, the tools of PostgreSQL (pg_dump, pg_basebackup) make backups too.

The backup holds hashes of credentials and the decisions of operators: keep it as safe as the database. It does not hold the operator's token
and the event streams, which lie beside the database in the data folder.`,
		Example: "  fieldgate db backup /backup/fieldgate-$(date +%F).db\n  fieldgate db backup copy.db data/fieldgate.db",
		Args:    databaseArguments("FILE"),
		RunE: func(command *cobra.Command, args []string) error {
			ctx := command.Context()
			location, err := c.locationOr(args, 1)
			if err != nil {
				return err
			}
			if !store.IsPostgres(location) {
				if err := databaseFile(location); err != nil {
					return err
				}
			}
			if _, err := store.Backup(ctx, location, args[0], schema.Migrations, tellRows(command)); err != nil {
				return fmt.Errorf("backup of %s: %w", store.Name(location), err)
			}
			return c.printBackup(ctx, command, args[0])
		},
	}
}

func dbVerify(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "verify FILE",
		Short:   "Check a backup: its checksum, every page, and every reference between rows",
		Example: "  fieldgate db verify /backup/fieldgate.db",
		Args:    arguments("FILE"),
		RunE: func(command *cobra.Command, args []string) error {
			if err := databaseFile(args[0]); err != nil {
				return err
			}
			if err := c.verifyChecksum(command, args[0]); err != nil {
				return err
			}
			if err := store.Verify(command.Context(), args[0]); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return c.printBackup(command.Context(), command, args[0])
		},
	}
}

func (c *cli) verifyChecksum(command *cobra.Command, path string) error {
	_, known, err := store.VerifyChecksum(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !known {
		fmt.Fprintf(command.ErrOrStderr(), "There is no %s.sha256: only the content of the file is checked.\n", path)
	}
	return nil
}

func (c *cli) printBackup(ctx context.Context, command *cobra.Command, path string) (err error) {
	answer := backupFile{File: path}
	if answer.SHA256, err = store.Checksum(path); err != nil {
		return err
	}
	if answer.Tables, err = store.Tables(ctx, path); err != nil {
		return err
	}
	migrations, err := store.Migrations(ctx, path, schema.Migrations)
	if err != nil {
		return err
	}
	for _, m := range migrations {
		if !m.Applied.IsZero() {
			answer.Migration = m.Number
		}
	}
	out := command.OutOrStdout()
	if c.output == formatJSON {
		return printJSON(out, answer)
	}
	t := newTable(out)
	t.add(cells("file", path)...)
	t.add(cells("sha256", answer.SHA256)...)
	t.add(cells("migration", fmt.Sprint(answer.Migration))...)
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	return printTables(out, answer.Tables)
}
