package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/control/audit"
	"fieldgate/control/controltest"
	"fieldgate/control/filter"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// document is a contract with one POST operation for each path.
func document(title, version string, paths ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "openapi: 3.1.0\ninfo: {title: %s, version: %s}\nsecurity: [{token: []}]\npaths:\n", title, version)
	for i, path := range paths {
		fmt.Fprintf(&b, "  %s:\n    post:\n      operationId: op%d-%s\n      responses: {'204': {description: stored}}\n", path, i, strings.Trim(path, "/"))
	}
	b.WriteString("components: {securitySchemes: {token: {type: http, scheme: bearer}}}\n")
	return []byte(b.String())
}

func open(t testing.TB, data string) (*Catalog, *bus.Bus) {
	t.Helper()
	b := controltest.Bus(t, data)
	c := New(controltest.Store(t, data), b, nil, controltest.Log(t))
	if _, err := c.Serve(); err != nil {
		t.Fatal(err)
	}
	return c, b
}

func publish(t *testing.T, c *Catalog, document []byte) *Plan {
	t.Helper()
	plan, err := c.Publish(controltest.Context(t), "x.yaml", document, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// fetch takes over the snapshot as a gateway does.
func fetch(t *testing.T, b *bus.Bus) (version uint64, states map[string]fieldgate.Lifecycle) {
	t.Helper()
	answer, err := b.Request(t.Context(), fieldgate.SubjectSnapshotManifest, nil)
	if err != nil {
		t.Fatal(err)
	}
	var manifest fieldgate.SnapshotManifest
	if err := json.Unmarshal(answer.Data, &manifest); err != nil {
		t.Fatal(err)
	}
	states = make(map[string]fieldgate.Lifecycle)
	for _, key := range manifest.Contracts {
		var encoded []byte
		for total := 1; len(encoded) < total; {
			request, _ := json.Marshal(fieldgate.ContractRequest{Key: key, Offset: len(encoded)})
			part, err := b.Request(t.Context(), fieldgate.SubjectSnapshotContract, request)
			if err != nil {
				t.Fatal(err)
			}
			if len(part.Data) == 0 || len(part.Data) > fieldgate.ContractPart {
				t.Fatalf("a part of %d bytes", len(part.Data))
			}
			encoded = append(encoded, part.Data...)
			if total, err = strconv.Atoi(part.Header[fieldgate.HeaderTotal]); err != nil {
				t.Fatal(err)
			}
		}
		k, err := fieldgate.DecodeContract(key, encoded)
		if err != nil {
			t.Fatal(err)
		}
		states[k.API+" "+k.Version] = k.State
	}
	return manifest.Version, states
}

func expect(t *testing.T, b *bus.Bus, want string) {
	t.Helper()
	if _, states := fetch(t, b); fmt.Sprint(states) != "map["+want+"]" {
		t.Fatalf("the snapshot holds %v, want %s", states, want)
	}
}

func changes(plan *Plan) string {
	var texts []string
	for _, operation := range plan.Operations {
		texts = append(texts, operation.ID+" "+operation.Change)
	}
	return strings.Join(texts, ", ")
}

func TestPublish(t *testing.T) {
	ctx := controltest.Context(t)
	data := t.TempDir()
	c, b := open(t, data)
	nudges := make(chan struct{}, 16)
	stop, err := b.Subscribe(fieldgate.SubjectSnapshotChanged, func(string, []byte) { nudges <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()

	first := document("Thermo", "2.4.0", "/a", "/b")
	plan, err := c.Publish(ctx, "x.yaml", first, true, 0)
	if err != nil || plan.Change != ChangeNewAPI || plan.Applied || changes(plan) != "op0-a added, op1-b added" {
		t.Fatalf("%+v %v", plan, err)
	}
	expect(t, b, "") // a dry run changes nothing
	plan = publish(t, c, first)
	if plan.Change != ChangeNewAPI || !plan.Applied || plan.Snapshot != 1 {
		t.Fatalf("%+v", plan)
	}
	<-nudges
	expect(t, b, "thermo 2.4.0:active")
	plan = publish(t, c, first)
	if plan.Change != ChangeNone || plan.Applied || changes(plan) != "op0-a unchanged, op1-b unchanged" {
		t.Fatalf("published twice: %+v", plan)
	}
	if version, _ := fetch(t, b); version != 1 {
		t.Fatalf("publishing the same made snapshot %d", version)
	}

	// Another version on one of the routes takes the API over.
	plan = publish(t, c, document("Thermo", "2.5.0", "/a", "/c"))
	if plan.Change != ChangeNewVersion || strings.Join(plan.Supersedes, " ") != "2.4.0" || changes(plan) != "op0-a unchanged, op1-c added, op1-b removed" {
		t.Fatalf("%+v %s", plan, changes(plan))
	}
	expect(t, b, "thermo 2.5.0:active")
	// One on routes of its own stands beside it.
	if plan = publish(t, c, document("Thermo", "3.0.0", "/v3")); plan.Supersedes != nil {
		t.Fatalf("%+v", plan)
	}
	expect(t, b, "thermo 2.5.0:active thermo 3.0.0:active")

	// The superseded document does not come back by itself.
	plan = publish(t, c, first)
	if plan.Change != ChangeNone || len(plan.Warnings) == 0 {
		t.Fatalf("%+v", plan)
	}
	// The same version with other content replaces it.
	plan = publish(t, c, document("Thermo", "3.0.0", "/v3", "/v3b"))
	if plan.Change != ChangeReplacement || changes(plan) != "op0-v3 unchanged, op1-v3b added" {
		t.Fatalf("%+v %s", plan, changes(plan))
	}

	before, err := c.Document(ctx, "thermo", "2.4.0")
	if err != nil || string(before) != string(first) {
		t.Fatalf("%q %v", before, err)
	}
	versions, served, _, err := c.Get(ctx, "thermo")
	if err != nil || len(versions) != 3 || versions[0].Version != "3.0.0" || versions[2].State != fieldgate.LifecycleSuperseded || len(served) != 2 {
		t.Fatalf("%+v %+v %v", versions, served, err)
	}
	entries, err := audit.List(ctx, c.store, audit.Filter{Limit: 10})
	if err != nil || len(entries) != 4 || entries[0].Action != "api.publish" || entries[0].Target != "thermo 3.0.0" {
		t.Fatalf("%+v %v", entries, err)
	}
}

func TestConflictWithAnotherAPI(t *testing.T) {
	c, b := open(t, t.TempDir())
	publish(t, c, document("Thermo", "1.0.0", "/a", "/b"))
	for _, dryRun := range []bool{true, false} {
		var conflict *ConflictError
		_, err := c.Publish(controltest.Context(t), "x.yaml", document("Other", "1.0.0", "/b", "/a"), dryRun, 0)
		if !errors.As(err, &conflict) || len(conflict.Conflicts) != 2 || conflict.Conflicts[0].LiveAPI != "thermo" {
			t.Fatalf("%v", err)
		}
	}
	expect(t, b, "thermo 1.0.0:active")
	// Once the first API is retired its routes are free; they belong to the other when it is to come back.
	if _, err := c.Retire(controltest.Context(t), "thermo", "1.0.0", 0); err != nil {
		t.Fatal(err)
	}
	publish(t, c, document("Other", "1.0.0", "/b", "/a"))
	var conflict *ConflictError
	if _, err := c.Restore(controltest.Context(t), "thermo", "1.0.0", 0); !errors.As(err, &conflict) {
		t.Fatal(err)
	}
	expect(t, b, "other 1.0.0:active thermo 1.0.0:retired")
}

func TestInvalidDocument(t *testing.T) {
	c, b := open(t, t.TempDir())
	for _, text := range []string{"", "{{{", "openapi: 3.1.0\ninfo: {title: A, version: 1}\npaths: {/a: {post: {requestBody: {$ref: '#/nowhere'}}}}\n"} {
		var invalid *contract.InvalidError
		if _, err := c.Publish(controltest.Context(t), "x.yaml", []byte(text), false, 0); !errors.As(err, &invalid) || len(invalid.Errors) == 0 || invalid.Errors[0].File != "x.yaml" {
			t.Errorf("%q: %v", text, err)
		}
	}
	if version, _ := fetch(t, b); version != 0 {
		t.Fatal("something was published")
	}
}

func TestLifecycle(t *testing.T) {
	ctx := controltest.Context(t)
	data := t.TempDir()
	c, b := open(t, data)
	first := document("Thermo", "1.0.0", "/a")
	publish(t, c, first)
	publish(t, c, document("Thermo", "2.0.0", "/a"))
	expect(t, b, "thermo 2.0.0:active")

	v, err := c.Restore(ctx, "thermo", "1.0.0", 0)
	if err != nil || v.State != fieldgate.LifecycleActive {
		t.Fatalf("%+v %v", v, err)
	}
	expect(t, b, "thermo 1.0.0:active") // 2.0.0 is superseded in its turn
	v, err = c.Deprecate(ctx, "thermo", "1.0.0", "2027-06-30", "2.0.0", 0)
	if err != nil || v.State != fieldgate.LifecycleDeprecated || v.Sunset != "2027-06-30" || v.Successor != "2.0.0" {
		t.Fatalf("%+v %v", v, err)
	}
	expect(t, b, "thermo 1.0.0:deprecated")
	before, _ := fetch(t, b)
	for range 2 {
		if v, err = c.Retire(ctx, "thermo", "1.0.0", 0); err != nil || v.State != fieldgate.LifecycleRetired {
			t.Fatalf("%+v %v", v, err)
		}
	}
	expect(t, b, "thermo 1.0.0:retired") // so that gateways answer 410
	if after, _ := fetch(t, b); after != before+1 {
		t.Fatalf("retiring twice went from snapshot %d to %d", before, after)
	}
	var refused *refusal.Error
	if _, err := c.Deprecate(ctx, "thermo", "1.0.0", "", "", 0); !errors.As(err, &refused) || refused.Code != refusal.CodeConflict {
		t.Fatal(err)
	}
	if _, err := c.Retire(ctx, "thermo", "9", 0); !errors.As(err, &refused) || refused.Code != refusal.CodeNotFound {
		t.Fatal(err)
	}
	if _, err := c.Deprecate(ctx, "thermo", "1.0.0", "tomorrow", "", 0); !errors.As(err, &refused) || refused.Code != refusal.CodeInvalid {
		t.Fatal(err)
	}
	// Its routes are free, so that publishing the document again brings it back.
	if plan := publish(t, c, first); plan.Change != ChangeRestoration || !plan.Applied {
		t.Fatalf("%+v", plan)
	}
	expect(t, b, "thermo 1.0.0:active")
	if page, err := c.List(ctx, Filter{Limit: 10}); err != nil || len(page) != 1 || page[0].Version.Version != "1.0.0" || page[0].Versions != 2 {
		t.Fatalf("%+v %v", page, err)
	}
}

// An old document that is corrected does not take the place of the version that followed it.
func TestCorrectionOfASupersededVersion(t *testing.T) {
	c, b := open(t, t.TempDir())
	publish(t, c, document("Thermo", "1.0.0", "/a"))
	publish(t, c, document("Thermo", "2.0.0", "/a"))
	plan := publish(t, c, document("Thermo", "1.0.0", "/a", "/b"))
	if plan.Change != ChangeReplacement || !plan.Applied || len(plan.Supersedes) != 0 || !strings.Contains(fmt.Sprint(plan.Warnings), "2.0.0 is served in its place") {
		t.Fatalf("%+v", plan)
	}
	expect(t, b, "thermo 2.0.0:active")
	if _, err := c.Restore(controltest.Context(t), "thermo", "1.0.0", 0); err != nil {
		t.Fatal(err)
	}
	_, served, _, err := c.Get(t.Context(), "thermo")
	if err != nil || len(served) != 1 || served[0].Version != "1.0.0" || len(served[0].Operations) != 2 {
		t.Fatalf("%+v %v", served, err)
	}
}

// A deprecated version whose document is corrected stays deprecated.
func TestCorrectionOfADeprecatedVersion(t *testing.T) {
	c, b := open(t, t.TempDir())
	publish(t, c, document("Thermo", "1.0.0", "/a"))
	if _, err := c.Deprecate(controltest.Context(t), "thermo", "1.0.0", "2027-06-30", "", 0); err != nil {
		t.Fatal(err)
	}
	plan := publish(t, c, document("Thermo", "1.0.0", "/a", "/b"))
	versions, _, _, err := c.Get(t.Context(), "thermo")
	if err != nil || versions[0].State != fieldgate.LifecycleDeprecated || versions[0].Sunset != "2027-06-30" || len(plan.Warnings) == 0 {
		t.Fatalf("%+v %+v %v", plan, versions, err)
	}
	expect(t, b, "thermo 1.0.0:deprecated")
}

// lifecycle.replaces deprecates the version that serves on beside the new one.
func TestReplaces(t *testing.T) {
	c, b := open(t, t.TempDir())
	publish(t, c, document("Thermo", "1.0.0", "/v1"))
	successor := string(document("Thermo", "2.0.0", "/v2")) + "x-fieldgate: {lifecycle: {replaces: 1.0.0, sunset-of-replaced: 2027-06-30}}\n"
	publish(t, c, []byte(successor))
	expect(t, b, "thermo 1.0.0:deprecated thermo 2.0.0:active")
	versions, _, _, err := c.Get(t.Context(), "thermo")
	if err != nil || versions[1].Sunset != "2027-06-30" || versions[1].Successor != "2.0.0" {
		t.Fatalf("%+v %v", versions, err)
	}
	entries, err := audit.List(t.Context(), c.store, audit.Filter{Limit: 1})
	if err != nil || !strings.Contains(entries[0].Detail, "1.0.0 is deprecated") {
		t.Fatalf("%+v %v", entries, err)
	}
}

// Two APIs exchange their routes: one has to let go first, and what is retired does not stand in the way.
func TestExchangeOfRoutes(t *testing.T) {
	ctx := controltest.Context(t)
	c, b := open(t, t.TempDir())
	publish(t, c, document("One", "1.0.0", "/a"))
	publish(t, c, document("Two", "1.0.0", "/b"))
	var conflict *ConflictError
	if _, err := c.Publish(ctx, "x.yaml", document("One", "2.0.0", "/b"), false, 0); !errors.As(err, &conflict) {
		t.Fatal(err)
	}
	if _, err := c.Retire(ctx, "two", "1.0.0", 0); err != nil {
		t.Fatal(err)
	}
	publish(t, c, document("One", "2.0.0", "/b"))
	if _, err := c.Restore(ctx, "two", "1.0.0", 0); !errors.As(err, &conflict) {
		t.Fatal(err)
	}
	// One 1.0.0 has another route than 2.0.0, and serves on.
	if _, err := c.Publish(ctx, "x.yaml", document("Two", "2.0.0", "/a"), false, 0); !errors.As(err, &conflict) {
		t.Fatal(err)
	}
	if _, err := c.Retire(ctx, "one", "1.0.0", 0); err != nil {
		t.Fatal(err)
	}
	publish(t, c, document("Two", "2.0.0", "/a"))
	expect(t, b, "one 1.0.0:retired one 2.0.0:active two 1.0.0:retired two 2.0.0:active")
}

// TestRestart: what was published is served by the next process.
func TestRestart(t *testing.T) {
	data := t.TempDir()
	t.Run("before", func(t *testing.T) {
		c, _ := open(t, data)
		publish(t, c, document("Thermo", "1.0.0", "/a"))
	})
	_, b := open(t, data)
	if version, _ := fetch(t, b); version != 1 {
		t.Fatalf("snapshot %d", version)
	}
	expect(t, b, "thermo 1.0.0:active")
}

func TestLargeContractTravelsInParts(t *testing.T) {
	c, b := open(t, t.TempDir())
	paths := make([]string, 3000)
	for i := range paths {
		paths[i] = fmt.Sprintf("/resources-with-a-rather-long-name-%d", i)
	}
	plan := publish(t, c, document("Large", "1.0.0", paths...))
	if _, encoded, err := fieldgate.EncodeContract(plan.Contract); err != nil || len(encoded) <= fieldgate.ContractPart {
		t.Fatalf("%d bytes do not need parts, %v", len(encoded), err)
	}
	expect(t, b, "large 1.0.0:active")
}

// One answer holds as many contracts as have room in it, in the order in which they were asked for, up to the first that does not
// fit or is not there.
func TestManyContractsInOneAnswer(t *testing.T) {
	c, b := open(t, t.TempDir())
	keys := make([]string, 3)
	for i := range keys {
		plan := publish(t, c, document(fmt.Sprint("Small", i), "1.0.0", fmt.Sprint("/s", i)))
		var err error
		if keys[i], _, err = fieldgate.EncodeContract(plan.Contract); err != nil {
			t.Fatal(err)
		}
	}
	for _, more := range [][]string{nil, keys[1:], {keys[1], "unknown", keys[2]}} {
		request, _ := json.Marshal(fieldgate.ContractRequest{Key: keys[0], More: more})
		answer, err := b.Request(t.Context(), fieldgate.SubjectSnapshotContract, request)
		if err != nil {
			t.Fatal(err)
		}
		data, sizes := answer.Data, strings.Fields(answer.Header[fieldgate.HeaderTotal]+" "+answer.Header[fieldgate.HeaderMore])
		for i, size := range sizes {
			n, _ := strconv.Atoi(size)
			if _, err := fieldgate.DecodeContract(keys[i], data[:n]); err != nil {
				t.Error(err)
			}
			data = data[n:]
		}
		if want := map[int]int{0: 1, 2: 3, 3: 2}[len(more)]; len(sizes) != want || len(data) > 0 {
			t.Errorf("%v: %d contracts, want %d", more, len(sizes), want)
		}
	}
	var refused *bus.Refusal
	request, _ := json.Marshal(fieldgate.ContractRequest{Key: keys[0], More: make([]string, fieldgate.MaxMoreContracts+1)})
	if _, err := b.Request(t.Context(), fieldgate.SubjectSnapshotContract, request); !errors.As(err, &refused) {
		t.Error(err)
	}
}

// What a node keeps of live contracts follows the rows, whoever changed them.
func TestRoutesFollowTheDatabase(t *testing.T) {
	ctx, data := controltest.Context(t), t.TempDir()
	one, b := open(t, data)
	other := New(one.store, b, nil, controltest.Log(t))
	publish(t, one, document("Alpha", "1.0.0", "/a"))
	publish(t, other, document("Beta", "1.0.0", "/b"))
	var conflict *ConflictError
	refused := func(c *Catalog, path string) {
		t.Helper()
		if _, err := c.Publish(ctx, "x.yaml", document("Gamma", "1.0.0", path), true, 0); !errors.As(err, &conflict) {
			t.Errorf("%s: %v", path, err)
		}
	}
	refused(one, "/b")
	refused(other, "/a")
	publish(t, one, document("Alpha", "1.0.0", "/a2")) // the same version on another route
	refused(other, "/a2")
	if _, err := other.Retire(ctx, "beta", "1.0.0", 0); err != nil {
		t.Fatal(err)
	}
	publish(t, one, document("Gamma", "1.0.0", "/a"))
	publish(t, one, document("Delta", "1.0.0", "/b"))
	// As after a restore: the rows are those of another time, under the same numbers.
	err := one.store.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM contract WHERE api = 'delta'")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, one, document("Epsilon", "1.0.0", "/b"))
}

func TestRequestsOfGatewaysAreChecked(t *testing.T) {
	_, b := open(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, request := range []string{"", "{", `{"key":"x","offset":-1}`, `{"key":"unknown"}`} {
		var refused *bus.Refusal
		if _, err := b.Request(ctx, fieldgate.SubjectSnapshotContract, []byte(request)); !errors.As(err, &refused) {
			t.Errorf("%q: %v", request, err)
		}
	}
}

func TestListFilters(t *testing.T) {
	c, _ := open(t, t.TempDir())
	for _, name := range []string{"Alpha", "Beta", "Gamma"} {
		publish(t, c, document(name, "1.0.0", "/"+strings.ToLower(name)))
	}
	if _, err := c.Retire(controltest.Context(t), "beta", "1.0.0", 0); err != nil {
		t.Fatal(err)
	}
	for want, test := range map[string]struct {
		filter string
		page   Filter
	}{
		"alpha beta gamma": {"", Filter{Limit: 10}},
		"alpha beta":       {"", Filter{Limit: 2}},
		"gamma":            {"", Filter{Limit: 10, After: "beta"}},
		"beta":             {"state:retired", Filter{Limit: 10}},
		"":                 {"kind:asyncapi", Filter{Limit: 10}},
		"alpha gamma":      {"-BETA", Filter{Limit: 10}},
	} {
		terms, err := filter.Parse(test.filter, time.Now(), Keys...)
		if err != nil {
			t.Fatal(err)
		}
		test.page.Terms = terms
		page, err := c.List(t.Context(), test.page)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, a := range page {
			names = append(names, a.API)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%+v: got %q, want %q", test, got, want)
		}
	}
}

// What gateways would not put into force is not published, and the dry run says so too.
func TestPublishOnlyWhatLinks(t *testing.T) {
	data := t.TempDir()
	c, b := open(t, data)
	c.link = func(snapshot *fieldgate.Snapshot) error {
		if snapshot.Contracts[0].Version == "2.0.0" {
			return errors.New("operation op0-a: no")
		}
		return nil
	}
	publish(t, c, document("Pump", "1.0.0", "/a"))
	for _, dryRun := range []bool{true, false} {
		_, err := c.Publish(controltest.Context(t), "pump.yaml", document("Pump", "2.0.0", "/a"), dryRun, 0)
		var invalid *contract.InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), "operation op0-a: no") {
			t.Errorf("dry run %v: %v", dryRun, err)
		}
	}
	if version, _ := fetch(t, b); version != 1 {
		t.Errorf("snapshot %d", version)
	}
}

// A schema that an operation refers to, by way of another one too, is a part of it; one that it does not is none.
func TestChangedSchemas(t *testing.T) {
	c, _ := open(t, t.TempDir())
	with := func(version, maximum string) []byte {
		return []byte(`openapi: 3.1.0
info: {title: Pump, version: ` + version + `}
security: [{token: []}]
paths:
  /flow: {post: {operationId: flow, requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Flow'}}}}, responses: {'204': {description: stored}}}}
  /name: {post: {operationId: name, requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Name'}}}}, responses: {'204': {description: stored}}}}
components:
  securitySchemes: {token: {type: http, scheme: bearer}}
  schemas:
    Flow: {type: object, properties: {rate: {$ref: '#/components/schemas/Rate'}}}
    Rate: {type: number, maximum: ` + maximum + `}
    Name: {type: string, maxLength: 9}
`)
	}
	publish(t, c, with("1.0.0", "5"))
	if got := changes(publish(t, c, with("1.1.0", "7"))); got != "flow changed, name unchanged" {
		t.Error(got)
	}
}
