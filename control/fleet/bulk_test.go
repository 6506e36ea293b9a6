package fleet

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"fieldgate/control/controltest"
	"fieldgate/control/directory"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

func linesOf(first, last int) (lines []Line) {
	for i := first; i <= last; i++ {
		lines = append(lines, Line{i, NewDevice{ID: fmt.Sprintf("d%05d", i), Model: "T2"}})
	}
	return lines
}

func devices(t *testing.T, n node) (count int64) {
	t.Helper()
	err := n.store.View(t.Context(), func(tx *store.Tx) (err error) {
		count, err = directory.Count(t.Context(), tx, "device")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// registerRest registers what is left, and returns how many devices that were.
func registerRest(t *testing.T, b *Bulk) (count int) {
	t.Helper()
	for {
		registered, err := b.Register(controltest.Context(t), 700)
		if err != nil {
			t.Fatal(err)
		}
		if len(registered) == 0 {
			return count
		}
		if registered[0].Token == "" || registered[0].Line == 0 {
			t.Fatalf("%+v", registered[0])
		}
		count += len(registered)
	}
}

func TestBulk(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of devices")
	}
	ctx := controltest.Context(t)
	n := open(t, t.TempDir())
	if _, _, err := n.Add(ctx, NewDevice{ID: "d00003"}); err != nil {
		t.Fatal(err)
	}
	b, err := n.BeginBulk(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer b.End()
	// Bad lines are told by their numbers: one that is taken, one that is listed twice, one that can be no id.
	refused, err := b.Check(ctx, append(linesOf(1, 4), Line{5, NewDevice{ID: "d00001"}}, Line{6, NewDevice{ID: "a/b"}}))
	if err != nil || len(refused) != 3 || refused[0].Line != 3 || refused[1].Line != 5 || refused[2].Line != 6 {
		t.Fatalf("%+v %v", refused, err)
	}
	if err := b.Forget(ctx); err != nil || devices(t, n) != 1 {
		t.Fatalf("%v", err)
	}

	b, err = n.BeginBulk(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer b.End()
	if refused, err := b.Check(ctx, linesOf(100, 2099)); err != nil || len(refused) != 0 {
		t.Fatalf("%+v %v", refused, err)
	}
	if devices(t, n) != 1 {
		t.Fatal("checked lines are registered")
	}
	if err := b.Decide(ctx); err != nil {
		t.Fatal(err)
	}
	// What is decided has its ids, before they are registered.
	var why *refusal.Error
	if _, _, err := n.Add(ctx, NewDevice{ID: "d00500"}); !errors.As(err, &why) || why.Code != refusal.CodeConflict {
		t.Fatalf("%v", err)
	}
	if count := registerRest(t, b); count != 2000 || devices(t, n) != 2001 {
		t.Fatalf("%d", count)
	}
}

// Who registers a device while an import is checked is faster.
func TestBulkMeetsOthers(t *testing.T) {
	ctx := controltest.Context(t)
	n := open(t, t.TempDir())
	begin := func() *Bulk {
		b, err := n.BeginBulk(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.End)
		if _, err := b.Check(ctx, linesOf(1, 10)); err != nil {
			t.Fatal(err)
		}
		return b
	}
	one, other := begin(), begin()
	if err := one.Decide(ctx); err != nil {
		t.Fatal(err)
	}
	var why *refusal.Error
	if err := other.Decide(ctx); !errors.As(err, &why) || why.Code != refusal.CodeConflict {
		t.Fatalf("of two imports of the same devices both are decided: %v", err)
	}
	registerRest(t, one)
	if err := other.Decide(ctx); !errors.As(err, &why) || why.Code != refusal.CodeConflict {
		t.Fatalf("%v", err)
	}
}

// A node that dies leaves nothing of what was not decided; what was decided is finished by another.
func TestBulkIsFinishedByAnotherNode(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of devices")
	}
	ctx := controltest.Context(t)
	n := open(t, t.TempDir())
	dead, err := n.BeginBulk(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dead.Check(ctx, linesOf(1, 1500)); err != nil {
		t.Fatal(err)
	}
	decided, err := n.BeginBulk(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decided.Check(ctx, linesOf(2001, 4000)); err != nil {
		t.Fatal(err)
	}
	if err := decided.Decide(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := decided.Register(ctx, 100); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	look := func(later time.Duration) {
		t.Helper()
		if err := n.finishBulks(ctx, now.Add(later)); err != nil {
			t.Fatal(err)
		}
	}
	look(0)
	look(2 * bulkStale)
	if count := devices(t, n); count != 100 {
		t.Fatalf("somebody else finishes what is worked on: %d devices", count)
	}
	dead.End()
	decided.End()
	look(2 * bulkStale) // seen for the first time
	if count := devices(t, n); count != 100 {
		t.Fatalf("what may be worked on by another node is finished: %d devices", count)
	}
	look(3 * bulkStale)
	if count := devices(t, n); count != 2000 {
		t.Fatalf("%d devices", count)
	}
	var left int
	err = n.store.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM import_job) + (SELECT COUNT(*) FROM import_line)").Scan(&left)
	})
	if err != nil || left != 0 {
		t.Fatalf("%d rows are left, %v", left, err)
	}
}

// A node that stood still for so long that another one cleared its import away is refused when it goes on: it must not say that what
// is gone is registered, nor register what it still checks.
func TestBulkThatWakesLate(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of devices")
	}
	ctx := controltest.Context(t)
	n := open(t, t.TempDir())
	for name, wake := range map[string]func(b *Bulk) error{
		"and checks on":   func(b *Bulk) error { _, err := b.Check(ctx, linesOf(2001, 2100)); return err },
		"and decides":     func(b *Bulk) error { return b.Decide(ctx) },
		"halfway through": func(b *Bulk) error { return b.Decide(ctx) },
	} {
		late, err := n.BeginBulk(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := late.Check(ctx, linesOf(1, 2000)); err != nil {
			t.Fatal(err)
		}
		late.End() // it is another node's
		if name == "halfway through" {
			if _, err := late.forget(ctx); err != nil {
				t.Fatal(err)
			}
		} else {
			now := time.Now()
			for _, at := range []time.Time{now, now.Add(2 * bulkStale)} {
				if err := n.finishBulks(ctx, at); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := wake(late); !errors.Is(err, errGivenUp) {
			t.Errorf("%s: %v", name, err)
		}
		if count := devices(t, n); count != 0 {
			t.Errorf("%s: %d devices", name, count)
		}
		if err := late.Forget(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
