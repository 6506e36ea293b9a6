package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"fieldgate/control/schema"
	"fieldgate/engine/store"
)

func dbCopy(c *cli) *cobra.Command {
	var replace bool
	command := &cobra.Command{
		Use:   "copy FROM TO",
		Short: "Copy a database from one engine to the other, and compare the two",
		Long: `Copy everything that is in one database to an empty one, from SQLite to PostgreSQL, back, or between two of a kind; then read both and
compare rows and checksums. The copy is there whole or not at all: a node refuses a database whose copy was interrupted, and the next run
begins it anew. Stop the node first, or what is decided meanwhile is not in the copy.`,
		Example: `  fieldgate db copy data/fieldgate.db postgres://fieldgate@db.example/fieldgate
  fieldgate db copy postgres://fieldgate@db.example/fieldgate portable.db`,
		Args: arguments("FROM", "TO"),
		RunE: func(command *cobra.Command, args []string) error {
			errOut := command.ErrOrStderr()
			from, to := args[0], args[1]
			if !store.IsPostgres(from) {
				if release, err := keepNodesOut(filepath.Dir(from)); err == nil {
					release()
				} else {
					fmt.Fprintf(errOut, "Careful: %v, or what is decided from now on is not in the copy.\n", err)
				}
			}
			if !store.IsPostgres(to) {
				release, err := keepNodesOut(filepath.Dir(to))
				if err != nil {
					return err
				}
				defer release()
			}
			copied, err := store.Copy(command.Context(), from, to, schema.Migrations, replace, tellRows(command))
			if err != nil && !errors.Is(err, store.ErrDiffers) {
				return fmt.Errorf("copy to %s: %w", store.Name(to), err)
			}
			return errors.Join(c.printCopied(command.OutOrStdout(), copied), err)
		},
	}
	command.Flags().BoolVar(&replace, "replace", false, "overwrite the database that is at TO")
	return command
}

func (c *cli) printCopied(w io.Writer, copied []store.CopiedTable) error {
	if c.output == formatJSON {
		return printJSON(w, copied)
	}
	t := newTable(w, "TABLE", "ROWS", "COPIED", "CHECKSUM", "")
	for _, table := range copied {
		verdict := cell{"equal", green}
		if table.Source != table.Target {
			verdict = cell{"DIFFERENT", red}
		}
		t.add(cell{text: table.Source.Name}, cell{text: fmt.Sprint(table.Source.Rows)}, cell{text: fmt.Sprint(table.Target.Rows)},
			cell{text: table.Source.Checksum[:16]}, verdict)
	}
	return t.flush()
}
