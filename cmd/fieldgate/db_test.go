package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"fieldgate/test/postgres"
)

// startPostgres gives scripts an empty PostgreSQL database, whose URL it puts into a variable.
func startPostgres(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: postgres VARIABLE")
		}
		ts.Setenv(args[0], postgres.Start(t))
	}
}
