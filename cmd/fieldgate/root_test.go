package main

import (
	"testing"

	"github.com/spf13/cobra"
)

// Every command says in one line what it does, and shows how it is used.
func TestEveryCommandHasHelp(t *testing.T) {
	var visit func(*cobra.Command)
	visit = func(command *cobra.Command) {
		if command.Short == "" || command.Example == "" || command.Args == nil && command.Name() != "help" {
			t.Errorf("%q lacks its help, its example or the check of its arguments", command.CommandPath())
		}
		for _, sub := range command.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(&cli{output: formatTable}))
}
