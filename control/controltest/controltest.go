// Package controltest opens real engines for the tests of the control plane.
package controltest

import (
	"log/slog"
	"path/filepath"
	"testing"

	"fieldgate/control/schema"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// Store opens the database of a data directory and closes it when the test ends.
func Store(t testing.TB, directory string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(directory, "fieldgate.db"), schema.Migrations)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Bus opens the bus of a data directory and closes it when the test ends.
func Bus(t testing.TB, directory string) *bus.Bus {
	t.Helper()
	b, err := bus.Open(bus.Config{Directory: filepath.Join(directory, "bus"), Log: Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// Log writes to the output of the test.
func Log(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
