package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Ctrl-C ends apply between two changes: the secret of one that is under way is kept, since it is told once.
func TestInterruptedApplyKeepsSecrets(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	device := func(id string) *step {
		return &step{Action: actionCreate, Kind: "device", ID: id, apply: func(ctx context.Context) (string, error) {
			if id == "d2" {
				interrupt()
			}
			return "secret of " + id, ctx.Err()
		}}
	}
	path := filepath.Join(t.TempDir(), "tokens")
	secrets, err := openTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	err = applySteps(ctx, nil, io.Discard, []*step{device("d1"), device("d2"), device("d3")}, secrets)
	if err = errors.Join(err, secrets.close()); err == nil || err.Error() != "interrupted: 2 of 3 changes were made; apply again to go on" {
		t.Error(err)
	}
	kept, err := os.ReadFile(path)
	if err != nil || strings.Count(string(kept), "\n") != 2 || !strings.Contains(string(kept), "secret of d2") {
		t.Errorf("%s %v", kept, err)
	}
}
