package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/control/schema"
	"fieldgate/engine/store"
)

// migration is one change of the schema as it is told to programs.
type migration struct {
	Number  int        `json:"number"`
	Name    string     `json:"name"`
	Applied *time.Time `json:"applied,omitempty"` // not there: it is yet to come
}

func dbStatus(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "status [DATABASE]",
		Short:   "List the migrations that a database has, and those it lacks",
		Example: "  fieldgate db status\n  fieldgate db status /backup/fieldgate.db",
		Args:    databaseArguments(),
		RunE: func(command *cobra.Command, args []string) error {
			location, err := c.locationOr(args, 0)
			if err != nil {
				return err
			}
			return c.printMigrations(command.Context(), command.OutOrStdout(), location)
		},
	}
}

func dbMigrate(c *cli) *cobra.Command {
	var dryRun bool
	command := &cobra.Command{
		Use:   "migrate [DATABASE]",
		Short: "Bring a database to the schema of this program, as \"serve\" does at its start",
		Long: `Bring a database to the schema of this program. "fieldgate serve" does the same at its start; of several nodes that start at once, one does it.
Make a backup first: an older program refuses a migrated database.`,
		Example: "  fieldgate db migrate --dry-run\n  fieldgate db migrate postgres://fieldgate@db.example/fieldgate",
		Args:    databaseArguments(),
		RunE: func(command *cobra.Command, args []string) error {
			ctx := command.Context()
			location, err := c.locationOr(args, 0)
			if err != nil {
				return err
			}
			if !store.IsPostgres(location) {
				// A file of a mistyped name must not be created.
				if err := databaseFile(location); err != nil {
					return err
				}
			}
			if !dryRun {
				s, err := store.Open(ctx, location, schema.Migrations)
				if err != nil {
					return err
				}
				if err := s.Close(); err != nil {
					return err
				}
			}
			return c.printMigrations(ctx, command.OutOrStdout(), location)
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "only list what would be applied")
	return command
}

func (c *cli) printMigrations(ctx context.Context, w io.Writer, location string) error {
	known, err := store.Migrations(ctx, location, schema.Migrations)
	if err != nil {
		return err
	}
	migrations := make([]migration, len(known))
	t := newTable(w, "MIGRATION", "APPLIED")
	for i, m := range known {
		migrations[i] = migration{Number: m.Number, Name: m.Name}
		applied := cell{"pending", yellow}
		if !m.Applied.IsZero() {
			migrations[i].Applied = &m.Applied
			applied = cell{text: shortTime(m.Applied)}
		}
		t.add(cell{text: m.Name}, applied)
	}
	if c.output == formatJSON {
		return printJSON(w, migrations)
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s\n", store.Name(location))
	return nil
}
