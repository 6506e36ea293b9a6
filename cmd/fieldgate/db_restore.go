package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"fieldgate/control/schema"
	"fieldgate/engine/store"
)

func dbRestore(c *cli) *cobra.Command {
	var replace bool
	command := &cobra.Command{
		Use:   "restore FILE [DATABASE]",
		Short: "Put a backup in place of a database whose nodes are stopped",
		Long: `Check a backup and put what it holds in place of the database, brought to the schema of this program. Stop the nodes first. An SQLite
database is kept beside the restored one, under a name that ends in .before-restore; what is in a PostgreSQL database is overwritten only with
--replace. Gateways take over contracts, devices and apps anew.`,
		Example: `  fieldgate db restore /backup/fieldgate.db
  fieldgate db restore /backup/fieldgate.db postgres://fieldgate@db.example/fieldgate --replace`,
		Args: databaseArguments("FILE"),
		RunE: func(command *cobra.Command, args []string) error {
			location, err := c.locationOr(args, 1)
			if err != nil {
				return err
			}
			if err := databaseFile(args[0]); err != nil {
				return err
			}
			kept, err := c.restore(command, args[0], location, replace)
			if errors.Is(err, store.ErrBusy) {
				err = fmt.Errorf("%w (is its node stopped?)", err)
			}
			if err != nil {
				return fmt.Errorf("restore %s: %w", store.Name(location), err)
			}
			out := command.OutOrStdout()
			if c.output == formatJSON {
				return printJSON(out, map[string]string{"database": store.Name(location), "restored": args[0], "kept": kept})
			}
			fmt.Fprintf(out, "%s is restored from %s\n", store.Name(location), args[0])
			if kept != "" {
				fmt.Fprintf(out, "%s is the database as it was before; remove it when it is not needed any more\n", kept)
			}
			return nil
		},
	}
	command.Flags().BoolVar(&replace, "replace", false, "overwrite what is in a PostgreSQL database")
	return command
}

// restore gives the name under which the former database was kept.
func (c *cli) restore(command *cobra.Command, file, location string, replace bool) (kept string, err error) {
	ctx := command.Context()
	if store.IsPostgres(location) {
		if err := c.verifyChecksum(command, file); err != nil {
			return "", err
		}
		return "", store.RestorePostgres(ctx, file, location, schema.Migrations, replace, tellRows(command))
	}
	release, err := keepNodesOut(filepath.Dir(location))
	if err != nil {
		return "", err
	}
	defer release()
	if err := c.verifyChecksum(command, file); err != nil {
		return "", err
	}
	return store.Restore(ctx, file, location, schema.Migrations)
}

// keepNodesOut holds the lock that a node takes on its data folder, until release is called.
func keepNodesOut(folder string) (release func(), err error) {
	lock, err := os.OpenFile(filepath.Join(folder, "bus", "lock"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil // no node has ever run there
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("a node is running on %s: stop it first", folder)
		}
		return nil, err
	}
	return func() { lock.Close() }, nil
}
