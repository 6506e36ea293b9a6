package catalog

import (
	"testing"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/controltest"
	"fieldgate/engine/store"
)

// What another form of the compiler made is compiled anew, and what was decided about it stays.
func TestRecompile(t *testing.T) {
	ctx := controltest.Context(t)
	c, b := open(t, t.TempDir())
	publish(t, c, document("Thermo", "1.0.0", "/a"))
	publish(t, c, document("Meter", "1.0.0", "/m"))
	if _, err := c.Deprecate(ctx, "thermo", "1.0.0", "2027-06-30", "", 0); err != nil {
		t.Fatal(err)
	}
	before, _ := fetch(t, b)
	if err := c.Recompile(ctx); err != nil {
		t.Fatal(err)
	}
	if after, _ := fetch(t, b); after != before {
		t.Fatal("what this form made was compiled anew")
	}

	// An older compiler left something out of thermo, and made the same of meter.
	err := c.store.Update(ctx, func(tx *store.Tx) error {
		k, err := readContract(ctx, tx, "thermo", "1.0.0")
		if err != nil {
			return err
		}
		k.Operations = nil
		if _, err := updateContract(ctx, tx, k, before); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE contract SET form = 0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := c.Recompile(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if after, _ := fetch(t, b); after != before+1 {
		t.Fatalf("snapshot %d after %d", after, before)
	}
	versions, served, _, err := c.Get(ctx, "thermo")
	if err != nil || len(served) != 1 || len(served[0].Operations) != 1 || versions[0].State != fieldgate.LifecycleDeprecated || versions[0].Sunset != "2027-06-30" {
		t.Fatalf("%+v %+v %v", versions, served, err)
	}
	entries, err := audit.List(ctx, c.store, audit.Filter{Limit: 1})
	if err != nil || entries[0].Actor.Name != "fieldgate" || entries[0].Action != "api.recompile" || entries[0].Target != "thermo 1.0.0" {
		t.Fatalf("%+v %v", entries, err)
	}
}

// A document that this compiler refuses is served on as it was compiled.
func TestRecompileOfWhatIsRefusedNow(t *testing.T) {
	ctx := controltest.Context(t)
	c, b := open(t, t.TempDir())
	publish(t, c, document("Thermo", "1.0.0", "/a"))
	err := c.store.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE contract SET form = 0, document = ?", []byte("openapi: 2.9"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Recompile(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, b, "thermo 1.0.0:active")
}
