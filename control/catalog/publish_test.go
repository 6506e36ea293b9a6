package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/control/audit"
	"fieldgate/control/controltest"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

// documents are named a.yaml, b.yaml and so on.
func documents(contents ...[]byte) (list []Document) {
	for i, content := range contents {
		list = append(list, Document{string(rune('a'+i)) + ".yaml", content})
	}
	return list
}

func publishAll(t *testing.T, c *Catalog, contents ...[]byte) []*Plan {
	t.Helper()
	plans, err := c.PublishAll(controltest.Context(t), documents(contents...), false)
	if err != nil {
		t.Fatal(err)
	}
	return plans
}

// refuseAll expects documents to be refused with texts, each beginning with the name of the document.
func refuseAll(t *testing.T, c *Catalog, contents [][]byte, want ...string) {
	t.Helper()
	for _, dryRun := range []bool{true, false} {
		plans, err := c.PublishAll(controltest.Context(t), documents(contents...), dryRun)
		var refused *RefusedError
		if !errors.As(err, &refused) || plans != nil || refused.Documents != len(contents) || len(refused.Refused) != len(want) {
			t.Errorf("dry run %v: %v", dryRun, err)
			return
		}
		for i, text := range want {
			file, part, _ := strings.Cut(text, ": ")
			if got := refused.Refused[i]; got.Name != file || !strings.Contains(got.Err.Error(), part) {
				t.Errorf("dry run %v: %s: %v, want %s", dryRun, got.Name, got.Err, text)
			}
		}
	}
}

func TestPublishAll(t *testing.T) {
	ctx := controltest.Context(t)
	c, b := open(t, t.TempDir())
	nudges := make(chan struct{}, 16)
	stop, err := b.Subscribe(fieldgate.SubjectSnapshotChanged, func(string, []byte) { nudges <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	publish(t, c, document("Gamma", "1.0.0", "/g"))
	<-nudges

	contents := [][]byte{document("Alpha", "1.0.0", "/a"), document("Beta", "1.0.0", "/b"), document("Gamma", "1.0.0", "/g")}
	plans, err := c.PublishAll(ctx, documents(contents...), true)
	if err != nil || len(plans) != 3 || plans[0].Change != ChangeNewAPI || plans[0].Applied || plans[2].Change != ChangeNone {
		t.Fatalf("%+v %v", plans, err)
	}
	expect(t, b, "gamma 1.0.0:active") // a dry run changes nothing
	plans = publishAll(t, c, contents...)
	for i, want := range []string{"alpha new-api true 2", "beta new-api true 2", "gamma none false 0"} {
		if p := plans[i]; fmt.Sprint(p.Contract.API, " ", p.Change, " ", p.Applied, " ", p.Snapshot) != want {
			t.Errorf("%+v, want %s", p, want)
		}
	}
	expect(t, b, "alpha 1.0.0:active beta 1.0.0:active gamma 1.0.0:active")
	if version, _ := fetch(t, b); version != 2 {
		t.Errorf("snapshot %d", version)
	}
	<-nudges
	select {
	case <-nudges:
		t.Error("gateways were told twice of one decision")
	default:
	}
	entries, err := audit.List(ctx, c.store, audit.Filter{Limit: 9})
	if err != nil || len(entries) != 3 || entries[0].Target != "beta 1.0.0" || entries[1].Target != "alpha 1.0.0" {
		t.Errorf("%+v %v", entries, err)
	}
	for _, plan := range publishAll(t, c, contents...) {
		if plan.Change != ChangeNone {
			t.Errorf("published twice: %+v", plan)
		}
	}
	if version, _ := fetch(t, b); version != 2 {
		t.Errorf("publishing the same made snapshot %d", version)
	}
}

// One document that is refused keeps all from being published, and the findings are those of every document.
func TestPublishAllOrNothing(t *testing.T) {
	c, b := open(t, t.TempDir())
	publish(t, c, document("Alpha", "1.0.0", "/a"))
	refuseAll(t, c, [][]byte{document("Beta", "1.0.0", "/b"), []byte("openapi: 2.9"), document("Gamma", "1.0.0", "/a"), document("Fieldgate", "1.0.0", "/f")},
		"b.yaml: b.yaml:1:", "d.yaml: Fieldgate's own API", "c.yaml: already served by alpha 1.0.0")
	// Both claim a route that nobody has.
	refuseAll(t, c, [][]byte{document("Beta", "1.0.0", "/b"), document("Gamma", "1.0.0", "/b")},
		"a.yaml: HTTP POST /b of a.yaml is claimed by b.yaml as well", "b.yaml: claimed by a.yaml as well (beta 1.0.0, operation op0-b)")
	refuseAll(t, c, [][]byte{document("Beta", "1.0.0", "/b"), document("Gamma", "1.0.0", "/g"), document("Beta", "1.0.0", "/c")},
		"c.yaml: a.yaml and c.yaml are both beta 1.0.0: keep one of them")
	// Published in turn they would supersede each other, in whichever order they stand and whether or not one is there.
	refuseAll(t, c, [][]byte{document("Beta", "1.0.0", "/b"), document("Beta", "2.0.0", "/b")},
		"b.yaml: a.yaml and b.yaml are versions of beta on the same routes: keep one of them")
	refuseAll(t, c, [][]byte{document("Alpha", "2.0.0", "/a"), document("Alpha", "1.0.0", "/a")},
		"a.yaml: b.yaml and a.yaml are versions of alpha on the same routes: keep one of them")
	expect(t, b, "alpha 1.0.0:active")
	// What was refused left nothing behind among the routes.
	publishAll(t, c, document("Delta", "1.0.0", "/b"), document("Epsilon", "1.0.0", "/g", "/c"))
	refuseAll(t, c, [][]byte{document("Zeta", "1.0.0", "/a")}, "a.yaml: already served by alpha 1.0.0")
}

// Each document counts on those before it, and routes are those that all of them leave.
func TestPublishAllTogether(t *testing.T) {
	ctx := controltest.Context(t)
	c, b := open(t, t.TempDir())
	publishAll(t, c, document("Alpha", "1.0.0", "/a"), document("Beta", "1.0.0", "/b"))
	publishAll(t, c, document("Alpha", "1.0.0", "/b"), document("Beta", "1.0.0", "/a"))  // they exchange their routes
	publishAll(t, c, document("Gamma", "1.0.0", "/b"), document("Alpha", "1.0.0", "/c")) // freed by a document that follows
	expect(t, b, "alpha 1.0.0:active beta 1.0.0:active gamma 1.0.0:active")

	// Versions beside each other are one entry of the list, whose newest is the later document.
	snapshot, _ := fetch(t, b)
	replacing := strings.Replace(string(document("Delta", "2.0.0", "/d2")), "security:", "x-fieldgate: {lifecycle: {replaces: 1.0.0, sunset-of-replaced: 2030-06-30}}\nsecurity:", 1)
	plans := publishAll(t, c, document("Delta", "1.0.0", "/d1"), []byte(replacing), document("Eta", "1.0.0", "/e"))
	if plans[0].Change != ChangeNewAPI || plans[1].Change != ChangeNewVersion || plans[0].Snapshot != plans[1].Snapshot || plans[2].Snapshot != plans[0].Snapshot {
		t.Errorf("%+v %+v %+v", plans[0], plans[1], plans[2])
	}
	if version, _ := fetch(t, b); version != plans[2].Snapshot || version <= snapshot {
		t.Errorf("snapshot %d after %d", version, snapshot)
	}
	list, err := c.List(ctx, Filter{Limit: 9, After: "d"})
	if err != nil || len(list) != 3 || list[0].API != "delta" || list[0].Version.Version != "2.0.0" || list[0].Versions != 2 {
		t.Errorf("%+v %v", list, err)
	}
	versions, _, _, err := c.Get(ctx, "delta")
	if err != nil || versions[0].Version != "2.0.0" || versions[1].State != fieldgate.LifecycleDeprecated || versions[1].Sunset != "2030-06-30" || versions[1].Successor != "2.0.0" {
		t.Errorf("%+v %v", versions, err)
	}

	// A folder with an old version beside that in its place changes nothing.
	publish(t, c, document("Eta", "2.0.0", "/e"))
	for _, plan := range publishAll(t, c, document("Eta", "1.0.0", "/e"), document("Eta", "2.0.0", "/e")) {
		if plan.Change != ChangeNone {
			t.Errorf("%+v", plan)
		}
	}
}

// What a node knows of live contracts stays true when a transaction is rolled back, after all has been written too.
func TestRoutesAfterRollback(t *testing.T) {
	c, b := open(t, t.TempDir())
	publish(t, c, document("Alpha", "1.0.0", "/a"))
	// Without an actor the audit refuses what is written already.
	if _, err := c.PublishAll(t.Context(), documents(document("Beta", "1.0.0", "/b"), document("Alpha", "1.0.0", "/c")), false); err == nil {
		t.Fatal("a decision of nobody")
	}
	expect(t, b, "alpha 1.0.0:active")
	refuseAll(t, c, [][]byte{document("Gamma", "1.0.0", "/a")}, "a.yaml: already served by alpha 1.0.0")
	publishAll(t, c, document("Gamma", "1.0.0", "/b", "/c"))
	refuseAll(t, c, [][]byte{document("Beta", "1.0.0", "/b")}, "a.yaml: already served by gamma 1.0.0")
}

// PostgreSQL may give a transaction up when part of it is written: it runs again from the beginning.
func TestPublishAllAgain(t *testing.T) {
	ctx := controltest.Context(t)
	c, b := open(t, t.TempDir())
	publish(t, c, document("Alpha", "1.0.0", "/a"))
	if c.store.Shared() {
		err := c.store.Update(ctx, func(tx *store.Tx) error {
			_, err := tx.ExecContext(ctx, `CREATE SEQUENCE inserted; CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql AS
				$$ BEGIN IF nextval('inserted') = 2 THEN RAISE 'again' USING ERRCODE = 'serialization_failure'; END IF; RETURN NEW; END $$;
				CREATE TRIGGER give_up BEFORE INSERT ON contract FOR EACH ROW EXECUTE FUNCTION give_up()`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	plans := publishAll(t, c, document("Alpha", "1.0.0", "/c"), document("Beta", "1.0.0", "/a"), document("Gamma", "1.0.0", "/g"))
	for i, want := range []Change{ChangeReplacement, ChangeNewAPI, ChangeNewAPI} {
		if plans[i].Change != want || !plans[i].Applied || plans[i].Snapshot != 2 {
			t.Errorf("%+v", plans[i])
		}
	}
	expect(t, b, "alpha 1.0.0:active beta 1.0.0:active gamma 1.0.0:active")
	refuseAll(t, c, [][]byte{document("Delta", "1.0.0", "/a"), document("Eta", "1.0.0", "/c")},
		"a.yaml: already served by beta 1.0.0", "b.yaml: already served by alpha 1.0.0")
}

// What the documents become together is bounded, and what they say wrong.
func TestPublishAllIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles hundreds of documents")
	}
	c, _ := open(t, t.TempDir())
	var wrong strings.Builder
	wrong.WriteString("openapi: 3.1.0\ninfo: {title: Wrong, version: 1.0.0}\npaths:\n")
	for i := range 200 {
		fmt.Fprintf(&wrong, "  /%d: {get: {operationId: '?%d', security: [], responses: {'204': {description: d}}}}\n", i, i)
	}
	list := make([]Document, MaxDocuments)
	for i := range list {
		list[i] = Document{fmt.Sprint(i), []byte(wrong.String())}
	}
	_, err := c.PublishAll(controltest.Context(t), list, true)
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	findings := 0
	var invalid *contract.InvalidError
	for _, d := range refused.Refused {
		if errors.As(d.Err, &invalid) {
			findings += len(invalid.Errors)
		}
	}
	var last *refusal.Error
	if findings > maxFindings+1000 || !errors.As(refused.Refused[len(refused.Refused)-1].Err, &last) || !strings.Contains(last.Detail, "smaller portions") {
		t.Errorf("%d findings, last %v", findings, refused.Refused[len(refused.Refused)-1])
	}
}

func TestServed(t *testing.T) {
	ctx := controltest.Context(t)
	c, _ := open(t, t.TempDir())
	open := strings.NewReplacer("security: [{token: []}]\n", "security: []\nx-fieldgate: {upstreams: {main: {ref: env/ingest}}, upstream: main}\n").Replace(string(document("Alpha", "1.0.0", "/a", "/b")))
	publishAll(t, c, []byte(open), document("Beta", "1.0.0", "/x"), document("Gamma", "1.0.0", "/g"))
	if _, err := c.Deprecate(ctx, "beta", "1.0.0", "2030-06-30", "", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Retire(ctx, "gamma", "1.0.0", 0); err != nil {
		t.Fatal(err)
	}
	served, err := c.Served(ctx)
	for range 2 { // a dry run is not what is served
		if _, err := c.PublishAll(ctx, documents(document("Delta", "1.0.0", "/d")), true); err != nil {
			t.Fatal(err)
		}
		if again, err := c.Served(ctx); err != nil || fmt.Sprint(again) != fmt.Sprint(served) {
			t.Errorf("%v %v", again, err)
		}
	}
	want := "[{alpha 1.0.0 openapi active  [op0-a op1-b] [ingest]} {beta 1.0.0 openapi deprecated 2030-06-30 [] []}]"
	if err != nil || fmt.Sprint(served) != want {
		t.Errorf("%v %v, want %s", served, err, want)
	}
}
