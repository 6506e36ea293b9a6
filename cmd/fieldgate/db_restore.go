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
	return &cobra.Command{
		Use:   "restore FILE [DATABASE]",
		Short: "Put a backup in place of an SQLite database whose node is stopped",
		Long: `Check a backup and put a copy of it in place of the SQLite database, which is kept beside it under a name that ends in .before-restore. Stop
the node first. Gateways take over contracts, devices and apps anew when it is back.`,
		Example: "  fieldgate db restore /backup/fieldgate.db",
		Args:    databaseArguments("FILE"),
		RunE: func(command *cobra.Command, args []string) error {
			location, err := c.locationOr(args, 1)
			if err != nil {
				return err
			}
			if store.IsPostgres(location) {
				return fmt.Errorf("%s is a PostgreSQL database: restore it with pg_restore, or with \"fieldgate db copy --replace %s %[1]s\"", store.Name(location), args[0])
			}
			if err := sqliteFile(args[0], "there is no file to restore"); err != nil {
				return err
			}
			release, err := keepNodesOut(filepath.Dir(location))
			if err != nil {
				return err
			}
			defer release()
			if err := c.verify(command, args[0]); err != nil {
				return err
			}
			kept, err := store.Restore(command.Context(), args[0], location, schema.Migrations)
			if errors.Is(err, store.ErrBusy) {
				err = fmt.Errorf("%w (is its node stopped?)", err)
			}
			if err != nil {
				return fmt.Errorf("restore %s: %w", location, err)
			}
			out := command.OutOrStdout()
			if c.output == formatJSON {
				return printJSON(out, map[string]string{"database": location, "restored": args[0], "kept": kept})
			}
			fmt.Fprintf(out, "%s is restored from %s\n", location, args[0])
			if kept != "" {
				fmt.Fprintf(out, "%s is the database as it was before; remove it when it is not needed any more\n", kept)
			}
			return nil
		},
	}
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
